/* Loads a mail server and times it: one thread, epoll, as little work for each message or command
 * as possible, since it shares the processors with the server it measures. Every answer is checked;
 * the first that is not as it should be ends the run with an error. Everything goes to 127.0.0.1.
 *
 *   load deliver lmtp|smtp PORT CONNECTIONS TOTAL POOL USERS [RCPTS]
 *       TOTAL messages from the pool over CONNECTIONS connections, which stay open. Each begins
 * with a Message-ID of its own. Envelope commands and DATA go in one write (RFC 2920), as mail
 * servers send them. Recipients are user1@example.com to userUSERS@example.com in turn, RCPTS of
 * them for each message. load login PORT CONNECTIONS USERS PASSWORD SECONDS connect, LOGIN, SELECT
 * INBOX, LOGOUT, again and again load noop PORT CONNECTIONS USERS PASSWORD SECONDS NOOP, again and
 * again, with INBOX selected load command PORT USER PASSWORD MAILBOX COMMAND SELECT, then one
 * command, each answer read to its end load read FILE [direct] [COUNT] reads the file from
 * beginning to end, COUNT times, and does nothing with it
 *
 * POOL is a sequence of "LENGTH\n" and LENGTH octets: a message with CRLF line ends, dots stuffed
 * already. Prints one line of JSON. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 4096
#define RCPTS_MAX       1000

static _Noreturn __attribute__((format(printf, 1, 2))) void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static unsigned number(const char *text, unsigned max)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || *end || end == text || !value || value > max)
        fail("%s: not a number from 1 to %u", text, max);
    return (unsigned)value;
}

static int dial(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
        fail("port %u: %s", port, strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void send_all(int fd, struct iovec *parts, int count)
{
    while (count) {
        ssize_t n = writev(fd, parts, count);
        if (n < 0 && errno != EINTR)
            fail("write: %s", strerror(errno));
        while (n > 0 && count) {
            size_t step = (size_t)n < parts->iov_len ? (size_t)n : parts->iov_len;
            parts->iov_base = (char *)parts->iov_base + step;
            parts->iov_len -= step;
            n -= (ssize_t)step;
            if (!parts->iov_len) {
                parts++;
                count--;
            }
        }
    }
}

static void send_text(int fd, const char *text, size_t len)
{
    send_all(fd, &(struct iovec){.iov_base = (void *)(uintptr_t)text, .iov_len = len}, 1);
}

/* ---- the pool ---- */

struct pool {
    struct iovec *messages;
    size_t count;
};

static char *read_file(const char *path, size_t *ret_len)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        fail("%s: %s", path, strerror(errno));
    size_t len = (size_t)st.st_size, have = 0;
    char *data = malloc(len + 1);
    if (!data)
        fail("no memory");
    for (ssize_t n; have < len; have += (size_t)n)
        if ((n = read(fd, data + have, len - have)) <= 0)
            fail("%s: cannot be read", path);
    close(fd);
    data[len] = '\0';
    *ret_len = len;
    return data;
}

static void pool_open(const char *path, struct pool *ret_pool)
{
    size_t len, room = 0;
    char *at = read_file(path, &len), *end = at + len;
    *ret_pool = (struct pool){0};
    while (at < end) {
        char *body;
        size_t size = strtoul(at, &body, 10);
        if (*body++ != '\n' || size < 2 || size > (size_t)(end - body))
            fail("%s: not a pool of messages", path);
        if (ret_pool->count == room) {
            room = room ? room * 2 : 1024;
            ret_pool->messages = realloc(ret_pool->messages, room * sizeof *ret_pool->messages);
            if (!ret_pool->messages)
                fail("no memory");
        }
        ret_pool->messages[ret_pool->count++] = (struct iovec){.iov_base = body, .iov_len = size};
        at = body + size;
    }
    if (!ret_pool->count)
        fail("%s: holds no messages", path);
}

/* ---- connections that are answered in lines ---- */

struct conn {
    int fd;
    unsigned step;     /* what it waits for, in the sense of its task */
    unsigned expected; /* answers still to come in this step */
    unsigned user;
    size_t have;
    char buf[16384];
};

struct task {
    int epoll;
    unsigned port, connections, users, open;
    struct conn *conns;
    void (*line)(struct task *task, struct conn *conn, const char *line, size_t len);
    void (*gone)(struct task *task, struct conn *conn);
    /* deliver */
    struct pool pool;
    bool lmtp;
    unsigned rcpts, total, started, done;
    unsigned next_user;
    uint64_t octets;
    /* login and noop */
    const char *password;
    double end;
};

static void conn_open(struct task *task, struct conn *conn)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    conn->fd = dial(task->port);
    conn->step = 0;
    conn->expected = 1;
    conn->have = 0;
    if (epoll_ctl(task->epoll, EPOLL_CTL_ADD, conn->fd, &event))
        fail("epoll: %s", strerror(errno));
    task->open++;
}

static void conn_close(struct task *task, struct conn *conn)
{
    close(conn->fd);
    conn->fd = -1;
    task->open--;
}

static void conn_read(struct task *task, struct conn *conn)
{
    ssize_t n = read(conn->fd, conn->buf + conn->have, sizeof conn->buf - conn->have);
    if (n < 0 && errno != ECONNRESET)
        fail("read: %s", strerror(errno));
    if (n <= 0) {
        task->gone(task, conn);
        return;
    }
    conn->have += (size_t)n;
    char *at = conn->buf, *end = conn->buf + conn->have;
    for (char *eol; conn->fd >= 0 && (eol = memchr(at, '\n', (size_t)(end - at))); at = eol + 1)
        task->line(task, conn, at, (size_t)(eol - at));
    conn->have = conn->fd >= 0 ? (size_t)(end - at) : 0;
    if (conn->have == sizeof conn->buf)
        fail("a line of more than %zu octets", sizeof conn->buf);
    memmove(conn->buf, at, conn->have);
}

static void run(struct task *task)
{
    struct epoll_event events[64];
    task->epoll = epoll_create1(EPOLL_CLOEXEC);
    task->conns = calloc(task->connections, sizeof *task->conns);
    if (task->epoll < 0 || !task->conns)
        fail("no memory");
    for (unsigned i = 0; i < task->connections; i++) {
        task->conns[i].user = i % task->users + 1;
        conn_open(task, &task->conns[i]);
    }
    while (task->open) {
        int n = epoll_wait(task->epoll, events, 64, 30000);
        if (n == 0)
            fail("no answer for 30 seconds");
        for (int i = 0; i < n; i++)
            conn_read(task, events[i].data.ptr);
    }
}

/* ---- deliver ---- */

enum { GREETING, HELLO, ENVELOPE, DATA, BODY, QUIT };

static void envelope_send(struct task *task, struct conn *conn)
{
    static char text[64 + RCPTS_MAX * 48];
    size_t len = 0;
    if (task->started == task->total) {
        conn->step = QUIT;
        conn->expected = 1;
        send_text(conn->fd, "QUIT\r\n", 6);
        return;
    }
    task->started++;
    len += (size_t)snprintf(text, sizeof text, "MAIL FROM:<sender@peer.example>\r\n");
    for (unsigned i = 0; i < task->rcpts; i++) {
        task->next_user = task->next_user % task->users + 1;
        len += (size_t)snprintf(text + len, sizeof text - len, "RCPT TO:<user%u@example.com>\r\n",
                                task->next_user);
    }
    len += (size_t)snprintf(text + len, sizeof text - len, "DATA\r\n");
    conn->step = ENVELOPE;
    conn->expected = 1 + task->rcpts;
    send_text(conn->fd, text, len);
}

static void body_send(struct task *task, struct conn *conn)
{
    static unsigned serial;
    char id[96];
    const struct iovec *message = &task->pool.messages[serial % task->pool.count];
    int n = snprintf(id, sizeof id, "Message-ID: <%08x.%08x.%08u@peer.example>\r\n",
                     (unsigned)getpid(), serial * 2654435761U, serial);
    serial++;
    struct iovec parts[] = {{.iov_base = id, .iov_len = (size_t)n},
                            *message,
                            {.iov_base = (char[]){".\r\n"}, .iov_len = 3}};
    task->octets += (uint64_t)n + message->iov_len;
    conn->step = BODY;
    conn->expected = task->lmtp ? task->rcpts : 1;
    send_all(conn->fd, parts, 3);
}

static void deliver_line(struct task *task, struct conn *conn, const char *line, size_t len)
{
    const char *hello = task->lmtp ? "LHLO bench.example\r\n" : "EHLO bench.example\r\n";
    char good = conn->step == DATA ? '3' : '2';
    if (len < 4 || line[0] != good)
        fail("%.*s", (int)len, line);
    if (line[3] == '-' || --conn->expected)
        return;
    switch (conn->step) {
    case GREETING:
        conn->step = HELLO;
        conn->expected = 1;
        send_text(conn->fd, hello, strlen(hello));
        break;
    case HELLO:
        envelope_send(task, conn);
        break;
    case ENVELOPE:
        conn->step = DATA;
        conn->expected = 1;
        break;
    case DATA:
        body_send(task, conn);
        break;
    case BODY:
        task->done++;
        envelope_send(task, conn);
        break;
    default:
        conn_close(task, conn);
    }
}

static void deliver_gone(struct task *task, struct conn *conn)
{
    if (conn->step != QUIT)
        fail("a connection was closed after %u messages", task->done);
    conn_close(task, conn);
}

static void deliver(int argc, char **argv)
{
    if (argc < 6 || argc > 7)
        fail("deliver lmtp|smtp PORT CONNECTIONS TOTAL POOL USERS [RCPTS]");
    struct task task = {.lmtp = strcmp(argv[0], "lmtp") == 0,
                        .port = number(argv[1], 65535),
                        .connections = number(argv[2], CONNECTIONS_MAX),
                        .total = number(argv[3], 100000000),
                        .users = number(argv[5], 1000000),
                        .rcpts = argc > 6 ? number(argv[6], RCPTS_MAX) : 1,
                        .line = deliver_line,
                        .gone = deliver_gone};
    pool_open(argv[4], &task.pool);
    double start = seconds();
    run(&task);
    double took = seconds() - start;
    printf("{\"messages\": %u, \"seconds\": %.4f, \"octets\": %llu}\n", task.done, took,
           (unsigned long long)task.octets);
}

/* ---- login, noop ---- */

enum { HI, LOGIN, SELECT, NOOP, LOGOUT };

static void imap_send(const struct task *task, struct conn *conn, unsigned step)
{
    char text[600];
    int n = 0;
    conn->step = step;
    if (step == LOGIN)
        n = snprintf(text, sizeof text, "a LOGIN user%u@example.com %s\r\n", conn->user,
                     task->password);
    else
        n = snprintf(text, sizeof text, "a %s\r\n",
                     step == SELECT ? "SELECT INBOX"
                     : step == NOOP ? "NOOP"
                                    : "LOGOUT");
    send_text(conn->fd, text, (size_t)n);
}

static void imap_line(struct task *task, struct conn *conn, const char *line, size_t len)
{
    bool noop = task->total; /* else logins */
    if (len < 2 || (conn->step == HI ? line[0] != '*' : line[0] != 'a' && line[0] != '*'))
        fail("%.*s", (int)len, line);
    if (conn->step != HI && line[0] == '*')
        return;
    if (conn->step != HI && strncmp(line, "a OK", 4) != 0)
        fail("%.*s", (int)len, line);
    switch (conn->step) {
    case HI:
        imap_send(task, conn, LOGIN);
        break;
    case LOGIN:
        imap_send(task, conn, SELECT);
        break;
    case SELECT:
    case NOOP:
        task->done += conn->step == NOOP;
        imap_send(task, conn, noop && seconds() < task->end ? NOOP : LOGOUT);
        break;
    default:
        break;
    }
}

static void imap_gone(struct task *task, struct conn *conn)
{
    if (conn->step != LOGOUT)
        fail("the server closed a connection after %u", task->done);
    conn_close(task, conn);
    if (!task->total) {
        task->done++;
        if (seconds() < task->end)
            conn_open(task, conn);
    }
}

static void imap_rate(int argc, char **argv, bool noop)
{
    if (argc != 5)
        fail("login|noop PORT CONNECTIONS USERS PASSWORD SECONDS");
    struct task task = {.port = number(argv[0], 65535),
                        .connections = number(argv[1], CONNECTIONS_MAX),
                        .users = number(argv[2], 1000000),
                        .password = argv[3],
                        .total = noop,
                        .line = imap_line,
                        .gone = imap_gone};
    double start = seconds();
    task.end = start + number(argv[4], 600);
    run(&task);
    printf("{\"count\": %u, \"seconds\": %.4f}\n", task.done, seconds() - start);
}

/* ---- command ---- */

/* Reads until a line that begins with the tag ends what came, and returns the octets of all. */
static uint64_t answer(int fd, const char *tag, const char *command)
{
    static char buf[1024 + (1 << 20)];
    size_t tag_len = strlen(tag), tail = 1;
    uint64_t octets = 0;
    buf[0] = '\n';
    for (;;) {
        ssize_t n = read(fd, buf + tail, 1 << 20);
        if (n <= 0)
            fail("%s: the connection ended after %llu octets", command, (unsigned long long)octets);
        octets += (uint64_t)n;
        size_t have = tail + (size_t)n;
        if (buf[have - 1] == '\n') {
            const char *line = memrchr(buf, '\n', have - 1);
            if (line && have - (size_t)(line + 1 - buf) > tag_len + 3 &&
                memcmp(line + 1, tag, tag_len) == 0) {
                if (memcmp(line + 1 + tag_len, "OK", 2) != 0)
                    fail("%s: %.*s", command, (int)(have - (size_t)(line - buf)), line + 1);
                return octets;
            }
        }
        tail = have < 1024 ? have : 1024;
        memmove(buf, buf + have - tail, tail);
    }
}

static void command(int argc, char **argv)
{
    char text[32768];
    if (argc != 5 || strlen(argv[4]) > sizeof text - 8)
        fail("command PORT USER PASSWORD MAILBOX COMMAND");
    int fd = dial(number(argv[0], 65535));
    int n = snprintf(text, sizeof text, "a LOGIN %s %s\r\n", argv[1], argv[2]);
    send_text(fd, text, (size_t)n);
    answer(fd, "a ", "LOGIN");
    n = snprintf(text, sizeof text, "b SELECT %s\r\n", argv[3]);
    double start = seconds();
    send_text(fd, text, (size_t)n);
    answer(fd, "b ", "SELECT");
    double select = seconds() - start;
    n = snprintf(text, sizeof text, "c %s\r\n", argv[4]);
    start = seconds();
    send_text(fd, text, (size_t)n);
    uint64_t octets = answer(fd, "c ", argv[4]);
    printf("{\"select\": %.6f, \"seconds\": %.6f, \"octets\": %llu}\n", select, seconds() - start,
           (unsigned long long)octets);
    close(fd);
}

/* ---- read ---- */

static void read_only(int argc, char **argv)
{
    bool direct = argc > 1 && strcmp(argv[1], "direct") == 0;
    unsigned rounds = argc > 2 ? number(argv[2], 1000) : 1;
    size_t piece = 1 << 20;
    uint64_t octets = 0;
    void *buf;
    if (argc < 1 || posix_memalign(&buf, 4096, piece))
        fail("read FILE [direct|buffered] [COUNT]");
    int fd = open(argv[0], O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
    if (fd < 0)
        fail("%s: %s", argv[0], strerror(errno));
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    double start = seconds();
    for (unsigned i = 0; i < rounds; i++) {
        ssize_t n;
        if (lseek(fd, 0, SEEK_SET))
            fail("%s: %s", argv[0], strerror(errno));
        while ((n = read(fd, buf, piece)) > 0)
            octets += (uint64_t)n;
        if (n < 0)
            fail("%s: %s", argv[0], strerror(errno));
    }
    printf("{\"octets\": %llu, \"seconds\": %.6f}\n", (unsigned long long)octets,
           seconds() - start);
    close(fd);
    free(buf);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "deliver") == 0)
        deliver(argc - 2, argv + 2);
    else if (strcmp(what, "login") == 0)
        imap_rate(argc - 2, argv + 2, false);
    else if (strcmp(what, "noop") == 0)
        imap_rate(argc - 2, argv + 2, true);
    else if (strcmp(what, "command") == 0)
        command(argc - 2, argv + 2);
    else if (strcmp(what, "read") == 0)
        read_only(argc - 2, argv + 2);
    else
        fail("deliver, login, noop, command or read; see the head of load.c");
    return 0;
}
