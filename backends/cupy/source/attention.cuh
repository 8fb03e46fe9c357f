// The weights of attention from its scores: mask, causal order and softmax in one pass over memory. Scores are float:
// as halves, large ones would be wrong in their first digits.
#pragma once
#include "softmax.cuh"

// Where a mask that broadcasts to (outer, inner, queries, keys) has the element of a score; steps of 0 repeat.
struct MaskSteps {
    i64 outer, inner, query, key;
    int inner_size;
};

// KIND 0: no mask; 1: bool, true where a key may be seen; 2: added to the score.
template <class T, int KIND>
__device__ __forceinline__ float masked(float score, const void* mask, i64 at, bool later) {
    if (later) return -INFINITE;
    if (KIND == 1) return static_cast<const bool*>(mask)[at] ? score : -INFINITE;
    return KIND == 2 ? score + wide(static_cast<const T*>(mask)[at]) : score;
}

// s, p: (batch, queries, keys), rows = batch * queries. A query that sees nothing gets zeros.
template <class T, int KIND, bool VECTOR>
__global__ void __launch_bounds__(1024) attention_weights(
    const float* s, T* p, const void* mask, i64 rows, int queries, int keys, int causal, MaskSteps steps) {
    constexpr int V = VECTOR ? 4 : 1;
    const i64 row = my_row();
    if (row >= rows) return;
    s += row * keys;
    p += row * keys;
    const i64 batch = row / queries;
    const int query = row % queries, last = causal ? query : keys;
    i64 at = 0;
    if (KIND) at = batch / steps.inner_size * steps.outer + batch % steps.inner_size * steps.inner + query * steps.query;
    Tally tally;
    float v[V];
    for (int i = threadIdx.x * V; i < keys && i <= last; i += blockDim.x * V) {
        load<V>(s + i, v);
#pragma unroll
        for (int k = 0; k < V; k++) v[k] = masked<T, KIND>(v[k], mask, at + (i + k) * steps.key, i + k > last);
        tally.take(v);
    }
    tally.join_row();
    const float top = Tally::base(tally.top), scale = tally.total == 0.0f ? 0.0f : 1.0f / tally.total;
    for (int i = threadIdx.x * V; i < keys; i += blockDim.x * V) {
        load<V>(s + i, v);
#pragma unroll
        for (int k = 0; k < V; k++)
            v[k] = expf(masked<T, KIND>(v[k], mask, at + (i + k) * steps.key, i + k > last) - top) * scale;
        store<V>(p + i, v);
    }
}
