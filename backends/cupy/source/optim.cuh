// Optimizer formulas and norms over many tensors in one launch.
#pragma once
#include "common.cuh"

// Up to MOST tensors of up to five arrays each and a counter, by value: nothing is copied to the device beforehand. Block
// k works on CHUNK elements of the tensor t with first[t] <= k < first[t + 1].
constexpr int MOST = 64, CHUNK = 8192, COUNTER = 5;

struct Tensors {
    unsigned long long array[6][MOST];
    i64 size[MOST];
    int first[MOST + 1];
    int count;
};

struct Part {
    int tensor;
    i64 start, stop;
};
__device__ __forceinline__ Part my_part(const Tensors& all) {
    int t = 0;
    while (t + 1 < all.count && (int)blockIdx.x >= all.first[t + 1]) t++;
    const i64 start = (i64)(blockIdx.x - all.first[t]) * CHUNK, size = all.size[t];
    return Part{t, start, start + CHUNK < size ? start + CHUNK : size};
}

// Numbers of a formula, in its own order, and its switches. Numbers that change from step to step may be on the device
// instead, so that a recorded CUDA graph reads them anew: `at` the learning rate, the scale of the gradients and whether
// they overflowed (each null where there is none), and each tensor's count of steps. A formula's `live` then makes anew
// what depends on them, from exact = {learning rate, two more numbers of its own, step}.
struct Options {
    float v[10];
    int on[4];
    double exact[4];
    const float* at[3];
};
enum { RATE, SCALE, OVERFLOWED };

#define FORMULA(NAME, STATES) \
    struct NAME { \
        static constexpr int states = STATES; \
        static __device__ __forceinline__ void step(float& p, float g, float (&s)[3], const Options& o)
#define LIVE(...) \
    static __device__ __forceinline__ void live(Options& o, double rate, double step) { __VA_ARGS__ }

// v: lr, momentum, 1 - dampening, weight_decay; on: nesterov, first, has momentum; s: momentum_buffer
FORMULA(Sgd, 1) {
    g += o.v[3] * p;
    if (o.on[2]) {
        s[0] = o.on[1] ? g : s[0] * o.v[1] + g * o.v[2];
        g = o.on[0] ? g + s[0] * o.v[1] : s[0];
    }
    p -= g * o.v[0];
}
LIVE(o.v[0] = (float)rate;)
};

// v: lr / (1 - beta1^step), 1 - beta1, beta2, 1 - beta2, eps, weight_decay, 1 - lr weight_decay, sqrt(1 - beta2^step)
// on: decoupled decay, amsgrad; s: exp_avg, exp_avg_sq, max_exp_avg_sq
FORMULA(Adam, 3) {
    if (o.on[0]) p *= o.v[6];
    else g += o.v[5] * p;
    s[0] += o.v[1] * (g - s[0]);
    s[1] = s[1] * o.v[2] + o.v[3] * g * g;
    float square = s[1];
    if (o.on[1]) square = s[2] = s[1] != s[1] ? s[1] : fmaxf(s[2], s[1]);
    p -= o.v[0] * s[0] / (sqrtf(square) / o.v[7] + o.v[4]);
}
LIVE(o.v[0] = (float)(rate / (1.0 - pow(o.exact[1], step))); o.v[6] = (float)(1.0 - rate * (double)o.v[5]);
     o.v[7] = (float)sqrt(1.0 - pow(o.exact[2], step));)
};

// v: lr, alpha, 1 - alpha, eps, weight_decay, momentum; on: centered, has momentum; s: square_avg, momentum_buffer, grad_avg
FORMULA(RmsProp, 3) {
    g += o.v[4] * p;
    s[0] = s[0] * o.v[1] + o.v[2] * g * g;
    float square = s[0];
    if (o.on[0]) {
        s[2] += o.v[2] * (g - s[2]);
        square -= s[2] * s[2];
    }
    float move = g / (sqrtf(square) + o.v[3]);
    if (o.on[1]) move = s[1] = s[1] * o.v[5] + move;
    p -= o.v[0] * move;
}
LIVE(o.v[0] = (float)rate;)
};

// v: lr over its decay, eps, weight_decay; s: sum
FORMULA(Adagrad, 1) {
    g += o.v[2] * p;
    s[0] += g * g;
    p -= o.v[0] * g / (sqrtf(s[0]) + o.v[1]);
}
LIVE(o.v[0] = (float)(rate / (1.0 + (step - 1.0) * o.exact[1]));)
};

// Element or pack `i` of a tensor's arrays, V elements at once: p, g, then the states, of which those that the options
// leave out have the address 0. Gradients that come with a scale are divided by it where they lie, too.
template <class F, class T, int V>
__device__ __forceinline__ void step_pack(
    T* const (&at)[2 + F::states], i64 i, bool negate, float scale, const Options& o) {
    float p[V], g[V], s[F::states][V];
    load<V>(at[0] + i * V, p);
    load<V>(at[1] + i * V, g);
    if (scale != 1.0f) {
#pragma unroll
        for (int e = 0; e < V; e++) g[e] /= scale;
        store<V>(at[1] + i * V, g);
    }
#pragma unroll
    for (int k = 0; k < F::states; k++)
        if (at[2 + k]) load<V>(at[2 + k] + i * V, s[k]);
#pragma unroll
    for (int e = 0; e < V; e++) {
        float own[3] = {0.0f, 0.0f, 0.0f};
#pragma unroll
        for (int k = 0; k < F::states; k++) own[k] = at[2 + k] ? s[k][e] : 0.0f;
        F::step(p[e], negate ? -g[e] : g[e], own, o);
#pragma unroll
        for (int k = 0; k < F::states; k++) s[k][e] = own[k];
    }
    store<V>(at[0] + i * V, p);
#pragma unroll
    for (int k = 0; k < F::states; k++)
        if (at[2 + k]) store<V>(at[2 + k] + i * V, s[k]);
}

// What the numbers on the device change of a formula's, worked out by one thread of the block.
template <class F> __device__ __forceinline__ void take_live(Options& o, const float* step) {
    __shared__ float made[3];
    if (threadIdx.x == 0) {
        F::live(o, o.at[RATE] ? (double)*o.at[RATE] : o.exact[0], step ? (double)*step : o.exact[3]);
        made[0] = o.v[0], made[1] = o.v[6], made[2] = o.v[7];
    }
    __syncthreads();
    o.v[0] = made[0], o.v[6] = made[1], o.v[7] = made[2];
}

// on[3]: maximize. CHUNK is a multiple of every V, so that a part begins where its tensor's packs do.
template <class F, class T> __global__ void __launch_bounds__(256) formula_step(Tensors all, Options o) {
    constexpr int V = 16 / sizeof(T);
    if (o.at[OVERFLOWED] && *o.at[OVERFLOWED] != 0.0f) return;
    const Part part = my_part(all);
    const float* step = reinterpret_cast<const float*>(all.array[COUNTER][part.tensor]);
    if (step || o.at[RATE]) take_live<F>(o, step);
    const float scale = o.at[SCALE] ? *o.at[SCALE] : 1.0f;
    T* at[2 + F::states];
    unsigned long long together = 0;
#pragma unroll
    for (int k = 0; k < 2 + F::states; k++) {
        at[k] = reinterpret_cast<T*>(all.array[k][part.tensor]);
        together |= all.array[k][part.tensor];
    }
    const bool negate = o.on[3];
    const i64 packs = together % 16 ? part.start / V : part.stop / V;
    for (i64 i = part.start / V + threadIdx.x; i < packs; i += blockDim.x) step_pack<F, T, V>(at, i, negate, scale, o);
    for (i64 i = packs * V + threadIdx.x; i < part.stop; i += blockDim.x) step_pack<F, T, 1>(at, i, negate, scale, o);
}

// One block: every counter goes on by one, unless the gradients overflowed.
__global__ void __launch_bounds__(64) count_steps(Tensors all, const float* overflowed) {
    float* step = reinterpret_cast<float*>(all.array[COUNTER][threadIdx.x]);
    if ((int)threadIdx.x < all.count && !(overflowed && *overflowed != 0.0f)) *step += 1.0f;
}

// ---- norms of all tensors together

struct Square {
    static __device__ __forceinline__ float of(float x, float) { return x * x; }
};
struct Power {
    static __device__ __forceinline__ float of(float x, float p) { return powf(fabsf(x), p); }
};
struct Largest {
    static __device__ __forceinline__ float of(float x, float) { return fabsf(x); }
};

// The larger of two, nan where one is nan.
struct MaxOrNan {
    static __device__ __forceinline__ float of(float x, float y) { return x != x || x > y ? x : y; }
};
template <class F> struct Joined {
    typedef Add by;
};
template <> struct Joined<Largest> {
    typedef MaxOrNan by;
};

// parts[begin + block] = what F makes of the block's elements, added up (or their maximum)
template <class F, class T> __global__ void __launch_bounds__(256) norm_parts(Tensors all, float* parts, int begin, float p) {
    typedef typename Joined<F>::by By;
    const Part part = my_part(all);
    const T* x = reinterpret_cast<const T*>(all.array[0][part.tensor]);
    constexpr int V = 16 / sizeof(T);
    const i64 packs = all.array[0][part.tensor] % 16 ? part.start / V : part.stop / V;
    float total = 0.0f, v[V];
    for (i64 i = part.start / V + threadIdx.x; i < packs; i += blockDim.x) {
        load<V>(x + i * V, v);
#pragma unroll
        for (int k = 0; k < V; k++) total = By::of(total, F::of(v[k], p));
    }
    for (i64 i = packs * V + threadIdx.x; i < part.stop; i += blockDim.x) total = By::of(total, F::of(wide(x[i]), p));
    total = row_reduce<By>(total, 0.0f);
    if (threadIdx.x == 0) parts[begin + blockIdx.x] = total;
}

// One block: the norm from its parts.
template <class F> __global__ void __launch_bounds__(1024) norm_whole(const float* parts, float* out, int count, float p) {
    typedef typename Joined<F>::by By;
    float total = 0.0f;
    for (int i = threadIdx.x; i < count; i += blockDim.x) total = By::of(total, parts[i]);
    total = row_reduce<By>(total, 0.0f);
    if (threadIdx.x == 0) *out = p == 2.0f ? sqrtf(total) : p == 0.0f ? total : powf(total, 1.0f / p);
}

// The part of a tensor times `factor`, in place; whether an element was infinite or NaN before.
template <class T> __device__ __forceinline__ bool scale_part(const Tensors& all, float factor) {
    const Part part = my_part(all);
    T* x = reinterpret_cast<T*>(all.array[0][part.tensor]);
    constexpr int V = 16 / sizeof(T);
    const i64 packs = all.array[0][part.tensor] % 16 ? part.start / V : part.stop / V;
    bool bad = false;
    float v[V];
    for (i64 i = part.start / V + threadIdx.x; i < packs; i += blockDim.x) {
        load<V>(x + i * V, v);
#pragma unroll
        for (int k = 0; k < V; k++) {
            bad |= !(v[k] - v[k] == 0.0f);
            v[k] *= factor;
        }
        store<V>(x + i * V, v);
    }
    for (i64 i = packs * V + threadIdx.x; i < part.stop; i += blockDim.x) {
        const float value = wide(x[i]);
        bad |= !(value - value == 0.0f);
        x[i] = narrow<T>(value * factor);
    }
    return bad;
}

// All tensors times most / (norm + 1e-6) where that is below 1
template <class T> __global__ void __launch_bounds__(256) clip_all(Tensors all, const float* norm, float most) {
    const float asked = most / (*norm + 1e-6f);
    scale_part<T>(all, asked > 1.0f ? 1.0f : asked);  // nan stays
}

// All tensors times *inverse; *found = 1 where an element was infinite or NaN, else as it was. Threads write one value.
template <class T> __global__ void __launch_bounds__(256) unscale_all(Tensors all, float* found, const float* inverse) {
    if (scale_part<T>(all, *inverse)) *found = 1.0f;
}

// One thread: the loss scale and its count of good steps, after a step in which gradients overflowed (*found > 0) or not.
template <class T> __global__ void update_scale(T* scale, int* good, const T* found, float growth, float backoff, int interval) {
    if (*found > 0.0f) {
        *scale *= backoff;
        *good = 0;
    } else if (*good + 1 == interval) {
        const float grown = *scale * growth;
        if (grown - grown == 0.0f) *scale = grown;
        *good = 0;
    } else {
        *good += 1;
    }
}
