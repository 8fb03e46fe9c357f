// Activation functions and their derivatives, sums and products, over flat memory, one pass each.
#pragma once
#include "common.cuh"

// Each function: of(x, a, b, c) forward, slope(g, s, a, b, c) the gradient from g and what was saved: x, or the output
// where the comment says so. a, b, c are the op's keywords in the order of its signature.

#define FUNCTION(NAME) struct NAME
#define FORWARD static __device__ __forceinline__ float of(float x, float a, float b, float c)
#define BACKWARD static __device__ __forceinline__ float slope(float g, float x, float a, float b, float c)

__device__ __forceinline__ float logistic(float x) { return 1.0f / (1.0f + expf(-x)); }

FUNCTION(Relu) {  // saved: the output
    FORWARD { return x > 0.0f || x != x ? x : x == 0.0f ? x : 0.0f; }
    BACKWARD { return x <= 0.0f ? 0.0f : g; }
};
FUNCTION(Sigmoid) {  // saved: the output
    FORWARD { return logistic(x); }
    BACKWARD { return g * (1.0f - x) * x; }
};
FUNCTION(Tanh) {  // saved: the output
    FORWARD { return tanhf(x); }
    BACKWARD { return g * (1.0f - x * x); }
};
FUNCTION(Gelu) {
    FORWARD { return x * 0.5f * (1.0f + erff(x * 0.70710678f)); }
    BACKWARD {
        const float distribution = 0.5f * (1.0f + erff(x * 0.70710678f));
        return g * (distribution + x * 0.39894228f * expf(-0.5f * x * x));
    }
};
FUNCTION(GeluTanh) {
    FORWARD { return x * 0.5f * (1.0f + tanhf(0.79788456f * x * (1.0f + 0.044715f * x * x))); }
    BACKWARD {
        const float t = tanhf(0.79788456f * x * (1.0f + 0.044715f * x * x));
        const float inner = 0.79788456f * (1.0f + 0.134145f * x * x);
        return g * (0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * inner);
    }
};
FUNCTION(Silu) {
    FORWARD { return x / (1.0f + expf(-x)); }
    BACKWARD {
        const float s = logistic(x);
        return g * (s * (1.0f + x * (1.0f - s)));
    }
};
FUNCTION(Softplus) {  // a: beta, b: threshold
    FORWARD { return x * a > b ? x : log1pf(expf(x * a)) / a; }
    BACKWARD { return x * a > b ? g : g * logistic(x * a); }
};
FUNCTION(Mish) {
    FORWARD { return x * tanhf(x > 20.0f ? x : log1pf(expf(x))); }
    BACKWARD {
        const float t = tanhf(x > 20.0f ? x : log1pf(expf(x)));
        return g * (t + x * logistic(x) * (1.0f - t * t));
    }
};
FUNCTION(LogSigmoid) {
    FORWARD { return (x < 0.0f || x != x ? x : 0.0f) - log1pf(expf(-fabsf(x))); }
    BACKWARD { return g * logistic(-x); }
};
FUNCTION(Softsign) {
    FORWARD { return x / (1.0f + fabsf(x)); }
    BACKWARD {
        const float d = 1.0f + fabsf(x);
        return g / (d * d);
    }
};
FUNCTION(Tanhshrink) {
    FORWARD { return x - tanhf(x); }
    BACKWARD {
        const float t = tanhf(x);
        return g * (t * t);
    }
};
FUNCTION(LeakyRelu) {  // a: negative_slope
    FORWARD { return x > 0.0f ? x : x * a; }
    BACKWARD { return x > 0.0f ? g : g * a; }
};
FUNCTION(Elu) {  // a: alpha, b: scale, c: input_scale
    FORWARD { return x > 0.0f ? x * b : expm1f(x * c) * (a * b); }
    BACKWARD { return x > 0.0f ? g * b : g * (expf(x * c) * (a * b * c)); }
};
FUNCTION(Threshold) {  // a: threshold, b: value
    FORWARD { return x <= a ? b : x; }
};
FUNCTION(Hardtanh) {  // a: min_val, b: max_val
    FORWARD { return x < a ? a : x > b ? b : x; }
    BACKWARD { return x > a && x < b ? g : 0.0f; }
};
FUNCTION(Hardsigmoid) {
    FORWARD { return x != x ? x : fminf(fmaxf(x + 3.0f, 0.0f), 6.0f) / 6.0f; }
    BACKWARD { return x > -3.0f && x < 3.0f ? g / 6.0f : 0.0f; }
};
FUNCTION(Hardswish) {
    FORWARD { return x != x ? x : x * fminf(fmaxf(x + 3.0f, 0.0f), 6.0f) / 6.0f; }
    BACKWARD { return x >= 3.0f ? g : x <= -3.0f ? 0.0f : g * (x / 3.0f + 0.5f); }
};
FUNCTION(Softshrink) {  // a: lambd
    FORWARD { return x - (x != x ? x : fminf(fmaxf(x, -a), a)); }
    BACKWARD { return fabsf(x) > a ? g : 0.0f; }
};
FUNCTION(Hardshrink) {  // a: lambd
    FORWARD { return fabsf(x) <= a ? 0.0f : x; }
};

// y = F(x) and out = F'(g, saved). n elements; `whole`: all pointers are at multiples of 16 bytes.

template <class F, class T>
__global__ void __launch_bounds__(256) forward(const T* x, T* y, i64 n, int whole, float a, float b, float c) {
    constexpr int V = 16 / sizeof(T);
    const i64 step = (i64)gridDim.x * blockDim.x, first = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    const i64 packs = whole ? n / V : 0;
    float in[V], out[V];
    for (i64 i = first; i < packs; i += step) {
        load<V>(x + i * V, in);
#pragma unroll
        for (int k = 0; k < V; k++) out[k] = F::of(in[k], a, b, c);
        store<V>(y + i * V, out);
    }
    for (i64 i = packs * V + first; i < n; i += step) y[i] = narrow<T>(F::of(wide(x[i]), a, b, c));
}

template <class F, class T>
__global__ void __launch_bounds__(256)
    backward(const T* g, const T* saved, T* out, i64 n, int whole, float a, float b, float c) {
    constexpr int V = 16 / sizeof(T);
    const i64 step = (i64)gridDim.x * blockDim.x, first = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    const i64 packs = whole ? n / V : 0;
    float in[V], kept[V], made[V];
    for (i64 i = first; i < packs; i += step) {
        load<V>(g + i * V, in);
        load<V>(saved + i * V, kept);
#pragma unroll
        for (int k = 0; k < V; k++) made[k] = F::slope(in[k], kept[k], a, b, c);
        store<V>(out + i * V, made);
    }
    for (i64 i = packs * V + first; i < n; i += step)
        out[i] = narrow<T>(F::slope(wide(g[i]), wide(saved[i]), a, b, c));
}

// out = F(x, y): one rounding from float, which for half precision is that of the exact result

#define TWO(NAME, RESULT) \
    struct NAME { \
        static __device__ __forceinline__ float of(float x, float y) { return RESULT; } \
    }
TWO(Plus, x + y);
TWO(Minus, x - y);
TWO(Times, x * y);

template <class F, class T>
__global__ void __launch_bounds__(256) binary(const T* x, const T* y, T* out, i64 n, int whole) {
    constexpr int V = 16 / sizeof(T);
    const i64 step = (i64)gridDim.x * blockDim.x, first = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    const i64 packs = whole ? n / V : 0;
    float u[V], v[V];
    for (i64 i = first; i < packs; i += step) {
        load<V>(x + i * V, u);
        load<V>(y + i * V, v);
#pragma unroll
        for (int k = 0; k < V; k++) u[k] = F::of(u[k], v[k]);
        store<V>(out + i * V, u);
    }
    for (i64 i = packs * V + first; i < n; i += step) out[i] = narrow<T>(F::of(wide(x[i]), wide(y[i])));
}
