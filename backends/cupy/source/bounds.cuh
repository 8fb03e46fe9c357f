// Indices that are read by kernels of others, checked by a launch of their own.
#pragma once
#include "common.cuh"

// report = {code, index, size} for a first index outside of [low, high). index: (count,)
template <class T>
__global__ void __launch_bounds__(256) check_bounds(
    const T* index, i64 count, i64 low, i64 high, i64 size, i64* report, int code) {
    const i64 stride = (i64)gridDim.x * blockDim.x;
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) {
        const i64 here = (i64)index[i];
        if (here < low || here >= high) report_index(report, code, here, size);
    }
}
