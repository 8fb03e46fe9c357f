// Look-up of rows, and their sums by index: each row has one writer, in an order that is always the same.
#pragma once
#include "common.cuh"

// out[i] = w[index[i]]; nan and a report where there is no such row. w: (rows, n), out: (count, n)
template <class T, bool VECTOR>
__global__ void __launch_bounds__(1024) embedding_rows(
    const T* w, const i64* index, T* out, i64 count, int n, i64 rows, i64* report, int code) {
    constexpr int V = Width<T, VECTOR>::value;
    const i64 row = my_row();
    if (row >= count) return;
    const i64 from = index[row];
    const bool found = from >= 0 && from < rows;
    if (!found && threadIdx.x == 0) report_index(report, code, from, rows);
    float v[V];
    for (int i = threadIdx.x * V; i < n; i += blockDim.x * V) {
        if (found) load<V>(w + from * n + i, v);
#pragma unroll
        for (int k = 0; k < V; k++) v[k] = found ? v[k] : NOT_A_NUMBER;
        store<V>(out + row * n + i, v);
    }
}

// The adjoint. `order` sorts `index`; its positions are cut into pieces of SPAN. A run of equal indices within a piece
// is summed and written; what continues beyond the piece's end or start is left in parts: (pieces, 2, n), slot 0 for the
// run that came from the piece before, slot 1 for one that begins here and goes on. join_runs adds these up.
constexpr int SPAN = 32;

template <class T>
__global__ void __launch_bounds__(256) sum_runs(
    const T* g, const i64* index, const i64* order, T* out, float* parts, i64 count, int n, i64 rows, i64 padding) {
    const int column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= n) return;
    const i64 start = (i64)blockIdx.x * SPAN, stop = start + SPAN < count ? start + SPAN : count;
    float* slots = parts + (i64)blockIdx.x * 2 * n + column;
    i64 row = index[order[start]];
    bool continued = start > 0 && index[order[start - 1]] == row;
    float total = 0.0f;
    for (i64 i = start; i < stop; i++) {
        const i64 place = order[i], here = index[place];
        if (here != row) {
            if (continued) slots[0] = total;
            else if (row != padding && row >= 0 && row < rows) out[row * n + column] = narrow<T>(total);
            continued = false;
            row = here;
            total = 0.0f;
        }
        total += wide(g[place * n + column]);
    }
    if (continued) slots[0] = total;
    else if (stop < count && index[order[stop]] == row) slots[n] = total;
    else if (row != padding && row >= 0 && row < rows) out[row * n + column] = narrow<T>(total);
}

template <class T>
__global__ void __launch_bounds__(256) join_runs(
    const i64* index, const i64* order, T* out, const float* parts, i64 count, int n, i64 rows, i64 padding) {
    const int column = blockIdx.y * blockDim.x + threadIdx.x;
    const i64 start = (i64)blockIdx.x * SPAN;
    i64 piece = blockIdx.x, stop = start + SPAN;
    if (column >= n || stop >= count) return;
    const i64 row = index[order[stop - 1]];
    if (index[order[stop]] != row) return;                                       // no run goes on from here
    if (start > 0 && index[order[start - 1]] == row && index[order[start]] == row) return;  // it began further left
    float total = parts[(piece * 2 + 1) * n + column];
    for (bool on = true; on;) {
        piece++;
        total += parts[piece * 2 * n + column];
        stop += SPAN;
        on = stop < count && index[order[stop - 1]] == row && index[order[stop]] == row;
    }
    if (row != padding && row >= 0 && row < rows) out[row * n + column] = narrow<T>(total);
}
