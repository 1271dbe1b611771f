/* The softmax of up to 32 rows of scores, in float32; its division is left to whoever has the products.

   Scores come in blocks of 32 keys. Work goes block by block over all rows, so that loops are as long for one row as
   for the next and rows wait for nobody's reduction: row by row took half as long again. A row's numbers depend on
   its own scores alone: lanes are summed over blocks in their order, and together at the end. */
#pragma once
#include "layers.h"

#define KEYS 32 /* keys per block */
#define ROWS 32 /* rows, at most */

typedef struct {
    int64_t rows, first, more; /* the first row sees `first` keys, each next one `more` more */
    float (*scores)[ROWS][KEYS]; /* [blocks] */
    bf16 (*weights)[ROWS][KEYS]; /* [blocks] */
    float highest[ROWS][16], sums[ROWS][16], shift[ROWS];
} Softmax;

/* Which of a block's keys a row may see. */
static inline uint32_t seen(const Softmax *softmax, int64_t row, int64_t block) {
    const int64_t keys = softmax->first + row * softmax->more - block * KEYS;
    return keys >= KEYS ? 0xFFFFFFFFu : keys <= 0 ? 0 : (1u << keys) - 1;
}

static inline int all_see(const Softmax *softmax, int64_t block) { return (block + 1) * KEYS <= softmax->first; }

static inline void softmax_begin(Softmax *softmax) {
    for (int64_t row = 0; row < softmax->rows; row++) {
        _mm512_storeu_ps(softmax->highest[row], _mm512_set1_ps(-__builtin_inff()));
        _mm512_storeu_ps(softmax->sums[row], _mm512_setzero_ps());
    }
}

/* Take note of a block that was scored. */
static inline void softmax_scored(Softmax *softmax, int64_t block) {
    const __m512 lowest = _mm512_set1_ps(-__builtin_inff());
    const int all = all_see(softmax, block);
    for (int64_t row = 0; row < softmax->rows; row++) {
        const float *scores = softmax->scores[block][row];
        const uint32_t keys = all ? 0xFFFFFFFFu : seen(softmax, row, block);
        __m512 a = _mm512_mask_loadu_ps(lowest, (__mmask16)keys, scores);
        __m512 b = _mm512_mask_loadu_ps(lowest, (__mmask16)(keys >> 16), scores + 16);
        __m512 highest = _mm512_max_ps(_mm512_loadu_ps(softmax->highest[row]), _mm512_max_ps(a, b));
        _mm512_storeu_ps(softmax->highest[row], highest);
    }
}

/* weights = e^(score - highest), zero for keys that a row may not see. */
static inline void softmax_weigh(Softmax *softmax, int64_t blocks) {
    const __m512 by = _mm512_set1_ps(LOG2_OF_E);
    for (int64_t row = 0; row < softmax->rows; row++)
        softmax->shift[row] = LOG2_OF_E * _mm512_reduce_max_ps(_mm512_loadu_ps(softmax->highest[row]));
    for (int64_t block = 0; block < blocks; block++) {
        const int all = all_see(softmax, block);
        for (int64_t row = 0; row < softmax->rows; row++) {
            const float *scores = softmax->scores[block][row];
            const __m512 shift = _mm512_set1_ps(softmax->shift[row]);
            const uint32_t keys = all ? 0xFFFFFFFFu : seen(softmax, row, block);
            const __mmask16 low = (__mmask16)keys, high = (__mmask16)(keys >> 16);
            __m512 a = power_of_two(_mm512_fmsub_ps(_mm512_maskz_loadu_ps(low, scores), by, shift));
            __m512 b = power_of_two(_mm512_fmsub_ps(_mm512_maskz_loadu_ps(high, scores + 16), by, shift));
            a = _mm512_maskz_mov_ps(low, a);
            b = _mm512_maskz_mov_ps(high, b);
            __m512 sums = _mm512_add_ps(_mm512_loadu_ps(softmax->sums[row]), _mm512_add_ps(a, b));
            _mm512_storeu_ps(softmax->sums[row], sums);
            store16(softmax->weights[block][row], a);
            store16(softmax->weights[block][row] + 16, b);
        }
    }
}

static inline float softmax_total(const Softmax *softmax, int64_t row) {
    return _mm512_reduce_add_ps(_mm512_loadu_ps(softmax->sums[row]));
}
