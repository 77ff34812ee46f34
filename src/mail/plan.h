/* What plans have in common: things of the index kept while records change it, and the records of
 * `mail`.
 *
 * A plan runs on the committer's thread and must be short: it looks things up, checks, and emits;
 * nothing is parsed, hashed or compressed in it. Slices from the index die with the next record
 * emitted, so what is needed afterwards is kept in the plan's arena first.
 */
#ifndef SP_MAIL_PLAN_H
#define SP_MAIL_PLAN_H

#include "mail/internal.h"

/* The same, with its slices in the plan's arena. SP_NO_MEMORY. */
enum sp_status sp_plan_keep_mailbox(struct sp_plan *plan, struct sp_mailbox *mailbox) SP_MUST_USE;

/* The keywords of a mailbox and those that are to join them. */
struct sp_keywords {
    struct sp_slice names[SP_KEYWORDS_MAX];
    uint32_t count;
};
void sp_keywords_init(struct sp_keywords *keywords, const struct sp_mailbox *mailbox);
/* The bit number (SP_FLAG_KEYWORD_0 and up) of a name, any case; 0: it is not there. */
unsigned sp_keywords_find(const struct sp_keywords *keywords, struct sp_slice name);
/* Finds or adds it; 0: there are SP_KEYWORDS_MAX. */
unsigned sp_keywords_add(struct sp_keywords *keywords, struct sp_slice name);
/* Adds those of a set and returns its bits in *ret_flags. SP_LIMIT: there was no room for some, and
 * *ret_flags has the others; SP_INVALID for a name that is none. */
enum sp_status sp_keywords_add_set(struct sp_keywords *keywords, const struct sp_flag_set *set,
                                   uint64_t *ret_flags) SP_MUST_USE;
/* The names behind the keyword bits of flags, in an arena; false: no memory. */
bool sp_keywords_names(const struct sp_keywords *keywords, uint64_t flags, struct sp_arena *arena,
                       struct sp_slice_list *ret_names);

/* The MODSEQ of the next change in an account. */
enum sp_status sp_plan_next_modseq(struct sp_plan *plan, const struct sp_uuid *account,
                                   uint64_t *ret_modseq) SP_MUST_USE;

enum sp_status sp_plan_emit_message(struct sp_plan *plan, const struct sp_mailbox *mailbox,
                                    const struct sp_message *message) SP_MUST_USE;
enum sp_status sp_plan_emit_expunge(struct sp_plan *plan, const struct sp_mailbox *mailbox,
                                    uint64_t modseq, struct sp_span_list uids) SP_MUST_USE;

/* Makes a mailbox that is known not to be there; *ret_mailbox is kept. path must not lie in the
 * index. */
enum sp_status sp_plan_create_mailbox(struct sp_plan *plan, const struct sp_uuid *account,
                                      struct sp_slice path, uint32_t special_use,
                                      struct sp_mailbox *ret_mailbox) SP_MUST_USE;

#endif
