#include "proto/transcript.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define BUFFER_MAX      (64U << 20)
#define STEPS_MAX       4096U
#define HELD_MAX        64U
#define START_MS        1000000U
#define STALLS_MAX      100000U /* rounds without an end: a session that is never content */
#define SPLIT_BYTES_MAX (8U << 20)
#define SHOWN_BYTES     300U

enum step_kind { STEP_SEND, STEP_EXPECT, STEP_REQUEST, STEP_CONTROL };

struct step {
    enum step_kind kind;
    unsigned line;   /* in the transcript, from 1 */
    bool wild;       /* EXPECT, REQUEST: `*` is a wildcard */
    size_t from, to; /* its bytes in script.bytes */
};

struct script {
    struct sp_buf bytes;
    struct step *steps;
    size_t count;
    size_t input_bytes; /* all that the client sends */
    bool has_requests;
};

enum way { WAY_TURNS, WAY_PIPELINED, WAY_BYTES, WAY_SPLIT };
static const char *const way_names[] = {"turns", "pipelined", "bytes", "split"};

struct run {
    const struct sp_transcript_mail *mail;
    const struct script *script;
    const char *name;
    enum way way;
    size_t split; /* WAY_SPLIT: where the input is cut */
    void *session;
    uint64_t now_ms;
    struct sp_buf input; /* of the current section */
    size_t input_at;
    size_t fed; /* in the whole run */
    struct sp_buf output;
    size_t output_at;  /* matched so far */
    struct sp_buf log; /* requests, one a line */
    bool hold;
    struct sp_request *held[HELD_MAX];
    size_t held_count;
    bool failed;
};

/* ---- Reading a transcript ---- */

static bool hex_value(char c, unsigned *ret_value)
{
    if (!isxdigit((unsigned char)c))
        return false;
    *ret_value =
        (unsigned)(isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10);
    return true;
}

/* One possibly escaped byte; returns how many characters it took, 0 when malformed. */
static size_t unescape_byte(struct sp_slice text, uint8_t *ret_byte)
{
    const char *at = (const char *)text.ptr;
    unsigned high, low;
    if (text.len == 0)
        return 0;
    if (at[0] != '\\') {
        *ret_byte = (uint8_t)at[0];
        return 1;
    }
    if (text.len < 2)
        return 0;
    switch (at[1]) {
    case 'r':
        *ret_byte = '\r';
        return 2;
    case 'n':
        *ret_byte = '\n';
        return 2;
    case 't':
        *ret_byte = '\t';
        return 2;
    case '0':
        *ret_byte = '\0';
        return 2;
    case '\\':
        *ret_byte = '\\';
        return 2;
    case 'x':
        if (text.len < 4 || !hex_value(at[2], &high) || !hex_value(at[3], &low))
            return 0;
        *ret_byte = (uint8_t)(high << 4 | low);
        return 4;
    default:
        return 0;
    }
}

static bool unescape(struct sp_slice text, struct sp_buf *bytes)
{
    while (text.len) {
        uint64_t times = 1;
        uint8_t byte = 0;
        if (text.len > 2 && text.ptr[0] == '\\' && text.ptr[1] == '{') {
            size_t end = sp_slice_find(text, '}');
            if (end == SIZE_MAX || sp_slice_u64(sp_slice_sub(text, 2, end), BUFFER_MAX, &times))
                return false;
            text = sp_slice_from(text, end + 1);
        }
        size_t taken = unescape_byte(text, &byte);
        if (!taken)
            return false;
        uint8_t *room = times ? sp_buf_extend(bytes, (size_t)times) : NULL;
        if (room)
            memset(room, byte, (size_t)times);
        text = sp_slice_from(text, taken);
    }
    return !sp_buf_failed(bytes);
}

/* `N text`: the count and the rest. */
static bool take_count(struct sp_slice *text, uint64_t *ret_times)
{
    size_t blank = sp_slice_find(*text, ' ');
    if (sp_slice_u64(sp_slice_sub(*text, 0, blank), 1000000, ret_times))
        return false;
    *text = sp_slice_from(*text, blank == SIZE_MAX ? text->len : blank + 1);
    return true;
}

static bool read_step(struct script *script, struct sp_slice line, struct step *step)
{
    uint64_t times = 1;
    char who = (char)line.ptr[0], how = line.len > 1 ? (char)line.ptr[1] : '\0';
    struct sp_slice text = sp_slice_from(line, line.len > 2 && line.ptr[2] == ' ' ? 3 : 2);
    step->from = script->bytes.len;
    if (who == '!') {
        step->kind = STEP_CONTROL;
        sp_buf_add(&script->bytes, sp_slice_trim(sp_slice_from(line, 1)));
    } else if (who == 'R' && (how == ':' || how == '*')) {
        step->kind = STEP_REQUEST;
        script->has_requests = true;
        sp_buf_add(&script->bytes, text);
        sp_buf_add_byte(&script->bytes, '\n');
    } else if ((who == 'C' && strchr(":=x", how)) || (who == 'S' && strchr(":*=x", how))) {
        step->kind = who == 'C' ? STEP_SEND : STEP_EXPECT;
        if (how == '=') {
            if (!unescape(text, &script->bytes))
                return false;
        } else {
            if (how == 'x' && !take_count(&text, &times))
                return false;
            for (; times; times--) {
                sp_buf_add(&script->bytes, text);
                sp_buf_add(&script->bytes, SP_S("\r\n"));
            }
        }
    } else {
        return false;
    }
    step->wild = how == '*';
    step->to = script->bytes.len;
    if (step->kind == STEP_SEND)
        script->input_bytes += step->to - step->from;
    return !sp_buf_failed(&script->bytes);
}

static bool read_script(const char *name, const char *text, struct script *script)
{
    *script = (struct script){.steps = calloc(STEPS_MAX, sizeof *script->steps)};
    sp_assert(script->steps);
    sp_buf_init(&script->bytes, BUFFER_MAX);
    unsigned number = 0;
    for (struct sp_slice rest = sp_slice_str(text); rest.len;) {
        size_t end = sp_slice_find(rest, '\n');
        struct sp_slice line = sp_slice_sub(rest, 0, end);
        rest = sp_slice_from(rest, end == SIZE_MAX ? rest.len : end + 1);
        number++;
        while (line.len && (line.ptr[0] == ' ' || line.ptr[0] == '\t'))
            line = sp_slice_from(line, 1);
        if (!line.len || line.ptr[0] == '#')
            continue;
        sp_assert(script->count < STEPS_MAX);
        struct step *step = &script->steps[script->count];
        step->line = number;
        if (!read_step(script, line, step)) {
            fprintf(stderr, "transcript %s: line %u is not a step: %.*s\n", name, number,
                    SP_FMT(line));
            return false;
        }
        script->count++;
    }
    return true;
}

static struct sp_slice step_bytes(const struct run *run, const struct step *step)
{
    return sp_slice_sub(sp_buf_slice(&run->script->bytes), step->from, step->to);
}

/* ---- Failing ---- */

static void show(const char *label, struct sp_slice bytes)
{
    fprintf(stderr, "    %s ", label);
    for (size_t i = 0; i < bytes.len && i < SHOWN_BYTES; i++) {
        uint8_t c = bytes.ptr[i];
        if (c == '\r')
            fprintf(stderr, "\\r");
        else if (c == '\n')
            fprintf(stderr, "\\n%s", i + 1 < bytes.len ? "\n             " : "");
        else if (c < 32 || c == 127)
            fprintf(stderr, "\\x%02x", c);
        else
            fputc(c, stderr);
    }
    fprintf(stderr, "%s\n", bytes.len > SHOWN_BYTES ? "..." : "");
}

static void fail(struct run *run, const struct step *step, const char *why,
                 struct sp_slice expected, struct sp_slice got)
{
    if (run->failed)
        return;
    run->failed = true;
    fprintf(stderr, "transcript %s, %s", run->name, way_names[run->way]);
    if (run->way == WAY_SPLIT)
        fprintf(stderr, " after %zu bytes", run->split);
    if (step)
        fprintf(stderr, ", line %u", step->line);
    fprintf(stderr, ": %s\n", why);
    if (expected.len)
        show("expected", expected);
    show("got     ", got);
}

/* ---- The driver ---- */

static void answer(struct run *run, struct sp_request *request)
{
    struct sp_reply *reply = run->mail->answer(run->mail->user, request);
    sp_assert(reply);
    sp_request_free(request);
    run->mail->ops->complete(run->session, reply, run->now_ms);
    sp_reply_free(reply);
}

static bool take_request(struct run *run)
{
    struct sp_request *request = run->mail->ops->next(run->session);
    if (!request)
        return false;
    if (run->mail->describe)
        run->mail->describe(run->mail->user, request, &run->log);
    else
        sp_buf_add_decimal(&run->log, request->type);
    sp_buf_add_byte(&run->log, '\n');
    if (run->hold) {
        sp_assert(run->held_count < HELD_MAX);
        run->held[run->held_count++] = request;
    } else {
        answer(run, request);
    }
    return true;
}

static bool take_output(struct run *run)
{
    const struct sp_session_ops *ops = run->mail->ops;
    struct sp_slice bytes = ops->send_buf(run->session);
    bool wants = ops->want(run->session) & SP_WANT_WRITE;
    if (wants != (bytes.len > 0))
        fail(run, NULL, "SP_WANT_WRITE and send_buf disagree", SP_S(""), bytes);
    bytes = ops->send_buf(run->session);
    if (!bytes.len)
        return false;
    sp_assert(bytes.ptr);
    if (run->way == WAY_BYTES)
        bytes.len = 1;
    sp_buf_add(&run->output, bytes);
    ops->send_ack(run->session, bytes.len, run->now_ms);
    return true;
}

/* Requests answered and output taken until there is neither. */
static void pump(struct run *run)
{
    for (unsigned rounds = 0; !run->failed; rounds++) {
        bool moved = take_request(run);
        moved = take_output(run) || moved;
        if (!moved)
            return;
        if (rounds > STALLS_MAX + run->output.len)
            fail(run, NULL, "the session is never content", SP_S(""), sp_buf_slice(&run->output));
    }
}

/* One piece of input; false when the session takes nothing now. */
static bool feed_piece(struct run *run)
{
    const struct sp_session_ops *ops = run->mail->ops;
    bool wants = ops->want(run->session) & SP_WANT_READ;
    struct sp_slice_mut room = ops->recv_buf(run->session);
    if (room.len && !room.ptr)
        fail(run, NULL, "recv_buf is NULL", SP_S(""), SP_S(""));
    if (wants != (room.len > 0))
        fail(run, NULL, "SP_WANT_READ and recv_buf disagree", SP_S(""), SP_S(""));
    if (!room.len || run->failed)
        return false;
    size_t n = run->input.len - run->input_at;
    if (run->way == WAY_BYTES && n > 1)
        n = 1;
    if (run->way == WAY_SPLIT && run->fed < run->split && n > run->split - run->fed)
        n = run->split - run->fed;
    if (n > room.len)
        n = room.len;
    memcpy(room.ptr, run->input.ptr + run->input_at, n);
    run->input_at += n;
    run->fed += n;
    ops->recv_ack(run->session, n, run->now_ms);
    return true;
}

static bool closing(const struct run *run)
{
    return run->mail->ops->want(run->session) & SP_WANT_CLOSE;
}

/* What the session cannot take now stays for later: after a release. A session that wants to close
 * hears no more. */
static void feed(struct run *run)
{
    pump(run);
    while (run->input_at < run->input.len && !run->failed && !closing(run)) {
        if (!feed_piece(run))
            break;
        pump(run);
    }
    if (run->input_at == run->input.len || closing(run)) {
        sp_buf_reset(&run->input);
        run->input_at = 0;
    }
}

/* ---- Checking ---- */

static bool wild_match(struct sp_slice pattern, struct sp_slice text)
{
    size_t p = 0, t = 0, star = SIZE_MAX, star_text = 0;
    while (t < text.len) {
        if (p < pattern.len && pattern.ptr[p] == '*') {
            star = p++;
            star_text = t;
        } else if (p < pattern.len && pattern.ptr[p] == text.ptr[t]) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++star_text;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.ptr[p] == '*')
        p++;
    return p == pattern.len;
}

/* Matches one expectation at *at of stream; false when it does not. */
static bool match(struct sp_slice stream, size_t *at, struct sp_slice expected, bool wild)
{
    struct sp_slice rest = sp_slice_from(stream, *at);
    if (!wild) {
        if (!sp_slice_eq(sp_slice_sub(rest, 0, expected.len), expected))
            return false;
        *at += expected.len;
        return true;
    }
    size_t end = sp_slice_find(rest, '\n');
    if (end == SIZE_MAX || !wild_match(expected, sp_slice_sub(rest, 0, end + 1)))
        return false;
    *at += end + 1;
    return true;
}

static void check_output(struct run *run, const struct step *step)
{
    struct sp_slice output = sp_buf_slice(&run->output);
    if (!match(output, &run->output_at, step_bytes(run, step), step->wild))
        fail(run, step, "other output", step_bytes(run, step),
             sp_slice_from(output, run->output_at));
}

static void check_nothing_more(struct run *run, const struct step *step)
{
    if (run->output_at < run->output.len)
        fail(run, step, "output that nobody expects", SP_S(""),
             sp_slice_from(sp_buf_slice(&run->output), run->output_at));
}

static void check_requests(struct run *run)
{
    size_t at = 0;
    struct sp_slice log = sp_buf_slice(&run->log);
    for (size_t i = 0; i < run->script->count; i++) {
        const struct step *step = &run->script->steps[i];
        if (step->kind != STEP_REQUEST)
            continue;
        if (!match(log, &at, step_bytes(run, step), step->wild)) {
            fail(run, step, "another request", step_bytes(run, step), sp_slice_from(log, at));
            return;
        }
    }
    if (at < log.len)
        fail(run, NULL, "requests that nobody expects", SP_S(""), sp_slice_from(log, at));
}

/* ---- Controls ---- */

static void control_tick(struct run *run, const struct step *step, struct sp_slice number)
{
    uint64_t ms;
    if (sp_slice_u64(number, UINT64_MAX / 2, &ms)) {
        fail(run, step, "not a number", SP_S(""), number);
        return;
    }
    run->now_ms += ms;
    if (run->mail->ops->deadline_ms(run->session) <= run->now_ms)
        run->mail->ops->tick(run->session, run->now_ms);
}

static void control_tls(struct run *run, const struct step *step)
{
    unsigned want = run->mail->ops->want(run->session);
    if ((want & (SP_WANT_TLS | SP_WANT_WRITE)) != SP_WANT_TLS)
        fail(run, step, "does not want TLS", SP_S(""), SP_S(""));
    /* Plaintext that the session did not read would now be part of the handshake, and fail it. */
    sp_buf_reset(&run->input);
    run->input_at = 0;
    if (!run->failed)
        run->mail->ops->tls_done(run->session, run->now_ms);
}

static void control_release(struct run *run)
{
    run->hold = false;
    size_t count = run->held_count;
    run->held_count = 0;
    for (size_t i = 0; i < count; i++) {
        answer(run, run->held[i]);
        pump(run);
    }
}

static void control(struct run *run, const struct step *step)
{
    const struct sp_session_ops *ops = run->mail->ops;
    struct sp_slice text = step_bytes(run, step);
    if (sp_slice_eq(text, SP_S("wait")))
        return;
    if (sp_slice_eq(text, SP_S("tls")))
        control_tls(run, step);
    else if (sp_slice_eq(text, SP_S("close")) || sp_slice_eq(text, SP_S("open"))) {
        if (closing(run) != (text.ptr[0] == 'c'))
            fail(run, step, closing(run) ? "wants to close" : "does not want to close", SP_S(""),
                 SP_S(""));
    } else if (sp_slice_eq(text, SP_S("eof")))
        ops->recv_eof(run->session, run->now_ms);
    else if (sp_slice_eq(text, SP_S("notify")))
        ops->notify(run->session, run->now_ms);
    else if (sp_slice_eq(text, SP_S("shutdown")))
        ops->shutdown(run->session, run->now_ms);
    else if (sp_slice_eq(text, SP_S("hold")))
        run->hold = true;
    else if (sp_slice_eq(text, SP_S("release")))
        control_release(run);
    else if (sp_slice_starts_nocase(text, SP_S("tick ")))
        control_tick(run, step, sp_slice_from(text, 5));
    else if (sp_slice_starts_nocase(text, SP_S("hook ")))
        run->mail->hook(run->mail->user, sp_slice_from(text, 5));
    else
        fail(run, step, "no such control", SP_S(""), text);
    feed(run);
}

/* ---- Running ---- */

/* Does a section end before step i? At controls; in turns also where the client speaks again. */
static bool section_ends(const struct run *run, size_t first, size_t i)
{
    const struct step *steps = run->script->steps;
    if (i == run->script->count || steps[i].kind == STEP_CONTROL)
        return true;
    return run->way == WAY_TURNS && i > first && steps[i].kind == STEP_SEND &&
           steps[i - 1].kind != STEP_SEND;
}

static size_t run_section(struct run *run, size_t first)
{
    size_t end = first;
    while (!section_ends(run, first, end)) {
        if (run->script->steps[end].kind == STEP_SEND)
            sp_buf_add(&run->input, step_bytes(run, &run->script->steps[end]));
        end++;
    }
    feed(run);
    for (size_t i = first; i < end; i++)
        if (run->script->steps[i].kind == STEP_EXPECT)
            check_output(run, &run->script->steps[i]);
    const struct step *next = end < run->script->count ? &run->script->steps[end] : NULL;
    check_nothing_more(run, next);
    if (!run->failed && next && next->kind == STEP_CONTROL) {
        control(run, next);
        end++;
    }
    return end;
}

static bool run_once(const struct sp_transcript_mail *mail, const char *name,
                     const struct script *script, enum way way, size_t split,
                     struct sp_buf *first_log)
{
    struct run run = {.mail = mail,
                      .script = script,
                      .name = name,
                      .way = way,
                      .split = split,
                      .now_ms = START_MS};
    sp_buf_init(&run.input, BUFFER_MAX);
    sp_buf_init(&run.output, BUFFER_MAX);
    sp_buf_init(&run.log, BUFFER_MAX);
    if (mail->reset)
        mail->reset(mail->user);
    run.session = mail->session_new(mail->user, run.now_ms);
    sp_assert(run.session);
    for (size_t at = 0; at < script->count && !run.failed;)
        at = run_section(&run, at);
    pump(&run);
    check_nothing_more(&run, NULL);
    if (!run.failed && run.input_at < run.input.len && !run.held_count)
        fail(&run, NULL, "the session did not take all input", SP_S(""),
             sp_slice_from(sp_buf_slice(&run.input), run.input_at));
    if (script->has_requests)
        check_requests(&run);
    if (way == WAY_TURNS)
        sp_buf_add(first_log, sp_buf_slice(&run.log));
    else if (!sp_slice_eq(sp_buf_slice(first_log), sp_buf_slice(&run.log)))
        fail(&run, NULL, "other requests than in turns", sp_buf_slice(first_log),
             sp_buf_slice(&run.log));
    for (size_t i = 0; i < run.held_count; i++)
        sp_request_free(run.held[i]);
    mail->ops->free(run.session);
    sp_buf_release(&run.input);
    sp_buf_release(&run.output);
    sp_buf_release(&run.log);
    return !run.failed;
}

bool sp_transcript_run(const struct sp_transcript_mail *mail, const char *name, const char *text)
{
    struct script script;
    struct sp_buf log;
    sp_buf_init(&log, BUFFER_MAX);
    bool good = read_script(name, text, &script) &&
                run_once(mail, name, &script, WAY_TURNS, 0, &log) &&
                run_once(mail, name, &script, WAY_PIPELINED, 0, &log) &&
                run_once(mail, name, &script, WAY_BYTES, 0, &log);
    /* As many places as there are, or as are reasonable for so long an input. */
    size_t most = SPLIT_BYTES_MAX / (script.input_bytes + 1) + 1;
    if (most > SP_TRANSCRIPT_SPLITS_MAX)
        most = SP_TRANSCRIPT_SPLITS_MAX;
    size_t stride = script.input_bytes / most + 1;
    for (size_t at = 1; good && at < script.input_bytes; at += stride)
        good = run_once(mail, name, &script, WAY_SPLIT, at, &log);
    sp_buf_release(&script.bytes);
    free(script.steps);
    sp_buf_release(&log);
    return good;
}
