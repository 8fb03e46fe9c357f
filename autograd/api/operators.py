"""Python's operators on Tensors. The recorded ops themselves are the methods, so that `x * y` is one call."""

from __future__ import annotations

from typing import Any

from ..inplace import inplace
from ..op import OPS


def _reflected(op: Any) -> Any:
    def method(self: Any, other: Any) -> Any:
        return op(other, self)

    return method


def attach(cls: Any) -> None:
    """Sets the operators of the Tensor class."""
    for name, op_name in {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div"}.items():
        function = OPS[op_name].fn
        setattr(cls, f"__{name}__", function)
        setattr(cls, f"__r{name}__", function if op_name in ("add", "mul") else _reflected(function))
        setattr(cls, f"__i{name}__", inplace(function, f"{op_name}_"))
    cls.__neg__ = OPS["neg"].fn
    cls.__matmul__ = OPS["mm"].fn
