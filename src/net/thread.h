/* Threads of the server: named, and deaf to signals, which belong to whoever started the server. */
#ifndef SP_NET_THREAD_H
#define SP_NET_THREAD_H

#include "base/status.h"

#include <pthread.h>

/* The name is cut to 15 characters. */
enum sp_status sp_thread_start(const char *name, void *(*main)(void *), void *context,
                               pthread_t *ret_thread, struct sp_error *error) SP_MUST_USE;

#endif
