#include "store/test_truth.h"

static void set(bool *uids, struct sp_span_list list, bool value)
{
    for (uint32_t i = 0; i < list.count; i++)
        for (uint64_t uid = list.ptr[i].first; uid <= list.ptr[i].last; uid++) {
            sp_assert(uid < MODEL_UIDS);
            uids[uid] = value;
        }
}

static void read_catalogue(struct truth *r, const struct sp_record *record, struct sp_arena *arena)
{
    struct sp_catalogue k;
    uint32_t n = record->mailbox;
    sp_assert(sp_catalogue_read(record->payload, arena, &k) == SP_OK);
    if (k.base)
        memset(r->said[n], 0, sizeof r->said[n]);
    set(r->said[n], k.present, true);
    set(r->said[n], k.gone, false);
    sp_assert(memcmp(r->said[n], r->present[n], sizeof r->said[n]) == 0);
    sp_assert(k.uidnext == r->uidnext[n]);
}

static void read_tails(struct truth *r, const struct sp_record *record, struct sp_arena *arena)
{
    struct sp_tails t;
    sp_assert(sp_tails_read(record->payload, arena, &t) == SP_OK && t.begins && t.ends);
    for (uint32_t i = 0; i < t.count; i++) {
        const struct sp_tail *tail = &t.list[i];
        sp_assert(tail->mailbox < TRUTH_MAILBOXES);
        sp_assert(tail->lsn == (tail->mailbox ? r->tails[tail->mailbox] : r->account_tail));
        sp_assert(tail->uidnext == r->uidnext[tail->mailbox]);
    }
}

void truth_record(struct truth *r, const struct sp_record *record, uint64_t segment,
                  struct sp_arena *arena)
{
    uint32_t n = record->mailbox;
    uint64_t *tail = sp_uuid_is_nil(&record->account) ? &r->volume_tail
                     : n                              ? &r->tails[n]
                                                      : &r->account_tail;
    sp_assert(n < TRUTH_MAILBOXES && record->lsn == r->lsn + 1 && record->time_ns >= r->time_ns);
    r->lsn = record->lsn;
    r->time_ns = record->time_ns;
    if (sp_record_is_body(record->type))
        return;
    sp_assert(record->previous == *tail);
    struct sp_message m;
    struct sp_expunge e;
    struct sp_mailbox_record box;
    struct sp_manifest manifest;
    switch (record->type) {
    case SP_RECORD_CATALOGUE:
        read_catalogue(r, record, arena);
        break;
    case SP_RECORD_TAILS:
        read_tails(r, record, arena);
        break;
    case SP_RECORD_MESSAGE:
        sp_assert(sp_message_read(record->payload, arena, &m) == SP_OK && m.uid >= r->uidnext[n]);
        r->present[n][m.uid] = true;
        r->uidnext[n] = m.uid + 1;
        break;
    case SP_RECORD_EXPUNGE:
        sp_assert(sp_expunge_read(record->payload, arena, &e) == SP_OK);
        set(r->present[n], e.uids, false);
        break;
    case SP_RECORD_MAILBOX:
        sp_assert(sp_mailbox_record_read(record->payload, &box) == SP_OK);
        r->uidnext[box.id] = 1;
        break;
    case SP_RECORD_MANIFEST:
        sp_assert(sp_manifest_read(record->payload, arena, &manifest) == SP_OK);
        if (manifest.base) {
            r->manifest_base = record->lsn;
            r->manifest_base_segment = segment;
        }
        break;
    default:
        break;
    }
    *tail = record->lsn;
}
