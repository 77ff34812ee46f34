/* What the parts of applying records share. Not for others.
 *
 *   apply.c         the transaction; records of mailboxes and accounts
 *   apply_volume.c  records of the volume's own chain
 *   apply_held.c    what is expunged and held; what compaction and erasure leave behind
 *   apply_rows.c    reading, making up and writing back the rows that records change
 */
#ifndef SP_STORE_APPLY_INTERNAL_H
#define SP_STORE_APPLY_INTERNAL_H

#include "store/index_internal.h"

enum sp_status sp_apply_volume_record(struct sp_apply *apply, const struct sp_record *record,
                                      const struct sp_place *place) SP_MUST_USE;

/* The mailbox has changed: those who watch it are told. */
enum sp_status sp_apply_touch(struct sp_apply *apply, const struct sp_uuid *account,
                              uint32_t mailbox) SP_MUST_USE;

/* The account of a record on its own chain; protected if the chain is broken here. The caller puts
 * it. */
enum sp_status sp_apply_on_account(struct sp_apply *apply, const struct sp_record *record,
                                   struct sp_account *ret) SP_MUST_USE;

/* acl.c */
enum sp_status sp_apply_acl(struct sp_apply *apply, const struct sp_record *record) SP_MUST_USE;
/* The mailbox is gone, or (0) all of the account's, and what was given to it. */
enum sp_status sp_apply_forget_acl(struct sp_apply *apply, const struct sp_uuid *account,
                                   uint32_t mailbox) SP_MUST_USE;

/* guard.c */
enum sp_status sp_apply_guard(struct sp_apply *apply, const struct sp_record *record) SP_MUST_USE;
/* Where a body lies. */
enum sp_status sp_apply_body(struct sp_apply *apply, const struct sp_record *record,
                             const struct sp_place *place) SP_MUST_USE;
/* CLOCK, ERASE, and the `retired` of a MANIFEST. */
enum sp_status sp_apply_clock(struct sp_apply *apply, const struct sp_record *record) SP_MUST_USE;
enum sp_status sp_apply_erase(struct sp_apply *apply, const struct sp_record *record) SP_MUST_USE;
enum sp_status sp_apply_retired(struct sp_apply *apply, const struct sp_record *record,
                                const struct sp_manifest *manifest) SP_MUST_USE;
/* `expunge` is expunging the message of this row: it is held from here on. */
enum sp_status sp_apply_hold(struct sp_apply *apply, const struct sp_record *expunge,
                             const struct sp_mailbox *mailbox, const struct sp_flag_row *row,
                             uint64_t lsn, struct sp_slice payload) SP_MUST_USE;
/* Deletes the rows of bodies that were dropped. */
enum sp_status sp_apply_forget_bodies(struct sp_apply *apply, struct sp_span lsns) SP_MUST_USE;
/* These are held no longer. */
enum sp_status sp_apply_let_go(struct sp_apply *apply, const struct sp_uuid *account,
                               uint32_t mailbox, struct sp_span uids) SP_MUST_USE;

enum sp_status sp_apply_put(struct sp_apply *apply, MDB_dbi table, MDB_val key,
                            MDB_val value) SP_MUST_USE;
/* What is not there is deleted already. */
enum sp_status sp_apply_del(struct sp_apply *apply, MDB_dbi table, MDB_val key) SP_MUST_USE;

enum sp_status sp_apply_put_account(struct sp_apply *apply,
                                    const struct sp_account *account) SP_MUST_USE;
enum sp_status sp_apply_put_mailbox(struct sp_apply *apply,
                                    const struct sp_mailbox *mailbox) SP_MUST_USE;
enum sp_status sp_apply_put_name(struct sp_apply *apply, const struct sp_uuid *account,
                                 struct sp_slice path, uint32_t id) SP_MUST_USE;
/* A row that is changed while the transaction writes other pages must not point into the map:
 * copies what it points to into the arena. */
enum sp_status sp_apply_own_account(struct sp_apply *apply, struct sp_account *account) SP_MUST_USE;
enum sp_status sp_apply_own_mailbox(struct sp_apply *apply, struct sp_mailbox *mailbox) SP_MUST_USE;

/* The row, owned. In a replay of a ruined log it is made up, protected, when its own records are
 * lost; SP_NOT_FOUND: too little is known of it. */
enum sp_status sp_apply_need_account(struct sp_apply *apply, const struct sp_uuid *id,
                                     struct sp_slice address, struct sp_account *ret) SP_MUST_USE;
enum sp_status sp_apply_need_mailbox(struct sp_apply *apply, const struct sp_record *record,
                                     struct sp_slice path, uint32_t uidvalidity,
                                     struct sp_mailbox *ret) SP_MUST_USE;

/* Holds the chain's tail against what the record says, and moves it on; true: records between them
 * are lost (in a replay; live that is a bug). */
bool sp_apply_chain_broken(const struct sp_apply *apply, uint64_t *tail,
                           const struct sp_record *record);
/* The same for a record that stands for several. */
bool sp_apply_dropped_breaks(uint64_t *tail, const struct sp_record *record,
                             const struct sp_dropped *dropped);
/* Writes the account back; its MODSEQ never falls behind what was given out. */
enum sp_status sp_apply_raise_account(struct sp_apply *apply, struct sp_account *account,
                                      uint64_t modseq) SP_MUST_USE;

#endif
