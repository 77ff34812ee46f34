/* Records of any kind in any order, as far as their checksums let them through: what is reported to
 * be missing is in order, and none of it is there.
 *
 * The input is records, each told as: a type, what of it is unusual, account and mailbox, by how
 * much its LSN leaps, the length of its payload, the payload. */
#include "base/cursor.h"
#include "recover/losses.h"

#define UNUSUAL_PREVIOUS 0x01U /* no chain's: the chain is broken here */
#define UNUSUAL_LEAP     0x02U /* a long one */
#define UNUSUAL_OPTIONAL 0x04U /* and not chained */
#define RECORDS_MAX      500U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t types[] = {
    SP_RECORD_BODY,    SP_RECORD_MESSAGE,        SP_RECORD_FLAGS,
    SP_RECORD_EXPUNGE, SP_RECORD_CATALOGUE,      SP_RECORD_UNPROTECT,
    SP_RECORD_MAILBOX, SP_RECORD_MAILBOX_RENAME, SP_RECORD_MAILBOX_DELETE,
    SP_RECORD_ACCOUNT, SP_RECORD_ACCOUNT_REMOVE, SP_RECORD_MANIFEST,
    SP_RECORD_GAP,     SP_RECORD_TAILS,          SP_RECORD_GUARD,
    SP_RECORD_DROPPED,
};

static bool take_record(struct sp_cursor *c, const struct sp_losses *losses,
                        struct sp_record *ret_record)
{
    uint8_t type = sp_cursor_u8(c), unusual = sp_cursor_u8(c), whose = sp_cursor_u8(c);
    uint8_t leap = sp_cursor_u8(c);
    uint16_t len = sp_cursor_u16(c);
    if (c->failed)
        return false;
    struct sp_record record = {.type = types[type % sizeof types],
                               .flags = unusual & UNUSUAL_OPTIONAL ? SP_RECORD_OPTIONAL
                                                                   : SP_RECORD_CHAINED,
                               .lsn = losses->next_lsn + leap,
                               .account = {{whose & 3U}},
                               .mailbox = whose >> 2 & 3U};
    if (unusual & UNUSUAL_LEAP)
        record.lsn += (uint64_t)leap << 40;
    record.previous = unusual & UNUSUAL_PREVIOUS
                          ? record.lsn / 2
                          : sp_losses_tail(losses, &record.account, record.mailbox);
    record.payload = sp_cursor_take(c, len < c->rest.len ? len : c->rest.len);
    record.payload_bytes = (uint32_t)record.payload.len;
    *ret_record = record;
    return true;
}

static void check_spans(struct sp_span_list spans, uint64_t total)
{
    for (uint32_t i = 0; i < spans.count; i++) {
        sp_assert(spans.ptr[i].first <= spans.ptr[i].last);
        sp_assert(!i || spans.ptr[i].first > spans.ptr[i - 1].last + 1);
        total -= spans.ptr[i].last - spans.ptr[i].first + 1;
    }
    sp_assert(total == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sp_cursor c = sp_cursor(sp_slice(data, size));
    struct sp_recover_report report = {0};
    struct sp_losses losses;
    struct sp_record record;
    static uint64_t there[RECORDS_MAX];
    uint32_t count = 0;
    sp_assert(sp_losses_init(&losses, &report));
    while (count < RECORDS_MAX && take_record(&c, &losses, &record)) {
        if (record.lsn > INT64_MAX) /* no header has it */
            break;
        sp_assert(sp_losses_record(&losses, &record));
        sp_assert(!sp_losses_record(&losses, &record)); /* it counts once */
        there[count++] = record.lsn;
    }
    for (uint32_t i = 0; i < losses.chains_count; i++)
        sp_assert(losses.chains[i].uidnext); /* it only grows */
    sp_assert(sp_losses_finish(&losses));
    sp_assert(report.records == count && report.lost_tail_lsns <= report.lost_lsns);
    sp_assert(report.bodiless_count <= report.bodiless_total);
    check_spans(report.lost, report.lost_lsns);
    const struct sp_spans lost = {.ptr = report.lost.ptr, .count = report.lost.count};
    for (uint32_t i = 0; i < count; i++)
        sp_assert(!sp_spans_has(&lost, there[i]));
    for (uint32_t i = 0; i < report.broken_count; i++)
        check_spans(report.broken[i].uids, report.broken[i].missing_uids);
    sp_losses_release(&losses);
    sp_recover_report_release(&report);
    return 0;
}
