/* The softmax of one row of scores, in float32; its division is left to whoever has the products. */
#pragma once
#include "amx.h"

/* The highest of `valid` scores, in every lane. Four chains: one would wait for itself. */
static inline __m512 highest_of(const float *scores, int64_t valid) {
    const __m512 lowest = _mm512_set1_ps(-__builtin_inff());
    __m512 most[4] = {lowest, lowest, lowest, lowest};
    int64_t i = 0;
    for (; i + 64 <= valid; i += 64)
        for (int chain = 0; chain < 4; chain++)
            most[chain] = _mm512_max_ps(most[chain], _mm512_loadu_ps(scores + i + 16 * chain));
    for (; i < valid; i += 16) {
        const __mmask16 here = valid - i < 16 ? (__mmask16)((1u << (valid - i)) - 1) : 0xFFFF;
        most[0] = _mm512_max_ps(most[0], _mm512_mask_loadu_ps(lowest, here, scores + i));
    }
    most[0] = _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3]));
    return _mm512_set1_ps(_mm512_reduce_max_ps(most[0]));
}

/* One row: weights = e^(score - highest) of its `valid` keys, zeros up to `padded`, a multiple of 32; returns their
   sum: even and odd sixteens apart, then together. */
static inline float soften(const float *scores, bf16 *weights, int64_t valid, int64_t padded) {
    const __m512 by = _mm512_set1_ps(LOG2_OF_E), shift = _mm512_mul_ps(by, highest_of(scores, valid));
    __m512 even = _mm512_setzero_ps(), odd = even;
    int64_t i = 0;
    for (; i + 32 <= valid; i += 32) {
        __m512 a = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(scores + i), by, shift));
        __m512 b = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(scores + i + 16), by, shift));
        even = _mm512_add_ps(even, a);
        odd = _mm512_add_ps(odd, b);
        _mm512_storeu_si512(weights + i, (__m512i)_mm512_cvtne2ps_pbh(b, a));
    }
    if (i < valid) {
        const uint32_t here = (1u << (valid - i)) - 1;
        const __mmask16 low = (__mmask16)here, high = (__mmask16)(here >> 16);
        __m512 a = _mm512_fmsub_ps(_mm512_maskz_loadu_ps(low, scores + i), by, shift);
        __m512 b = _mm512_fmsub_ps(_mm512_maskz_loadu_ps(high, scores + i + 16), by, shift);
        a = _mm512_maskz_mov_ps(low, power_of_two(a));
        b = _mm512_maskz_mov_ps(high, power_of_two(b));
        even = _mm512_add_ps(even, a);
        odd = _mm512_add_ps(odd, b);
        _mm512_storeu_si512(weights + i, (__m512i)_mm512_cvtne2ps_pbh(b, a));
        i += 32;
    }
    for (; i < padded; i += 32) _mm512_storeu_si512(weights + i, _mm512_setzero_si512());
    return _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
}
