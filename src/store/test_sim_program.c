/* Seeds in several processes, what is said of a seed that fails, and the shrinker.
 *
 *   test_sim [--seeds N] [--start S] [--steps N] [--only I,J,..] [--jobs N] [--every-fault]
 *            [--verbose]
 *
 * A seed that fails is run again without some of its steps, as long as it fails still; then the
 * history that is left is printed, and how to run just that. --every-fault: it is a failure that
 * some fault never had effect.
 */
#include "base/log.h"
#include "store/test_sim.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOBS_MAX 64U

/* What a process tells of itself, in memory that is shared. */
struct told {
    uint64_t seed;  /* that it is at */
    uint64_t done;  /* seeds */
    uint32_t steps; /* of this one; 0: not known yet */
    uint64_t counts[SIM_COUNTS_END];
};

static struct sim_options options;
static uint64_t seeds = 200, first = 1;
static uint32_t jobs = 1;

static const char *program;

static char index_folder[64];

static void make_index_folder(void)
{
    /* In memory, where there is such a place: the index is synced at each start. */
    char memory[] = "/dev/shm/sternpost-sim-XXXXXX", disk[] = "/tmp/sternpost-sim-XXXXXX";
    const char *made = mkdtemp(memory);
    if (!made)
        made = mkdtemp(disk);
    sp_assert(made);
    snprintf(index_folder, sizeof index_folder, "%s", made);
    options.index_path = index_folder;
    sim_options = &options;
}

static void remove_index_folder(const char *folder)
{
    char again[80];
    (void)!sp_index_destroy(folder, NULL);
    rmdir(folder);
    snprintf(again, sizeof again, "%s.again", folder);
    (void)!sp_index_destroy(again, NULL);
    rmdir(again);
}

/* Runs every `jobs`-th seed. */
static void run_seeds(uint32_t job, struct told *told)
{
    make_index_folder();
    memcpy(told->counts, (uint64_t[SIM_COUNTS_END]){0}, sizeof told->counts);
    for (uint64_t seed = first + job; seed < first + seeds; seed += jobs) {
        told->seed = seed;
        sim_run(seed, told->counts, &told->steps);
        told->done++;
    }
    remove_index_folder(index_folder);
}

/* In a process of its own; whether it went well. */
static bool run_apart(struct told *told, bool silent)
{
    fflush(NULL);
    pid_t child = fork();
    int status = 0;
    sp_assert(child >= 0);
    if (child == 0) {
        int null = silent ? open("/dev/null", O_WRONLY) : -1;
        if (null >= 0)
            (void)dup2(null, STDERR_FILENO);
        alarm(120); /* one that hangs fails */
        run_seeds(0, told);
        exit(0);
    }
    sp_assert(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Leaves steps out for as long as the seed fails, many at once at first. */
static void shrink(struct told *told)
{
    uint32_t count = told->steps < SIM_STEPS_MAX ? told->steps : SIM_STEPS_MAX;
    bool kept[SIM_STEPS_MAX];
    for (uint32_t run = count / 2; run > 0; run /= 2) {
        for (uint32_t at = 0; at < count; at += run) {
            memcpy(kept, options.skip, sizeof kept);
            for (uint32_t i = at; i < at + run && i < count; i++)
                options.skip[i] = true;
            if (run_apart(told, true))
                memcpy(options.skip, kept, sizeof kept);
        }
    }
}

static void say_replay(uint64_t seed, uint32_t count)
{
    const char *between = " --only ";
    printf("seed %llu fails: %s --verbose --seeds 1 --start %llu", (unsigned long long)seed,
           program, (unsigned long long)seed);
    if (options.steps)
        printf(" --steps %u", options.steps);
    for (uint32_t i = 0; i < count && i < SIM_STEPS_MAX; i++) {
        if (options.skip[i])
            continue;
        printf("%s%u", between, i);
        between = ",";
    }
    printf("\n");
}

static void look_into(uint64_t seed, struct told *told)
{
    first = seed;
    seeds = 1;
    jobs = 1;
    if (run_apart(told, true)) {
        printf("seed %llu failed, and passes when it is run alone\n", (unsigned long long)seed);
        return;
    }
    shrink(told);
    sim_verbose = true;
    sp_log_set_level(SP_LOG_WARN);
    (void)run_apart(told, false);
    say_replay(seed, told->steps);
}

static bool report(const struct told *told, bool every_fault)
{
    bool good = true;
    uint64_t done = 0;
    for (uint32_t i = 0; i < jobs; i++)
        done += told[i].done;
    printf("%10llu histories\n", (unsigned long long)done);
    for (enum sim_count c = 0; c < SIM_COUNTS_END; c++) {
        uint64_t count = 0;
        for (uint32_t i = 0; i < jobs; i++)
            count += told[i].counts[c];
        bool never = every_fault && sim_count_is_fault(c) && !count;
        printf("%10llu %s%s\n", (unsigned long long)count, sim_count_text(c),
               never ? ": THIS FAULT NEVER HAD EFFECT" : "");
        good &= !never;
    }
    return good;
}

static void read_only(const char *list)
{
    memset(options.skip, true, sizeof options.skip);
    while (*list) {
        char *end;
        unsigned long i = strtoul(list, &end, 10);
        if (end == list)
            return;
        if (i < SIM_STEPS_MAX)
            options.skip[i] = false;
        list = *end ? end + 1 : end;
    }
}

int sim_main(int argc, char **argv, void (*at_end)(struct sim *s, void *context), void *context)
{
    options.at_end = at_end;
    options.context = context;
    bool every_fault = false;
    program = argv[0];
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--seeds") == 0)
            seeds = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--start") == 0)
            first = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--steps") == 0)
            options.steps = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--jobs") == 0)
            jobs = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--only") == 0)
            read_only(value);
        else if (strcmp(argv[i], "--every-fault") == 0)
            every_fault = true;
        else if (strcmp(argv[i], "--verbose") == 0)
            sim_verbose = true;
    }
    if (jobs == 0 || jobs > JOBS_MAX)
        jobs = 1;
    sp_log_set_level(sim_verbose ? SP_LOG_WARN : SP_LOG_ERROR + 1);
    struct told *told = mmap(NULL, (JOBS_MAX + 1) * sizeof *told, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sp_assert(told != MAP_FAILED);
    if (sim_verbose) { /* in this process, for a debugger */
        jobs = 1;
        run_seeds(0, told);
        return 0;
    }
    pid_t children[JOBS_MAX];
    uint64_t failed = 0;
    for (uint32_t i = 0; i < jobs; i++) {
        children[i] = fork();
        sp_assert(children[i] >= 0);
        if (children[i] == 0) {
            run_seeds(i, &told[i]);
            exit(0);
        }
    }
    for (uint32_t i = 0; i < jobs; i++) {
        int status;
        sp_assert(waitpid(children[i], &status, 0) == children[i]);
        if ((!WIFEXITED(status) || WEXITSTATUS(status) != 0) && !failed)
            failed = told[i].seed;
    }
    if (failed) {
        look_into(failed, &told[JOBS_MAX]);
        return 1;
    }
    return report(told, every_fault) ? 0 : 1;
}
