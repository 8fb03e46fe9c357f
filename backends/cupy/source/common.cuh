// What every kernel here uses: 16-byte vectors, numbers as float, and reductions over a row of threads.
#pragma once
#ifndef CUDA_ON_CPU  // tests/cuda_on_cpu brings these types and intrinsics for the host's compiler
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define CHECK_ALIGNED(pointer, bytes)
#endif

typedef long long i64;
constexpr unsigned WARP = 0xffffffffu;
#define INFINITE __int_as_float(0x7f800000)
#define NOT_A_NUMBER __int_as_float(0x7fc00000)

// ---- numbers: stored as float, __half or __nv_bfloat16, computed in float

__device__ __forceinline__ float wide(float x) { return x; }
__device__ __forceinline__ float wide(__half x) { return __half2float(x); }
__device__ __forceinline__ float wide(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T> struct Narrow;
template <> struct Narrow<float> {
    static __device__ __forceinline__ float of(float x) { return x; }
};
template <> struct Narrow<__half> {
    static __device__ __forceinline__ __half of(float x) { return __float2half_rn(x); }
};
template <> struct Narrow<__nv_bfloat16> {
    static __device__ __forceinline__ __nv_bfloat16 of(float x) { return __float2bfloat16_rn(x); }
};
template <class T> __device__ __forceinline__ T narrow(float x) { return Narrow<T>::of(x); }

// ---- V elements moved at once; V * sizeof(T) is 16 or, where the memory does not allow it, sizeof(T)

template <class T, int V> struct alignas(sizeof(T) * V) Pack {
    T v[V];
};

template <int V, class T> __device__ __forceinline__ void load(const T* from, float (&to)[V]) {
    CHECK_ALIGNED(from, sizeof(T) * V);
    const Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(from);
#pragma unroll
    for (int k = 0; k < V; k++) to[k] = wide(pack.v[k]);
}

template <int V, class T> __device__ __forceinline__ void store(T* to, const float (&from)[V]) {
    CHECK_ALIGNED(to, sizeof(T) * V);
    Pack<T, V> pack;
#pragma unroll
    for (int k = 0; k < V; k++) pack.v[k] = narrow<T>(from[k]);
    *reinterpret_cast<Pack<T, V>*>(to) = pack;
}

// How many elements one access moves: 16 bytes' worth of T where VECTOR, else one.
template <class T, bool VECTOR> struct Width {
    static constexpr int value = VECTOR ? 16 / (int)sizeof(T) : 1;
};

// ---- reductions over threadIdx.x, the result in every thread
// blockDim.x is a multiple of 32 of at most 1024; rows beside each other in a block (blockDim.y > 1) have 32 threads.

struct Add {
    static __device__ __forceinline__ float of(float x, float y) { return x + y; }
};
struct Max {
    static __device__ __forceinline__ float of(float x, float y) { return fmaxf(x, y); }
};

template <class R> __device__ __forceinline__ float warp_reduce(float x) {
#pragma unroll
    for (int o = 16; o; o >>= 1) x = R::of(x, __shfl_xor_sync(WARP, x, o));
    return x;
}

template <class R> __device__ __forceinline__ float row_reduce(float x, float neutral) {
    x = warp_reduce<R>(x);
    if (blockDim.x == 32) return x;
    __shared__ float parts[32];
    const int lane = threadIdx.x & 31;
    __syncthreads();  // the last use of `parts` is over
    if (lane == 0) parts[threadIdx.x >> 5] = x;
    __syncthreads();
    return warp_reduce<R>(lane < (int)blockDim.x >> 5 ? parts[lane] : neutral);
}

__device__ __forceinline__ float row_sum(float x) { return row_reduce<Add>(x, 0.0f); }
__device__ __forceinline__ float row_max(float x) { return row_reduce<Max>(x, -INFINITE); }

// The row that this row of threads works on.
__device__ __forceinline__ i64 my_row() { return (i64)blockIdx.x * blockDim.y + threadIdx.y; }

// ---- indices out of bounds: the first one found is left in report = {code of the op or 0, index, size}

__device__ __forceinline__ void report_index(i64* report, int code, i64 index, i64 size) {
    if (atomicCAS(reinterpret_cast<unsigned long long*>(report), 0ull, (unsigned long long)code) == 0ull) {
        report[1] = index;
        report[2] = size;
    }
}
