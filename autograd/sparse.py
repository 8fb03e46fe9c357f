"""SparseTensor: a tensor in coordinate form, of which only some elements are kept.

    indices   (D, N) int64: the place of each kept element in the first D dimensions
    values    (N, *rest): the elements, a dense Tensor with its history; what is kept twice counts twice (uncoalesced)

It has no array: what is computed from it is computed from the dense Tensors of its values, so gradients need nothing
of their own. Functions that have no sparse form raise NotImplementedError with the remedy, `to_dense()`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .dtypes import promote_types
from .layout import sparse_coo
from .op import OPS
from .size import Size
from .tensor import Tensor, new, wrap

_NUMBERS = (int, float, complex)


class NotDense(NotImplementedError):
    """A function for dense tensors was given a sparse one. The table of functions asks `tensor.call` then."""

    def __init__(self, tensor: SparseTensor):
        super().__init__(
            "this function is not available for sparse tensors ('SparseCPU' backend): convert with .to_dense() first"
        )
        self.tensor = tensor


class SparseTensor(Tensor):
    """A tensor in coordinate form. Made by `sparse_coo_tensor` and `Tensor.to_sparse`.

    >>> import tapegrad as torch
    >>> s = torch.sparse_coo_tensor([[0, 1], [2, 0]], [3.0, 4.0], (2, 3))
    >>> s @ torch.ones(3, 1)
    tensor([[3.],
            [4.]])
    """

    is_sparse = True
    layout = sparse_coo
    _ind: Tensor
    _val: Tensor
    _size: Size
    _one_each: bool  # sorted by place, no place twice

    @classmethod
    def _make(cls, indices: Tensor, values: Tensor, size: Any, coalesced: bool = False) -> SparseTensor:
        t = new(cls)
        t._rg, t._node, t._view = False, None, None
        t._ind, t._val, t._size, t._one_each = indices, values, Size(size), coalesced
        return t

    def _with(self, values: Tensor) -> SparseTensor:
        """The same places with other values."""
        return SparseTensor._make(self._ind, values, self._size, self._one_each)

    # ---- what it is

    @property
    def array(self) -> Any:
        raise NotDense(self)

    @property
    def shape(self) -> Size:
        return self._size

    @property
    def dtype(self) -> Any:
        return self._val.dtype

    @property
    def device(self) -> Any:
        return self._val.device

    @property
    def ndim(self) -> int:
        return len(self._size)

    @property
    def requires_grad(self) -> bool:
        return self._val.requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._val.requires_grad = value

    @property
    def is_leaf(self) -> bool:
        return self._val.is_leaf

    @property
    def grad_fn(self) -> Any:
        return self._val.grad_fn

    @property
    def grad(self) -> Any:
        g = self._val.grad
        return None if g is None else self._with(g)

    @grad.setter
    def grad(self, value: Any) -> None:
        self._val.grad = None if value is None else value._val

    def dim(self) -> int:
        """The number of dimensions."""
        return len(self._size)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or its entry at `dim`."""
        return self._size if dim is None else self._size[dim]

    def numel(self) -> int:
        """The number of elements, kept or not."""
        return math.prod(self._size)

    def sparse_dim(self) -> int:
        """How many dimensions are given by indices."""
        return self._ind.shape[0]

    def dense_dim(self) -> int:
        """How many dimensions each value has."""
        return self._val.dim() - 1

    def _nnz(self) -> int:
        return self._val.shape[0]

    def is_coalesced(self) -> bool:
        """Whether the places are sorted and no place is kept twice."""
        return self._one_each

    def _indices(self) -> Tensor:
        return self._ind

    def _values(self) -> Tensor:
        return self._val

    def indices(self) -> Tensor:
        """The places of the kept elements. -> (D, N) int64. RuntimeError where it is not coalesced."""
        self._need_coalesced("indices")
        return self._ind

    def values(self) -> Tensor:
        """The kept elements. -> (N, *rest). RuntimeError where it is not coalesced."""
        self._need_coalesced("values")
        return self._val

    def _need_coalesced(self, what: str) -> None:
        if not self._one_each:
            raise RuntimeError(f"Cannot get {what} on an uncoalesced tensor, please call .coalesce() first")

    def is_floating_point(self) -> bool:
        """Whether the values are floating."""
        return self._val.is_floating_point()

    def is_complex(self) -> bool:
        """Whether the values are complex."""
        return self._val.is_complex()

    def type(self, dtype: Any = None, non_blocking: bool = False, **kwargs: Any) -> Any:
        """The legacy type's name, or the tensor in another dtype."""
        if dtype is None:
            return self._val.type().replace("torch.", "torch.sparse.", 1)
        return self._with(self._val.type(dtype))

    # ---- other forms

    def _flat(self) -> Tensor:
        """The places as numbers, in row-major order of the sparse dimensions. -> (N,) int64."""
        flat = self._ind[0] * 1
        for d in range(1, self.sparse_dim()):
            flat = flat * self._size[d] + self._ind[d]
        return flat

    def coalesce(self) -> SparseTensor:
        """Places sorted, what is kept twice added up."""
        if self._one_each:
            return self
        flat, inverse = self._flat().unique(return_inverse=True)
        places = np.stack(np.unravel_index(flat.cpu().array, self._size[: self.sparse_dim()]))
        values = self._val.new_zeros((flat.shape[0], *self._val.shape[1:])).index_add(0, inverse, self._val)
        return SparseTensor._make(wrap(places.astype(np.int64)).to(self.device), values, self._size, True)

    def to_dense(self, dtype: Any = None, *, masked_grad: bool | None = None) -> Tensor:
        """All elements. -> (*shape)."""
        count = math.prod(self._size[: self.sparse_dim()])
        dense = self._val.new_zeros((count, *self._val.shape[1:])).index_add(0, self._flat(), self._val)
        dense = dense.reshape(tuple(self._size))
        return dense if dtype is None else dense.to(dtype)

    def to_sparse(self, *args: Any, **kwargs: Any) -> SparseTensor:
        """Itself."""
        return self

    to_sparse_coo = to_sparse

    def detach(self) -> SparseTensor:
        """The same memory without history."""
        return self._with(self._val.detach())

    def requires_grad_(self, requires_grad: bool = True) -> SparseTensor:
        """Sets `requires_grad` of a leaf, in place."""
        self.requires_grad = requires_grad
        return self

    def clone(self, *, memory_format: Any = None) -> SparseTensor:
        """A copy, recorded."""
        return SparseTensor._make(self._ind.clone(), self._val.clone(), self._size, self._one_each)

    def to(self, *args: Any, **kwargs: Any) -> SparseTensor:
        """Another dtype or device."""
        values = self._val.to(*args, **kwargs)
        return SparseTensor._make(self._ind.to(values.device), values, self._size, self._one_each)

    def cpu(self, *args: Any, **kwargs: Any) -> SparseTensor:
        """In host memory."""
        return self.to("cpu")

    def cuda(self, device: Any = None, *args: Any, **kwargs: Any) -> SparseTensor:
        """On an NVIDIA device."""
        return self.to("cuda" if device is None else device if not isinstance(device, int) else f"cuda:{device}")

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        """TypeError: there is no array."""
        raise TypeError("can't convert Sparse layout tensor to numpy. Use Tensor.to_dense() first.")

    def transpose(self, dim0: int, dim1: int) -> SparseTensor:
        """Two of the sparse dimensions exchanged."""
        d, n = self.sparse_dim(), self.dim()
        first, second = dim0 % n, dim1 % n
        if first >= d or second >= d:
            raise RuntimeError("transpose of a sparse tensor exchanges sparse dimensions only")
        order, size = list(range(d)), list(self._size)
        order[first], order[second] = order[second], order[first]
        size[first], size[second] = size[second], size[first]
        return SparseTensor._make(self._ind[order], self._val, size)

    def t(self) -> SparseTensor:
        """The transpose of a matrix."""
        return self.transpose(0, 1) if self.dim() > 1 else self

    T = mT = property(t)

    def __len__(self) -> int:
        return self._size[0]

    def __repr__(self) -> str:
        from .show import show

        def part(name: str, t: Tensor) -> str:
            body = show(t).partition(", dtype=")[0].rstrip(")") if t.numel() else f"tensor([], size={tuple(t.shape)}"
            return f"{name}={body})".replace("\n", "\n" + " " * (8 + len(name)))

        values = self._val.detach()
        text = f"tensor({part('indices', self._ind)},\n       {part('values', values)}"
        words = [f"size={tuple(self._size)}", f"nnz={self._nnz()}"]
        words += [f"dtype={self.dtype}"] if "dtype=" in show(values) else []
        words += ["layout=torch.sparse_coo"]
        if self.grad_fn is not None:
            words.append(f"grad_fn=<{self.grad_fn.name()}>")
        elif self.requires_grad:
            words.append("requires_grad=True")
        width, begin = 0, True
        for word in words:
            if begin or width + len(word) + 2 > 80:
                text, width, begin = f"{text},\n       {word}", 7 + len(word), False
            else:
                text, width = f"{text}, {word}", width + len(word) + 2
        return text + ")"

    # ---- arithmetic

    def _times(self, name: str, other: Any) -> SparseTensor:
        if not isinstance(other, _NUMBERS) and not (isinstance(other, Tensor) and other.dim() == 0):
            raise NotDense(self)
        return self._with(getattr(self._val, name)(other))

    def _same_shape(self, other: Tensor, name: str) -> None:
        if self._size != other.shape:
            raise RuntimeError(
                f"{name}: expected sizes of 'self' and 'other' to match, but {list(self._size)} != {list(other.shape)}"
            )

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, SparseTensor):
            if isinstance(other, Tensor):
                raise RuntimeError("add(sparse, dense) is not supported. Use add(dense, sparse) instead.")
            return NotImplemented
        self._same_shape(other, "add")
        cat = OPS["cat"].fn
        dtype = promote_types(self.dtype, other.dtype)
        values = cat(self._val.to(dtype), other._val.to(dtype), axis=0)
        return SparseTensor._make(cat(self._ind, other._ind, axis=1), values, self._size).coalesce()

    def __radd__(self, other: Any) -> Any:
        if not isinstance(other, Tensor):
            return NotImplemented
        self._same_shape(other, "add")
        rows = other.reshape((math.prod(self._size[: self.sparse_dim()]), *self._val.shape[1:]))
        return rows.index_add(0, self._flat(), self._val).reshape(tuple(self._size))

    def _append(self, other: SparseTensor) -> None:
        """Adds other in place: its elements are kept beside those that are there."""
        cat = OPS["cat"].fn
        self._ind, self._val = cat(self._ind, other._ind, axis=1), cat(self._val, other._val, axis=0)
        self._one_each = False

    def __sub__(self, other: Any) -> Any:
        return self + (-other)

    def __rsub__(self, other: Any) -> Any:
        return (-self).__radd__(other)

    def __mul__(self, other: Any) -> Any:
        if not isinstance(other, Tensor) or other.dim() == 0:
            return self._times("mul", other)
        self._same_shape(other, "mul")
        mine = self.coalesce()
        if not isinstance(other, SparseTensor):
            return mine._with(mine._val * mine._read(other))
        theirs = other.coalesce()
        both = np.isin(mine._flat().cpu().array, theirs._flat().cpu().array)
        kept = wrap(np.flatnonzero(both)).to(self.device)
        values = mine._val.index_select(0, kept)
        cut = SparseTensor._make(mine._ind.index_select(1, kept), values, self._size, True)
        return cut._with(values * cut._read(theirs.to_dense()))

    __rmul__ = mul = __mul__

    def _read(self, dense: Tensor) -> Tensor:
        """The elements of a dense tensor at the places of this one. -> (N, *rest)."""
        rows = dense.reshape((math.prod(self._size[: self.sparse_dim()]), *self._val.shape[1:]))
        return rows.index_select(0, self._flat())

    def __truediv__(self, other: Any) -> Any:
        return self._times("div", other)

    def __pow__(self, exponent: Any) -> Any:
        return self.coalesce()._times("pow", exponent)

    def __neg__(self) -> SparseTensor:
        return self._with(-self._val)

    add, sub, div, neg, pow = __add__, __sub__, __truediv__, __neg__, __pow__

    def mul_(self, other: Any) -> SparseTensor:
        """Times a number, in place."""
        self._val.mul_(other)
        return self

    def zero_(self) -> SparseTensor:
        """Keeps no element any more."""
        self._ind, self._val = self._ind[:, :0], self._val.detach()[:0]
        self._one_each = True
        return self

    def sum(self, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
        """The sum of all elements, or over sparse dimensions: then a sparse tensor of the rest."""
        if dim is None:
            return self._val.sum(dtype=dtype)
        gone = {d % self.dim() for d in ((dim,) if isinstance(dim, int) else dim)}
        left = [d for d in range(self.sparse_dim()) if d not in gone]
        if any(d >= self.sparse_dim() for d in gone) or keepdim:
            raise NotDense(self)
        values = self._val if dtype is None else self._val.to(dtype)
        if not left:
            return values.sum(0)
        size = [n for d, n in enumerate(self._size) if d not in gone]
        return SparseTensor._make(self._ind[left], values, size).coalesce()

    def norm(self, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
        """The norm of all elements. -> ()."""
        if dim is not None:
            raise NotDense(self)
        return self.coalesce()._val.norm(p, dtype=dtype)

    def any(self) -> Tensor:
        """Whether an element is not zero. -> () bool."""
        return self.coalesce()._val.any()

    def mm(self, mat2: Tensor) -> Tensor:
        """This matrix times a dense one, or a sparse one (then a sparse result). (N, K), (K, M) -> (N, M)."""
        if self.dim() != 2 or mat2.dim() != 2 or self._size[1] != mat2.shape[0]:
            raise RuntimeError(
                f"mat1 and mat2 shapes cannot be multiplied ({'x'.join(map(str, self._size))} and "
                f"{'x'.join(map(str, mat2.shape))})"
            )
        if isinstance(mat2, SparseTensor):
            return to_sparse(self.mm(mat2.to_dense()), 2)
        parts = self._val.unsqueeze(1) * mat2.index_select(0, self._ind[1])
        return parts.new_zeros((self._size[0], mat2.shape[1])).index_add(0, self._ind[0], parts)

    def mv(self, vec: Tensor) -> Tensor:
        """This matrix times a vector. (N, K), (K,) -> (N,)."""
        return self.mm(vec.unsqueeze(1)).squeeze(1)

    def matmul(self, other: Tensor) -> Tensor:
        """This matrix times a matrix or vector."""
        return self.mv(other) if other.dim() == 1 else self.mm(other)

    __matmul__ = matmul

    def __rmatmul__(self, other: Tensor) -> Tensor:
        return self.t().mm(other.t()).t() if other.dim() == 2 else self.t().mv(other)

    def addmm(self, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
        """beta * self + alpha * (mat1 @ mat2), self dense or sparse."""
        return beta * self + alpha * (mat1 @ mat2)

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What torch.NAME(*args) gives where this tensor is among the arguments. NotDense where there is no such."""
        while args and args[-1] is None:  # optional arguments that a function of functions hands on
            args = args[:-1]
        if name in ("addmm", "add") and args and not isinstance(args[0], SparseTensor):
            beta, alpha = kwargs.pop("beta", 1), kwargs.pop("alpha", 1)
            return beta * args[0] + alpha * (args[1] @ args[2]) if name == "addmm" else args[0] + alpha * args[1]
        if name in ("mm", "matmul") and len(args) == 2 and isinstance(args[1], SparseTensor):
            return args[0] @ args[1]
        if name == "cat":
            return cat(*args, **kwargs)
        if name == "zeros_like":
            return SparseTensor._make(self._ind[:, :0], self._val.detach()[:0], self._size, True)
        own = SparseTensor.__dict__.get(name)
        if own is None or not args or args[0] is not self:
            raise self_error(self, name)
        return own(*args, **kwargs)


def cat(tensors: Any, dim: int = 0) -> SparseTensor:
    """Sparse tensors joined along a sparse dimension. each: (*S) but for dim -> (S with the sum at dim)."""
    first = tensors[0]
    axis = dim % first.dim()
    if any(not isinstance(t, SparseTensor) or t.sparse_dim() <= axis for t in tensors):
        raise RuntimeError("cat of sparse tensors: all must be sparse, and dim one of their sparse dimensions")
    places, start = [], 0
    for t in tensors:
        step = [[start if d == axis else 0] for d in range(t.sparse_dim())]
        places.append(t._ind + wrap(np.array(step)).to(t.device))
        start += t._size[axis]
    join = OPS["cat"].fn
    size = [start if d == axis else n for d, n in enumerate(first._size)]
    return SparseTensor._make(join(*places, axis=1), join(*[t._val for t in tensors], axis=0), size)


def self_error(tensor: SparseTensor, name: str) -> NotImplementedError:
    """The exception for a function without a sparse form."""
    error = NotDense(tensor)
    error.add_note(f"in {name}()")
    return error


def _of_values(name: str) -> Any:
    """A method that does to each kept element what the dense one does; it must leave zeros zeros."""

    def method(self: SparseTensor, *args: Any, **kwargs: Any) -> SparseTensor:
        at = self.coalesce() if name in _CURVED else self
        return at._with(getattr(at._val, name)(*args, **kwargs))

    method.__name__ = name
    method.__doc__ = f"`Tensor.{name}` of the kept elements."
    return method


_CURVED = (
    "abs sqrt relu sin sinh tan tanh asin asinh atan atanh expm1 log1p sgn sign square ceil floor round trunc"
).split()
for _name in (*_CURVED, *"float double half bfloat16 int long short bool".split()):
    setattr(SparseTensor, _name, _of_values(_name))


def to_sparse(dense: Tensor, sparse_dim: int | None = None) -> SparseTensor:
    """The elements of a dense tensor that are not zero. (*S) -> sparse (*S).

    sparse_dim: how many dimensions get indices (default: all); slices of the rest are kept where one element is not
    zero.
    """
    n = dense.dim()
    d = n if sparse_dim is None else sparse_dim
    if not 0 <= d <= n or (d == 0 and n > 0):
        raise RuntimeError(
            f"dense_to_sparse: sparse_dim argument must be in >0 and <={n} range, but {d} given"
        )
    host = dense.detach().cpu().array != 0
    mask = host.reshape(*host.shape[:d], -1).any(-1) if d < n else host
    places = np.stack(np.nonzero(mask)).astype(np.int64) if n else np.zeros((0, int(mask)), np.int64)
    rows = dense.reshape((math.prod(dense.shape[:d]), *dense.shape[d:]))
    kept = wrap(np.flatnonzero(mask)).to(dense.device)
    return SparseTensor._make(wrap(places).to(dense.device), rows.index_select(0, kept), dense.shape, True)
