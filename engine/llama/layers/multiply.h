/* The one product that gemm.c and attention.c are made of, on AMX tiles or on vectors of AVX-512.

   Sums of up to 32 rows x 32 outputs are added up in steps of 32 inputs, pair by pair, in one order for every row.
   The right side is laid out in tiles [16 pairs of inputs][16 outputs][2] of 1 KiB, `left` and `right` halves apart. */
#pragma once
#include "layers.h"

#define GROUP 32 /* outputs: two tiles wide */

/* A step goes on by x_step in x and by right_step in both halves, all counted in elements. */
typedef struct {
    const bf16 *x;
    int64_t x_stride, x_step;
    const bf16 *left, *right;
    int64_t right_step, steps;
} Product;

#ifdef __AMX_TILE__

/* Tile registers: 0..3 hold sums (a 2 x 2 block of 16 x 16 floats), 4 and 5 rows of x, 6 and 7 of the right side. */
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} __attribute__((packed, aligned(64))) TileConfig;

/* For `rows` of x, before multiply() with as many. Clears all tiles. */
static inline void set_rows(int64_t rows) {
    TileConfig config = {.palette = 1};
    const int64_t upper = least(16, rows), lower = rows > 16 ? rows - 16 : 1; /* configured even if it is not used */
    const int64_t of[8] = {upper, upper, lower, lower, upper, lower, 16, 16};
    for (int tile = 0; tile < 8; tile++) {
        config.bytes[tile] = 64;
        config.rows[tile] = (uint8_t)of[tile];
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(config)); /* gcc's intrinsic names only its first 8 bytes */
}

static inline void release(void) { _tile_release(); }

/* gcc's tile loads do not say that they read memory: what C has stored must be stored before the next of them. */
static inline void settle(void) { __asm__ volatile("" : : : "memory"); }

/* sums[rows][32] = (or += unless `fresh`) the product. Meanwhile `lines` cache lines a step are fetched from `next`. */
static inline void multiply(Product p, int64_t rows, float *sums, int fresh, const char *next, int64_t lines) {
    const int lower = rows > 16;
    settle();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    if (!fresh) {
        _tile_loadd(0, sums, GROUP * 4);
        _tile_loadd(1, sums + 16, GROUP * 4);
        if (lower) {
            _tile_loadd(2, sums + 16 * GROUP, GROUP * 4);
            _tile_loadd(3, sums + 16 * GROUP + 16, GROUP * 4);
        }
    }
    for (int64_t step = 0; step < p.steps; step++) {
        for (int64_t line = 0; line < lines; line++, next += 64) _mm_prefetch(next, _MM_HINT_T1);
        _tile_loadd(4, p.x + step * p.x_step, p.x_stride * 2);
        _tile_loadd(6, p.left + step * p.right_step, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, p.right + step * p.right_step, 64);
        _tile_dpbf16ps(1, 4, 7);
        if (lower) {
            _tile_loadd(5, p.x + 16 * p.x_stride + step * p.x_step, p.x_stride * 2);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, sums, GROUP * 4);
    _tile_stored(1, sums + 16, GROUP * 4);
    if (lower) {
        _tile_stored(2, sums + 16 * GROUP, GROUP * 4);
        _tile_stored(3, sums + 16 * GROUP + 16, GROUP * 4);
    }
}

#else

static inline void set_rows(int64_t rows) { (void)rows; }
static inline void release(void) {}

/* A pair of inputs times 16 outputs, or of 32 inputs with themselves: two products are added to each sum. */
#ifdef __AVX512BF16__
typedef __m512bh Pairs;
static inline Pairs pairs_of(__m512i bits) { return (__m512bh)bits; }
static inline __m512 add_products(__m512 sums, Pairs a, Pairs b) { return _mm512_dpbf16_ps(sums, a, b); }
#else
typedef struct {
    __m512 even, odd;
} Pairs;
static inline Pairs pairs_of(__m512i bits) {
    return (Pairs){_mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)),
                   _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(-65536)))};
}
static inline __m512 add_products(__m512 sums, Pairs a, Pairs b) {
    return _mm512_fmadd_ps(a.odd, b.odd, _mm512_fmadd_ps(a.even, b.even, sums));
}
#endif

/* Some rows, as many as there are registers for: a constant, so that their sums stay there.
   One row is few sums for the latency of a product, but its order is that of twelve. */
static inline __attribute__((always_inline)) void multiply_rows(const Product *p, const int rows, const bf16 *x,
                                                                float *sums, int fresh, const char *next,
                                                                int64_t lines) {
    __m512 a[12], b[12];
#pragma GCC unroll 12
    for (int row = 0; row < rows; row++) {
        a[row] = fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(sums + row * GROUP);
        b[row] = fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(sums + row * GROUP + 16);
    }
    const bf16 *left = p->left, *right = p->right;
    for (int64_t step = 0; step < p->steps; step++, x += p->x_step, left += p->right_step, right += p->right_step) {
        for (int64_t line = 0; line < lines; line++, next += 64) _mm_prefetch(next, _MM_HINT_T1);
#pragma GCC unroll 4
        for (int64_t pair = 0; pair < 16; pair++) {
            const Pairs l = pairs_of(_mm512_loadu_si512(left + pair * 32));
            const Pairs r = pairs_of(_mm512_loadu_si512(right + pair * 32));
#pragma GCC unroll 12
            for (int row = 0; row < rows; row++) {
                int32_t both;
                __builtin_memcpy(&both, x + row * p->x_stride + pair * 2, 4);
                const Pairs of_x = pairs_of(_mm512_set1_epi32(both));
                a[row] = add_products(a[row], of_x, l);
                b[row] = add_products(b[row], of_x, r);
            }
        }
    }
#pragma GCC unroll 12
    for (int row = 0; row < rows; row++) {
        _mm512_storeu_ps(sums + row * GROUP, a[row]);
        _mm512_storeu_ps(sums + row * GROUP + 16, b[row]);
    }
}

/* sums[rows][32] = (or += unless `fresh`) the product. Meanwhile `lines` cache lines a step are fetched from `next`.
   Not inlined: it is twelve loops long. */
static __attribute__((noinline)) void multiply(Product p, int64_t rows, float *sums, int fresh, const char *next, int64_t lines) {
    for (; rows > 0; rows -= 12, sums += 12 * GROUP, p.x += 12 * p.x_stride, lines = 0) {
#define ROWS_OF(n) \
    case n: multiply_rows(&p, n, p.x, sums, fresh, next, lines); break;
        switch (least(12, rows)) {
            ROWS_OF(1) ROWS_OF(2) ROWS_OF(3) ROWS_OF(4) ROWS_OF(5) ROWS_OF(6)
            ROWS_OF(7) ROWS_OF(8) ROWS_OF(9) ROWS_OF(10) ROWS_OF(11) ROWS_OF(12)
        }
#undef ROWS_OF
    }
}

#endif
