#include "mail/account.h"
#include "mail/deliver.h"
#include "mail/internal.h"
#include "mail/match.h"
#include "mail/plan.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <unicode/usprep.h>
#include <unicode/ustring.h>

/* ---- Addresses ---- */

/* Lower case into `to`, which holds SP_ADDRESS_MAX. SP_INVALID: not local@domain, or too long. */
static enum sp_status normalise(struct sp_slice address, uint8_t *to, struct sp_slice *ret_whole,
                                size_t *ret_at)
{
    size_t at = SIZE_MAX;
    if (address.len > SP_ADDRESS_MAX)
        return SP_INVALID;
    for (size_t i = 0; i < address.len; i++) {
        to[i] = sp_ascii_lower(address.ptr[i]);
        if (to[i] == '@')
            at = i;
    }
    if (at == SIZE_MAX || at == 0 || at + 1 == address.len)
        return SP_INVALID;
    *ret_whole = sp_slice(to, address.len);
    *ret_at = at;
    return SP_OK;
}

enum sp_status sp_account_resolve(struct sp_read *read, struct sp_slice address,
                                  struct sp_uuid *ret_id)
{
    uint8_t lower[SP_ADDRESS_MAX], base[SP_ADDRESS_MAX];
    struct sp_slice whole;
    size_t at;
    enum sp_status status = normalise(address, lower, &whole, &at);
    if (status)
        return status;
    status = sp_index_address(read, whole, ret_id);
    size_t plus = sp_slice_find(sp_slice_sub(whole, 0, at), '+');
    if (status == SP_NOT_FOUND && plus != SIZE_MAX && plus > 0) {
        memcpy(base, lower, plus);
        memcpy(base + plus, lower + at, whole.len - at);
        status = sp_index_address(read, sp_slice(base, plus + whole.len - at), ret_id);
    }
    if (status != SP_NOT_FOUND)
        return status;
    struct sp_position position;
    status = sp_index_position(read, &position);
    if (status && status != SP_NOT_FOUND)
        return status;
    if (status == SP_OK && position.list_protected)
        return SP_UNAVAILABLE;
    status = sp_index_domain(read, sp_slice_from(whole, at + 1));
    return status == SP_OK ? SP_NOT_FOUND : status == SP_NOT_FOUND ? SP_DENIED : status;
}

enum sp_status sp_recipient_resolve(const struct sp_mail_config *config, struct sp_read *read,
                                    struct sp_slice address, struct sp_uuid *ret_id)
{
    enum sp_status status = sp_account_resolve(read, address, ret_id);
    if ((status != SP_NOT_FOUND && status != SP_DENIED) || !config->postmaster)
        return status;
    size_t at = sp_slice_find(address, '@');
    struct sp_slice domain = sp_slice_from(address, at == SIZE_MAX ? address.len : at + 1);
    bool ours = status == SP_NOT_FOUND ||
                (config->hostname && sp_slice_eq_nocase(domain, sp_slice_str(config->hostname)));
    if (!ours || !sp_slice_eq_nocase(sp_slice_sub(address, 0, at), SP_S("postmaster")))
        return status;
    return sp_account_resolve(read, sp_slice_str(config->postmaster), ret_id);
}

void sp_op_resolve(struct sp_op *op)
{
    struct sp_read read;
    enum sp_status status = sp_read_begin(op->mail->index, &read);
    if (status == SP_OK) {
        bool create_inbox;
        status = sp_recipient_resolve(&op->mail->config, &read, op->request->resolve.address,
                                      &op->reply->account);
        if (status == SP_OK)
            status = sp_deliver_check(&read, &op->reply->account, &create_inbox);
        sp_read_end(&read);
    }
    if (status == SP_NOT_FOUND)
        sp_op_refuse(op, status, "there is no such user");
    else if (status == SP_DENIED)
        sp_op_refuse(op, status, "that domain is not served here");
    sp_op_finish(op, status);
}

/* What a new account may be called: an RFC 5321 Dot-string, and a domain of letters, digits and
 * hyphens. */
static bool is_good_address(struct sp_slice address, size_t at)
{
    struct sp_slice domain = sp_slice_from(address, at + 1);
    if (at > 64 || domain.len > 253)
        return false;
    for (size_t i = 0; i < address.len; i++) {
        uint8_t c = address.ptr[i];
        bool dot = c == '.', edge = i == 0 || i == at + 1 || i + 1 == at || i + 1 == address.len;
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z');
        if (dot ? edge || address.ptr[i - 1] == '.'
                : !alnum && i != at &&
                      (i > at ? c != '-' || edge : !c || !strchr("!#$%&'*+-/=?^_`{|}~", c)))
            return false;
    }
    return true;
}

/* ---- Credentials ---- */

struct sp_slice sp_password_prepare(struct sp_slice password, uint8_t to[SP_PASSWORD_MAX])
{
    UChar wide[SP_PASSWORD_MAX], prepared[SP_PASSWORD_MAX];
    int32_t wide_len, prepared_len, len = 0;
    UErrorCode error = U_ZERO_ERROR;
    if (!password.len || password.len > SP_PASSWORD_MAX || sp_is_ascii(password))
        return password;
    UStringPrepProfile *profile = usprep_openByType(USPREP_RFC4013_SASLPREP, &error);
    u_strFromUTF8(wide, SP_PASSWORD_MAX, &wide_len, (const char *)password.ptr,
                  (int32_t)password.len, &error);
    prepared_len = usprep_prepare(profile, wide, U_SUCCESS(error) ? wide_len : 0, prepared,
                                  SP_PASSWORD_MAX, USPREP_DEFAULT, NULL, &error);
    u_strToUTF8((char *)to, SP_PASSWORD_MAX, &len, prepared, prepared_len, &error);
    usprep_close(profile);
    OPENSSL_cleanse(wide, sizeof wide);
    OPENSSL_cleanse(prepared, sizeof prepared);
    return U_SUCCESS(error) && len > 0 ? sp_slice(to, (size_t)len) : password;
}

static bool hmac_sha256(const uint8_t key[32], const char *text, uint8_t ret_mac[32])
{
    unsigned len = 32;
    return HMAC(EVP_sha256(), key, 32, (const uint8_t *)text, strlen(text), ret_mac, &len) &&
           len == 32;
}

enum sp_status sp_credential_make(struct sp_slice given, struct sp_buf *buf)
{
    uint8_t bytes[SP_PASSWORD_MAX];
    struct sp_slice password = sp_password_prepare(given, bytes);
    char argon2id[crypto_pwhash_STRBYTES];
    uint8_t salt[16], salted[32], client_key[32], stored_key[32], server_key[32];
    enum sp_status status = SP_NO_MEMORY;
    sp_random_bytes(salt, sizeof salt);
    if (crypto_pwhash_str(argon2id, (const char *)password.ptr, password.len,
                          crypto_pwhash_OPSLIMIT_INTERACTIVE,
                          crypto_pwhash_MEMLIMIT_INTERACTIVE) == 0 &&
        PKCS5_PBKDF2_HMAC((const char *)password.ptr, (int)password.len, salt, sizeof salt,
                          SP_SCRAM_ITERATIONS, EVP_sha256(), sizeof salted, salted) == 1 &&
        hmac_sha256(salted, "Client Key", client_key) &&
        hmac_sha256(salted, "Server Key", server_key) &&
        EVP_Digest(client_key, sizeof client_key, stored_key, NULL, EVP_sha256(), NULL) == 1) {
        struct sp_credential credential = {
            .argon2id = sp_slice_str(argon2id),
            .scram_iterations = SP_SCRAM_ITERATIONS,
            .scram_salt = sp_slice(salt, sizeof salt),
            .scram_stored_key = sp_slice(stored_key, sizeof stored_key),
            .scram_server_key = sp_slice(server_key, sizeof server_key)};
        sp_credential_write(&credential, buf);
        status = sp_buf_failed(buf) ? SP_NO_MEMORY : SP_OK;
    }
    OPENSSL_cleanse(bytes, sizeof bytes);
    OPENSSL_cleanse(salted, sizeof salted);
    OPENSSL_cleanse(client_key, sizeof client_key);
    return status;
}

static enum sp_status check_password(struct sp_slice password, struct sp_error *error)
{
    if (!password.len || password.len > SP_PASSWORD_MAX)
        return sp_error_set(error, SP_INVALID, "password", "it must have 1 to %u bytes",
                            SP_PASSWORD_MAX);
    return SP_OK;
}

/* ---- Commands ---- */

struct change {
    struct sp_slice address;
    size_t at;
    struct sp_uuid id;
    struct sp_buf credential;
};

static const struct {
    struct sp_slice path;
    uint32_t special_use;
} first_mailboxes[] = {
    {{(const uint8_t *)"INBOX", 5}, 0},          {{(const uint8_t *)"Drafts", 6}, SP_USE_DRAFTS},
    {{(const uint8_t *)"Sent", 4}, SP_USE_SENT}, {{(const uint8_t *)"Trash", 5}, SP_USE_TRASH},
    {{(const uint8_t *)"Junk", 4}, SP_USE_JUNK}, {{(const uint8_t *)"Archive", 7}, SP_USE_ARCHIVE},
};

static enum sp_status emit_credential(struct sp_plan *plan, const struct change *change)
{
    uint64_t lsn;
    return sp_plan_emit(plan, SP_RECORD_CREDENTIAL, &change->id, 0,
                        sp_buf_slice(&change->credential), &lsn);
}

static enum sp_status emit_account(struct sp_plan *plan, const struct change *change,
                                   enum sp_record_type type)
{
    static const struct sp_uuid nobody;
    uint64_t lsn;
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_account_record_write(
        &(struct sp_account_record){.id = change->id, .address = change->address}, buf);
    return sp_buf_failed(buf) ? SP_NO_MEMORY
                              : sp_plan_emit(plan, type, &nobody, 0, sp_buf_slice(buf), &lsn);
}

static enum sp_status emit_domain(struct sp_plan *plan, struct sp_slice name)
{
    static const struct sp_uuid nobody;
    uint64_t lsn;
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_domain_record_write(&(struct sp_domain_record){name}, buf);
    return sp_buf_failed(buf)
               ? SP_NO_MEMORY
               : sp_plan_emit(plan, SP_RECORD_DOMAIN, &nobody, 0, sp_buf_slice(buf), &lsn);
}

static enum sp_status emit_subscription(struct sp_plan *plan, const struct sp_uuid *id,
                                        struct sp_slice path)
{
    uint64_t lsn;
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_subscribe_write(&(struct sp_subscribe){true, path}, buf);
    return sp_buf_failed(buf)
               ? SP_NO_MEMORY
               : sp_plan_emit(plan, SP_RECORD_SUBSCRIBE, id, 0, sp_buf_slice(buf), &lsn);
}

static enum sp_status add_plan(struct sp_plan *plan, void *context)
{
    const struct change *change = context;
    struct sp_read *read = sp_plan_read(plan);
    struct sp_slice domain = sp_slice_from(change->address, change->at + 1);
    struct sp_position position;
    struct sp_uuid there;
    enum sp_status status = sp_index_address(read, change->address, &there);
    if (status != SP_NOT_FOUND)
        return status ? status : SP_EXISTS;
    status = sp_index_position(read, &position);
    if (status && status != SP_NOT_FOUND)
        return status;
    /* An account of that name may be among those the gap hides. */
    if (status == SP_OK && position.list_protected)
        return SP_UNAVAILABLE;
    enum sp_status known = sp_index_domain(read, domain);
    if (known && known != SP_NOT_FOUND)
        return known;

    status = known ? emit_domain(plan, domain) : SP_OK;
    if (status == SP_OK)
        status = emit_account(plan, change, SP_RECORD_ACCOUNT);
    if (status == SP_OK)
        status = emit_credential(plan, change);
    for (size_t i = 0; status == SP_OK && i < sizeof first_mailboxes / sizeof *first_mailboxes;
         i++) {
        struct sp_mailbox mailbox;
        struct sp_slice path = first_mailboxes[i].path;
        status = sp_plan_create_mailbox(plan, &change->id, path, first_mailboxes[i].special_use,
                                        &mailbox);
        if (status == SP_OK)
            status = emit_subscription(plan, &change->id, path);
    }
    return status;
}

static enum sp_status password_plan(struct sp_plan *plan, void *context)
{
    struct change *change = context;
    enum sp_status status = sp_index_address(sp_plan_read(plan), change->address, &change->id);
    return status ? status : emit_credential(plan, change);
}

static enum sp_status remove_plan(struct sp_plan *plan, void *context)
{
    struct change *change = context;
    enum sp_status status = sp_index_address(sp_plan_read(plan), change->address, &change->id);
    return status ? status : emit_account(plan, change, SP_RECORD_ACCOUNT_REMOVE);
}

/* A plan's refusal comes back with its status for a reason. */
static bool unexplained(enum sp_status status, const struct sp_error *error)
{
    return error && (!error->why[0] || strcmp(error->why, sp_status_name(status)) == 0);
}

/* Says what a refused plan means, unless the volume has. */
static enum sp_status explain(enum sp_status status, struct sp_slice address,
                              struct sp_error *error)
{
    char what[64];
    snprintf(what, sizeof what, "account %.*s", (int)(address.len < 50 ? address.len : 50),
             (const char *)address.ptr);
    if (status == SP_EXISTS)
        return sp_error_set(error, status, what, "there is such an account already");
    if (status == SP_NOT_FOUND)
        return sp_error_set(error, status, what, "there is no such account");
    if (status == SP_UNAVAILABLE && unexplained(status, error))
        return sp_error_set(error, status, what, "the list of accounts is being recovered");
    if (status && unexplained(status, error))
        return sp_error_set(error, status, what, "%s", sp_status_name(status));
    return status;
}

static enum sp_status carry_out(struct sp_volume *volume, struct sp_slice address,
                                const struct sp_slice *password,
                                enum sp_status (*plan)(struct sp_plan *, void *),
                                struct change *change, struct sp_error *error)
{
    uint8_t lower[SP_ADDRESS_MAX];
    enum sp_status status = normalise(address, lower, &change->address, &change->at);
    if (status || !is_good_address(change->address, change->at))
        return sp_error_set(error, SP_INVALID, "account", "%.*s is not an address (local@domain)",
                            (int)(address.len < 100 ? address.len : 100),
                            (const char *)address.ptr);
    if (error)
        error->why[0] = '\0';
    sp_buf_init(&change->credential, 4096);
    status = password ? check_password(*password, error) : SP_OK;
    if (status == SP_OK && password)
        status = sp_credential_make(*password, &change->credential);
    if (status == SP_OK)
        status = sp_volume_commit(volume, plan, change, error);
    sp_buf_release(&change->credential);
    return explain(status, address, error);
}

enum sp_status sp_account_add(struct sp_volume *volume, struct sp_slice address,
                              struct sp_slice password, struct sp_uuid *ret_id,
                              struct sp_error *error)
{
    struct change change = {0};
    sp_uuid_make(&change.id);
    enum sp_status status = carry_out(volume, address, &password, add_plan, &change, error);
    if (status == SP_OK && ret_id)
        *ret_id = change.id;
    return status;
}

enum sp_status sp_account_set_password(struct sp_volume *volume, struct sp_slice address,
                                       struct sp_slice password, struct sp_error *error)
{
    struct change change = {0};
    return carry_out(volume, address, &password, password_plan, &change, error);
}

enum sp_status sp_account_remove(struct sp_volume *volume, struct sp_slice address,
                                 struct sp_error *error)
{
    struct change change = {0};
    return carry_out(volume, address, NULL, remove_plan, &change, error);
}

static enum sp_status summarise(struct sp_read *read, const struct sp_account *account,
                                struct sp_account_summary *summary)
{
    struct sp_mailbox mailbox = {0};
    enum sp_status status;
    *summary = (struct sp_account_summary){
        .id = account->id, .address = account->address, .protected_ = account->row.protected_ != 0};
    while ((status = sp_index_next_mailbox(read, &account->id, &mailbox)) == SP_OK) {
        summary->mailboxes++;
        summary->messages += mailbox.row.messages;
        summary->bytes += mailbox.row.size;
        summary->mailboxes_protected += mailbox.row.protected_ != 0;
    }
    return status == SP_EOF ? SP_OK : status;
}

enum sp_status sp_account_list(struct sp_volume *volume,
                               void (*each)(void *context,
                                            const struct sp_account_summary *summary),
                               void *context, struct sp_error *error)
{
    struct sp_read read;
    struct sp_account account = {0};
    enum sp_status status = sp_read_begin(sp_volume_index(volume), &read);
    if (status == SP_OK) {
        while ((status = sp_index_next_account(&read, &account)) == SP_OK) {
            struct sp_account_summary summary;
            status = summarise(&read, &account, &summary);
            if (status)
                break;
            each(context, &summary);
        }
        sp_read_end(&read);
    }
    return status == SP_EOF ? SP_OK
                            : sp_error_set(error, status, "index", "%s", sp_status_name(status));
}
