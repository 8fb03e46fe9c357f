// Maximum and mean over windows of up to three dimensions. The backward passes gather: a thread per place of x adds
// what comes to it from the windows that see it, so that no two threads write one place and the order is always the same.
#pragma once
#include "common.cuh"

// x: (planes, extent), y: (planes, size), each a product of three; where a rank is less than 3 the first ones are 1.
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

// The maximum of each window, nan where one is in it; its number in the plane (the first maximum, the last nan).
template <class T, bool INDICES>
__global__ void __launch_bounds__(256) max_pool(const T* x, T* y, i64* indices, int total, Windows w) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (unsigned)total) return;
    const unsigned windows = volume(w.size);
    const Place t = split(i % windows, w.size);
    x += (i64)(i / windows) * volume(w.extent);
    int first[3], stop[3], best = -1;
    taps(w, t, first, stop);
    float high = -INFINITE;
    EACH_PLACE(k, first, stop) {
        const int at = seen_by(w, t, k0, k1, k2);
        const float v = wide(x[at]);
        if (v > high || v != v || best < 0) {
            high = v;
            best = at;
        }
    }
    y[i] = narrow<T>(high);
    if (INDICES) indices[i] = best;
}

// Whether `at` is the place that window t's maximum `high` counts for: the first maximum, of nans the last.
template <class T>
__device__ __forceinline__ bool chosen(const T* x, const Windows& w, const Place& t, int at, float high) {
    int first[3], stop[3];
    taps(w, t, first, stop);
    EACH_PLACE(k, first, stop) {
        const int here = seen_by(w, t, k0, k1, k2);
        const float v = wide(x[here]);
        if (here < at ? v == high : here > at && v != v && high != high) return false;
    }
    return true;
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
template <class T, bool DILATED>
__global__ void __launch_bounds__(256, 3)
    max_pool_backward(const T* g, const T* x, const T* y, T* out, int total, Windows w) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (unsigned)total) return;
    const unsigned places = volume(w.extent);
    const int at = i % places;
    const i64 plane = i / places;
    const Place p = split(at, w.extent);
    x += plane * places;
    g += plane * volume(w.size);
    y += plane * volume(w.size);
    const float own = wide(x[at]);
    int first[3], stop[3];
    seers(w, p, first, stop);
    float sum = 0.0f;
    EACH_PLACE(t, first, stop) {
        const Place window{{t0, t1, t2}};
        if (DILATED && !met(w, p, window)) continue;
        const int number = (t0 * w.size[1] + t1) * w.size[2] + t2;
        const float high = wide(y[number]);
        if ((own == high || (own != own && high != high)) && chosen(x, w, window, at, high))
            sum += wide(g[number]);
    }
    out[i] = narrow<T>(sum);
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

template <class T>
__global__ void __launch_bounds__(256)
    avg_pool(const T* x, T* y, int total, Windows w, float number, int inside) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (unsigned)total) return;
    const unsigned windows = volume(w.size);
    const Place t = split(i % windows, w.size);
    x += (i64)(i / windows) * volume(w.extent);
    int first[3], stop[3];
    taps(w, t, first, stop);
    float sum = 0.0f;
    EACH_PLACE(k, first, stop) sum += wide(x[seen_by(w, t, k0, k1, k2)]);
    y[i] = narrow<T>(sum / divisor(w, t, number, inside));
}

// avg_pool's adjoint
template <class T>
__global__ void __launch_bounds__(256)
    avg_pool_input(const T* g, T* out, int total, Windows w, float number, int inside) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (unsigned)total) return;
    const unsigned places = volume(w.extent);
    g += (i64)(i / places) * volume(w.size);
    int first[3], stop[3];
    seers(w, split(i % places, w.extent), first, stop);
    float sum = 0.0f;
    EACH_PLACE(t, first, stop)
        sum += wide(g[(t0 * w.size[1] + t1) * w.size[2] + t2]) / divisor(w, Place{{t0, t1, t2}}, number, inside);
    out[i] = narrow<T>(sum);
}
