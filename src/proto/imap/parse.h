/* The words of IMAP's grammar (RFC 3501, 9): taken one by one off a command that is whole.
 *
 * Every function returns whether it found what it names; when not, p->error says what is wrong, in
 * words that the BAD response shows, and the parse is over. Results are slices of the command or
 * memory of the arena. Pure.
 */
#ifndef SP_PROTO_IMAP_PARSE_H
#define SP_PROTO_IMAP_PARSE_H

#include "mail/request.h"

struct sp_imap_parse {
    struct sp_slice rest;
    struct sp_arena *arena;
    const char *error; /* a static string; NULL: so far so good */
    bool bad_charset;  /* the error is a charset that is not known */
    bool bad_name;     /* the error is a mailbox name that cannot be: NO, not BAD */
    bool bad_use;      /* ... or a special use that is not known */
    bool utf8;         /* mailbox names come in UTF-8, and APPEND can have UTF8 (RFC 6855) */
    bool utf8_message; /* APPEND's literal stands in UTF8 (...) */
    unsigned depth;    /* of nesting, where there is any */
};

/* A sequence set as written: in any order, first may be above last, 0 stands for `*`. */
struct sp_imap_set {
    struct sp_uid_range *ptr;
    uint32_t count;
    bool saved; /* `$`: what the last SEARCH saved (RFC 5182); then there are no ranges */
};

/* Sets the error (the first one stays) and returns false. */
bool sp_imap_wrong(struct sp_imap_parse *p, const char *error);
bool sp_imap_no_memory(struct sp_imap_parse *p);

/* Looks ahead. */
bool sp_imap_at(const struct sp_imap_parse *p, uint8_t byte);
bool sp_imap_at_end(const struct sp_imap_parse *p);
/* Takes the byte if it is next; no error if not. */
bool sp_imap_skip(struct sp_imap_parse *p, uint8_t byte);
/* Takes the word (ASCII, any case) if it is next and ends there; no error if not. */
bool sp_imap_skip_word(struct sp_imap_parse *p, const char *word);

bool sp_imap_take(struct sp_imap_parse *p, uint8_t byte);
bool sp_imap_take_space(struct sp_imap_parse *p);
/* Nothing but blanks may follow. */
bool sp_imap_take_end(struct sp_imap_parse *p);
/* At most SP_IMAP_TAG_MAX bytes. */
bool sp_imap_take_tag(struct sp_imap_parse *p, struct sp_slice *ret_tag);
bool sp_imap_take_atom(struct sp_imap_parse *p, struct sp_slice *ret_atom);
/* Letters, digits, '.', '-' and '=': the names of commands and items. */
bool sp_imap_take_word(struct sp_imap_parse *p, struct sp_slice *ret_word);
bool sp_imap_take_string(struct sp_imap_parse *p, struct sp_slice *ret_string);
bool sp_imap_take_astring(struct sp_imap_parse *p, struct sp_slice *ret_string);
/* NIL is the empty slice. */
bool sp_imap_take_nstring(struct sp_imap_parse *p, struct sp_slice *ret_string);
bool sp_imap_take_number(struct sp_imap_parse *p, uint64_t min, uint64_t max, uint64_t *ret_number);
bool sp_imap_take_set(struct sp_imap_parse *p, struct sp_imap_set *ret_set);
/* A mailbox name, as mail wants it: UTF-8, INBOX in capitals, no '/' at the end. */
bool sp_imap_take_mailbox(struct sp_imap_parse *p, struct sp_slice *ret_name);
/* The reference or pattern of LIST, in UTF-8; a bare one may hold wildcards. */
bool sp_imap_take_pattern(struct sp_imap_parse *p, struct sp_slice *ret_pattern);
/* With parentheses, or (bare) without. */
bool sp_imap_take_flags(struct sp_imap_parse *p, bool bare, struct sp_flag_set *ret_flags);
/* date: days since 1970; what lies before is 1970. */
bool sp_imap_take_date(struct sp_imap_parse *p, uint64_t *ret_days);
bool sp_imap_take_date_time(struct sp_imap_parse *p, struct sp_date *ret_date);

/* Names of special uses (\Drafts); 0: none such. */
uint32_t sp_imap_special_use(struct sp_slice name);
extern const char *const sp_imap_special_use_names[7]; /* bit i is name i */

/* Whether text is `tag APPEND mailbox `, or `tag REPLACE number mailbox `, so that a literal that
 * follows is a message (or its flags are malformed). */
bool sp_imap_is_append_text(struct sp_slice text);

bool sp_imap_is_atom_char(uint8_t c);

/* Turns a set into ascending ranges of numbers, `*` being the number `last` (0: there is none; what
 * names it is then left out). False: no memory. */
bool sp_imap_set_resolve(struct sp_imap_set set, uint32_t last, struct sp_arena *arena,
                         struct sp_uid_ranges *ret_ranges) SP_MUST_USE;

#endif
