"""The switches for float32 products: PyTorch's old and new names over one table, also where they contradict."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest
import tapegrad
from tapegrad.backends import cudnn, precision


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Each test begins with nothing set, whatever other files have set."""
    before = precision.kept()
    precision.restore((dict.fromkeys(precision.NODES), "highest", True))
    yield
    precision.restore(before)


READ = [
    "B.fp32_precision", "B.cudnn.fp32_precision", "B.cuda.matmul.fp32_precision", "B.cudnn.conv.fp32_precision",
    "B.cudnn.rnn.fp32_precision", "B.mkldnn.fp32_precision", "B.mkldnn.matmul.fp32_precision",
    "B.mkldnn.conv.fp32_precision", "B.mkldnn.rnn.fp32_precision", "B.cuda.matmul.allow_tf32", "B.cudnn.allow_tf32",
    "T.get_float32_matmul_precision()",
]  # fmt: skip
WRITTEN = [f"{name} = {word!r}" for name in READ[:9] for word in ("none", "ieee", "tf32", "bf16", "what")]
WRITTEN += [f"{name} = {value}" for name in READ[9:11] for value in (True, False, 1)]
WRITTEN += [f"T.set_float32_matmul_precision({word!r})" for word in ("highest", "high", "medium")]


def done(text: str, library: Any) -> Any:
    """The value, or the error's type and text."""
    names = {"T": library, "B": library.backends}
    try:
        return exec(text, names) if " = " in text or ".set_" in text else eval(text, names)
    except (RuntimeError, AttributeError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("seed", range(12))
def test_all_names_say_what_pytorchs_say(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is set in whatever order; errors by their text."""
    real = pytest.importorskip("torch")
    # torch's own test code, once another test has imported it, forbids the flags of cuDNN to be set by assignment
    monkeypatch.setitem(real.backends.flags_frozen.__globals__, "__allow_nonbracketed_mutation_flag", True)
    chosen = random.Random(seed)
    torch_before = [(n, "none") for n in READ[:9] if ".conv" not in n and ".rnn" not in n]
    # PyTorch's defaults of conv and rnn cannot be set again: after the first run they are words
    start = [f"{n} = {w!r}" for n, w in torch_before]
    start += ["B.cuda.matmul.allow_tf32 = False", "B.cudnn.allow_tf32 = True", "B.mkldnn.conv.fp32_precision = 'none'"]
    start += ["B.mkldnn.rnn.fp32_precision = 'none'", "T.set_float32_matmul_precision('highest')"]
    try:
        for text in start:
            done(text, tapegrad), done(text, real)
        for text in chosen.choices(WRITTEN, k=60):
            assert done(text, tapegrad) == done(text, real), text
            for name in READ:
                assert done(name, tapegrad) == done(name, real), (text, name)
            assert precision.tf32 == {
                "matmul": real.backends.cuda.matmul.fp32_precision == "tf32",
                "conv": real.backends.cudnn.conv.fp32_precision == "tf32",
                "rnn": real.backends.cudnn.rnn.fp32_precision == "tf32",
            }
    finally:
        for text in start:
            done(text, real)




def test_before_anything_is_set() -> None:
    """Full precision for matrix products, TF32 for convolutions and recurrent layers unless one above differs."""
    values = ["none", "none", "none", "tf32", "tf32", "none", "none", "none", "none", False, True, "highest"]
    assert [done(name, tapegrad) for name in READ] == values
    for word, conv in (("ieee", "ieee"), ("bf16", "none"), ("none", "tf32")):
        tapegrad.backends.fp32_precision = word
        assert cudnn.conv.fp32_precision == conv and precision.tf32["rnn"] == (conv == "tf32")
    tapegrad.backends.fp32_precision = "tf32"
    assert precision.tf32 == {"matmul": True, "conv": True, "rnn": True}


def test_for_a_while() -> None:
    backends = tapegrad.backends
    with backends.flags("ieee"):
        assert backends.cudnn.conv.fp32_precision == "ieee"
    assert backends.fp32_precision == "none" and backends.set_flags("tf32") == ("none",)
    assert backends.set_flags(None) == ("tf32",)
    backends.fp32_precision = "none"
    for allowed, inside in itertools.product((True, False), repeat=2):
        cudnn.allow_tf32 = allowed
        with cudnn.flags(enabled=True, allow_tf32=inside):
            assert cudnn.allow_tf32 == inside
        assert cudnn.allow_tf32 == allowed
    with backends.mkldnn.flags(fp32_precision="bf16"):
        assert backends.mkldnn.matmul.fp32_precision == "bf16" and backends.fp32_precision == "none"
    assert backends.mkldnn.fp32_precision == "none"
    cudnn.allow_tf32 = True
    cudnn.conv.fp32_precision = "ieee"
    with pytest.raises(RuntimeError, match="mix of the legacy and new APIs"), cudnn.flags():
        pass


def test_what_is_no_setting() -> None:
    matmul = tapegrad.backends.cuda.matmul
    split = "allow_bf16_reduced_precision_reduction_split_k"
    for holder, name in ((matmul, "what"), (cudnn.conv, "what"), (matmul, split)):
        with pytest.raises(AttributeError, match=f"Unknown attribute {name}"):
            setattr(holder, name, True)
    for holder in (matmul, cudnn.conv):
        with pytest.raises(AttributeError, match="Unknown attribute what"):
            _ = holder.what
    for holder in (tapegrad.backends, cudnn, matmul):
        with pytest.raises(TypeError):
            holder.fp32_precision = 1


GIVEN = [True, False, (True,), [False, False], (False, True), (True, False), (), (True, True, True), "a", (1,), 1]


@pytest.mark.parametrize("given", GIVEN, ids=str)
@pytest.mark.parametrize("short", ["fp16", "bf16"])
def test_sums_in_half_precision(short: str, given: Any) -> None:
    real = pytest.importorskip("torch")
    name = f"B.cuda.matmul.allow_{short}_reduced_precision_reduction"
    text = f"{name} = {given!r}"
    try:
        try:
            exec(text, {"B": real.backends})
        except (TypeError, RuntimeError) as error:
            with pytest.raises(type(error)):
                exec(text, {"B": tapegrad.backends})
        else:
            exec(text, {"B": tapegrad.backends})
            for end in ("", "_split_k"):
                assert eval(name + end, {"B": tapegrad.backends}) == eval(name + end, {"B": real.backends})
    finally:
        for library in (real, tapegrad):
            exec(f"{name} = True", {"B": library.backends})


def test_accumulation_in_half_precision() -> None:
    matmul = tapegrad.backends.cuda.matmul
    assert matmul.allow_fp16_accumulation is False
    matmul.allow_fp16_accumulation = True
    assert matmul.allow_fp16_accumulation is True
    matmul.allow_fp16_accumulation = False
    with pytest.raises(RuntimeError, match="set_allow_fp16_accumulation_cublas expects a bool, but got int"):
        matmul.allow_fp16_accumulation = 1
