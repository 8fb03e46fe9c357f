// Runs SIMT CUDA C++ on the host: one block at a time, each of its threads a fiber that runs until it waits.
//
// __syncthreads, warp shuffles and votes wait as on a device: a thread that has returned no longer counts. What no
// thread can leave is reported as a deadlock. Two orders, so that a result that depends on the order (a missing barrier)
// shows: ascending, all threads in turn; descending, each warp as far as it can go before the next one. No tensor cores,
// no dynamic shared memory, no clusters.
#pragma once
#ifndef __x86_64__
#include <ucontext.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

#define CUDA_ON_CPU
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;

#ifdef __x86_64__
// Saves this stack's place in *from and goes on at `to`. swapcontext would call the system twice, for the signal mask.
extern "C" void emu_switch(void** from, void* to);
asm(".text\n.hidden emu_switch\n.globl emu_switch\nemu_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");
#endif

namespace emu {

#ifdef __x86_64__
struct Context {
    void* stack = nullptr;
    void begin(std::vector<char>& memory, void (*entry)()) {
        void** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(memory.data() + memory.size()) & ~15ul) - 2;
        *top = reinterpret_cast<void*>(entry);  // where `ret` goes
        stack = top - 6;                         // the six registers, whatever they hold
    }
};
inline void go(Context& from, Context& to) { emu_switch(&from.stack, to.stack); }
#else
struct Context {
    ucontext_t own;
    void begin(std::vector<char>& memory, void (*entry)()) {
        getcontext(&own);
        own.uc_stack.ss_sp = memory.data();
        own.uc_stack.ss_size = memory.size();
        makecontext(&own, entry, 0);
    }
};
inline void go(Context& from, Context& to) { swapcontext(&from.own, &to.own); }
#endif

struct Fiber {
    Context context;
    std::vector<char> stack;
    dim3 thread;
    bool done = false;
};

static std::vector<Fiber> fibers;
static Context scheduler;
static int now = 0;  // the fiber that runs
static const std::function<void()>* body;
static bool descending = false;
static const char* misaligned = nullptr;
static long moved = 0;  // counts what lets a waiting thread go on

// A barrier of the whole block, and one of each warp: how many wait, how many there are, how often it has opened.
struct Barrier {
    int waiting = 0, members = 0;
    long opened = 0;

    void open_if_full() {
        if (members && waiting == members) waiting = 0, opened++, moved++;
    }
    void leave() {
        members--, moved++;
        open_if_full();
    }
    void wait() {
        const long before = opened;
        waiting++;
        open_if_full();
        while (opened == before) go(fibers[now].context, scheduler);
    }
};
static Barrier block;
static Barrier warps[32];
static uint64_t lanes[32][32];

inline int linear() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }

inline void enter() {
    (*body)();
    const int i = now;
    fibers[i].done = true;
    block.leave();
    warps[i / 32].leave();
    go(fibers[i].context, scheduler);
}

// The value that the lane `from(own lane)` of this thread's warp gives.
template <class T, class From> T exchange(T value, From from) {
    static_assert(sizeof(T) <= 8, "shuffles move at most 8 bytes");
    const int warp = linear() / 32, lane = linear() % 32;
    std::memcpy(&lanes[warp][lane], &value, sizeof(T));
    warps[warp].wait();
    T found;
    std::memcpy(&found, &lanes[warp][from(lane) & 31], sizeof(T));
    warps[warp].wait();
    return found;
}

// Lets thread i run until it waits or returns; whether it is still there.
inline bool resume(int i) {
    if (fibers[i].done) return false;
    now = i;
    threadIdx = fibers[i].thread;
    go(scheduler, fibers[i].context);
    return !fibers[i].done;
}

// Each thread runs until it waits, one after the other. False: none can go on.
inline bool all_in_turn(int n) {
    for (int left = n; left;) {
        const long before = moved;
        left = 0;
        for (int i = 0; i < n; i++) left += resume(i);
        if (left && moved == before) return false;
    }
    return true;
}

// The last warp runs as far as it can, its last thread first, then the one before it.
inline bool warp_by_warp(int n) {
    for (int left = n; left;) {
        const long before = moved;
        left = 0;
        for (int w = (n - 1) / 32; w >= 0; w--) {
            int here;
            long start;
            do {
                start = moved;
                here = 0;
                for (int i = std::min(n, 32 * w + 32) - 1; i >= 32 * w; i--) here += resume(i);
            } while (here && moved != start);
            left += here;
        }
        if (left && moved == before) return false;
    }
    return true;
}

inline bool run_block() {
    const int n = blockDim.x * blockDim.y * blockDim.z;
    if ((int)fibers.size() < n) fibers.resize(n);
    block = Barrier{0, n};
    for (int w = 0; w < 32; w++) warps[w] = Barrier{0, std::min(32, n - 32 * w)};
    for (int i = 0; i < n; i++) {
        Fiber& f = fibers[i];
        f.done = false;
        f.thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
        if (f.stack.empty()) f.stack.resize(64 << 10);
        f.context.begin(f.stack, enter);
    }
    return descending ? warp_by_warp(n) : all_in_turn(n);
}

template <class... A, std::size_t... I>
int run(void (*kernel)(A...), const unsigned* size, void** arguments, std::index_sequence<I...>) {
    gridDim = {size[0], size[1], size[2]};
    blockDim = {size[3], size[4], size[5]};
    const std::function<void()> call = [&] { kernel(*static_cast<std::remove_const_t<A>*>(arguments[I])...); };
    body = &call;
    misaligned = nullptr;
    for (unsigned z = 0; z < gridDim.z; z++)
        for (unsigned y = 0; y < gridDim.y; y++)
            for (unsigned x = 0; x < gridDim.x; x++) {
                blockIdx = {x, y, z};
                if (!run_block()) return 1;
            }
    return misaligned ? 2 : 0;
}

template <class... A> int run(void (*kernel)(A...), const unsigned* size, void** arguments) {
    return run(kernel, size, arguments, std::index_sequence_for<A...>{});
}

// The bytes of each argument; their number is returned.
template <class... A> int sizes(void (*)(A...), int* found) {
    const int all[] = {(int)sizeof(A)...};
    std::memcpy(found, all, sizeof(all));
    return sizeof...(A);
}

}  // namespace emu

#define CHECK_ALIGNED(pointer, bytes) \
    do { \
        if (reinterpret_cast<uintptr_t>(pointer) % (bytes)) emu::misaligned = #pointer; \
    } while (0)
#define __syncthreads() emu::block.wait()
#define __syncwarp(...) emu::warps[emu::linear() / 32].wait()

template <class T> T __shfl_xor_sync(unsigned, T v, int mask) {
    return emu::exchange(v, [=](int lane) { return lane ^ mask; });
}
template <class T> T __shfl_down_sync(unsigned, T v, int by) {
    return emu::exchange(v, [=](int lane) { return lane + by < 32 ? lane + by : lane; });
}
template <class T> T __shfl_sync(unsigned, T v, int from) {
    return emu::exchange(v, [=](int) { return from; });
}
template <class T, class U> T atomicAdd(T* at, U v) {
    const T before = *at;
    *at = before + (T)v;
    return before;
}
inline unsigned long long atomicCAS(unsigned long long* at, unsigned long long expected, unsigned long long value) {
    const unsigned long long before = *at;
    if (before == expected) *at = value;
    return before;
}

// ---- numbers

inline float __int_as_float(int bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
inline int __float_as_int(float x) {
    int bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline unsigned __umulhi(unsigned x, unsigned y) { return (uint64_t)x * y >> 32; }

struct __half {
    uint16_t bits;
};
struct __nv_bfloat16 {
    uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 x) { return __int_as_float((int)((uint32_t)x.bits << 16)); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    const uint32_t b = __float_as_int(x);
    if (x != x) return {0x7fff};
    return {(uint16_t)((b + 0x7fff + (b >> 16 & 1)) >> 16)};
}
inline float __half2float(__half x) {
    const uint32_t sign = (uint32_t)(x.bits & 0x8000) << 16, rest = x.bits & 0x7fff;
    float f;
    if (rest >= 0x7c00) f = __int_as_float(0x7f800000 | (rest & 0x3ff) << 13);
    else if (rest < 0x400) f = std::ldexp((float)rest, -24);
    else f = __int_as_float((rest << 13) + 0x38000000);
    return __int_as_float(__float_as_int(f) | sign);
}
inline __half __float2half_rn(float x) {
    const uint32_t all = __float_as_int(x), b = all & 0x7fffffff;
    const uint16_t sign = all >> 16 & 0x8000;
    if (b > 0x7f800000) return {(uint16_t)(sign | 0x7e00)};
    if (b >= 0x477ff000) return {(uint16_t)(sign | 0x7c00)};
    if (b < 0x38800000) return {(uint16_t)(sign | (int)std::nearbyint(std::ldexp(std::fabs(x), 24)))};
    return {(uint16_t)(sign | (b - 0x38000000 + 0xfff + (b >> 13 & 1)) >> 13)};
}
