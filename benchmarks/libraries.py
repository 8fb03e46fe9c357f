"""The libraries that can be measured: how each is imported, what its process is started with, how it is told to wait.

A library is torch-like (the workloads run in it as they are written) or has idiomatic code of its own in `peers/`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Library:
    """name: the column; module: what is imported; package: whose version is told; peer: its file in `peers/`."""

    name: str
    module: str
    package: str
    peer: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    backends: tuple[str, ...] = ("numpy",)
    needs: tuple[str, ...] = ()  # further modules without which it is absent


LIBRARIES = {
    library.name: library
    for library in (
        Library("tapegrad", "tapegrad", "tapegrad", None, {"TAPEGRAD_FAST": "0"}, ("numpy", "cupy")),
        Library("tapegrad+fast", "tapegrad", "tapegrad", None, {"TAPEGRAD_FAST": "1"}, needs=("numba",)),
        Library("torch", "torch", "torch", backends=("numpy", "cupy")),
        Library("torch.compile", "torch", "torch", backends=("numpy", "cupy")),
        Library("jax", "jax", "jax", "jax_peer", {"JAX_PLATFORMS": "cpu"}),
        Library("tinygrad", "tinygrad", "tinygrad", "tinygrad_peer", {"DEV": "CPU", "CPU": "1"}),
        Library("autograd", "autograd", "autograd", "autograd_peer"),
        Library("mygrad", "mygrad", "mygrad", "mygrad_peer"),
    )
}
DEFAULT = ("tapegrad", "tapegrad+fast", "torch")
REFERENCE = "torch"  # ratios are to this one
