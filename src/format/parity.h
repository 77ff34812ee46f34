/* Parity: what mends a sealed segment from itself (docs/format.md, "Parity").
 *
 * Model. The N blocks of a segment (data and footer) are laid out in k rows of C = ceil(N / k)
 * columns, block i in row i / C and column i % C; what is lacking of the last rows counts as zeros.
 * To each column belong m parity blocks, so that any m of its k + m blocks can be lost. A stretch
 * of up to m * C blocks touches no column more than m times.
 *
 *              column 0    1    2  ...  C-1
 *   row 0            0     1    2       C-1     data rows: the segment, in order
 *   row 1            C   C+1  C+2      2C-1
 *   ...
 *   row k-1        ...                  N-1
 *   parity row 0     0     1    2       C-1     the sidecar, in order
 *   parity row m-1 ...                 mC-1
 *
 * The code is Reed-Solomon over GF(2^8) (polynomial 0x11d) with a Cauchy matrix: parity row p has
 * the coefficient 1 / ((k + p) xor r) for data row r (Bloemer et al., "An XOR-Based Erasure-
 * Resilient Coding Scheme", 1995; ISA-L's gf_gen_cauchy1_matrix).
 *
 * Coded is what of a block cannot be told from its place: the block with the other fields of its
 * header as zeros ("masked"). The parity of these is zero too, and there a parity block has its own
 * header: it says where it belongs as any block does. The coded bytes hold the block's own CRC, so
 * that what is rebuilt proves itself (sp_block_read).
 *
 * Pure: no I/O. A coder may be used by one thread at a time.
 */
#ifndef SP_FORMAT_PARITY_H
#define SP_FORMAT_PARITY_H

#include "format/block.h"

#define SP_PARITY_MAGIC      "SPP1"
#define SP_PARITY_DATA_MAX   128U       /* k */
#define SP_PARITY_ROWS_MAX   32U        /* m */
#define SP_PARITY_BLOCKS_MAX (1U << 26) /* N: 256 GiB */

struct sp_parity_shape {
    uint8_t data_rows;   /* k; 0: no parity */
    uint8_t parity_rows; /* m */
};

struct sp_parity_header {
    struct sp_uuid volume;
    uint64_t epoch_id;
    uint32_t epoch_counter;
    uint64_t segment;
    uint32_t generation;
    uint32_t index;       /* in the sidecar: parity row * C + column */
    uint32_t blocks;      /* N */
    uint32_t data_blocks; /* of these */
    struct sp_parity_shape shape;
};

bool sp_parity_shape_is_valid(struct sp_parity_shape shape);
static inline bool sp_parity_shape_eq(struct sp_parity_shape a, struct sp_parity_shape b)
{
    return a.data_rows == b.data_rows && a.parity_rows == b.parity_rows;
}
/* C. The shape is valid and 0 < blocks <= SP_PARITY_BLOCKS_MAX. */
uint32_t sp_parity_columns(struct sp_parity_shape shape, uint32_t blocks);
/* Of a sidecar: m * C. */
uint32_t sp_parity_blocks(struct sp_parity_shape shape, uint32_t blocks);

/* Completes a parity block whose coded bytes are in place. */
void sp_parity_block_write(uint8_t block[SP_BLOCK_BYTES], const struct sp_parity_header *header);
/* Checks magic, version, CRC and the ranges of the fields. SP_NOT_FOUND: not a parity block at all
 * (no magic); SP_CORRUPT: damaged; SP_UNSUPPORTED: a later format. */
enum sp_status sp_parity_block_read(const uint8_t block[SP_BLOCK_BYTES],
                                    struct sp_parity_header *ret_header) SP_MUST_USE;

/* Leaves of a valid block, or of a valid parity block, what is coded. */
void sp_parity_mask(uint8_t block[SP_BLOCK_BYTES]);
/* Whether a valid block has nothing but what is coded or told by its place; one with a field set
 * that is reserved today has more, and cannot be rebuilt. */
bool sp_parity_covers(const uint8_t block[SP_BLOCK_BYTES]);
/* Makes a block of what was coded of it, for its place in the segment: `index` and what the parity
 * header says. SP_CORRUPT: it is not the block that was coded; the bytes are of no use. */
enum sp_status sp_parity_unmask(uint8_t block[SP_BLOCK_BYTES],
                                const struct sp_parity_header *header, uint32_t index) SP_MUST_USE;

struct sp_parity_coder;
/* NULL: no memory. */
struct sp_parity_coder *sp_parity_coder_new(struct sp_parity_shape shape) SP_MUST_USE;
void sp_parity_coder_free(struct sp_parity_coder *coder);
/* Adds masked blocks of neighbouring columns of one data row to the parity of these columns:
 * len bytes each; sums: a pointer for each parity row. Begin with zeros. */
void sp_parity_add(struct sp_parity_coder *coder, uint32_t row, const uint8_t *bytes, size_t len,
                   uint8_t *const *sums);

/* A column that has lost blocks. All blocks masked, SP_BLOCK_BYTES long. */
struct sp_parity_column {
    uint8_t *data[SP_PARITY_DATA_MAX];         /* NULL: beyond the segment's end */
    bool lost[SP_PARITY_DATA_MAX];             /* data[row] is to be filled in */
    const uint8_t *parity[SP_PARITY_ROWS_MAX]; /* NULL: lost */
};
/* Fills in what is lost, masked. SP_NOT_FOUND: more is lost than there is parity; nothing was
 * touched. */
enum sp_status sp_parity_solve(struct sp_parity_coder *coder,
                               const struct sp_parity_column *column) SP_MUST_USE;

#endif
