#include "mail/test_world.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void notified(void *context, const struct sp_uuid *account, uint32_t mailbox)
{
    struct world *world = context;
    (void)account, (void)mailbox;
    pthread_mutex_lock(&world->lock);
    world->notified++;
    pthread_mutex_unlock(&world->lock);
}

static void world_open(struct world *world, bool rebuild)
{
    static const char *const names[] = {"a", "b", "c"};
    struct sp_error error = {0};
    struct sp_volume_config config = {.name = "main",
                                      .id = world->volume_id,
                                      .units_count = 3,
                                      .min_copies = 2,
                                      .segment_bytes = 4U << 20,
                                      .index_path = world->index_path,
                                      .index_map_bytes = 256U << 20,
                                      .index_rebuild = rebuild,
                                      .threaded = true};
    for (uint32_t i = 0; i < 3; i++) {
        struct sp_volume_unit *unit = &config.units[i];
        snprintf(unit->name, sizeof unit->name, "%s", names[i]);
        unit->spare = i == 2;
        assert_int_equal(sp_sim_unit_open(world->disks, i, names[i], &unit->unit, &unit->why),
                         SP_OK);
    }
    enum sp_status status = sp_volume_open(&config, &world->volume, &error);
    if (status)
        sp_error_print(&error);
    assert_int_equal(status, SP_OK);
    struct sp_mail_config mail = {.volume = world->volume,
                                  .message_bytes_max = 3U << 20,
                                  .incoming_bodies_max = 48,
                                  .hash_threads = 1,
                                  .hash_queue_max = 6,
                                  .postmaster = ALICE,
                                  .hostname = "mx.example.net",
                                  .search_path = world->search_path,
                                  .volume_id = world->volume_id,
                                  .search_bytes_max = 64U << 20};
    assert_int_equal(sp_mail_open(&mail, &world->mail, &error), SP_OK);
    sp_mail_set_notify(world->mail, notified, world);
}

int world_setup(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    const char *where = getenv("TMPDIR");
    pthread_mutex_init(&world->lock, NULL);
    pthread_cond_init(&world->answered, NULL);
    snprintf(world->index_path, sizeof world->index_path, "%s/sternpost-mail-XXXXXX",
             where ? where : "/tmp");
    if (!mkdtemp(world->index_path))
        return -1;
    world->disks = sp_sim_world_new(1);
    world->session = 1;
    sp_uuid_make(&world->volume_id);
    for (uint32_t i = 0; i < 3; i++) {
        struct sp_uuid unit;
        assert_int_equal(sp_sim_unit_init(world->disks, i, &world->volume_id, &unit), SP_OK);
    }
    world_open(world, false);
    struct sp_error error;
    enum sp_status status = sp_account_add(world->volume, SP_S("Alice@Example.org"), SP_S(PASSWORD),
                                           &world->alice, &error);
    if (status)
        sp_error_print(&error);
    assert_int_equal(status, SP_OK);
    *state = world;
    return 0;
}

static void world_close(struct world *world)
{
    sp_mail_set_notify(world->mail, NULL, NULL);
    sp_mail_close(world->mail);
    sp_volume_close(world->volume);
}

int world_teardown(void **state)
{
    struct world *world = *state;
    struct sp_error error;
    world_close(world);
    sp_sim_world_free(world->disks);
    assert_int_equal(sp_index_destroy(world->index_path, &error), SP_OK);
    rmdir(world->index_path);
    pthread_cond_destroy(&world->answered);
    pthread_mutex_destroy(&world->lock);
    free(world);
    return 0;
}

void world_restart(struct world *world, bool rebuild)
{
    world_close(world);
    sp_sim_restart(world->disks);
    world_open(world, rebuild);
}

struct sp_request *request_new(struct world *world, enum sp_request_type type)
{
    struct sp_request *request = sp_request_new(type);
    assert_non_null(request);
    request->account = world->alice;
    request->session = world->session;
    request->op = 77;
    return request;
}

struct sp_slice text(struct sp_request *request, const char *string)
{
    return sp_arena_copy(&request->arena, sp_slice_str(string));
}

struct sp_uid_ranges range(struct sp_request *request, uint32_t first, uint32_t last)
{
    struct sp_uid_range *ptr = sp_arena_alloc(&request->arena, sizeof *ptr);
    *ptr = (struct sp_uid_range){first, last};
    return (struct sp_uid_ranges){ptr, 1};
}

struct waiting {
    struct world *world;
    struct sp_reply *reply;
};

static void answered(void *context, struct sp_request *request, struct sp_reply *reply)
{
    struct waiting *waiting = context;
    sp_request_free(request);
    pthread_mutex_lock(&waiting->world->lock);
    waiting->reply = reply;
    pthread_cond_broadcast(&waiting->world->answered);
    pthread_mutex_unlock(&waiting->world->lock);
}

struct sp_reply *ask(struct world *world, struct sp_request *request)
{
    struct waiting waiting = {.world = world};
    sp_mail_execute(world->mail, request, answered, &waiting);
    pthread_mutex_lock(&world->lock);
    while (!waiting.reply)
        pthread_cond_wait(&world->answered, &world->lock);
    pthread_mutex_unlock(&world->lock);
    assert_int_equal(waiting.reply->op, 77);
    assert_true(waiting.reply->status == SP_OK || waiting.reply->text.len);
    return waiting.reply;
}

enum sp_status ask_status(struct world *world, struct sp_request *request)
{
    struct sp_reply *reply = ask(world, request);
    enum sp_status status = reply->status;
    sp_reply_free(reply);
    return status;
}

void free_ok(struct sp_reply *reply)
{
    if (reply->status)
        fprintf(stderr, "%s: %.*s\n", sp_status_name(reply->status), SP_FMT(reply->text));
    assert_int_equal(reply->status, SP_OK);
    sp_reply_free(reply);
}

struct sp_mailbox_ref open_mailbox(struct world *world, const char *name)
{
    struct sp_request *request = request_new(world, SP_REQ_MAILBOX_OPEN);
    request->name = text(request, name);
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->status, SP_OK);
    struct sp_mailbox_ref ref = {world->alice, reply->mailboxes->id, reply->mailboxes->uidvalidity};
    sp_reply_free(reply);
    return ref;
}

struct sp_request *on_mailbox(struct world *world, enum sp_request_type type, const char *mailbox,
                              uint32_t first, uint32_t last)
{
    struct sp_request *request = request_new(world, type);
    request->mailbox = open_mailbox(world, mailbox);
    request->ranges = range(request, first, last);
    return request;
}

uint32_t append(struct world *world, const char *mailbox, struct sp_slice message, uint32_t flags,
                const char *keyword, int64_t date_s)
{
    struct sp_request *request = request_new(world, SP_REQ_APPEND);
    struct sp_append *append = sp_arena_alloc(&request->arena, sizeof *append);
    request->name = text(request, mailbox);
    append->message.bytes = sp_arena_copy(&request->arena, message);
    append->flags.system = flags;
    append->date = (struct sp_date){date_s, 60};
    append->has_date = true;
    if (keyword) {
        append->flags.keywords = sp_arena_alloc(&request->arena, sizeof(struct sp_slice));
        append->flags.keywords[0] = text(request, keyword);
        append->flags.keywords_count = 1;
    }
    request->append.messages = append;
    request->append.messages_count = 1;
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->status, SP_OK);
    assert_int_equal(reply->new_ranges.count, 1);
    uint32_t uid = reply->new_ranges.ptr[0].first;
    sp_reply_free(reply);
    return uid;
}

uint64_t flags_of(struct world *world, const char *mailbox, uint32_t uid)
{
    struct sp_request *request = on_mailbox(world, SP_REQ_FETCH, mailbox, uid, uid);
    request->fetch.want = SP_WANT_FLAGS;
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->status, SP_OK);
    assert_int_equal(reply->rows_count, 1);
    uint64_t flags = reply->rows[0].flags;
    sp_reply_free(reply);
    return flags;
}

void assert_ranges(struct sp_uid_ranges ranges, const char *expected)
{
    char got[512] = "";
    size_t at = 0;
    for (uint32_t i = 0; i < ranges.count && at < sizeof got - 32; i++) {
        at +=
            (size_t)snprintf(got + at, sizeof got - at, "%s%u", i ? "," : "", ranges.ptr[i].first);
        if (ranges.ptr[i].last != ranges.ptr[i].first)
            at += (size_t)snprintf(got + at, sizeof got - at, ":%u", ranges.ptr[i].last);
    }
    assert_string_equal(got, expected);
}
