"""nn.init beside torch: the same draws, gains, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tapegrad

# (call on init and a tensor w, shape)
CALLS: list[tuple[str, tuple[int, ...]]] = [
    ("uniform_(w)", (5, 4)),
    ("uniform_(w, -2.0, 3.0)", (5, 4)),
    ("normal_(w)", (5, 4)),
    ("normal_(w, 1.0, 0.02)", (3,)),
    ("normal_(w, mean=0.5, std=2.0)", (40, 3)),
    ("trunc_normal_(w)", (6, 5)),
    ("trunc_normal_(w, std=0.02, a=-0.04, b=0.03)", (6, 5)),
    ("constant_(w, 0.3)", (3, 2)),
    ("ones_(w)", (3, 2)),
    ("zeros_(w)", (3, 2)),
    ("eye_(w)", (3, 5)),
    ("dirac_(w)", (4, 3, 3)),
    ("dirac_(w, groups=2)", (4, 3, 3, 5)),
    ("xavier_uniform_(w)", (5, 4)),
    ("xavier_uniform_(w, gain=init.calculate_gain('relu'))", (5, 4, 3, 3)),
    ("xavier_normal_(w, gain=2.0)", (5, 4)),
    ("kaiming_uniform_(w, a=5**0.5)", (5, 4)),
    ("kaiming_uniform_(w, mode='fan_out', nonlinearity='relu')", (5, 4, 3)),
    ("kaiming_normal_(w)", (5, 4)),
    ("kaiming_normal_(w, mode='fan_out', nonlinearity='tanh')", (5, 4, 2, 2)),
    ("orthogonal_(w)", (5, 5)),
    ("orthogonal_(w, gain=2.0)", (3, 5)),
    ("orthogonal_(w)", (6, 2, 2)),
    ("sparse_(w, sparsity=0.3)", (6, 4)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("text", "shape"), CALLS, ids=[f"{t}{s}" for t, s in CALLS])
def test_init_equals_torch(text: str, shape: tuple[int, ...], dtype: str) -> None:
    torch = pytest.importorskip("torch")
    values = []
    for lib in (torch, tapegrad):
        lib.manual_seed(11)
        w = lib.empty(shape, dtype=getattr(lib, dtype))
        out = eval(f"init.{text}", {"init": lib.nn.init, "w": w})
        assert out is w
        values.append((np.array(w.numpy()), lib.rand(1).item()))
    (expected, next_there), (found, next_here) = values
    assert next_here == next_there
    if text.startswith(("orthogonal", "trunc")):  # LAPACK's QR, erfinv: last bits
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 if dtype == "float32" else 1e-12)
    else:
        np.testing.assert_array_equal(found, expected)


ERRORS = [
    "calculate_gain('unknown')",
    "calculate_gain('leaky_relu', 'a')",
    "eye_(lib.ones(3))",
    "dirac_(lib.ones(3, 3))",
    "dirac_(lib.ones(3, 3, 3), groups=2)",
    "xavier_uniform_(lib.ones(3))",
    "kaiming_uniform_(lib.ones(3, 3), mode='both')",
    "kaiming_normal_(lib.ones(3, 3), nonlinearity='unknown')",
    "orthogonal_(lib.ones(3))",
    "sparse_(lib.ones(3), 0.1)",
]


@pytest.mark.parametrize("text", ERRORS)
def test_wrong_calls_raise_as_torch(text: str) -> None:
    torch = pytest.importorskip("torch")
    texts = []
    for lib in (torch, tapegrad):
        with pytest.raises(Exception) as caught:
            eval(f"init.{text}", {"init": lib.nn.init, "lib": lib})
        texts.append((caught.type.__name__, str(caught.value)))
    assert texts[0] == texts[1]


def test_gains() -> None:
    torch = pytest.importorskip("torch")
    for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"):
        assert tapegrad.nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert tapegrad.nn.init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)


def test_deprecated_names_warn() -> None:
    with pytest.warns(FutureWarning, match="xavier_uniform_"):
        tapegrad.nn.init.xavier_uniform(tapegrad.empty(2, 2))


def test_generators_are_used() -> None:
    torch = tapegrad
    draws: list[Any] = [
        torch.nn.init.normal_(torch.empty(4), generator=torch.Generator().manual_seed(s)).tolist() for s in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_orthogonal_rows() -> None:
    torch = tapegrad
    w = torch.nn.init.orthogonal_(torch.empty(3, 7, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(w @ w.T, np.eye(3), atol=1e-12)
