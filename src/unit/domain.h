/* Failure domains, discovered: which physical disks lie below a path.
 *
 * Model. The path's mount is looked up in mountinfo, and its device in /sys/dev/block, whose links
 * say what lies below: a partition's disk, the slaves of device mapper, LVM and md, the file behind
 * a loop device (and the disks below that one's file system, and so on). What is found are words,
 * sorted, each once:
 *
 *     disk:8:0        a physical disk, as far as the kernel can see
 *     nfs:192.0.2.7   a server; all its exports fail with it
 *     memory          tmpfs, ramfs, a disk in memory
 *     zfs:tank        a pool
 *     fs:0:45         a file system of which nothing more is known: it shares with itself alone
 *
 * A disk that a hypervisor or a storage network makes looks like a disk of its own: what is below
 * it only the operator knows.
 *
 * Threads. Any.
 */
#ifndef SP_UNIT_DOMAIN_H
#define SP_UNIT_DOMAIN_H

#include "unit/unit.h"

/* Where to look; tests look elsewhere. */
struct sp_domain_view {
    const char *sys;       /* "/sys" */
    const char *mountinfo; /* "/proc/self/mountinfo" */
};

/* path: absolute, existing. Never fails: where nothing can be found, it is a domain named by the
 * device's number alone. */
void sp_unit_domain_of(const struct sp_domain_view *view, const char *path,
                       char ret_domain[SP_UNIT_DOMAIN_MAX]);

#endif
