/* A store in memory that answers an IMAP session's requests, for its tests and its fuzz target.
 *
 * One account: alice@example.org, password "secret". What it holds after sp_fake_mail_reset is
 * written at the top of fake_mail.c. It does what mail/request.h says, and can be told to fail. */
#ifndef SP_PROTO_IMAP_FAKE_MAIL_H
#define SP_PROTO_IMAP_FAKE_MAIL_H

#include "base/buf.h"
#include "mail/request.h"
#include "mime/mime.h"

struct sp_fake_message {
    uint32_t uid;
    uint64_t flags, modseq;
    struct sp_date date;
    uint8_t *bytes;
    size_t len;
    bool lost;             /* its bytes are UNAVAILABLE */
    struct sp_arena arena; /* what follows */
    bool parsed;
    struct sp_mime_message mime;
    struct sp_buf envelope, bodystructure;
};

struct sp_fake_gone {
    uint32_t uid;
    uint64_t modseq;
};

struct sp_fake_mailbox {
    char *name;
    uint32_t id, uidvalidity, uidnext, special_use;
    bool subscribed, exists, protected_;
    uint32_t rights; /* alice's */
    struct sp_fake_message *messages;
    uint32_t messages_count;
    struct sp_fake_gone *gone;
    uint32_t gone_count;
    char *keywords[SP_KEYWORDS_MAX];
    uint32_t keywords_count;
};

struct sp_fake_body {
    uint64_t id; /* 0: free */
    struct sp_buf bytes;
};
#define SP_FAKE_BODIES 64U

struct sp_fake_mail {
    struct sp_fake_mailbox *mailboxes;
    uint32_t mailboxes_count;
    uint32_t next_id;
    uint64_t modseq, next_body;
    struct sp_fake_body bodies[SP_FAKE_BODIES];
    enum sp_status fail[SP_REQ_TYPES]; /* the next requests of the type have this status */
    bool others_unavailable;
    uint32_t rows_max;          /* of one reply; 0: as the contract says */
    uint32_t pieces_until_lost; /* so many sections are answered, then none; 0: no limit */
    struct sp_thread_node threads[16];
    uint32_t threads_count;
};

void sp_fake_mail_init(struct sp_fake_mail *mail);
void sp_fake_mail_release(struct sp_fake_mail *mail);
/* Forgets everything, and begins again with the mailboxes and messages of the tests. */
void sp_fake_mail_reset(struct sp_fake_mail *mail);
/* The reply to a request. */
struct sp_reply *sp_fake_mail_answer(struct sp_fake_mail *mail, const struct sp_request *request);
/* One line that says what a request asks for. */
void sp_fake_mail_describe(const struct sp_request *request, struct sp_buf *log);

/* What others do meanwhile. */
struct sp_fake_mailbox *sp_fake_add_mailbox(struct sp_fake_mail *mail, struct sp_slice name);
/* NULL: no such mailbox. */
struct sp_fake_mailbox *sp_fake_mailbox(struct sp_fake_mail *mail, const char *name);
void sp_fake_add_message(struct sp_fake_mail *mail, struct sp_fake_mailbox *mailbox,
                         struct sp_slice bytes, uint64_t flags, struct sp_date date);
void sp_fake_expunge(struct sp_fake_mail *mail, struct sp_fake_mailbox *mailbox, uint32_t uid);
void sp_fake_set_flags(struct sp_fake_mail *mail, struct sp_fake_mailbox *mailbox, uint32_t uid,
                       uint64_t flags);
uint32_t sp_fake_bodies(const struct sp_fake_mail *mail);

/* fake_fetch.c */
void sp_fake_fill_row(struct sp_fake_mail *mail, struct sp_fake_message *message,
                      const struct sp_request *request, struct sp_arena *arena, struct sp_row *row,
                      size_t *bytes);
bool sp_fake_matches(const struct sp_fake_mailbox *mailbox, struct sp_fake_message *message,
                     const struct sp_search_node **node);

#endif
