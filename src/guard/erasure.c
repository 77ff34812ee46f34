/* Erasing mail for good: what is erased, as the text of a request. */
#include "guard/internal.h"

#include "mail/account.h"
#include "mail/undelete.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SPANS_MAX 500U /* no text of SP_GUARD_SUBJECT_BYTES has more */
#define REMOVED   "removed:"

struct parsed {
    struct sp_erasure erasure;
    struct sp_span spans[SPANS_MAX];
    char address[SP_GUARD_SUBJECT_BYTES], mailbox[SP_GUARD_SUBJECT_BYTES],
        why[SP_GUARD_SUBJECT_BYTES];
};

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Up to the next ';', %XX decoded; false: it is none. `ret` has room for any such text. */
static bool take_text(const char **at, char *ret)
{
    for (; **at && **at != ';'; (*at)++) {
        if (**at == '%') {
            int high = hex((*at)[1]), low = high < 0 ? -1 : hex((*at)[2]);
            if (low < 0 || high * 16 + low == 0)
                return false;
            *ret++ = (char)(high * 16 + low);
            *at += 2;
        } else {
            *ret++ = **at;
        }
    }
    *ret = 0;
    return true;
}

static bool take_uid(const char **at, uint64_t *ret)
{
    char *end;
    if (**at < '1' || **at > '9')
        return false;
    *ret = strtoull(*at, &end, 10);
    *at = end;
    return *ret <= UINT32_MAX;
}

/* "3:9,12", ascending. */
static bool take_uids(const char **at, struct parsed *p)
{
    struct sp_span_list *uids = &p->erasure.uids;
    uint64_t after = 0;
    uids->ptr = p->spans;
    for (;; (*at)++) {
        struct sp_span span;
        if (uids->count == SPANS_MAX || !take_uid(at, &span.first))
            return false;
        span.last = span.first;
        if (**at == ':') {
            (*at)++;
            if (!take_uid(at, &span.last))
                return false;
        }
        if (span.first <= after || span.last < span.first)
            return false;
        after = span.last;
        p->spans[uids->count++] = span;
        if (**at != ',')
            return true;
    }
}

/* "4,17" */
static bool take_numbers(const char **at, struct sp_erasure *erasure)
{
    for (;; (*at)++) {
        uint64_t number;
        if (erasure->numbers_count == SP_ERASE_MAILBOXES_MAX || !take_uid(at, &number))
            return false;
        erasure->numbers[erasure->numbers_count++] = (uint32_t)number;
        if (**at != ',')
            return true;
    }
}

static bool parse(const char *text, struct parsed *p)
{
    bool good = take_text(&text, p->address) && *p->address;
    while (good && *text) {
        if (strncmp(text, ";MAILBOX=", 9) == 0)
            text += 9, good = take_text(&text, p->mailbox) && *p->mailbox;
        else if (strncmp(text, ";UID=", 5) == 0)
            text += 5, good = !p->erasure.uids.count && take_uids(&text, p);
        else if (strncmp(text, ";NUMBERS=", 9) == 0)
            text += 9, good = !p->erasure.numbers_count && take_numbers(&text, &p->erasure);
        else if (strncmp(text, ";WHY=", 5) == 0)
            text += 5, good = take_text(&text, p->why);
        else
            good = false;
    }
    p->erasure.removed = strncmp(p->address, REMOVED, strlen(REMOVED)) == 0;
    p->erasure.mailbox = sp_slice_str(p->mailbox);
    p->erasure.why = sp_slice_str(p->why);
    return good && (*p->mailbox || (!p->erasure.uids.count && !p->erasure.numbers_count)) &&
           (!p->erasure.removed || !*p->mailbox);
}

/* On the heap: it is some KiB. NULL: the error says why. */
static struct parsed *parsed_of(const char *text, struct sp_error *error)
{
    struct parsed *p = calloc(1, sizeof *p);
    if (!p) {
        sp_error_set(error, SP_NO_MEMORY, "erase", "no memory");
        return NULL;
    }
    if (strlen(text) < SP_GUARD_SUBJECT_BYTES && parse(text, p))
        return p;
    free(p);
    sp_error_set(error, SP_INVALID, "erase", "%s",
                 strlen(text) < SP_GUARD_SUBJECT_BYTES
                     ? "this says not clearly what is to be erased"
                     : "this is too much to be said of one request");
    sp_error_todo(error, "%s", "give ascending UIDs of one mailbox, and fewer at a time");
    return NULL;
}

/* The mailboxes' numbers go into it: another one may have the name when its time has come. */
static enum sp_status add_numbers(struct sp_guard *g, struct parsed *p,
                                  struct sp_guard_subject *subject, struct sp_error *error)
{
    struct sp_buf buf;
    p->erasure.account = subject->id;
    enum sp_status status = sp_mail_erase_number(g->config.volume, &p->erasure, error);
    if (status != SP_OK)
        return error->status == SP_OK
                   ? sp_error_set(error, status, "erase", "%s", sp_status_name(status))
                   : status;
    sp_buf_init(&buf, sizeof subject->name - 1);
    sp_buf_addf(&buf, "%s", subject->name);
    for (uint32_t i = 0; i < p->erasure.numbers_count; i++)
        sp_buf_addf(&buf, "%s%" PRIu32, i ? "," : ";NUMBERS=", p->erasure.numbers[i]);
    if (sp_buf_failed(&buf))
        status =
            sp_error_set(error, SP_LIMIT, "erase", "this is too much to be said of one request");
    else
        snprintf(subject->name, sizeof subject->name, "%.*s", SP_FMT(sp_buf_slice(&buf)));
    sp_buf_release(&buf);
    return status;
}

enum sp_status sp_guard_find_erasure(struct sp_guard *g, const char *text,
                                     struct sp_guard_subject *ret, struct sp_error *error)
{
    struct parsed *p = parsed_of(text, error);
    struct sp_read read;
    if (!p)
        return error->status;
    const char *whom = p->erasure.removed ? p->address + strlen(REMOVED) : p->address;
    enum sp_status status;
    if (p->erasure.removed) {
        status = sp_uuid_parse(sp_slice_str(whom), &ret->id);
    } else {
        status = sp_read_begin(sp_volume_index(g->config.volume), &read);
        if (status == SP_OK) {
            status = sp_account_resolve(&read, sp_slice_str(whom), &ret->id);
            sp_read_end(&read);
        }
    }
    if (status != SP_OK) {
        sp_error_set(error, status == SP_DENIED ? SP_NOT_FOUND : status, whom, "%s",
                     p->erasure.removed ? "this is no UUID" : "there is no such account");
        sp_error_todo(error, "see `sternpost account list`");
        free(p);
        return error->status;
    }
    snprintf(ret->name, sizeof ret->name, "%s", text);
    snprintf(ret->confirm, sizeof ret->confirm, "%.319s", whom);
    if (p->erasure.numbers_count) /* the guard says them, nobody else */
        status = sp_error_set(error, SP_INVALID, "erase", "mailboxes are named, not numbered");
    else if (*p->mailbox)
        status = add_numbers(g, p, ret, error);
    free(p);
    return status;
}

enum sp_status sp_guard_check_erasure(struct sp_guard *g, const struct sp_guard_subject *subject,
                                      struct sp_buf *facts, struct sp_error *error)
{
    struct parsed *p = parsed_of(subject->name, error);
    uint64_t present = 0;
    if (!p)
        return error->status;
    p->erasure.account = subject->id;
    enum sp_status status = sp_mail_erase_look(g->config.volume, &p->erasure, &present, error);
    if (status == SP_OK && p->erasure.uids.count)
        sp_buf_addf(facts, "%" PRIu64 " of the messages named are still in the mailbox.\n",
                    present);
    if (status == SP_OK)
        sp_buf_addf(facts, "What is erased cannot be brought back: every copy of it is dropped.\n");
    free(p);
    return status;
}

enum sp_status sp_guard_erase(struct sp_guard *g, const struct sp_guard_subject *subject,
                              struct sp_buf *text, struct sp_error *error)
{
    struct parsed *p = parsed_of(subject->name, error);
    uint64_t expunged = 0;
    if (!p)
        return error->status;
    p->erasure.account = subject->id;
    p->erasure.who = sp_slice_str(subject->who);
    enum sp_status status = sp_mail_erase(g->config.volume, &p->erasure, &expunged, error);
    free(p);
    if (status == SP_OK)
        sp_buf_addf(text, "held no longer; %" PRIu64 " messages were still there\n", expunged);
    return status;
}
