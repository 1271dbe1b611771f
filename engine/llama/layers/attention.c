/* Attention over pages: scores = Q K^T, a softmax in float32, output = P V / sum.

   A unit of work is up to 32 query rows that share a key head: for one new token its whole group of query
   heads (keys and values are then read once, straight from their pages), for a prompt 32 tokens of one head.
   Scores of a unit are kept whole, so the softmax is exact, and every row is computed in the same order in
   either kind of unit, whatever its neighbours. Beyond a row's own position weights are exactly zero.

   How K and V become right sides of products is in turn.h, the softmax in soften.h. */
#include "multiply.h"
#include "soften.h"
#include "turn.h"
#include <omp.h>

#define WIDE 256 /* head_dim, at most */

/* A unit of work: rows of queries, `stride` elements apart, and what becomes of them. */
typedef struct {
    const bf16 *query;
    int64_t stride, dim;
    Softmax softmax;
    float sums[WIDE / 32][ROWS][32]; /* of P V */
    bf16 turned[KEYS * WIDE];        /* one block of K or V of a page, as a right side */
} __attribute__((aligned(64))) Unit;

static inline void begin(Unit *unit) {
    set_rows(unit->softmax.rows);
    softmax_begin(&unit->softmax);
}

/* scores[row][32 keys] = Q K^T. */
static inline void score(Unit *unit, int64_t block, const bf16 *right) {
    const Product p = {unit->query, unit->stride, 32, right, right + unit->dim * 16, 512, unit->dim / 32};
    multiply(p, unit->softmax.rows, unit->softmax.scores[block][0], 1, 0, 0);
    softmax_scored(&unit->softmax, block);
}

/* sums[.., slice of 32] = (or += unless `fresh`) weights V of blocks [first, last), whose right sides lie `apart` apart. */
static inline void add_values(Unit *unit, int64_t slice, int64_t first, int64_t last, const bf16 *right, int64_t apart,
                              int fresh) {
    const Product p = {unit->softmax.weights[first][0], KEYS, ROWS * KEYS, right, right + 512, apart, last - first};
    multiply(p, unit->softmax.rows, unit->sums[slice][0], fresh, 0, 0);
}

/* out[row] = sums / total, rows `stride` elements apart. */
static void finish(const Unit *unit, bf16 *out, int64_t stride) {
    for (int64_t row = 0; row < unit->softmax.rows; row++, out += stride) {
        const __m512 by = _mm512_set1_ps(1.0f / softmax_total(&unit->softmax, row));
        for (int64_t d = 0; d < unit->dim; d += 16)
            store16(out + d, _mm512_mul_ps(by, _mm512_loadu_ps(unit->sums[d / 32][row] + d % 32)));
    }
}

/* 32 tokens of one head against right sides made before. */
static void many(Unit *unit, const bf16 *keys, const bf16 *values, bf16 *out, int64_t stride) {
    const int64_t dim = unit->dim, blocks = (unit->softmax.first + unit->softmax.rows - 1 + KEYS - 1) / KEYS;
    begin(unit);
    for (int64_t block = 0; block < blocks; block++) score(unit, block, keys + block * KEYS * dim);
    softmax_weigh(&unit->softmax, blocks);
    for (int64_t d = 0; d < dim; d += 32) add_values(unit, d / 32, 0, blocks, values + d * 32, KEYS * dim, 1);
    finish(unit, out, stride);
}

static inline void fetch(const bf16 *from, int64_t count) {
    for (int64_t i = 0; i < count; i += 32) _mm_prefetch((const char *)(from + i), _MM_HINT_T0);
}

/* One token's group of query heads against its pages; each block is fetched while the one before it is used. */
static void one(Unit *unit, const Model *model, const Span *span, const bf16 *keys, const bf16 *values, bf16 *out) {
    const int64_t dim = unit->dim, size = model->block_tokens, valid = unit->softmax.first;
    const int64_t blocks = (valid + KEYS - 1) / KEYS;
    begin(unit);
#define PLACE(block) ((span->blocks[(block) * KEYS / size] * size + (block) * KEYS % size) * dim)
    for (int64_t block = 0; block < blocks; block++) {
        fetch(block + 1 < blocks ? keys + PLACE(block + 1) : values + PLACE(0), KEYS * dim);
        turn_keys(keys + PLACE(block), dim, unit->turned);
        score(unit, block, unit->turned);
    }
    softmax_weigh(&unit->softmax, blocks);
    for (int64_t block = 0; block < blocks; block++) {
        if (block + 1 < blocks) fetch(values + PLACE(block + 1), KEYS * dim);
        turn_values(values + PLACE(block), dim, valid - block * KEYS, unit->turned);
        for (int64_t d = 0; d < dim; d += 32)
            add_values(unit, d / 32, block, block + 1, unit->turned + d * 32, 0, block == 0);
    }
#undef PLACE
    finish(unit, out, dim);
}

/* Keys of the longest span, in blocks. */
static int64_t longest(const Step *step) {
    int64_t end = 0;
    for (int64_t i = 0; i < step->spans_count; i++) {
        const int64_t here = step->spans[i].start + step->spans[i].count;
        if (here > end) end = here;
    }
    return (end + KEYS - 1) / KEYS;
}

static int64_t thread_bytes(int64_t blocks) { return (int64_t)sizeof(Unit) + blocks * ROWS * KEYS * 6; }

/* Bytes of step->scratch: what each thread needs, and K and V of one sequence as right sides. */
int64_t attention_scratch(const Model *model, const Step *step) {
    const int64_t blocks = longest(step);
    return step->threads * thread_bytes(blocks) + 2 * model->kv_heads * blocks * KEYS * model->head_dim * 2;
}

static Unit *unit_of(const Model *model, const Step *step, int64_t thread) {
    const int64_t blocks = longest(step);
    Unit *unit = (Unit *)(step->scratch + thread * thread_bytes(blocks));
    unit->dim = model->head_dim;
    unit->softmax.scores = (float (*)[ROWS][KEYS])(unit + 1);
    unit->softmax.weights = (bf16 (*)[ROWS][KEYS])(unit->softmax.scores + blocks);
    return unit;
}

/* A prompt's part: its keys and values become right sides once, for all heads and all tiles of queries. */
static void prompt(const Model *model, const Step *step, const Span *span, const bf16 *keys, const bf16 *values,
                   Unit *unit) {
    const int64_t dim = model->head_dim, heads = model->heads, kv_heads = model->kv_heads, size = model->block_tokens;
    const int64_t between = model->blocks * size * dim, end = span->start + span->count, width = longest(step) * KEYS;
    const int64_t stride = (heads + 2 * kv_heads) * dim, steps = (end + KEYS - 1) / KEYS;
    bf16 *turned_keys = (bf16 *)(step->scratch + step->threads * thread_bytes(longest(step)));
    bf16 *turned_values = turned_keys + kv_heads * width * dim;
#pragma omp for schedule(static)
    for (int64_t part = 0; part < kv_heads * steps; part++) {
        const int64_t head = part / steps, key = part % steps * KEYS;
        const int64_t from = head * between + (span->blocks[key / size] * size + key % size) * dim;
        turn_keys(keys + from, dim, turned_keys + (head * width + key) * dim);
        turn_values(values + from, dim, end - key, turned_values + (head * width + key) * dim);
    }
    const int64_t tiles = (span->count + ROWS - 1) / ROWS;
#pragma omp for schedule(dynamic)
    for (int64_t part = 0; part < heads * tiles; part++) {
        const int64_t head = part / tiles, first = (tiles - 1 - part % tiles) * ROWS; /* the longest ones first */
        const int64_t row = span->row + first, from = head / (heads / kv_heads) * width * dim;
        unit->query = step->qkv + row * stride + head * dim, unit->stride = stride;
        unit->softmax.rows = least(ROWS, span->count - first);
        unit->softmax.first = span->start + first + 1, unit->softmax.more = 1;
        many(unit, turned_keys + from, turned_values + from, step->attended + (row * heads + head) * dim, heads * dim);
    }
}

/* Called by every thread of a team. keys, values: one layer's, [kv_heads][blocks * block_tokens][head_dim]. */
void attend(const Model *model, const Step *step, const bf16 *keys, const bf16 *values) {
    const int64_t dim = model->head_dim, heads = model->heads, kv_heads = model->kv_heads;
    const int64_t between = model->blocks * model->block_tokens * dim;
    Unit *unit = unit_of(model, step, omp_get_thread_num());
#pragma omp for schedule(dynamic)
    for (int64_t part = 0; part < step->spans_count * kv_heads; part++) {
        const Span *span = step->spans + part / kv_heads;
        const int64_t head = part % kv_heads, group = heads / kv_heads, first = head * group;
        if (span->count > 1) continue;
        unit->query = step->qkv + (span->row * (heads + 2 * kv_heads) + first) * dim, unit->stride = dim;
        unit->softmax.rows = group;
        unit->softmax.first = span->start + 1, unit->softmax.more = 0;
        one(unit, model, span, keys + head * between, values + head * between,
            step->attended + (span->row * heads + first) * dim);
    }
    for (int64_t i = 0; i < step->spans_count; i++)
        if (step->spans[i].count > 1) prompt(model, step, step->spans + i, keys, values, unit);
}
