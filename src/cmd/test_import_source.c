/* Messages taken out of mbox files and Maildirs. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "cmd/import_source.h"

#include "base/time.h"

#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* What a source gave, as text: one line for each call. */
struct log {
    char text[8192];
    size_t len;
};

static void add(struct log *log, const char *format, ...) SP_PRINTF(2, 3);
static void add(struct log *log, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log->len += (size_t)vsnprintf(log->text + log->len, sizeof log->text - log->len, format, args);
    va_end(args);
    assert_true(log->len < sizeof log->text);
}

static enum sp_status on_mailbox(void *context, const char *mailbox, struct sp_error *error)
{
    add(context, "mailbox %s\n", mailbox);
    return SP_OK;
}

static enum sp_status on_message(void *context, const struct sp_import_item *item,
                                 struct sp_error *error)
{
    struct log *log = context;
    add(log, "message %s %lld%+d %02x", item->mailbox, (long long)item->date.unix_s,
        item->date.zone_min, item->system_flags);
    for (uint32_t i = 0; i < item->keywords_count; i++)
        add(log, " %.*s", SP_FMT(item->keywords[i]));
    add(log, " \"");
    for (size_t i = 0; i < item->bytes.len; i++) {
        uint8_t c = item->bytes.ptr[i];
        if (c == '\r' || c == '\n')
            add(log, "%s", c == '\r' ? "\\r" : "\\n");
        else
            add(log, "%c", c);
    }
    add(log, "\"\n");
    return SP_OK;
}

static void on_skip(void *context, const char *source, const char *why)
{
    const char *slash = strrchr(source, '/');
    add(context, "skip %s: %s\n", slash ? slash + 1 : source, why);
}

static void on_progress(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    assert_true(done_bytes <= total_bytes || total_bytes == 0);
}

static struct sp_import_visitor visitor_for(struct log *log)
{
    return (struct sp_import_visitor){log, on_mailbox, on_message, on_skip, on_progress};
}

static void test_crlf(void **state)
{
    static const struct {
        const char *from, *to;
    } cases[] = {
        {"", ""},
        {"a", "a"},
        {"a\n", "a\r\n"},
        {"a\r\n", "a\r\n"},
        {"\n\n", "\r\n\r\n"},
        {"\r\r\n", "\r\r\n"},
        {"a\rb\n", "a\rb\r\n"},
        {"a\nb\r\nc", "a\r\nb\r\nc"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sp_slice text = sp_slice_str(cases[i].from);
        /* Cut at every position: a CR and its LF may come in two pieces. */
        for (size_t cut = 0; cut <= text.len; cut++) {
            struct sp_buf buf;
            uint8_t previous = 0;
            sp_buf_init(&buf, 1000);
            sp_import_add_crlf(&buf, sp_slice_sub(text, 0, cut), &previous);
            sp_import_add_crlf(&buf, sp_slice_from(text, cut), &previous);
            assert_int_equal(buf.len, strlen(cases[i].to));
            assert_true(sp_slice_eq(sp_buf_slice(&buf), sp_slice_str(cases[i].to)));
            sp_buf_release(&buf);
        }
    }
}

static void test_from_line(void **state)
{
    static const struct {
        const char *line;
        int64_t unix_s; /* -1: not such a line */
        int zone;
    } cases[] = {
        {"From a@example.org Thu Aug 22 12:36:23 2002\n", 1030019783, 0},
        {"From a@example.org  Thu Aug 22 12:36:23 2002", 1030019783, 0},
        {"From MAILER-DAEMON Thu Jan  1 00:00:00 1970\r\n", 0, 0},
        {"From a Thu Aug 22 12:36 2002\n", 1030019760, 0},
        {"From a Thu Aug 22 14:36:23 2002 +0200\n", 1030019783, 120},
        {"From a Thu Aug 22 08:36:23 -0400 2002\n", 1030019783, -240},
        {"From a Thu Aug 22 12:36:23 EDT 2002\n", 1030019783, 0},
        {"From \"a b\"@example.org Thu Aug 22 12:36:23 2002\n", 1030019783, 0},
        {"From mon Thu Aug 22 12:36:23 2002\n", 1030019783, 0},
        {"From Thu Aug 22 12:36:23 2002\n", 1030019783, 0},
        {"From a Thu Aug 22 12:36:23 2002 remote from b\n", -1, 0},
        {"From: a Thu Aug 22 12:36:23 2002\n", -1, 0},
        {"from a Thu Aug 22 12:36:23 2002\n", -1, 0},
        {"From time to time, on a Monday\n", -1, 0},
        {"From a Thu Aug 32 12:36:23 2002\n", -1, 0},
        {"From a Thu Aug 22 12:36:23\n", -1, 0},
        {"From a Thu Aug 22 25:36:23 2002\n", -1, 0},
        {"From \n", -1, 0},
        {"From", -1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sp_date date = {.unix_s = -1};
        bool is = sp_import_from_line(sp_slice_str(cases[i].line), &date);
        if (is != (cases[i].unix_s >= 0) || date.unix_s != cases[i].unix_s ||
            date.zone_min != cases[i].zone)
            fail_msg("%s: %d %lld %d", cases[i].line, is, (long long)date.unix_s, date.zone_min);
    }
}

#define FROM  "From a@example.org Thu Aug 22 12:36:23 2002\n"
#define FIRST "message INBOX 1030019783+0 "
static const struct {
    const char *file, *log;
} mboxes[] = {
    {"", ""},
    {"\n\n", ""},
    {FROM "Subject: a\n\nbody\n", FIRST "00 \"Subject: a\\r\\n\\r\\nbody\\r\\n\"\n"},
    {"\n" FROM "Subject: a\n\nbody\n\n" FROM "Subject: b\n\nbody\n\n", FIRST
     "00 \"Subject: a\\r\\n\\r\\nbody\\r\\n\"\n" FIRST "00 \"Subject: b\\r\\n\\r\\nbody\\r\\n\"\n"},
    /* A last line without its end; CRLF is kept. */
    {FROM "Subject: a\r\n\r\nbody", FIRST "00 \"Subject: a\\r\\n\\r\\nbody\"\n"},
    /* Empty lines at the end are the message's, but for one. */
    {FROM "S: a\n\nx\n\n\n" FROM "S: b\n\n",
     FIRST "00 \"S: a\\r\\n\\r\\nx\\r\\n\\r\\n\"\n" FIRST "00 \"S: b\\r\\n\\r\\n\"\n"},
    /* A line with a blank in it is not empty. */
    {FROM "S: a\n \n b\n\nx\n \n" FROM "\t\ny\n", FIRST
     "00 \"S: a\\r\\n \\r\\n b\\r\\n\\r\\nx\\r\\n \\r\\nFrom a@example.org Thu Aug 22 12:36:23 "
     "2002\\r\\n\t\\r\\ny\\r\\n\"\n"},
    /* Header alone, with and without an empty line. */
    {FROM "S: a\n", FIRST "00 \"S: a\\r\\n\\r\\n\"\n"},
    {FROM "S: a\n\n" FROM "S: b\n\n\n",
     FIRST "00 \"S: a\\r\\n\\r\\n\"\n" FIRST "00 \"S: b\\r\\n\\r\\n\"\n"},
    /* Quoting, and From lines that are none. */
    {FROM "S: a\n\n>From x\n>>From y\n> From z\n>from\nFrom here\n\nFrom there on\n",
     FIRST "00 \"S: a\\r\\n\\r\\nFrom x\\r\\n>From y\\r\\n> From z\\r\\n>from\\r\\nFrom "
           "here\\r\\n\\r\\nFrom there "
           "on\\r\\n\"\n"},
    {FROM "S: a\n\nx\n" FROM "y\n",
     FIRST "00 \"S: a\\r\\n\\r\\nx\\r\\nFrom a@example.org Thu Aug 22 12:36:23 "
           "2002\\r\\ny\\r\\n\"\n"},
    /* Lengths are not believed. */
    {FROM "Content-Length: 1000\n\nx\n\n" FROM "S: b\n\ny\n", FIRST
     "00 \"Content-Length: 1000\\r\\n\\r\\nx\\r\\n\"\n" FIRST "00 \"S: b\\r\\n\\r\\ny\\r\\n\"\n"},
    /* Status. */
    {FROM
     "Status: RO\nS: a\nX-Status: AF\nX-Keywords: red $Label1\n  more\nX-UID: 12\n\nStatus: R\n",
     FIRST "07 red $Label1 \"S: a\\r\\n\\r\\nStatus: R\\r\\n\"\n"},
    {FROM "status: o\nx-status: DT\n\n\n", FIRST "18 \"\\r\\n\"\n"},
    /* The format's own data. */
    {FROM "Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\nx\n\n" FROM
          "S: b\n\ny\n",
     FIRST "00 \"S: b\\r\\n\\r\\ny\\r\\n\"\n"},
    /* Empty, and longer than allowed. */
    {FROM "\n" FROM "S: b\n\ny\n",
     "skip f, byte 0: no message: it is empty\n" FIRST "00 \"S: b\\r\\n\\r\\ny\\r\\n\"\n"},
    {FROM "S: "
          "a\n\n01234567890123456789012345678901234567890123456789012345678901234567890123456789012"
          "34567890123456789"
          "\n\n" FROM "S: b\n\ny\n",
     "skip f, byte 0: longer than message_bytes_max, or no memory for it\n" FIRST
     "00 \"S: b\\r\\n\\r\\ny\\r\\n\"\n"},
};

static void test_mbox(void **state)
{
    for (size_t i = 0; i < sizeof mboxes / sizeof mboxes[0]; i++) {
        struct log log = {.len = 0};
        struct sp_import_visitor visitor = visitor_for(&log);
        struct sp_error error = {0};
        FILE *file = tmpfile();
        assert_non_null(file);
        fputs(mboxes[i].file, file);
        rewind(file);
        assert_int_equal(sp_import_mbox_file(file, "f", "INBOX", 100, &visitor, &error), SP_OK);
        fclose(file);
        assert_memory_equal(log.text, "mailbox INBOX\n", 14);
        assert_string_equal(log.text + 14, mboxes[i].log);
    }
}

static void test_not_mbox(void **state)
{
    static const char *const files[] = {"Subject: a\n\nx\n", "From here\n", "\n\nx\n"};
    for (size_t i = 0; i < 3; i++) {
        struct log log = {.len = 0};
        struct sp_import_visitor visitor = visitor_for(&log);
        struct sp_error error = {0};
        FILE *file = tmpfile();
        assert_non_null(file);
        fputs(files[i], file);
        rewind(file);
        assert_int_equal(sp_import_mbox_file(file, "f", "INBOX", 100, &visitor, &error),
                         SP_INVALID);
        assert_string_equal(error.what, "f");
        fclose(file);
    }
    struct sp_error error = {0};
    struct log log = {.len = 0};
    struct sp_import_visitor visitor = visitor_for(&log);
    assert_int_equal(sp_import_mbox("/tmp", "INBOX", 100, &visitor, &error), SP_INVALID);
    assert_int_equal(sp_import_mbox("/nowhere/at/all", "INBOX", 100, &visitor, &error),
                     SP_NOT_FOUND);
}

/* A message whose lines are longer than the reader's pieces. */
static void test_mbox_long_lines(void **state)
{
    struct log log = {.len = 0};
    struct sp_import_visitor visitor = visitor_for(&log);
    struct sp_error error = {0};
    FILE *file = tmpfile();
    assert_non_null(file);
    fputs(FROM "S: a\n\n", file);
    for (unsigned i = 0; i < 300000; i++)
        fputs("From ", file);
    fputs("\n\n" FROM "S: b\n\ny\n", file);
    rewind(file);
    assert_int_equal(sp_import_mbox_file(file, "f", "INBOX", 1000000, &visitor, &error), SP_OK);
    fclose(file);
    assert_string_equal(
        log.text,
        "mailbox INBOX\nskip f, byte 0: longer than message_bytes_max, or no memory for it\n" FIRST
        "00 \"S: b\\r\\n\\r\\ny\\r\\n\"\n");
}

static void put_file(const char *folder, const char *name, const char *text, int64_t mtime)
{
    char path[500];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    const struct timespec times[2] = {{.tv_sec = mtime}, {.tv_sec = mtime}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void make_folder(const char *folder, const char *name)
{
    char path[500];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void test_maildir(void **state)
{
    static const char *const folders[] = {
        "cur",      "new",       "tmp",           ".Sent",      ".Sent/cur",      ".A.B",
        ".A.B/new", ".&AOQ-",    ".&AOQ-/cur",    ".bad..name", ".bad..name/cur", "cur/dir",
        "Work",     "Work/v1.0", "Work/v1.0/cur", "Work/tmp",   "Work/tmp/cur",   "Work/notes"};
    char root[] = "/tmp/test-maildir-XXXXXX", command[64], link_path[64];
    struct log log = {.len = 0};
    struct sp_import_visitor visitor = visitor_for(&log);
    struct sp_error error = {0};
    assert_non_null(mkdtemp(root));
    assert_int_equal(sp_import_maildir(root, "INBOX", 100, &visitor, &error), SP_INVALID);
    log.len = 0;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        make_folder(root, folders[i]);
    put_file(root, "dovecot-keywords", "0 red\n1 $Label1\nx\n99 no\n", 5);
    put_file(root, ".hidden", "x", 5);
    put_file(root, "cur/1000.a:2,FRSTDPabc", "S: a\n\nx\n", 1000);
    put_file(root, "cur/999.b", "S: b\r\n\r\nx\r\n", 999);
    put_file(root, "cur/.dot", "x", 1);
    put_file(root, "cur/5.empty:2,", "", 5);
    put_file(root, "cur/6.long:2,S",
             "0123456789012345678901234567890123456789012345678901234567890123456789012345678901"
             "2345678901234567890123456789",
             6);
    put_file(root, "new/1001.c", "S: c\n\n", 1001);
    put_file(root, ".Sent/cur/1:2,S", "S: d\n\n", 1);
    put_file(root, ".A.B/new/1", "S: e\n\n", 1);
    put_file(root, ".&AOQ-/cur/1:2,a", "S: f\n\n", 1);
    put_file(root, "Work/v1.0/cur/1:2,", "S: g\n\n", 1);
    put_file(root, "Work/tmp/cur/1:2,", "S: h\n\n", 1);
    snprintf(link_path, sizeof link_path, "%s/Work/up", root);
    assert_int_equal(symlink("..", link_path), 0);
    assert_int_equal(sp_import_maildir(root, "INBOX", 100, &visitor, &error), SP_OK);
    assert_string_equal(
        log.text,
        "mailbox INBOX\n"
        "message INBOX 1000+0 1f $Forwarded red $Label1 \"S: a\\r\\n\\r\\nx\\r\\n\"\n"
        "message INBOX 1001+0 00 \"S: c\\r\\n\\r\\n\"\n"
        "skip 5.empty:2,: no message: it is empty\n"
        "skip 6.long:2,S: longer than message_bytes_max\n"
        "message INBOX 999+0 00 \"S: b\\r\\n\\r\\nx\\r\\n\"\n"
        "skip dir: not a file\n"
        "mailbox \xc3\xa4\n"
        "message \xc3\xa4 1+0 00 \"S: f\\r\\n\\r\\n\"\n"
        "mailbox A/B\n"
        "message A/B 1+0 00 \"S: e\\r\\n\\r\\n\"\n"
        "mailbox Sent\n"
        "message Sent 1+0 01 \"S: d\\r\\n\\r\\n\"\n"
        "skip .bad..name: its name cannot be that of a mailbox; rename it and import again\n"
        "skip up: a link; import the folder that it leads to\n"
        "mailbox Work/v1.0\n"
        "message Work/v1.0 1+0 00 \"S: g\\r\\n\\r\\n\"\n");
    assert_int_equal(sp_import_maildir("/nowhere/at/all", "INBOX", 100, &visitor, &error),
                     SP_NOT_FOUND);
    snprintf(command, sizeof command, "rm -rf %s", root);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crlf),
        cmocka_unit_test(test_from_line),
        cmocka_unit_test(test_mbox),
        cmocka_unit_test(test_not_mbox),
        cmocka_unit_test(test_mbox_long_lines),
        cmocka_unit_test(test_maildir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
