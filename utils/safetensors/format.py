"""The format: its words for dtypes, the order of bytes, and what an error says of a file."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import re
import sys
from collections.abc import Iterator
from typing import Any

# The format's words for dtypes, and ours
DTYPES = {
    "BOOL": "bool", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "I8": "int8", "I16": "int16",
    "I32": "int32", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64",
}  # fmt: skip
LONGEST_HEADER = 100_000_000  # bytes; the library refuses longer ones


def library() -> Any:
    """The package safetensors. ImportError naming the extra where it is absent or older than 0.8."""
    try:
        found = importlib.import_module("safetensors")
        found.TensorSpec  # noqa: B018
    except (ImportError, AttributeError) as error:
        raise ImportError(
            "tapegrad.utils.safetensors needs the package safetensors, 0.8 or later: "
            "pip install 'tapegrad[safetensors]'"
        ) from error
    return found


def error_of(text: str) -> Exception:
    """The library's exception."""
    return library().SafetensorError(text)


def nbytes(code: str, shape: Any) -> int:
    """Bytes of a tensor; the numbers in the format's words for dtypes are bits (F8_E4M3: 8)."""
    bits = 8 if code == "BOOL" else int(re.sub(r"^\D+(\d+).*", r"\1", code))
    return math.prod(shape) * bits // 8


def native(flat: Any) -> Any:
    """Little-endian elements in this machine's order, and back. flat: (N,) -> (N,)."""
    if sys.byteorder == "little":
        return flat
    size = flat.dtype.itemsize // (2 if flat.dtype.kind == "c" else 1)
    return flat.view(f"u{size}").byteswap().view(flat.dtype)


def _fault(head: bytes, size: int) -> str:
    """Which entry of a header contradicts the size of its file, or its own dtype and shape; empty where none does."""
    data = 8 + int.from_bytes(head[:8], "little")
    name, expected = None, 0
    try:
        listed = {key: item for key, item in json.loads(head[8:data]).items() if key != "__metadata__"}
        for name, item in sorted(listed.items(), key=lambda pair: pair[1]["data_offsets"]):
            (begin, end), code, shape = item["data_offsets"], item["dtype"], item["shape"]
            needed = nbytes(code, shape)
            if begin != expected:
                return f"entry {name!r} begins at byte {begin} of the data, but {expected} was expected"
            if end - begin != needed:
                return f"entry {name!r} has {end - begin} bytes, but {code} of shape {shape} has {needed}"
            if data + end > size:
                return f"entry {name!r} ends at byte {data + end} of the file, which has {size}"
            expected = end
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return f"entry {name!r} cannot be read" if name else ""
    after = size - data - expected
    return f"{after} bytes follow the last entry, {name!r}" if name and after > 0 else ""


@contextlib.contextmanager
def naming(source: str, head: Any) -> Iterator[None]:
    """The library's errors, with the file and the entry. `head()` gives the first bytes and the size of all."""
    refused = library().SafetensorError
    try:
        yield
    except refused as error:
        fault = _fault(*head())
        raise refused(f"{source}: {error}" + (f" ({fault})" if fault else "")) from error
