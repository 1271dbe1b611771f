/* x @ weight.T with what follows it.

   A weight [outputs][inputs] is packed once as [outputs / 16][inputs / 32][16 pairs of inputs][16 outputs][2]:
   each [16][16][2] is one tile, and the tiles of 16 outputs lie one behind the other, so that reading a
   weight once (decode: bound by memory) is one stream. `outputs` is padded to a multiple of 32, `inputs`
   is a multiple of 32. For SWIGLU the blocks of 16 alternate between gate and up. */
#include "multiply.h"

#define LEFT_BYTES 1200000 /* of x that are used again and again: they should stay in 2 MiB of L2 */

/* silu(gate) * up. A division would take as long as all the rest: an approximate reciprocal and one step of Newton's
   are exact to 2^-27. The exponent is bounded so that no infinity gets into that step. */
static inline void finish_swiglu(const float *sums, bf16 *out, int64_t rows, int64_t stride) {
    const __m512 one = _mm512_set1_ps(1.0f), two = _mm512_set1_ps(2.0f), most = _mm512_set1_ps(120.0f);
    for (int64_t row = 0; row < rows; row++, sums += GROUP, out += stride) {
        __m512 gate = _mm512_load_ps(sums), up = _mm512_load_ps(sums + 16);
        __m512 exponent = _mm512_min_ps(_mm512_mul_ps(_mm512_set1_ps(-LOG2_OF_E), gate), most);
        __m512 below = _mm512_add_ps(one, power_of_two(exponent)), inverse = _mm512_rcp14_ps(below);
        inverse = _mm512_mul_ps(inverse, _mm512_fnmadd_ps(below, inverse, two));
        store16(out, _mm512_mul_ps(_mm512_mul_ps(gate, up), inverse));
    }
}

/* Both halves of a row's sums, with the bias if there is one. */
static inline void biased(const float *sums, const float *bias, __mmask16 second, __m512 *a, __m512 *b) {
    *a = _mm512_load_ps(sums), *b = _mm512_load_ps(sums + 16);
    if (bias) {
        *a = _mm512_add_ps(*a, _mm512_loadu_ps(bias));
        *b = _mm512_add_ps(*b, _mm512_maskz_loadu_ps(second, bias + 16));
    }
}

static inline void finish_plain(const float *sums, const float *bias, bf16 *out, int64_t rows, int64_t stride,
                                __mmask16 second) {
    for (int64_t row = 0; row < rows; row++, sums += GROUP, out += stride) {
        __m512 a, b;
        biased(sums, bias, second, &a, &b);
        store16(out, a);
        _mm256_mask_storeu_epi16(out + 16, second, narrow(b));
    }
}

static inline void finish_added(const float *sums, const float *bias, float *out, int64_t rows, int64_t stride,
                                __mmask16 second) {
    for (int64_t row = 0; row < rows; row++, sums += GROUP, out += stride) {
        __m512 a, b;
        biased(sums, bias, second, &a, &b);
        _mm512_storeu_ps(out, _mm512_add_ps(_mm512_loadu_ps(out), a));
        _mm512_mask_storeu_ps(out + 16, second, _mm512_add_ps(_mm512_maskz_loadu_ps(second, out + 16), b));
    }
}

static inline void finish_floats(const float *sums, float *out, int64_t rows, int64_t stride, __mmask16 second) {
    for (int64_t row = 0; row < rows; row++, sums += GROUP, out += stride) {
        _mm512_storeu_ps(out, _mm512_load_ps(sums));
        _mm512_mask_storeu_ps(out + 16, second, _mm512_load_ps(sums + 16));
    }
}

/* Called by every thread of a team: the groups of outputs are shared out among them.
   outputs: of the packed weight, so twice `out`'s for SWIGLU. A multiple of 16. */
void gemm(const bf16 *x, const bf16 *packed, const float *bias, void *out, int64_t rows, int64_t outputs,
          int64_t inputs, Finish finish) {
    float sums[32 * GROUP] __attribute__((aligned(64)));
    const int64_t most = LEFT_BYTES / (inputs * 2) / 32 * 32, chunk = most < 64 ? 64 : most;
    for (int64_t begin = 0; begin < rows; begin += chunk) {
        const int64_t end = least(rows, begin + chunk);
        const int64_t steps = (end - begin + 31) / 32, lines = (32 + steps - 1) / steps;
        int64_t set = 0;
#pragma omp for schedule(static)
        for (int64_t group = 0; group < (outputs + GROUP - 1) / GROUP; group++) {
            const bf16 *left = packed + group * GROUP * inputs, *right = left + 16 * inputs;
            const int64_t column = group * GROUP;
            const __mmask16 second = column + 16 < outputs ? 0xFFFF : 0;
            const char *next = (const char *)(left + GROUP * inputs);
            for (int64_t row = begin; row < end; row += 32, next += inputs * lines * 2) {
                const int64_t here = least(32, end - row);
                if (set != here) set_rows(set = here);
                const Product p = {x + row * inputs, inputs, 32, left, right, 512, inputs / 32};
                multiply(p, here, sums, 1, next, lines);
                if (finish == SWIGLU)
                    finish_swiglu(sums, (bf16 *)out + row * outputs / 2 + column / 2, here, outputs / 2);
                else if (finish == FLOATS)
                    finish_floats(sums, (float *)out + row * outputs + column, here, outputs, second);
                else if (finish == ADDED)
                    finish_added(sums, bias ? bias + column : 0, (float *)out + row * outputs + column, here, outputs,
                                 second);
                else
                    finish_plain(sums, bias ? bias + column : 0, (bf16 *)out + row * outputs + column, here, outputs,
                                 second);
            }
        }
    }
}
