/* The store through random histories: ./dev sim, and the tests. See store/test_sim.h; the arguments
 * are test_sim_program.c's. */
#include "store/test_sim.h"

int main(int argc, char **argv)
{
    return sim_main(argc, argv, NULL, NULL);
}
