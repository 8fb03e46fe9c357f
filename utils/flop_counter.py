"""torch.utils.flop_counter: floating-point operations of matrix products, convolutions and attention.

They are counted where the ops compute, forward and backward, by PyTorch's conventions: a multiplication and an addition
are two operations, a product (N, K) x (K, M) takes 2 N K M, and everything else is not counted. What an op is called
with decides, not what kind of module calls it.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..autograd.flops import FORMULAS, flop_registry
from ..autograd.op import find
from ..autograd.watch import Watch
from .module_tracker import ModuleTracker

__all__ = ["FlopCounterMode", "register_flop_formula"]

def _shape(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(map(_shape, value))
    return tuple(value.shape) if hasattr(value, "shape") and hasattr(value, "dtype") else value


def _of_shapes(formula: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(formula)
    def counted(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
        return formula(*map(_shape, args), out_shape=_shape(out_val), **kwargs)

    return counted


def _op_name(target: Any) -> str:
    """The op that is meant by its name or its function. ValueError for another thing."""
    name = target if isinstance(target, str) else getattr(getattr(target, "op", None), "name", None)
    if name is None:
        name = getattr(target, "__name__", None)
    if name is None or find(name) is None:
        raise ValueError(f"expected the name or the function of an op of this library, but got {target!r}")
    return name


def register_flop_formula(targets: Any, get_raw: bool = False) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Decorator: the formula of the op, or ops, `targets` (names, or functions such as torch.exp).

    The formula is called with shapes for arrays, the op's keywords, and out_shape; with get_raw=True, with the raw
    arrays themselves and out_val. RuntimeError where the op has one.

    >>> import tapegrad as torch
    >>> from tapegrad.utils.flop_counter import FlopCounterMode, register_flop_formula
    >>> @register_flop_formula("cosh")
    ... def cosh_flop(x_shape, *, out_shape=None, **kwargs):
    ...     return 10 * x_shape[0]
    >>> with FlopCounterMode(display=False) as counter:
    ...     y = torch.cosh(torch.ones(3))
    >>> counter.get_flop_counts()
    {'Global': {'cosh': 30}}
    """

    names = [_op_name(t) for t in (targets if isinstance(targets, (list, tuple)) else [targets])]

    def register(formula: Callable[..., int]) -> Callable[..., int]:
        counted = formula if get_raw else _of_shapes(formula)
        for name in names:
            if name in flop_registry or name in FORMULAS:
                raise RuntimeError(f"duplicate registrations for {name}")
        flop_registry.update(dict.fromkeys(names, counted))
        return counted

    return register


class FlopWatch(Watch):
    """Calls `counted(word, FLOPs)` for each call of an op that has a formula, while it is open."""

    def __init__(self, counted: Callable[[str, int], None], more: Mapping[str, Callable[..., int]] | None = None):
        own = {**flop_registry, **(more or {})}

        def seen(name: str, arrays: tuple[Any, ...], kw: dict[str, Any], out: Any) -> None:
            if name in own:
                counted(name, own[name](*arrays, **kw, out_val=out))
            elif flops := FORMULAS[name](*arrays, **kw, out_val=out):
                counted(*flops)

        super().__init__(seen, {*FORMULAS, *own})


class FlopCounterMode:
    """Counts the FLOPs of what runs in its block, forward and backward, in all and for each module.

    Counts are equal to those of PyTorch for matrix products, convolutions and attention; attention is counted as its
    flash kernels are, on the CPU too. The recurrence of recurrent layers is counted as matrix products.

    Args:
        mods: not needed.
        depth: of the modules in the table; None for all.
        display: print the table at the end of the block.
        custom_mapping: formulas for further ops, see `register_flop_formula`.

    >>> import tapegrad as torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> with torch.utils.flop_counter.FlopCounterMode() as counter:
    ...     net(torch.ones(5, 3)).sum().backward()
    Module            FLOP    % Total
    --------------  ------  ---------
    Sequential         480    100.00%
     - aten.addmm      200     41.67%
     - aten.mm         280     58.33%
     Sequential.0      240     50.00%
      - aten.addmm     120     25.00%
      - aten.mm        120     25.00%
     Sequential.2      240     50.00%
      - aten.addmm      80     16.67%
      - aten.mm        160     33.33%
    >>> counter.get_total_flops()
    480
    """

    def __init__(
        self, mods: Any = None, depth: int | None = 2, display: bool = True, custom_mapping: Any = None
    ) -> None:
        if mods is not None:
            import warnings

            warnings.warn("mods argument is not needed anymore, you can stop passing it", stacklevel=2)
        self.flop_counts: dict[str, dict[str, int]] = {}
        self.depth, self.display = depth, display
        self.mod_tracker = ModuleTracker()
        self._more = {
            _op_name(target): formula if getattr(formula, "_get_raw", False) else _of_shapes(formula)
            for target, formula in (custom_mapping or {}).items()
        }

    def get_total_flops(self) -> int:
        """All FLOPs of the block."""
        return sum(self.flop_counts.get("Global", {}).values())

    def get_flop_counts(self) -> dict[str, dict[str, int]]:
        """{name of a module, or "Global": {PyTorch's word for the op: FLOPs}}."""
        return {name: dict(counts) for name, counts in self.flop_counts.items()}

    def get_table(self, depth: int | None = None) -> str:
        """The counts as text, modules down to `depth`."""
        depth = self.depth if depth is None else depth
        total = self.get_total_flops()
        rows: list[tuple[str, str, str]] = []
        covered = False
        for name in sorted(self.flop_counts):
            level = name.count(".")
            if name != "Global" and (depth is None or level < depth):
                covered |= sum(self.flop_counts[name].values()) >= total
                rows += self._rows(name, level, total)
        if "Global" in self.flop_counts and not covered:
            rows = self._rows("Global", 0, total) + [(" " + name, flops, share) for name, flops, share in rows]
        return _table(("Module", "FLOP", "% Total"), rows or [("Global", "0", "0%")])

    def _rows(self, name: str, level: int, total: int) -> list[tuple[str, str, str]]:
        counts = self.flop_counts[name]
        pad = " " * level
        rows = [(pad + name, sum(counts.values())), *((f"{pad} - {op}", n) for op, n in counts.items())]
        return [(text, _scaled(n, total), f"{n / total:.2%}" if total else "0%") for text, n in rows]

    def __enter__(self) -> FlopCounterMode:
        self.flop_counts = defaultdict(lambda: defaultdict(int))
        self._watch = FlopWatch(self._count, self._more)
        self.mod_tracker.__enter__()
        self._watch.__enter__()
        return self

    def __exit__(self, *failed: object) -> None:
        self._watch.__exit__(*failed)
        self.mod_tracker.__exit__(*failed)
        if self.display:
            print(self.get_table(self.depth))

    def _count(self, word: str, flops: int) -> None:
        for parent in self.mod_tracker.parents:
            self.flop_counts[parent][word] += flops


_UNITS = ("", "K", "M", "B", "T")


def _scaled(number: int, total: int) -> str:
    """The number in the unit that suits the total: plain, or thousands ... with three digits."""
    place = max(0, min(len(_UNITS) - 1, (len(str(total)) - 2) // 3))
    return f"{number / 1000**place:.3f}{_UNITS[place]}" if place else str(number)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Columns under a rule; the first to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(len(name) + 2, *(len(line[i]) for line in lines)) for i, name in enumerate(head)]
    lines.insert(1, tuple("-" * width for width in widths))
    text = []
    for line in lines:
        name, *numbers = line
        text.append("  ".join([name.ljust(widths[0]), *(n.rjust(w) for n, w in zip(numbers, widths[1:], strict=True))]))
    return "\n".join(text)
