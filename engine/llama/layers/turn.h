/* Keys and values of a step, from the rows of their pages into right sides of products (tiles of pairs).

       K for Q K^T:  [keys / 16][head_dim / 32][16 pairs of head_dim][16 keys][2]
       V for P V:    [keys / 32][head_dim / 16][16 pairs of keys][16 of head_dim][2]  */
#pragma once
#include "layers.h"

/* 16 rows of 16 dwords, `stride` elements apart, become 16 columns: rows of `to`. */
static inline void transpose(const bf16 *from, int64_t stride, bf16 *to) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_si512(from + i * stride);
    for (int i = 0; i < 8; i++) {
        b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        a[4 * i] = _mm512_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
        a[4 * i + 1] = _mm512_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
        a[4 * i + 2] = _mm512_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
        a[4 * i + 3] = _mm512_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        b[i] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0x88);
        b[i + 4] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0xDD);
        b[i + 8] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0x88);
        b[i + 12] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0xDD);
    }
    for (int i = 0; i < 4; i++) {
        _mm512_storeu_si512(to + i * 32, _mm512_shuffle_i32x4(b[i], b[i + 8], 0x88));
        _mm512_storeu_si512(to + (i + 8) * 32, _mm512_shuffle_i32x4(b[i], b[i + 8], 0xDD));
        _mm512_storeu_si512(to + (i + 4) * 32, _mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0x88));
        _mm512_storeu_si512(to + (i + 12) * 32, _mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0xDD));
    }
}

/* 32 keys, [32][dim], as a right side of Q K^T. What lies behind the last key gives scores that nobody reads. */
static inline void turn_keys(const bf16 *keys, int64_t dim, bf16 *to) {
    for (int64_t half = 0; half < 2; half++)
        for (int64_t d = 0; d < dim; d += 32, to += 512) transpose(keys + half * 16 * dim + d, dim, to);
}

/* 32 values, [32][dim], as a right side of P V. Those from `valid` on count as zero: stale pages may hold anything. */
static inline void turn_values(const bf16 *values, int64_t dim, int64_t valid, bf16 *to) {
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                         5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    for (int64_t pair = 0; pair < 16; pair++)
        for (int64_t d = 0; d < dim; d += 32) {
            const bf16 *from = values + 2 * pair * dim + d;
            __m512i a = 2 * pair < valid ? _mm512_loadu_si512(from) : _mm512_setzero_si512();
            __m512i b = 2 * pair + 1 < valid ? _mm512_loadu_si512(from + dim) : _mm512_setzero_si512();
            bf16 *tile = to + d / 16 * 512 + pair * 32;
            _mm512_storeu_si512(tile, _mm512_permutex2var_epi16(a, low, b));
            _mm512_storeu_si512(tile + 512, _mm512_permutex2var_epi16(a, high, b));
        }
}
