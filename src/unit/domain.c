#include "unit/unit.h"

#include "base/slice.h"

static struct sp_slice next_word(struct sp_slice *rest)
{
    struct sp_slice word = sp_slice_sub(*rest, 0, sp_slice_find(*rest, ' '));
    *rest = word.len < rest->len ? sp_slice_from(*rest, word.len + 1) : (struct sp_slice){NULL, 0};
    return word;
}

bool sp_unit_domains_shared(const char *a, const char *b)
{
    for (struct sp_slice left = sp_slice_str(a); left.len;) {
        struct sp_slice word = next_word(&left);
        for (struct sp_slice right = sp_slice_str(b); word.len && right.len;)
            if (sp_slice_eq(word, next_word(&right)))
                return true;
    }
    return false;
}
