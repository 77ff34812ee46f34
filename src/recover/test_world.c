#include "recover/test_world.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct sp_uuid nil;

uint64_t world_random(struct world *w)
{
    w->seed ^= w->seed << 13;
    w->seed ^= w->seed >> 7;
    w->seed ^= w->seed << 17;
    return w->seed;
}

static struct sp_uuid make_uuid(struct world *w)
{
    struct sp_uuid uuid;
    for (unsigned i = 0; i < 16; i++)
        uuid.bytes[i] = (uint8_t)world_random(w);
    return uuid;
}

void world_init(struct world *w, uint64_t seed)
{
    *w = (struct world){.seed = seed * 0x9e3779b97f4a7c15U + 1, .time_ns = 1700000000000000000U};
    w->volume = make_uuid(w);
    for (unsigned i = 0; i < WORLD_ACCOUNTS; i++) {
        w->accounts[i] = make_uuid(w);
        w->uidnext[i] = w->listed[i] = 1;
    }
    sp_batch_init(&w->building);
}

void world_release(struct world *w)
{
    for (uint32_t i = 0; i < w->segments_count; i++)
        free(w->segments[i].blocks);
    free(w->records);
    sp_batch_release(&w->building);
}

struct sp_digest world_digest(const struct sp_record *record)
{
    struct sp_digest digest;
    uint8_t header[SP_RECORD_HEADER_BYTES];
    sp_record_write_header(record, header);
    sp_digest(sp_slice(header, sizeof header), &digest); /* its CRC covers the payload */
    return digest;
}

const struct world_record *world_find(const struct world *w, uint64_t lsn)
{
    for (uint32_t i = 0; i < w->records_count; i++)
        if (w->records[i].lsn == lsn)
            return &w->records[i];
    return NULL;
}

void world_begin_epoch(struct world *w)
{
    w->epoch_id = world_random(w);
    w->epoch_counter++;
}

static struct world_segment *current(struct world *w)
{
    return &w->segments[w->segments_count - 1];
}

static void append(struct world_segment *s, const uint8_t *blocks, uint32_t count)
{
    if (s->count + count > s->capacity) {
        void *memory;
        s->capacity = (s->count + count) * 2;
        sp_assert(posix_memalign(&memory, SP_BLOCK_BYTES, (size_t)s->capacity * SP_BLOCK_BYTES) ==
                  0);
        if (s->count)
            memcpy(memory, s->blocks, (size_t)s->count * SP_BLOCK_BYTES);
        free(s->blocks);
        s->blocks = memory;
    }
    memcpy(s->blocks + (size_t)s->count * SP_BLOCK_BYTES, blocks, (size_t)count * SP_BLOCK_BYTES);
    s->count += count;
}

static uint64_t add(struct world *w, uint8_t type, const struct sp_uuid *account, uint32_t mailbox,
                    uint64_t *tail, struct sp_slice payload)
{
    struct sp_record record = {.type = type,
                               .flags = tail ? SP_RECORD_CHAINED : 0,
                               .lsn = ++w->lsn,
                               .time_ns = w->time_ns += 1000,
                               .account = *account,
                               .mailbox = mailbox,
                               .previous = tail ? *tail : 0,
                               .payload = payload};
    struct sp_place place = sp_batch_add(&w->building, &record);
    w->records = realloc(w->records, (w->records_count + 1) * sizeof *w->records);
    sp_assert(w->records && !w->building.failed);
    struct world_record *r = &w->records[w->records_count++];
    *r = (struct world_record){
        .type = type,
        .lsn = record.lsn,
        .segment = w->segments_count - 1,
        .first_block = place.block,
        .last_block = (uint32_t)((w->building.stream_bytes - 1) / SP_BLOCK_PAYLOAD_BYTES),
        .digest = world_digest(&record)};
    if (tail)
        *tail = record.lsn;
    return record.lsn;
}

void world_commit(struct world *w)
{
    struct world_segment *s = current(w);
    if (w->building.records == 0)
        return;
    struct sp_block_header first = {.volume = w->volume,
                                    .epoch_id = w->epoch_id,
                                    .epoch_counter = w->epoch_counter,
                                    .segment = s->id.segment,
                                    .index = s->count,
                                    .batch = ++w->batch,
                                    .chain = s->end.chain};
    s->end.chain = sp_batch_finish(&w->building, &first);
    for (; w->building_from < w->records_count; w->building_from++) {
        w->records[w->building_from].first_block += s->count;
        w->records[w->building_from].last_block += s->count;
    }
    append(s, w->building.blocks, sp_batch_blocks(&w->building));
    s->end.blocks = s->count;
    s->end.lsn = w->lsn;
    s->end.batch = w->batch;
    sp_batch_reset(&w->building);
}

void world_seal(struct world *w)
{
    struct world_segment *s = current(w);
    struct sp_footer_builder *builder = sp_footer_builder_new();
    struct sp_walker walker;
    struct sp_record record;
    struct sp_place place;
    struct sp_block_header last;
    struct sp_trailer trailer;
    uint8_t *blocks;
    uint32_t count;
    sp_assert(builder && !s->sealed);
    sp_walker_init(&walker, s->blocks, s->count, 0, &s->id);
    while (sp_walker_next(&walker, &record, &place))
        sp_footer_builder_record(builder, &record, &place);
    sp_walker_release(&walker);
    sp_footer_builder_blocks(builder, s->blocks, s->count);
    sp_assert(sp_block_read(s->blocks + (size_t)(s->count - 1) * SP_BLOCK_BYTES, &last) == SP_OK);
    sp_assert(sp_footer_builder_finish(builder, &last, s->end.chain, &blocks, &count, &trailer) ==
              SP_OK);
    append(s, blocks, count);
    free(blocks);
    sp_footer_builder_free(builder);
    s->sealed = true;
}

static void catalogues(struct world *w)
{
    for (uint32_t a = 0; a < WORLD_ACCOUNTS; a++) {
        struct sp_buf buf;
        struct sp_span present = {w->listed[a], w->uidnext[a] - 1};
        struct sp_catalogue k = {.uidvalidity = 7,
                                 .uidnext = w->uidnext[a],
                                 .messages = w->uidnext[a] - 1,
                                 .path = SP_S("INBOX"),
                                 .present = {&present, 1}};
        if (w->uidnext[a] == w->listed[a])
            continue;
        sp_buf_init(&buf, 1U << 16);
        sp_catalogue_write(&k, &buf);
        add(w, SP_RECORD_CATALOGUE, &w->accounts[a], 1, &w->mailbox_tails[a], sp_buf_slice(&buf));
        sp_buf_release(&buf);
        w->listed[a] = w->uidnext[a];
    }
}

void world_begin_segment(struct world *w, bool epoch_begins)
{
    struct sp_log_end previous = {0};
    uint8_t block[SP_BLOCK_BYTES];
    sp_assert(w->segments_count < WORLD_SEGMENTS);
    if (w->segments_count) {
        previous = current(w)->end;
        if (!current(w)->sealed)
            world_seal(w);
    }
    struct world_segment *s = &w->segments[w->segments_count++];
    s->head = (struct sp_segment_head){.volume = w->volume,
                                       .epoch_id = w->epoch_id,
                                       .epoch_counter = w->epoch_counter,
                                       .segment = previous.segment + 1,
                                       .epoch_begins = epoch_begins,
                                       .time_ns = w->time_ns,
                                       .next_lsn = w->lsn + 1,
                                       .batch = w->batch + 1,
                                       .min_copies = 2,
                                       .segment_bytes = 1U << 20,
                                       .previous = previous,
                                       .members_count = 1};
    s->head.members[0].role = SP_MEMBER_REPLICA;
    s->id = (struct sp_segment_id){w->volume, previous.segment + 1, 0};
    sp_segment_head_write(&s->head, block);
    append(s, block, 1);
    s->end = (struct sp_log_end){.epoch_id = w->epoch_id,
                                 .epoch_counter = w->epoch_counter,
                                 .segment = s->id.segment,
                                 .blocks = 1,
                                 .lsn = w->lsn,
                                 .batch = w->batch,
                                 .chain = sp_block_chain(block)};
    catalogues(w);
    world_commit(w);
}

void world_accounts(struct world *w)
{
    for (uint32_t a = 0; a < WORLD_ACCOUNTS; a++) {
        struct sp_buf buf;
        char address[32];
        snprintf(address, sizeof address, "user%u@example.org", a);
        struct sp_account_record account = {.id = w->accounts[a], .address = sp_slice_str(address)};
        struct sp_mailbox_record mailbox = {
            .id = 1, .uidvalidity = 7, .modseq = 1, .path = SP_S("INBOX")};
        sp_buf_init(&buf, 1U << 16);
        sp_account_record_write(&account, &buf);
        add(w, SP_RECORD_ACCOUNT, &nil, 0, &w->volume_tail, sp_buf_slice(&buf));
        sp_buf_reset(&buf);
        sp_mailbox_record_write(&mailbox, &buf);
        add(w, SP_RECORD_MAILBOX, &w->accounts[a], 0, &w->account_tails[a], sp_buf_slice(&buf));
        sp_buf_release(&buf);
    }
    world_commit(w);
}

void world_message(struct world *w, uint32_t a, uint32_t body_bytes)
{
    struct sp_body_head head = {.codec = SP_CODEC_RAW, .raw_bytes = body_bytes};
    char subject[160], address[32];
    struct sp_buf buf;
    uint64_t body;
    sp_buf_init(&buf, SP_RECORD_PAYLOAD_MAX);
    uint8_t *at = sp_buf_extend(&buf, SP_BODY_HEAD_BYTES + body_bytes);
    sp_assert(at);
    for (uint32_t i = 0; i < body_bytes; i++)
        at[SP_BODY_HEAD_BYTES + i] = (uint8_t)world_random(w);
    sp_digest(sp_slice(at + SP_BODY_HEAD_BYTES, body_bytes), &head.digest);
    sp_body_head_write(&head, at);
    body = add(w, SP_RECORD_BODY, &nil, 0, NULL, sp_buf_slice(&buf));
    snprintf(subject, sizeof subject,
             "(\"Mon, 1 Jan 2024 00:00:00 +0000\" \"Subject %u\" NIL NIL NIL NIL NIL NIL NIL "
             "\"<%u@x>\")",
             w->uidnext[a], w->uidnext[a]);
    snprintf(address, sizeof address, "user%u@example.org", a);
    struct sp_message m = {.uid = w->uidnext[a]++,
                           .uidvalidity = 7,
                           .modseq = w->lsn,
                           .size = body_bytes,
                           .digest = head.digest,
                           .bodies = {&body, 1},
                           .address = sp_slice_str(address),
                           .path = SP_S("INBOX"),
                           .envelope = sp_slice_str(subject)};
    sp_buf_reset(&buf);
    sp_message_write(&m, &buf);
    add(w, SP_RECORD_MESSAGE, &w->accounts[a], 1, &w->mailbox_tails[a], sp_buf_slice(&buf));
    struct world_record *r = &w->records[w->records_count - 1];
    r->body = body;
    r->account = a;
    r->uid = m.uid;
    sp_buf_release(&buf);
}

void world_expunge(struct world *w, uint32_t a, uint32_t uid)
{
    struct sp_span run = {uid, uid};
    struct sp_expunge expunge = {w->lsn, {&run, 1}};
    struct sp_buf buf;
    sp_buf_init(&buf, 4096);
    sp_expunge_write(&expunge, &buf);
    add(w, SP_RECORD_EXPUNGE, &w->accounts[a], 1, &w->mailbox_tails[a], sp_buf_slice(&buf));
    sp_buf_release(&buf);
}

void world_forget(struct world *w, uint32_t records_count)
{
    w->records_count = w->building_from = records_count;
    w->lsn = w->records[records_count - 1].lsn;
}

void world_fill(struct world *w)
{
    world_begin_epoch(w);
    world_begin_segment(w, true);
    world_accounts(w);
    for (unsigned s = 0; s < 3; s++) {
        if (s)
            world_begin_segment(w, false);
        for (unsigned i = 0; i < 40; i++) {
            world_message(w, (uint32_t)(world_random(w) % WORLD_ACCOUNTS),
                          (uint32_t)(world_random(w) % (i % 8 == 0 ? 30000 : 2000)) + 1);
            if (world_random(w) % 3)
                world_commit(w);
        }
        world_commit(w);
    }
}

/* ---- A folder for tests ---- */

static char base[256];
static unsigned tries;

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

int world_scratch(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(base, sizeof base, "%s/sternpost-recover-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(base) ? 0 : 1;
}

int world_scratch_end(void **state)
{
    (void)state;
    return nftw(base, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *world_fresh(char path[512], const char *name)
{
    snprintf(path, 512, "%s/%s-%u", base, name, tries++);
    return path;
}
