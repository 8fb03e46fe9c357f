"""Every op that has a record and every layer of nn, exported and compared with onnxruntime; opsets; docs/onnx.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tapegrad as torch

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_cases  # noqa: E402  (they export when imported)
import onnx_modules  # noqa: E402
from records import RECORDS  # noqa: E402

PARTLY = {"attention", "cast", "grid_sample", "gru_sequence", "lstm_sequence", "rnn_sequence"}
REFUSED = {"dropout", "masked_select", "nonzero", "unique_values"}  # in the table for the sake of its error


@pytest.mark.parametrize("first", range(0, 400, 40))
def test_ops(first):
    for name in onnx_cases.ops()[first : first + 40]:
        done, limit = onnx_cases.check_op(name, RECORDS[name])
        known = (name in onnx_cases.TABLE or name in onnx_cases.AS_VIEWS) and name not in REFUSED
        assert done == known, f"{name}: {limit}"
        assert not done or bool(limit) == (name in PARTLY), f"{name}: {limit}"


def test_the_table_names_ops():
    own = {"numbers_of", "write_at"}  # of traces
    assert set(onnx_cases.TABLE) - own <= set(torch.autograd.op.OPS)


@pytest.mark.parametrize("first", range(0, len(onnx_modules.CASES), 20))
def test_modules(first):
    for case in onnx_modules.CASES[first : first + 20]:
        program = onnx_modules.check_module(case)
        onnx.checker.check_model(program.model_proto, full_check=True)


@pytest.mark.parametrize("opset", [18, 19, 21, 22, 23])
def test_opsets(opset):
    """A few layers whose nodes changed between opsets."""
    for name in ("GELU()", "Upsample(scale_factor=2)", "AvgPool2d(2, ceil", "LSTM(5, 4)", "ReflectionPad2d"):
        case = next(c for c in onnx_modules.CASES if f"nn.{name}" in c[0])
        program = onnx_modules.check_module(case, opset_version=opset)
        onnx.checker.check_model(program.model_proto, full_check=True)
        assert program.model_proto.opset_import[0].version == opset
    x, grid = torch.randn(1, 2, 4, 4), torch.rand(1, 3, 3, 2)
    sample = torch.nn.functional.grid_sample
    torch.onnx.export(
        lambda x, g: sample(x, g, align_corners=False), (x, grid), opset_version=opset, verify=True
    )


def test_the_page_has_the_counts():
    text = (Path(__file__).parent.parent / "docs" / "onnx.md").read_text("utf-8")
    counts = re.search(r"(\d+) of the (\d+) primitives .*?(\d+) of (\d+) cases", text, re.DOTALL)
    names = onnx_cases.ops()
    known = [n for n in names if (n in onnx_cases.TABLE or n in onnx_cases.AS_VIEWS) and n not in REFUSED]
    cases = len(onnx_modules.CASES)
    assert [int(n) for n in counts.groups()] == [len(known), len(names), cases, cases], (
        "run python tests/onnx_cases.py, which writes the table into docs/onnx.md"
    )
