// Maximum and mean over windows of up to three dimensions. The backward passes gather: a thread per place of x adds
// what comes to it from the windows that see it, so that no two threads write one place and the order is always the same.
#pragma once
#include "common.cuh"

// x: (planes, extent, inner), y: (planes, size, inner), extent and size products of three; where a rank is less than 3
// the first ones are 1. inner: 1 for row-major images, the channels for those that lie side by side, which a thread takes
// 16 bytes at a time where VECTOR; `total` counts threads.
struct Windows {
    int extent[3], size[3], kernel[3], stride[3], padding[3], dilation[3];
};

struct Place {
    int at[3];
};
__device__ __forceinline__ Place split(unsigned number, const int (&shape)[3]) {
    const unsigned b = shape[1], c = shape[2], lines = number / c;
    return Place{{(int)(lines / b), (int)(lines % b), (int)(number % c)}};
}
__device__ __forceinline__ unsigned volume(const int (&shape)[3]) { return shape[0] * shape[1] * shape[2]; }

// The first tap of window t that lies in x, and the tap after the last one.
__device__ __forceinline__ void taps(const Windows& w, const Place& t, int (&first)[3], int (&stop)[3]) {
#pragma unroll
    for (int d = 0; d < 3; d++) {
        const int start = t.at[d] * w.stride[d] - w.padding[d], room = w.extent[d] - start;
        first[d] = start < 0 ? (-start + w.dilation[d] - 1) / w.dilation[d] : 0;
        const int inside = room <= 0 ? 0 : (room + w.dilation[d] - 1) / w.dilation[d];
        stop[d] = inside < w.kernel[d] ? inside : w.kernel[d];
    }
}

// The windows that see place p: first <= t < stop, among which those with (p + padding - t stride) % dilation == 0.
__device__ __forceinline__ void seers(const Windows& w, const Place& p, int (&first)[3], int (&stop)[3]) {
#pragma unroll
    for (int d = 0; d < 3; d++) {
        const int reach = (w.kernel[d] - 1) * w.dilation[d], from = p.at[d] + w.padding[d] - reach;
        first[d] = from <= 0 ? 0 : (from + w.stride[d] - 1) / w.stride[d];
        const int last = (p.at[d] + w.padding[d]) / w.stride[d] + 1;
        stop[d] = last < w.size[d] ? last : w.size[d];
    }
}

#define EACH_PLACE(I, FIRST, STOP) \
    for (int I##0 = FIRST[0]; I##0 < STOP[0]; I##0++) \
        for (int I##1 = FIRST[1]; I##1 < STOP[1]; I##1++) \
            for (int I##2 = FIRST[2]; I##2 < STOP[2]; I##2++)

__device__ __forceinline__ int seen_by(const Windows& w, const Place& t, int k0, int k1, int k2) {
    const int a = t.at[0] * w.stride[0] - w.padding[0] + k0 * w.dilation[0];
    const int b = t.at[1] * w.stride[1] - w.padding[1] + k1 * w.dilation[1];
    const int c = t.at[2] * w.stride[2] - w.padding[2] + k2 * w.dilation[2];
    return (a * w.extent[1] + b) * w.extent[2] + c;
}

// What a thread works on: place `at` of plane `plane` (of as many as `places` each), columns from `column` on.
struct Mine {
    unsigned at, plane;
    int column;
};
template <int V> __device__ __forceinline__ Mine my_part(unsigned number, unsigned places, int inner) {
    const unsigned packs = (unsigned)inner / V, rest = number / packs;
    return Mine{rest % places, rest / places, (int)(number % packs) * V};
}

// The maximum of each window, nan where one is in it; its number in the plane (the first maximum, the last nan).
template <class T, bool INDICES, bool VECTOR>
__global__ void __launch_bounds__(256) max_pool(const T* x, T* y, i64* indices, int total, int inner, Windows w) {
    constexpr int V = Width<T, VECTOR>::value;
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (unsigned)total) return;
    const Mine mine = my_part<V>(i, volume(w.size), inner);
    const Place t = split(mine.at, w.size);
    x += (i64)mine.plane * volume(w.extent) * inner + mine.column;
    int first[3], stop[3], best[V];
    float high[V], v[V];
#pragma unroll
    for (int k = 0; k < V; k++) {
        high[k] = -INFINITE;
        best[k] = -1;
    }
    taps(w, t, first, stop);
    EACH_PLACE(k, first, stop) {
        const int at = seen_by(w, t, k0, k1, k2);
        load<V>(x + (i64)at * inner, v);
#pragma unroll
        for (int k = 0; k < V; k++) {
            if (v[k] > high[k] || v[k] != v[k] || best[k] < 0) {
                high[k] = v[k];
                best[k] = at;
            }
        }
    }
    store<V>(y + (i64)i * V, high);
    if (INDICES) {
#pragma unroll
        for (int k = 0; k < V; k++) indices[(i64)i * V + k] = best[k];
    }
}

// Of the columns in `left`, a bit each, those whose maximum `high` of window t counts for the place `at`: it is the
// first maximum, of nans the last.
template <int V, class T>
__device__ __forceinline__ unsigned chosen(
    const T* x, const Windows& w, const Place& t, int at, int inner, const float (&high)[V], unsigned left) {
    int first[3], stop[3];
    float v[V];
    taps(w, t, first, stop);
    EACH_PLACE(k, first, stop) {
        const int here = seen_by(w, t, k0, k1, k2);
        load<V>(x + (i64)here * inner, v);
#pragma unroll
        for (int k = 0; k < V; k++) {
            if (here < at ? v[k] == high[k] : here > at && v[k] != v[k] && high[k] != high[k]) left &= ~(1u << k);
        }
        if (!left) return 0;
    }
    return left;
}

// Whether a tap of window t falls on place p, between its first and its last one.
__device__ __forceinline__ bool met(const Windows& w, const Place& p, const Place& t) {
    unsigned left = 0;
#pragma unroll
    for (int d = 0; d < 3; d++)
        left |= (unsigned)(p.at[d] + w.padding[d] - t.at[d] * w.stride[d]) % (unsigned)w.dilation[d];
    return left == 0;
}

// (256, 3): without the 3 the assembler saves registers for more blocks, and spills
template <class T, bool DILATED, bool VECTOR>
__global__ void __launch_bounds__(256, 3)
    max_pool_backward(const T* g, const T* x, const T* y, T* out, int total, int inner, Windows w) {
    constexpr int V = Width<T, VECTOR>::value;
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (unsigned)total) return;
    const Mine mine = my_part<V>(i, volume(w.extent), inner);
    const int at = mine.at;
    const Place p = split(at, w.extent);
    const i64 windows = (i64)mine.plane * volume(w.size) * inner + mine.column;
    x += (i64)mine.plane * volume(w.extent) * inner + mine.column;
    g += windows;
    y += windows;
    float own[V], high[V], come[V], sum[V];
    load<V>(x + (i64)at * inner, own);
#pragma unroll
    for (int k = 0; k < V; k++) sum[k] = 0.0f;
    int first[3], stop[3];
    seers(w, p, first, stop);
    EACH_PLACE(t, first, stop) {
        const Place window{{t0, t1, t2}};
        if (DILATED && !met(w, p, window)) continue;
        const i64 number = (i64)((t0 * w.size[1] + t1) * w.size[2] + t2) * inner;
        load<V>(y + number, high);
        unsigned left = 0;
#pragma unroll
        for (int k = 0; k < V; k++) {
            if (own[k] == high[k] || (own[k] != own[k] && high[k] != high[k])) left |= 1u << k;
        }
        if (left) left = chosen<V>(x, w, window, at, inner, high, left);
        if (!left) continue;
        load<V>(g + number, come);
#pragma unroll
        for (int k = 0; k < V; k++) {
            if (left >> k & 1) sum[k] += come[k];
        }
    }
    store<V>(out + (i64)i * V, sum);
}

// What a window's sum is divided by: `number` where it is not 0, else its places with padding or, INSIDE, without.
__device__ __forceinline__ float divisor(const Windows& w, const Place& t, float number, int inside) {
    if (number != 0.0f) return number;
    int count = 1;
#pragma unroll
    for (int d = 0; d < 3; d++) {
        const int start = t.at[d] * w.stride[d] - w.padding[d], most = w.extent[d] + w.padding[d];
        const int stop = start + w.kernel[d] < most ? start + w.kernel[d] : most;
        const int last = stop < w.extent[d] ? stop : w.extent[d];
        count *= inside ? last - (start > 0 ? start : 0) : stop - start;
    }
    return count;
}

template <class T, bool VECTOR>
__global__ void __launch_bounds__(256)
    avg_pool(const T* x, T* y, int total, int inner, Windows w, float number, int inside) {
    constexpr int V = Width<T, VECTOR>::value;
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (unsigned)total) return;
    const Mine mine = my_part<V>(i, volume(w.size), inner);
    const Place t = split(mine.at, w.size);
    x += (i64)mine.plane * volume(w.extent) * inner + mine.column;
    int first[3], stop[3];
    float v[V], sum[V];
#pragma unroll
    for (int k = 0; k < V; k++) sum[k] = 0.0f;
    taps(w, t, first, stop);
    EACH_PLACE(k, first, stop) {
        load<V>(x + (i64)seen_by(w, t, k0, k1, k2) * inner, v);
#pragma unroll
        for (int k = 0; k < V; k++) sum[k] += v[k];
    }
    const float by = divisor(w, t, number, inside);
#pragma unroll
    for (int k = 0; k < V; k++) sum[k] /= by;
    store<V>(y + (i64)i * V, sum);
}

// avg_pool's adjoint
template <class T, bool VECTOR>
__global__ void __launch_bounds__(256)
    avg_pool_input(const T* g, T* out, int total, int inner, Windows w, float number, int inside) {
    constexpr int V = Width<T, VECTOR>::value;
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (unsigned)total) return;
    const Mine mine = my_part<V>(i, volume(w.extent), inner);
    g += (i64)mine.plane * volume(w.size) * inner + mine.column;
    int first[3], stop[3];
    float v[V], sum[V];
#pragma unroll
    for (int k = 0; k < V; k++) sum[k] = 0.0f;
    seers(w, split(mine.at, w.extent), first, stop);
    EACH_PLACE(t, first, stop) {
        const float by = divisor(w, Place{{t0, t1, t2}}, number, inside);
        load<V>(g + (i64)((t0 * w.size[1] + t1) * w.size[2] + t2) * inner, v);
#pragma unroll
        for (int k = 0; k < V; k++) sum[k] += v[k] / by;
    }
    store<V>(out + (i64)i * V, sum);
}
