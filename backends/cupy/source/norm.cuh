// Normalisation: layer and root-mean-square over rows, batch over channels. Statistics are float.
#pragma once
#include "common.cuh"

// ---- layer_norm and, where RMS, rms_norm: x: (rows, n), w, b: (n) or null, mean, rstd: (rows)

template <class T, bool RMS, bool VECTOR>
__global__ void __launch_bounds__(1024)
    norm_rows(const T* x, const T* w, const T* b, T* y, float* mean, float* rstd, i64 rows, int n, float eps) {
    constexpr int V = Width<T, VECTOR>::value;
    const i64 row = my_row();
    if (row >= rows) return;
    x += row * n;
    y += row * n;
    float v[V], p[V], m = 0.0f, square = 0.0f;
    if (!RMS) {
        for (int i = threadIdx.x * V; i < n; i += blockDim.x * V) {
            load<V>(x + i, v);
#pragma unroll
            for (int k = 0; k < V; k++) m += v[k];
        }
        m = row_sum(m) / n;
    }
    for (int i = threadIdx.x * V; i < n; i += blockDim.x * V) {
        load<V>(x + i, v);
#pragma unroll
        for (int k = 0; k < V; k++) square += (v[k] - m) * (v[k] - m);
    }
    const float r = rsqrtf(row_sum(square) / n + eps);
    if (threadIdx.x == 0) {
        if (!RMS) mean[row] = m;
        rstd[row] = r;
    }
    for (int i = threadIdx.x * V; i < n; i += blockDim.x * V) {
        load<V>(x + i, v);
#pragma unroll
        for (int k = 0; k < V; k++) v[k] = (v[k] - m) * r;
        if (w) {
            load<V>(w + i, p);
#pragma unroll
            for (int k = 0; k < V; k++) v[k] *= p[k];
        }
        if (b) {
            load<V>(b + i, p);
#pragma unroll
            for (int k = 0; k < V; k++) v[k] += p[k];
        }
        store<V>(y + i, v);
    }
}

// h = g w, u = (x - mean) rstd: out = rstd (h - mean(h) - u mean(h u)); RMS: without mean(h), and u = x rstd
template <class T, bool RMS, bool VECTOR>
__global__ void __launch_bounds__(1024) norm_rows_backward(
    const T* g, const T* x, const T* w, const float* mean, const float* rstd, T* out, i64 rows, int n) {
    constexpr int V = Width<T, VECTOR>::value;
    const i64 row = my_row();
    if (row >= rows) return;
    g += row * n;
    x += row * n;
    out += row * n;
    const float m = RMS ? 0.0f : mean[row], r = rstd[row];
    float h[V], v[V], p[V], level = 0.0f, slope = 0.0f;
    for (int i = threadIdx.x * V; i < n; i += blockDim.x * V) {
        load<V>(g + i, h);
        load<V>(x + i, v);
        if (w) load<V>(w + i, p);
#pragma unroll
        for (int k = 0; k < V; k++) {
            const float part = w ? h[k] * p[k] : h[k];
            level += part;
            slope += part * (v[k] - m) * r;
        }
    }
    level = RMS ? 0.0f : row_sum(level) / n;
    slope = row_sum(slope) / n;
    for (int i = threadIdx.x * V; i < n; i += blockDim.x * V) {
        load<V>(g + i, h);
        load<V>(x + i, v);
        if (w) load<V>(w + i, p);
#pragma unroll
        for (int k = 0; k < V; k++) v[k] = r * ((w ? h[k] * p[k] : h[k]) - level - (v[k] - m) * r * slope);
        store<V>(out + i, v);
    }
}

// The gradients of w and b: sums over rows of g u and of g, in two steps so that their order is always the same.
// Step 1: block (32, 8) sums 32 columns over its part of the rows. parts: (gridDim.y, n) each, null where not needed.
template <class T, bool RMS>
__global__ void __launch_bounds__(256) norm_columns(
    const T* g, const T* x, const float* mean, const float* rstd, float* parts_w, float* parts_b, i64 rows, int n) {
    __shared__ float sum_w[8][33], sum_b[8][33];
    const int column = blockIdx.x * 32 + threadIdx.x;
    const i64 each = (rows + gridDim.y - 1) / gridDim.y, start = each * blockIdx.y;
    const i64 stop = start + each < rows ? start + each : rows;
    float a = 0.0f, b = 0.0f;
    if (column < n) {
        for (i64 row = start + threadIdx.y; row < stop; row += 8) {
            const float h = wide(g[row * n + column]);
            b += h;
            if (parts_w) a += h * (wide(x[row * n + column]) - (RMS ? 0.0f : mean[row])) * rstd[row];
        }
    }
    sum_w[threadIdx.y][threadIdx.x] = a;
    sum_b[threadIdx.y][threadIdx.x] = b;
    __syncthreads();
    if (threadIdx.y || column >= n) return;
    for (int k = 1; k < 8; k++) {
        a += sum_w[k][threadIdx.x];
        b += sum_b[k][threadIdx.x];
    }
    if (parts_w) parts_w[(i64)blockIdx.y * n + column] = a;
    if (parts_b) parts_b[(i64)blockIdx.y * n + column] = b;
}

// Step 2: out[i] = the sum over the parts. parts: (count, n)
template <class T> __global__ void __launch_bounds__(256) sum_parts(const float* parts, T* out, int count, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float total = 0.0f;
    for (int k = 0; k < count; k++) total += parts[(i64)k * n + i];
    out[i] = narrow<T>(total);
}

// ---- batch_norm: x: (images, channels, length), row-major. Where length is 1, as with the channels of images side by
// side, the kernels named *_columns serve: a thread stays with its channels and goes over rows.

// One block sums one channel over its part of the images; parts: (2, gridDim.y, channels).
// forward (g null): x - x[0, channel, 0] and its square; backward: g and g (x - mean)
template <class T, bool VECTOR>
__global__ void __launch_bounds__(256) channel_sums(
    const T* g, const T* x, const float* mean, float* parts, i64 images, int channels, int length) {
    constexpr int V = Width<T, VECTOR>::value;
    const unsigned channel = blockIdx.x, packs = length / V;
    const i64 each = (images + gridDim.y - 1) / gridDim.y, start = each * blockIdx.y;
    const i64 stop = start + each < images ? start + each : images;
    const float centre = g ? mean[channel] : wide(x[(i64)channel * length]);
    float u[V], v[V], first = 0.0f, second = 0.0f;
    for (unsigned i = threadIdx.x; i < (stop - start) * packs; i += blockDim.x) {
        const i64 at = ((start + i / packs) * channels + channel) * length + i % packs * V;
        load<V>(x + at, v);
        if (g) load<V>(g + at, u);
#pragma unroll
        for (int k = 0; k < V; k++) {
            const float d = v[k] - centre;
            first += g ? u[k] : d;
            second += (g ? u[k] : d) * d;
        }
    }
    first = row_sum(first);
    second = row_sum(second);
    if (threadIdx.x == 0) {
        parts[(i64)blockIdx.y * channels + channel] = first;
        parts[((i64)gridDim.y + blockIdx.y) * channels + channel] = second;
    }
}

// The rows of a block (its threads beside each other, in x, have V columns each) that thread y begins with.
struct Rows {
    int column;
    i64 first, stop;
};
template <int V> __device__ __forceinline__ Rows my_rows(i64 rows) {
    const i64 each = (rows + gridDim.y - 1) / gridDim.y, start = each * blockIdx.y;
    const int column = (blockIdx.x * blockDim.x + threadIdx.x) * V;
    return Rows{column, start + threadIdx.y, start + each < rows ? start + each : rows};
}

// The sum over threadIdx.y in the threads with y = 0. 256 threads; blockDim.y is a power of two.
__device__ __forceinline__ float column_sum(float x) {
    __shared__ float parts[256];
    const int at = threadIdx.y * blockDim.x + threadIdx.x;
    __syncthreads();  // the last use of `parts` is over
    parts[at] = x;
    for (int half = blockDim.y >> 1; half; half >>= 1) {
        __syncthreads();
        if ((int)threadIdx.y < half) parts[at] += parts[at + half * blockDim.x];
    }
    return parts[at];
}

// channel_sums for x: (rows, channels): a block sums blockDim.x * V channels over its part of the rows
template <class T, bool VECTOR>
__global__ void __launch_bounds__(256) channel_sums_columns(
    const T* g, const T* x, const float* mean, float* parts, i64 rows, int channels) {
    constexpr int V = Width<T, VECTOR>::value;
    const Rows mine = my_rows<V>(rows);
    const bool inside = mine.column < channels;
    float centre[V], u[V], v[V], first[V], second[V];
#pragma unroll
    for (int k = 0; k < V; k++) first[k] = second[k] = centre[k] = 0.0f;
    if (inside && !g) load<V>(x + mine.column, centre);
    if (inside && g) {
#pragma unroll
        for (int k = 0; k < V; k++) centre[k] = mean[mine.column + k];
    }
    if (inside) {
#pragma unroll 2
        for (i64 row = mine.first; row < mine.stop; row += blockDim.y) {
            load<V>(x + row * channels + mine.column, v);
            if (g) load<V>(g + row * channels + mine.column, u);
#pragma unroll
            for (int k = 0; k < V; k++) {
                const float d = v[k] - centre[k];
                first[k] += g ? u[k] : d;
                second[k] += (g ? u[k] : d) * d;
            }
        }
    }
#pragma unroll
    for (int k = 0; k < V; k++) {
        const float a = column_sum(first[k]), b = column_sum(second[k]);
        if (inside && threadIdx.y == 0) {
            parts[(i64)blockIdx.y * channels + mine.column + k] = a;
            parts[((i64)gridDim.y + blockIdx.y) * channels + mine.column + k] = b;
        }
    }
}

// Both sums of a channel over all parts, in the threads with y = 0. Block (32, 8).
__device__ __forceinline__ void add_parts(
    const float* parts, int count, int channels, int channel, float& first, float& second) {
    first = second = 0.0f;
    if (channel < channels) {
#pragma unroll 4
        for (int k = threadIdx.y; k < count; k += blockDim.y) {
            first += parts[(i64)k * channels + channel];
            second += parts[((i64)count + k) * channels + channel];
        }
    }
    first = column_sum(first);
    second = column_sum(second);
}

template <class T>
__global__ void __launch_bounds__(256) channel_moments(
    const T* x, const float* parts, float* mean, float* var, float* rstd, int count, int channels, int length,
    float size, float eps) {
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    float first, second;
    add_parts(parts, count, channels, channel, first, second);
    if (threadIdx.y || channel >= channels) return;
    const float d = first / size, spread = second / size - d * d, v = spread < 0.0f ? 0.0f : spread;
    mean[channel] = wide(x[(i64)channel * length]) + d;
    var[channel] = v;
    rstd[channel] = rsqrtf(v + eps);
}

// The gradients of w and b, and the three factors of channel_mix: (3, channels)
template <class T>
__global__ void __launch_bounds__(256) channel_slopes(
    const float* parts, const T* w, const float* rstd, T* gw, T* gb, float* factors, int count, int channels,
    float size) {
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    float total, slope;
    add_parts(parts, count, channels, channel, total, slope);
    if (threadIdx.y || channel >= channels) return;
    const float r = rstd[channel], a = w ? r * wide(w[channel]) : r;
    slope *= r;
    if (gw) gw[channel] = narrow<T>(slope);
    if (gb) gb[channel] = narrow<T>(total);
    factors[channel] = a;
    factors[channels + channel] = -a * r * slope / size;
    factors[2 * channels + channel] = -a * total / size;
}

// y = (x - mean) rstd w + b per channel; null pointers stand for 0, 1, 1 and 0
template <class T, bool VECTOR>
__global__ void __launch_bounds__(256) channel_affine(
    const T* x, const float* mean, const float* rstd, const T* w, const T* b, T* y, int n, int channels, int length) {
    constexpr int V = Width<T, VECTOR>::value;
    const unsigned step = gridDim.x * blockDim.x, length_packs = length / V;
    float v[V];
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n / V; i += step) {
        const int channel = i / length_packs % (unsigned)channels;
        const float m = mean ? mean[channel] : 0.0f, shift = b ? wide(b[channel]) : 0.0f;
        const float scale = (rstd ? rstd[channel] : 1.0f) * (w ? wide(w[channel]) : 1.0f);
        load<V>(x + (i64)i * V, v);
#pragma unroll
        for (int k = 0; k < V; k++) v[k] = (v[k] - m) * scale + shift;
        store<V>(y + (i64)i * V, v);
    }
}

// out = factors[0] g + factors[1] (x - mean) + factors[2] per channel
template <class T, bool VECTOR>
__global__ void __launch_bounds__(256) channel_mix(
    const T* g, const T* x, const float* mean, const float* factors, T* out, int n, int channels, int length) {
    constexpr int V = Width<T, VECTOR>::value;
    const unsigned step = gridDim.x * blockDim.x, length_packs = length / V;
    float u[V], v[V];
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n / V; i += step) {
        const int channel = i / length_packs % (unsigned)channels;
        const float m = mean[channel], a = factors[channel], k1 = factors[channels + channel];
        const float shift = factors[2 * channels + channel];
        load<V>(g + (i64)i * V, u);
        load<V>(x + (i64)i * V, v);
#pragma unroll
        for (int k = 0; k < V; k++) v[k] = a * u[k] + k1 * (v[k] - m) + shift;
        store<V>(out + (i64)i * V, v);
    }
}

// channel_affine for x: (rows, channels)
template <class T, bool VECTOR>
__global__ void __launch_bounds__(256) channel_affine_columns(
    const T* x, const float* mean, const float* rstd, const T* w, const T* b, T* y, i64 rows, int channels) {
    constexpr int V = Width<T, VECTOR>::value;
    const Rows mine = my_rows<V>(rows);
    if (mine.column >= channels) return;
    float m[V], scale[V], shift[V], v[V];
#pragma unroll
    for (int k = 0; k < V; k++) {
        const int channel = mine.column + k;
        m[k] = mean ? mean[channel] : 0.0f;
        scale[k] = (rstd ? rstd[channel] : 1.0f) * (w ? wide(w[channel]) : 1.0f);
        shift[k] = b ? wide(b[channel]) : 0.0f;
    }
#pragma unroll 2
    for (i64 row = mine.first; row < mine.stop; row += blockDim.y) {
        load<V>(x + row * channels + mine.column, v);
#pragma unroll
        for (int k = 0; k < V; k++) v[k] = (v[k] - m[k]) * scale[k] + shift[k];
        store<V>(y + row * channels + mine.column, v);
    }
}

// channel_mix for g, x: (rows, channels)
template <class T, bool VECTOR>
__global__ void __launch_bounds__(256) channel_mix_columns(
    const T* g, const T* x, const float* mean, const float* factors, T* out, i64 rows, int channels) {
    constexpr int V = Width<T, VECTOR>::value;
    const Rows mine = my_rows<V>(rows);
    if (mine.column >= channels) return;
    float m[V], a[V], k1[V], shift[V], u[V], v[V];
#pragma unroll
    for (int k = 0; k < V; k++) {
        const int channel = mine.column + k;
        m[k] = mean[channel];
        a[k] = factors[channel];
        k1[k] = factors[channels + channel];
        shift[k] = factors[2 * channels + channel];
    }
#pragma unroll 2
    for (i64 row = mine.first; row < mine.stop; row += blockDim.y) {
        load<V>(g + row * channels + mine.column, u);
        load<V>(x + row * channels + mine.column, v);
#pragma unroll
        for (int k = 0; k < V; k++) v[k] = a[k] * u[k] + k1[k] * (v[k] - m[k]) + shift[k];
        store<V>(out + row * channels + mine.column, v);
    }
}

// y = the mean of each image's channel. x: (images, length, channels), image blockIdx.y
template <class T, bool VECTOR>
__global__ void __launch_bounds__(256) image_means(const T* x, T* y, int length, int channels) {
    constexpr int V = Width<T, VECTOR>::value;
    const int column = (blockIdx.x * blockDim.x + threadIdx.x) * V;
    const bool inside = column < channels;
    x += (i64)blockIdx.y * length * channels;
    y += (i64)blockIdx.y * channels;
    float v[V], sum[V];
#pragma unroll
    for (int k = 0; k < V; k++) sum[k] = 0.0f;
    if (inside) {
#pragma unroll 2
        for (int row = threadIdx.y; row < length; row += blockDim.y) {
            load<V>(x + (i64)row * channels + column, v);
#pragma unroll
            for (int k = 0; k < V; k++) sum[k] += v[k];
        }
    }
#pragma unroll
    for (int k = 0; k < V; k++) v[k] = column_sum(sum[k]) / length;
    if (inside && threadIdx.y == 0) store<V>(y + column, v);
}
