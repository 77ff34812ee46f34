#include "net/thread.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum sp_status sp_thread_start(const char *name, void *(*main)(void *), void *context,
                               pthread_t *ret_thread, struct sp_error *error)
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, NULL, main, context);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return sp_error_set(error, SP_NO_MEMORY, "server", "cannot start a thread: %s",
                            strerror(failed));
    char cut[16];
    snprintf(cut, sizeof cut, "%s", name);
    pthread_setname_np(thread, cut);
    *ret_thread = thread;
    return SP_OK;
}
