"""torch.testing._internal's module_db: every sample of every layer, built with one seed on both libraries.

`replay(name)` gives, for one layer, check -> None where it passes, else the first failure. The checks, each in all
dtypes of the entry that we have, and in training and evaluation where they differ:

    construct   state_dict: keys, shapes, dtypes and values after the same seed; repr; training; names of parameters
    load        torch's state_dict into ours and ours into torch's, strict
    forward     outputs, and what the call wrote into the module's state
    grad        gradients of inputs and parameters;  gradgrad  their gradients, in float64
    copies      deepcopy and pickle give the same module
    errors      error inputs raise torch's exception type
"""

from __future__ import annotations

import contextlib
import copy
import functools
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tapegrad
import torch

from . import compare
from .operators import Failed, Failure, backward, gradient, run
from .reasons import LOOSE
from .translate import Missing, lookup, to_tapegrad

DTYPES = [torch.float64, torch.float32, torch.complex128, torch.complex64, torch.float16, torch.bfloat16]


@functools.cache
def database() -> dict[str, Any]:
    """Name of a layer ("nn.Linear") -> its entry."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_modules import module_db
    return {info.name: info for info in module_db}


def entries() -> list[str]:
    return sorted(database())


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Inside, a module of torch remembers the arguments that it was made with: some are arguments of others."""
    kind = torch.nn.TransformerEncoderLayer
    original = kind.__init__

    def init(self: Any, *args: Any, **kw: Any) -> None:
        original(self, *args, **kw)
        object.__setattr__(self, "made_with", (args, kw))

    kind.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        kind.__init__ = original  # type: ignore[method-assign]


def translated(value: Any, memo: dict[int, Any]) -> Any:
    """`to_tapegrad`, for arguments which may be modules, options of a loss or packed sequences too.

    memo: id of a tensor -> its translation, since a tensor that is given twice must be one tensor here as well.
    """
    if isinstance(value, torch.Tensor):
        if id(value) not in memo:
            memo[id(value)] = to_tapegrad(value)
        return memo[id(value)]
    if isinstance(value, torch.nn.Module):
        args, kw = value.made_with
        ours = lookup(tapegrad.nn, type(value).__name__)(*translated(args, memo), **translated(kw, memo))
        ours.load_state_dict(state_of(value))
        return ours
    if isinstance(value, torch.nn.LinearCrossEntropyOptions):
        fields = {name: translated(getattr(value, name), memo) for name in value.__dataclass_fields__}
        return lookup(tapegrad, "nn.LinearCrossEntropyOptions")(**fields)
    if isinstance(value, torch.nn.utils.rnn.PackedSequence):
        return tapegrad.nn.utils.rnn.PackedSequence(*[translated(part, memo) for part in tuple(value)])
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(translated(item, memo) for item in value)
    if isinstance(value, dict):
        made = {key: translated(item, memo) for key, item in value.items()}
        return made | ({"device": tapegrad.get_default_device()} if "device" in made else {})
    return to_tapegrad(value)


def seed_both(seed: int) -> None:
    """As both libraries' manual_seed; torch's own notes a stack trace for each kind of device, which takes long."""
    tapegrad.manual_seed(seed)
    torch.default_generator.manual_seed(seed)


def state_of(module: Any) -> Any:
    """A module's state_dict as the other library's, with its `_metadata`."""
    ours = isinstance(module, tapegrad.nn.Module)
    state = module.state_dict()
    other: Any = OrderedDict((key, to_torch(t) if ours else to_tapegrad(t)) for key, t in state.items())
    other._metadata = state._metadata
    return other


def to_torch(t: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(t.detach().cpu().numpy()))


def is_lazy(t: Any) -> bool:
    return torch.nn.parameter.is_lazy(t) or tapegrad.nn.parameter.is_lazy(t)


class Pair:
    """One sample: how both libraries build the layer, and what both call it with."""

    def __init__(self, info: Any, sample: Any, dtype: torch.dtype, training: bool):
        self.info, self.sample, self.dtype, self.training = info, sample, dtype, training
        made, called = sample.constructor_input, sample.forward_input
        self.their_arguments = made.args, made.kwargs
        memo: dict[int, Any] = {}
        self.my_arguments = translated(made.args, memo), translated(made.kwargs, memo)
        if called is not None:
            self.theirs = called.args, called.kwargs
            self.mine = translated(called.args, memo), translated(called.kwargs, memo)

    def build(self, seed: int = 0) -> tuple[Any, Any]:
        """Ours and torch's, made after the same seed, cast and in the sample's mode."""
        both = []
        for library, (args, kw), dtype in (
            (tapegrad, self.my_arguments, to_tapegrad(self.dtype)),
            (torch, self.their_arguments, self.dtype),
        ):
            kind = lookup(library, self.info.name)
            seed_both(seed)
            module = kind(*args, **kw).to(dtype)
            both.append(module.train(self.training))
        return both[0], both[1]

    def call(self, mine: Any, theirs: Any, seed: int = 1) -> tuple[Any, Any]:
        """The results of ours and of torch's, after the same seed; an exception is a result too."""
        seed_both(seed)
        return run(mine, self.mine), run(theirs, self.theirs)

    def ready(self, seed: int = 0) -> tuple[Any, Any]:
        """As `build`; lazy layers after a first call, with torch's values in both."""
        mine, theirs = self.build(seed)
        if self.info.is_lazy:
            self.call(mine, theirs, seed)
        return mine, theirs

    def half(self) -> bool:
        return self.dtype.itemsize == 2

    def loosen(self) -> float:
        return LOOSE.get(self.info.name, 1.0)

    def __str__(self) -> str:
        mode = "training" if self.training else "evaluation"
        args, kw = self.their_arguments
        given = ", ".join([*[repr(a) for a in args], *[f"{k}={v!r}" for k, v in kw.items()]])
        return f"{mode}, {self.sample.desc or 'default'}: {' '.join(given.split())}"[:260]


def widened(value: Any) -> Any:
    """Arguments of torch with their half-precision tensors in float64: the same numbers, leaves of their own."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().double().requires_grad_(value.requires_grad)
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(widened(item) for item in value)
    return {key: widened(item) for key, item in value.items()} if isinstance(value, dict) else value


def as_exact(mine: Any, theirs: Any, exact: Any) -> bool:
    """Whether ours is as near to the result in float64 as torch's: what is asked of a result in half precision."""
    for a, b, c in zip(compare.flat(mine), compare.flat(theirs), compare.flat(exact), strict=True):
        if compare.tensors(a, b, meta_only=True):
            return False
        wide = [np.asarray(compare.raw(a), np.float64), b.detach().double().numpy(), c.detach().numpy()]
        if not np.abs(wide[0] - wide[2]).max(initial=0) <= np.abs(wide[1] - wide[2]).max(initial=0):
            return False
    return True


def same(mine: Any, theirs: Any, loosen: float = 1.0) -> None:
    """Raises Failed where two results differ, exceptions included."""
    if isinstance(theirs, Exception):
        if not isinstance(mine, Exception):
            raise Failed(f"torch raises {compare.error(theirs)}; here no error")
        if not isinstance(mine, type(theirs)):
            raise Failed(f"{compare.error(mine)}; torch raises {compare.error(theirs)}")
    elif isinstance(mine, Exception):
        raise Failed(compare.error(mine))
    elif text := compare.results(mine, theirs, loosen):
        raise Failed(text)


def same_state(mine: Any, theirs: Any, what: str, loosen: float = 1.0) -> None:
    """Raises Failed where two modules hold different states."""
    a, b = mine.state_dict(), theirs.state_dict()
    if list(a) != list(b):
        raise Failed(f"{what}: keys {list(a)}, torch {list(b)}")
    if a._metadata != b._metadata:
        raise Failed(f"{what}: _metadata {dict(a._metadata)}, torch {dict(b._metadata)}")
    for key in b:
        if is_lazy(a[key]) or is_lazy(b[key]):
            if repr(a[key]) != repr(b[key]) or str(a[key].dtype) != str(b[key].dtype):
                raise Failed(f"{what}: {key} is {a[key]!r}, torch {b[key]!r}")
        elif text := compare.tensors(a[key], b[key], loosen):
            raise Failed(f"{what}: {key}: {text}")


# ---- the checks -----------------------------------------------------------------------------------------------------


def construct(pair: Pair) -> None:
    """What there is after the constructor, and for lazy layers after the first call."""
    mine, theirs = pair.build()
    for moment in ("made", "called") if pair.info.is_lazy else ("made",):
        if moment == "called":
            pair.call(mine, theirs)
        same_state(mine, theirs, moment)
        if repr(mine) != repr(theirs):
            raise Failed(f"repr {mine!r}, torch {theirs!r}")
        if type(mine).__name__ != type(theirs).__name__:
            raise Failed(f"is a {type(mine).__name__}, torch's a {type(theirs).__name__}")
        for members in ("named_parameters", "named_buffers", "named_modules"):
            a, b = ([name for name, _ in getattr(m, members)()] for m in (mine, theirs))
            if a != b:
                raise Failed(f"{members}: {a}, torch {b}")
        wanted = [[p.requires_grad for p in m.parameters()] for m in (mine, theirs)]
        if wanted[0] != wanted[1]:
            raise Failed(f"requires_grad {wanted[0]}, torch {wanted[1]}")


def load(pair: Pair) -> None:
    """A state of torch's goes into ours and back, with nothing missing or left over; into lazy layers as well."""
    my_source, their_source = pair.ready(seed=5)
    mine, theirs = pair.build()
    mine.load_state_dict(state_of(their_source), strict=True)
    same_state(mine, their_source, "torch's state in ours")
    theirs.load_state_dict(state_of(my_source), strict=True)
    same_state(my_source, theirs, "our state in torch's")


def forward(pair: Pair) -> None:
    """Outputs; the inputs and the state after the call."""
    mine, theirs = pair.ready()
    results = pair.call(mine, theirs)
    try:
        same(*results, pair.loosen())
    except Failed:
        exact = theirs.double()(*widened(pair.theirs[0]), **widened(pair.theirs[1])) if pair.half() else None
        if not (pair.half() and as_exact(*results, exact)):
            raise
        return
    same_state(mine, theirs, "state after the call", pair.loosen())
    for a, b in zip(tensors(pair.mine, tapegrad.Tensor), tensors(pair.theirs, torch.Tensor), strict=True):
        if text := compare.tensors(a, b):
            raise Failed(f"input after the call: {text}")


def tensors(side: Any, kind: type) -> list[Any]:
    """The tensors among the arguments, those of packed sequences included."""
    return [value for value in compare.flat([list(side[0]), side[1]]) if isinstance(value, kind)]


def cloned(value: Any) -> Any:
    """Arguments whose tensors with a gradient are clones: a layer may write into them, as it may not into leaves."""
    if isinstance(value, (tapegrad.Tensor, torch.Tensor)):
        return value.clone() if value.requires_grad else value
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(cloned(item) for item in value)
    return {key: cloned(item) for key, item in value.items()} if isinstance(value, dict) else value


def leaves(module: Any, side: Any, kind: type) -> dict[str, Any]:
    """Inputs and parameters that require a gradient, by name."""
    named = {f"input {i}": t for i, t in enumerate(tensors(side, kind)) if t.requires_grad}
    return named | {name: p for name, p in module.named_parameters() if p.requires_grad}


def derivatives(library: Any, module: Any, side: Any, wanted: dict[str, Any], second: bool) -> list[Any] | None:
    """Gradients of one call of a module, after a fixed seed."""
    seed_both(1)
    result = module(*cloned(side[0]), **cloned(side[1]))
    return backward(library, result, list(wanted.values()), second)


def gradients(pair: Pair, second: bool) -> bool:
    """Gradients with respect to all inputs and parameters that require them. False where there are none."""
    if second and pair.their_arguments[1].get("options") is not None:
        return False  # torch's linear_cross_entropy in chunks is not differentiable twice: it gives zeros
    mine, theirs = pair.ready()
    my_leaves, their_leaves = leaves(mine, pair.mine, tapegrad.Tensor), leaves(theirs, pair.theirs, torch.Tensor)
    if list(my_leaves) != list(their_leaves):
        raise Failed(f"gradients of {list(my_leaves)}, torch of {list(their_leaves)}")
    if not their_leaves:
        return False
    try:
        expected = derivatives(torch, theirs, pair.theirs, their_leaves, second)
    except (RuntimeError, NotImplementedError):
        return False  # torch has no such derivative there
    if expected is None:
        return False
    try:
        found = derivatives(tapegrad, mine, pair.mine, my_leaves, second)
    except Exception as error:
        raise Failed(compare.error(error)) from error
    if found is None:
        raise Failed("no result requires a gradient")
    names = [*their_leaves, *[f"cotangent {i}" for i in range(len(expected) - len(their_leaves))]]
    for name, a, b in zip(names, found, expected, strict=True):
        b = b.clone() if b is not None and b._is_zerotensor() else b
        if text := gradient(a, b, 10 * pair.loosen()):
            if pair.half() and as_exact(found, expected, exact_gradients(pair, theirs)):
                return True
            raise Failed(f"of {name}: {text}")
    return True


def exact_gradients(pair: Pair, theirs: Any) -> Any:
    """torch's gradients of a half-precision sample, computed in float64 from the same cotangents."""
    module, side = theirs.double(), (widened(pair.theirs[0]), widened(pair.theirs[1]))

    def rounded(*args: Any, **kw: Any) -> Any:
        return module(*args, **kw).to(pair.dtype)

    return derivatives(torch, rounded, side, leaves(module, side, torch.Tensor), False)


def copies(pair: Pair) -> None:
    """copy.deepcopy and pickle: the same state and repr, no shared memory, the same results."""
    mine, fresh = pair.build()
    made = [copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))]
    for name, other in zip(("deepcopy", "pickle"), made, strict=True):
        theirs = pair.build()[1] if pair.info.is_lazy else copy.deepcopy(fresh)  # torch copies no lazy buffers
        if repr(other) != repr(mine) or list(other.state_dict()) != list(mine.state_dict()):
            raise Failed(f"{name}: {other!r} of {mine!r}")
        results = pair.call(other, theirs)
        if not isinstance(results[1], Exception):
            if not pair.info.is_lazy:
                same(*results, pair.loosen())
            same_state(other, theirs, f"{name}, called", pair.loosen())
    for name, held in mine.state_dict().items():
        if not is_lazy(held):
            shared = [np.shares_memory(compare.raw(held), compare.raw(other.state_dict()[name])) for other in made]
            if any(shared):
                raise Failed(f"a copy shares the memory of {name}")


def errors(info: Any, dtype: torch.dtype, training: bool) -> Iterator[tuple[bool, bool, str]]:
    """For each error input: exception of the type? text that names the cause (torch's own pattern)? what happened."""
    if info.module_error_inputs_func is None:
        return
    for item in info.module_error_inputs_func(info, device="cpu", dtype=dtype, requires_grad=False, training=training):
        pair = Pair(info, item.module_error_input, dtype, training)
        theirs, mine = (failure(pair, library) for library in (torch, tapegrad))
        if theirs is None:
            continue  # torch itself accepts it on this device
        if mine is None:
            yield False, False, f"no error; torch raises {compare.error(theirs)} [{pair}]"
            continue
        typed = isinstance(mine, type(theirs)) or isinstance(mine, item.error_type)
        said = bool(re.search(item.error_regex, str(mine)))
        yield typed, said, f"{compare.error(mine)}; torch raises {compare.error(theirs)} [{pair}]"


def failure(pair: Pair, library: Any) -> Exception | None:
    """The exception that building and calling the sample's layer raises."""
    (args, kw), side = (pair.my_arguments, getattr(pair, "mine", None))
    dtype = to_tapegrad(pair.dtype)
    if library is torch:
        (args, kw), side, dtype = pair.their_arguments, getattr(pair, "theirs", None), pair.dtype
    try:
        module = lookup(library, pair.info.name)(*args, **kw).to(dtype).train(pair.training)
        if side is not None:
            module(*side[0], **side[1])
    except Exception as error:
        return error
    return None


# ---- one entry ------------------------------------------------------------------------------------------------------


def modes(info: Any) -> list[bool]:
    return [True, False] if info.train_and_eval_differ else [True]


def dtypes(info: Any) -> list[torch.dtype]:
    return [dtype for dtype in DTYPES if dtype in info.supported_dtypes("cpu")]


def samples(info: Any, dtype: torch.dtype, training: bool, grad: bool, limit: int | None) -> Iterator[Pair]:
    """The samples of a layer, the same in every run; with `grad` their inputs require a gradient."""
    torch.manual_seed(0)
    np.random.seed(0)
    with remembered():
        found = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=grad, training=training)
        for sample in list(found)[:limit]:
            yield Pair(info, sample, dtype, training)


def each(
    info: Any, check: Callable[[Pair], Any], limit: int | None, wanted: list[torch.dtype], grad: bool = False
) -> Failure:
    """Runs a check over all samples; the first failure with its dtype and sample, "no sample" where none applies."""
    ran = False
    for dtype in wanted:
        for training in modes(info):
            pair: Any = "translation"
            try:
                for pair in samples(info, dtype, training, grad, limit):
                    ran = check(pair) is not False or ran
            except Missing as error:
                return f"missing: {error}"
            except Exception as error:
                text = str(error) if isinstance(error, Failed) else compare.error(error)
                return f"{str(dtype).removeprefix('torch.')}: {text} [{pair}]"
    return None if ran else "no sample"


def checks(info: Any, limit: int | None) -> Iterator[tuple[str, Failure]]:
    """The checks of one entry, each with its first failure."""
    every, double = dtypes(info), [torch.float64]
    yield "construct", each(info, construct, limit, every)
    yield "load", each(info, load, limit, every[:2])
    yield "forward", each(info, forward, limit, every)
    yield "grad", each(info, functools.partial(gradients, second=False), limit, every, grad=True)
    if info.supports_gradgrad:
        yield "gradgrad", each(info, functools.partial(gradients, second=True), limit, double, grad=True)
    yield "copies", each(info, copies, limit, double)


def replay(name: str, limit: int | None = None) -> dict[str, Failure]:
    """Check -> None (passes) or the first failure, for one layer as "nn.Linear".

    limit: at most so many samples of each dtype, mode and check; None means all.
    """
    info = database()[name]
    if not hasattr(tapegrad.nn, name.rpartition(".")[2]):
        return {"construct": f"missing: {name}"}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        verdicts = {check: text for check, text in checks(info, limit) if text != "no sample"}
        wrong = [text for mode in modes(info) for typed, _, text in errors(info, torch.float64, mode) if not typed]
    if info.module_error_inputs_func is not None:
        verdicts["errors"] = wrong[0] if wrong else None
    return verdicts


def error_counts(name: str) -> tuple[int, int, int]:
    """(error inputs, of PyTorch's type, with a text of torch's pattern) of a layer."""
    info = database()[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [verdict for mode in modes(info) for verdict in errors(info, torch.float64, mode)]
    return len(found), sum(typed for typed, _, _ in found), sum(said for _, said, _ in found)
