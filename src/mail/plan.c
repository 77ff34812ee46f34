#include "mail/plan.h"

static bool keep(struct sp_arena *arena, struct sp_slice *slice)
{
    *slice = sp_arena_copy(arena, *slice);
    return slice->ptr || !slice->len;
}

enum sp_status sp_plan_keep_mailbox(struct sp_plan *plan, struct sp_mailbox *mailbox)
{
    struct sp_arena *arena = sp_plan_arena(plan);
    bool kept = keep(arena, &mailbox->path);
    for (uint32_t i = 0; kept && i < mailbox->row.keywords_count; i++)
        kept = keep(arena, &mailbox->keywords[i]);
    return kept ? SP_OK : SP_NO_MEMORY;
}

/* ---- Keywords ---- */

void sp_keywords_init(struct sp_keywords *keywords, const struct sp_mailbox *mailbox)
{
    keywords->count = mailbox->row.keywords_count;
    for (uint32_t i = 0; i < keywords->count; i++)
        keywords->names[i] = mailbox->keywords[i];
}

unsigned sp_keywords_find(const struct sp_keywords *keywords, struct sp_slice name)
{
    for (uint32_t i = 0; i < keywords->count; i++)
        if (sp_slice_eq_nocase(keywords->names[i], name))
            return SP_FLAG_KEYWORD_0 + i;
    return 0;
}

unsigned sp_keywords_add(struct sp_keywords *keywords, struct sp_slice name)
{
    unsigned bit = sp_keywords_find(keywords, name);
    if (bit || keywords->count == SP_KEYWORDS_MAX)
        return bit;
    keywords->names[keywords->count] = name;
    return SP_FLAG_KEYWORD_0 + keywords->count++;
}

/* flag-keyword is an atom (RFC 3501, 9). */
static bool is_keyword(struct sp_slice name)
{
    if (!name.len || name.len > SP_KEYWORD_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] <= ' ' || name.ptr[i] >= 0x7f || strchr("(){%*\"\\]", name.ptr[i]))
            return false;
    return true;
}

enum sp_status sp_keywords_add_set(struct sp_keywords *keywords, const struct sp_flag_set *set,
                                   uint64_t *ret_flags)
{
    uint64_t flags = set->system & SP_FLAG_SYSTEM;
    enum sp_status status = SP_OK;
    for (uint32_t i = 0; i < set->keywords_count; i++) {
        if (!is_keyword(set->keywords[i]))
            return SP_INVALID;
        unsigned bit = sp_keywords_add(keywords, set->keywords[i]);
        if (bit)
            flags |= 1ULL << bit;
        else
            status = SP_LIMIT;
    }
    *ret_flags = flags;
    return status;
}

bool sp_keywords_names(const struct sp_keywords *keywords, uint64_t flags, struct sp_arena *arena,
                       struct sp_slice_list *ret_names)
{
    uint64_t bits = flags >> SP_FLAG_KEYWORD_0;
    struct sp_slice_list names = {0};
    if (bits) {
        names.ptr = sp_arena_array(arena, (size_t)__builtin_popcountll(bits), sizeof *names.ptr);
        if (!names.ptr)
            return false;
        for (uint32_t i = 0; i < keywords->count; i++)
            if (bits >> i & 1)
                names.ptr[names.count++] = keywords->names[i];
    }
    *ret_names = names;
    return true;
}

/* ---- Records ---- */

enum sp_status sp_plan_next_modseq(struct sp_plan *plan, const struct sp_uuid *id,
                                   uint64_t *ret_modseq)
{
    struct sp_account account;
    enum sp_status status = sp_index_account(sp_plan_read(plan), id, &account);
    if (status == SP_OK)
        *ret_modseq = account.row.modseq + 1;
    return status;
}

static enum sp_status emit(struct sp_plan *plan, enum sp_record_type type,
                           const struct sp_uuid *account, uint32_t mailbox,
                           const struct sp_buf *payload)
{
    uint64_t lsn;
    if (sp_buf_failed(payload))
        return SP_NO_MEMORY;
    return sp_plan_emit(plan, type, account, mailbox, sp_buf_slice(payload), &lsn);
}

enum sp_status sp_plan_emit_message(struct sp_plan *plan, const struct sp_mailbox *mailbox,
                                    const struct sp_message *message)
{
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_message_write(message, buf);
    return emit(plan, SP_RECORD_MESSAGE, &mailbox->account, mailbox->row.id, buf);
}

enum sp_status sp_plan_emit_expunge(struct sp_plan *plan, const struct sp_mailbox *mailbox,
                                    uint64_t modseq, struct sp_span_list uids)
{
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_expunge_write(&(struct sp_expunge){modseq, uids}, buf);
    return emit(plan, SP_RECORD_EXPUNGE, &mailbox->account, mailbox->row.id, buf);
}

/* The time is a floor, so that no UIDVALIDITY returns even if the account is made anew. */
static uint32_t new_uidvalidity(const struct sp_plan *plan, const struct sp_account_row *row)
{
    uint64_t now_s = sp_plan_time_ns(plan) / 1000000000U;
    uint32_t floor = now_s < UINT32_MAX ? (uint32_t)now_s : 1;
    return row->uidvalidity_next > floor ? row->uidvalidity_next : floor;
}

enum sp_status sp_plan_create_mailbox(struct sp_plan *plan, const struct sp_uuid *id,
                                      struct sp_slice path, uint32_t special_use,
                                      struct sp_mailbox *ret_mailbox)
{
    struct sp_read *read = sp_plan_read(plan);
    struct sp_account account;
    enum sp_status status = sp_index_account(read, id, &account);
    if (status)
        return status;
    struct sp_mailbox_record record = {.id =
                                           account.row.mailbox_next ? account.row.mailbox_next : 1,
                                       .uidvalidity = new_uidvalidity(plan, &account.row),
                                       .modseq = account.row.modseq + 1,
                                       .special_use = special_use,
                                       .path = path};
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_mailbox_record_write(&record, buf);
    status = emit(plan, SP_RECORD_MAILBOX, id, 0, buf);
    if (status == SP_OK)
        status = sp_index_mailbox(read, id, record.id, ret_mailbox);
    return status ? status : sp_plan_keep_mailbox(plan, ret_mailbox);
}
