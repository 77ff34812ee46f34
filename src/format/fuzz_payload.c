/* Payload readers: the first byte selects the type, the rest is the payload. What a reader accepts,
 * its writer must be able to write, and to write the same again after another reading. */
#include "format/payload.h"

#include <stdlib.h>

#define ARENA_BYTES (8U << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads payload and writes what was read; false when the reader refuses. */
typedef bool pass(struct sp_slice payload, struct sp_arena *arena, struct sp_buf *buf);

static bool pass_body_head(struct sp_slice payload, struct sp_arena *arena, struct sp_buf *buf)
{
    struct sp_body_head head;
    uint8_t bytes[SP_BODY_HEAD_BYTES];
    (void)arena;
    if (sp_body_head_read(payload, &head) != SP_OK)
        return false;
    sp_body_head_write(&head, bytes);
    sp_buf_add(buf, sp_slice(bytes, sizeof bytes));
    return true;
}

#define PASS(type, ...)                                                                            \
    static bool pass_##type(struct sp_slice payload, struct sp_arena *arena, struct sp_buf *buf)   \
    {                                                                                              \
        struct sp_##type value;                                                                    \
        (void)arena;                                                                               \
        if (sp_##type##_read(payload, __VA_ARGS__ & value) != SP_OK)                               \
            return false;                                                                          \
        sp_##type##_write(&value, buf);                                                            \
        return true;                                                                               \
    }

/* clang-format off */
PASS(message, arena,)
PASS(flags_change, arena,)
PASS(expunge, arena,)
PASS(catalogue, arena,)
PASS(manifest, arena,)
PASS(gap, arena,)
PASS(tails, arena,)
PASS(dropped, arena,)
PASS(erase, arena,)
PASS(clock_record)
PASS(mailbox_record)
PASS(subscribe)
PASS(credential)
PASS(account_record)
PASS(domain_record)
PASS(guard_record)
PASS(merge_record)
PASS(acl_record)
/* clang-format on */

static pass *const passes[] = {
    pass_body_head,  pass_message,        pass_flags_change,
    pass_expunge,    pass_catalogue,      pass_manifest,
    pass_gap,        pass_mailbox_record, pass_subscribe,
    pass_credential, pass_account_record, pass_domain_record,
    pass_tails,      pass_guard_record,   pass_merge_record,
    pass_dropped,    pass_erase,          pass_clock_record,
    pass_acl_record,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    pass *type = passes[data[0] % (sizeof passes / sizeof *passes)];
    struct sp_arena arena;
    struct sp_buf first, second;
    sp_arena_init(&arena, ARENA_BYTES);
    sp_buf_init(&first, SP_RECORD_PAYLOAD_MAX);
    sp_buf_init(&second, SP_RECORD_PAYLOAD_MAX);
    if (type(sp_slice(data + 1, size - 1), &arena, &first)) {
        sp_assert(!sp_buf_failed(&first));
        sp_assert(type(sp_buf_slice(&first), &arena, &second));
        sp_assert(sp_slice_eq(sp_buf_slice(&first), sp_buf_slice(&second)));
    }
    sp_buf_release(&first);
    sp_buf_release(&second);
    sp_arena_release(&arena);
    return 0;
}
