"""Tensor: a raw array, whether its gradient is wanted, the gradient, and the edge to its history.

This file owns the state and what touches it. The mathematics is in ops/ (on arrays) and api/ (PyTorch's functions),
whose table gives the class its methods.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends.registry import backend_of
from . import coerce
from .codegen import ENVIRONMENT
from .device import device, device_of
from .dtypes import dtype, from_numpy_dtype
from .graph import is_node, shown, stand_in
from .layout import strided
from .modes import mode, shared
from .op import OPS
from .size import Size, shape_of
from .versions import UNTRACKED, version

new = object.__new__

# Attributes of the tape's own that few tensors have: views of it, the mark of inference mode, hooks, retained gradient.
RARE = frozenset({"_views", "_inference", "_hooks", "_after_hooks", "_retains"})


class Tensor:
    """A multi-dimensional array of one dtype on one device, which records what is computed from it.

    Made by `tensor`, `zeros`, `randn`, ..., not by calling the class (`Tensor(2, 3)` is PyTorch's legacy form: an
    uninitialised float32 tensor; `Tensor([1, 2])` one of that data).

    Attributes:
        array: the raw array of the backend (np.ndarray on the CPU); shared, not copied.
        requires_grad: whether `backward` fills `.grad`.
        grad: the gradient, a Tensor of the same shape and dtype, or None.
    """

    # What every tensor has. The rest (RARE) lives in __dict__, since each slot costs every op's result some time.
    __slots__ = ("array", "_rg", "_grad", "_node", "_view", "__dict__", "__weakref__")

    array: Any
    _rg: bool
    _node: Any
    _view: Any
    _grad: Any
    __array_priority__ = 1000  # ndarray * tensor is tensor.__rmul__(ndarray)

    if TYPE_CHECKING:

        _inference: bool
        _hooks: Any
        _after_hooks: Any
        _retains: bool

        def __getattr__(self, name: str) -> Any: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __eq__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...

    def __new__(cls, *args: Any, **kwargs: Any) -> Tensor:
        self = object.__new__(cls)
        self.array, self._rg, self._node, self._view = _EMPTY, False, None, None
        return self

    def __init__(self, *data: Any, device: Any = None):
        from .api.creation import legacy_array

        self.array = legacy_array(data, device)

    @classmethod
    def _of(cls, array: Any, requires_grad: bool = False) -> Tensor:
        """A tensor around an existing raw array, without a copy."""
        t = new(cls)
        t.array = array
        t._rg = requires_grad
        t._node = t._view = None
        if shared["inference_blocks"] and mode.inference:
            t._inference = True
        return t

    # ---- what it is

    @property
    def shape(self) -> Size:
        return shape_of(self.array.shape)

    @property
    def dtype(self) -> dtype:
        return from_numpy_dtype(self.array.dtype)

    @property
    def device(self) -> device:
        array = self.array
        return device_of(array, backend_of(array))

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def itemsize(self) -> int:
        return self.array.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    is_sparse = is_quantized = is_meta = is_nested = is_mkldnn = is_xpu = is_mps = False
    layout = strided
    names: Any = None

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def is_cpu(self) -> bool:
        return self.device.type == "cpu"

    @property
    def _version(self) -> int:
        return version(self.array)

    @property
    def _base(self) -> Tensor | None:
        view = getattr(self, "_view", None)
        return None if view is None or view is UNTRACKED else view.base

    def _is_view(self) -> bool:
        return self._base is not None

    # ---- autograd

    @property
    def requires_grad(self) -> bool:
        return self._rg

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value.__class__ is not bool:
            raise RuntimeError("requires_grad must be a bool")
        if self._node is not None:
            if not value:
                raise RuntimeError(
                    "you can only change requires_grad flags of leaf variables. If you want to use a computed variable "
                    "in a subgraph that doesn't require differentiation use var_no_grad = var.detach()."
                )
            return
        if value and self.array.dtype.kind not in "fcV":
            raise RuntimeError(
                f"only Tensors of floating point dtype can require gradients (this one is {self.dtype})"
            )
        if value and getattr(self, "_inference", False) and not mode.inference:
            raise RuntimeError("Setting requires_grad=True on inference tensor outside InferenceMode is not allowed.")
        self._rg = bool(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Sets `requires_grad` of a leaf, in place. Gives the tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        return self._node is None

    @property
    def grad_fn(self) -> Any:
        return shown(self._node)

    @property
    def output_nr(self) -> int:
        node = self._node
        return node.saved[1] if node is not None and shown(node) is not node else 0

    @property
    def grad(self) -> Tensor | None:
        try:
            return self._grad
        except AttributeError:
            if self._node is not None and not getattr(self, "_retains", False):
                warnings.warn(
                    "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute "
                    "won't be populated during autograd.backward(). If you indeed want the .grad field to be populated "
                    "for a non-leaf Tensor, use .retain_grad() on the non-leaf Tensor.",
                    UserWarning,
                    stacklevel=2,
                )
            return None

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"assigned grad expected to be a Tensor or None but got grad of type {type(value).__name__}"
                )
            if value is self:
                raise RuntimeError("can't assign Variable as its own grad")
            if value.shape != self.shape:
                raise RuntimeError(
                    f"attempting to assign a gradient of size '{list(value.shape)}' to a tensor of size "
                    f"'{list(self.shape)}'. Please ensure that the gradient and the tensor are the same size "
                    "(assigned grad has data of a different size)"
                )
            if value.dtype != self.dtype:
                raise RuntimeError(
                    f"attempting to assign a gradient with dtype '{value.dtype}' to a tensor with grad_dtype "
                    f"'{self.dtype}'. The gradient must match the tensor's dtype "
                    "(assigned grad has data of a different type)"
                )
            if value.device != self.device:
                raise RuntimeError(
                    f"attempting to assign a gradient with device '{value.device}' to a tensor with device "
                    f"'{self.device}' (assigned grad has data located on a different device)"
                )
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Adds the gradient of this tensor to `.grad` of every leaf of its graph.

        Args:
            gradient: the gradient of the final result with respect to this tensor, of its shape; may be left out for
                a tensor of one element.
            retain_graph: keep the saved values for another backward; by default what `create_graph` says.
            create_graph: record the backward pass too, for higher orders.
            inputs: a tensor or sequence of tensors; only their `.grad` is filled.

        Raises RuntimeError for a tensor without history, a second backward through freed values, a wrong shape.
        """
        from .grads import backward

        backward(self, gradient, retain_graph, create_graph, inputs)

    def detach(self) -> Tensor:
        """The same memory without history: requires_grad is False."""
        t = new(type(self) if type(self) is Tensor else Tensor)
        t.array, t._rg, t._node = self.array, False, None
        t._view = UNTRACKED if getattr(self, "_view", None) is UNTRACKED else None
        return t

    def detach_(self) -> Tensor:
        """Cuts this tensor from its history, in place."""
        if self._base is not None:
            raise RuntimeError(
                "Can't detach views in-place. Use detach() instead. If you are using DistributedDataParallel (DDP) for "
                "training, and gradient_as_bucket_view is set as True, gradients are views of DDP buckets, and hence "
                "detach_() cannot be called on these gradients."
            )
        self._rg, self._node = False, None
        return self

    @property
    def data(self) -> Tensor:
        """The same memory, without history; writes through it are not seen by autograd (PyTorch's trap, kept)."""
        t = Tensor._of(self.array)
        t._view = UNTRACKED
        return t

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
        if self._rg and value.array.dtype.kind not in "fcV":
            raise RuntimeError("data set to a tensor that requires gradients must be floating point or complex dtype")
        self.array = value.array
        if self._base is not None:
            self._view = None  # it shares no memory with its base any more

    def as_subclass(self, cls: type[Tensor]) -> Any:
        """This tensor, its memory and history, as an object of a subclass of Tensor."""
        t = new(cls)
        t.array, t._rg, t._node, t._view = self.array, self._rg, self._node, None
        if self._rg and self._node is None:
            t._node = stand_in(self, alias_op())
        return t

    @staticmethod
    def _make_subclass(cls: type[Tensor], data: Tensor, require_grad: bool = False) -> Any:
        """A leaf of a subclass over the memory of `data`; what `__new__` of subclasses calls in PyTorch programs."""
        t = new(cls)
        t.array, t._rg, t._node, t._view = data.array, False, None, None
        t.requires_grad = require_grad
        return t

    def retain_grad(self) -> None:
        """Keeps `.grad` for this non-leaf tensor too."""
        from .hooks import retain_grad

        retain_grad(self)

    @property
    def retains_grad(self) -> bool:
        return getattr(self, "_retains", False)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Any:
        """Calls `hook(grad)` when this tensor's gradient is complete; what it returns replaces the gradient."""
        from .hooks import register_hook

        return register_hook(self, hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> Any:
        """Calls `hook(tensor)` after the gradient was added to `.grad` of this leaf."""
        from .hooks import register_post_accumulate_grad_hook

        return register_post_accumulate_grad_hook(self, hook)

    def is_inference(self) -> bool:
        """Whether the tensor was made in inference_mode."""
        return getattr(self, "_inference", False)

    # ---- Python's protocols

    # By identity, in C: leaves are keys of the walk's table. (Stated, since a class that defines == has no hash else.)
    __hash__ = object.__hash__

    def __len__(self) -> int:
        if self.array.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return len(self.array)

    def __bool__(self) -> bool:
        if self.array.size != 1:
            which = "no values" if self.array.size == 0 else "more than one value"
            raise RuntimeError(f"Boolean value of Tensor with {which} is ambiguous")
        return bool(self.item())

    def item(self) -> Any:
        """The value of a one-element tensor as a Python number."""
        if self.array.size != 1:
            raise RuntimeError(f"a Tensor with {self.array.size} elements cannot be converted to Scalar")
        value = self.array.item()
        return float(value) if self.array.dtype.kind == "V" else value

    def _number(self, kind: type) -> Any:
        if self.array.size != 1:
            raise ValueError(
                f"only one element tensors can be converted to Python scalars (this one has shape {list(self.shape)})"
            )
        value = self.item()
        if value.__class__ is complex and kind is not complex:
            if value.imag:
                raise RuntimeError(
                    f"value cannot be converted to type {kind.__name__} without overflow (it is {value})"
                )
            value = value.real
        return kind(value)

    def __int__(self) -> int:
        return self._number(int)

    def __float__(self) -> float:
        return self._number(float)

    def __complex__(self) -> complex:
        return self._number(complex)

    def __index__(self) -> int:
        if self.array.size != 1 or self.array.dtype.kind not in "iub":
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.array.item())

    def __contains__(self, element: Any) -> bool:
        if isinstance(element, (Tensor, int, float, complex, bool)):
            return bool((self == element).any())
        raise RuntimeError(
            f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}."
        )

    def __delitem__(self, index: Any) -> None:
        raise TypeError("Tensor does not support deleting items")

    def __iter__(self) -> Any:
        if self.array.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __repr__(self) -> str:
        from .show import show

        return show(self)

    def __format__(self, spec: str) -> str:
        from .show import format_tensor

        return format_tensor(self, spec)

    def __dir__(self) -> list[str]:
        return sorted({*type.__dir__(type(self)), *self.__dict__})

    def __copy__(self) -> Tensor:
        from .interchange import shallow_copy

        return shallow_copy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        from .interchange import deepcopy

        return deepcopy(self, memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        from .interchange import reduce

        return reduce(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Tensor:
        array = np.asarray(array)
        return Tensor._of(array.astype(np.uint8) if array.dtype == bool else array)  # uint8 as PyTorch has it

    def __dlpack__(self, **kwargs: Any) -> Any:
        from .interchange import to_dlpack

        return to_dlpack(self, **kwargs)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        from .interchange import cuda_array_interface

        return cuda_array_interface(self)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


_EMPTY = np.empty(0, np.float32)
coerce.TENSOR.append(Tensor)
coerce.PLAIN.add(Tensor)
ENVIRONMENT["Tensor"] = Tensor


def wrap(array: Any, requires_grad: bool = False) -> Tensor:
    """A Tensor around an existing raw array, no copy."""
    return Tensor._of(array, requires_grad)


def tensor_of_edge(array: Any, edge: Any) -> Tensor:
    """A tensor of that array whose history is `edge`: a node, a leaf, or None for a constant."""
    t = new(Tensor)
    t.array, t._view = array, None
    t._rg = edge is not None
    if edge is None or is_node(edge):
        t._node = edge
        return t
    if edge.array is array:
        return edge
    t._node = stand_in(edge, alias_op())
    return t


def alias_op() -> Any:
    """The op `alias`, ready to stand in a node: the same value, the gradient passed through."""
    op = OPS["alias"]
    if op.run is None:
        ENVIRONMENT["materialise"]("alias")
    return op


ENVIRONMENT["tensor_of_edge"] = tensor_of_edge
