#include "store/parity.h"

#include <stdatomic.h>
#include <stdlib.h>

#define GATHER_BLOCKS 2048U /* 8 MiB: what is held to rebuild a run of neighbouring columns */
#define RANK_TRUSTED  0U    /* replicas that have the segment; others may have void blocks of it */
#define RANK_LAST     3U

bool sp_parity_is_of(const struct sp_volume *v, const struct sp_volume_segment *segment,
                     const struct sp_parity_header *header)
{
    return sp_uuid_eq(&header->volume, &v->id) && header->epoch_id == segment->epoch_id &&
           header->segment == segment->segment && header->generation == segment->generation &&
           header->data_blocks == segment->data_blocks &&
           header->blocks - header->data_blocks == segment->footer_blocks;
}

static enum sp_status read_sidecar(struct sp_unit *unit, const struct sp_volume_segment *segment,
                                   uint32_t first, uint8_t *ret_blocks, uint32_t count)
{
    return unit->ops->read(unit, segment->segment, segment->generation | SP_UNIT_PARITY, first,
                           ret_blocks, count, NULL);
}

/* A header of the unit's sidecar: all of its blocks say the same of the segment. Where the first
 * one is lost another is looked for, further and further on. */
static enum sp_status probe(struct sp_unit *unit, const struct sp_volume_segment *segment,
                            struct sp_parity_header *ret)
{
    uint8_t block[SP_BLOCK_BYTES];
    for (uint64_t at = 0; at <= SP_PARITY_BLOCKS_MAX; at = at ? at * 2 : 1) {
        enum sp_status status = read_sidecar(unit, segment, (uint32_t)at, block, 1);
        if (status == SP_OK && sp_parity_block_read(block, ret) == SP_OK &&
            ret->segment == segment->segment && ret->generation == segment->generation &&
            ret->epoch_id == segment->epoch_id)
            return SP_OK;
        if (status == SP_NOT_FOUND)
            break;
    }
    return SP_NOT_FOUND;
}

enum sp_status sp_parity_describe(struct sp_volume *v, struct sp_volume_segment *segment)
{
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_parity_header header;
        if (!v->members[i].unit || probe(v->members[i].unit, segment, &header) != SP_OK ||
            !sp_uuid_eq(&header.volume, &v->id))
            continue;
        segment->data_blocks = header.data_blocks;
        segment->footer_blocks = header.blocks - header.data_blocks;
        return SP_OK;
    }
    return SP_NOT_FOUND;
}

/* ---- Gathering what there is of some columns ---- */

struct gathered {
    const struct sp_volume_member *except;
    struct sp_parity_header header; /* of the sidecar */
    uint32_t columns;
    uint32_t column, width; /* which ones */
    uint8_t *blocks;        /* (k + m) rows of `width` blocks */
    bool *sound;            /* likewise */
};

static uint8_t *block_at(const struct gathered *g, uint32_t row, uint32_t c)
{
    return g->blocks + ((size_t)row * g->width + c) * SP_BLOCK_BYTES;
}

static bool *sound_at(const struct gathered *g, uint32_t row, uint32_t c)
{
    return &g->sound[(size_t)row * g->width + c];
}

/* How many of the columns have a block in this data row. */
static uint32_t width_of(const struct gathered *g, uint32_t row)
{
    uint64_t first = (uint64_t)row * g->columns + g->column;
    if (first >= g->header.blocks)
        return 0;
    return g->header.blocks - first < g->width ? (uint32_t)(g->header.blocks - first) : g->width;
}

/* Blocks of one row from one unit, where they are not there yet. */
static void take_row(struct sp_volume *v, const struct sp_volume_segment *segment,
                     struct gathered *g, uint32_t row, uint32_t width, struct sp_unit *unit)
{
    uint32_t k = g->header.shape.data_rows;
    bool parity = row >= k, none = true;
    uint32_t first = (parity ? row - k : row) * g->columns + g->column;
    uint32_t generation = segment->generation | (parity ? SP_UNIT_PARITY : 0);
    for (uint32_t c = 0; c < width; c++)
        none &= !*sound_at(g, row, c);
    bool whole = none && unit->ops->read(unit, segment->segment, generation, first,
                                         block_at(g, row, 0), width, NULL) == SP_OK;
    for (uint32_t c = 0; c < width; c++) {
        struct sp_parity_header header;
        uint8_t *block = block_at(g, row, c);
        if (*sound_at(g, row, c) || (!whole && unit->ops->read(unit, segment->segment, generation,
                                                               first + c, block, 1, NULL) != SP_OK))
            continue;
        *sound_at(g, row, c) = parity ? sp_parity_block_read(block, &header) == SP_OK &&
                                            sp_parity_is_of(v, segment, &header) &&
                                            header.index == first + c &&
                                            sp_parity_shape_eq(header.shape, g->header.shape)
                                      : sp_volume_is_block_of(v, segment, first + c, block);
    }
}

static bool is_whole(const struct gathered *g, uint32_t row, uint32_t width)
{
    for (uint32_t c = 0; c < width; c++)
        if (!*sound_at(g, row, c))
            return false;
    return true;
}

static void gather(struct sp_volume *v, const struct sp_volume_segment *segment, struct gathered *g,
                   unsigned rank_last)
{
    uint32_t k = g->header.shape.data_rows, rows = k + g->header.shape.parity_rows;
    for (uint32_t row = 0; row < rows; row++) {
        uint32_t width = row < k ? width_of(g, row) : g->width;
        for (unsigned rank = 0; rank <= rank_last; rank++)
            for (uint32_t i = 0; i < v->members_count && !is_whole(g, row, width); i++) {
                struct sp_unit *unit = sp_volume_reading_unit(v, segment, i, rank);
                if (unit && (rank == 0 || &v->members[i] != g->except))
                    take_row(v, segment, g, row, width, unit);
            }
    }
}

/* ---- Solving ---- */

/* The block in `row` of the column, rebuilt where it stands. */
static bool solve(const struct gathered *g, struct sp_parity_coder *coder, uint32_t row, uint32_t c)
{
    uint32_t k = g->header.shape.data_rows, m = g->header.shape.parity_rows;
    struct sp_parity_column column = {0};
    for (uint32_t r = 0; r < k; r++) {
        if (c >= width_of(g, r))
            continue;
        column.data[r] = block_at(g, r, c);
        column.lost[r] = !*sound_at(g, r, c);
        if (!column.lost[r])
            sp_parity_mask(column.data[r]);
    }
    for (uint32_t p = 0; p < m; p++) {
        if (!*sound_at(g, k + p, c))
            continue;
        sp_parity_mask(block_at(g, k + p, c));
        column.parity[p] = block_at(g, k + p, c);
    }
    return sp_parity_solve(coder, &column) == SP_OK &&
           sp_parity_unmask(column.data[row], &g->header, row * g->columns + g->column + c) ==
               SP_OK;
}

static uint32_t rebuild(struct sp_volume *v, const struct sp_volume_segment *segment,
                        struct gathered *g, uint32_t row, uint8_t *ret_blocks, unsigned rank_last)
{
    struct sp_parity_coder *coder = sp_parity_coder_new(g->header.shape);
    uint32_t done = 0, rebuilt = 0;
    if (!coder)
        return 0;
    gather(v, segment, g, rank_last);
    for (; done < g->width; done++) {
        uint8_t *to = ret_blocks + (size_t)done * SP_BLOCK_BYTES;
        uint32_t index = row * g->columns + g->column + done;
        if (!*sound_at(g, row, done)) {
            if (!solve(g, coder, row, done) ||
                !sp_volume_is_block_of(v, segment, index, block_at(g, row, done)))
                break;
            rebuilt++;
        }
        memcpy(to, block_at(g, row, done), SP_BLOCK_BYTES);
    }
    sp_parity_coder_free(coder);
    v->blocks_rebuilt += rebuilt;
    return done;
}

/* Whether there are units that may have void blocks, beside the others. */
static bool has_others(struct sp_volume *v, const struct sp_volume_segment *segment)
{
    for (unsigned rank = RANK_TRUSTED + 1; rank <= RANK_LAST; rank++)
        for (uint32_t i = 0; i < v->members_count; i++)
            if (sp_volume_reading_unit(v, segment, i, rank))
                return true;
    return false;
}

/* With the sidecars of one shape. */
static uint32_t try_shape(struct sp_volume *v, const struct sp_volume_segment *segment,
                          const struct sp_parity_header *header, uint32_t first,
                          uint8_t *ret_blocks, uint32_t count,
                          const struct sp_volume_member *except)
{
    uint32_t rows = header->shape.data_rows + (uint32_t)header->shape.parity_rows;
    struct gathered g = {.except = except,
                         .header = *header,
                         .columns = sp_parity_columns(header->shape, header->blocks)};
    uint32_t row = first / g.columns, done = 0;
    g.column = first % g.columns;
    g.width = count < g.columns - g.column ? count : g.columns - g.column;
    if (g.width > GATHER_BLOCKS / rows)
        g.width = GATHER_BLOCKS / rows;
    for (unsigned rank_last = RANK_TRUSTED;
         rank_last <= RANK_LAST && !done && (rank_last == RANK_TRUSTED || has_others(v, segment));
         rank_last += RANK_LAST - RANK_TRUSTED) {
        g.blocks = malloc((size_t)rows * g.width * SP_BLOCK_BYTES);
        g.sound = calloc((size_t)rows * g.width, sizeof *g.sound);
        if (g.blocks && g.sound)
            done = rebuild(v, segment, &g, row, ret_blocks, rank_last);
        free(g.blocks);
        free(g.sound);
    }
    return done;
}

uint32_t sp_parity_rebuild(struct sp_volume *v, const struct sp_volume_segment *segment,
                           uint32_t first, uint8_t *ret_blocks, uint32_t count,
                           const struct sp_volume_member *except)
{
    struct sp_parity_shape tried[SP_VOLUME_UNITS_MAX];
    uint32_t tried_count = 0, done = 0;
    for (uint32_t i = 0; i < v->members_count && !done; i++) {
        struct sp_parity_header header;
        bool known = false;
        pthread_mutex_lock(&v->lock);
        struct sp_unit *unit = v->members[i].unit;
        pthread_mutex_unlock(&v->lock);
        if (!unit || probe(unit, segment, &header) != SP_OK ||
            !sp_parity_is_of(v, segment, &header) || first >= header.blocks)
            continue;
        for (uint32_t k = 0; k < tried_count; k++)
            known |= sp_parity_shape_eq(tried[k], header.shape);
        if (known)
            continue;
        tried[tried_count++] = header.shape;
        done = try_shape(v, segment, &header, first, ret_blocks,
                         count < header.blocks - first ? count : header.blocks - first, except);
    }
    return done;
}
