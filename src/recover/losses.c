#include "recover/losses.h"
#include "mime/mime.h"

#include <stdlib.h>

#define FIRST_BUCKETS 1024U
#define ARENA_BYTES   (64U << 20) /* for one record's lists */

static const struct sp_uuid nil;

bool sp_losses_init(struct sp_losses *losses, struct sp_recover_report *report)
{
    *losses = (struct sp_losses){.next_lsn = 1, .report = report, .buckets_count = FIRST_BUCKETS};
    losses->buckets = calloc(FIRST_BUCKETS, sizeof *losses->buckets);
    sp_arena_init(&losses->arena, ARENA_BYTES);
    return losses->buckets;
}

void sp_losses_release(struct sp_losses *losses)
{
    for (uint32_t i = 0; i < losses->chains_count; i++) {
        struct sp_chain *c = &losses->chains[i];
        sp_spans_release(&c->have);
        sp_spans_release(&c->missing);
        free(c->address);
        free(c->path);
    }
    free(losses->chains);
    free(losses->buckets);
    sp_spans_release(&losses->missing);
    sp_spans_release(&losses->declared);
    sp_spans_release(&losses->merged);
    sp_arena_release(&losses->arena);
    *losses = (struct sp_losses){0};
}

static uint32_t hash(const struct sp_losses *losses, const struct sp_uuid *account,
                     uint32_t mailbox)
{
    uint64_t a, b;
    memcpy(&a, account->bytes, 8);
    memcpy(&b, account->bytes + 8, 8);
    uint64_t h = ((a ^ b) + mailbox) * 0x9e3779b97f4a7c15U;
    return (uint32_t)(h >> 32) & (losses->buckets_count - 1);
}

static struct sp_chain *find(const struct sp_losses *losses, const struct sp_uuid *account,
                             uint32_t mailbox)
{
    for (uint32_t i = losses->buckets[hash(losses, account, mailbox)]; i;
         i = losses->chains[i - 1].next) {
        struct sp_chain *c = &losses->chains[i - 1];
        if (c->mailbox == mailbox && sp_uuid_eq(&c->account, account))
            return c;
    }
    return NULL;
}

static bool rehash(struct sp_losses *losses)
{
    uint32_t *buckets = calloc((size_t)losses->buckets_count * 2, sizeof *buckets);
    if (!buckets)
        return false;
    free(losses->buckets);
    losses->buckets = buckets;
    losses->buckets_count *= 2;
    for (uint32_t i = 0; i < losses->chains_count; i++) {
        struct sp_chain *c = &losses->chains[i];
        uint32_t *head = &buckets[hash(losses, &c->account, c->mailbox)];
        c->next = *head;
        *head = i + 1;
    }
    return true;
}

/* The chain, made when it is new; NULL without memory. Moves the others. */
static struct sp_chain *chain(struct sp_losses *losses, const struct sp_uuid *account,
                              uint32_t mailbox)
{
    struct sp_chain *c = find(losses, account, mailbox);
    if (c)
        return c;
    if (losses->chains_count == losses->chains_capacity) {
        uint32_t capacity = losses->chains_capacity ? losses->chains_capacity * 2 : 64;
        struct sp_chain *grown = realloc(losses->chains, capacity * sizeof *grown);
        if (!grown)
            goto fail;
        losses->chains = grown;
        losses->chains_capacity = capacity;
    }
    if (losses->chains_count >= losses->buckets_count && !rehash(losses))
        goto fail;
    c = &losses->chains[losses->chains_count];
    *c = (struct sp_chain){.account = *account, .mailbox = mailbox, .uidnext = 1};
    uint32_t *head = &losses->buckets[hash(losses, account, mailbox)];
    c->next = *head;
    *head = ++losses->chains_count;
    return c;
fail:
    losses->failed = true;
    return NULL;
}

static char *text(struct sp_slice slice)
{
    return slice.len ? strndup((const char *)slice.ptr, slice.len) : NULL;
}

static void name(char **at, struct sp_slice slice)
{
    if (!slice.len || (*at && sp_slice_eq(sp_slice_str(*at), slice)))
        return;
    free(*at);
    *at = text(slice);
}

static void check(struct sp_losses *losses, bool good)
{
    if (!good)
        losses->failed = true;
}

/* ---- What records say ---- */

static void note_bodiless(struct sp_losses *losses, const struct sp_chain *c,
                          const struct sp_record *record, const struct sp_message *m)
{
    struct sp_recover_report *report = losses->report;
    struct sp_mime_envelope_wire envelope = {0};
    report->bodiless_total++;
    if (report->bodiless_count == SP_RECOVER_NAMED_MAX)
        return;
    if ((report->bodiless_count & (report->bodiless_count - 1)) == 0) {
        uint32_t capacity = report->bodiless_count ? report->bodiless_count * 2 : 1;
        struct sp_recover_bodiless *grown = realloc(report->bodiless, capacity * sizeof *grown);
        if (!grown) {
            losses->failed = true;
            return;
        }
        report->bodiless = grown;
    }
    struct sp_recover_bodiless *b = &report->bodiless[report->bodiless_count++];
    *b = (struct sp_recover_bodiless){.account = c->account,
                                      .mailbox = c->mailbox,
                                      .uid = m->uid,
                                      .address = text(m->address),
                                      .path = text(m->path),
                                      .size = m->size,
                                      .lsn = record->lsn};
    if (sp_mime_read_envelope(m->envelope, &losses->arena, &envelope) == SP_OK)
        b->subject = text(envelope.subject);
}

static void message(struct sp_losses *losses, struct sp_chain *c, const struct sp_record *record,
                    bool broken)
{
    struct sp_message m;
    if (sp_message_read(record->payload, &losses->arena, &m) != SP_OK)
        return;
    losses->report->messages++;
    name(&c->address, m.address);
    name(&c->path, m.path);
    /* Where the chain is broken, UIDs that were passed over had messages; but no GAP's lead. */
    if (broken && m.uid > c->uidnext && m.uid - c->uidnext < SP_RECOVER_UIDNEXT_SKIP)
        check(losses, sp_spans_add(&c->missing, c->uidnext, m.uid - 1));
    check(losses, sp_spans_add(&c->have, m.uid, m.uid));
    if (m.uid >= c->uidnext)
        c->uidnext = m.uid < UINT32_MAX ? m.uid + 1 : m.uid;
    for (uint32_t i = 0; i < m.bodies.count; i++)
        if (sp_spans_has(&losses->missing, m.bodies.ptr[i])) {
            note_bodiless(losses, c, record, &m);
            break;
        }
}

static void expunged(struct sp_losses *losses, struct sp_chain *c, struct sp_span_list uids)
{
    for (uint32_t i = 0; i < uids.count; i++) {
        check(losses, sp_spans_remove(&c->have, uids.ptr[i].first, uids.ptr[i].last));
        check(losses, sp_spans_remove(&c->missing, uids.ptr[i].first, uids.ptr[i].last));
    }
}

static void catalogue(struct sp_losses *losses, struct sp_chain *c, const struct sp_record *record,
                      bool broken)
{
    struct sp_catalogue k;
    if (sp_catalogue_read(record->payload, &losses->arena, &k) != SP_OK)
        return;
    name(&c->path, k.path);
    if (k.base) {
        /* The authority: what it does not list is gone, what we lack of its list is missing. */
        struct sp_spans missing = {0}, have = {0};
        for (uint32_t i = 0; i < k.present.count; i++) {
            check(losses, sp_spans_add(&have, k.present.ptr[i].first, k.present.ptr[i].last));
            check(losses, sp_spans_add_except(&missing, k.present.ptr[i].first,
                                              k.present.ptr[i].last, &c->have));
        }
        for (uint32_t i = 0; i < missing.count; i++)
            check(losses, sp_spans_remove(&have, missing.ptr[i].first, missing.ptr[i].last));
        sp_spans_release(&c->missing);
        sp_spans_release(&c->have);
        c->missing = missing;
        c->have = have;
    } else {
        /* The catalogue that this one goes on from may be lost as well. */
        uint64_t known = k.present.count ? k.present.ptr[0].first : k.uidnext;
        if (broken && known > c->uidnext && known - c->uidnext < SP_RECOVER_UIDNEXT_SKIP)
            check(losses, sp_spans_add(&c->missing, c->uidnext, known - 1));
        for (uint32_t i = 0; i < k.present.count; i++)
            check(losses, sp_spans_add_except(&c->missing, k.present.ptr[i].first,
                                              k.present.ptr[i].last, &c->have));
        expunged(losses, c, k.gone);
    }
    if (k.uidnext > c->uidnext)
        c->uidnext = k.uidnext;
}

static void mailbox(struct sp_losses *losses, const struct sp_record *record)
{
    struct sp_mailbox_record m;
    if (sp_mailbox_record_read(record->payload, &m) != SP_OK)
        return;
    struct sp_chain *c = chain(losses, &record->account, m.id);
    if (!c)
        return;
    c->made = true;
    c->removed = record->type == SP_RECORD_MAILBOX_DELETE;
    name(&c->path, m.path);
}

static void account(struct sp_losses *losses, const struct sp_record *record)
{
    struct sp_account_record a;
    if (sp_account_record_read(record->payload, &a) != SP_OK)
        return;
    struct sp_chain *c = chain(losses, &a.id, 0);
    if (!c)
        return;
    c->made = true;
    c->removed = record->type == SP_RECORD_ACCOUNT_REMOVE;
    name(&c->address, a.address);
}

static void gap(struct sp_losses *losses, const struct sp_record *record)
{
    struct sp_gap g;
    if (sp_gap_read(record->payload, &losses->arena, &g) != SP_OK)
        return;
    for (uint32_t i = 0; i < g.lsns.count; i++)
        check(losses, sp_spans_add(&losses->declared, g.lsns.ptr[i].first, g.lsns.ptr[i].last));
}

static void merge(struct sp_losses *losses, const struct sp_record *record)
{
    struct sp_merge_record m;
    if (sp_merge_record_read(record->payload, &m) == SP_OK && m.complete)
        check(losses, sp_spans_add(&losses->merged, m.gap, m.gap));
}

/* A chain whose own beginning (MAILBOX, ACCOUNT) was never seen although LSNs are missing: then it
 * was on a lost part of the list that names it. */
static void check_made(struct sp_losses *losses, const struct sp_uuid *of, uint32_t number)
{
    struct sp_chain *c = find(losses, of, number);
    if (!c || c->made || losses->missing.count == 0 || sp_uuid_is_nil(of))
        return;
    c->made = true;
    struct sp_chain *list = number ? chain(losses, of, 0) : chain(losses, &nil, 0);
    if (list)
        list->breaks++;
    if (list && number)
        check_made(losses, of, 0);
}

static void tails(struct sp_losses *losses, const struct sp_record *record)
{
    struct sp_tails t;
    if (sp_tails_read(record->payload, &losses->arena, &t) != SP_OK)
        return;
    if (t.begins)
        losses->tails_lsn = record->lsn;
    for (uint32_t i = 0; i < t.count; i++) {
        const struct sp_tail *tail = &t.list[i];
        struct sp_chain *c = chain(losses, &tail->account, tail->mailbox);
        if (!c || c->last_lsn == tail->lsn)
            continue;
        c->breaks++;
        if (tail->uidnext > c->uidnext && tail->uidnext - c->uidnext < SP_RECOVER_UIDNEXT_SKIP)
            check(losses, sp_spans_add(&c->missing, c->uidnext, tail->uidnext - 1));
        if (tail->uidnext > c->uidnext)
            c->uidnext = tail->uidnext;
        check_made(losses, &tail->account, tail->mailbox);
    }
    if (t.ends && losses->tails_lsn)
        losses->said_lsn = losses->tails_lsn;
}

/* What was dropped is not lost, and its messages had been expunged. */
static void dropped(struct sp_losses *losses, struct sp_chain *c, const struct sp_record *record)
{
    struct sp_dropped d;
    if (sp_dropped_read(record->payload, &losses->arena, &d) != SP_OK)
        return;
    for (uint32_t i = 0; i < d.lsns.count; i++)
        check(losses, sp_spans_add(&losses->declared, d.lsns.ptr[i].first, d.lsns.ptr[i].last));
    if (!c)
        return;
    expunged(losses, c, d.uids);
    if (d.uidnext > c->uidnext)
        c->uidnext = d.uidnext;
}

/* ---- In order ---- */

static bool is_chained(const struct sp_record *record)
{
    if (sp_record_is_body(record->type))
        return false;
    return (record->flags & SP_RECORD_CHAINED) || !(record->flags & SP_RECORD_OPTIONAL);
}

void sp_losses_up_to(struct sp_losses *losses, uint64_t lsn)
{
    if (lsn < losses->next_lsn)
        return;
    check(losses, sp_spans_add(&losses->missing, losses->next_lsn, lsn));
    losses->next_lsn = lsn + 1;
    losses->tails_lsn = 0;
}

void sp_losses_segment(struct sp_losses *losses, const struct sp_segment_head *head)
{
    if (head) {
        sp_losses_up_to(losses, head->previous.lsn);
        if (head->next_lsn > losses->next_lsn)
            losses->next_lsn = head->next_lsn;
    }
}

bool sp_losses_record(struct sp_losses *losses, const struct sp_record *record)
{
    if (record->lsn < losses->next_lsn)
        return false;
    if (record->type != SP_RECORD_GAP)
        sp_losses_up_to(losses, record->lsn - 1);
    losses->next_lsn = record->lsn + 1;
    losses->last_lsn = record->lsn;
    if (record->time_ns > losses->last_time_ns)
        losses->last_time_ns = record->time_ns;
    losses->report->records++;
    sp_arena_release(&losses->arena);
    if (record->type == SP_RECORD_DROPPED && !(record->flags & SP_RECORD_CHAINED))
        dropped(losses, NULL, record);
    if (!is_chained(record))
        return true;
    struct sp_chain *c = chain(losses, &record->account, record->mailbox);
    if (!c)
        return true;
    bool broken = record->previous != c->last_lsn;
    if (broken)
        c->breaks++;
    if (record->type == SP_RECORD_UNPROTECT) { /* the loss was accepted */
        c->breaks = 0;
        sp_spans_release(&c->missing);
    }
    c->last_lsn = record->lsn;
    struct sp_expunge expunge;
    switch (record->type) {
    case SP_RECORD_MESSAGE:
        message(losses, c, record, broken);
        break;
    case SP_RECORD_CATALOGUE:
        catalogue(losses, c, record, broken);
        break;
    case SP_RECORD_EXPUNGE:
        if (sp_expunge_read(record->payload, &losses->arena, &expunge) == SP_OK)
            expunged(losses, c, expunge.uids);
        break;
    case SP_RECORD_MAILBOX:
    case SP_RECORD_MAILBOX_RENAME:
    case SP_RECORD_MAILBOX_DELETE:
        mailbox(losses, record);
        break;
    case SP_RECORD_ACCOUNT:
    case SP_RECORD_ACCOUNT_REMOVE:
        account(losses, record);
        break;
    case SP_RECORD_GAP:
        gap(losses, record);
        break;
    case SP_RECORD_TAILS:
        tails(losses, record);
        break;
    case SP_RECORD_MERGE:
        merge(losses, record);
        break;
    case SP_RECORD_DROPPED:
        dropped(losses, c, record);
        break;
    default:
        break;
    }
    check_made(losses, &record->account, record->mailbox);
    return true;
}

uint64_t sp_losses_tail(const struct sp_losses *losses, const struct sp_uuid *of, uint32_t number)
{
    const struct sp_chain *c = find(losses, of, number);
    return c ? c->last_lsn : 0;
}

/* ---- The outcome ---- */

static bool is_removed(const struct sp_losses *losses, const struct sp_chain *c)
{
    const struct sp_chain *own = c->mailbox ? find(losses, &c->account, 0) : NULL;
    return c->removed || (own && own->removed);
}

static void put_broken(struct sp_losses *losses, struct sp_chain *c)
{
    struct sp_recover_report *report = losses->report;
    struct sp_chain *own = find(losses, &c->account, 0);
    struct sp_recover_broken *b = &report->broken[report->broken_count++];
    *b = (struct sp_recover_broken){.account = c->account,
                                    .mailbox = c->mailbox,
                                    .path = c->path ? strdup(c->path) : NULL,
                                    .last_lsn = c->last_lsn,
                                    .breaks = c->breaks,
                                    .missing_uids = sp_spans_total(&c->missing, 0),
                                    .uids = {c->missing.ptr, c->missing.count}};
    const char *address = own && own->address ? own->address : c->address;
    b->address = address ? strdup(address) : NULL;
    c->missing = (struct sp_spans){0};
}

static int by_address(const void *left, const void *right)
{
    const struct sp_recover_broken *a = left, *b = right;
    int order = strcmp(a->address ? a->address : "", b->address ? b->address : "");
    return order ? order : (a->mailbox > b->mailbox) - (a->mailbox < b->mailbox);
}

/* Messages that were expunged later miss nothing. */
static void drop_expunged(struct sp_losses *losses)
{
    struct sp_recover_report *report = losses->report;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < report->bodiless_count; i++) {
        struct sp_recover_bodiless *b = &report->bodiless[i];
        const struct sp_chain *c = find(losses, &b->account, b->mailbox);
        if (c && !is_removed(losses, c) && sp_spans_has(&c->have, b->uid)) {
            name(&b->path, sp_slice_str(c->path ? c->path : "")); /* it may have been renamed */
            report->bodiless[kept++] = *b;
            continue;
        }
        free(b->address);
        free(b->path);
        free(b->subject);
        report->bodiless_total--;
    }
    report->bodiless_count = kept;
}

bool sp_losses_finish(struct sp_losses *losses)
{
    struct sp_recover_report *report = losses->report;
    drop_expunged(losses);
    for (uint32_t i = 0; i < losses->declared.count; i++)
        check(losses, sp_spans_remove(&losses->missing, losses->declared.ptr[i].first,
                                      losses->declared.ptr[i].last));
    report->lost_lsns = sp_spans_total(&losses->missing, 0);
    report->lost_tail_lsns = sp_spans_total(&losses->missing, losses->said_lsn);
    report->lost = (struct sp_span_list){losses->missing.ptr, losses->missing.count};
    losses->missing = (struct sp_spans){0};
    report->last_lsn = losses->last_lsn;
    report->broken = calloc(losses->chains_count + 1U, sizeof *report->broken);
    if (!report->broken)
        return false;
    for (uint32_t i = 0; i < losses->chains_count; i++) {
        struct sp_chain *c = &losses->chains[i];
        if ((c->breaks || c->missing.count) && !is_removed(losses, c))
            put_broken(losses, c);
    }
    qsort(report->broken, report->broken_count, sizeof *report->broken, by_address);
    return !losses->failed;
}
