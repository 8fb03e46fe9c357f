"""L D L^T of symmetric matrices (L D L^H of Hermitian ones), D with blocks of 1 or 2, as LAPACK packs it; no gradients.

J. Bunch and L. Kaufman, Some stable methods for calculating inertia and solving symmetric linear systems, 1977. In the
packed form (LAPACK's sytrf, hetrf) L stands below the diagonal and D on it; pivots, from 1, say which row was exchanged
with each row; twice the same negative number names a block of 2, whose second row was exchanged.
"""

from __future__ import annotations

from .factor import _size

ALPHA = (1 + 17**0.5) / 8  # bounds the growth of the elements


def _conjugate(xp, x, hermitian):
    return xp.conjugate(x) if hermitian else x


def _chosen(xp, A, k, hermitian):
    """(the row to exchange, rows in the block) for step k; no rows where the column is 0. A: (N, N)."""
    diagonal = abs(A[k, k].real) if hermitian else _size(xp, A[k, k])
    column = _size(xp, A[k + 1 :, k])
    if not column.size:
        return k, int(diagonal != 0)
    p = k + 1 + int(column.argmax())
    largest = column[p - k - 1]
    if max(diagonal, largest) == 0:
        return k, 0
    if diagonal >= ALPHA * largest:
        return k, 1
    row = xp.concatenate([_size(xp, A[p, k:p]), _size(xp, A[p + 1 :, p])]).max()
    if diagonal * row >= ALPHA * largest * largest:
        return k, 1
    other = abs(A[p, p].real) if hermitian else _size(xp, A[p, p])
    return p, 1 if other >= ALPHA * row else 2


def _exchange(xp, A, k, place, p, hermitian):
    """Exchanges rows and columns `place` and p > place of the lower triangle that is left at step k. A: (N, N)."""
    A[p + 1 :, place], A[p + 1 :, p] = A[p + 1 :, p].copy(), A[p + 1 :, place].copy()
    between = A[place + 1 : p, place].copy()
    A[place + 1 : p, place] = _conjugate(xp, A[p, place + 1 : p], hermitian)
    A[p, place + 1 : p] = _conjugate(xp, between, hermitian)
    A[p, place] = _conjugate(xp, A[p, place], hermitian)
    A[place, place], A[p, p] = A[p, p].copy(), A[place, place].copy()
    A[p, k:place], A[place, k:place] = A[place, k:place].copy(), A[p, k:place].copy()


def _factored(xp, A, hermitian):
    """The factorisation of one matrix in place, and its pivots and info. A: (N, N) -> (N,) int list, int."""
    n, k, info = A.shape[0], 0, 0
    pivots = [0] * n
    while k < n:
        p, count = _chosen(xp, A, k, hermitian)
        if hermitian:
            A[k, k] = A[k, k].real
        if not count:
            pivots[k], info, k = k + 1, info or k + 1, k + 1
            continue
        place = k + count - 1
        if p != place:
            _exchange(xp, A, k, place, p, hermitian)
        below = slice(k + count, n)
        if count == 1:
            L = A[below, k] / A[k, k]
            A[below, below] -= L[:, None] * _conjugate(xp, A[below, k], hermitian)
            A[below, k] = L
            pivots[k] = p + 1
        else:
            D = _block(xp, A, k, hermitian)
            L = xp.linalg.solve(D.T, A[below, k : k + 2].T).T
            A[below, below] -= L @ _conjugate(xp, A[below, k : k + 2], hermitian).T
            A[below, k : k + 2] = L
            pivots[k] = pivots[k + 1] = -(p + 1)
        k += count
    return pivots, info


def _block(xp, A, k, hermitian):
    """The block of 2 of D that the lower triangle holds at k. A: (N, N) -> (2, 2)."""
    D = A[k : k + 2, k : k + 2].copy()
    D[0, 1] = _conjugate(xp, D[1, 0], hermitian)
    return D


def ldl(xp, x, hermitian):
    """(LD, pivots, info) from the lower triangle. x: (*B, N, N) -> (*B, N, N), (*B, N) int32, (*B) int32.

    info is the place, from 1, of the first column of zeros that was left, 0 where there is none.
    """
    n, lead = x.shape[-1], x.shape[:-2]
    LD = xp.tril(x)
    flat = LD.reshape(-1, n, n) if LD.size else xp.zeros((0, n, n), x.dtype)
    count = 1
    for size in lead:
        count *= size
    pivots, info = xp.zeros((count, n), "i4"), xp.zeros(count, "i4")
    for i in range(flat.shape[0]):
        found, info[i] = _factored(xp, flat[i], hermitian and x.dtype.kind == "c")
        pivots[i] = xp.asarray(found, "i4")
    out = xp.tril(flat).reshape(x.shape) if x.size else LD
    return out, pivots.reshape(*lead, n), info.reshape(lead)


def _steps(pivots):
    """(first row, row exchanged with the block's last one, size of the block) of each block. pivots: a list."""
    found, k = [], 0
    while k < len(pivots):
        count = 1 if pivots[k] > 0 else 2
        found.append((k, abs(pivots[k]) - 1, count))
        k += count
    return found


def _solved(xp, LD, pivots, B, hermitian):
    """One system, in place of B. LD: (N, N), pivots: a list of N, B: (N, K)."""
    steps, n = _steps(pivots), LD.shape[0]
    for k, p, count in steps:
        place, rows, below = k + count - 1, slice(k, k + count), slice(k + count, n)
        if p != place:
            B[[place, p]] = B[[p, place]]
        B[below] -= LD[below, rows] @ B[rows]
        B[rows] = B[rows] / LD[k, k] if count == 1 else xp.linalg.solve(_block(xp, LD, k, hermitian), B[rows])
    for k, p, count in reversed(steps):
        place, rows, below = k + count - 1, slice(k, k + count), slice(k + count, n)
        B[rows] -= _conjugate(xp, LD[below, rows], hermitian).T @ B[below]
        if p != place:
            B[[place, p]] = B[[p, place]]


def ldl_solved(xp, LD, pivots, B, hermitian):
    """X with A X = B from A's `ldl`. LD: (*S, N, N), pivots: (*S, N), B: (*T, N, K) -> (*broadcast(S, T), N, K)."""
    n, k = B.shape[-2:]
    lead = xp.broadcast_shapes(LD.shape[:-2], B.shape[:-2])
    out = xp.array(xp.broadcast_to(B, (*lead, n, k)), copy=True, order="C")
    if not out.size:
        return out
    factors = xp.broadcast_to(LD, (*lead, n, n)).reshape(-1, n, n)
    places = xp.broadcast_to(pivots, (*lead, n)).reshape(-1, n).tolist()
    flat = out.reshape(-1, n, k)
    for i in range(flat.shape[0]):
        _solved(xp, factors[i], places[i], flat[i], hermitian and LD.dtype.kind == "c")
    return out
