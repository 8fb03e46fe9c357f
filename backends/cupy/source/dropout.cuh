// Dropout from a counter: the same (seed, offset) gives the same mask, so that nothing is kept for the backward pass.
#pragma once
#include "common.cuh"

typedef unsigned long long u64;

// Philox4x32-10. Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
struct Four {
    unsigned v[4];
};
__device__ __forceinline__ Four philox(u64 seed, u64 counter) {
    unsigned c0 = (unsigned)counter, c1 = (unsigned)(counter >> 32), c2 = 0, c3 = 0;
    unsigned k0 = (unsigned)seed, k1 = (unsigned)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const unsigned low0 = 0xD2511F53u * c0, high0 = __umulhi(0xD2511F53u, c0);
        const unsigned low1 = 0xCD9E8D57u * c2, high1 = __umulhi(0xCD9E8D57u, c2);
        c0 = high1 ^ c1 ^ k0;
        c2 = high0 ^ c3 ^ k1;
        c1 = low1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return Four{{c0, c1, c2, c3}};
}

// 24 random bits as a number of [0, 1)
__device__ __forceinline__ float uniform(unsigned bits) { return (bits >> 8) * 5.9604644775390625e-8f; }

// out = x / (1 - p) where element i is kept, else 0. The number of element i is the (i % 4)th of counter offset + i / 4.
// `whole`: the pointers are at multiples of 16 bytes. `base`, where not null, is {seed, offset} in device memory, to
// which the arguments are added: a recorded CUDA graph draws anew when it is replayed after base[1] was raised.
template <class T>
__global__ void __launch_bounds__(256)
    dropout(const T* x, T* out, i64 n, int whole, float p, float scale, u64 seed, u64 offset, const u64* base) {
    if (base) {
        seed += base[0];
        offset += base[1];
    }
    const i64 step = (i64)gridDim.x * blockDim.x;
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i * 4 < n; i += step) {
        const Four random = philox(seed, offset + i);
        float v[4];
        if (whole && i * 4 + 4 <= n) {
            load<4>(x + i * 4, v);
#pragma unroll
            for (int k = 0; k < 4; k++) v[k] = uniform(random.v[k]) >= p ? v[k] * scale : 0.0f;
            store<4>(out + i * 4, v);
        } else {
            for (int k = 0; k < 4 && i * 4 + k < n; k++)
                out[i * 4 + k] = narrow<T>(uniform(random.v[k]) >= p ? wide(x[i * 4 + k]) * scale : 0.0f);
        }
    }
}
