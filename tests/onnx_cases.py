"""How much of the library can be written as ONNX: every op that has a record, every module that has a case here.

    python tests/onnx_cases.py          runs all of it, and writes the tables into docs/onnx.md
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tapegrad as torch
from onnx_modules import CASES as MODULES
from tapegrad.autograd.op import OPS, load_late
from tapegrad.utils.onnx.table import load

# ---- ops

# Ops that no forward pass of a model calls: adjoints and parts of rules.
INNER = re.compile(
    r".*_backward|.*_adjoint|scatter_shares|tie_shares|pool_scatter|pool_gather|zero_region|avg_pool_input|conv_weight|"
    r"fold|col2im|grid_scatter|masked_spread|slice_backward|scale_by_frequency|class_mask|nudged|cofactor|"
    r"scale_interior|sampled|copy_slices|is_zero"
)


def ops() -> list[str]:
    """The primitives that forward passes are made of."""
    load_late()
    return sorted(name for name, op in OPS.items() if not op.composite and not INNER.fullmatch(name))


TABLE = load()
AS_VIEWS = ("split", "split_with_sizes", "unbind")  # which a trace sees as one view each


def samples(record: Any) -> list[Any]:
    """A record's samples that ONNX can hold: no complex numbers, nothing empty."""
    found = []
    for sample in record.samples(np.random.default_rng(0)):
        arrays = [a for a in sample.arrays if isinstance(a, np.ndarray)]
        if arrays and all(a.dtype.kind != "c" and a.size for a in arrays):
            found.append(sample)
    return found


class OneOp:
    """A function of many tensors: the op on each of its samples."""

    def __init__(self, name: str, given: list[Any]):
        self.name, self.given = name, given
        kinds = {a.dtype.kind for s in given for a in s.arrays if isinstance(a, np.ndarray)}
        self.inputs_are = "f" if "f" in kinds else "iub"  # integers beside floats are mostly places, and stay

    def inputs(self) -> tuple[Any, ...]:
        """The arrays of all samples that become inputs, floating ones in float32."""
        return tuple(self._tensor(a) for s in self.given for a in s.arrays if self._is_input(a))

    def _is_input(self, array: Any) -> bool:
        return isinstance(array, np.ndarray) and array.dtype.kind in self.inputs_are

    def _tensor(self, array: Any) -> Any:
        array = np.asarray(array)
        return torch.tensor(array.astype("f4") if array.dtype.kind == "f" else array)

    def __call__(self, *tensors: Any) -> list[Any]:
        left, outs = iter(tensors), []
        for sample in self.given:
            arrays = [
                next(left) if self._is_input(a) else self._tensor(a) if isinstance(a, np.ndarray) else a
                for a in sample.arrays
            ]
            out = OPS[self.name].fn(*arrays, **sample.kw)
            outs += [o for o in (out if isinstance(out, tuple) else (out,)) if isinstance(o, torch.Tensor)]
        return outs


def compare(function: OneOp) -> None:
    """Exports the function, and compares it in onnxruntime; AssertionError for a difference."""
    inputs = function.inputs()
    program = torch.onnx.export(function, inputs)
    for i, (want, have) in enumerate(zip(function(*inputs), program(*inputs), strict=True)):
        name = f"{function.name}, output {i}"
        assert (want.dtype, want.shape) == (have.dtype, have.shape), f"{name}: {have.dtype} {have.shape}, not {want}"
        np.testing.assert_allclose(have.array, want.array, rtol=2e-4, atol=2e-5, err_msg=name)


def check_op(name: str, record: Any) -> tuple[bool, str]:
    """(whether the op is exported, what is refused of it).

    All samples in one graph; where that is refused, one by one: each is refused too, or equal.
    """
    if name not in TABLE and name not in AS_VIEWS:
        return False, "no form in ONNX"
    given = samples(record)
    if not given:
        return False, "no sample without complex numbers"
    try:
        compare(OneOp(name, given))
        return True, ""
    except torch.onnx.OnnxExporterError as error:
        reason = error
    done = 0
    for sample in given:
        try:
            compare(OneOp(name, [sample]))
            done += 1
        except torch.onnx.OnnxExporterError as error:
            reason = error
    text = str(reason)
    return done > 0, re.sub(r"^cannot export .*?\): |\. [A-Z].*$", "", text)


def conformance() -> dict[str, tuple[bool, str]]:
    """What `check_op` says of every op."""
    from records import RECORDS

    return {name: check_op(name, RECORDS[name]) if name in RECORDS else (False, "no record") for name in ops()}


def table() -> str:
    """The part of docs/onnx.md that says what is exported."""
    found = conformance()
    whole = [n for n, (done, limit) in found.items() if done and not limit]
    part = {n: limit for n, (done, limit) in found.items() if done and limit}
    left = [n for n, (done, _) in found.items() if not done]
    lines = [
        f"{len(whole) + len(part)} of the {len(found)} primitives that forward passes are made of are exported, and "
        "give in onnxruntime what they give here, on the samples of their records; "
        f"{len(MODULES)} of {len(MODULES)} cases of nn's modules do, with a dynamic batch.",
        "",
        "| exported | ops |",
        "| --- | --- |",
        f"| yes ({len(whole)}) | {' '.join(f'`{n}`' for n in whole)} |",
        *[f"| `{n}`, in part | not: {limit} |" for n, limit in part.items()],
        f"| no ({len(left)}) | {' '.join(f'`{n}`' for n in left)} |",
    ]
    return "\n".join(lines)


BEGIN, END = "<!-- made by tests/onnx_cases.py -->", "<!-- end -->"


def main() -> None:
    """Writes the table."""
    path = Path(__file__).parent.parent / "docs" / "onnx.md"
    text = path.read_text("utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    made = table()
    path.write_text(f"{head}{BEGIN}\n{made}\n{END}{tail}", "utf-8")
    print(made)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
