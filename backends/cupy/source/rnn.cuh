// The pointwise part of a step of a recurrent layer, one thread per unit of each sequence. b sequences, n units.
#pragma once
#include "common.cuh"

__device__ __forceinline__ float gate(float x) { return 1.0f / (1.0f + expf(-x)); }

// z = h w^T, x = the input's part of the gates, both (b, 4 n) in the order i, f, g, o. c: (b, n) is replaced by the new
// cell; kept_c gets the old one, kept_gates the activations, kept_tanh tanh(c), y o tanh(c).
template <class T>
__global__ void __launch_bounds__(256)
    lstm_cell(const T* z, const T* x, T* c, T* kept_gates, T* kept_c, T* kept_tanh, T* y, int total, int n) {
    const unsigned e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= (unsigned)total) return;
    const unsigned unit = e % (unsigned)n, at = e / (unsigned)n * 4 * n + unit;
    const float i = gate(wide(z[at]) + wide(x[at])), f = gate(wide(z[at + n]) + wide(x[at + n]));
    const float g = tanhf(wide(z[at + 2 * n]) + wide(x[at + 2 * n])), o = gate(wide(z[at + 3 * n]) + wide(x[at + 3 * n]));
    const float old = wide(c[e]), cell = f * old + i * g, shown = tanhf(cell);
    kept_gates[at] = narrow<T>(i);
    kept_gates[at + n] = narrow<T>(f);
    kept_gates[at + 2 * n] = narrow<T>(g);
    kept_gates[at + 3 * n] = narrow<T>(o);
    kept_c[e] = narrow<T>(old);
    kept_tanh[e] = narrow<T>(shown);
    c[e] = narrow<T>(cell);
    y[e] = narrow<T>(o * shown);
}

// d: the gradient of y, arriving: that of the layer's output at this step, or null. dc: (b, n) in place; dz: (b, 4 n).
template <class T>
__global__ void __launch_bounds__(256) lstm_cell_backward(
    const T* d, const T* arriving, T* dc, const T* kept_gates, const T* kept_c, const T* kept_tanh, T* dz, int total,
    int n) {
    const unsigned e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= (unsigned)total) return;
    const unsigned unit = e % (unsigned)n, at = e / (unsigned)n * 4 * n + unit;
    const float i = wide(kept_gates[at]), f = wide(kept_gates[at + n]), g = wide(kept_gates[at + 2 * n]);
    const float o = wide(kept_gates[at + 3 * n]), shown = wide(kept_tanh[e]);
    const float dy = wide(d[e]) + (arriving ? wide(arriving[e]) : 0.0f);
    const float cell = wide(dc[e]) + dy * o * (1.0f - shown * shown);
    dz[at] = narrow<T>(cell * g * i * (1.0f - i));
    dz[at + n] = narrow<T>(cell * wide(kept_c[e]) * f * (1.0f - f));
    dz[at + 2 * n] = narrow<T>(cell * i * (1.0f - g * g));
    dz[at + 3 * n] = narrow<T>(dy * shown * o * (1.0f - o));
    dc[e] = narrow<T>(cell * f);
}

// z = h w^T (b, 3 n) without bias, bias: (3 n) or null, x: the input's part, in the order r, z, n. h: (b, n) in place.
template <class T>
__global__ void __launch_bounds__(256) gru_cell(
    const T* y, const T* bias, const T* x, T* h, T* kept_gates, T* kept_n, T* kept_h, T* out, int total, int n) {
    const unsigned e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= (unsigned)total) return;
    const unsigned unit = e % (unsigned)n, at = e / (unsigned)n * 3 * n + unit;
    float v[3];
#pragma unroll
    for (int k = 0; k < 3; k++) v[k] = wide(y[at + k * n]) + (bias ? wide(bias[unit + k * n]) : 0.0f);
    const float r = gate(wide(x[at]) + v[0]), z = gate(wide(x[at + n]) + v[1]);
    const float fresh = tanhf(wide(x[at + 2 * n]) + r * v[2]), old = wide(h[e]), now = fresh + z * (old - fresh);
    kept_gates[at] = narrow<T>(r);
    kept_gates[at + n] = narrow<T>(z);
    kept_gates[at + 2 * n] = narrow<T>(fresh);
    kept_n[e] = narrow<T>(v[2]);
    kept_h[e] = narrow<T>(old);
    h[e] = narrow<T>(now);
    out[e] = narrow<T>(now);
}

// dh: (b, n), replaced by what reaches the state without the matrix; dx: the gradient of x, dy: that of h w^T + bias.
template <class T>
__global__ void __launch_bounds__(256) gru_cell_backward(
    T* dh, const T* arriving, const T* kept_gates, const T* kept_n, const T* kept_h, T* dx, T* dy, int total, int n) {
    const unsigned e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= (unsigned)total) return;
    const unsigned unit = e % (unsigned)n, at = e / (unsigned)n * 3 * n + unit;
    const float r = wide(kept_gates[at]), z = wide(kept_gates[at + n]), fresh = wide(kept_gates[at + 2 * n]);
    const float d = wide(dh[e]) + (arriving ? wide(arriving[e]) : 0.0f);
    const float inner = d * (1.0f - z) * (1.0f - fresh * fresh);
    const float by_r = inner * wide(kept_n[e]) * r * (1.0f - r), by_z = d * (wide(kept_h[e]) - fresh) * z * (1.0f - z);
    dx[at] = dy[at] = narrow<T>(by_r);
    dx[at + n] = dy[at + n] = narrow<T>(by_z);
    dx[at + 2 * n] = narrow<T>(inner);
    dy[at + 2 * n] = narrow<T>(inner * r);
    dh[e] = narrow<T>(d * z);
}

// z = h w^T; y = h = tanh(x + z), or max(x + z, 0)
template <class T, bool RELU>
__global__ void __launch_bounds__(256) rnn_cell(const T* z, const T* x, T* h, T* kept_h, T* y, int total) {
    const unsigned e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= (unsigned)total) return;
    const float v = wide(x[e]) + wide(z[e]), now = !RELU ? tanhf(v) : v > 0.0f || v != v ? v : 0.0f;
    kept_h[e] = h[e];
    h[e] = y[e] = narrow<T>(now);
}

template <class T, bool RELU>
__global__ void __launch_bounds__(256)
    rnn_cell_backward(const T* dh, const T* arriving, const T* y, T* dz, int total) {
    const unsigned e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= (unsigned)total) return;
    const float d = wide(dh[e]) + (arriving ? wide(arriving[e]) : 0.0f), v = wide(y[e]);
    dz[e] = narrow<T>(!RELU ? d * (1.0f - v * v) : v <= 0.0f ? 0.0f : d);
}
