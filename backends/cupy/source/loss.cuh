// Cross-entropy of class indices: the loss of each row in one reading of the logits, the gradient in one more.
#pragma once
#include "softmax.cuh"

// loss = log(total) + top - x[target]; 0 where target is `ignore`, nan and a report where there is no such class.
// Either of narrow_loss and wide_loss may be null.
template <class T, bool VECTOR>
__global__ void __launch_bounds__(1024) cross_entropy_rows(
    const T* x, const i64* target, T* narrow_loss, float* wide_loss, float* top, float* total, i64 rows, int n,
    i64 ignore, i64* report, int code) {
    const i64 row = my_row();
    if (row >= rows) return;
    x += row * n;
    const Tally tally = tally_row<T, Width<T, VECTOR>::value>(x, n);
    if (threadIdx.x) return;
    const i64 t = target[row];
    float loss = 0.0f;
    if (t != ignore) {
        if (t >= 0 && t < n) {
            loss = logf(tally.total) + tally.top - wide(x[t]);
        } else {
            report_index(report, code, t, n);
            loss = NOT_A_NUMBER;
        }
    }
    if (narrow_loss) narrow_loss[row] = narrow<T>(loss);
    if (wide_loss) wide_loss[row] = loss;
    top[row] = tally.top;
    total[row] = tally.total;
}

// One block: out = the sum of the losses, divided by how many targets count where MEAN (nan where none does).
template <class T, bool MEAN>
__global__ void __launch_bounds__(1024)
    reduce_losses(const float* loss, const i64* target, T* out, float* count, i64 rows, i64 ignore) {
    float sum = 0.0f, kept = 0.0f;
    for (i64 i = threadIdx.x; i < rows; i += blockDim.x) {
        sum += loss[i];
        kept += target[i] != ignore;
    }
    sum = row_sum(sum);
    kept = row_sum(kept);
    if (threadIdx.x) return;
    *count = kept;
    *out = narrow<T>(!MEAN ? sum : kept > 0.0f ? sum / kept : NOT_A_NUMBER);
}

// out = g (exp(x - top) / total - [class is the target]), 0 in ignored rows. g: one per row, or the first for all where
// not `each`; divided by *count, at least 1, where that is not null.
template <class T, bool VECTOR>
__global__ void __launch_bounds__(1024) cross_entropy_rows_backward(
    const T* g, const T* x, const i64* target, const float* top, const float* total, T* out, i64 rows, int n,
    i64 ignore, int each, const float* count) {
    constexpr int V = Width<T, VECTOR>::value;
    const i64 row = my_row();
    if (row >= rows) return;
    const i64 t = target[row];
    const bool kept = t != ignore;
    float weight = kept ? wide(g[each ? row : 0]) : 0.0f;
    if (count) weight /= fmaxf(*count, 1.0f);
    const float high = top[row], scale = weight / total[row];
    x += row * n;
    out += row * n;
    float v[V];
    for (int i = threadIdx.x * V; i < n; i += blockDim.x * V) {
        if (kept) load<V>(x + i, v);
#pragma unroll
        for (int k = 0; k < V; k++) v[k] = kept ? expf(v[k] - high) * scale - (i + k == t ? weight : 0.0f) : 0.0f;
        store<V>(out + i, v);
    }
}
