/* What the kernels share: the values that Python hands over, and small helpers.

   Everything is bf16 in memory and float32 in arithmetic, but for the residual stream, which is float32
   in memory too: what every layer adds to is not rounded sixty times. Each row of every product is summed in
   one order, whatever else is in the batch, so a token's bits do not depend on its company.

   Compiled once for each set of instructions in __init__.py: AMX tiles, or AVX-512 with or without its products of
   bf16. What differs between them is multiply.h and, here, how a float becomes bf16.
   Field order and types are mirrored in __init__.py; raise LAYERS_VERSION with either. */
#pragma once
#include <immintrin.h>
#include <stdint.h>

#define LAYERS_VERSION 3

typedef uint16_t bf16;

/* One layer. Products are packed (see gemm.c); biases and the two head norms may be null. */
typedef struct {
    const float *input_norm, *post_norm, *query_norm, *key_norm, *qkv_bias, *output_bias;
    const bf16 *qkv, *output, *gate_up, *down;
} Layer;

typedef struct {
    int64_t hidden, inner, heads, kv_heads, head_dim, block_tokens, blocks;
    float epsilon, scale;
    const float *cosines, *sines; /* [positions][head_dim / 2] */
    const Layer *layers;
    bf16 *pages; /* [layers][2][kv_heads][blocks * block_tokens][head_dim] */
} Model;

/* `count` tokens of one sequence in rows [row, row + count), the first at position `start`. */
typedef struct {
    int64_t row, count, start;
    const int32_t *blocks; /* of positions 0, block_tokens, .. */
} Span;

typedef struct {
    int64_t rows, spans_count, threads;
    const int64_t *positions; /* [rows] */
    const int64_t *targets;   /* [rows] where a token's KV goes, counted in tokens of the pages */
    const Span *spans;
    float *x;     /* [rows][hidden] the residual stream, in and out */
    bf16 *normed; /* [rows][hidden] */
    bf16 *qkv;    /* [rows][(heads + 2 kv_heads) head_dim] */
    bf16 *attended; /* [rows][heads head_dim] */
    bf16 *inner;  /* [rows][inner] */
    char *scratch; /* of scratch_bytes(), 64-byte aligned */
} Step;

/* What becomes of a product's sums: rounded, gated, kept as they are, or added to what is there. */
typedef enum { PLAIN, SWIGLU, FLOATS, ADDED } Finish;

void gemm(const bf16 *x, const bf16 *packed, const float *bias, void *out, int64_t rows, int64_t outputs, int64_t inputs, Finish finish);
void rms_norm(const float *x, const float *weight, bf16 *out, int64_t rows, int64_t size, float epsilon);
void rotate_and_store(const Model *model, const Layer *layer, const Step *step, bf16 *keys, bf16 *values);
void attend(const Model *model, const Step *step, const bf16 *keys, const bf16 *values);
int64_t attention_scratch(const Model *model, const Step *step);

static inline int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static inline __m512 widen(__m256i half) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
static inline __m512 load16(const bf16 *from) { return widen(_mm256_loadu_si256((const __m256i *)from)); }

/* To the nearest, ties to even. */
#ifdef __AVX512BF16__
static inline __m256i narrow(__m512 values) { return (__m256i)_mm512_cvtneps_pbh(values); }
#else
static inline __m256i narrow(__m512 values) {
    const __m512i bits = _mm512_castps_si512(values), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000)); /* NaN stays NaN */
    const __mmask16 numbers = _mm512_cmp_ps_mask(values, values, _CMP_ORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(quiet, numbers, rounded), 16));
}
#endif
static inline void store16(bf16 *to, __m512 values) { _mm256_storeu_si256((__m256i *)to, narrow(values)); }

/* 2^x = 2^n p(f), n the floor of x; relative error of p below 5e-6 (minimax on [0, 1)), bf16's is 2e-3. */
static inline __m512 power_of_two(__m512 x) {
    const __m512 rest = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); /* x - n */
    __m512 sum = _mm512_set1_ps(1.3534167e-2f);
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(5.2011464e-2f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(2.4144275e-1f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(6.9300383e-1f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(1.0000026f));
    return _mm512_scalef_ps(sum, x);
}
#define LOG2_OF_E 1.44269504f
