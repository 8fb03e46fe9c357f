// Images turned from one layout to the other; columns of a convolution and back, where cuDNN does not serve. `col2im`
// gathers: a thread per place of x adds what the windows that see it hold, so that no two threads write one place and the
// order is always the same.
#pragma once
#include "pool.cuh"

constexpr int SIDE = 32;

// y[b, c, r] = x[b, r, c], a tile at a time, so that reads and writes both are of neighbours. T: unsigned of the
// element's size. A block of (32, 8) threads per tile; `across` tiles beside each other, `tiles` in a matrix.
template <class T>
__global__ void __launch_bounds__(256) turn(const T* x, T* y, int rows, int columns, int across, int tiles) {
    __shared__ T tile[SIDE][SIDE + 1];
    const i64 start = (i64)(blockIdx.x / tiles) * rows * columns;
    const int number = blockIdx.x % tiles, top = number / across * SIDE, left = number % across * SIDE;
    const int c = left + threadIdx.x, r = top + threadIdx.x;
    for (int i = threadIdx.y; i < SIDE && top + i < rows; i += blockDim.y)
        if (c < columns) tile[i][threadIdx.x] = x[start + (i64)(top + i) * columns + c];
    __syncthreads();
    for (int i = threadIdx.y; i < SIDE && left + i < columns; i += blockDim.y)
        if (r < rows) y[start + (i64)(left + i) * rows + r] = tile[threadIdx.x][i];
}

// columns[row * row_step + n * image_step + t] = what tap k of window t sees of x[n, c], row = c * taps + k; 0 outside.
// A thread per window and channel. T: unsigned of the element's size. total = images * channels * windows.
template <class T>
__global__ void __launch_bounds__(256) im2col(
    const T* x, T* columns, i64 total, i64 row_step, i64 image_step, int channels, Windows w) {
    const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= total) return;
    const unsigned windows = volume(w.size);
    const i64 plane = i / windows;
    const unsigned number = i % windows;
    const Place t = split(number, w.size);
    const T* from = x + plane * volume(w.extent);
    T* to = columns + plane % channels * volume(w.kernel) * row_step + plane / channels * image_step + number;
    for (int k0 = 0; k0 < w.kernel[0]; k0++)
        for (int k1 = 0; k1 < w.kernel[1]; k1++)
            for (int k2 = 0; k2 < w.kernel[2]; k2++) {
                const int a = t.at[0] * w.stride[0] - w.padding[0] + k0 * w.dilation[0];
                const int b = t.at[1] * w.stride[1] - w.padding[1] + k1 * w.dilation[1];
                const int c = t.at[2] * w.stride[2] - w.padding[2] + k2 * w.dilation[2];
                const bool inside = (unsigned)a < (unsigned)w.extent[0] && (unsigned)b < (unsigned)w.extent[1] &&
                                    (unsigned)c < (unsigned)w.extent[2];
                *to = inside ? from[((i64)a * w.extent[1] + b) * w.extent[2] + c] : T(0);
                to += row_step;
            }
}

// What sums of T are held in.
template <class T> struct Sum {
    using type = float;
    static __device__ __forceinline__ float of(T x) { return wide(x); }
    static __device__ __forceinline__ T rounded(float x) { return narrow<T>(x); }
};
template <> struct Sum<double> {
    using type = double;
    static __device__ __forceinline__ double of(double x) { return x; }
    static __device__ __forceinline__ double rounded(double x) { return x; }
};

// The window of dimension d that sees place p with tap k, or -1.
__device__ __forceinline__ int window_of(const Windows& w, int d, int p, int k) {
    const int from = p + w.padding[d] - k * w.dilation[d], t = from / w.stride[d];
    return from >= 0 && t < w.size[d] && t * w.stride[d] == from ? t : -1;
}

// x = the sum over the windows that see it, + bias of its channel where there is one.
// columns: (images, channels * taps, windows), x: (images, channels, places), total elements.
template <class T>
__global__ void __launch_bounds__(256) col2im(
    const typename Sum<T>::type* columns, const T* bias, T* x, i64 total, int channels, Windows w) {
    const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= total) return;
    const unsigned places = volume(w.extent), windows = volume(w.size);
    const i64 plane = i / places;
    const Place p = split(i % places, w.extent);
    columns += plane * volume(w.kernel) * windows;
    typename Sum<T>::type sum = 0;
    for (int k0 = 0; k0 < w.kernel[0]; k0++) {
        const int a = window_of(w, 0, p.at[0], k0);
        if (a < 0) continue;
        for (int k1 = 0; k1 < w.kernel[1]; k1++) {
            const int b = window_of(w, 1, p.at[1], k1);
            if (b < 0) continue;
            for (int k2 = 0; k2 < w.kernel[2]; k2++) {
                const int c = window_of(w, 2, p.at[2], k2);
                if (c < 0) continue;
                const i64 tap = ((i64)k0 * w.kernel[1] + k1) * w.kernel[2] + k2;
                sum += columns[tap * windows + ((i64)a * w.size[1] + b) * w.size[2] + c];
            }
        }
    }
    x[i] = Sum<T>::rounded(bias ? sum + Sum<T>::of(bias[plane % channels]) : sum);
}
