"""Text of a tensor, character for character PyTorch's (2.13).

Works on a NumPy array that is already on the host and on plain facts about the tensor (dtype name, device, grad_fn),
never on a Tensor, so that every backend and every subclass prints through the same few functions.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np


class PrintOptions(NamedTuple):
    """The current options, immutable: one repr sees one set of options even while another thread changes them."""

    precision: int = 4  # digits after the decimal point
    threshold: float = 1000  # tensors with more elements are summarised
    edgeitems: int = 3  # elements kept at both ends of a summarised axis
    linewidth: int = 80  # characters per line
    sci_mode: bool | None = None  # None: decided by the values


_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}

_options = PrintOptions()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors are printed; what is left out keeps its value, except `sci_mode`, which goes back to automatic.

    precision: digits after the point (4); threshold: number of elements above which a tensor is summarised (1000);
    edgeitems: elements shown at both ends of each axis of a summary (3); linewidth: characters per line (80);
    profile: "default", "short" or "full", overridden by the other arguments, any other name changes nothing;
    sci_mode: True or False forces scientific notation on or off, None lets the values decide.
    """
    global _options
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    changes = _PROFILES.get(profile, {}) if profile is not None else {}
    changes = changes | {name: value for name, value in given.items() if value is not None}
    # PyTorch assigns sci_mode on every call: set_printoptions(precision=2) ends a forced scientific mode.
    _options = _options._replace(**changes, sci_mode=sci_mode)


def get_printoptions() -> dict[str, Any]:
    """The current options as a dictionary that `set_printoptions(**options)` accepts."""
    return _options._asdict()


@contextlib.contextmanager
def printoptions(**kwargs: Any) -> Iterator[None]:
    """Context manager (or decorator) that sets print options for a while; arguments as of `set_printoptions`."""
    before = get_printoptions()
    set_printoptions(**kwargs)
    try:
        yield
    finally:
        set_printoptions(**before)


def shows_dtype(dtype: np.dtype[Any], size: int, default: np.dtype[Any]) -> bool:
    """Whether the text of a tensor of `size` elements must name its dtype, where `default` is the default float dtype.

    The digits tell bool, int64 and the default float and complex dtypes; an empty tensor has none, so there only the
    default float dtype goes without saying.
    """
    if dtype == default or size == 0:
        return bool(dtype != default)
    default_complex = np.complex128 if default == np.float64 else np.complex64
    return dtype not in (np.dtype(default_complex), np.dtype(np.int64), np.dtype(np.bool_))


def tensor_repr(
    array: np.ndarray,
    *,
    dtype_name: str,
    show_dtype: bool,
    device: str | None = None,
    requires_grad: bool = False,
    grad_fn_name: str | None = None,
    class_name: str = "tensor",
    is_parameter: bool = False,
) -> str:
    """The repr of a tensor whose values are `array` (*S), any dtype, on the host.

    dtype_name: as in "torch.float16", printed if `show_dtype` (see `shows_dtype`); device: "cuda:0", or None where it
    is the default one and stays unsaid; grad_fn_name: "MulBackward0", takes the place of `requires_grad=True`;
    class_name: "tensor" for Tensor and Parameter, the class's own name for a subclass; is_parameter: an nn.Parameter.

    >>> import numpy as np
    >>> print(tensor_repr(np.array([1.5, -2.0]), dtype_name="torch.float64", show_dtype=True))
    tensor([ 1.5000, -2.0000], dtype=torch.float64)
    """
    options = _options
    suffixes = [f"device='{device}'"] if device is not None else []
    # An empty tensor shows its size unless it is the obvious (0,); one printed as a bare [...] always does.
    if (array.ndim != 1) if array.size == 0 else not options.edgeitems:
        suffixes.append(f"size={array.shape}")
    if show_dtype:
        suffixes.append(f"dtype={dtype_name}")
    if grad_fn_name is not None:
        suffixes.append(f"grad_fn=<{grad_fn_name}>")
    elif requires_grad:
        suffixes.append("requires_grad=True")
    head = f"{class_name}("
    text = _with_suffixes(head + _values_text(array, len(head), options), suffixes, len(head), options.linewidth)
    if not is_parameter:
        return text
    return "Parameter containing:\n" + (text if class_name == "tensor" else f"Parameter({text})")


def tensor_format(owner: object, array: np.ndarray, format_spec: str, *, plain: bool) -> str:
    """`format(owner, format_spec)`: the number itself where `owner` is a `plain` Tensor (no subclass) without axes.

    Anything else takes an empty format_spec only (the text is then `str(owner)`), and raises TypeError otherwise.
    """
    if plain and array.ndim == 0:
        return format(_as_printed(array).item(), format_spec)
    return object.__format__(owner, format_spec)


def _with_suffixes(text: str, suffixes: list[str], indent: int, linewidth: int) -> str:
    """`text` and the comma-separated suffixes, each on a new line where the current one has no room, and the `)`."""
    # One more than the characters on the last line (two if it is the only one): PyTorch's own count.
    used = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if used + len(suffix) + 2 > linewidth:
            text += ",\n" + " " * indent + suffix
            used = indent + len(suffix)
        else:
            text += ", " + suffix
            used += len(suffix) + 2
    return text + ")"


def _as_printed(array: np.ndarray) -> np.ndarray:
    """`array` in a dtype whose elements become Python numbers: the small floats (float16, bfloat16) as float64."""
    return array if array.dtype.kind in "?biuc" else array.astype(np.float64)


def _values_text(array: np.ndarray, indent: int, options: PrintOptions) -> str:
    """The bracketed numbers of `array` (*S), its first character standing in column `indent`."""
    if array.size == 0:
        return "[]"
    edge = options.edgeitems
    summarise = array.size > options.threshold and array.ndim > 0
    if summarise and not edge:
        return "[...]"
    cut = [summarise and length > 2 * edge for length in array.shape]
    for axis, is_cut in enumerate(cut):
        if is_cut:
            ends = (*range(edge), *range(-edge, 0))
            array = array.take(ends, axis=axis)
    printed = _as_printed(array)
    text, width = _complex_style(printed, options) if printed.dtype.kind == "c" else _style(printed, options)
    per_line = max(1, math.floor((options.linewidth - indent - array.ndim + 1) / (width + 2))) if array.ndim else 1

    def block(values: Any, axis: int) -> str:
        """The text of one sub-array, given as nested lists of Python numbers, that begins at `axis`."""
        if axis == array.ndim:
            return text(values)
        last = axis == array.ndim - 1
        parts = [block(value, axis + 1) for value in values]
        if cut[axis]:
            parts.insert(edge, " ..." if last else "...")
        margin = " " * (indent + axis + 1)
        if not last:
            return "[" + ("," + "\n" * (array.ndim - axis - 1) + margin).join(parts) + "]"
        lines = [", ".join(parts[start : start + per_line]) for start in range(0, len(parts), per_line)]
        return "[" + (",\n" + margin).join(lines) + "]"

    return block(printed.tolist(), 0)


def _style(values: np.ndarray, options: PrintOptions) -> tuple[Callable[[Any], str], int]:
    """How all numbers of one real, integer or bool tensor are written: the function to text, and its width."""
    if values.dtype.kind == "f":
        write, width = _float_style(values, options)
    else:
        write, width = str, max(len(str(value)) for value in values.ravel().tolist())
    return lambda value: write(value).rjust(width), width


def _float_style(values: np.ndarray, options: PrintOptions) -> tuple[Callable[[float], str], int]:
    """Text function and width for `values` (*S) float: whole numbers (`3.`), fixed point or scientific notation.

    Only finite, nonzero values decide; scientific where they span more than three decades or leave [1e-4, 1e8].
    """
    deciding = values[np.isfinite(values) & (values != 0)]
    if deciding.size == 0:
        return _whole, 1
    magnitudes = np.abs(deciding)
    low, high = float(magnitudes.min()), float(magnitudes.max())
    scientific = options.sci_mode
    if scientific is None:
        # Python floats: the quotient of extreme values is inf without a warning.
        scientific = high / low > 1000.0 or high > 1.0e8 or low < 1.0e-4
    write: Callable[[float], str]
    if scientific:
        write = f"{{:.{options.precision}e}}".format
    elif bool((deciding == np.ceil(deciding)).all()):
        write = _whole
    else:
        write = f"{{:.{options.precision}f}}".format
    return write, max(len(write(value)) for value in deciding.tolist())


def _whole(value: float) -> str:
    """A whole number with the point that marks it as floating; nan and inf need none."""
    return f"{value:.0f}." if math.isfinite(value) else f"{value:.0f}"


def _complex_style(values: np.ndarray, options: PrintOptions) -> tuple[Callable[[Any], str], int]:
    """As `_style` for complex `values`: real and imaginary parts are styled each on their own."""
    real, real_width = _style(values.real.astype(np.float64), options)
    imag, imag_width = _style(values.imag.astype(np.float64), options)

    def write(value: complex) -> str:
        tail = imag(value.imag).lstrip() + "j"
        return real(value.real) + (tail if tail[0] in "+-" else "+" + tail)

    return write, real_width + imag_width + 1
