#include "mail/rest.h"
#include "base/cursor.h"
#include "base/endian.h"

#include <sodium.h>

#define SIGNATURE_BYTES 32U
#define HEAD_BYTES      96U /* before the bodies */
#define BODY_BYTES      22U
#define BODIES_MAX      65536U

static void sign(const struct sp_mail *mail, const struct sp_mailbox_ref *mailbox, uint32_t uid,
                 struct sp_slice bytes, uint8_t ret_signature[SIGNATURE_BYTES])
{
    crypto_generichash_state state;
    uint8_t message[8];
    sp_put_u32(message, mailbox->mailbox);
    sp_put_u32(message + 4, uid);
    crypto_generichash_init(&state, mail->rest_secret, sizeof mail->rest_secret, SIGNATURE_BYTES);
    crypto_generichash_update(&state, mailbox->account.bytes, sizeof mailbox->account.bytes);
    crypto_generichash_update(&state, message, sizeof message);
    crypto_generichash_update(&state, bytes.ptr, bytes.len);
    crypto_generichash_final(&state, ret_signature, SIGNATURE_BYTES);
}

struct sp_slice sp_rest_write(const struct sp_mail *mail, const struct sp_mailbox_ref *mailbox,
                              uint32_t uid, const struct sp_rest *rest, struct sp_arena *arena)
{
    struct sp_buf buf;
    uint8_t signature[SIGNATURE_BYTES];
    sp_buf_init(&buf, HEAD_BYTES + (size_t)BODIES_MAX * BODY_BYTES + SIGNATURE_BYTES);
    sp_buf_add_u64(&buf, rest->offset);
    sp_buf_add_u64(&buf, rest->bytes);
    sp_buf_add_u64(&buf, rest->item.size);
    sp_buf_add_u32(&buf, rest->item.header_bytes);
    sp_buf_add_byte(&buf, (uint8_t)rest->decoding.decoder.encoding);
    sp_buf_add_u32(&buf, rest->decoding.decoder.bits);
    sp_buf_add_u32(&buf, rest->decoding.decoder.count);
    sp_buf_add_u64(&buf, rest->decoding.taken);
    sp_buf_add_u64(&buf, rest->decoding.passed);
    sp_buf_add_u64(&buf, rest->decoding.size);
    sp_buf_add_u32(&buf, rest->item.bodies_count);
    for (uint32_t i = 0; i < rest->item.bodies_count; i++) {
        const struct sp_body_row *row = &rest->item.bodies[i];
        sp_buf_add_u64(&buf, row->place.segment);
        sp_buf_add_u32(&buf, row->place.generation);
        sp_buf_add_u32(&buf, row->place.block);
        sp_buf_add_u16(&buf, row->place.offset);
        sp_buf_add_u32(&buf, row->payload_bytes);
    }
    sign(mail, mailbox, uid, sp_buf_slice(&buf), signature);
    sp_buf_add(&buf, sp_slice(signature, sizeof signature));
    struct sp_slice copy =
        sp_buf_failed(&buf) ? (struct sp_slice){NULL, 0} : sp_arena_copy(arena, sp_buf_slice(&buf));
    sp_buf_release(&buf);
    return copy;
}

enum sp_status sp_rest_read(const struct sp_mail *mail, const struct sp_mailbox_ref *mailbox,
                            uint32_t uid, struct sp_slice bytes, struct sp_arena *arena,
                            struct sp_rest *ret_rest)
{
    uint8_t signature[SIGNATURE_BYTES];
    struct sp_rest rest = {0};
    if (bytes.len < SIGNATURE_BYTES)
        return SP_INVALID;
    struct sp_slice content = sp_slice_sub(bytes, 0, bytes.len - SIGNATURE_BYTES);
    sign(mail, mailbox, uid, content, signature);
    if (sodium_memcmp(signature, bytes.ptr + content.len, SIGNATURE_BYTES) != 0)
        return SP_INVALID;
    struct sp_cursor cursor = sp_cursor(content);
    rest.offset = sp_cursor_u64(&cursor);
    rest.bytes = sp_cursor_u64(&cursor);
    rest.item.size = sp_cursor_u64(&cursor);
    rest.item.header_bytes = sp_cursor_u32(&cursor);
    rest.decoding.decoder.encoding = sp_cursor_u8(&cursor);
    rest.decoding.decoder.bits = sp_cursor_u32(&cursor);
    rest.decoding.decoder.count = sp_cursor_u32(&cursor);
    rest.decoding.taken = sp_cursor_u64(&cursor);
    rest.decoding.passed = sp_cursor_u64(&cursor);
    rest.decoding.size = sp_cursor_u64(&cursor);
    rest.item.bodies_count = sp_cursor_u32(&cursor);
    if (rest.item.bodies_count > BODIES_MAX)
        return SP_INVALID;
    rest.item.bodies = sp_arena_array(arena, rest.item.bodies_count, sizeof *rest.item.bodies);
    if (!rest.item.bodies)
        return SP_NO_MEMORY;
    for (uint32_t i = 0; i < rest.item.bodies_count; i++) {
        struct sp_body_row *row = &rest.item.bodies[i];
        row->place.segment = sp_cursor_u64(&cursor);
        row->place.generation = sp_cursor_u32(&cursor);
        row->place.block = sp_cursor_u32(&cursor);
        row->place.offset = sp_cursor_u16(&cursor);
        row->payload_bytes = sp_cursor_u32(&cursor);
    }
    if (cursor.failed)
        return SP_INVALID;
    *ret_rest = rest;
    return SP_OK;
}
