#include "format/payload.h"
#include "base/cursor.h"
#include "base/endian.h"

/* An array of no more elements than there are bytes left: a count that lies cannot make us allocate
 * much. */
static void *read_array(struct sp_cursor *cursor, struct sp_arena *arena, size_t size,
                        uint32_t *ret_count, bool *ret_no_memory)
{
    uint64_t count = sp_cursor_count(cursor, cursor->rest.len);
    *ret_count = (uint32_t)count;
    if (!count)
        return NULL;
    void *array = sp_arena_array(arena, count, size);
    if (!array) {
        *ret_no_memory = true;
        cursor->failed = true;
        *ret_count = 0;
    }
    return array;
}

static enum sp_status outcome(const struct sp_cursor *cursor, bool no_memory)
{
    return no_memory ? SP_NO_MEMORY : cursor->failed ? SP_CORRUPT : SP_OK;
}

static void write_slices(struct sp_slice_list list, struct sp_buf *buf)
{
    sp_buf_add_varint(buf, list.count);
    for (uint32_t i = 0; i < list.count; i++)
        sp_buf_add_bytes(buf, list.ptr[i]);
}

static struct sp_slice_list read_slices(struct sp_cursor *cursor, struct sp_arena *arena,
                                        bool *no_memory)
{
    struct sp_slice_list list = {0};
    list.ptr = read_array(cursor, arena, sizeof *list.ptr, &list.count, no_memory);
    for (uint32_t i = 0; i < list.count; i++)
        list.ptr[i] = sp_cursor_bytes(cursor);
    return list;
}

/* Spans as distances: from the last one's end to the first, then the length. */
static void write_spans(struct sp_span_list list, struct sp_buf *buf)
{
    uint64_t at = 0;
    sp_buf_add_varint(buf, list.count);
    for (uint32_t i = 0; i < list.count; i++) {
        sp_assert((i == 0 || list.ptr[i].first > at) && list.ptr[i].last >= list.ptr[i].first);
        sp_buf_add_varint(buf, list.ptr[i].first - at);
        sp_buf_add_varint(buf, list.ptr[i].last - list.ptr[i].first);
        at = list.ptr[i].last;
    }
}

static struct sp_span_list read_spans(struct sp_cursor *cursor, struct sp_arena *arena,
                                      bool *no_memory)
{
    struct sp_span_list list = {0};
    uint64_t at = 0;
    list.ptr = read_array(cursor, arena, sizeof *list.ptr, &list.count, no_memory);
    for (uint32_t i = 0; i < list.count && !cursor->failed; i++) {
        uint64_t skip = sp_cursor_varint(cursor), more = sp_cursor_varint(cursor);
        if (__builtin_add_overflow(at, skip, &list.ptr[i].first) ||
            __builtin_add_overflow(list.ptr[i].first, more, &list.ptr[i].last) || (i && skip == 0))
            cursor->failed = true;
        at = list.ptr[i].last;
    }
    return list;
}

static void read_digest(struct sp_cursor *cursor, struct sp_digest *ret_digest)
{
    struct sp_slice bytes = sp_cursor_take(cursor, SP_DIGEST_BYTES);
    if (bytes.len)
        memcpy(ret_digest->bytes, bytes.ptr, SP_DIGEST_BYTES);
}

static void read_uuid(struct sp_cursor *cursor, struct sp_uuid *ret_uuid)
{
    struct sp_slice bytes = sp_cursor_take(cursor, 16);
    if (bytes.len)
        memcpy(ret_uuid->bytes, bytes.ptr, 16);
}

void sp_body_head_write(const struct sp_body_head *head, uint8_t ret_head[SP_BODY_HEAD_BYTES])
{
    memset(ret_head, 0, SP_BODY_HEAD_BYTES);
    ret_head[0] = head->codec;
    ret_head[1] = head->cipher;
    sp_put_u64(ret_head + 8, head->raw_bytes);
    memcpy(ret_head + 16, head->digest.bytes, SP_DIGEST_BYTES);
}

enum sp_status sp_body_head_read(struct sp_slice payload, struct sp_body_head *ret_head)
{
    if (payload.len < SP_BODY_HEAD_BYTES)
        return SP_CORRUPT;
    if (payload.ptr[0] > SP_CODEC_ZSTD || payload.ptr[1] != 0)
        return SP_UNSUPPORTED;
    ret_head->codec = payload.ptr[0];
    ret_head->cipher = payload.ptr[1];
    ret_head->raw_bytes = sp_get_u64(payload.ptr + 8);
    memcpy(ret_head->digest.bytes, payload.ptr + 16, SP_DIGEST_BYTES);
    return SP_OK;
}

void sp_message_write(const struct sp_message *m, struct sp_buf *buf)
{
    sp_buf_add_u32(buf, m->uid);
    sp_buf_add_u32(buf, m->uidvalidity);
    sp_buf_add_u64(buf, m->modseq);
    sp_buf_add_u64(buf, (uint64_t)m->date_s);
    sp_buf_add_u16(buf, (uint16_t)m->zone_min);
    sp_buf_add_byte(buf, m->origin);
    sp_buf_add_byte(buf, 0); /* cipher of the wrapped key, reserved */
    sp_buf_add_u32(buf, m->system_flags);
    sp_buf_add_u32(buf, m->header_bytes);
    sp_buf_add_u64(buf, m->size);
    sp_buf_add(buf, sp_slice(m->digest.bytes, SP_DIGEST_BYTES));
    sp_buf_add_varint(buf, m->bodies.count);
    for (uint32_t i = 0; i < m->bodies.count; i++)
        sp_buf_add_varint(buf, m->bodies.ptr[i]);
    write_slices(m->keywords, buf);
    sp_buf_add_bytes(buf, m->origin_id);
    sp_buf_add_bytes(buf, m->wrapped_key);
    sp_buf_add_bytes(buf, m->address);
    sp_buf_add_bytes(buf, m->path);
    sp_buf_add_bytes(buf, m->parts);
    sp_buf_add_bytes(buf, m->envelope);
    sp_buf_add_bytes(buf, m->bodystructure);
}

enum sp_status sp_message_read(struct sp_slice payload, struct sp_arena *arena,
                               struct sp_message *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    struct sp_message m = {0};
    bool no_memory = false;
    m.uid = sp_cursor_u32(&c);
    m.uidvalidity = sp_cursor_u32(&c);
    m.modseq = sp_cursor_u64(&c);
    m.date_s = (int64_t)sp_cursor_u64(&c);
    m.zone_min = (int16_t)sp_cursor_u16(&c);
    m.origin = sp_cursor_u8(&c);
    sp_cursor_u8(&c);
    m.system_flags = sp_cursor_u32(&c);
    m.header_bytes = sp_cursor_u32(&c);
    m.size = sp_cursor_u64(&c);
    read_digest(&c, &m.digest);
    m.bodies.ptr = read_array(&c, arena, sizeof *m.bodies.ptr, &m.bodies.count, &no_memory);
    for (uint32_t i = 0; i < m.bodies.count; i++)
        m.bodies.ptr[i] = sp_cursor_varint(&c);
    m.keywords = read_slices(&c, arena, &no_memory);
    m.origin_id = sp_cursor_bytes(&c);
    m.wrapped_key = sp_cursor_bytes(&c);
    m.address = sp_cursor_bytes(&c);
    m.path = sp_cursor_bytes(&c);
    m.parts = sp_cursor_bytes(&c);
    m.envelope = sp_cursor_bytes(&c);
    m.bodystructure = sp_cursor_bytes(&c);
    if (m.uid == 0 || m.header_bytes > m.size)
        c.failed = true;
    enum sp_status status = outcome(&c, no_memory);
    if (status == SP_OK)
        *ret = m;
    return status;
}

void sp_flags_change_write(const struct sp_flags_change *change, struct sp_buf *buf)
{
    sp_buf_add_u64(buf, change->modseq);
    sp_buf_add_byte(buf, change->op);
    sp_buf_add_u32(buf, change->system_flags);
    write_slices(change->keywords, buf);
    write_spans(change->uids, buf);
}

enum sp_status sp_flags_change_read(struct sp_slice payload, struct sp_arena *arena,
                                    struct sp_flags_change *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    bool no_memory = false;
    struct sp_flags_change change = {.modseq = sp_cursor_u64(&c)};
    change.op = sp_cursor_u8(&c);
    change.system_flags = sp_cursor_u32(&c);
    change.keywords = read_slices(&c, arena, &no_memory);
    change.uids = read_spans(&c, arena, &no_memory);
    if (change.op > SP_FLAGS_REPLACE)
        c.failed = true;
    enum sp_status status = outcome(&c, no_memory);
    if (status == SP_OK)
        *ret = change;
    return status;
}

void sp_expunge_write(const struct sp_expunge *expunge, struct sp_buf *buf)
{
    sp_buf_add_u64(buf, expunge->modseq);
    write_spans(expunge->uids, buf);
}

enum sp_status sp_expunge_read(struct sp_slice payload, struct sp_arena *arena,
                               struct sp_expunge *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    bool no_memory = false;
    struct sp_expunge expunge = {.modseq = sp_cursor_u64(&c)};
    expunge.uids = read_spans(&c, arena, &no_memory);
    enum sp_status status = outcome(&c, no_memory);
    if (status == SP_OK)
        *ret = expunge;
    return status;
}

void sp_catalogue_write(const struct sp_catalogue *k, struct sp_buf *buf)
{
    sp_buf_add_byte(buf, k->base);
    sp_buf_add_u32(buf, k->uidvalidity);
    sp_buf_add_u32(buf, k->uidnext);
    sp_buf_add_u64(buf, k->highestmodseq);
    sp_buf_add_u32(buf, k->messages);
    sp_buf_add_bytes(buf, k->path);
    write_spans(k->present, buf);
    write_spans(k->gone, buf);
}

enum sp_status sp_catalogue_read(struct sp_slice payload, struct sp_arena *arena,
                                 struct sp_catalogue *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    bool no_memory = false;
    struct sp_catalogue k = {.base = sp_cursor_u8(&c) != 0};
    k.uidvalidity = sp_cursor_u32(&c);
    k.uidnext = sp_cursor_u32(&c);
    k.highestmodseq = sp_cursor_u64(&c);
    k.messages = sp_cursor_u32(&c);
    k.path = sp_cursor_bytes(&c);
    k.present = read_spans(&c, arena, &no_memory);
    k.gone = read_spans(&c, arena, &no_memory);
    enum sp_status status = outcome(&c, no_memory);
    if (status == SP_OK)
        *ret = k;
    return status;
}

/* A field that older writers did not write; absent, it is 0. */
static uint64_t later_count(struct sp_cursor *c, uint64_t max)
{
    return c->rest.len ? sp_cursor_count(c, max) : 0;
}

void sp_mailbox_record_write(const struct sp_mailbox_record *m, struct sp_buf *buf)
{
    sp_buf_add_u32(buf, m->id);
    sp_buf_add_u32(buf, m->uidvalidity);
    sp_buf_add_u64(buf, m->modseq);
    sp_buf_add_u32(buf, m->special_use);
    sp_buf_add_bytes(buf, m->path);
    sp_buf_add_bytes(buf, m->old_path);
    sp_buf_add_varint(buf, m->lead);
}

enum sp_status sp_mailbox_record_read(struct sp_slice payload, struct sp_mailbox_record *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    struct sp_mailbox_record m = {.id = sp_cursor_u32(&c)};
    m.uidvalidity = sp_cursor_u32(&c);
    m.modseq = sp_cursor_u64(&c);
    m.special_use = sp_cursor_u32(&c);
    m.path = sp_cursor_bytes(&c);
    m.old_path = sp_cursor_bytes(&c);
    m.lead = (uint32_t)later_count(&c, UINT32_MAX);
    if (c.failed || m.id == 0 || m.path.len == 0)
        return SP_CORRUPT;
    *ret = m;
    return SP_OK;
}

void sp_subscribe_write(const struct sp_subscribe *subscribe, struct sp_buf *buf)
{
    sp_buf_add_byte(buf, subscribe->subscribed);
    sp_buf_add_bytes(buf, subscribe->path);
}

enum sp_status sp_subscribe_read(struct sp_slice payload, struct sp_subscribe *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    struct sp_subscribe s = {.subscribed = sp_cursor_u8(&c) != 0};
    s.path = sp_cursor_bytes(&c);
    if (c.failed || s.path.len == 0)
        return SP_CORRUPT;
    *ret = s;
    return SP_OK;
}

#define ACL_NEGATIVE 1U
#define ACL_MERGED   2U

void sp_acl_record_write(const struct sp_acl_record *acl, struct sp_buf *buf)
{
    sp_buf_add_u32(buf, acl->mailbox);
    sp_buf_add(buf, sp_slice(acl->grantee.bytes, 16));
    sp_buf_add_byte(buf,
                    (uint8_t)((acl->negative ? ACL_NEGATIVE : 0) | (acl->merged ? ACL_MERGED : 0)));
    sp_buf_add_u32(buf, acl->rights);
    sp_buf_add_bytes(buf, acl->address);
}

enum sp_status sp_acl_record_read(struct sp_slice payload, struct sp_acl_record *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    struct sp_acl_record acl = {.mailbox = sp_cursor_u32(&c)};
    read_uuid(&c, &acl.grantee);
    uint8_t flags = sp_cursor_u8(&c);
    acl.negative = flags & ACL_NEGATIVE;
    acl.merged = flags & ACL_MERGED;
    acl.rights = sp_cursor_u32(&c);
    acl.address = sp_cursor_bytes(&c);
    if (c.failed || acl.mailbox == 0)
        return SP_CORRUPT;
    *ret = acl;
    return SP_OK;
}

void sp_credential_write(const struct sp_credential *credential, struct sp_buf *buf)
{
    sp_buf_add_bytes(buf, credential->argon2id);
    sp_buf_add_u32(buf, credential->scram_iterations);
    sp_buf_add_bytes(buf, credential->scram_salt);
    sp_buf_add_bytes(buf, credential->scram_stored_key);
    sp_buf_add_bytes(buf, credential->scram_server_key);
}

enum sp_status sp_credential_read(struct sp_slice payload, struct sp_credential *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    struct sp_credential credential = {.argon2id = sp_cursor_bytes(&c)};
    credential.scram_iterations = sp_cursor_u32(&c);
    credential.scram_salt = sp_cursor_bytes(&c);
    credential.scram_stored_key = sp_cursor_bytes(&c);
    credential.scram_server_key = sp_cursor_bytes(&c);
    if (c.failed)
        return SP_CORRUPT;
    *ret = credential;
    return SP_OK;
}

void sp_account_record_write(const struct sp_account_record *account, struct sp_buf *buf)
{
    sp_buf_add(buf, sp_slice(account->id.bytes, 16));
    sp_buf_add_bytes(buf, account->address);
    sp_buf_add_varint(buf, account->merged);
}

enum sp_status sp_account_record_read(struct sp_slice payload, struct sp_account_record *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    struct sp_account_record account = {0};
    read_uuid(&c, &account.id);
    account.address = sp_cursor_bytes(&c);
    account.merged = later_count(&c, UINT32_MAX) & 1;
    if (c.failed || sp_uuid_is_nil(&account.id) || account.address.len == 0)
        return SP_CORRUPT;
    *ret = account;
    return SP_OK;
}

void sp_domain_record_write(const struct sp_domain_record *domain, struct sp_buf *buf)
{
    sp_buf_add_bytes(buf, domain->name);
}

enum sp_status sp_domain_record_read(struct sp_slice payload, struct sp_domain_record *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    struct sp_slice name = sp_cursor_bytes(&c);
    if (c.failed || name.len == 0)
        return SP_CORRUPT;
    ret->name = name;
    return SP_OK;
}

static void write_segments(const struct sp_manifest_segment *list, uint32_t count,
                           struct sp_buf *buf)
{
    sp_buf_add_varint(buf, count);
    for (uint32_t i = 0; i < count; i++) {
        sp_buf_add_varint(buf, list[i].segment);
        sp_buf_add_varint(buf, list[i].generation);
        sp_buf_add_varint(buf, list[i].blocks);
        sp_buf_add_varint(buf, list[i].first_lsn);
        sp_buf_add_varint(buf, list[i].last_lsn);
        sp_buf_add(buf, sp_slice(list[i].digest.bytes, SP_DIGEST_BYTES));
    }
}

static struct sp_manifest_segment *read_segments(struct sp_cursor *c, struct sp_arena *arena,
                                                 uint32_t *ret_count, bool *no_memory)
{
    struct sp_manifest_segment *list = read_array(c, arena, sizeof *list, ret_count, no_memory);
    for (uint32_t i = 0; i < *ret_count; i++) {
        list[i].segment = sp_cursor_varint(c);
        list[i].generation = (uint32_t)sp_cursor_count(c, UINT32_MAX);
        list[i].blocks = (uint32_t)sp_cursor_count(c, UINT32_MAX);
        list[i].first_lsn = sp_cursor_varint(c);
        list[i].last_lsn = sp_cursor_varint(c);
        read_digest(c, &list[i].digest);
    }
    return list;
}

void sp_manifest_write(const struct sp_manifest *manifest, struct sp_buf *buf)
{
    sp_buf_add_byte(buf, manifest->base);
    write_segments(manifest->live, manifest->live_count, buf);
    write_segments(manifest->retired, manifest->retired_count, buf);
    sp_buf_add_varint(buf, manifest->erased_count);
    for (uint32_t i = 0; i < manifest->erased_count; i++)
        sp_buf_add(buf, sp_slice(manifest->erased[i].bytes, 16));
}

enum sp_status sp_manifest_read(struct sp_slice payload, struct sp_arena *arena,
                                struct sp_manifest *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    bool no_memory = false;
    struct sp_manifest manifest = {.base = sp_cursor_u8(&c) != 0};
    manifest.live = read_segments(&c, arena, &manifest.live_count, &no_memory);
    manifest.retired = read_segments(&c, arena, &manifest.retired_count, &no_memory);
    manifest.erased =
        read_array(&c, arena, sizeof *manifest.erased, &manifest.erased_count, &no_memory);
    for (uint32_t i = 0; i < manifest.erased_count; i++)
        read_uuid(&c, &manifest.erased[i]);
    enum sp_status status = outcome(&c, no_memory);
    if (status == SP_OK)
        *ret = manifest;
    return status;
}

void sp_gap_write(const struct sp_gap *gap, struct sp_buf *buf)
{
    sp_buf_add_varint(buf, gap->modseq_skip);
    sp_buf_add_varint(buf, gap->uidnext_skip);
    sp_buf_add_bytes(buf, gap->reason);
    write_spans(gap->lsns, buf);
    sp_buf_add_varint(buf, gap->protects);
}

enum sp_status sp_gap_read(struct sp_slice payload, struct sp_arena *arena, struct sp_gap *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    bool no_memory = false;
    struct sp_gap gap = {.modseq_skip = sp_cursor_varint(&c)};
    gap.uidnext_skip = (uint32_t)sp_cursor_count(&c, UINT32_MAX);
    gap.reason = sp_cursor_bytes(&c);
    gap.lsns = read_spans(&c, arena, &no_memory);
    gap.protects = later_count(&c, UINT32_MAX) & 1;
    enum sp_status status = outcome(&c, no_memory);
    if (status == SP_OK)
        *ret = gap;
    return status;
}

#define TAILS_BEGINS 1U
#define TAILS_ENDS   2U

void sp_tails_write(const struct sp_tails *tails, struct sp_buf *buf)
{
    sp_buf_add_byte(buf,
                    (uint8_t)((tails->begins ? TAILS_BEGINS : 0) | (tails->ends ? TAILS_ENDS : 0)));
    sp_buf_add_varint(buf, tails->count);
    for (uint32_t i = 0; i < tails->count; i++) {
        const struct sp_tail *tail = &tails->list[i];
        sp_buf_add(buf, sp_slice(tail->account.bytes, 16));
        sp_buf_add_varint(buf, tail->mailbox);
        sp_buf_add_varint(buf, tail->lsn);
        sp_buf_add_varint(buf, tail->uidnext);
        sp_buf_add_varint(buf, tail->messages);
    }
}

enum sp_status sp_tails_read(struct sp_slice payload, struct sp_arena *arena, struct sp_tails *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    bool no_memory = false;
    uint8_t part = sp_cursor_u8(&c);
    struct sp_tails tails = {.begins = part & TAILS_BEGINS, .ends = part & TAILS_ENDS};
    tails.list = read_array(&c, arena, sizeof *tails.list, &tails.count, &no_memory);
    for (uint32_t i = 0; i < tails.count; i++) {
        struct sp_tail *tail = &tails.list[i];
        read_uuid(&c, &tail->account);
        tail->mailbox = (uint32_t)sp_cursor_count(&c, UINT32_MAX);
        tail->lsn = sp_cursor_varint(&c);
        tail->uidnext = (uint32_t)sp_cursor_count(&c, UINT32_MAX);
        tail->messages = (uint32_t)sp_cursor_count(&c, UINT32_MAX);
    }
    enum sp_status status = outcome(&c, no_memory);
    if (status == SP_OK)
        *ret = tails;
    return status;
}

void sp_guard_record_write(const struct sp_guard_record *guard, struct sp_buf *buf)
{
    sp_buf_add(buf, sp_slice(guard->id.bytes, 16));
    sp_buf_add_byte(buf, guard->event);
    sp_buf_add_byte(buf, guard->operation);
    sp_buf_add_byte(buf, guard->approvals);
    sp_buf_add_byte(buf, 0);
    sp_buf_add_u32(buf, guard->uid);
    sp_buf_add_u64(buf, guard->cooling_ms);
    sp_buf_add_u64(buf, guard->waited_ms);
    sp_buf_add(buf, sp_slice(guard->subject_id.bytes, 16));
    sp_buf_add_bytes(buf, guard->who);
    sp_buf_add_bytes(buf, guard->subject);
    sp_buf_add_bytes(buf, guard->text);
}

enum sp_status sp_guard_record_read(struct sp_slice payload, struct sp_guard_record *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    struct sp_guard_record guard = {0};
    read_uuid(&c, &guard.id);
    guard.event = sp_cursor_u8(&c);
    guard.operation = sp_cursor_u8(&c);
    guard.approvals = sp_cursor_u8(&c);
    sp_cursor_u8(&c);
    guard.uid = sp_cursor_u32(&c);
    guard.cooling_ms = sp_cursor_u64(&c);
    guard.waited_ms = sp_cursor_u64(&c);
    read_uuid(&c, &guard.subject_id);
    guard.who = sp_cursor_bytes(&c);
    guard.subject = sp_cursor_bytes(&c);
    guard.text = sp_cursor_bytes(&c);
    if (c.failed || guard.event == 0 || guard.operation == 0)
        return SP_CORRUPT;
    *ret = guard;
    return SP_OK;
}

void sp_merge_record_write(const struct sp_merge_record *merge, struct sp_buf *buf)
{
    sp_buf_add_u64(buf, merge->gap);
    sp_buf_add(buf, sp_slice(merge->unit.bytes, 16));
    sp_buf_add_u64(buf, merge->branch);
    sp_buf_add_u64(buf, merge->epoch_id);
    sp_buf_add_u32(buf, merge->epoch_counter);
    sp_buf_add_u64(buf, merge->lsn);
    sp_buf_add_byte(buf, merge->complete);
}

enum sp_status sp_merge_record_read(struct sp_slice payload, struct sp_merge_record *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    struct sp_merge_record merge = {.gap = sp_cursor_u64(&c)};
    read_uuid(&c, &merge.unit);
    merge.branch = sp_cursor_u64(&c);
    merge.epoch_id = sp_cursor_u64(&c);
    merge.epoch_counter = sp_cursor_u32(&c);
    merge.lsn = sp_cursor_u64(&c);
    merge.complete = sp_cursor_u8(&c) & 1;
    if (c.failed || merge.gap == 0)
        return SP_CORRUPT;
    *ret = merge;
    return SP_OK;
}
void sp_undelete_origin_write(const struct sp_undelete_origin *origin,
                              uint8_t ret_bytes[SP_UNDELETE_ORIGIN_BYTES])
{
    sp_put_u32(ret_bytes, origin->mailbox);
    sp_put_u32(ret_bytes + 4, origin->uid);
}

enum sp_status sp_undelete_origin_read(struct sp_slice origin_id, struct sp_undelete_origin *ret)
{
    if (origin_id.len < SP_UNDELETE_ORIGIN_BYTES)
        return SP_CORRUPT;
    *ret = (struct sp_undelete_origin){sp_get_u32(origin_id.ptr), sp_get_u32(origin_id.ptr + 4)};
    return SP_OK;
}

void sp_dropped_write(const struct sp_dropped *dropped, struct sp_buf *buf)
{
    sp_buf_add_u64(buf, dropped->modseq);
    sp_buf_add_u32(buf, dropped->uidnext);
    write_spans(dropped->uids, buf);
    write_spans(dropped->lsns, buf);
}

enum sp_status sp_dropped_read(struct sp_slice payload, struct sp_arena *arena,
                               struct sp_dropped *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    bool no_memory = false;
    struct sp_dropped dropped = {.modseq = sp_cursor_u64(&c)};
    dropped.uidnext = sp_cursor_u32(&c);
    dropped.uids = read_spans(&c, arena, &no_memory);
    dropped.lsns = read_spans(&c, arena, &no_memory);
    enum sp_status status = outcome(&c, no_memory);
    if (status == SP_OK)
        *ret = dropped;
    return status;
}

void sp_clock_record_write(const struct sp_clock_record *clock, struct sp_buf *buf)
{
    sp_buf_add_u64(buf, clock->elapsed_ms);
}

enum sp_status sp_clock_record_read(struct sp_slice payload, struct sp_clock_record *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    uint64_t elapsed_ms = sp_cursor_u64(&c);
    if (c.failed)
        return SP_CORRUPT;
    ret->elapsed_ms = elapsed_ms;
    return SP_OK;
}

void sp_erase_write(const struct sp_erase *erase, struct sp_buf *buf)
{
    sp_buf_add(buf, sp_slice(erase->account.bytes, 16));
    sp_buf_add_u32(buf, erase->mailbox);
    write_spans(erase->uids, buf);
    sp_buf_add_bytes(buf, erase->who);
    sp_buf_add_bytes(buf, erase->why);
}

enum sp_status sp_erase_read(struct sp_slice payload, struct sp_arena *arena, struct sp_erase *ret)
{
    struct sp_cursor c = sp_cursor(payload);
    bool no_memory = false;
    struct sp_erase erase = {0};
    read_uuid(&c, &erase.account);
    erase.mailbox = sp_cursor_u32(&c);
    erase.uids = read_spans(&c, arena, &no_memory);
    erase.who = sp_cursor_bytes(&c);
    erase.why = sp_cursor_bytes(&c);
    enum sp_status status = outcome(&c, no_memory);
    if (status == SP_OK && sp_uuid_is_nil(&erase.account))
        status = SP_CORRUPT;
    if (status == SP_OK)
        *ret = erase;
    return status;
}
