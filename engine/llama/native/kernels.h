/* The functions of kernels.c for one ELEMENT; included there once for each. */

/* out[r][i] = x[r][i] / rms(x[r]) * weight[i] over `outer` groups of `inner` rows; a group's rows lie one behind the
 * other, groups are `stride` elements apart in x and `out_stride` in out. */
EXPORT void NAME(rms_norm)(const ELEMENT *x, const ELEMENT *weight, ELEMENT *out, int64_t outer, int64_t inner,
                    int64_t stride, int64_t out_stride, int64_t size, float eps) {
    for (int64_t group = 0; group < outer; group++)
        for (int64_t row = 0; row < inner; row++) {
            const ELEMENT *from = x + group * stride + row * size;
            ELEMENT *to = out + group * out_stride + row * size;
            float squares = 0;
            for (int64_t i = 0; i < size; i++) squares += LOAD(from[i]) * LOAD(from[i]);
            float scale = 1.0f / sqrtf(squares / (float)size + eps);
            for (int64_t i = 0; i < size; i++) to[i] = STORE(LOAD(from[i]) * scale * LOAD(weight[i]));
        }
}

/* x[r] += more[r], unless there is nothing more; out[r][i] = x[r][i] / rms(x[r]) * weight[i]. x is the residual stream,
 * float32 whatever the element is: it is a sum over all layers, and would be rounded as often. */
EXPORT void NAME(add_and_norm)(float *x, const ELEMENT *more, const ELEMENT *weight, ELEMENT *out, int64_t rows,
                               int64_t size, float eps) {
    for (int64_t row = 0; row < rows; row++, x += size, out += size) {
        float squares = 0;
        if (more) {
            for (int64_t i = 0; i < size; i++) x[i] += LOAD(more[i]);
            more += size;
        }
        for (int64_t i = 0; i < size; i++) squares += x[i] * x[i];
        float scale = 1.0f / sqrtf(squares / (float)size + eps);
        for (int64_t i = 0; i < size; i++) out[i] = STORE(x[i] * scale * LOAD(weight[i]));
    }
}

/* Rotate one head. sin carries the sign of rotate_half: the first half of it is negated. */
INLINE void NAME(rotate_one)(const ELEMENT *x, const float *cos, const float *sin, ELEMENT *out, int64_t size,
                             float scale) {
    int64_t half = size / 2;
    for (int64_t i = 0; i < half; i++) {
        float low = LOAD(x[i]), high = LOAD(x[i + half]);
        out[i] = STORE((low * cos[i] + high * sin[i]) * scale);
        out[i + half] = STORE((high * cos[i + half] + low * sin[i + half]) * scale);
    }
}

/* qkv [tokens][heads + 2 * kv_heads][size]: queries, rotated and scaled, go to query [kv_heads][tokens][group][size];
 * keys, rotated, and values go to the pages [kv_heads][page_tokens][size] at `targets`. cos, sin [positions][size]. */
EXPORT void NAME(rotate_and_write)(const ELEMENT *qkv, const float *cos, const float *sin, const int64_t *positions,
                            const int64_t *targets, ELEMENT *query, ELEMENT *keys, ELEMENT *values, int64_t tokens,
                            int64_t kv_heads, int64_t group, int64_t size, int64_t page_tokens, float scale) {
    int64_t heads = kv_heads * group;
    for (int64_t t = 0; t < tokens; t++) {
        const ELEMENT *row = qkv + t * (heads + 2 * kv_heads) * size;
        const float *c = cos + positions[t] * size, *s = sin + positions[t] * size;
        for (int64_t h = 0; h < heads; h++) {
            ELEMENT *to = query + (((h / group) * tokens + t) * group + h % group) * size;
            NAME(rotate_one)(row + h * size, c, s, to, size, scale);
        }
        for (int64_t h = 0; h < kv_heads; h++) {
            int64_t place = (h * page_tokens + targets[t]) * size;
            NAME(rotate_one)(row + (heads + h) * size, c, s, keys + place, size, 1.0f);
            memcpy(values + place, row + (heads + kv_heads + h) * size, (size_t)size * sizeof(ELEMENT));
        }
    }
}

/* Softmax of each row in place. Row r may see `first + r / group` columns; the rest becomes 0. */
EXPORT void NAME(causal_softmax)(ELEMENT *scores, int64_t rows, int64_t columns, int64_t group, int64_t first,
                          float *scratch) {
    for (int64_t r = 0; r < rows; r++) {
        ELEMENT *row = scores + r * columns;
        int64_t seen = first + r / group;
        float most = LOAD(row[0]);
        for (int64_t i = 0; i < seen; i++) {
            scratch[i] = LOAD(row[i]);
            most = scratch[i] > most ? scratch[i] : most;
        }
        float sum = 0;
        for (int64_t i = 0; i < seen; i++) {
            scratch[i] = exp_of_negative(scratch[i] - most);
            sum += scratch[i];
        }
        float scale = 1.0f / sum;
        for (int64_t i = 0; i < seen; i++) row[i] = STORE(scratch[i] * scale);
        memset(row + seen, 0, (size_t)(columns - seen) * sizeof(ELEMENT));
    }
}

/* One token's `group` queries of one key head against the first `length` tokens of its pages.
 * query [group][size], out [group][size]; keys, values: this head's pages [page][block_tokens][size];
 * scores [group][padded length]. */
INLINE void NAME(attend_one)(const ELEMENT *query, const ELEMENT *keys, const ELEMENT *values, const int64_t *table,
                             int64_t length, int64_t block_tokens, int64_t group, int64_t size, float *scores,
                             int64_t stride, ELEMENT *out) {
    float q[4][256], acc[4][256], most[4];
    for (int64_t g = 0; g < group; g++) {
        most[g] = -INFINITY;
        for (int64_t i = 0; i < size; i++) q[g][i] = LOAD(query[g * size + i]), acc[g][i] = 0;
    }
    for (int64_t block = 0, t = 0; t < length; block++) {
        const ELEMENT *row = keys + table[block] * block_tokens * size;
        int64_t end = t + block_tokens < length ? t + block_tokens : length;
        for (; t < end; t++, row += size) {
            float dot[4] = {0, 0, 0, 0};
            for (int64_t i = 0; i < size; i++) {
                float k = LOAD(row[i]);
                for (int64_t g = 0; g < group; g++) dot[g] += q[g][i] * k;
            }
            for (int64_t g = 0; g < group; g++) {
                scores[g * stride + t] = dot[g];
                most[g] = dot[g] > most[g] ? dot[g] : most[g];
            }
        }
    }
    float scale[4];
    for (int64_t g = 0; g < group; g++) {
        float sum = 0, *row = scores + g * stride;
        for (int64_t t = 0; t < length; t++) {
            row[t] = exp_of_negative(row[t] - most[g]);
            sum += row[t];
        }
        scale[g] = 1.0f / sum;
    }
    for (int64_t block = 0, t = 0; t < length; block++) {
        const ELEMENT *row = values + table[block] * block_tokens * size;
        int64_t end = t + block_tokens < length ? t + block_tokens : length;
        for (; t < end; t++, row += size)
            for (int64_t g = 0; g < group; g++) {
                float p = scores[g * stride + t];
                for (int64_t i = 0; i < size; i++) acc[g][i] += p * LOAD(row[i]);
            }
    }
    for (int64_t g = 0; g < group; g++)
        for (int64_t i = 0; i < size; i++) out[g * size + i] = STORE(acc[g][i] * scale[g]);
}

/* Known sizes are compiled on their own, so that the loops over them unroll into registers. */
INLINE void NAME(attend_some)(const ELEMENT *query, const ELEMENT *keys, const ELEMENT *values, const int64_t *table,
                              int64_t length, int64_t block_tokens, int64_t group, int64_t size, float *scores,
                              int64_t stride, ELEMENT *out) {
#define FOR_GROUP(n, s)                                                                                             \
    if (group == n && size == s) {                                                                                  \
        NAME(attend_one)(query, keys, values, table, length, block_tokens, n, s, scores, stride, out);              \
        return;                                                                                                     \
    }
    FOR_GROUP(1, 64) FOR_GROUP(2, 64) FOR_GROUP(3, 64) FOR_GROUP(4, 64)
    FOR_GROUP(1, 128) FOR_GROUP(2, 128) FOR_GROUP(3, 128) FOR_GROUP(4, 128)
#undef FOR_GROUP
    NAME(attend_one)(query, keys, values, table, length, block_tokens, group, size, scores, stride, out);
}

/* Decode attention of `count` sequences, one token each. Sequence n: its queries are row rows[n] of
 * query [kv_heads][tokens][group][size], its pages table[n * table_stride ..], its keys the first lengths[n] tokens.
 * keys, values [kv_heads][page_tokens][size]; out [tokens][kv_heads * group * size]; scores: 4 * longest floats.
 * size <= 256. */
EXPORT void NAME(attend)(const ELEMENT *query, const ELEMENT *keys, const ELEMENT *values, const int64_t *rows,
                  const int64_t *lengths, const int64_t *table, int64_t table_stride, int64_t count, int64_t tokens,
                  int64_t kv_heads, int64_t group, int64_t size, int64_t page_tokens, int64_t block_tokens,
                  float *scores, int64_t longest, ELEMENT *out) {
    for (int64_t n = 0; n < count; n++)
        for (int64_t h = 0; h < kv_heads; h++)
            for (int64_t g = 0; g < group; g += 4) {
                int64_t some = group - g < 4 ? group - g : 4;
                NAME(attend_some)(query + ((h * tokens + rows[n]) * group + g) * size,
                                  keys + h * page_tokens * size, values + h * page_tokens * size,
                                  table + n * table_stride, lengths[n], block_tokens, some, size, scores, longest,
                                  out + (rows[n] * kv_heads * group + h * group + g) * size);
            }
}
