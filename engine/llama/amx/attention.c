/* Attention over pages, on AMX tiles: scores = Q K^T, a softmax in float32, output = P V / sum.

   A unit of work is up to 32 query rows that share a key head: for one new token its whole group of query
   heads (keys and values are then read once, straight from their pages), for a prompt 32 tokens of one head.
   Scores of a unit are kept whole, so the softmax is exact, and every row is computed in the same order in
   either kind of unit, whatever its neighbours: keys in 32s, lanes of 16 summed apart and then together.
   Beyond a row's own position weights are exactly zero.

   How K and V become right sides of products is in turn.h, the softmax in soften.h. */
#include "soften.h"
#include "turn.h"
#include <omp.h>
#include <string.h>

#define ROWS 32 /* query rows per unit, at most */

typedef struct {
    float *scores; /* [ROWS][width] */
    bf16 *weights; /* [ROWS][width] */
    bf16 *step;    /* one step of K or V, as a right side */
    int64_t width;
} Scratch;

/* Room for the keys of the longest span. An odd multiple of 32, so that rows do not all fall into one set of the cache. */
static int64_t longest(const Step *step) {
    int64_t end = 0;
    for (int64_t i = 0; i < step->spans_count; i++) {
        const int64_t here = step->spans[i].start + step->spans[i].count;
        if (here > end) end = here;
    }
    return round_up(end, 2 * KEYS) + KEYS;
}

static int64_t thread_bytes(const Model *model, int64_t width) { return ROWS * width * 6 + KEYS * model->head_dim * 2; }

/* Bytes of step->scratch: K and V of one sequence as right sides, and what each thread needs. */
int64_t attention_scratch(const Model *model, const Step *step) {
    const int64_t width = longest(step);
    return 2 * model->kv_heads * width * model->head_dim * 2 + step->threads * thread_bytes(model, width);
}

static Scratch scratch_of(const Model *model, const Step *step, int64_t thread) {
    const int64_t width = longest(step);
    char *begin = step->scratch + 2 * model->kv_heads * width * model->head_dim * 2 + thread * thread_bytes(model, width);
    float *scores = (float *)begin;
    bf16 *weights = (bf16 *)(scores + ROWS * width);
    return (Scratch){scores, weights, weights + ROWS * width, width};
}

/* scores[row][key .. key + 32) = Q K^T; the right side may have been used in full by the next call. */
static inline void score(const bf16 *query, int64_t stride, const bf16 *right, int64_t dim, int lower, float *out,
                         int64_t width) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t d = 0; d < dim; d += 32, right += 512) {
        _tile_loadd(4, query + d, stride * 2);
        _tile_loadd(6, right, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, right + dim * 16, 64);
        _tile_dpbf16ps(1, 4, 7);
        if (lower) {
            _tile_loadd(5, query + 16 * stride + d, stride * 2);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, out, width * 4);
    _tile_stored(1, out + 16, width * 4);
    if (lower) {
        _tile_stored(2, out + 16 * width, width * 4);
        _tile_stored(3, out + 16 * width + 16, width * 4);
    }
}

/* Where the sums of a 32-wide slice of the output go. */
static void write_out(const float *sums, const float *totals, int64_t rows, bf16 *out, int64_t stride) {
    for (int64_t row = 0; row < rows; row++) {
        const __m512 by = _mm512_set1_ps(1.0f / totals[row]);
        store16(out + row * stride, _mm512_mul_ps(by, _mm512_load_ps(sums + row * 32)));
        store16(out + row * stride + 16, _mm512_mul_ps(by, _mm512_load_ps(sums + row * 32 + 16)));
    }
}

static inline void begin_sums(int lower) {
    _tile_zero(0);
    _tile_zero(1);
    if (lower) {
        _tile_zero(2);
        _tile_zero(3);
    }
}

/* sums += weights[.., 32 keys] V[32 keys, 32 of head_dim]. */
static inline void add_values(const bf16 *weights, int64_t width, const bf16 *right, int lower) {
    _tile_loadd(4, weights, width * 2);
    _tile_loadd(6, right, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, right + 512, 64);
    _tile_dpbf16ps(1, 4, 7);
    if (lower) {
        _tile_loadd(5, weights + 16 * width, width * 2);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

static inline void end_sums(float *sums, int lower) {
    _tile_stored(0, sums, 128);
    _tile_stored(1, sums + 16, 128);
    if (lower) {
        _tile_stored(2, sums + 512, 128);
        _tile_stored(3, sums + 528, 128);
    }
}

/* 32 tokens of one head against right sides made before. rows <= 32; the first row sees `first` keys, the next one more. */
static void many(const bf16 *query, int64_t stride, int64_t rows, int64_t first, const bf16 *keys, const bf16 *values,
                 int64_t dim, Scratch scratch, bf16 *out, int64_t out_stride) {
    const int lower = rows > 16;
    const int64_t padded = round_up(first + rows - 1, KEYS), width = scratch.width;
    float totals[ROWS], sums[ROWS * 32] __attribute__((aligned(64)));
    set_tiles(least(16, rows), lower ? rows - 16 : 0);
    for (int64_t key = 0; key < padded; key += KEYS)
        score(query, stride, keys + key * dim, dim, lower, scratch.scores + key, width);
    for (int64_t row = 0; row < rows; row++)
        totals[row] = soften(scratch.scores + row * width, scratch.weights + row * width, first + row, padded);
    for (int64_t d = 0; d < dim; d += 32) {
        begin_sums(lower);
        for (int64_t key = 0; key < padded; key += KEYS)
            add_values(scratch.weights + key, width, values + key * dim + d * 32, lower);
        end_sums(sums, lower);
        write_out(sums, totals, rows, out + d, out_stride);
    }
}

static inline void fetch(const bf16 *from, int64_t count) {
    for (int64_t i = 0; i < count; i += 32) _mm_prefetch((const char *)(from + i), _MM_HINT_T0);
}

/* One token's group of query heads (rows, contiguous) against its pages; each step's keys are fetched one step ahead. */
static void one(const Model *model, const Span *span, const bf16 *query, const bf16 *keys, const bf16 *values,
                Scratch scratch, bf16 *out) {
    const int64_t rows = model->heads / model->kv_heads, dim = model->head_dim, block = model->block_tokens;
    const int64_t valid = span->start + 1, padded = round_up(valid, KEYS), width = scratch.width;
    const int lower = rows > 16;
    float totals[ROWS], sums[8][ROWS * 32] __attribute__((aligned(64)));
    set_tiles(least(16, rows), lower ? rows - 16 : 0);
#define PLACE(key) ((span->blocks[(key) / block] * block + (key) % block) * dim)
    for (int64_t key = 0; key < padded; key += KEYS) {
        fetch(key + KEYS < padded ? keys + PLACE(key + KEYS) : values + PLACE(0), KEYS * dim);
        turn_keys(keys + PLACE(key), dim, scratch.step);
        score(query, dim, scratch.step, dim, lower, scratch.scores + key, width);
    }
    for (int64_t row = 0; row < rows; row++)
        totals[row] = soften(scratch.scores + row * width, scratch.weights + row * width, valid, padded);
    memset(sums, 0, sizeof sums);
    for (int64_t key = 0; key < padded; key += KEYS) {
        if (key + KEYS < padded) fetch(values + PLACE(key + KEYS), KEYS * dim);
        turn_values(values + PLACE(key), dim, valid - key, scratch.step);
        for (int64_t d = 0; d < dim; d += 32) {
            _tile_loadd(0, sums[d / 32], 128);
            _tile_loadd(1, sums[d / 32] + 16, 128);
            if (lower) {
                _tile_loadd(2, sums[d / 32] + 512, 128);
                _tile_loadd(3, sums[d / 32] + 528, 128);
            }
            add_values(scratch.weights + key, width, scratch.step + d * 32, lower);
            end_sums(sums[d / 32], lower);
        }
    }
    for (int64_t d = 0; d < dim; d += 32) write_out(sums[d / 32], totals, rows, out + d, dim);
#undef PLACE
}

/* A prompt's part: its keys and values become right sides once, for all heads and all tiles of queries. */
static void prompt(const Model *model, const Step *step, const Span *span, const bf16 *keys, const bf16 *values,
                   Scratch scratch) {
    const int64_t dim = model->head_dim, heads = model->heads, kv_heads = model->kv_heads, block = model->block_tokens;
    const int64_t between = model->blocks * block * dim, end = span->start + span->count, width = scratch.width;
    const int64_t stride = (heads + 2 * kv_heads) * dim, steps = (end + KEYS - 1) / KEYS;
    bf16 *turned_keys = (bf16 *)step->scratch, *turned_values = turned_keys + kv_heads * width * dim;
#pragma omp for schedule(static)
    for (int64_t unit = 0; unit < kv_heads * steps; unit++) {
        const int64_t head = unit / steps, key = unit % steps * KEYS;
        const int64_t from = head * between + (span->blocks[key / block] * block + key % block) * dim;
        turn_keys(keys + from, dim, turned_keys + (head * width + key) * dim);
        turn_values(values + from, dim, end - key, turned_values + (head * width + key) * dim);
    }
    const int64_t tiles = (span->count + ROWS - 1) / ROWS;
#pragma omp for schedule(dynamic)
    for (int64_t unit = 0; unit < heads * tiles; unit++) {
        const int64_t head = unit / tiles, first = (tiles - 1 - unit % tiles) * ROWS; /* the longest ones first */
        const int64_t row = span->row + first, from = head / (heads / kv_heads) * width * dim;
        many(step->qkv + row * stride + head * dim, stride, least(ROWS, span->count - first), span->start + first + 1,
             turned_keys + from, turned_values + from, dim, scratch, step->attended + (row * heads + head) * dim,
             heads * dim);
    }
}

/* Called by every thread of a team. keys, values: one layer's, [kv_heads][blocks * block_tokens][head_dim]. */
void attend(const Model *model, const Step *step, const bf16 *keys, const bf16 *values) {
    const int64_t dim = model->head_dim, heads = model->heads, kv_heads = model->kv_heads;
    const int64_t between = model->blocks * model->block_tokens * dim;
    const Scratch scratch = scratch_of(model, step, omp_get_thread_num());
#pragma omp for schedule(dynamic)
    for (int64_t unit = 0; unit < step->spans_count * kv_heads; unit++) {
        const Span *span = step->spans + unit / kv_heads;
        const int64_t head = unit % kv_heads, first = head * (heads / kv_heads);
        if (span->count == 1)
            one(model, span, step->qkv + (span->row * (heads + 2 * kv_heads) + first) * dim, keys + head * between,
                values + head * between, scratch, step->attended + (span->row * heads + first) * dim);
    }
    for (int64_t i = 0; i < step->spans_count; i++)
        if (step->spans[i].count > 1) prompt(model, step, step->spans + i, keys, values, scratch);
}
