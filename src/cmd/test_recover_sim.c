/* Raw recovery after random histories of the store (store/test_sim.h): all disks that there ever
 * were, stale ones and copies too, are scanned block by block, with no vote and no file to go by,
 * and a volume is rebuilt from what is found. It has everything that was acknowledged, byte for
 * byte, and nothing else; and it opens and takes mail. Arguments: those of test_sim. */
#include "recover/recover.h"
#include "store/test_sim.h"
#include "unit/dir.h"

#include <fcntl.h>
#include <ftw.h>
#include <unistd.h>

#define FOLDER 64
#define PATH   128

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

static void must(enum sp_status status, const struct sp_error *error)
{
    if (status != SP_OK)
        sp_error_print(error);
    sp_assert(status == SP_OK);
}

/* Every file of the disk, one after another and the last first: where they lie says nothing. */
static void write_image(struct sim *s, uint32_t disk, const char *path)
{
    struct sp_unit *unit;
    struct sp_unit_segment *list;
    size_t count;
    struct sp_error error;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    sp_assert(fd >= 0);
    must(sp_sim_unit_open(s->world, disk, "raw", &unit, &error), &error);
    must(unit->ops->list(unit, &list, &count, &error), &error);
    for (size_t i = count; i-- > 0;) {
        for (uint32_t b = 0; b < list[i].blocks; b++) {
            uint8_t block[SP_UNIT_BLOCK_BYTES];
            must(unit->ops->read(unit, list[i].segment, list[i].generation, b, block, 1, &error),
                 &error);
            sp_assert(write(fd, block, sizeof block) == (ssize_t)sizeof block);
        }
    }
    free(list);
    unit->ops->close(unit);
    close(fd);
}

static void scan_all(struct sim *s, const char *base, const char *out)
{
    static char paths[256][PATH];
    const char *sources[256];
    struct sp_recover_scan_report report;
    struct sp_error error = {0};
    size_t count = 0;
    for (uint32_t disk = 0; disk < s->disk_next && count < 256; disk++) {
        if (disk >= s->units_count && disk < SIM_UNITS_MAX)
            continue; /* no such disk */
        snprintf(paths[count], PATH, "%s/disk-%u", base, disk);
        write_image(s, disk, paths[count]);
        sources[count] = paths[count];
        count++;
    }
    must(sp_recover_scan(sources, count, out, NULL, &report, &error), &error);
    sp_recover_scan_report_release(&report);
}

/* Opens what was rebuilt, and holds it against the model. */
static void open_rebuilt(struct sim *s, const char *dir)
{
    struct sp_volume_config config = {.name = "main",
                                      .id = s->id,
                                      .units_count = 3,
                                      .min_copies = 2,
                                      .index_path = sim_options->index_path,
                                      .index_map_bytes = 64U << 20};
    struct sp_volume *volume;
    struct sp_error error = {0};
    sp_assert(sp_index_destroy(sim_options->index_path, NULL) == SP_OK);
    for (uint32_t i = 0; i < 3; i++) {
        char path[PATH];
        struct sp_volume_unit *unit = &config.units[i];
        snprintf(unit->name, sizeof unit->name, "%c", 'a' + (char)i);
        snprintf(path, sizeof path, "%s/unit-%s", dir, unit->name);
        unit->spare = i == 2;
        must(sp_unit_dir_open(path, unit->name, NULL, &unit->unit, &error), &error);
    }
    must(sp_volume_open(&config, &volume, &error), &error);
    model_check(volume, &s->model, NULL, 0);
    struct step step = {
        .type = STEP_DELIVER, .mailbox = 0, .seed = ++s->bodies, .body_bytes = 1000};
    struct step_context context = {&s->model, &step};
    must(sp_volume_commit(volume, step_plan, &context, &error), &error);
    sp_assert(step.uid > s->seen.uidnext[0]); /* no UID that could have been given */
    sp_volume_close(volume);
}

static void recover(struct sim *s, void *context)
{
    char base[] = "/dev/shm/sternpost-raw-XXXXXX", other[] = "/tmp/sternpost-raw-XXXXXX";
    char out[FOLDER], dir[FOLDER];
    const struct sp_recover_rebuild_options options = {.volume = &s->id};
    struct sp_recover_report report;
    struct sp_error error = {0};
    const char *folder = mkdtemp(base);
    (void)context;
    if (!folder)
        folder = mkdtemp(other);
    sp_assert(folder);
    snprintf(out, sizeof out, "%s/scan", folder);
    snprintf(dir, sizeof dir, "%s/rebuilt", folder);
    scan_all(s, folder, out);
    must(sp_recover_rebuild(out, dir, &options, &report, &error), &error);
    sp_assert(report.lost_lsns == 0 && report.broken_count == 0 && report.bodiless_total == 0);
    sp_recover_report_release(&report);
    open_rebuilt(s, dir);
    sp_assert(nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

int main(int argc, char **argv)
{
    return sim_main(argc, argv, recover, NULL);
}
