/* What happens to rows one by one: norms, rotary embedding, and the way of keys and values into their pages. */
#include "layers.h"
#include <string.h>

static inline float inverse_root(const bf16 *x, int64_t size, float epsilon) {
    __m512 squares = _mm512_setzero_ps();
    for (int64_t i = 0; i < size; i += 16) squares = _mm512_fmadd_ps(load16(x + i), load16(x + i), squares);
    return 1.0f / __builtin_sqrtf(_mm512_reduce_add_ps(squares) / (float)size + epsilon);
}

static inline void norm_row(const bf16 *x, const float *weight, bf16 *out, int64_t size, float epsilon) {
    const __m512 factor = _mm512_set1_ps(inverse_root(x, size, epsilon));
    for (int64_t i = 0; i < size; i += 16)
        store16(out + i, _mm512_mul_ps(_mm512_mul_ps(load16(x + i), factor), _mm512_loadu_ps(weight + i)));
}

/* Called by every thread of a team. x: the residual stream. size: a multiple of 32. */
void rms_norm(const float *x, const float *weight, bf16 *out, int64_t rows, int64_t size, float epsilon) {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const float *from = x + row * size;
        bf16 *to = out + row * size;
        __m512 even = _mm512_setzero_ps(), odd = even;
        for (int64_t i = 0; i < size; i += 32) {
            __m512 a = _mm512_loadu_ps(from + i), b = _mm512_loadu_ps(from + i + 16);
            even = _mm512_fmadd_ps(a, a, even);
            odd = _mm512_fmadd_ps(b, b, odd);
        }
        const float mean = _mm512_reduce_add_ps(_mm512_add_ps(even, odd)) / (float)size;
        const __m512 factor = _mm512_set1_ps(1.0f / __builtin_sqrtf(mean + epsilon));
        for (int64_t i = 0; i < size; i += 16)
            store16(to + i, _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(from + i), factor), _mm512_loadu_ps(weight + i)));
    }
}

/* One head: pairs (i, i + head_dim / 2) turn by the position's angles; then times scale. May work in place. */
static inline void rotate(const bf16 *x, bf16 *out, const float *cosines, const float *sines, int64_t head_dim,
                          float scale) {
    const int64_t half = head_dim / 2;
    const __m512 by = _mm512_set1_ps(scale);
    for (int64_t i = 0; i < half; i += 16) {
        __m512 a = load16(x + i), b = load16(x + half + i);
        __m512 c = _mm512_loadu_ps(cosines + i), s = _mm512_loadu_ps(sines + i);
        store16(out + i, _mm512_mul_ps(by, _mm512_sub_ps(_mm512_mul_ps(a, c), _mm512_mul_ps(b, s))));
        store16(out + half + i, _mm512_mul_ps(by, _mm512_add_ps(_mm512_mul_ps(b, c), _mm512_mul_ps(a, s))));
    }
}

/* Called by every thread of a team. Queries are normed, rotated and scaled where they are; keys go normed and
   rotated into their pages, values as they are. keys, values: one layer's, [kv_heads][blocks * block_tokens][head_dim]. */
void rotate_and_store(const Model *model, const Layer *layer, const Step *step, bf16 *keys, bf16 *values) {
    const int64_t dim = model->head_dim, heads = model->heads, kv_heads = model->kv_heads;
    const int64_t between = model->blocks * model->block_tokens * dim; /* one head's pages to the next one's */
#pragma omp for schedule(static)
    for (int64_t row = 0; row < step->rows; row++) {
        const float *c = model->cosines + step->positions[row] * dim / 2, *s = model->sines + step->positions[row] * dim / 2;
        bf16 *head = step->qkv + row * (heads + 2 * kv_heads) * dim;
        for (int64_t h = 0; h < heads; h++, head += dim) {
            if (layer->query_norm) norm_row(head, layer->query_norm, head, dim, model->epsilon);
            rotate(head, head, c, s, dim, model->scale);
        }
        for (int64_t h = 0; h < kv_heads; h++, head += dim) {
            if (layer->key_norm) norm_row(head, layer->key_norm, head, dim, model->epsilon);
            rotate(head, keys + h * between + step->targets[row] * dim, c, s, dim, 1.0f);
            memcpy(values + h * between + step->targets[row] * dim, head + kv_heads * dim, (size_t)dim * sizeof(bf16));
        }
    }
}
