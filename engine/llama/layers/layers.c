/* What Python calls: layers of a model over one step's rows, and the head. */
#include "multiply.h"
#ifdef __AMX_TILE__
#include <sys/syscall.h>
#include <unistd.h>
#endif

int64_t layers_version(void) { return LAYERS_VERSION; }

/* 0 once this process may use what the kernels are compiled for. */
#ifdef __AMX_TILE__
#define REQUEST_PERMISSION 0x1023 /* arch_prctl: ARCH_REQ_XCOMP_PERM, linux/Documentation/arch/x86/xstate.rst */
#define TILE_DATA 18
int64_t layers_permit(void) { return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA); }
#else
int64_t layers_permit(void) { return 0; }
#endif

int64_t layers_scratch_bytes(const Model *model, const Step *step) { return attention_scratch(model, step); }

/* Layers [first, last): KV of all rows is in its pages when it returns, x holds what the next layer begins with. */
void layers_run(const Model *model, const Step *step, int64_t first, int64_t last) {
    const int64_t rows = step->rows, hidden = model->hidden, inner = model->inner, dim = model->head_dim;
    const int64_t of_heads = model->heads * dim, of_qkv = of_heads + 2 * model->kv_heads * dim;
    const int64_t half = model->kv_heads * model->blocks * model->block_tokens * dim;
#pragma omp parallel num_threads(step->threads)
    {
        for (int64_t index = first; index < last; index++) {
            const Layer *layer = model->layers + index;
            bf16 *keys = model->pages + 2 * index * half, *values = keys + half;
            rms_norm(step->x, layer->input_norm, step->normed, rows, hidden, model->epsilon);
            gemm(step->normed, layer->qkv, layer->qkv_bias, step->qkv, rows, of_qkv, hidden, PLAIN);
            rotate_and_store(model, layer, step, keys, values);
            attend(model, step, keys, values);
            gemm(step->attended, layer->output, layer->output_bias, step->x, rows, hidden, of_heads, ADDED);
            rms_norm(step->x, layer->post_norm, step->normed, rows, hidden, model->epsilon);
            gemm(step->normed, layer->gate_up, 0, step->inner, rows, 2 * inner, hidden, SWIGLU);
            gemm(step->inner, layer->down, 0, step->x, rows, hidden, inner, ADDED);
        }
        release();
    }
}

/* logits  # [rows][vocabulary] float32, of x  # [rows][hidden]; `normed` has room for as many bf16. */
void layers_head(const float *x, const float *norm, const bf16 *head, bf16 *normed, float *logits, int64_t rows,
                 int64_t hidden, int64_t vocabulary, float epsilon, int64_t threads) {
#pragma omp parallel num_threads(threads)
    {
        rms_norm(x, norm, normed, rows, hidden, epsilon);
        gemm(normed, head, 0, logits, rows, vocabulary, hidden, FLOATS);
        release();
    }
}

/* One product alone, for measuring what this machine can do. out  # [rows][outputs] bf16. */
void layers_product(const bf16 *x, const bf16 *packed, bf16 *out, int64_t rows, int64_t outputs, int64_t inputs,
                    int64_t threads) {
#pragma omp parallel num_threads(threads)
    {
        gemm(x, packed, 0, out, rows, outputs, inputs, PLAIN);
        release();
    }
}
