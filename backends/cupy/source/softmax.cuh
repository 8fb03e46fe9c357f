// softmax and log_softmax, forward and backward: the last axis in rows, another axis in columns.
#pragma once
#include "common.cuh"

// The maximum of what was seen, and the sum of exp(x - maximum).
struct Tally {
    float top = -INFINITE, total = 0.0f;

    // 0 for a maximum of -inf, as inf - inf is nan
    static __device__ __forceinline__ float base(float top) { return top == -INFINITE ? 0.0f : top; }

    template <int V> __device__ __forceinline__ void take(const float (&x)[V]) {
        float high = top;
#pragma unroll
        for (int k = 0; k < V; k++) high = fmaxf(high, x[k]);
        const float at = base(high);
        total *= expf(top - at);
#pragma unroll
        for (int k = 0; k < V; k++) total += expf(x[k] - at);
        top = high;
    }

    __device__ __forceinline__ void join_row() {
        const float high = row_max(top);
        total = row_sum(total * expf(top - base(high)));
        top = high;
    }
};

template <class T, int V> __device__ __forceinline__ Tally tally_row(const T* row, int n) {
    Tally tally;
    float x[V];
    for (int i = threadIdx.x * V; i < n; i += blockDim.x * V) {
        load<V>(row + i, x);
        tally.take(x);
    }
    tally.join_row();
    return tally;
}

template <class T, bool LOG, bool VECTOR>
__global__ void __launch_bounds__(1024) softmax_rows(const T* x, T* y, i64 rows, int n) {
    constexpr int V = Width<T, VECTOR>::value;
    const i64 row = my_row();
    if (row >= rows) return;
    x += row * n;
    y += row * n;
    const Tally tally = tally_row<T, V>(x, n);
    const float scale = LOG ? logf(tally.total) : 1.0f / tally.total;
    float v[V];
    for (int i = threadIdx.x * V; i < n; i += blockDim.x * V) {
        load<V>(x + i, v);
#pragma unroll
        for (int k = 0; k < V; k++) v[k] = LOG ? v[k] - tally.top - scale : expf(v[k] - tally.top) * scale;
        store<V>(y + i, v);
    }
}

// softmax: y (g - sum(g y)); log_softmax: g - exp(y) sum(g)
template <class T, bool LOG, bool VECTOR>
__global__ void __launch_bounds__(1024) softmax_rows_backward(const T* g, const T* y, T* out, i64 rows, int n) {
    constexpr int V = Width<T, VECTOR>::value;
    const i64 row = my_row();
    if (row >= rows) return;
    g += row * n;
    y += row * n;
    out += row * n;
    float total = 0.0f, u[V], v[V];
    for (int i = threadIdx.x * V; i < n; i += blockDim.x * V) {
        load<V>(g + i, u);
        if (!LOG) load<V>(y + i, v);
#pragma unroll
        for (int k = 0; k < V; k++) total += LOG ? u[k] : u[k] * v[k];
    }
    total = row_sum(total);
    for (int i = threadIdx.x * V; i < n; i += blockDim.x * V) {
        load<V>(g + i, u);
        load<V>(y + i, v);
#pragma unroll
        for (int k = 0; k < V; k++) v[k] = LOG ? u[k] - expf(v[k]) * total : v[k] * (u[k] - total);
        store<V>(out + i, v);
    }
}

// x: (outer, n, inner): a thread per column, so that neighbours read neighbouring elements
template <class T, bool LOG>
__global__ void __launch_bounds__(256) softmax_columns(const T* x, T* y, i64 columns, int n, i64 inner) {
    const i64 column = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    const i64 start = column / inner * inner * n + column % inner;
    Tally tally;
    float v[1];
    for (int i = 0; i < n; i++) {
        v[0] = wide(x[start + i * inner]);
        tally.take(v);
    }
    const float scale = LOG ? logf(tally.total) : 1.0f / tally.total;
    for (int i = 0; i < n; i++) {
        const float z = wide(x[start + i * inner]) - tally.top;
        y[start + i * inner] = narrow<T>(LOG ? z - scale : expf(z) * scale);
    }
}

template <class T, bool LOG>
__global__ void __launch_bounds__(256)
    softmax_columns_backward(const T* g, const T* y, T* out, i64 columns, int n, i64 inner) {
    const i64 column = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    const i64 start = column / inner * inner * n + column % inner;
    float total = 0.0f;
    for (int i = 0; i < n; i++) {
        const i64 at = start + i * inner;
        total += LOG ? wide(g[at]) : wide(g[at]) * wide(y[at]);
    }
    for (int i = 0; i < n; i++) {
        const i64 at = start + i * inner;
        const float u = wide(g[at]), v = wide(y[at]);
        out[at] = narrow<T>(LOG ? u - expf(v) * total : v * (u - total));
    }
}
