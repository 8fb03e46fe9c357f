"""What cannot be exported: errors that name the op, the module, the line, and what to do."""

from __future__ import annotations

import numpy as np
import pytest
import tapegrad as torch
from tapegrad import nn

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
OnnxExporterError = torch.onnx.OnnxExporterError
X = torch.tensor([[0.5, -1.0, 2.0], [1.5, 3.0, -2.0]])


class Wrapped(nn.Module):
    """A function inside a submodule."""

    class Inner(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def forward(self, x):
            return self.function(x)

    def __init__(self, function):
        super().__init__()
        self.inner = self.Inner(function)

    def forward(self, x):
        return self.inner(x)


def branch(x):
    if x.sum() > 0:
        return x
    return -x


def loop(x):
    out = x[0]
    for i in range(1, x.shape[0]):
        out = out + x[i]
    return out


def by_size(x):
    return x.exp() if x.shape[0] % 2 else x.sin()


def random(x):
    return x + torch.randn(3)


def random_shape(x):
    return x + torch.randn(x.shape[0], 3)


def through_numpy(x):
    return torch.from_numpy(np.cumsum(np.asarray(x.array)))


# what it is, the function, whether its batch is dynamic, and pieces of the text
CASES = [
    ("item", lambda x: x * x.sum().item(), False, [".item()", "depends on an input", "torch.where"]),
    ("branch", branch, False, ["bool(tensor)", "depends on an input"]),
    ("float", lambda x: x * float(x[0, 0]), False, ["float(tensor)"]),
    ("tolist", lambda x: torch.tensor(x.tolist()), False, [".tolist()"]),
    ("numpy", lambda x: torch.tensor(x.numpy()), False, [".numpy()"]),
    ("array", through_numpy, False, ["no traced op made", "outside of tensor operations"]),
    ("mask", lambda x: x[x > 0], False, ["a mask of bools as an index", "masked_fill"]),
    ("nonzero", lambda x: x.nonzero(), False, ["'nonzero'", "how many elements", "torch.where"]),
    ("unknown op", lambda x: torch.lgamma(x), False, ["'lgamma'", "no form in ONNX", "custom_translation_table"]),
    ("complex", lambda x: torch.fft.fft(x).real, False, ["complex"]),
    ("dropout", lambda x: nn.functional.dropout(x, 0.5), False, ["drawn at random", "dropout", "eval mode"]),
    ("random", random, False, ["no traced op made", "drawn at random"]),
    ("random of a size", random_shape, True, ["neither one number everywhere", "buffer"]),
    ("loop", loop, True, ["loop or branch", "'select'", "dynamic_axes"]),
    ("size", by_size, True, ["another path", "'exp'", "'sin'", "dynamic_axes"]),
    ("windows", lambda x: nn.functional.adaptive_avg_pool1d(x.T, 2), True, ["'adaptive_avg_pool'", "avg_pool"]),
    ("no tensor", lambda x: (x, "text"), False, ["returned a str", "only tensors"]),
    ("nothing", lambda x: None, False, ["returned no tensor"]),
    ("bfloat16", lambda x: x.to(torch.bfloat16), False, ["bfloat16", "float()"]),
    ("size solved", lambda x: x[: int(x.shape[0] ** 1.5 // 4)], True, ["size that was", "quotient", "x.shape"]),
]


@pytest.mark.parametrize(("function", "dynamic", "pieces"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_what_cannot_be_exported(function, dynamic, pieces):
    net, axes = Wrapped(function), {"x": {0: "batch"}} if dynamic else None
    with pytest.raises(OnnxExporterError) as caught:
        torch.onnx.export(net, (X.repeat(2, 1),), dynamic_axes=axes)
    text = str(caught.value)
    for piece in pieces:
        assert piece in text, text
    if "returned" not in text:
        assert "test_onnx_errors.py:" in text, text
    assert net.training and net.inner.training
    assert X.sum().item() == 4.0  # what was swapped is back


def test_the_error_names_module_and_line():
    def function(x):
        return torch.digamma(x)

    with pytest.raises(torch.onnx.UnsupportedOperatorError) as caught:
        torch.onnx.export(Wrapped(function), (X,))
    line = function.__code__.co_firstlineno + 1
    assert f"'digamma' (in module inner (Inner), at {__file__}:{line})" in str(caught.value)
    assert isinstance(caught.value, (OnnxExporterError, RuntimeError)) and caught.value.op == "digamma"


def test_sizes_that_the_model_does_not_take():
    net = nn.Bilinear(3, 3, 2)
    with pytest.raises(OnnxExporterError, match=r"does not run with other sizes .*\(a, b; .* one name"):
        torch.onnx.export(net, (X, X), dynamic_axes={"input1": {0: "a"}, "input2": {0: "b"}})


def test_verify_names_the_output():
    class Net(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return x, x * (1.0 if self.calls < 3 else 2.0)

    with pytest.raises(OnnxExporterError, match="verify: output 1 .* differs by"):
        torch.onnx.export(Net(), (X,), verify=True)


LINEAR = nn.Linear(3, 2)
ARGUMENTS = [
    ("no model", lambda: torch.onnx.export(5, (X,)), TypeError, "Module or a function, not int"),
    ("no tensor", lambda: torch.onnx.export(LINEAR, (5,)), ValueError, "no tensor among the example inputs"),
    ("opset", lambda: torch.onnx.export(LINEAR, X, opset_version=9), ValueError, "from 18 to 23, got 9"),
    ("names", lambda: torch.onnx.export(LINEAR, X, input_names=["a", "b"]), ValueError, "2 names, but"),
    ("twice", lambda: torch.onnx.export(torch.add, (X, X), input_names=["a", "a"]), ValueError, "a name twice"),
    ("outputs", lambda: torch.onnx.export(LINEAR, X, output_names=["a", "b"]), ValueError, "gives 1 tensors"),
    ("clash", lambda: torch.onnx.export(LINEAR, X, output_names=["input"]), ValueError, "must differ"),
    ("taken", lambda: torch.onnx.export(LINEAR, X, output_names=["weight"]), ValueError, "of a parameter"),
    ("axis", lambda: torch.onnx.export(LINEAR, X, dynamic_axes={"input": {5: "n"}}), ValueError, "2 dimensions"),
    ("unknown", lambda: torch.onnx.export(LINEAR, X, dynamic_axes={"x": {0: "n"}}), ValueError, "names ['x'], but"),
    ("kind", lambda: torch.onnx.export(LINEAR, X, dynamic_axes={"input": 0}), TypeError, "a dict (axis -> name)"),
    ("list", lambda: torch.onnx.export(LINEAR, X, dynamic_axes=["input"]), TypeError, "a dict of names, not list"),
    ("shapes", lambda: torch.onnx.export(LINEAR, X, dynamic_shapes={"y": {0: "n"}}), ValueError, "names ['y'], but"),
    ("both", lambda: torch.onnx.export(LINEAR, X, dynamic_axes={}, dynamic_shapes={}), ValueError, "not both"),
    (
        "unequal",
        lambda: torch.onnx.export(torch.matmul, (X, X.T), input_names=["a", "b"],
                                  dynamic_axes={"a": {0: "n"}, "b": {0: "n"}}),
        ValueError, "'n' is 2 in one example input, and 3 in 'b'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), [a[1:] for a in ARGUMENTS], ids=[a[0] for a in ARGUMENTS])
def test_arguments(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert text in str(caught.value)


def test_inputs_of_a_program():
    program = torch.onnx.export(LINEAR, X)
    with pytest.raises(ValueError, match=r"takes the tensors \['input'\], got 2"):
        program(X, X)
    assert repr(program) == "ONNXProgram(opset 20, 1 nodes: Gemm 1)"
