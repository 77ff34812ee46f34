/* Tasks: something to be run, and first-in first-out lists of them. A task lives in its owner and
 * is in one list at a time; taken out, it is run with itself as argument, and its owner found
 * around it by sp_owner. */
#ifndef SP_NET_TASK_H
#define SP_NET_TASK_H

#include <stddef.h>

#define sp_owner(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

struct sp_task {
    struct sp_task *next;
    void (*run)(struct sp_task *task);
};

struct sp_task_list {
    struct sp_task *first;
    struct sp_task *last; /* undefined while first is NULL */
};

static inline void sp_task_push(struct sp_task_list *list, struct sp_task *task)
{
    task->next = NULL;
    if (list->first)
        list->last->next = task;
    else
        list->first = task;
    list->last = task;
}

static inline struct sp_task *sp_task_pop(struct sp_task_list *list)
{
    struct sp_task *task = list->first;
    if (task)
        list->first = task->next;
    return task;
}

#endif
