/* SELECT's QRESYNC parameter (RFC 7162, 3.2.5). */
#include "proto/imap/command.h"

/* How many numbers a set names; 0: it is not ascending, or has `*` in it. */
static uint64_t count_ascending(struct sp_imap_set set)
{
    uint64_t count = 0;
    uint32_t last = 0;
    for (uint32_t i = 0; i < set.count; i++) {
        if (set.ptr[i].first <= last || set.ptr[i].last < set.ptr[i].first)
            return 0;
        last = set.ptr[i].last;
        count += (uint64_t)last - set.ptr[i].first + 1;
    }
    return count;
}

static bool take_match(struct sp_imap_parse *p, struct sp_imap_resync *resync)
{
    /* A set of `$` counts nothing, and is refused with those that do not match. */
    if (!sp_imap_take_set(p, &resync->match_seqs) || !sp_imap_take_space(p) ||
        !sp_imap_take_set(p, &resync->match_uids) || !sp_imap_take(p, ')'))
        return false;
    uint64_t count = count_ascending(resync->match_seqs);
    return (count && count == count_ascending(resync->match_uids)) ||
           sp_imap_wrong(p, "The sets of numbers and UIDs do not match");
}

bool sp_imap_parse_resync(struct sp_imap_parse *p, struct sp_imap_resync **ret_resync)
{
    uint64_t uidvalidity;
    struct sp_imap_resync *resync = sp_arena_alloc(p->arena, sizeof *resync);
    if (!resync)
        return sp_imap_no_memory(p);
    if (!sp_imap_take_space(p) || !sp_imap_take(p, '(') ||
        !sp_imap_take_number(p, 1, UINT32_MAX, &uidvalidity) || !sp_imap_take_space(p) ||
        !sp_imap_take_number(p, 1, INT64_MAX, &resync->modseq))
        return false;
    resync->uidvalidity = (uint32_t)uidvalidity;
    bool more = sp_imap_skip(p, ' ');
    if (more && !sp_imap_at(p, '(')) {
        if (!sp_imap_take_set(p, &resync->known))
            return false;
        for (uint32_t i = 0; i < resync->known.count; i++)
            if (!resync->known.ptr[i].first || !resync->known.ptr[i].last)
                return sp_imap_wrong(p, "Known UIDs cannot have *");
        if (resync->known.saved)
            return sp_imap_wrong(p, "Known UIDs cannot be $");
        resync->has_known = true;
        more = sp_imap_skip(p, ' ');
    }
    if (more && (!sp_imap_take(p, '(') || !take_match(p, resync)))
        return false;
    *ret_resync = resync;
    return sp_imap_take(p, ')');
}
