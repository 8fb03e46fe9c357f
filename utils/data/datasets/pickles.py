"""Pickles of plain data: numbers, text, bytes, lists, tuples, dicts, and NumPy's arrays of numbers; nothing else.

The files of CIFAR are such, written by Python 2. Reading one calls no function of Python's or NumPy's that it names:
the few names that it may use stand for functions of this module, and operations of pickles beyond data are unknown.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np

from .base import damaged

_LONGEST = 1 << 30  # bytes of a file; CIFAR-100's is 155 MB
# The operations that say data, by their names in the module pickle
_OPERATIONS = """
    PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT LONG LONG1 LONG4 BININT BININT1 BININT2 FLOAT BINFLOAT STRING
    BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT SETITEM SETITEMS
    GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD
"""


def _bytes(value: Any) -> bytes:
    if type(value) is str:
        return value.encode("latin1")
    if type(value) is not bytes:
        raise pickle.UnpicklingError(f"bytes are expected, not {type(value).__name__}")
    return value


class _Dtype:
    """numpy.dtype: of numbers only; its byte order comes afterwards."""

    def __init__(self, name: Any, align: Any = None, copy: Any = None):
        self.dtype = np.dtype(_bytes(name).decode("ascii"))
        if self.dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"an array of {self.dtype}, not of numbers")

    def set(self, state: Any) -> None:
        order = _bytes(state[1])
        if order not in (b"|", b"<", b">", b"="):
            raise pickle.UnpicklingError(f"byte order {order!r}")
        self.dtype = self.dtype.newbyteorder(">" if order == b">" else "<" if order == b"<" else "=")


class _Array:
    """numpy.ndarray: made empty, then given its shape, dtype and bytes."""

    def __init__(self, kind: Any, shape: Any = None, code: Any = None):
        self.array = np.zeros(0, np.uint8)

    def set(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        data = _bytes(data)
        if not isinstance(kind, _Dtype) or not all(type(n) is int and n >= 0 for n in shape):
            raise pickle.UnpicklingError("an array without a dtype and a shape")
        if math.prod(shape) * kind.dtype.itemsize != len(data):
            raise pickle.UnpicklingError(f"an array of {kind.dtype} of shape {shape} with {len(data)} bytes")
        self.array = np.frombuffer(data, kind.dtype).reshape(shape, order="F" if fortran else "C")


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How Python 3 writes bytes into old pickles."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"bytes by the encoding {encoding!r}")
    return _bytes(text)


_NAMES: dict[str, Any] = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": "numpy.ndarray",  # an argument only
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy._core.multiarray._reconstruct": _Array,
    "_codecs.encode": _encode,
}
_CALLED = (_Dtype, _Array, _encode)

_PythonUnpickler: Any = vars(pickle)["_Unpickler"]  # the C one cannot be told which operations to know


class _Data(_PythonUnpickler):
    dispatch = {
        code[0]: _PythonUnpickler.dispatch[code[0]] for code in (getattr(pickle, n) for n in _OPERATIONS.split())
    }

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in _NAMES:
            raise pickle.UnpicklingError(f"it names {full[:200]}, which is no data")
        return _NAMES[full]

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if function not in _CALLED or type(arguments) is not tuple:
            raise pickle.UnpicklingError(f"it calls {function!r}")
        self.append(function(*arguments))

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, _Array | _Dtype) or type(state) is not tuple:
            raise pickle.UnpicklingError(f"it gives {type(target).__name__} a state")
        target.set(state)

    def _check_keys(self, target: Any, keys: Any) -> None:
        if type(target) is not dict or any(type(key) not in (str, bytes, int) for key in keys):
            raise pickle.UnpicklingError("a dict's keys are expected to be text or integers")

    def load_setitem(self) -> None:
        self._check_keys(self.stack[-3], self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        self._check_keys(self.metastack[-1][-1], self.stack[::2])
        super().load_setitems()

    def load_append(self) -> None:
        self._check_list(self.stack[-2])
        super().load_append()

    def load_appends(self) -> None:
        self._check_list(self.metastack[-1][-1])
        super().load_appends()

    def _check_list(self, target: Any) -> None:
        if type(target) is not list:
            raise pickle.UnpicklingError(f"it appends to {type(target).__name__}")

    dispatch |= {
        pickle.REDUCE[0]: load_reduce, pickle.BUILD[0]: load_build, pickle.APPEND[0]: load_append,
        pickle.APPENDS[0]: load_appends, pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems,
    }  # fmt: skip


def read_dict(path: Any) -> dict[str, Any]:
    """The dict in a pickle of plain data, its keys as text. RuntimeError naming the file where there is none."""
    with open(path, "rb") as file:
        data = file.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise damaged(path, f"more than {_LONGEST} bytes")
    try:
        made = _Data(io.BytesIO(data), encoding="bytes").load()
        if type(made) is not dict:
            raise pickle.UnpicklingError(f"a dict is expected, not {type(made).__name__}")
        return {_text(key): value.array if isinstance(value, _Array) else value for key, value in made.items()}
    except Exception as error:  # a damaged pickle can raise whatever its operations raise
        raise damaged(path, f"no pickle of plain data ({type(error).__name__}: {str(error)[:200]})") from error


def _text(key: Any) -> str:
    return key.decode("latin1") if type(key) is bytes else str(key)
