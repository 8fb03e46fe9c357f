"""A stand-in for the package `cudnn`: graphs are recorded, and computed with NumPy from what they declare alone.

So a wrong stride, address or uid gives a wrong result. The plans of a graph differ in their numerical notes, in what
they take as workspace and in the time that the stand-in's events show for them.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cuda_on_cpu as emulation
import ml_dtypes
import numpy as np
from records import conv as reference

KINDS = {
    "FLOAT": np.dtype("f4"), "DOUBLE": np.dtype("f8"), "HALF": np.dtype("f2"), "INT32": np.dtype("i4"),
    "BFLOAT16": np.dtype(ml_dtypes.bfloat16),
}  # fmt: skip
# a plan's notes, bytes of workspace and milliseconds; the first is one of the frontend's own engines
PLANS = [
    (None, 0, 0.0),
    ({"TENSOR_CORE", "NONDETERMINISTIC"}, 48, 5.0),
    ({"TENSOR_CORE"}, 0, 4.0),
    ({"DOWN_CONVERT_INPUTS"}, 16, 1.0),
    (set(), 32, 3.0),
    (set(), 64, 2.0),
]


class NotSupported(Exception):
    pass


class Tensor:
    """One tensor of a graph; `made`: how its values are made from those of others."""

    def __init__(self, dim: Any = None, stride: Any = None, data_type: Any = None, uid: Any = None, made: Any = None):
        self.dim, self.stride, self.data_type, self.uid, self.made = dim, stride, data_type, uid, made
        self.output = False

    def set_output(self, on: bool) -> Tensor:
        self.output = on
        return self

    def set_uid(self, uid: int) -> Tensor:
        self.uid = uid
        return self

    def set_dim(self, dim: list[int]) -> Tensor:
        self.dim = dim
        return self

    def set_stride(self, stride: list[int]) -> Tensor:
        self.stride = stride
        return self

    def set_data_type(self, kind: str) -> Tensor:
        self.data_type = kind
        return self


def at_address(address: int, tensor: Tensor) -> Any:
    """The memory of a tensor as an array."""
    dtype = KINDS[tensor.data_type]
    assert address % 16 == 0 or tensor.data_type == "INT32", "cuDNN takes operands at multiples of 16 bytes"
    assert len(tensor.dim) == len(tensor.stride) and min(tensor.stride) > 0
    span = 1 + sum((n - 1) * s for n, s in zip(tensor.dim, tensor.stride, strict=True))
    flat = np.asarray(emulation.Unowned(address, span * dtype.itemsize)).view(dtype)
    return np.lib.stride_tricks.as_strided(flat, tensor.dim, [s * dtype.itemsize for s in tensor.stride])


def convolution(which: str, first: Any, second: Any, shape: Any, kw: dict[str, Any]) -> Any:
    x_channels = {"conv": lambda: first.shape[1], "conv_input": lambda: shape[1], "conv_weight": lambda: first.shape[1]}
    w = shape if which == "conv_weight" else second.shape
    geometry = {k: tuple(v) for k, v in kw.items()} | {"groups": x_channels[which]() // w[1]}
    sized = {} if which == "conv" else {"shape": tuple(shape)}
    return getattr(reference, which)(first, second, **sized, **geometry)


def scores(q: Any, k: Any, kw: dict[str, Any], values: Any) -> Any:
    if kw.get("use_padding_mask"):
        for name, x in (("seq_len_q", q), ("seq_len_kv", k)):
            found = values(kw[name])
            assert found.shape == (len(q), 1, 1, 1) and (found == x.shape[2]).all()
    s = q @ k.swapaxes(2, 3) * kw["attn_scale"]
    if "diagonal_band_right_bound" in kw:
        assert kw["diagonal_alignment"] == "TOP_LEFT" and kw["diagonal_band_right_bound"] == 0
        s = np.where(np.arange(s.shape[3]) > np.arange(s.shape[2])[:, None], -np.inf, s)
    return s


class Graph:
    """What the adapter uses of cudnn.pygraph."""

    module: Any

    def __init__(self, **given: Any):
        self.given, self.tensors, self.barred, self.built = given, [], set(), set()
        self.deterministic = False
        self._lowered_graph = self if self.module.thin else None

    # ---- declaration

    def tensor(self, dim: Any, stride: Any, data_type: Any, uid: int, name: str) -> Tensor:
        made = Tensor(dim, stride, data_type, uid)
        self.tensors.append(made)
        return made

    def _made(self, function: Any) -> Tensor:
        made = Tensor(made=function)
        self.tensors.append(made)
        return made

    def conv_fprop(self, image: Tensor, weight: Tensor, **kw: Any) -> Tensor:
        return self._made(lambda of, out: convolution("conv", of(image), of(weight), out.dim, kw))

    def conv_dgrad(self, loss: Tensor, filter: Tensor, **kw: Any) -> Tensor:
        return self._made(lambda of, out: convolution("conv_input", of(loss), of(filter), out.dim, kw))

    def conv_wgrad(self, image: Tensor, loss: Tensor, **kw: Any) -> Tensor:
        return self._made(lambda of, out: convolution("conv_weight", of(image), of(loss), out.dim, kw))

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        assert a.dim and a.stride and len(b.dim) == len(a.dim)
        return self._made(lambda of, out: of(a) + of(b))

    def sdpa(self, q: Tensor, k: Tensor, v: Tensor, generate_stats: bool, **kw: Any) -> Any:
        assert generate_stats

        def weights(of: Any) -> Any:
            s = scores(of(q), of(k), kw, of)
            top = s.max(3, keepdims=True)
            return s, top + np.log(np.exp(s - top).sum(3, keepdims=True))

        def out(of: Any, _: Any) -> Any:
            s, stats = weights(of)
            return np.exp(s - stats) @ of(v)

        return self._made(out), self._made(lambda of, _: weights(of)[1])

    def sdpa_backward(self, **kw: Any) -> Any:
        q, k, v, o, g, stats = (kw.pop(name) for name in ("q", "k", "v", "o", "dO", "stats"))
        self.deterministic = kw.pop("use_deterministic_algorithm", False)

        def gradients(of: Any) -> Any:
            p = np.exp(scores(of(q), of(k), kw, of) - of(stats))
            d = of(g) @ of(v).swapaxes(2, 3) - (of(g) * of(o)).sum(3, keepdims=True)
            d = p * d * kw["attn_scale"]
            return d @ of(k), d.swapaxes(2, 3) @ of(q), p.swapaxes(2, 3) @ of(g)

        return [self._made(lambda of, _, i=i: gradients(of)[i]) for i in range(3)]

    # ---- plans

    def validate(self) -> None:
        uids = [t.uid for t in self.tensors if t.uid is not None]
        assert len(uids) == len(set(uids))

    def build_operation_graph(self) -> None:
        pass

    def create_execution_plans(self, modes: list[str]) -> None:
        assert modes == ["A", "FALLBACK"]
        self.plans = [
            SimpleNamespace(cpp_index=None if notes is None else i - 1) for i, (notes, *_) in enumerate(PLANS)
        ]

    def deselect_numeric_notes(self, notes: list[str]) -> None:
        self.barred |= set(notes)

    def check_support(self) -> None:
        if self.module.refuses(self):
            raise NotSupported("the stand-in was told to refuse")
        self.module.graphs.append(self)

    def build_plan_at_index(self, index: int) -> None:
        notes = PLANS[index][0]
        assert notes is not None, "an engine of the frontend's own"
        if notes & self.barred:
            raise NotSupported(f"plan {index} is barred")
        self.built.add(index)

    def get_workspace_size_plan_at_index(self, index: int) -> int:
        assert index in self.built
        return PLANS[index][1]

    # ---- execution

    def execute_plan_at_index(self, addresses: dict[int, int], workspace: int, index: int, handle: Any) -> None:
        self._execute_plan_at_index(addresses, workspace, self.plans[index].cpp_index, handle.backend_handle)

    def _execute_plan_at_index(self, addresses: dict[int, int], workspace: int, number: int, handle: int) -> None:
        index = number + 1
        assert index in self.built and (workspace != 0) == (PLANS[index][1] > 0) and handle in self.module.handles
        self.module.executed.append((self, index, dict(addresses)))
        self.module.clock += PLANS[index][2]
        if not self.module.computes:
            return
        assert set(addresses) == {t.uid for t in self.tensors if t.uid is not None}
        known: dict[int, Any] = {}

        def value(t: Tensor) -> Any:
            if id(t) not in known:
                known[id(t)] = t.made(value, t) if t.made else at_address(addresses[t.uid], t).astype("f8")
            return known[id(t)]

        for t in self.tensors:
            if t.output:
                made = value(t)
                assert list(made.shape) == list(t.dim)
                at_address(addresses[t.uid], t)[...] = made


class Words:
    def __getattr__(self, name: str) -> str:
        return name


class Frontend:
    """The module: `graphs` that were planned, `executed` (graph, plan, addresses), `streams` that were set."""

    cudnnGraphNotSupportedError = NotSupported

    def __init__(self, computes: bool = True, thin: bool = True) -> None:
        self.computes, self.thin = computes, thin
        self.data_type = self.heur_mode = self.numerical_note = self.diagonal_alignment = Words()
        self.pygraph = type("pygraph", (Graph,), {"module": self})
        self.graphs: list[Graph] = []
        self.executed: list[Any] = []
        self.streams: list[Any] = []
        self.handles: list[int] = []
        self.clock = 0.0
        self.refuses = lambda graph: False

    def backend_version(self) -> int:
        return 91900

    def create_handle(self) -> Any:
        self.handles.append(1000 + len(self.handles))
        return SimpleNamespace(backend_handle=self.handles[-1])

    def set_stream(self, handle: Any, stream: int) -> None:
        self.streams.append((handle.backend_handle, stream))

    def cuda(self) -> Any:
        """What the adapter uses of cupy.cuda; `stream.ptr` is the current stream."""
        frontend = self

        class Event:
            def record(self) -> None:
                self.at = frontend.clock

            def synchronize(self) -> None:
                pass

        found = SimpleNamespace(Event=Event, stream=SimpleNamespace(ptr=0))
        found.get_current_stream = lambda: found.stream
        found.get_elapsed_time = lambda start, end: end.at - start.at
        return found
