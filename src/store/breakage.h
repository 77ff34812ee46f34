/* Places where the store can be broken on purpose, to show that the simulation finds it
 * (store/test_broken.c).
 *
 * SP_BREAK(name) is false, and costs nothing, in everything that is shipped. Only the library that
 * the test is linked with is compiled with SP_BREAKABLE; there it says whether sp_breakage names
 * it. A breakage is one condition in one line, beside the rule that it breaks.
 */
#ifndef SP_STORE_BREAKAGE_H
#define SP_STORE_BREAKAGE_H

#ifdef SP_BREAKABLE

#define SP_BREAKAGES(X)                                                                            \
    X(answer_early, "answers before the log is written")                                           \
    X(one_copy, "acknowledges with one unit written")                                              \
    X(failed_sync, "takes a sync that failed for done")                                            \
    X(full_is_done, "takes what a full unit refused for stored")                                   \
    X(eject_same_epoch, "goes on in the same epoch without the unit that it ejected")              \
    X(recruit_has_all, "takes a recruited spare for one that has the whole log")                   \
    X(no_promise, "votes for an epoch without the promise before")                                 \
    X(no_votes, "begins an epoch without a majority of votes")                                     \
    X(minority, "starts with a minority of the units")                                             \
    X(longest_tail, "takes the longest tail for the newest epoch")                                 \
    X(ejected_is_current, "takes a unit that was ejected for a replica")                           \
    X(twins, "counts a unit and its copy as two")                                                  \
    X(keep_incomplete, "keeps an incomplete batch at the end of the log")                          \
    X(no_mend, "builds on an end that not all replicas have")                                      \
    X(no_verify, "reads blocks without verifying them")                                            \
    X(resilver_blind, "resilvers without verifying what is there")                                 \
    X(index_first, "keeps in the index what the log refused")                                      \
    X(index_unmarked, "believes an index that a power cut may have spoilt")                        \
    X(old_place, "forgets that a batch was written in another place")                              \
    X(reuse_uid, "gives an expunged message's UID again")                                          \
    X(lsn_gap, "leaves out the LSNs of a batch that failed")                                       \
    X(drop_live, "compacts away mail that is there")                                               \
    X(hold_by_wall, "goes by the wall clock alone for what is past its hold")                      \
    X(drop_uidnext, "forgets the UIDNEXT that dropped records stated")                             \
    X(index_untold, "does not tell the index where compaction put bodies")                         \
    X(drop_unsaid, "does not say which LSNs it dropped")                                           \
    X(time_back, "lets the times of records go back with the clock")

#define SP_BREAKAGE_NAME(name, what) SP_BREAK_##name,
enum sp_breakage { SP_BREAK_none, SP_BREAKAGES(SP_BREAKAGE_NAME) SP_BREAKAGES_END };
#undef SP_BREAKAGE_NAME

extern enum sp_breakage sp_breakage; /* the test's */
#define SP_BREAK(name) (sp_breakage == SP_BREAK_##name)

#else

#define SP_BREAK(name) false

#endif

#endif
