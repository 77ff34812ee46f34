/* Failure domains, from a /sys and a mountinfo of the test's own. */
#include "unit/domain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static void write_file(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void link_to(const char *name, const char *target)
{
    char path[512], to[512];
    write_file(name, ""); /* its folders */
    snprintf(path, sizeof path, "%s/%s", root, name);
    unlink(path);
    snprintf(to, sizeof to, "%s/%s", root, target);
    assert_int_equal(symlink(to, path), 0);
}

/* A block device as the kernel shows it: a folder below sys/devices, and links to it. */
static void device(const char *place, const char *name, const char *number)
{
    char file[300], link[100], target[200];
    snprintf(target, sizeof target, "sys/devices/%s%s", place, name);
    snprintf(file, sizeof file, "%s/dev", target);
    write_file(file, number);
    snprintf(link, sizeof link, "sys/dev/block/%.*s", (int)strcspn(number, "\n"), number);
    link_to(link, target);
    snprintf(link, sizeof link, "sys/class/block/%s", name);
    link_to(link, target);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/sternpost-domain-XXXXXX");
    assert_non_null(mkdtemp(root));
    device("pci0/", "sda", "8:0\n");
    device("pci0/sda/", "sda1", "8:1\n");
    device("pci0/sda/", "sda2", "8:2\n");
    device("pci1/", "sdb", "8:16\n");
    device("pci1/sdb/", "sdb1", "8:17\n");
    device("pci2/", "sdc", "8:32\n");
    device("pci3/", "nvme0n1", "259:0\n");
    write_file("sys/devices/pci0/sda/sda1/partition", "1\n");
    write_file("sys/devices/pci0/sda/sda2/partition", "2\n");
    write_file("sys/devices/pci1/sdb/sdb1/partition", "1\n");
    /* md0 on sda2 and sdb1; a logical volume on md0; another on sdc and nvme0n1. */
    device("virtual/", "md0", "9:0\n");
    link_to("sys/devices/virtual/md0/slaves/sda2", "sys/devices/pci0/sda/sda2");
    link_to("sys/devices/virtual/md0/slaves/sdb1", "sys/devices/pci1/sdb/sdb1");
    device("virtual/", "dm-0", "253:0\n");
    link_to("sys/devices/virtual/dm-0/slaves/md0", "sys/devices/virtual/md0");
    device("virtual/", "dm-1", "253:1\n");
    link_to("sys/devices/virtual/dm-1/slaves/sdc", "sys/devices/pci2/sdc");
    link_to("sys/devices/virtual/dm-1/slaves/nvme0n1", "sys/devices/pci3/nvme0n1");
    /* Loop devices whose files are on /data (sda1), in memory, and on another loop device. */
    device("virtual/", "loop0", "7:0\n");
    write_file("sys/devices/virtual/loop0/loop/backing_file", "/data/image file\n");
    device("virtual/", "loop1", "7:1\n");
    write_file("sys/devices/virtual/loop1/loop/backing_file", "/run/image (deleted)\n");
    device("virtual/", "loop2", "7:2\n");
    write_file("sys/devices/virtual/loop2/loop/backing_file", "/loop0/image\n");
    /* One that says it lies on itself. */
    device("virtual/", "loop3", "7:3\n");
    write_file("sys/devices/virtual/loop3/loop/backing_file", "/loop3/image\n");
    device("virtual/", "ram0", "1:0\n");
    /* btrfs over sdb and sdc. */
    link_to("sys/fs/btrfs/11-22/devices/sdb", "sys/devices/pci1/sdb");
    link_to("sys/fs/btrfs/11-22/devices/sdc", "sys/devices/pci2/sdc");
    write_file(
        "mountinfo",
        "21 26 0:20 / /proc rw - proc proc rw\n"
        "26 1 8:1 / / rw,relatime - ext4 /dev/root rw\n"
        "30 26 8:1 /data /data rw shared:1 master:2 - ext4 /dev/sda1 rw\n"
        "31 26 8:2 / /other\\040disk rw - ext4 /dev/sda2 rw\n"
        "32 26 253:0 / /lvm rw - xfs /dev/mapper/lvm rw\n"
        "33 26 253:1 / /span rw - xfs /dev/mapper/span rw\n"
        "34 26 7:0 / /loop0 rw - ext4 /dev/loop0 rw\n"
        "35 26 7:1 / /loop1 rw - ext4 /dev/loop1 rw\n"
        "36 26 7:2 / /loop2 rw - ext4 /dev/loop2 rw\n"
        "37 26 7:3 / /loop3 rw - ext4 /dev/loop3 rw\n"
        "38 26 0:50 /sub /btrfs rw - btrfs /dev/sdb rw,subvol=/sub\n"
        "39 26 0:60 / /run rw - tmpfs tmpfs rw\n"
        "40 26 0:61 / /tmp2 rw - tmpfs tmpfs rw\n"
        "41 26 0:70 / /nfs/a rw - nfs4 filer:/export/a rw,vers=4.2,addr=192.0.2.7\n"
        "42 26 0:71 / /nfs/b rw - nfs filer.example.org:/export/b rw,addr=192.0.2.7,x=1\n"
        "43 26 0:72 / /nfs/c rw - nfs other:/export rw\n"
        "44 26 0:80 / /overlay rw - overlay overlay rw,lowerdir=/x,upperdir=/lvm/up,workdir=/y\n"
        "45 26 0:81 / /blind rw - overlay overlay rw,upperdir=/blind/up\n"
        "46 26 0:90 / /zfs rw - zfs tank/mail rw\n"
        "47 26 0:91 / /fuse rw - fuse.sshfs me@host:/x rw\n"
        "48 26 1:0 / /ram rw - ext4 /dev/ram0 rw\n"
        "49 26 8:32 / /mnt rw - ext4 /dev/sdc rw\n"
        "50 49 8:17 / /mnt rw - ext4 /dev/sdb1 rw\n"
        "51 26 8:999 / /unknown rw - ext4 /dev/what rw\n"
        "not a line of it\n");
    return 0;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static const char *domain_of(const char *path)
{
    static char domain[SP_UNIT_DOMAIN_MAX];
    char sys[128], mountinfo[128];
    snprintf(sys, sizeof sys, "%s/sys", root);
    snprintf(mountinfo, sizeof mountinfo, "%s/mountinfo", root);
    const struct sp_domain_view view = {sys, mountinfo};
    sp_unit_domain_of(&view, path, domain);
    return domain;
}

static void test_domains(void **state)
{
    static const struct {
        const char *path, *domain;
    } cases[] = {
        {"/srv/a", "disk:8:0"}, /* a partition is its disk */
        {"/data/a", "disk:8:0"},
        {"/database", "disk:8:0"}, /* not in /data */
        {"/other disk/a", "disk:8:0"},
        {"/lvm/a", "disk:8:0 disk:8:16"}, /* LVM on RAID on partitions */
        {"/span/a", "disk:259:0 disk:8:32"},
        {"/loop0/a", "disk:8:0"}, /* a file on a disk */
        {"/loop1/a", "memory"},
        {"/loop2/a", "disk:8:0"}, /* an image in an image */
        {"/loop3/a", "fs:7:3"},   /* no end to it */
        {"/btrfs/a", "disk:8:16 disk:8:32"},
        {"/run/a", "memory"},
        {"/tmp2", "memory"},
        {"/nfs/a/x", "nfs:192.0.2.7"},
        {"/nfs/b/x", "nfs:192.0.2.7"},
        {"/nfs/c/x", "nfs:other"},
        {"/overlay/a", "disk:8:0 disk:8:16"},
        {"/blind/a", "fs:0:81"},
        {"/zfs/a", "zfs:tank"},
        {"/fuse/a", "fs:0:91"},
        {"/ram/a", "memory"},
        {"/mnt/a", "disk:8:16"}, /* what is mounted over the other */
        {"/unknown", "disk:8:999"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *found = domain_of(cases[i].path);
        if (strcmp(found, cases[i].domain) != 0)
            print_message("%s: %s\n", cases[i].path, found);
        assert_string_equal(found, cases[i].domain);
    }
}

/* Fifty disks have no room in the text: then it shares with every other that has none. */
static void test_many(void **state)
{
    (void)state;
    device("virtual/", "md9", "9:9\n");
    char name[64], link[128], target[128], number[32];
    for (unsigned i = 0; i < 60; i++) {
        snprintf(name, sizeof name, "x%u", i);
        snprintf(number, sizeof number, "1000%u:1000%u\n", i, i);
        device("pcix/", name, number);
        snprintf(link, sizeof link, "sys/devices/virtual/md9/slaves/%s", name);
        snprintf(target, sizeof target, "sys/devices/pcix/%s", name);
        link_to(link, target);
    }
    write_file("mountinfo", "26 1 9:9 / / rw - ext4 /dev/md9 rw\n");
    const char *found = domain_of("/a");
    assert_true(strlen(found) < SP_UNIT_DOMAIN_MAX);
    assert_string_equal(found + strlen(found) - 5, " many");
}

static void test_shared(void **state)
{
    static const struct {
        const char *a, *b;
        bool shared;
    } cases[] = {
        {"disk:8:0", "disk:8:0", true},
        {"disk:8:0", "disk:8:1", false},
        {"disk:8:0", "disk:8:01", false}, /* whole words */
        {"disk:8:0 disk:8:16", "disk:8:16 disk:8:32", true},
        {"disk:8:0 disk:8:16", "disk:8:32", false},
        {"a b c", "x y c", true},
        {"", "", false}, /* nothing known: nothing shared */
        {"", "a", false},
        {"a  b", "  ", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(sp_unit_domains_shared(cases[i].a, cases[i].b), cases[i].shared);
        assert_int_equal(sp_unit_domains_shared(cases[i].b, cases[i].a), cases[i].shared);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_domains, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many, set_up, tear_down),
        cmocka_unit_test(test_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
