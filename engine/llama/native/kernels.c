/* What oneDNN has no product for: norms, rotations, causal softmax, and decode attention over pages.
 *
 * Every function is compiled for bf16 and for float32; arithmetic is float32 in registers and is rounded once, when
 * it is stored. One row's result never depends on which other rows are in the call, nor on where pages lie.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* One library for every x86-64: the loader picks the clone for the processor that it runs on. A test that wants what
   the oldest of them gets defines ONE_CLONE. */
#if !defined(ONE_CLONE) && defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define EXPORT __attribute__((visibility("default"), target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EXPORT __attribute__((visibility("default")))
#endif

INLINE float bf16_load(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

INLINE uint16_t bf16_store(float value) { /* round to nearest, ties to even; NaN stays NaN */
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    uint32_t quiet = (bits >> 16) | 0x40u;
    return (uint16_t)((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
}

/* exp(x) for x <= 0, within 2 ulp: 2^n * p(f) with n + f = x * log2(e); below -87 it is 0. A call of expf would not
 * be vectorised without libmvec. Coefficients: minimax for 2^f on [-0.5, 0.5] (Cephes exp2f). */
INLINE float exp_of_negative(float x) {
    float scaled = x * 1.44269504088896341f;
    float whole = __builtin_rintf(scaled);
    float f = scaled - whole;
    float p = 1.535336188319500e-4f;
    p = p * f + 1.339887440266574e-3f;
    p = p * f + 9.618437357674640e-3f;
    p = p * f + 5.550332471162809e-2f;
    p = p * f + 2.402264791363012e-1f;
    p = p * f + 6.931472028550421e-1f;
    p = p * f + 1.0f;
    int32_t exponent = (int32_t)whole;
    uint32_t bits = (uint32_t)((exponent < -126 ? -127 : exponent) + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

#define ELEMENT uint16_t
#define LOAD bf16_load
#define STORE bf16_store
#define NAME(x) x##_bfloat16
#include "kernels.h"
#undef ELEMENT
#undef LOAD
#undef STORE
#undef NAME

#define ELEMENT float
#define LOAD(x) (x)
#define STORE(x) (x)
#define NAME(x) x##_float32
#include "kernels.h"
