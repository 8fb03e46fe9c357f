"""Matrix products through cuBLASLt by nvmath's bindings: planned once, with epilogues, in a workspace of our own.

nvmath calls its bindings experimental, so all that is asked of them is in this file. Unlike CuPy's cuBLAS it can be
captured into a CUDA graph: nothing is allocated or asked of the library when a plan is there, and the workspace stays.

cuBLASLt's matrices lie by columns; c (M, N) = alpha op(a) (M, K) op(b) (K, N) + beta c. Epilogues:

    BIAS            plus a vector (M,) in each column
    GELU, _BIAS     the tanh approximation of GELU of that
    BIAS_GRADIENT   also writes the vector (N,) of op(b)'s sums over K; b must lie transposed

Constants and sizes are those of cublasLt.h, 13.0; they have not changed since CUDA 11.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, NamedTuple

import numpy as np

from ..cuda import held
from .compile import outside

WORKSPACE = 32 << 20  # bytes; NVIDIA's figure for Hopper
MOST_PLANS = 2048

PLAIN, BIAS, GELU, GELU_BIAS, BIAS_GRADIENT = 1, 4, 32, 36, 512  # cublasLtEpilogue_t

# The attributes that are set: (number, type of the value), of cublasLtMatmulDescAttributes_t, ..LayoutAttribute_t, ..
DESCRIPTION = {"transposed a": (3, "i4"), "transposed b": (4, "i4"), "epilogue": (7, "u4"), "vector": (8, "u8")}
LAYOUT = {"batch": (5, "i4"), "step": (6, "i8")}
PREFERENCE = {"workspace": (1, "u8"), "reductions": (3, "u4"), "align a": (5, "u4"), "align b": (6, "u4"),
              "align c": (7, "u4"), "align d": (8, "u4")}  # fmt: skip

# cublasComputeType_t -> cudaDataType_t of alpha and beta, and NumPy's
SCALE = {64: (2, "f2"), 68: (0, "f4"), 77: (0, "f4"), 70: (1, "f8")}
TYPES = {0: "float32", 1: "float64", 2: "float16", 14: "bfloat16"}
# (sums in half precision allowed, a product may be split) -> cublasLtReductionScheme_t's that may be chosen
REDUCTIONS = {(True, True): 7, (False, True): 3, (False, False): 0}

NOT_SUPPORTED, INVALID = 15, 7  # cublasStatus_t

MISSING: Any = object()


class Product(NamedTuple):
    """What a plan is made for."""

    device: int
    transposed: tuple[bool, bool]
    sizes: tuple[int, int, int]
    leading: tuple[int, int, int]
    steps: tuple[int, int, int]
    batch: int
    data: tuple[int, int]
    compute: int
    epilogue: int
    reductions: int
    alignment: tuple[int, int, int]

    def __str__(self) -> str:
        (n, m, k), batch = self.sizes, f"{self.batch} x " if self.batch > 1 else ""
        return f"{batch}({m}, {k}) times ({k}, {n}) in {TYPES[self.data[0]]}"


class Plan:
    """The descriptors of a product and the algorithm that cuBLASLt chose for it."""

    __slots__ = ("api", "description", "layouts", "found", "algorithm", "vector", "vector_at")

    def __init__(self, api: Any, asked: Product):
        """The descriptors; `choose` adds the algorithm."""
        self.api, self.description, self.algorithm = api, 0, 0
        self.layouts: list[int] = []
        self.found: Any = None
        self.vector = np.zeros(1, "u8")
        self.vector_at = self.vector.ctypes.data
        self.description = api.matmul_desc_create(asked.compute, SCALE[asked.compute][0])
        for name, value in zip(DESCRIPTION, (*asked.transposed, asked.epilogue), strict=False):
            _set(api.matmul_desc_set_attribute, self.description, DESCRIPTION[name], value)
        m, n, k = asked.sizes
        stored = ((m, k), (k, n), (m, n))
        for i, (size, leading, step) in enumerate(zip(stored, asked.leading, asked.steps, strict=True)):
            rows, columns = size[::-1] if i < 2 and asked.transposed[i] else size
            layout = api.matrix_layout_create(asked.data[i == 2], rows, columns, leading)
            self.layouts.append(layout)
            if asked.batch > 1:
                _set(api.matrix_layout_set_attribute, layout, LAYOUT["batch"], asked.batch)
                _set(api.matrix_layout_set_attribute, layout, LAYOUT["step"], step)

    def use(self, address: int) -> None:
        """Sets the bias, or where its gradient goes."""
        self.vector[0] = address
        self.api.matmul_desc_set_attribute(self.description, DESCRIPTION["vector"][0], self.vector_at, 8)

    def choose(self, handle: int, asked: Product) -> bool:
        """Asks cuBLASLt for its best algorithm; whether there is one."""
        api = self.api
        preference = api.matmul_preference_create()
        try:
            values = (WORKSPACE, asked.reductions, *asked.alignment, asked.alignment[2])
            for attribute, value in zip(PREFERENCE.values(), values, strict=True):
                _set(api.matmul_preference_set_attribute, preference, attribute, value)
            found, count = np.zeros(1, api.matmul_heuristic_result_dtype), np.zeros(1, "i4")
            a, b, c = self.layouts
            try:
                api.matmul_algo_get_heuristic(
                    handle, self.description, a, b, c, c, preference, 1, found.ctypes.data, count.ctypes.data
                )
            except api.cuBLASLtError as error:
                if error.status not in (NOT_SUPPORTED, INVALID):
                    raise
                return False
            if not count[0] or found["state"][0]:
                return False
        finally:
            api.matmul_preference_destroy(preference)
        # the algorithm is the first field of the result
        self.found, self.algorithm = found, found.ctypes.data
        return True

    def __del__(self) -> None:
        for layout in self.layouts:
            self.api.matrix_layout_destroy(layout)
        if self.description:
            self.api.matmul_desc_destroy(self.description)


def _set(function: Any, holder: int, attribute: tuple[int, str], value: int) -> None:
    number, kind = attribute
    stored = np.array([value], kind)
    function(holder, number, stored.ctypes.data, stored.itemsize)


@functools.lru_cache(maxsize=512)
def factors(alpha: float, beta: float, kind: str) -> tuple[Any, int, int]:
    """(what holds them, address of alpha, address of beta), in host memory."""
    both = np.array([alpha, beta], kind)
    return both, both.ctypes.data, both.ctypes.data + both.itemsize


def aligned(address: int) -> int:
    """The alignment that plans tell apart: 256 bytes as new memory has, else at most 16, as far as loads are wide."""
    return 256 if not address & 255 else min(16, address & -address)


class Lt:
    """cuBLASLt on the machine's devices: plans, and a workspace for each stream."""

    def __init__(self, api: Any, machine: Any):
        self.api, self.machine = api, machine
        self.plans: dict[tuple[Any, ...], Plan | None] = {}  # by the fields of Product
        self.handles: dict[int, int] = {}
        self.workspaces: dict[tuple[int, int], tuple[Any, int]] = {}
        self.lock = threading.Lock()

    def product(
        self, transposed: tuple[bool, bool], sizes: tuple[int, int, int], alpha: float, a: tuple[Any, int, int],
        b: tuple[Any, int, int], beta: float, c: tuple[Any, int, int], batch: int, data: tuple[int, int],
        compute: int, epilogue: int = PLAIN, vector: Any = None,
    ) -> bool:  # fmt: skip
        """As Machine.gemm, and with an epilogue. False, and nothing done, where cuBLASLt has no way to compute it.

        vector: the bias, or what the bias gradient is written into; of c's dtype, at a multiple of 16 bytes.
        RuntimeError for a product without a plan while a CUDA graph is captured.
        """
        machine = self.machine
        pointer, device = machine.pointer, machine.device()
        (x, a_leading, a_step), (y, b_leading, b_step), (z, c_leading, c_step) = a, b, c
        at, bt, ct = pointer(x), pointer(y), pointer(z)
        asked = (
            device, transposed, sizes, (a_leading, b_leading, c_leading), (a_step, b_step, c_step), batch, data,
            compute, epilogue, REDUCTIONS[held[data[0]]] if data[0] in held else 7,
            (aligned(at), aligned(bt), aligned(ct)),
        )  # fmt: skip
        plan = self.plans.get(asked, MISSING)
        if plan.__class__ is not Plan:
            plan = self.planned(Product(*asked), vector) if plan is MISSING else None
            if plan is None:
                return False
        _, first, second = factors(alpha, beta, SCALE[compute][1])
        stream = machine.stream()
        workspace = self.workspaces.get((device, stream)) or self.workspace(device, stream)
        left, right, made = plan.layouts
        arguments = (
            self.handles[device], plan.description, first, at, left, bt, right, second, ct, made, ct, made,
            plan.algorithm, workspace[1], WORKSPACE, stream,
        )  # fmt: skip
        if vector is None:
            self.api.matmul(*arguments)
            return True
        with self.lock:  # another thread may run the same plan with another vector
            plan.use(pointer(vector))
            self.api.matmul(*arguments)
        return True

    def planned(self, asked: Product, vector: Any) -> Plan | None:
        """Makes and keeps the plan; None, kept too, where cuBLASLt has no algorithm."""
        if self.machine.capturing():
            raise RuntimeError(
                f"matrix product {asked}: there is no plan for it, and none can be made while a CUDA graph is being "
                "captured. Run the step once with the same shapes, dtypes and settings before it is captured."
            )
        with self.lock:
            if asked in self.plans:  # another thread was faster
                return self.plans[asked]
            if asked.device not in self.handles:
                self.handles[asked.device] = self.api.create()
            plan = Plan(self.api, asked)
            if vector is not None:  # cuBLASLt goes by its alignment
                plan.use(self.machine.pointer(vector))
            kept = plan if plan.choose(self.handles[asked.device], asked) else None
            while len(self.plans) >= MOST_PLANS:
                del self.plans[next(iter(self.plans))]
            self.plans[asked] = kept
        return kept

    def workspace(self, device: int, stream: int) -> tuple[Any, int]:
        """(what holds it, its address) of the memory that products on a stream of the current device work in."""
        memory = self.machine.xp.empty((WORKSPACE,), "u1")
        made = self.workspaces[device, stream] = (memory, self.machine.pointer(memory))
        return made

    def release(self, stream: int) -> Any:
        """Forgets the workspace of a stream of the current device and returns its memory, None where there is none.

        A captured graph keeps it: its replays, on whatever stream, then share it with no other work.
        """
        return self.workspaces.pop((self.machine.device(), stream), (None, 0))[0]


def found(machine: Any) -> tuple[Lt | None, str]:
    """(cuBLASLt, "") where nvmath and the library are installed, else (None, why not)."""
    if getattr(machine.xp, "__name__", "") != "cupy":
        return None, "it computes on CuPy's arrays"
    try:
        api = outside("nvmath.bindings.cublasLt")
    except ImportError as error:
        return None, f"{error}: pip install 'nvmath-python~=1.0'"
    try:
        api.get_version()
    except Exception as error:  # nvmath raises kinds of its own where the library or the driver is missing
        return None, f"nvmath finds no cuBLASLt: {error}"
    return Lt(api, machine), ""
