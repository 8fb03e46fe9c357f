"""What a step of data-parallel training sends: messages and bytes of one process, counted by formula.

The transport over MPI exchanges parts directly: an all-reduce of B bytes among p processes is 2 (p-1) messages and
2 B (p-1)/p bytes from each, in two rounds; up to 16 KiB it is one round of p-1 messages of B. A ring has the same
numbers in 2 (p-1) rounds; recursive halving and doubling the same bytes in 2 log2(p) messages (Thakur, Rabenseifner and
Gropp, Optimization of Collective Communication Operations in MPICH, 2005). Time of a call: alpha per message, beta per
byte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

SMALL = 16384  # bytes up to which an all-reduce is one round
Cost = tuple[int, int]  # messages, bytes


def total(costs: Sequence[Cost]) -> Cost:
    """The sum of several calls."""
    return sum(m for m, _ in costs), sum(b for _, b in costs)


def all_reduce(elements: int, itemsize: int, p: int, rank: int) -> Cost:
    """What `rank` of p sends for an all-reduce of that many elements."""
    if p == 1:
        return 0, 0
    if elements * itemsize <= SMALL:
        return p - 1, (p - 1) * elements * itemsize
    parts = [elements * (i + 1) // p - elements * i // p for i in range(p)]
    first = elements - parts[rank]  # every other rank's part to it
    second = (p - 1) * parts[rank]  # its own, reduced, to every other one
    return 2 * (p - 1), (first + second) * itemsize


def broadcast(elements: int, itemsize: int, p: int, rank: int, root: int) -> Cost:
    """What `rank` of p sends along the binomial tree from `root`."""
    place = (rank - root) % p
    messages, step = 0, 1 << place.bit_length()
    while place + step < p:
        messages, step = messages + 1, 2 * step
    return messages, messages * elements * itemsize


def ddp_step(buckets: Sequence[int], itemsize: int, p: int, rank: int) -> Cost:
    """A backward pass of DistributedDataParallel with buckets of so many elements."""
    return total([all_reduce(n, itemsize, p, rank) for n in buckets])


def zero_step(shares: Sequence[int], itemsize: int, p: int, rank: int) -> Cost:
    """A step of ZeroRedundancyOptimizer (stage 1): every process's share, of so many elements, to all."""
    return total([broadcast(n, itemsize, p, rank, root) for root, n in enumerate(shares) if p > 1])


def fit(sizes: Sequence[Cost], seconds: Sequence[float]) -> tuple[float, float]:
    """(alpha, beta) with seconds ~ alpha messages + beta bytes: least squares of relative errors, neither below 0."""
    rows = [(m / t, b / t) for (m, b), t in zip(sizes, seconds, strict=True)]
    mm, mb, bb = (sum(r[i] * r[j] for r in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    m1, b1 = sum(r[0] for r in rows), sum(r[1] for r in rows)
    det = mm * bb - mb * mb
    alpha, beta = (m1 * bb - b1 * mb) / det, (b1 * mm - m1 * mb) / det
    if alpha < 0:
        return 0.0, b1 / bb
    return (alpha, beta) if beta > 0 else (m1 / mm, 0.0)


def for_many(parameters: int, buckets: int, p: int, itemsize: int = 4) -> dict[str, list[float]]:
    """Messages and bytes of one process and step, for p processes (a power of two), by algorithm."""
    size = parameters * itemsize
    share = size * (p - 1) / p
    return {
        "DDP, direct exchange (this transport) or ring": [2 * (p - 1) * buckets, 2 * share],
        "DDP, halving and doubling": [2 * math.log2(p) * buckets, 2 * share],
        "ZeRO-1: all-reduce, then broadcasts of the shares": [2 * (p - 1) * buckets + p - 1, 3 * share],
        "ZeRO-1 as in the paper: reduce-scatter, all-gather": [2 * (p - 1) * buckets, 2 * share],
    }
