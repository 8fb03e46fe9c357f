"""cuBLASLt on host memory: nvmath's bindings as far as the CuPy backend calls them, executed with NumPy.

`Bindings` knows nothing of arrays: it sees descriptors, layouts and addresses, and multiplies what lies there by the
rules of cublasLt.h: matrices by columns, leading dimensions, steps from one matrix to the next, epilogues. What the
header forbids is an error.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np
from cuda_on_cpu import GUARD, UNSET, Memory
from tapegrad.backends.cupy import cublaslt, launch

SCALES = {0: "f4", 1: "f8", 2: "f2"}
DESCRIPTION = {3: "transa", 4: "transb", 7: "epilogue", 8: "vector"}
SIZES = {3: 4, 4: 4, 7: 4, 8: 8}


class LtError(Exception):
    """nvmath.bindings.cublasLt.cuBLASLtError."""

    def __init__(self, status: int):
        super().__init__(f"status {status}")
        self.status = status


def bytes_at(address: int, count: int) -> Any:
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_uint8)), (count,))


def tf32(x: Any) -> Any:
    """float32 rounded to ten bits of fraction, to the nearest, halves away from zero."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)


def gelu(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


class Bindings:
    """calls: of each matmul, all but the addresses. refused: epilogues for which there is no algorithm."""

    cuBLASLtError = LtError
    matmul_heuristic_result_dtype = np.dtype(
        [("algo", [("data_", "u8", (8,))]), ("workspace_size", "u8"), ("state", "i4"), ("waves_count", "f4"),
         ("reserved", "i4", (4,))]
    )  # fmt: skip

    def __init__(self, execute: bool = True):
        self.execute = execute
        self.held: dict[int, dict[str, Any]] = {}
        self.calls: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.refused: set[int] = set()
        self.failure = 0
        self.next = 1000

    def _new(self, **fields: Any) -> int:
        self.next += 1
        self.held[self.next] = fields
        return self.next

    def _destroy(self, handle: int, kind: str) -> None:
        assert self.held.pop(handle)["kind"] == kind

    def create(self) -> int:
        return self._new(kind="handle")

    # ---- descriptors

    def matmul_desc_create(self, compute: int, scale: int) -> int:
        assert compute in (64, 68, 70, 77)
        return self._new(kind="description", compute=compute, scale=scale, transa=0, transb=0, epilogue=1, vector=0)

    def matmul_desc_set_attribute(self, description: int, attribute: int, buffer: int, size: int) -> None:
        assert size == SIZES[attribute]
        self.held[description][DESCRIPTION[attribute]] = int.from_bytes(ctypes.string_at(buffer, size), "little")

    def matmul_desc_destroy(self, description: int) -> None:
        self._destroy(description, "description")

    def matrix_layout_create(self, kind: int, rows: int, cols: int, ld: int) -> int:
        assert rows > 0 and cols > 0 and ld >= rows
        return self._new(kind="layout", type=kind, rows=rows, cols=cols, ld=ld, batch=1, step=0)

    def matrix_layout_set_attribute(self, layout: int, attribute: int, buffer: int, size: int) -> None:
        name, expected = {5: ("batch", 4), 6: ("step", 8)}[attribute]
        assert size == expected
        self.held[layout][name] = int.from_bytes(ctypes.string_at(buffer, size), "little", signed=True)
        assert self.held[layout][name] >= (name == "batch")

    def matrix_layout_destroy(self, layout: int) -> None:
        self._destroy(layout, "layout")

    def matmul_preference_create(self) -> int:
        return self._new(kind="preference", workspace=0, reductions=7, **dict.fromkeys(("a", "b", "c", "d"), 256))

    def matmul_preference_set_attribute(self, preference: int, attribute: int, buffer: int, size: int) -> None:
        name = {1: "workspace", 3: "reductions", 5: "a", 6: "b", 7: "c", 8: "d"}[attribute]
        assert size == (8 if name == "workspace" else 4)
        self.held[preference][name] = int.from_bytes(ctypes.string_at(buffer, size), "little")

    def matmul_preference_destroy(self, preference: int) -> None:
        self._destroy(preference, "preference")

    # ---- planning and computing

    def matmul_algo_get_heuristic(
        self, handle: int, description: int, a: int, b: int, c: int, d: int, preference: int, wanted: int, results: int,
        count: int,
    ) -> None:  # fmt: skip
        """Writes one result, by which `matmul` knows the algorithm again."""
        assert self.held[handle]["kind"] == "handle" and wanted == 1
        if self.failure:
            raise LtError(self.failure)
        self.asked.append(dict(self.held[preference]))
        epilogue = self.held[description]["epilogue"]
        refused = epilogue in self.refused
        if not refused:
            result = bytes_at(results, 96).view(self.matmul_heuristic_result_dtype)
            result["algo"]["data_"] = [description, a, b, c, d, handle, len(self.asked), 7]
            result["workspace_size"], result["state"] = 1 << 20, 0
            self.held[description]["aligned"] = dict(self.held[preference])
        ctypes.c_int32.from_address(count).value = not refused

    def matmul(
        self, handle: int, description: int, alpha: int, a: int, a_layout: int, b: int, b_layout: int, beta: int,
        c: int, c_layout: int, d: int, d_layout: int, algorithm: int, workspace: int, workspace_size: int, stream: int,
    ) -> None:  # fmt: skip
        """cublasLtMatmul; see the module's text."""
        how = self.held[description]
        layouts = {n: self.held[x] for n, x in (("a", a_layout), ("b", b_layout), ("c", c_layout), ("d", d_layout))}
        plan = bytes_at(algorithm, 64).view("u8").tolist()
        assert plan[:6] == [description, a_layout, b_layout, c_layout, d_layout, handle] and plan[7] == 7
        assert workspace and workspace % 256 == 0 and workspace_size == 32 << 20
        for name, address in (("a", a), ("b", b), ("c", c), ("d", d)):
            assert address % how["aligned"][name] == 0, "the plan was made for memory that lies better"
        scale = np.dtype(SCALES[how["scale"]])
        factors = [float(bytes_at(x, scale.itemsize).view(scale)[0]) for x in (alpha, beta)]
        shown = {k: v for k, v in how.items() if k in ("compute", "scale", "transa", "transb", "epilogue")}
        self.calls.append({**shown, **{k: dict(v) for k, v in layouts.items()}, "factors": factors, "stream": stream})
        if self.execute:
            self._run(how, layouts, factors, {"a": a, "b": b, "c": c, "d": d})

    def _run(self, how: Any, layouts: Any, factors: Any, at: dict[str, int]) -> None:
        m, n = layouts["d"]["rows"], layouts["d"]["cols"]
        k = layouts["a"]["rows" if how["transa"] else "cols"]
        assert (m, k) == tuple(layouts["a"][x] for x in (("cols", "rows") if how["transa"] else ("rows", "cols")))
        assert (k, n) == tuple(layouts["b"][x] for x in (("cols", "rows") if how["transb"] else ("rows", "cols")))
        for i in range(layouts["d"]["batch"]):
            a, b, c, d = (matrix(layouts[x], at[x], i) for x in "abcd")
            d[...] = self._one(how, a.T if how["transa"] else a, b.T if how["transb"] else b, c, factors)

    def _one(self, how: Any, a: Any, b: Any, c: Any, factors: Any) -> Any:
        dtype, wide = c.dtype, np.float64 if how["compute"] == 70 else np.float32
        rounded = tf32 if how["compute"] == 77 else lambda x: x.astype(wide)
        out = factors[0] * (rounded(a) @ rounded(b))
        if factors[1]:
            out = out + factors[1] * c.astype(wide)
        epilogue = how["epilogue"]
        if epilogue in (cublaslt.BIAS, cublaslt.GELU_BIAS):
            out = out + vector(how, len(out), dtype)[:, None].astype(wide)
        if epilogue == cublaslt.BIAS_GRADIENT:
            assert how["transb"], "bias gradients of b want it transposed"
            vector(how, b.shape[1], dtype)[...] = b.astype(wide).sum(0)
        if epilogue in (cublaslt.GELU, cublaslt.GELU_BIAS):
            out = gelu(out)
        return out.astype(dtype)


def vector(how: Any, length: int, dtype: Any) -> Any:
    assert how["vector"] and how["vector"] % 16 == 0
    return bytes_at(how["vector"], length * dtype.itemsize).view(dtype)


def matrix(layout: Any, address: int, i: int) -> Any:
    """The i-th matrix of a layout: neighbours in a column lie side by side."""
    dtype = np.dtype(cublaslt.TYPES[layout["type"]]) if layout["type"] != 14 else np.dtype("bfloat16")
    size, rows, cols, ld = dtype.itemsize, layout["rows"], layout["cols"], layout["ld"]
    flat = bytes_at(address + i * layout["step"] * size, ((cols - 1) * ld + rows) * size).view(dtype)
    return np.lib.stride_tricks.as_strided(flat, (rows, cols), (size, ld * size))


class HostMachine(launch.Machine):
    """Machine whose memory is NumPy's, and whose cuBLASLt is `Bindings`."""

    def __init__(self, xp: Any = None, execute: bool = True):
        super().__init__(xp or AlignedMemory())
        self.api = Bindings(execute)
        self.lt = cublaslt.Lt(self.api, self)
        self.where, self.on, self.in_capture = 0, 55, False

    def pointer(self, array: Any) -> int:
        return array.__array_interface__["data"][0] if isinstance(array, np.ndarray) else array.data.ptr

    def device(self) -> int:
        return self.where

    def stream(self) -> int:
        return self.on

    def capturing(self) -> bool:
        return self.in_capture

    def processors(self) -> int:
        return 2


class AlignedMemory(Memory):
    """Arrays between guard zones, at multiples of 256 bytes as in CuPy; `skew`: bytes by which they miss it."""

    copies = 0

    def empty(self, shape: Any, dtype: Any = float, order: str = "C") -> Any:
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        raw = np.empty(size + 2 * GUARD + 256, np.uint8)
        start = GUARD + -(raw.ctypes.data + GUARD) % 256 + self.skew
        raw[:start] = raw[start + size :] = UNSET
        self.zones.append((weakref.ref(raw), start, size))
        return raw[start : start + size].view(dtype).reshape(shape, order=order)

    def ascontiguousarray(self, x: Any) -> Any:
        self.copies += 1
        return super().ascontiguousarray(x)
