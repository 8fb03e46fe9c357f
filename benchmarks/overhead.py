"""What recording costs: chains of small ops, and Module calls, as ratios to torch measured in the same run.

    python benchmarks/overhead.py [--rounds N]

Rounds of the two libraries are interleaved, each with one thread; medians. Below 1 tapegrad is faster. Without torch
installed only tapegrad's own times are printed.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.pop("OPENBLAS_CORETYPE", None)
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402
import tapegrad  # noqa: E402

try:
    import torch as peer
except ImportError:
    peer = None

LENGTH = 250  # of the loop; four ops each, so 1000 ops


def chain(lib: Any, shape: tuple[int, ...]) -> dict[str, Callable[[], Any]]:
    """The chain h = tanh(h * a + b) - b on tensors of `shape`."""
    rng = np.random.default_rng(0)
    x = lib.tensor((rng.standard_normal(shape) * 0.1).astype("f4"), requires_grad=True)
    a = lib.tensor((1.02 + 0.001 * rng.standard_normal(shape)).astype("f4"), requires_grad=True)
    b = lib.tensor((0.02 * rng.standard_normal(shape)).astype("f4"), requires_grad=True)

    def forward() -> Any:
        h = x
        for _ in range(LENGTH):
            h = ((h * a) + b).tanh() - b
        return h.sum()

    def forward_backward() -> Any:
        x.grad = a.grad = b.grad = None
        forward().backward()
        return x.grad

    def no_grad() -> Any:
        with lib.no_grad():
            return forward()

    return {"forward": forward, "forward + backward": forward_backward, "no_grad forward": no_grad}


def scalars(lib: Any) -> dict[str, Callable[[], Any]]:
    """The same with Python numbers instead of tensors, on shape (8,)."""
    x = lib.tensor(np.linspace(-1, 1, 8).astype("f4"), requires_grad=True)

    def forward_backward() -> Any:
        x.grad = None
        h = x
        for _ in range(LENGTH):
            h = ((h * 1.02) + 0.02).tanh() - 0.02
        h.sum().backward()
        return x.grad

    return {"forward + backward, numbers": forward_backward}


def modules(lib: Any) -> dict[str, Callable[[], Any]]:
    """The cost of Module.__call__ around an empty forward, 1000 times."""

    class Empty(lib.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x

    module, x = Empty(), lib.ones(1)

    def calls() -> None:
        for _ in range(1000):
            module(x)

    def plain() -> None:
        forward = module.forward
        for _ in range(1000):
            forward(x)

    return {"Module call": calls, "(its forward alone)": plain}


def median_times(functions: list[Callable[[], Any]], rounds: int) -> list[float]:
    """The median seconds of each, their runs interleaved."""
    times: list[list[float]] = [[] for _ in functions]
    for f in functions:
        f()
    for _ in range(rounds):
        for record, f in zip(times, functions, strict=True):
            began = time.perf_counter()
            for _ in range(4):
                f()
            record.append((time.perf_counter() - began) / 4)
    return [statistics.median(t) for t in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    if peer is not None:
        peer.set_num_threads(1)
    machine, found = platform.processor() or platform.machine(), getattr(peer, "__version__", "absent")
    print(f"{machine}, NumPy {np.__version__}, torch {found}")
    print(f"{'what (1000 ops)':44} {'tapegrad us':>12} {'torch us':>10} {'ratio':>7}")
    cases: list[tuple[str, Callable[[Any], dict[str, Callable[[], Any]]]]] = [
        (f"chain on {shape}, ", lambda lib, shape=shape: chain(lib, shape)) for shape in ((), (8,), (64, 64))
    ]
    cases += [("chain on (8,), ", scalars), ("", modules)]
    for title, make in cases:
        ours = make(tapegrad)
        theirs = make(peer) if peer is not None else {}
        for name, f in ours.items():
            both = median_times([f, *([theirs[name]] if theirs else [])], rounds)
            ratio = f"{both[0] / both[1]:.2f}" if theirs else ""
            other = f"{both[1] * 1e3:.2f}" if theirs else ""
            print(f"{title + name:44} {both[0] * 1e3:12.2f} {other:>10} {ratio:>7}", flush=True)


if __name__ == "__main__":
    main()
