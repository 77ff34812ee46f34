/* The keys of SORT and THREAD (RFC 5256), out of a message. */
#include "mail/match.h"
#include "mail/search.h"

void sp_sort_maker_init(struct sp_sort_maker *maker)
{
    sp_buf_init(&maker->decoded, SP_MATCH_TEXT_MAX);
    sp_buf_init(&maker->base, SP_MATCH_TEXT_MAX);
    sp_buf_init(&maker->folded, 4 * SP_MATCH_TEXT_MAX);
    maker->doubtful = false;
}

void sp_sort_maker_release(struct sp_sort_maker *maker)
{
    sp_buf_release(&maker->decoded);
    sp_buf_release(&maker->base);
    sp_buf_release(&maker->folded);
}

/* False: no memory. */
static bool keep_folded(struct sp_sort_maker *maker, struct sp_arena *arena, struct sp_slice utf8,
                        struct sp_slice *ret)
{
    sp_buf_reset(&maker->folded);
    sp_mime_fold(utf8, &maker->folded);
    maker->doubtful = maker->doubtful || sp_buf_failed(&maker->folded);
    *ret = sp_arena_copy(arena, sp_buf_slice(&maker->folded));
    return ret->ptr || !maker->folded.len;
}

static struct sp_slice decode(struct sp_sort_maker *maker, struct sp_slice raw)
{
    if (sp_is_ascii(raw) && (raw.len < 2 || !memmem(raw.ptr, raw.len, "=?", 2)))
        return raw;
    sp_buf_reset(&maker->decoded);
    sp_mime_decode_header(raw, &maker->decoded);
    maker->doubtful = maker->doubtful || sp_buf_failed(&maker->decoded);
    return sp_buf_slice(&maker->decoded);
}

static bool keep_subject(struct sp_sort_maker *maker, struct sp_arena *arena, struct sp_slice raw,
                         struct sp_sort_entry *entry)
{
    sp_buf_reset(&maker->base);
    sp_mime_base_subject(decode(maker, raw), &maker->base, &entry->reply);
    maker->doubtful = maker->doubtful || sp_buf_failed(&maker->base);
    return keep_folded(maker, arena, sp_buf_slice(&maker->base), &entry->subject);
}

static bool keep_address(struct sp_sort_maker *maker, struct sp_arena *arena,
                         const struct sp_mime_address *list, uint32_t count, struct sp_slice *ret)
{
    return !count || keep_folded(maker, arena, decode(maker, list[0].mailbox), ret);
}

/* RFC 5957, 3: the name, that of a group too; without one the address. */
static bool keep_display(struct sp_sort_maker *maker, struct sp_arena *arena,
                         const struct sp_mime_address *list, uint32_t count, struct sp_slice *ret)
{
    struct sp_slice shown = count ? list[0].name : (struct sp_slice){0};
    if (count && !shown.len) {
        sp_buf_reset(&maker->base);
        sp_buf_add(&maker->base, list[0].mailbox);
        if (list[0].host.len) {
            sp_buf_add_byte(&maker->base, '@');
            sp_buf_add(&maker->base, list[0].host);
        }
        shown = sp_buf_slice(&maker->base);
    }
    return !shown.len || keep_folded(maker, arena, decode(maker, shown), ret);
}

/* The next <id> of a field, without its brackets; false: no more. */
static bool next_id(struct sp_slice *field, struct sp_slice *ret_id)
{
    for (;;) {
        size_t open = sp_slice_find(*field, '<');
        if (open == SIZE_MAX)
            return false;
        *field = sp_slice_from(*field, open + 1);
        size_t close = sp_slice_find(*field, '>');
        if (close == SIZE_MAX)
            return false;
        *ret_id = sp_slice_trim(sp_slice_sub(*field, 0, close));
        *field = sp_slice_from(*field, close + 1);
        if (ret_id->len)
            return true;
    }
}

/* The hashes of the last SP_SORT_IDS_MAX ids of a field. */
static bool keep_ids(struct sp_arena *arena, struct sp_slice field, struct sp_slice *ret)
{
    struct sp_slice rest = field, id;
    uint32_t count = 0;
    while (next_id(&rest, &id))
        count++;
    uint32_t skipped = count > SP_SORT_IDS_MAX ? count - SP_SORT_IDS_MAX : 0;
    size_t len = (size_t)(count - skipped) * SP_SORT_ID_BYTES;
    uint8_t *at = len ? sp_arena_alloc(arena, len) : NULL;
    *ret = sp_slice(at, at ? len : 0);
    for (uint32_t i = 0; at && i < count && next_id(&field, &id); i++) {
        if (i < skipped)
            continue;
        crypto_generichash(at, SP_SORT_ID_BYTES, id.ptr, id.len, NULL, 0);
        at += SP_SORT_ID_BYTES;
    }
    return !len || ret->ptr;
}

enum sp_status sp_sort_make(struct sp_sort_maker *maker, const struct sp_message *message,
                            unsigned need, struct sp_arena *scratch, struct sp_arena *arena,
                            struct sp_sort_entry *entry)
{
    struct sp_mime_envelope_wire envelope;
    int64_t sent;
    int zone;
    bool kept = true;
    maker->doubtful = false;
    entry->arrival = entry->sent = message->date_s;
    entry->size = message->size;
    if (!need)
        return SP_OK;
    enum sp_status status = need & (SP_NEED_ADDRESSES | SP_NEED_DISPLAY)
                                ? sp_mime_read_envelope(message->envelope, scratch, &envelope)
                                : sp_mime_read_envelope_text(message->envelope, scratch, &envelope);
    if (status)
        return status;
    if (need & SP_NEED_SENT && sp_mime_parse_date(envelope.date, &sent, &zone) == SP_OK)
        entry->sent = sent;
    if (need & SP_NEED_SUBJECT)
        kept = keep_subject(maker, arena, envelope.subject, entry);
    if (kept && need & SP_NEED_ADDRESSES)
        kept = keep_address(maker, arena, envelope.from, envelope.from_count, &entry->from) &&
               keep_address(maker, arena, envelope.to, envelope.to_count, &entry->to) &&
               keep_address(maker, arena, envelope.cc, envelope.cc_count, &entry->cc);
    if (kept && need & SP_NEED_DISPLAY)
        kept =
            keep_display(maker, arena, envelope.from, envelope.from_count, &entry->display_from) &&
            keep_display(maker, arena, envelope.to, envelope.to_count, &entry->display_to);
    if (kept && need & SP_NEED_REFERENCES) {
        struct sp_slice rest = envelope.message_id, first, id;
        size_t end = sp_slice_find(envelope.in_reply_to, '>'); /* only its first id counts */
        first = sp_slice_sub(envelope.in_reply_to, 0, end == SIZE_MAX ? 0 : end + 1);
        end = next_id(&rest, &id) ? envelope.message_id.len - rest.len : 0;
        kept = keep_ids(arena, sp_slice_sub(envelope.message_id, 0, end), &entry->id) &&
               keep_ids(arena, first, &entry->references);
    }
    return kept ? SP_OK : SP_NO_MEMORY;
}

enum sp_status sp_sort_make_references(struct sp_slice header, struct sp_arena *arena,
                                       struct sp_sort_entry *entry)
{
    struct sp_mime_field field;
    while (sp_mime_next_field(&header, &field)) {
        if (!sp_slice_eq_nocase(field.name, SP_S("References")) ||
            sp_slice_find(field.body, '<') == SIZE_MAX)
            continue;
        return keep_ids(arena, field.body, &entry->references) ? SP_OK : SP_NO_MEMORY;
    }
    return SP_OK;
}
