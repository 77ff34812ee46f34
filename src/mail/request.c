#include "mail/request.h"

#include <stdlib.h>

struct sp_request *sp_request_new(enum sp_request_type type)
{
    struct sp_request *request = calloc(1, sizeof *request);
    if (!request)
        return NULL;
    request->type = type;
    sp_arena_init(&request->arena, SP_REQUEST_ARENA_BYTES);
    return request;
}

void sp_request_free(struct sp_request *request)
{
    if (!request)
        return;
    sp_arena_release(&request->arena);
    free(request);
}

struct sp_reply *sp_reply_new(const struct sp_request *request)
{
    struct sp_reply *reply = calloc(1, sizeof *reply);
    if (!reply)
        return NULL;
    reply->op = request->op;
    reply->type = request->type;
    sp_arena_init(&reply->arena, SP_REPLY_ARENA_BYTES);
    return reply;
}

void sp_reply_free(struct sp_reply *reply)
{
    if (!reply)
        return;
    sp_arena_release(&reply->arena);
    free(reply);
}
