"""torch.testing._internal's op_db: every sample of every operator, in every dtype that we share, in all its forms.

`record(name)` gives, for one operator name (all of its variants), check -> None where it passes, else the first
failure. The checks: forward, noncontiguous, scalars, extremes, grad, gradgrad, method, inplace, out, alias, errors.
"""

from __future__ import annotations

import functools
import itertools
import random
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tapegrad
import torch
from torch.testing._internal.opinfo import core

from . import compare, translate
from .reasons import ANY_OF_EQUALS, GAUGE, LOOSE, UNINITIALISED
from .translate import Missing, function, lookup, to_tapegrad

FORWARD = [torch.float64, torch.float32, torch.complex128, torch.int64, torch.uint8, torch.bool]
DIFFERENTIABLE = [torch.float64, torch.complex128]
Failure = str | None


class Failed(Exception):
    """A check that found a difference; its text says which."""


@functools.cache
def database() -> dict[str, list[Any]]:
    """Operator name -> its variants."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    names: dict[str, list[Any]] = {}
    for info in op_db:
        names.setdefault(info.name, []).append(info)
    return names


def entries() -> list[str]:
    return sorted(database())


def dtypes(info: Any, wanted: list[torch.dtype]) -> list[torch.dtype]:
    supported = info.supported_dtypes("cpu")
    return [d for d in wanted if d in supported]


@functools.cache
def by_id(key: int) -> Any:
    """An entry of the database by its id: entries cannot be hashed."""
    return next(info for variants in database().values() for info in variants if id(info) == key)


def scalars(info: Any, **kw: Any) -> Iterator[Any]:
    """Samples of a binary operator with Python numbers, first, second and both."""
    yield from core.generate_elementwise_binary_with_scalar_samples(info, **kw)
    yield from core.generate_elementwise_binary_with_scalar_and_type_promotion_samples(info, **kw)


def extremes(info: Any, **kw: Any) -> Iterator[Any]:
    """Samples of an elementwise operator with infinities and NaN."""
    binary = isinstance(info, core.BinaryUfuncInfo)
    kind = "binary" if binary else "unary"
    yield from getattr(core, f"generate_elementwise_{kind}_extremal_value_tensors")(info, **kw)


def generated(info: Any, dtype: torch.dtype, requires_grad: bool, form: Any) -> Iterator[Any]:
    if form is None:
        return info.sample_inputs("cpu", dtype, requires_grad=requires_grad)
    return form(info, device="cpu", dtype=dtype)


@functools.lru_cache(maxsize=8)
def samples(key: int, dtype: torch.dtype, requires_grad: bool, limit: int | None, form: Any = None) -> list[Any]:
    """The samples of the operator with that id, the same in every run; none where torch gives none."""
    info = by_id(key)
    torch.default_generator.manual_seed(0)  # torch.manual_seed asks every kind of device, which takes a millisecond
    np.random.seed(0)
    random.seed(0)
    try:
        return list(itertools.islice(generated(info, dtype, requires_grad, form), limit))
    except Exception:
        return []


class Call:
    """One sample on both libraries: equal inputs, the op as either has it."""

    def __init__(self, sample: Any):
        self.sample = sample
        self.theirs = (sample.input, *sample.args), dict(sample.kwargs)
        self.mine = translate.call(*self.theirs)

    def tensors(self, side: Any, kind: type) -> list[Any]:
        return [t for t in compare.flat([side[0], side[1]]) if isinstance(t, kind)]

    def leaves(self) -> tuple[list[Any], list[Any]]:
        """The inputs that require a gradient: ours, torch's."""
        mine, theirs = self.tensors(self.mine, tapegrad.Tensor), self.tensors(self.theirs, torch.Tensor)
        return [t for t in mine if t.requires_grad], [t for t in theirs if t.requires_grad]

    def __str__(self) -> str:
        return str(self.sample.summary())[12:][:260]


def run(op: Callable[..., Any], side: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
    """The result of a call; an exception is a value too."""
    try:
        return op(*side[0], **side[1])
    except Exception as error:
        return error


def same(mine: Any, theirs: Any, info: Any, dtype: torch.dtype | None, meta_only: bool = False) -> None:
    """Raises Failed where two results differ, exceptions included."""
    if isinstance(theirs, Exception):
        if not isinstance(mine, Exception):
            raise Failed(f"torch raises {compare.error(theirs)}; here no error")
        if not isinstance(mine, type(theirs)) and not isinstance(theirs, NotImplementedError):
            raise Failed(f"{compare.error(mine)}; torch raises {compare.error(theirs)}")
    elif isinstance(mine, Exception):
        raise Failed(compare.error(mine))
    else:
        loosen = LOOSE.get(info.name, 1.0)
        if text := compare.results(mine, theirs, loosen, meta_only or info.name in UNINITIALISED):
            raise Failed(text)


def as_exact(mine: Any, theirs: Any, exact: Any) -> bool:
    """Whether ours, in single precision, is as near to float64 as torch's: within four times its largest error."""
    for a, b, c in zip(compare.flat(mine), compare.flat(theirs), compare.flat(exact), strict=True):
        if not isinstance(b, torch.Tensor) or compare.tensors(a, b, meta_only=True):
            return False
        x, y, z = (np.asarray(t, np.float64) for t in (compare.raw(a), compare.array(b), compare.array(c)))
        finite = np.isfinite(z)
        if not np.array_equal(x[~finite], y[~finite], equal_nan=True):
            return False
        if finite.any() and not np.abs(x - z)[finite].max() <= 4 * np.abs(y - z)[finite].max():
            return False
    return True


def widened(value: Any) -> Any:
    """Arguments of torch with float64 for float32."""
    if isinstance(value, torch.Tensor):
        return value.detach().double() if value.dtype is torch.float32 else value
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(widened(item) for item in value)
    if isinstance(value, dict):
        return {key: widened(item) for key, item in value.items()}
    return torch.float64 if value is torch.float32 else value


def each(
    info: Any, wanted: list[torch.dtype], check: Callable[..., Any], limit: int | None, grad: bool, form: Any = None
) -> Failure:
    """Runs a check over the samples of every dtype; the first failure, with its dtype and sample."""
    ran = False
    for dtype in wanted:
        for sample in samples(id(info), dtype, grad, limit, form):
            call: Any = "translation"
            try:
                call = Call(sample)
                ran = check(info, call, dtype) is not False or ran
            except Missing as error:
                return f"missing: {error}"
            except Failed as error:
                variant = f"{info.variant_test_name}: " if info.variant_test_name else ""
                return f"{variant}{str(dtype).removeprefix('torch.')}: {error} [{call}]"
    return None if ran else "no sample"


# ---- the checks -----------------------------------------------------------------------------------------------------


def forward(info: Any, call: Call, dtype: torch.dtype) -> Any:
    """Values, dtypes, shapes; views share memory with torch's strides; inputs that torch writes are written."""
    versions = [t._version for t in call.tensors(call.theirs, torch.Tensor)]
    theirs = run(info.op, call.theirs)
    if isinstance(theirs, Exception) or theirs is NotImplemented:
        return False  # not a sample for this dtype
    mine = run(function(info.op), call.mine)
    process = call.sample.output_process_fn_grad if info.name in GAUGE else None
    if process and not isinstance(mine, Exception):
        same(function(process)(mine), process(theirs), info, dtype)
        return None
    mine, theirs = ordered(info, call, mine, theirs)
    try:
        same(mine, theirs, info, dtype)
    except Failed:
        if dtype is not torch.float32 or isinstance(mine, Exception):
            raise
        exact = run(info.op, widened(call.theirs))
        if isinstance(exact, Exception) or not as_exact(mine, theirs, exact):
            raise
    my_inputs, their_inputs = call.tensors(call.mine, tapegrad.Tensor), call.tensors(call.theirs, torch.Tensor)
    if text := compare.views(mine, theirs, my_inputs, their_inputs):
        raise Failed(text)
    for i, before in enumerate(versions):
        if their_inputs[i]._version != before and (text := compare.results(my_inputs[i], their_inputs[i])):
            raise Failed(f"written input {i}: {text}")


def noncontiguous(info: Any, call: Call, dtype: torch.dtype) -> Any:
    """The same for inputs with gaps between their elements."""
    try:
        call = Call(call.sample.noncontiguous())
    except Exception:
        return False
    return forward(info, call, dtype)


class Gradients:
    """The gradient check and, with `second`, the check of the gradient's gradient."""

    def __init__(self, second: bool, op: Callable[[Any], Any] = lambda info: info.op):
        self.second, self.op = second, op

    def __call__(self, info: Any, call: Call, dtype: torch.dtype) -> Any:
        mine, theirs = call.leaves()
        if not theirs:
            return False
        process, wrapper = call.sample.output_process_fn_grad, info.gradcheck_wrapper
        op = self.op(info)
        try:
            result = process(wrapper(op, *call.theirs[0], **call.theirs[1]))
            expected = backward(torch, result, theirs, self.second)
        except (RuntimeError, NotImplementedError):
            return False  # not differentiable there
        if expected is None:
            return False
        try:
            wrapped = function(wrapper)(function(op), *call.mine[0], **call.mine[1])
            found = backward(tapegrad, function(process)(wrapped), mine, self.second)
        except Missing:
            raise
        except Exception as error:
            raise Failed(compare.error(error)) from error
        if found is None:
            raise Failed("no result requires a gradient")
        loosen = 10 * LOOSE.get(info.name, 1.0)
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            if text := gradient(a, b, loosen):
                raise Failed(f"gradient {i}: {text}")


def gradient(mine: Any, theirs: Any, loosen: float) -> Failure:
    """Two gradients; None is as good as zeros."""
    if theirs is None:
        return None if mine is None or not mine.any() else f"{mine.flatten()[:4].tolist()}, torch None"
    if mine is None:
        return None if not theirs.any() else f"None, torch {theirs.flatten()[:4].tolist()}"
    return compare.tensors(mine, theirs, loosen)


def cotangents(library: Any, outputs: list[Any]) -> list[Any]:
    """Fixed numbers of the outputs' shapes and dtypes, in both libraries the same; empty outputs are not counted."""
    made, count = [], 0
    for t in outputs:
        rng = np.random.default_rng([count, *t.shape])
        count += t.numel() > 0
        numbers = rng.uniform(0.5, 1.5, tuple(t.shape))
        if t.is_complex():
            numbers = numbers + 1j * rng.uniform(-0.5, 0.5, tuple(t.shape))
        made.append(to_library(library, numbers, t.dtype))
    return made


def to_library(library: Any, numbers: Any, dtype: Any) -> Any:
    return library.tensor(numbers, dtype=dtype)


def backward(library: Any, result: Any, leaves: list[Any], second: bool) -> list[Any] | None:
    """Gradients of a result, or of these gradients with respect to leaves and cotangents; None if there are none."""
    outputs = [t for t in compare.flat(result) if isinstance(t, library.Tensor) and t.requires_grad]
    if not outputs:
        return None
    seeds = cotangents(library, outputs)
    if not second:
        return list(library.autograd.grad(outputs, leaves, seeds, allow_unused=True))
    for seed in seeds:
        seed.requires_grad_()
    first = library.autograd.grad(outputs, leaves, seeds, allow_unused=True, create_graph=True)
    first = [t for t in first if t is not None and t.requires_grad]
    if not first:
        return None
    # Scaled like the second cotangents of gradgradcheck: not all ones, so that no sum hides a difference
    return list(library.autograd.grad(first, [*leaves, *seeds], cotangents(library, first), allow_unused=True))


def method(info: Any, call: Call, dtype: torch.dtype) -> Any:
    """Tensor.name gives what torch's method gives."""
    if not isinstance(call.sample.input, torch.Tensor):
        return False
    theirs = run(info.method_variant, call.theirs)
    if isinstance(theirs, Exception):
        return False
    mine = run(function(info.method_variant), call.mine)
    mine, theirs = ordered(info, call, mine, theirs)
    same(mine, theirs, info, dtype, meta_only=info.name in GAUGE)


def ordered(info: Any, call: Call, mine: Any, theirs: Any) -> tuple[Any, Any]:
    """Results whose indices name one of several equal elements: the elements in their place (see reasons.py)."""
    if info.name not in ANY_OF_EQUALS or isinstance(mine, Exception) or isinstance(theirs, Exception):
        return mine, theirs
    x, place = call.sample.input, ANY_OF_EQUALS[info.name]
    args = call.sample.args
    dim = call.sample.kwargs.get("dim", args[place] if len(args) > place else -1)
    if x.ndim == 0 or not x.numel() or not isinstance(dim, int):
        return mine, theirs

    def named(x: Any, result: Any) -> Any:
        indices = result if hasattr(result, "dtype") else result[1]
        indices = indices.unsqueeze(dim) if indices.ndim < x.ndim else indices
        return [*compare.flat(result)[:-1], x.gather(dim, indices)]

    return named(call.mine[0][0], mine), named(x, theirs)


def inplace(info: Any, call: Call, dtype: torch.dtype) -> Any:
    """The in-place form writes the input and gives it back; where torch refuses, so do we; gradients."""
    if not isinstance(call.sample.input, torch.Tensor):
        return False
    theirs_args = (call.theirs[0][0].detach().clone(), *call.theirs[0][1:]), call.theirs[1]
    mine_args = (call.mine[0][0].detach().clone(), *call.mine[0][1:]), call.mine[1]
    with torch.no_grad(), tapegrad.no_grad():  # some draw: from one seed
        torch.default_generator.manual_seed(42)
        theirs = run(info.inplace_variant, theirs_args)
        tapegrad.manual_seed(42)
        mine = run(function(info.inplace_variant), mine_args)
    same(mine, theirs, info, dtype)
    if not isinstance(theirs, Exception) and theirs is theirs_args[0][0]:
        if mine is not mine_args[0][0]:
            raise Failed("does not return the tensor it wrote")


def inplace_op(info: Any) -> Any:
    """The in-place form on a copy, as an op that can be differentiated."""
    variant = info.inplace_variant

    def op(input: Any, *args: Any, **kw: Any) -> Any:
        return variant(input.clone(), *args, **kw)

    return op


def out(info: Any, call: Call, dtype: torch.dtype) -> Any:
    """out= writes the given tensors and returns them."""
    theirs = run(info.op, call.theirs)
    if isinstance(theirs, Exception) or not all(isinstance(t, torch.Tensor) for t in compare.flat(theirs)):
        return False
    targets = [torch.full_like(t.detach(), 1) for t in compare.flat(theirs)]
    mine_targets = to_tapegrad(targets)
    single = isinstance(theirs, torch.Tensor)
    with torch.no_grad():
        given = run(info.op, (call.theirs[0], {**call.theirs[1], "out": targets[0] if single else tuple(targets)}))
    if isinstance(given, Exception):
        return False
    with tapegrad.no_grad():
        my_out = mine_targets[0] if single else tuple(mine_targets)
        mine = run(function(info.op), (call.mine[0], {**call.mine[1], "out": my_out}))
    returned = compare.flat(mine)
    mine, given = ordered(info, call, mine, given)
    same(mine, given, info, dtype, meta_only=info.name in GAUGE)
    if given is not None and any(a is not b for a, b in zip(returned, mine_targets, strict=True)):
        raise Failed("out= is not returned")
    open_ended = GAUGE | UNINITIALISED | ANY_OF_EQUALS.keys()
    if text := compare.results(mine_targets, targets, LOOSE.get(info.name, 1.0), info.name in open_ended):
        raise Failed(f"what out= holds: {text}")


def alias(info: Any) -> Failure:
    """The other names of the op are there and do the same."""
    for other in info.aliases:
        try:
            lookup(tapegrad, other.name.removeprefix("torch."))
        except Missing:
            return f"missing: {other.name}"

        def check(info: Any, call: Call, dtype: torch.dtype, other: Any = other) -> None:
            same(run(function(other.op), call.mine), run(other.op, call.theirs), info, dtype)

        if text := each(info, dtypes(info, FORWARD)[:1], check, 3, False):
            return f"{other.name}: {text}" if text != "no sample" else None
    return None


def errors(info: Any) -> Iterator[tuple[bool, bool, str]]:
    """For each error input: exception of the type? text that names the cause (torch's own pattern)? what happened."""
    try:
        found = list(info.error_inputs("cpu"))
    except Exception:
        return
    for item in found:
        given = compare.flat([item.sample_input.input, item.sample_input.args, item.sample_input.kwargs])
        if any(t.ndim > 64 or t.device.type != "cpu" for t in given if isinstance(t, torch.Tensor)):
            continue  # no such tensor here: more dimensions than NumPy's arrays have; a device of torch's own
        try:
            call = Call(item.sample_input)
            theirs = run(info.op, call.theirs)
        except Missing as error:
            yield False, False, f"missing: {error}"
            continue
        except Exception as error:
            yield False, False, f"translation: {compare.error(error)}"
            continue
        if not isinstance(theirs, Exception) or "descriptor '" in str(theirs):
            continue  # torch itself accepts it on this device; or the error is CPython's, of a method in C
        try:
            mine = run(function(info.op), call.mine)
        except Missing as error:
            yield False, False, f"missing: {error}"
            continue
        if not isinstance(mine, Exception):
            yield False, False, f"no error; torch raises {compare.error(theirs)} [{call}]"
        else:
            typed = isinstance(mine, type(theirs)) or isinstance(mine, item.error_type)
            said = bool(re.search(item.error_regex, str(mine)))
            yield typed, said, f"{compare.error(mine)}; torch raises {compare.error(theirs)} [{call}]"


# ---- one entry ------------------------------------------------------------------------------------------------------


def checks(info: Any, limit: int | None) -> Iterator[tuple[str, Callable[[], Failure]]]:
    """The checks of one variant: name, and what runs it and gives its first failure."""
    shared = dtypes(info, FORWARD)
    if not shared:
        yield "forward", lambda: "no sample"
        return
    yield "forward", lambda: each(info, shared, forward, limit, False)
    yield "noncontiguous", lambda: each(info, shared[:1], noncontiguous, limit, False)
    if isinstance(info, core.BinaryUfuncInfo):
        yield "scalars", lambda: each(info, shared, forward, limit, False, scalars)
    if isinstance(info, (core.BinaryUfuncInfo, core.UnaryUfuncInfo)):
        floating = [d for d in shared if d.is_floating_point]
        yield "extremes", lambda: each(info, floating, forward, limit, False, extremes)
    differentiable = [d for d in DIFFERENTIABLE if d in info.supported_backward_dtypes("cpu")]
    if info.supports_autograd and differentiable:
        yield "grad", lambda: each(info, differentiable, Gradients(False), limit, True)
        if info.supports_gradgrad:
            yield "gradgrad", lambda: each(info, differentiable, Gradients(True), limit, True)
    some = [d for d in (torch.float64, torch.int64) if d in shared] or shared[:1]
    if info.method_variant is not None:
        yield "method", lambda: each(info, some, method, limit, False)
    if info.inplace_variant is not None:
        yield "inplace", lambda: each(info, some, inplace, limit, False)
        if info.supports_inplace_autograd and differentiable:
            yield "inplace", lambda: each(info, differentiable[:1], Gradients(False, inplace_op), limit, True)
    if info.supports_out:
        yield "out", lambda: each(info, some, out, limit, False)
    yield "alias", lambda: alias(info)


def variant(
    info: Any, limit: int | None, only: tuple[str, ...] = ()
) -> tuple[dict[str, Failure], list[tuple[bool, bool, str]]]:
    """The verdicts of one entry of the database, and of its error inputs. only: the checks to run, else all."""
    verdicts: dict[str, Failure] = {}
    wrong_calls: list[tuple[bool, bool, str]] = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            found = ((check, run_it()) for check, run_it in checks(info, limit) if not only or check in only)
            verdicts = {check: failure for check, failure in found if failure != "no sample"}
            if not only or "errors" in only:
                wrong_calls = list(errors(info))
                verdicts["errors"] = next((text for typed, _, text in wrong_calls if not typed), None)
        except Missing as error:
            verdicts["forward"] = f"missing: {error}"
        except Exception as error:  # the entry itself cannot be replayed: that is a failure, not the run's end
            verdicts["forward"] = f"replay: {compare.error(error)}"
    return verdicts, wrong_calls


def record(name: str, limit: int | None = None, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """What table.json holds of an operator name, over all its variants.

    checks: check -> None (passes) or the first failure. errors: error inputs; those of PyTorch's type; those with a
    text of its pattern. second: variants whose results, gradients and second gradients pass; variants that have second
    gradients. limit: at most so many samples of each dtype and check; None means all. only: the checks to run.
    """
    merged: dict[str, Failure] = {}
    wrong_calls: list[tuple[bool, bool, str]] = []
    second = [0, 0]
    for info in database()[name]:
        verdicts, calls = variant(info, limit, only)
        wrong_calls += calls
        for check, failure in verdicts.items():
            merged[check] = merged.get(check) or failure
        if "gradgrad" in verdicts:
            second[0] += all(verdicts[check] is None for check in ("forward", "grad", "gradgrad"))
            second[1] += 1
    if "forward" not in merged:
        merged = {"forward": "torch's entry has no dtype on the CPU"}
    counts = [len(wrong_calls), sum(typed for typed, _, _ in wrong_calls), sum(said for _, said, _ in wrong_calls)]
    return {"checks": merged, "errors": counts, "second": second}
