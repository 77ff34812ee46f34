/* The configuration: what is read, and every error with its place and its advice. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "cmd/config.h"
#include "cmd/config_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SERVER "[server]\nhostname = mail.example.org\nstate = state\n"
#define UNITS  "[unit a]\npath = a\n[unit b]\npath = b\n[unit c]\npath = c\nrole = spare\n"
#define VOLUME "[volume main]\nunits = a b c\n"
#define LISTEN "[listen]\nimap = 127.0.0.1:1143\n"

static enum sp_status parse(const char *text, struct sp_config *ret_config, struct sp_error *error)
{
    return sp_config_parse(sp_slice_str(text), "/x/sternpost.conf", "/x", ret_config, error);
}

static void test_whole(void **state)
{
    static const char text[] = "\xef\xbb\xbf# a comment\n"
                               "[server]\n"
                               "hostname = mail.example.org ; another\n"
                               "state = /var/lib/sternpost\n"
                               "postmaster = admin@example.org\n"
                               "\n"
                               "[listen]\n"
                               "  smtp = 127.0.0.1:2525 [::1]:2525\r\n"
                               "\timap = :1143\n"
                               "imaps = 192.0.2.1:993\n"
                               "pop3 = 127.0.0.1:1110\n"
                               "[tls]\n"
                               "cert = tls/cert.pem\n"
                               "key = /etc/key.pem\n"
                               "[limits]\n"
                               "message_bytes_max = 25M\n"
                               "connections = 123\n"
                               "connections_per_peer = 0\n"
                               "[guard]\n"
                               "cooling_off = 2d\n"
                               "approvers = alice bob\n"
                               "approvals = 2\n"
                               "[unit a]\n"
                               "kind = dir\n"
                               "path = a\n"
                               "id = 4d1c4f3e-1111-4222-8333-444455556666\n"
                               "parity = 16+2\n"
                               "[unit b]\n"
                               "path = /srv/b\n"
                               "role = replica\n"
                               "[unit c]\n"
                               "path = c\n"
                               "role = spare\n"
                               "[unit w]\n"
                               "path = /var/lib/sternpost/witness\n"
                               "role = witness\n"
                               "[volume main]\n"
                               "units = a  b\tc w\n"
                               "min_copies = 2\n"
                               "degraded = accept\n"
                               "segment_size = 8M\n"
                               "reserve = 64M\n"
                               "unit_timeout = 500ms\n"
                               "resilver_rate = 10M\n"
                               "scrub_rate = 0\n"
                               "scrub_max_age = 7d\n"
                               "hold = 30d\n"
                               "id = 9A9F0DF4-0000-4000-8000-000000000001\n"
                               "allow_shared_domain = yes";
    struct sp_config config;
    struct sp_error error = {0};
    assert_int_equal(parse(text, &config, &error), SP_OK);
    assert_string_equal(config.hostname, "mail.example.org");
    assert_string_equal(config.state, "/var/lib/sternpost");
    assert_string_equal(config.postmaster, "admin@example.org");
    assert_int_equal(config.guard_cooling_s, 2 * 86400);
    assert_int_equal(config.guard_approvals, 2);
    assert_string_equal(config.guard_approvers, "alice bob");
    assert_int_equal(config.volume.reserve_bytes, 64 << 20);
    assert_int_equal(config.listeners_count, 5);
    assert_int_equal(config.listeners[0].protocol, SP_PROTOCOL_SMTP);
    assert_string_equal(config.listeners[1].address, "[::1]:2525");
    assert_int_equal(config.listeners[4].protocol, SP_PROTOCOL_POP3);
    assert_string_equal(config.tls_cert, "/x/tls/cert.pem");
    assert_string_equal(config.tls_key, "/etc/key.pem");
    assert_int_equal(config.message_bytes_max, 25U << 20);
    assert_int_equal(config.connections_max, 123);
    assert_int_equal(config.connections_per_peer_max, 0);
    assert_int_equal(config.units_count, 4);
    assert_string_equal(config.units[0].path, "/x/a");
    assert_true(config.units[0].has_id && !config.units[1].has_id);
    assert_int_equal(config.units[2].role, SP_ROLE_SPARE);
    assert_true(config.units[0].parity.data_rows == 16 && config.units[0].parity.parity_rows == 2);
    assert_int_equal(config.units[1].parity.data_rows, 0);
    assert_int_equal(config.units[3].role, SP_ROLE_WITNESS);
    assert_int_equal(config.volume.units_count, 4);
    assert_ptr_equal(config.volume.units[1], &config.units[1]);
    assert_true(config.volume.degraded_accept && config.volume.allow_shared_domain &&
                config.volume.has_id);
    assert_int_equal(config.volume.segment_bytes, 8U << 20);
    assert_int_equal(config.volume.unit_timeout_ms, 500);
    assert_int_equal(config.volume.resilver_rate, 10U << 20);
    assert_int_equal(config.volume.scrub_rate, 0);
    assert_int_equal(config.volume.scrub_max_age_s, 7 * 86400);
    assert_int_equal(config.volume.hold_s, 30 * 86400);
    sp_config_release(&config);
}

static void test_defaults(void **state)
{
    struct sp_config config;
    struct sp_error error = {0};
    assert_int_equal(parse(SERVER UNITS VOLUME, &config, &error), SP_OK);
    assert_string_equal(config.state, "/x/state");
    assert_null(config.tls_cert);
    assert_null(config.postmaster);
    assert_int_equal(config.message_bytes_max, 100U << 20);
    assert_int_equal(config.volume.min_copies, 2);
    assert_int_equal(config.volume.segment_bytes, 64U << 20);
    assert_int_equal(config.volume.unit_timeout_ms, 2000);
    assert_int_equal(config.volume.hold_s, 14 * 86400);
    assert_int_equal(config.volume.scrub_max_age_s, 30 * 86400);
    assert_null(config.metrics);
    assert_false(config.volume.degraded_accept || config.volume.allow_shared_domain ||
                 config.volume.has_id);
    sp_config_release(&config);
}

/* A loopback address, a socket, or anything if that is said. */
static void test_metrics(void **state)
{
    static const struct {
        const char *lines, *metrics; /* NULL: refused */
    } cases[] = {
        {"metrics = 127.0.0.1:9187", "127.0.0.1:9187"},
        {"metrics = [::1]:0", "[::1]:0"},
        {"metrics = unix:run/m.sock", "unix:/x/run/m.sock"},
        {"metrics = unix:/run/m.sock", "unix:/run/m.sock"},
        {"metrics = 192.0.2.1:9187", NULL},
        {"metrics = :9187", NULL},
        {"metrics = 192.0.2.1:9187\nmetrics_anywhere = yes", "192.0.2.1:9187"},
        {"metrics_anywhere = yes\nmetrics = :9187", ":9187"},
        {"metrics = 192.0.2.1:9187\nmetrics_anywhere = no", NULL},
        {"metrics = localhost:9187", NULL},
        {"metrics = unix:", NULL},
        {"metrics = 127.0.0.1:9187 [::1]:9187", NULL},
        {"metrics = unix:/0123456789012345678901234567890123456789012345678901234567890123456789"
         "0123456789012345678901234567890123456789",
         NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sp_config config;
        struct sp_error error = {0};
        char text[1200];
        snprintf(text, sizeof text, SERVER UNITS VOLUME "\n[listen]\n%s\n", cases[i].lines);
        enum sp_status status = parse(text, &config, &error);
        assert_int_equal(status == SP_OK, cases[i].metrics != NULL);
        if (status == SP_OK) {
            assert_string_equal(config.metrics, cases[i].metrics);
            sp_config_release(&config);
        } else {
            assert_non_null(strstr(error.why, "[listen] metrics"));
        }
    }
}

static const struct {
    const char *text;
    const char *error; /* what: why: todo */
} errors[] = {
    /* Lines. */
    {"[server\n", "/x/sternpost.conf:1: neither a section nor `key = value`: see the comments that "
                  "`sternpost init` "
                  "writes"},
    {"[server]\nnonsense\n",
     "/x/sternpost.conf:2: neither a section nor `key = value`: see the comments that "
     "`sternpost init` writes"},
    {"a = 1\n", "/x/sternpost.conf:1: a: stands before the first section: begin with [server]"},
    /* Sections. */
    {"[sever]\n", "/x/sternpost.conf:1: [sever]: unknown section: did you mean server?"},
    {"[xyzzyx]\n", "/x/sternpost.conf:1: [xyzzyx]: unknown section: it may be server, listen, tls, "
                   "limits, guard, unit or "
                   "volume"},
    {"[server]\n\n[server]\n",
     "/x/sternpost.conf:3: [server]: given before, in line 1: put all its keys into one "
     "section"},
    {"[server main]\n",
     "/x/sternpost.conf:1: [server]: this section has no name: write only the word in brackets"},
    {"[unit]\n", "/x/sternpost.conf:1: [unit]: the name is missing: write [unit NAME]: letters, "
                 "digits, - and _, at "
                 "most 32"},
    {"[volume a/b]\n",
     "/x/sternpost.conf:1: [volume]: not a name: write [volume NAME]: letters, digits, - and _, at "
     "most 32"},
    {"[unit a]\n[unit a]\n",
     "/x/sternpost.conf:2: [unit a]: given before, in line 1: give each unit a name of its "
     "own"},
    {"[volume a]\n[volume a]\n",
     "/x/sternpost.conf:2: [volume a]: given before, in line 1: keep one: a server has "
     "one volume"},
    {"[volume a]\n[volume b]\n",
     "/x/sternpost.conf:2: [volume b]: there is a volume already, in line 1: keep one: a "
     "server has one volume"},
    /* Keys. */
    {"[listen]\nimpa = 1\n", "/x/sternpost.conf:2: [listen] impa: unknown key: did you mean imap?"},
    {"[tls]\nciphers = x\n",
     "/x/sternpost.conf:2: [tls] ciphers: unknown key: it may be cert or key"},
    {"[server]\nhostname = a\nhostname = b\n",
     "/x/sternpost.conf:3: [server] hostname: given before, in line 2: keep "
     "one of the two"},
    {"[server]\nhostname =\n",
     "/x/sternpost.conf:2: [server] hostname: no value: write one after the =, or remove "
     "the line"},
    {"[unit a]\nsmtp = 1\n",
     "/x/sternpost.conf:2: [unit a] smtp: unknown key: it may be kind, path, role, id or parity"},
    /* Values. */
    {"[server]\nhostname = -x-\n",
     "/x/sternpost.conf:2: [server] hostname: not a host name: write the name other "
     "servers know this one by: mail.example.org"},
    {"[server]\npostmaster = admin\n",
     "/x/sternpost.conf:2: [server] postmaster: not an address: write the address of an account: "
     "admin@example.org"},
    {"[limits]\nworkers = 1\n",
     "/x/sternpost.conf:2: [limits] workers: out of range: it may be 2 to 256"},
    {"[listen]\nsmtp = 2525\n",
     "/x/sternpost.conf:2: [listen] smtp: not an address with a port: write "
     "127.0.0.1:2525, [::1]:2525, or :2525 for every address"},
    {"[listen]\nsmtp = 127.0.0.1:2525 localhost:25\n",
     "/x/sternpost.conf:2: [listen] smtp: not an address with a port: write 127.0.0.1:2525, "
     "[::1]:2525, or :2525 for "
     "every address"},
    {"[limits]\nmessage_bytes_max = ten\n",
     "/x/sternpost.conf:2: [limits] message_bytes_max: not a value of this "
     "kind: write a size: bytes, or with K, M, G, T"},
    {"[limits]\nmessage_bytes_max = 1\n",
     "/x/sternpost.conf:2: [limits] message_bytes_max: out of range: it may be "
     "65536 to 4294901760 bytes"},
    {"[limits]\nmessage_bytes_max = 99999999999T\n",
     "/x/sternpost.conf:2: [limits] message_bytes_max: out of range: "
     "it may be 65536 to 4294901760 bytes"},
    {"[limits]\nconnections = -1\n",
     "/x/sternpost.conf:2: [limits] connections: not a value of this kind: write a "
     "number"},
    {"[limits]\nconnections = 0\n",
     "/x/sternpost.conf:2: [limits] connections: out of range: it may be 1 to 1000000"},
    {"[unit a]\nkind = disk\n",
     "/x/sternpost.conf:2: [unit a] kind: not one of its values: it may be dir"},
    {"[unit a]\nrole = spear\n",
     "/x/sternpost.conf:2: [unit a] role: not one of its values: did you mean spare?"},
    {"[unit a]\nid = 1\n",
     "/x/sternpost.conf:2: [unit a] id: not a UUID: write what unit.id says, or leave the line "
     "out"},
    {"[unit a]\nparity = 2\n", "/x/sternpost.conf:2: [unit a] parity: not a parity: write data "
                               "rows + parity rows: 16+2, with "
                               "which 2/18 of a segment may be lost; or off"},
    {"[unit a]\nparity = 16+x\n", "/x/sternpost.conf:2: [unit a] parity: not a parity: write data "
                                  "rows + parity rows: 16+2, with "
                                  "which 2/18 of a segment may be lost; or off"},
    {"[unit a]\nparity = 129+2\n",
     "/x/sternpost.conf:2: [unit a] parity: out of range: it may be 1+1 to 128+32: write data rows "
     "+ "
     "parity rows: 16+2, with which 2/18 of a segment may be lost; or off"},
    {"[unit a]\nparity = 16+0\n",
     "/x/sternpost.conf:2: [unit a] parity: out of range: it may be 1+1 to 128+32: write data rows "
     "+ "
     "parity rows: 16+2, with which 2/18 of a segment may be lost; or off"},
    {"[volume a]\nid = 1\n",
     "/x/sternpost.conf:2: [volume a] id: not a UUID: write what `sternpost volume list` "
     "shows, or leave the line out"},
    {"[volume a]\ndegraded = yes\n",
     "/x/sternpost.conf:2: [volume a] degraded: not one of its values: it may be "
     "defer or accept"},
    {"[volume a]\nallow_shared_domain = ja\n",
     "/x/sternpost.conf:2: [volume a] allow_shared_domain: not one of its "
     "values: it may be no or yes"},
    {"[volume a]\nunit_timeout = 2\n",
     "/x/sternpost.conf:2: [volume a] unit_timeout: not a value of this kind: write "
     "a time with its unit: 500ms, 2s, 10min, 1h, 14d"},
    {"[volume a]\nunit_timeout = 1h\n",
     "/x/sternpost.conf:2: [volume a] unit_timeout: out of range: it may be 100 to "
     "600000 ms"},
    {"[volume a]\nmin_copies = 0\n",
     "/x/sternpost.conf:2: [volume a] min_copies: out of range: it may be 1 to 16"},
    /* What does not fit together. */
    {"", "/x/sternpost.conf: [server] hostname: missing: add the name other servers know this one "
         "by: hostname = "
         "mail.example.org"},
    {"[server]\nhostname = a\n",
     "/x/sternpost.conf: [server] state: missing: add a folder for the index and the "
     "control socket: state = /var/lib/sternpost"},
    {SERVER "[tls]\ncert = c\n",
     "/x/sternpost.conf: [tls] key: missing: give both cert and key, as PEM files, or "
     "neither"},
    {SERVER "[tls]\nkey = c\n",
     "/x/sternpost.conf: [tls] cert: missing: give both cert and key, as PEM files, or "
     "neither"},
    {SERVER "[listen]\nimaps = :993\n",
     "/x/sternpost.conf: [listen] imaps: needs a certificate: add [tls] with cert "
     "and key, or remove the line"},
    {SERVER, "/x/sternpost.conf: there is no volume: add [volume main] with units = a b c"},
    {SERVER UNITS "[volume main]\n",
     "/x/sternpost.conf:11: [volume main] units: missing: name its units: units = a b "
     "c"},
    {SERVER "[unit a]\n" VOLUME,
     "/x/sternpost.conf:4: [unit a] path: missing: add the folder where it keeps its "
     "segments: path = /srv/mail"},
    {SERVER "[unit a]\npath = /x\n" VOLUME,
     "/x/sternpost.conf:4: [unit a] path: the state folder lies in it: give "
     "each a folder of its own"},
    {SERVER "[unit a]\npath = m\n[unit b]\npath = m/b\n" VOLUME,
     "/x/sternpost.conf:6: [unit b] path: lies in that of unit a: give each unit a folder, and a "
     "disk, of its own"},
    {SERVER
     "[unit a]\npath = a\nid = 4d1c4f3e-1111-4222-8333-444455556666\n[unit b]\npath = b\nid = "
     "4d1c4f3e-1111-4222-8333-444455556666\n" VOLUME,
     "/x/sternpost.conf:4: [unit a] id: that of unit b: write what unit.id in its folder says"},
    {SERVER UNITS "[volume main]\nunits = a b d\n",
     "/x/sternpost.conf:12: [volume main] units: there is no unit d: "
     "add a section [unit NAME] with its path; separate names by "
     "blanks"},
    {SERVER "[unit disk1]\npath = a\n[volume main]\nunits = disk2\n",
     "/x/sternpost.conf:7: [volume main] units: there is no unit disk2: did you mean disk1?"},
    {SERVER UNITS "[volume main]\nunits = a a c\n",
     "/x/sternpost.conf:12: [volume main] units: a is named twice: name "
     "each unit once: twice the same is not two copies"},
    {SERVER UNITS "[volume main]\nunits = a c\n",
     "/x/sternpost.conf:12: [volume main] has 1 replica, and needs 2: add "
     "units, or make a spare a replica (leave out its role)"},
    {SERVER UNITS "[volume main]\nunits = a b c\nmin_copies = 3\n",
     "/x/sternpost.conf:12: [volume main] has 2 replicas, and needs 3: add units, or make a spare "
     "a replica (leave out "
     "its role)"},
    {SERVER UNITS "[guard]\napprovals = 1\n" VOLUME,
     "/x/sternpost.conf: [guard] approvals: more than there are approvers: name the Unix users who "
     "may approve: approvers = alice bob"},
    {SERVER UNITS "[guard]\napprovers = a b c d e f g h i\n" VOLUME,
     "/x/sternpost.conf: [guard] approvers: more than 8: name fewer"},
    {SERVER "[unit state]\npath = a\n" VOLUME,
     "/x/sternpost.conf:4: [unit state]: the state folder has this name: give it another name"},
    {"[guard]\napprovals = 9\n",
     "/x/sternpost.conf:2: [guard] approvals: out of range: it may be 0 to 8"},
    {SERVER UNITS "[unit d]\npath = d\n" VOLUME,
     "/x/sternpost.conf:11: [unit d] belongs to no volume: name it in the "
     "volume's units, or remove it"},
};

static void test_errors(void **state)
{
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        struct sp_config config;
        struct sp_error error = {0};
        char text[2000];
        assert_int_not_equal(parse(errors[i].text, &config, &error), SP_OK);
        snprintf(text, sizeof text, "%s: %s: %s", error.what, error.why, error.todo);
        assert_string_equal(text, errors[i].error);
        assert_int_not_equal(error.status, SP_OK);
    }
}

static void test_odd_bytes(void **state)
{
    struct sp_config config;
    struct sp_error error = {0};
    char line[400];
    assert_int_equal(sp_config_parse(SP_S("[server]\nhost\0name = x\n"), "f", "/", &config, &error),
                     SP_INVALID);
    assert_string_equal(error.what, "f:2");
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\0';
    assert_int_equal(parse(line, &config, &error), SP_LIMIT);
    assert_string_equal(error.what, "/x/sternpost.conf:1");
    assert_string_equal(error.why, "a line of more than 198 bytes");
    /* A comment may be as long as it likes. */
    char text[1000];
    snprintf(text, sizeof text, "# %s\n" SERVER UNITS VOLUME LISTEN, line);
    assert_int_equal(parse(text, &config, &error), SP_OK);
    sp_config_release(&config);
}

static void test_files(void **state)
{
    char folder[] = "/tmp/test-config-XXXXXX", path[64], wanted[64];
    struct sp_config config;
    struct sp_error error = {0};
    const char *found;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/sternpost.conf", folder);
    assert_int_equal(sp_config_read(path, &config, &error), SP_NOT_FOUND);
    assert_string_equal(error.what, path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(SERVER UNITS VOLUME, file);
    fclose(file);
    assert_int_equal(sp_config_read(path, &config, &error), SP_OK);
    snprintf(wanted, sizeof wanted, "%s/a", folder);
    assert_string_equal(config.units[0].path, wanted);
    sp_config_release(&config);
    assert_int_equal(sp_config_read(folder, &config, &error), SP_IO);
    assert_int_equal(sp_config_find(path, &found, &error), SP_OK);
    assert_ptr_equal(found, path);
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(sp_config_find(NULL, &found, &error), SP_OK);
    assert_string_equal(found, "sternpost.conf");
    unlink(path);
    rmdir(folder);
}

static void test_values(void **state)
{
    static const struct {
        const char *text;
        enum sp_status status;
        uint64_t value;
    } sizes[] =
        {
            {"0", SP_OK, 0},           {"17", SP_OK, 17},
            {"1k", SP_OK, 1024},       {"2 MiB", SP_OK, 2U << 20},
            {"3G", SP_OK, 3ULL << 30}, {"1T", SP_OK, 1ULL << 40},
            {"", SP_INVALID, 0},       {"K", SP_INVALID, 0},
            {"1.5M", SP_INVALID, 0},   {"-1", SP_INVALID, 0},
            {"1X", SP_INVALID, 0},     {"99999999T", SP_LIMIT, 0},
        },
      times[] = {
          {"0", SP_OK, 0},           {"500ms", SP_OK, 500},  {"2s", SP_OK, 2000},
          {"10 min", SP_OK, 600000}, {"1h", SP_OK, 3600000}, {"14d", SP_OK, 1209600000},
          {"5", SP_INVALID, 0},      {"1m", SP_INVALID, 0},
      };
    uint64_t value;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(sp_config_size(sp_slice_str(sizes[i].text), &value), sizes[i].status);
        if (!sizes[i].status)
            assert_int_equal(value, sizes[i].value);
    }
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        assert_int_equal(sp_config_duration_ms(sp_slice_str(times[i].text), &value),
                         times[i].status);
        if (!times[i].status)
            assert_int_equal(value, times[i].value);
    }
    static const char *const words[] = {"smtp", "imap", "imaps", "lmtp", NULL};
    assert_string_equal(sp_config_nearest(SP_S("impa"), words), "imap");
    assert_string_equal(sp_config_nearest(SP_S("SMTP"), words), "smtp");
    assert_string_equal(sp_config_nearest(SP_S("imapss"), words), "imaps");
    assert_null(sp_config_nearest(SP_S("hostname"), words));
    static const char *const good[] = {"a", "mail.example.org", "xn--x", "1.2", "[192.0.2.1]"};
    static const char *const bad[] = {"",     ".",   "a.",  "a..b", "-a",      "a-",
                                      "a.-b", "a_b", "a b", "[]",   "\xc3\xa4"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(sp_config_hostname_ok(sp_slice_str(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(sp_config_hostname_ok(sp_slice_str(bad[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),     cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_metrics),   cmocka_unit_test(test_errors),
        cmocka_unit_test(test_odd_bytes), cmocka_unit_test(test_files),
        cmocka_unit_test(test_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
