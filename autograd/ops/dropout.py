"""Dropout by a counter: the mask is computed from a seed wherever it is needed, so nothing is kept for the gradient.

Backends that have a kernel of this name draw their masks so; the others' come from the host's stream (nn.functional).
"""

from __future__ import annotations

import math
import struct

from ..op import op
from .reduce import narrow, wide

LOW = 0xFFFFFFFF


@op(grad_name="NativeDropout")
def dropout(xp, x, *, p, seed):
    """x / (1 - p) where an element is kept, else 0. x: (*S) -> (*S).

    0 <= p < 1. seed: an int of 64 bits, or an object whose `array` holds {seed, offset}, (2,) uint64 on the device.
    Element i of the row-major order is kept where the top 24 bits of the (i % 4)th number of Philox's counter
    offset + i // 4 reach p.
    """
    begin, offset = (seed, 0) if isinstance(seed, int) else (seed.array[0], seed.array[1])
    counters = xp.arange(-(-x.size // 4), dtype="u8") + offset
    drawn = xp.stack(philox(counters, begin), axis=1).reshape(-1)[: x.size] >> 8
    (rounded,) = struct.unpack("f", struct.pack("f", p))
    kept = (drawn >= math.ceil(rounded * 2**24)).reshape(x.shape)
    return narrow(xp.where(kept, wide(x) * (1.0 / (1.0 - p)), 0), x)


dropout.vjp(x=lambda F, g, *, p, seed: F.dropout(g, p=p, seed=seed))  # linear, and its own adjoint


def philox(counter, seed):
    """Philox4x32-10: four 32-bit numbers of each counter, as uint64. counter: (N,) uint64; seed: 64 bits.

    Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
    """
    c0, c1 = counter & LOW, counter >> 32
    c2 = c3 = counter * 0
    k0, k1 = seed & LOW, seed >> 32
    for _ in range(10):
        first, second = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (second >> 32) ^ c1 ^ k0, second & LOW, (first >> 32) ^ c3 ^ k1, first & LOW
        k0, k1 = (k0 + 0x9E3779B9) & LOW, (k1 + 0xBB67AE85) & LOW
    return c0, c1, c2, c3
