/* Shows that the simulation finds bugs: the store is broken on purpose (store/breakage.h), in one
 * way at a time, and random histories (store/test_sim.h) must stop at it within a set number of
 * seeds. Unbroken, all these seeds pass.
 *
 *   test_broken [--only NAME] [--seeds N] [--jobs N]
 */
#include "base/log.h"
#include "store/breakage.h"
#include "store/test_sim.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOBS_MAX    16U
#define HANGS_AFTER 30U /* seconds of one seed on the processor: that is caught as well */

enum sp_breakage sp_breakage;

static const struct {
    const char *name, *what;
} breakages[SP_BREAKAGES_END] = {{"none", "nothing is broken"},
#define BREAKAGE_TEXT(name, what) {#name, what},
                                 SP_BREAKAGES(BREAKAGE_TEXT)};

/* What needs more than a little of everything to be seen soon. */
static enum sim_kind kind_for(enum sp_breakage breakage)
{
    switch (breakage) {
    case SP_BREAK_no_promise:
        return SIM_STORM;
    case SP_BREAK_no_votes:
    case SP_BREAK_longest_tail:
    case SP_BREAK_ejected_is_current:
        return SIM_SIEGE;
    case SP_BREAK_full_is_done:
        return SIM_USUAL;
    default:
        return SIM_ANY;
    }
}

/* In shared memory: what a process was at when it stopped. */
struct told {
    uint64_t seed;
    bool passed;
};

static void run_seeds(enum sp_breakage breakage, uint64_t seeds, struct told *told)
{
    static struct sim_options options;
    uint64_t counts[SIM_COUNTS_END] = {0};
    uint32_t steps;
    char folder[] = "/dev/shm/sternpost-broken-XXXXXX", disk[] = "/tmp/sternpost-broken-XXXXXX";
    options.index_path = mkdtemp(folder);
    if (!options.index_path)
        options.index_path = mkdtemp(disk);
    sp_assert(options.index_path);
    options.kind = kind_for(breakage);
    sim_options = &options;
    sp_breakage = breakage;
    for (told->seed = 1; told->seed <= seeds; told->seed++) {
        struct itimerval limit = {.it_value = {HANGS_AFTER, 0}};
        setitimer(ITIMER_PROF, &limit, NULL);
        sim_run(told->seed, counts, &steps);
    }
    told->passed = true;
    sp_assert(sp_index_destroy(options.index_path, NULL) == SP_OK);
    rmdir(options.index_path);
}

/* A process that runs the seeds until one fails. What it says of that is of no interest. */
static pid_t start(enum sp_breakage breakage, uint64_t seeds, struct told *told)
{
    fflush(NULL);
    pid_t child = fork();
    sp_assert(child >= 0);
    if (child)
        return child;
    int null = breakage == SP_BREAK_none ? -1 : open("/dev/null", O_WRONLY);
    if (null >= 0)
        (void)dup2(null, STDERR_FILENO);
    run_seeds(breakage, seeds, told);
    exit(0);
}

static bool judge(enum sp_breakage breakage, int status, const struct told *told)
{
    bool caught = !told->passed, wanted = breakage != SP_BREAK_none;
    char how[64];
    if (!caught)
        snprintf(how, sizeof how, "passed %llu seeds", (unsigned long long)told->seed - 1);
    else
        snprintf(how, sizeof how, "%s in seed %llu",
                 WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF ? "hangs" : "caught",
                 (unsigned long long)told->seed);
    printf("%-4s %-18s %-22s %s\n", caught == wanted ? "ok" : "FAIL", breakages[breakage].name, how,
           breakages[breakage].what);
    return caught == wanted;
}

int main(int argc, char **argv)
{
    uint64_t seeds = 400, sound_seeds = 12;
    uint32_t jobs = 2;
    const char *only = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seeds") == 0)
            seeds = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--jobs") == 0)
            jobs = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--only") == 0)
            only = argv[i + 1];
    }
    if (jobs == 0 || jobs > JOBS_MAX)
        jobs = 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    sp_log_set_level(SP_LOG_ERROR + 1);
    struct told *told = mmap(NULL, SP_BREAKAGES_END * sizeof *told, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sp_assert(told != MAP_FAILED);
    pid_t running[SP_BREAKAGES_END] = {0};
    unsigned next = 0, under_way = 0;
    bool good = true;
    while (next < SP_BREAKAGES_END || under_way) {
        while (next < SP_BREAKAGES_END && under_way < jobs) {
            enum sp_breakage breakage = (enum sp_breakage)next++;
            if (only && strcmp(only, breakages[breakage].name) != 0)
                continue;
            running[breakage] =
                start(breakage, breakage == SP_BREAK_none ? sound_seeds : seeds, &told[breakage]);
            under_way++;
        }
        if (!under_way)
            break;
        int status;
        pid_t ended = wait(&status);
        for (unsigned i = 0; i < SP_BREAKAGES_END; i++)
            if (running[i] == ended) {
                good &= judge((enum sp_breakage)i, status, &told[i]);
                under_way--;
            }
    }
    return good ? 0 : 1;
}
