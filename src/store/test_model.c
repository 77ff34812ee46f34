#include "store/test_model.h"

#include <stdio.h>
#include <stdlib.h>

void model_body(uint32_t seed, uint32_t bytes, uint8_t *ret_body)
{
    uint32_t x = seed * 2654435761U + 1;
    for (uint32_t i = 0; i < bytes; i++) {
        x = x * 1664525U + 1013904223U;
        ret_body[i] = (uint8_t)(x >> 24);
    }
}

static enum sp_status make_account(struct sp_plan *plan, struct model *model)
{
    struct sp_buf *buf = sp_plan_buf(plan);
    struct sp_account_record account = {.id = model->account, .address = SP_S("user@example.com")};
    sp_account_record_write(&account, buf);
    enum sp_status status = sp_plan_emit(plan, SP_RECORD_ACCOUNT, NULL, 0, sp_buf_slice(buf), NULL);
    for (uint32_t i = 0; i < MODEL_MAILBOXES && status == SP_OK; i++) {
        char path[16];
        snprintf(path, sizeof path, "box%u", i);
        struct sp_mailbox_record mailbox = {
            .id = i + 1, .uidvalidity = 100 + i, .modseq = i + 1, .path = sp_slice_str(path)};
        buf = sp_plan_buf(plan);
        sp_mailbox_record_write(&mailbox, buf);
        status = sp_plan_emit(plan, SP_RECORD_MAILBOX, &model->account, 0, sp_buf_slice(buf), NULL);
    }
    return status;
}

static enum sp_status deliver(struct sp_plan *plan, struct model *model, struct step *step)
{
    struct sp_mailbox mailbox;
    struct sp_account account;
    enum sp_status status =
        sp_index_mailbox(sp_plan_read(plan), &model->account, step->mailbox + 1, &mailbox);
    if (status == SP_OK)
        status = sp_index_account(sp_plan_read(plan), &model->account, &account);
    if (status != SP_OK)
        return status;
    uint32_t uid = mailbox.row.uidnext, uidvalidity = mailbox.row.uidvalidity;
    uint64_t modseq = account.row.modseq + 1, body_lsn;
    struct sp_buf *buf = sp_plan_buf(plan);
    struct sp_body_head head = {.raw_bytes = step->body_bytes};
    uint8_t *at = sp_buf_extend(buf, SP_BODY_HEAD_BYTES);
    sp_assert(at);
    sp_body_head_write(&head, at);
    at = sp_buf_extend(buf, step->body_bytes);
    sp_assert(at);
    model_body(step->seed, step->body_bytes, at);
    status = sp_plan_emit(plan, SP_RECORD_BODY, NULL, 0, sp_buf_slice(buf), &body_lsn);
    if (status != SP_OK)
        return status;
    struct sp_message message = {.uid = uid,
                                 .uidvalidity = uidvalidity,
                                 .modseq = modseq,
                                 .size = step->body_bytes,
                                 .bodies = {&body_lsn, 1},
                                 .address = SP_S("user@example.com"),
                                 .path = SP_S("box"),
                                 .envelope = SP_S("(NIL)"),
                                 .bodystructure = SP_S("(\"text\" \"plain\")")};
    buf = sp_plan_buf(plan);
    sp_message_write(&message, buf);
    step->uid = uid;
    return sp_plan_emit(plan, SP_RECORD_MESSAGE, &model->account, step->mailbox + 1,
                        sp_buf_slice(buf), NULL);
}

static enum sp_status change(struct sp_plan *plan, struct model *model, struct step *step)
{
    struct sp_account account;
    struct sp_span span = {step->uid, step->uid};
    enum sp_status status = sp_index_account(sp_plan_read(plan), &model->account, &account);
    if (status != SP_OK)
        return status;
    struct sp_buf *buf = sp_plan_buf(plan);
    if (step->type == STEP_FLAGS) {
        struct sp_flags_change flags = {.modseq = account.row.modseq + 1,
                                        .op = SP_FLAGS_REPLACE,
                                        .system_flags = step->flags,
                                        .uids = {&span, 1}};
        sp_flags_change_write(&flags, buf);
        return sp_plan_emit(plan, SP_RECORD_FLAGS, &model->account, step->mailbox + 1,
                            sp_buf_slice(buf), NULL);
    }
    struct sp_expunge expunge = {.modseq = account.row.modseq + 1, .uids = {&span, 1}};
    sp_expunge_write(&expunge, buf);
    return sp_plan_emit(plan, SP_RECORD_EXPUNGE, &model->account, step->mailbox + 1,
                        sp_buf_slice(buf), NULL);
}

enum sp_status step_plan(struct sp_plan *plan, void *context)
{
    struct step_context *c = context;
    switch (c->step->type) {
    case STEP_ACCOUNT:
        return make_account(plan, c->model);
    case STEP_DELIVER:
        return deliver(plan, c->model, c->step);
    default:
        return change(plan, c->model, c->step);
    }
}

enum sp_status waiting_plan(struct sp_plan *plan, struct sp_commit *commit)
{
    return step_plan(plan, &((struct waiting *)commit)->context);
}

void waiting_done(struct sp_commit *commit, enum sp_status status, const char *why)
{
    struct waiting *w = (struct waiting *)commit;
    (void)why;
    w->status = status;
    w->answered = true;
}

uint32_t model_slot(uint32_t uid)
{
    uint32_t slot = uid >> 20 ? 384 + (uid >> 20) * 128 + (uid & 0xfffff) : uid;
    sp_assert(slot < MODEL_UIDS && (uid >> 20 ? (uid & 0xfffff) < 128 : uid < 512));
    return slot;
}

void step_done(struct model *model, const struct step *step)
{
    struct model_mailbox *mailbox = &model->mailboxes[step->mailbox];
    if (step->type == STEP_ACCOUNT) {
        model->account_made = true;
        return;
    }
    struct model_message *message = &mailbox->messages[model_slot(step->uid)];
    switch (step->type) {
    case STEP_DELIVER:
        sp_assert(message->state == MODEL_NONE &&
                  step->uid > mailbox->uid_highest); /* no UID twice */
        *message = (struct model_message){MODEL_PRESENT, step->seed, 0};
        mailbox->uid_highest = step->uid;
        break;
    /* Of a UID that is not there (its delivery was refused) nothing changes. */
    case STEP_FLAGS:
        if (message->state == MODEL_PRESENT)
            message->flags = step->flags;
        break;
    default:
        if (message->state == MODEL_PRESENT)
            message->state = MODEL_GONE;
        break;
    }
}

static void check_body(struct sp_volume *volume, struct sp_reader *reader,
                       const struct sp_body_row *row, uint32_t seed, uint64_t size)
{
    struct sp_slice bytes;
    struct sp_error error = {0};
    uint8_t *expected = malloc(size);
    (void)volume;
    enum sp_status status = sp_reader_body(reader, row, UINT64_MAX, &bytes, &error);
    if (status != SP_OK)
        sp_error_print(&error);
    sp_assert(status == SP_OK && bytes.len == size);
    model_body(seed, (uint32_t)size, expected);
    sp_assert(memcmp(expected, bytes.ptr, size) == 0);
    free(expected);
}

struct found {
    uint32_t flags, uid;
    bool there;
};

/* Whether the volume shows exactly what the model says of one mailbox. */
static bool mailbox_agrees(const struct found *found, const struct model_mailbox *mailbox)
{
    for (uint32_t uid = 1; uid < MODEL_UIDS; uid++) {
        const struct model_message *m = &mailbox->messages[uid];
        if (found[uid].there != (m->state == MODEL_PRESENT) ||
            (found[uid].there && found[uid].flags != m->flags))
            return false;
    }
    return true;
}

void model_check(struct sp_volume *volume, struct model *model, const struct step *maybe,
                 uint32_t maybe_count)
{
    struct sp_read read;
    struct sp_account account;
    struct sp_arena arena;
    static struct found found[MODEL_MAILBOXES][MODEL_UIDS];
    sp_assert(sp_read_begin(sp_volume_index(volume), &read) == SP_OK);
    struct sp_reader *reader = sp_reader_new(volume);
    enum sp_status status = sp_index_account(&read, &model->account, &account);
    sp_assert(status == SP_OK || (status == SP_NOT_FOUND && !model->account_made));
    bool here = status == SP_OK;
    sp_assert(!here || !account.row.protected_ == !model->protected_);

    /* The steps of one batch come together or not at all. */
    memset(found, 0, sizeof found);
    for (uint32_t b = 0; here && b < MODEL_MAILBOXES; b++) {
        struct sp_flag_cursor cursor;
        struct sp_flag_row row;
        struct sp_mailbox mailbox;
        sp_assert(sp_index_mailbox(&read, &model->account, b + 1, &mailbox) == SP_OK);
        sp_assert(!mailbox.row.protected_ == !model->protected_ &&
                  mailbox.row.uidvalidity == 100 + b);
        sp_assert(mailbox.row.uidnext > model->mailboxes[b].uid_highest);
        sp_assert(sp_flag_cursor_open(&read, &model->account, b + 1, 1, 0, &cursor) == SP_OK);
        uint32_t count = 0;
        while (sp_flag_cursor_next(&cursor, &row) == SP_OK) {
            found[b][model_slot(row.uid)] = (struct found){(uint32_t)row.flags, row.uid, true};
            count++;
        }
        sp_flag_cursor_close(&cursor);
        sp_assert(count == mailbox.row.messages);
    }
    bool agrees = here == model->account_made;
    for (uint32_t b = 0; agrees && here && b < MODEL_MAILBOXES; b++)
        agrees = mailbox_agrees(found[b], &model->mailboxes[b]);
    if (!agrees) {
        sp_assert(maybe_count);
        for (uint32_t i = 0; i < maybe_count; i++)
            step_done(model, &maybe[i]);
        sp_assert(here == model->account_made);
        for (uint32_t b = 0; here && b < MODEL_MAILBOXES; b++)
            sp_assert(mailbox_agrees(found[b], &model->mailboxes[b]));
    }
    sp_arena_init(&arena, 1U << 20);
    for (uint32_t b = 0; here && b < MODEL_MAILBOXES; b++) {
        for (uint32_t uid = 1; uid < MODEL_UIDS; uid++) {
            struct sp_slice payload;
            struct sp_message message;
            struct sp_body_row row;
            uint64_t lsn, time_ns;
            if (!found[b][uid].there)
                continue;
            sp_assert(sp_index_message(&read, &model->account, b + 1, found[b][uid].uid, &payload,
                                       &lsn, &time_ns) == SP_OK);
            sp_assert(sp_message_read(payload, &arena, &message) == SP_OK);
            sp_assert(sp_index_body(&read, message.bodies.ptr[0], &row) == SP_OK);
            check_body(volume, reader, &row, model->mailboxes[b].messages[uid].seed, message.size);
            sp_arena_release(&arena);
        }
    }
    sp_read_end(&read);
    sp_reader_free(reader);
}

void sim_config(struct sp_sim_world *world, const struct sp_uuid *volume, const char *index_path,
                struct sp_volume_config *ret_config)
{
    static const char *const names[] = {"a", "b", "c"};
    *ret_config = (struct sp_volume_config){.name = "main",
                                            .id = *volume,
                                            .units_count = 3,
                                            .min_copies = 2,
                                            .segment_bytes = 96U << 10,
                                            .unit_timeout_ms = 50,
                                            .index_path = index_path,
                                            .index_map_bytes = 64U << 20};
    for (uint32_t i = 0; i < 3; i++) {
        struct sp_volume_unit *unit = &ret_config->units[i];
        snprintf(unit->name, sizeof unit->name, "%s", names[i]);
        unit->spare = i == 2;
        if (sp_sim_unit_open(world, i, names[i], &unit->unit, &unit->why) != SP_OK)
            unit->unit = NULL;
    }
}
