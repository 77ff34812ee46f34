/* What the guard guards: one row for each operation. */
#include "guard/internal.h"

#include "mail/account.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- Units ---- */

/* A name alone is soon typed by habit: so the beginning of the UUID goes with it. */
static enum sp_status find_unit(struct sp_guard *g, const char *text, struct sp_guard_subject *ret,
                                struct sp_error *error)
{
    char id[SP_UUID_TEXT];
    enum sp_status status = sp_volume_find_unit(g->config.volume, text, &ret->id, error);
    if (status != SP_OK)
        return status;
    sp_uuid_text(&ret->id, id);
    snprintf(ret->name, sizeof ret->name, "%s", text);
    snprintf(ret->confirm, sizeof ret->confirm, "%s %.8s", text, id);
    return SP_OK;
}

static void say_proof(const struct sp_proof_result *result, struct sp_buf *facts)
{
    sp_buf_addf(
        facts,
        "%zu segments were read back from the other units: each is on %u of them or more%s\n",
        result->segments, result->copies,
        result->shared_domain
            ? ", some in one failure domain (allow_shared_domain): one failure can take "
              "several copies"
            : ", each in a failure domain of its own");
}

/* Reads what the others have, and judges it. */
static enum sp_status prove(struct sp_guard *g, const struct sp_guard_subject *subject,
                            struct sp_buf *facts, struct sp_error *error)
{
    struct sp_proof_result result;
    enum sp_status status = sp_proof_read(g->proof, &subject->id, error);
    if (status != SP_OK)
        return status;
    status = sp_proof_holds(g->proof, &subject->id, g->config.shared_ok, &result, facts);
    if (status == SP_OK) {
        say_proof(&result, facts);
        return SP_OK;
    }
    sp_error_set(error, SP_DENIED, subject->name,
                 "it cannot be done without: %zu of the log's %zu segments have too few copies on "
                 "other units",
                 result.lacking, result.segments);
    sp_error_todo(error, "%s",
                  "see what is missing, bring it about (`sternpost unit list`, `unit add`, `scrub "
                  "--now`), and ask again");
    return SP_DENIED;
}

static enum sp_status check_retire(struct sp_guard *g, const struct sp_guard_subject *subject,
                                   struct sp_buf *facts, struct sp_error *error)
{
    struct sp_volume *v = g->config.volume;
    struct sp_volume_status status;
    if (!sp_volume_is_member(v, &subject->id)) {
        sp_error_set(error, SP_NOT_FOUND, subject->name, "it is no unit of the volume any more");
        sp_error_todo(error, "remove it from the configuration; `sternpost unit wipe` deletes what "
                             "it keeps");
        return SP_NOT_FOUND;
    }
    uint32_t left = sp_volume_voters_without(v, &subject->id);
    if (left < SP_VOTERS_MIN) {
        sp_error_set(error, SP_DENIED, subject->name,
                     "%u units would be left to vote, and a volume needs %u", left, SP_VOTERS_MIN);
        sp_error_todo(error, "add a unit to the configuration first, and restart the server");
        return SP_DENIED;
    }
    if (!sp_volume_holds_log(v, &subject->id)) {
        sp_buf_addf(facts, "It keeps nothing of the log.\n");
        return SP_OK;
    }
    /* Whoever takes its place must have everything first. */
    enum sp_status outcome = sp_volume_stand_in(v, &subject->id, error);
    while (outcome == SP_OK && !atomic_load(&g->stop)) {
        bool lacks = false;
        sp_volume_status(v, &status);
        for (uint32_t i = 0; i < status.units_count; i++)
            lacks |= status.units[i].state == SP_UNIT_REPLICA && status.units[i].lacks_segments &&
                     !sp_uuid_eq(&status.units[i].id, &subject->id);
        if (!lacks || !sp_guard_wait_for_copies(g))
            break;
    }
    return outcome == SP_OK ? prove(g, subject, facts, error) : outcome;
}

static enum sp_status carry_out_retire(struct sp_guard *g, const struct sp_guard_subject *subject,
                                       struct sp_buf *text, struct sp_error *error)
{
    struct sp_volume *v = g->config.volume;
    bool holds = sp_volume_holds_log(v, &subject->id);
    enum sp_status status =
        sp_volume_retire_unit(v, &subject->id, holds ? g->proof : NULL, g->config.shared_ok, error);
    if (status == SP_OK)
        sp_buf_addf(text, "it is no unit of the volume any more\n");
    return status;
}

static enum sp_status check_wipe(struct sp_guard *g, const struct sp_guard_subject *subject,
                                 struct sp_buf *facts, struct sp_error *error)
{
    if (sp_volume_is_member(g->config.volume, &subject->id)) {
        sp_error_set(error, SP_DENIED, subject->name, "it is a unit of the volume");
        sp_error_todo(error, "retire it first: `sternpost unit retire %s`", subject->name);
        return SP_DENIED;
    }
    if (sp_volume_has_left_history(g->config.volume, &subject->id)) {
        sp_error_set(error, SP_DENIED, subject->name,
                     "it has a history that was left behind when a loss was accepted");
        sp_error_todo(error, "%s", "wait until that is merged: see `sternpost unit list`");
        return SP_DENIED;
    }
    return prove(g, subject, facts, error);
}

static enum sp_status carry_out_wipe(struct sp_guard *g, const struct sp_guard_subject *subject,
                                     struct sp_buf *text, struct sp_error *error)
{
    struct sp_proof_result result;
    uint64_t segments = 0;
    enum sp_status status =
        sp_proof_holds(g->proof, &subject->id, g->config.shared_ok, &result, text);
    if (status != SP_OK)
        return sp_error_set(error, status, subject->name,
                            "%zu segments are not on enough other units any more", result.lacking);
    status = sp_volume_release_unit(g->config.volume, &subject->id, error);
    if (status == SP_OK)
        status = g->config.wipe(g->config.context, subject->name, &subject->id, &segments, error);
    if (status == SP_NOT_FOUND) { /* done before, up to the record of it */
        sp_buf_addf(text, "there was no unit any more\n");
        return SP_OK;
    }
    if (status == SP_OK)
        sp_buf_addf(text, "%" PRIu64 " segments were deleted\n", segments);
    return status;
}

/* ---- Accounts ---- */

struct summing {
    const struct sp_uuid *id;
    struct sp_buf *facts;
};

static void say_account(void *context, const struct sp_account_summary *summary)
{
    const struct summing *s = context;
    if (sp_uuid_eq(&summary->id, s->id))
        sp_buf_addf(s->facts,
                    "It holds %" PRIu64 " messages in %u mailboxes (%" PRIu64 " bytes).\n",
                    summary->messages, summary->mailboxes, summary->bytes);
}

static enum sp_status find_account(struct sp_guard *g, const char *text,
                                   struct sp_guard_subject *ret, struct sp_error *error)
{
    struct sp_read read;
    enum sp_status status = sp_read_begin(sp_volume_index(g->config.volume), &read);
    if (status == SP_OK) {
        status = sp_account_resolve(&read, sp_slice_str(text), &ret->id);
        sp_read_end(&read);
    }
    if (status != SP_OK || strlen(text) >= sizeof ret->name) {
        status = status == SP_OK ? SP_LIMIT : status == SP_DENIED ? SP_NOT_FOUND : status;
        sp_error_set(error, status, text, "%s",
                     status == SP_NOT_FOUND ? "there is no such account"
                     : status == SP_INVALID ? "this is no address"
                                            : sp_status_name(status));
        sp_error_todo(error, "see `sternpost account list`");
        return status;
    }
    snprintf(ret->name, sizeof ret->name, "%s", text);
    snprintf(ret->confirm, sizeof ret->confirm, "%s", text);
    return SP_OK;
}

static enum sp_status check_account(struct sp_guard *g, const struct sp_guard_subject *subject,
                                    struct sp_buf *facts, struct sp_error *error)
{
    struct summing summing = {&subject->id, facts};
    return sp_account_list(g->config.volume, say_account, &summing, error);
}

static enum sp_status carry_out_account(struct sp_guard *g, const struct sp_guard_subject *subject,
                                        struct sp_buf *text, struct sp_error *error)
{
    struct sp_guard_subject now;
    enum sp_status status = find_account(g, subject->name, &now, error);
    if (status == SP_NOT_FOUND) { /* done before, up to the record of it */
        sp_buf_addf(text, "there was no such account any more\n");
        return SP_OK;
    }
    if (status == SP_OK && !sp_uuid_eq(&now.id, &subject->id))
        return sp_error_set(error, SP_CONFLICT, subject->name,
                            "the address belongs to another account now");
    if (status == SP_OK)
        status = sp_account_remove(g->config.volume, sp_slice_str(subject->name), error);
    if (status == SP_OK)
        sp_buf_addf(text, "the account is removed\n");
    return status;
}

/* ---- Protection ---- */

static enum sp_status find_protected(struct sp_guard *g, const char *text,
                                     struct sp_guard_subject *ret, struct sp_error *error)
{
    if (strcmp(text, SP_GUARD_ALL_ACCOUNTS) != 0)
        return find_account(g, text, ret, error);
    snprintf(ret->name, sizeof ret->name, "%s", text);
    snprintf(ret->confirm, sizeof ret->confirm, "%s", sp_volume_name(g->config.volume));
    return SP_OK;
}

struct counting {
    const struct sp_uuid *id; /* nil: all */
    uint64_t mailboxes, lists;
};

static void count_protected(void *context, const struct sp_account_summary *summary)
{
    struct counting *c = context;
    if (!sp_uuid_is_nil(c->id) && !sp_uuid_eq(c->id, &summary->id))
        return;
    c->mailboxes += summary->mailboxes_protected;
    c->lists += summary->protected_;
}

static enum sp_status check_unprotect(struct sp_guard *g, const struct sp_guard_subject *subject,
                                      struct sp_buf *facts, struct sp_error *error)
{
    struct counting counting = {.id = &subject->id};
    enum sp_status status = sp_account_list(g->config.volume, count_protected, &counting, error);
    sp_buf_addf(facts,
                "%" PRIu64 " mailboxes are protected, and %" PRIu64 " accounts' lists of them. "
                "Clients will see what there is,\nand may delete their own copies of what is "
                "missing.\n",
                counting.mailboxes, counting.lists);
    return status;
}

static enum sp_status carry_out_unprotect(struct sp_guard *g,
                                          const struct sp_guard_subject *subject,
                                          struct sp_buf *text, struct sp_error *error)
{
    uint64_t count = 0;
    enum sp_status status =
        sp_uuid_is_nil(&subject->id)
            ? sp_account_unprotect_all(g->config.volume, &count, error)
            : sp_account_unprotect(g->config.volume, &subject->id, &count, error);
    if (status == SP_OK)
        sp_buf_addf(text, "%" PRIu64 " protections ended\n", count);
    return status;
}

/* ---- Policies ---- */

static enum sp_status find_segments(struct sp_guard *g, const char *text,
                                    struct sp_guard_subject *ret, struct sp_error *error)
{
    (void)g;
    (void)text;
    (void)error;
    snprintf(ret->name, sizeof ret->name, "segments");
    snprintf(ret->confirm, sizeof ret->confirm, "segments.delete");
    return SP_OK;
}

/* ---- The table ---- */

static const struct sp_guard_kind kinds[] = {
    {.operation = SP_GUARD_UNIT_RETIRE,
     .name = "unit.retire",
     .effect = "takes the unit out of the volume for good; what it keeps stays on it",
     .find = find_unit,
     .check = check_retire,
     .carry_out = carry_out_retire},
    {.operation = SP_GUARD_UNIT_WIPE,
     .name = "unit.wipe",
     .effect = "deletes every segment that the unit keeps",
     .find = find_unit,
     .check = check_wipe,
     .carry_out = carry_out_wipe},
    {.operation = SP_GUARD_ACCOUNT_REMOVE,
     .name = "account.remove",
     .effect = "removes the account and all its mail",
     .find = find_account,
     .check = check_account,
     .carry_out = carry_out_account},
    {.operation = SP_GUARD_ERASE,
     .name = "erase",
     .effect = "has this mail held no longer: it is dropped, and nothing brings it back",
     .find = sp_guard_find_erasure,
     .check = sp_guard_check_erasure,
     .carry_out = sp_guard_erase},
    {.operation = SP_GUARD_UNPROTECT,
     .name = "account.unprotect",
     .effect = "shows clients what there is although something is missing",
     .find = find_protected,
     .check = check_unprotect,
     .carry_out = carry_out_unprotect},
    {.operation = SP_GUARD_SEGMENTS_DELETE,
     .name = "segments.delete",
     .effect = "allows from then on that segments are deleted which compaction has replaced, when "
               "`hold` has passed",
     .policy = true,
     .find = find_segments},
};

const struct sp_guard_kind *sp_guard_kind_of(unsigned operation)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i].operation == operation)
            return &kinds[i];
    return NULL;
}

const char *sp_guard_operation_name(unsigned operation)
{
    const struct sp_guard_kind *kind = sp_guard_kind_of(operation);
    return kind ? kind->name : operation == SP_GUARD_UNIT_INIT ? "unit.init" : NULL;
}

enum sp_status sp_guard_operation_find(const char *name, uint8_t *ret_operation,
                                       struct sp_error *error)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].name, name) == 0) {
            *ret_operation = kinds[i].operation;
            return SP_OK;
        }
    return sp_error_set(error, SP_NOT_FOUND, name, "the guard knows no such operation");
}
