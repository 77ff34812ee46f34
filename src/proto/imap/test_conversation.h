/* What the IMAP conversations share: how they begin and end, and how they are run against the fake
 * store. */
#ifndef SP_PROTO_IMAP_TEST_CONVERSATION_H
#define SP_PROTO_IMAP_TEST_CONVERSATION_H

#include "proto/session.h"

/* ---- Parts of transcripts ---- */

#define CAPS_BEFORE "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE IDLE"
#define CAPS_AFTER                                                                                 \
    CAPS_BEFORE                                                                                    \
    " NAMESPACE CHILDREN UIDPLUS UNSELECT MOVE MULTIAPPEND CONDSTORE QRESYNC ESEARCH WITHIN SORT"  \
    " THREAD=ORDEREDSUBJECT THREAD=REFERENCES LIST-EXTENDED LIST-STATUS SPECIAL-USE "              \
    "CREATE-SPECIAL-USE"                                                                           \
    " STATUS=SIZE SEARCHRES ESORT PARTIAL UTF8=ACCEPT UIDONLY INPROGRESS SORT=DISPLAY"             \
    " OBJECTID SAVEDATE BINARY PREVIEW REPLACE UNAUTHENTICATE"                                     \
    " ACL RIGHTS=texk LIST-MYRIGHTS APPENDLIMIT=600000"
#define GREETING                                                                                   \
    "S: * OK [CAPABILITY " CAPS_BEFORE                                                             \
    " STARTTLS AUTH=PLAIN AUTH=SCRAM-SHA-256] mx.example.org Sternpost 0.1 "                       \
    "ready\n"
#define LOGIN                                                                                      \
    GREETING "C: a LOGIN alice@example.org secret\nS: a OK [CAPABILITY " CAPS_AFTER "] Logged "    \
             "in\n"
#define FLAGS "(\\Answered \\Flagged \\Deleted \\Seen \\Draft $Label1)"
#define INBOX                                                                                      \
    "S: * FLAGS " FLAGS "\n"                                                                       \
    "S: * OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Label1 \\*)] Flags "  \
    "that are kept\n"                                                                              \
    "S: * 3 EXISTS\n"                                                                              \
    "S: * 0 RECENT\n"                                                                              \
    "S: * OK [UNSEEN 2] First unseen\n"                                                            \
    "S: * OK [UIDVALIDITY 1001] UIDs valid\n"                                                      \
    "S: * OK [UIDNEXT 8] Predicted next UID\n"                                                     \
    "S: * OK [HIGHESTMODSEQ 4] Highest\n"                                                          \
    "S: * OK [MAILBOXID (F00000001000000000000000000000000)] Object id\n"
#define SELECT LOGIN "C: b SELECT inbox\n" INBOX "S: b OK [READ-WRITE] SELECT completed\n"
#define LOGOUT "C: z LOGOUT\nS: * BYE Logging out\nS: z OK LOGOUT completed\n! close\n"

struct conversation {
    const char *name, *text;
};

/* Runs each in all ways that proto/transcript.h names. */
void run_conversations(const struct conversation *conversations, size_t count,
                       const struct sp_session_peer *peer);
extern const struct sp_session_peer loopback;

#define RUN(table) run_conversations(table, sizeof table / sizeof table[0], &loopback)

#endif
