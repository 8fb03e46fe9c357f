"""What the sources are written in: pointers that are indexed as in C, and the decorators `kernel` and `inline`.

T stands for the floating type of the version being compiled, Int for the integer of its size; a constant is T(0.5).
There are no checks of bounds, no negative indices and no exceptions; what a kernel writes lies in no other argument's
memory. Numba's integers grow: an int32 result is Int(...), T's integer Int.

"""

# mypy: ignore-errors
from __future__ import annotations

import operator
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

T: Any = np.float32
Int: Any = np.int32

TYPES = {"f4": types.float32, "f8": types.float64, "i4": types.int32, "i8": types.int64, "u1": types.uint8}
FLOATS = {"f4": (np.float32, np.int32), "f8": (np.float64, np.int64)}

# Products and sums may become one instruction. Sums are reordered (which makes them vectors) only where a kernel says
# so; NaN and infinities stay what they are everywhere.
EXACT, SUMS = {"contract"}, {"contract", "reassoc"}

KERNELS: list[tuple[Callable[..., None], str, set[str]]] = []  # of all groups imported: (body, signature, flags)


def kernel(signature: str, sums: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A compiled kernel. signature: the arguments' types, such as "T* f4* i8 T"; T makes two, NAME_f4 and NAME_f8,
    in which I is the integer of T's size.

    sums: its additions may be reordered.
    """

    def add(body: Callable[..., None]) -> Callable[..., None]:
        KERNELS.append((body, signature, SUMS if sums else EXACT))
        return body

    return add


class Inline:
    """A function that kernels call. It is compiled for each floating type with the flags given."""

    def __init__(self, body: Callable[..., Any], flags: set[str], double: Inline | None = None):
        self.body, self.flags, self.double = body, flags, double
        self.made: dict[str, Any] = {}

    def __call__(self, *args: Any) -> Any:
        return self.body(*args)

    def of(self, kind: str) -> Any:
        """The version for "f4" or "f8"."""
        if kind == "f8" and self.double is not None:
            return self.double.of(kind)
        if kind not in self.made:
            self.made[kind] = njit(fastmath=self.flags, error_model="numpy")(specialised(self.body, kind))
        return self.made[kind]


def inline(body: Callable[..., Any]) -> Inline:
    """A function for kernels, from a body that serves both floating types."""
    return Inline(body, EXACT)


def inline_sums(body: Callable[..., Any]) -> Inline:
    """As `inline`; its additions may be reordered."""
    return Inline(body, SUMS)


def either(single: Inline, double: Inline) -> Inline:
    """A function that is written differently for float32 and float64."""
    return Inline(single.body, single.flags, double)


def specialised(body: Any, kind: str) -> Any:
    """The function with T, Int and the inline functions that it names bound to one floating type."""
    scope = dict(body.__globals__)
    for name in body.__code__.co_names:
        if isinstance(scope.get(name), Inline):
            scope[name] = scope[name].of(kind)
    scope["T"], scope["Int"] = FLOATS[kind]
    return FunctionType(body.__code__, scope, f"{body.__name__}_{kind}")


def type_of(code: str, kind: str) -> Any:
    """Numba's type of an argument of a signature."""
    same = {"T": kind, "I": "i" + kind[1]}
    plain = TYPES[same.get(code[0]) or code.rstrip("*")]
    return types.CPointer(plain) if code.endswith("*") else plain


# ---- pointers


@infer_global(operator.getitem)
class _LoadTyping(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        pointer, index = args
        if isinstance(pointer, types.CPointer) and isinstance(index, types.Integer):
            return signature(pointer.dtype, pointer, types.intp)
        return None


@infer_global(operator.setitem)
class _StoreTyping(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        pointer, index, _ = args
        if isinstance(pointer, types.CPointer) and isinstance(index, types.Integer):
            return signature(types.none, pointer, types.intp, pointer.dtype)
        return None


@lower_builtin(operator.getitem, types.CPointer, types.Integer)
def _load(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.load(builder.gep(args[0], [args[1]]))


@lower_builtin(operator.setitem, types.CPointer, types.Integer, types.Any)
def _store(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    builder.store(args[2], builder.gep(args[0], [args[1]]))
    return context.get_dummy_value()


@intrinsic
def at(context: Any, pointer: Any, offset: Any) -> Any:
    """The pointer moved on by so many elements."""
    return pointer(pointer, types.intp), lambda c, builder, s, args: builder.gep(args[0], [args[1]])


@intrinsic
def is_null(context: Any, pointer: Any) -> Any:
    """Whether None was given for an array."""
    return types.boolean(pointer), lambda c, b, s, args: b.icmp_unsigned("==", args[0], args[0].type(None))


def _llvm(name: str, builder: Any, args: Any) -> Any:
    kind = args[0].type
    made = ir.FunctionType(kind, [kind] * len(args))
    return builder.call(builder.module.declare_intrinsic(name, [kind], made), args)


@intrinsic
def maximum(context: Any, x: Any, y: Any) -> Any:
    """The larger number, NaN if there is one; unlike a comparison, LLVM makes vectors of it in a running maximum."""
    return x(x, x), lambda c, builder, s, args: _llvm("llvm.maximum", builder, args)


@intrinsic
def minimum(context: Any, x: Any, y: Any) -> Any:
    """The smaller number, NaN if there is one."""
    return x(x, x), lambda c, builder, s, args: _llvm("llvm.minimum", builder, args)


@intrinsic
def sqrt(context: Any, x: Any) -> Any:
    """The square root, as one instruction."""
    return x(x), lambda c, builder, s, args: _llvm("llvm.sqrt", builder, args)


# ---- bits


_PAIRS = ((types.float32, types.int32), (types.float64, types.int64))
_SAME_SIZE = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}


@intrinsic
def bits(context: Any, value: Any) -> Any:
    """A float's bits as an integer, or the float that has these bits."""
    other = _SAME_SIZE[value]
    return other(value), lambda c, builder, s, args: builder.bitcast(args[0], c.get_value_type(other))


# ---- vectors of eight float32, for loops that LLVM finds no vectors in


class Lanes(types.Type):
    """The type of eight float32 in one register (in two or four where the processor's are smaller)."""


LANES = Lanes("Lanes")
_VECTOR = ir.VectorType(ir.FloatType(), 8)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, kind: Any):
        super().__init__(dmm, kind, _VECTOR)


def _arithmetic(function: Any, instruction: str) -> None:
    class Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            return signature(LANES, LANES, LANES) if args == (LANES, LANES) else None

    infer_global(function)(Typing)
    lower_builtin(function, LANES, LANES)(lambda context, builder, sig, args: getattr(builder, instruction)(*args))


for _function, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _arithmetic(_function, _instruction)


def _loaded(builder: Any, pointer: Any, offset: Any, lanes: int, more: int = 0) -> Any:
    place = builder.gep(pointer, [builder.add(offset, offset.type(more))])
    return builder.load(builder.bitcast(place, ir.VectorType(ir.FloatType(), lanes).as_pointer()), align=4)


def _stored(builder: Any, pointer: Any, offset: Any, value: Any, more: int = 0) -> None:
    place = builder.gep(pointer, [builder.add(offset, offset.type(more))])
    builder.store(value, builder.bitcast(place, value.type.as_pointer()), align=4)


def _mixed(builder: Any, a: Any, b: Any, *lanes: int) -> Any:
    kind = ir.VectorType(ir.IntType(32), len(lanes))
    return builder.shuffle_vector(a, b, ir.Constant(kind, list(lanes)))


@intrinsic
def load(context: Any, pointer: Any, offset: Any) -> Any:
    """pointer[offset : offset + 8]."""
    return LANES(pointer, types.intp), lambda c, builder, s, args: _loaded(builder, *args, 8)


@intrinsic
def store(context: Any, pointer: Any, offset: Any, value: Any) -> Any:
    """pointer[offset : offset + 8] = value."""

    def code(c: Any, builder: Any, s: Any, args: Any) -> Any:
        _stored(builder, *args)
        return c.get_dummy_value()

    return types.none(pointer, types.intp, LANES), code


@intrinsic
def spread(context: Any, number: Any) -> Any:
    """A number in all lanes."""

    def code(c: Any, builder: Any, s: Any, args: Any) -> Any:
        first = builder.insert_element(_VECTOR(ir.Undefined), args[0], ir.IntType(32)(0))
        return _mixed(builder, first, _VECTOR(ir.Undefined), *[0] * 8)

    return LANES(types.float32), code


@intrinsic
def added(context: Any, value: Any) -> Any:
    """The sum of the lanes."""

    def code(c: Any, builder: Any, s: Any, args: Any) -> Any:
        total = ir.FloatType()(0.0)
        for lane in range(8):
            total = builder.fadd(total, builder.extract_element(args[0], ir.IntType(32)(lane)))
        return total

    return types.float32(LANES), code


@intrinsic
def added_each(context: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """The sums of the lanes of eight vectors, as one."""

    def joined(builder: Any, x: Any, y: Any, first: Any, second: Any) -> Any:
        return builder.fadd(_mixed(builder, x, y, *first), _mixed(builder, x, y, *second))

    def code(c: Any, builder: Any, s: Any, args: Any) -> Any:
        low, high = (0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15)
        pairs = [joined(builder, args[k], args[k + 1], low, high) for k in range(0, 8, 2)]
        low, high = (0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15)
        fours = [joined(builder, pairs[k], pairs[k + 1], low, high) for k in (0, 2)]
        return joined(builder, *fours, (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15))

    return LANES(*[LANES] * 8), code


def _turned(builder: Any, rows: Any) -> list[Any]:
    """Two 4x4 matrices side by side, transposed."""
    a, b, c, d = rows
    low, high = (0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15)
    pairs = [(_mixed(builder, a, b, *half), _mixed(builder, c, d, *half)) for half in (low, high)]
    first, second = (0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15)
    return [_mixed(builder, *pair, *half) for pair in pairs for half in (first, second)]


@intrinsic
def deal(context: Any, pointer: Any, offset: Any) -> Any:
    """Four vectors: pointer[offset + k : offset + 32 : 4] for k < 4."""

    def code(c: Any, builder: Any, s: Any, args: Any) -> Any:
        halves = [_loaded(builder, *args, 4, more) for more in range(0, 32, 4)]
        rows = [_mixed(builder, halves[k], halves[k + 4], *range(8)) for k in range(4)]
        return c.make_tuple(builder, s.return_type, _turned(builder, rows))

    return types.UniTuple(LANES, 4)(pointer, types.intp), code


@intrinsic
def pairs(context: Any, pointer: Any, offset: Any) -> Any:
    """Two vectors: pointer[offset + k : offset + 16 : 2] for k < 2."""

    def code(c: Any, builder: Any, s: Any, args: Any) -> Any:
        halves = [_loaded(builder, *args, 4, more) for more in range(0, 16, 4)]
        a, b = (_mixed(builder, halves[k], halves[k + 2], *range(8)) for k in (0, 1))
        found = [_mixed(builder, a, b, *(k + i for i in (0, 2, 8, 10, 4, 6, 12, 14))) for k in (0, 1)]
        return c.make_tuple(builder, s.return_type, found)

    return types.UniTuple(LANES, 2)(pointer, types.intp), code


@intrinsic
def store_pairs(context: Any, pointer: Any, offset: Any, a: Any, b: Any) -> Any:
    """The reverse of `pairs`."""

    def code(c: Any, builder: Any, s: Any, args: Any) -> Any:
        pointer, offset, a, b = args
        for k, lanes in enumerate([(0, 8, 1, 9), (2, 10, 3, 11), (4, 12, 5, 13), (6, 14, 7, 15)]):
            _stored(builder, pointer, offset, _mixed(builder, a, b, *lanes), 4 * k)
        return c.get_dummy_value()

    return types.none(pointer, types.intp, LANES, LANES), code


@intrinsic
def where_equal(context: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """`yes` in the lanes where a == b, else `no`."""

    def code(c: Any, builder: Any, s: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("==", args[0], args[1]), args[2], args[3])

    return LANES(*[LANES] * 4), code


@intrinsic
def gather(context: Any, pointer: Any, offset: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """The reverse of `deal`: pointer[offset + k : offset + 32 : 4] = the k-th vector."""

    def code(c: Any, builder: Any, s: Any, args: Any) -> Any:
        pointer, offset, *values = args
        for k, row in enumerate(_turned(builder, values)):
            for half in (0, 1):
                part = _mixed(builder, row, row, *range(4 * half, 4 * half + 4))
                _stored(builder, pointer, offset, part, 4 * k + 16 * half)
        return c.get_dummy_value()

    return types.none(pointer, types.intp, *[LANES] * 4), code
