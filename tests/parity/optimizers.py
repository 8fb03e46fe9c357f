"""torch.testing._internal's optim_db: every optimizer with every set of options that torch tests, beside torch's own.

`replay(name)` gives, for one optimizer, configuration -> None where it passes, else the first failure. A configuration
is one set of options; it passes when all of these agree with torch:

    construct     defaults, groups, repr
    DTYPE         20 steps from the same start on the same loss: parameters and state at steps 1, 10 and 20; both in two
                  groups, one of them with a rate of its own
    FLAG          the same in float64 with foreach, fused or differentiable where the optimizer has them; with
                  differentiable also the gradients through three steps
    state_dict    torch's after 10 steps, loaded by ours, which goes on; and ours loaded by torch's
    sparse        steps with sparse gradients, where the optimizer takes them
    pickle        a deepcopy and a pickle after 10 steps go on as the optimizer does

Further names: `error: ...`, an input that must raise the same; `schedulers i`, steps with the i-th list of schedulers.

capturable is replayed though torch has it on accelerators only: its code runs on the CPU once it is told that it may.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import pickle
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import tapegrad
import torch

from . import compare
from .translate import to_tapegrad, to_torch

Options = dict[str, Any]
STEPS, SEEN = 20, (1, 10, 20)
DTYPES = ["float64", "float32", "complex128"]
SHAPES = [(3, 4), (5,), (), (2, 3, 2)]
MATRICES = [(3, 4), (4, 2), (3, 3), (1, 5)]  # for the one optimizer that takes nothing else

# Relative to the largest element of a tensor (of all parameters): one that passes near zero keeps the absolute error it
# had. float32: a few units in the last place, grown over 20 steps.
BOUNDS = {"float64": 1e-11, "complex128": 1e-11, "float32": 2e-6}
# Where an option is a float32 tensor, torch itself calculates with it in float32; so does ASGD with foreach.
SINGLE = 1e-6
# With capturable or differentiable the step is a float32 tensor, and torch calculates 1 - beta2^step in float32: at the
# beginning, near 0.001, rounding is 6e-5 of that.
COUNTED = 3e-5
# Muon calculates its direction in bfloat16: where a sum is rounded the other way, an entry of a step (at most 0.02, the
# rate) changes by a unit in the last place, 2^-8 of it.
BFLOAT16 = 1e-4
# LBFGS takes differences of gradients that are nearly equal, and its line search decides by the last bits of the loss:
# float32 is left with half its digits, and with none in the directions that it keeps.
SEARCH = {"float64": 1e-9, "complex128": 1e-9, "float32": 1e-3}


@functools.cache
def database() -> dict[str, Any]:
    """Name of an optimizer -> its entry."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of optional packages of its own
        from torch.testing._internal.common_optimizers import optim_db
    return {info.name: info for info in optim_db}


def entries() -> list[str]:
    return list(database())


def configurations(name: str) -> dict[str, Options]:
    """Description -> options in terms of torch, those for accelerators included."""
    return {case.desc: case.kwargs for case in database()[name].optim_inputs_func(device="cuda")}


def replay(name: str) -> dict[str, str | None]:
    info, result = database()[name], {}
    with capturable_on_cpu(), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for description, options in configurations(name).items():
            result[description] = first_failure(Case(info, options))
        for i, chain in enumerate(info.scheduler_inputs):
            result[f"schedulers {i}"] = caught(with_schedulers, Case(info, {}), chain)
        for i, given in enumerate(info.optim_error_inputs_func(device="cpu", dtype=torch.float64)):
            label = f"error: {given.optimizer_error_input.desc}"
            result[f"{label} ({i})" if label in result else label] = caught(error_input, name, given)
    return result


@contextlib.contextmanager
def capturable_on_cpu() -> Iterator[None]:
    """Inside, torch's optimizers run their capturable code on the CPU."""
    with contextlib.ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("torch.optim.") and hasattr(module, "_get_capturable_supported_devices"):
                known = lambda **kw: ["cpu"]  # noqa: E731
                stack.enter_context(mock.patch.object(module, "_get_capturable_supported_devices", known))
        yield


# ---- one optimizer on one library -----------------------------------------------------------------------------------


class Case(NamedTuple):
    """An entry of the database with one set of options, in terms of torch."""

    info: Any
    options: Options

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return MATRICES if self.name == "Muon" else SHAPES

    def optimizer(self, library: Any, params: Any, **more: Any) -> Any:
        options = self.options | more
        return getattr(library.optim, self.name)(params, **(options if library is torch else to_tapegrad(options)))

    def bound(self, dtype: str, **more: Any) -> float:
        found = [BOUNDS[dtype]]
        if self.name == "Muon":
            found.append(BFLOAT16)
        if self.name == "LBFGS":
            found.append(SEARCH[dtype])
        if self.options.get("capturable") or more.get("differentiable"):
            found.append(COUNTED)
        if any(map(is_tensor, compare.flat(self.options))) or (self.name == "ASGD" and more.get("foreach")):
            found.append(SINGLE)
        return max(found)


class Run:
    """An optimizer of one library on parameters of its own, which start alike in both."""

    def __init__(self, library: Any, case: Case, dtype: str = "float64", groups: bool = True, **more: Any):
        self.library, self.case = library, case
        draw = np.random.default_rng(0)
        self.constants: list[tuple[Any, Any]] = []
        self.params: list[Any] = []
        for shape in case.shapes:
            start, goal, scale = values(draw, shape, dtype), values(draw, shape, dtype), draw.uniform(0.5, 1.5, shape)
            self.params.append(self.tensor(start).requires_grad_())
            self.constants.append((self.tensor(goal), self.tensor(scale.astype(start.real.dtype))))
        split = groups and case.info.supports_param_groups
        params = [{"params": self.params[:2]}, {"params": self.params[2:], "lr": 0.02}] if split else self.params
        self.optimizer = case.optimizer(library, params, **more)
        self.count = 0

    def tensor(self, array: Any) -> Any:
        return to_tapegrad(torch.tensor(array)) if self.library is tapegrad else torch.tensor(array)

    def closure(self) -> Any:
        """The loss, with its gradients: for d = p - goal, the sum of scale * (|d|^2 / 2 + sqrt(1 + |d|^2))."""
        self.optimizer.zero_grad()
        loss = 0.0
        for p, (goal, scale) in zip(self.params, self.constants, strict=True):
            d = p - goal
            square = (d * d.conj()).real if d.is_complex() else d * d
            loss = loss + (scale * (square / 2 + (1 + square) ** 0.5)).sum()
        loss.backward()
        return loss

    def step(self) -> None:
        """Every second time with a closure."""
        if self.count % 2 or self.case.info.step_requires_closure:
            self.optimizer.step(self.closure)
        else:
            self.closure()
            self.optimizer.step()
        self.count += 1

    def sparse_step(self, count: int) -> None:
        """A step with sparse gradients, none for a scalar."""
        for p, shape in zip(self.params, self.case.shapes, strict=True):
            p.grad = sparse_gradient(self, shape, count) if shape else None
        self.optimizer.step()

    def state(self) -> list[dict[str, Any]]:
        return [self.optimizer.state.get(p, {}) for p in self.params]


def values(draw: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Any:
    out = draw.standard_normal(shape)
    return np.asarray(out + 1j * draw.standard_normal(shape) if "complex" in dtype else out).astype(dtype)


# ---- comparing ------------------------------------------------------------------------------------------------------


def is_tensor(value: Any) -> bool:
    return isinstance(value, (torch.Tensor, tapegrad.Tensor))


def array(value: Any) -> Any:
    return np.asarray(value.detach().cpu().numpy())


def near(mine: Any, theirs: Any, bound: float, what: str, scale: float = 0.0) -> str | None:
    """The first difference of two tensors or numbers, the values within `bound` of the largest (at least `scale`).

    Each may be of either library.
    """
    if isinstance(theirs, (list, tuple)):
        if len(mine) != len(theirs):
            return f"{what}: {len(mine)} values, torch {len(theirs)}"
        found = (near(a, b, bound, f"{what}[{i}]", scale) for i, (a, b) in enumerate(zip(mine, theirs, strict=True)))
        return next(filter(None, found), None)
    if type(mine) in (int, float) and is_tensor(theirs) and not theirs.ndim:
        theirs = theirs.item()  # LBFGS: torch keeps as a tensor what it happened to calculate with one
    if not is_tensor(theirs):
        numbers = {type(mine), type(theirs)} <= {int, float}
        same = abs(mine - theirs) <= bound * max(1, abs(theirs)) if numbers else mine is theirs
        return None if same else f"{what}: {mine!r}, torch {theirs!r}"
    if not is_tensor(mine):
        return f"{what}: {mine!r}, torch a tensor"
    if theirs.is_sparse:  # SGD's momentum of sparse gradients
        theirs = theirs.to_dense()
    if str(mine.dtype) != str(theirs.dtype) or tuple(mine.shape) != tuple(theirs.shape):
        return f"{what}: {mine.dtype} {tuple(mine.shape)}, torch {theirs.dtype} {tuple(theirs.shape)}"
    a, b = array(mine), array(theirs)
    if str(theirs.dtype) == "torch.float32":
        bound = max(bound, BOUNDS["float32"])
    error = np.array(np.abs(a - b))
    error[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
    largest, size = error.max(initial=0), np.abs(b[np.isfinite(b)]).max(initial=0)
    return None if largest <= bound * max(scale, size) else f"{what}: off by {largest:.2g} of {size:.2g}"


def same_runs(mine: Run, theirs: Run, bound: float) -> str | None:
    """The first difference of parameters and state."""
    scale = max(float(q.detach().abs().max()) for q in theirs.params)
    for i, (p, q) in enumerate(zip(mine.params, theirs.params, strict=True)):
        if failure := near(p, q, bound, f"parameter {i}", scale):
            return failure
    for i, (mine_of, theirs_of) in enumerate(zip(mine.state(), theirs.state(), strict=True)):
        if list(mine_of) != list(theirs_of):
            return f"state of parameter {i}: {list(mine_of)}, torch {list(theirs_of)}"
        search = "prev_flat_grad" in theirs_of  # LBFGS
        if search and bound and (theirs.count > 1 or bound == SEARCH["float32"]):
            continue  # by now its directions are made of differences that are rounding errors
        for key in theirs_of.keys() - {"al"}:  # al is written before it is read
            own = scale if search else 0.0
            if failure := near(mine_of[key], theirs_of[key], 4 * bound, f"{key} of parameter {i}", own):
                return failure
    return None


def attempt(function: Callable[..., Any], *args: Any, **kw: Any) -> Any:
    """The result of a call, or the exception that it raised."""
    try:
        return function(*args, **kw)
    except Exception as error:
        return error


def same_outcome(mine: Any, theirs: Any) -> str | None:
    """Of two results of `attempt`: whether both raised, and the same."""
    if not isinstance(mine, Exception) and not isinstance(theirs, Exception):
        return None
    text = re.sub(rf"\b{tapegrad.get_default_device().type}$", "cpu", str(mine).strip())
    same = type(mine) is type(theirs) and text == str(theirs).strip()
    return None if same else f"{described(mine)}, torch {described(theirs)}"


def described(outcome: Any) -> str:
    return compare.error(outcome) if isinstance(outcome, Exception) else "raises nothing"


def caught(check: Callable[..., str | None], *args: Any) -> str | None:
    """The check's failure; an exception is one too."""
    try:
        return check(*args)
    except Exception as error:
        return compare.error(error)


# ---- the checks of a configuration ----------------------------------------------------------------------------------


def first_failure(case: Case) -> str | None:
    """The name of the first check that fails, and how."""
    for check, run in checks(case):
        if failure := caught(run):
            return f"{check}: {failure}"
    return None


def checks(case: Case) -> Iterator[tuple[str, Callable[[], str | None]]]:
    info, only_sparse = case.info, case.info.only_supports_sparse_grads
    yield "construct", lambda: construct(case)
    for dtype in DTYPES:
        if not only_sparse and (info.supports_complex or "complex" not in dtype):
            yield dtype, functools.partial(trajectory, case, dtype)
    for flag in info.supported_impls:
        if flag == "differentiable":
            yield flag, functools.partial(through_steps, case)
        else:
            yield flag, functools.partial(trajectory, case, "float64", **{flag: True})
            yield f"{flag}, complex128", functools.partial(trajectory, case, "complex128", **{flag: True})
    if not only_sparse:
        yield "torch's state_dict", functools.partial(continued, case, torch, tapegrad)
        yield "our state_dict", functools.partial(continued, case, tapegrad, torch)
        yield "deepcopy", functools.partial(copied, case, copy.deepcopy)
        yield "pickle", functools.partial(copied, case, lambda value: pickle.loads(pickle.dumps(value)))
    if info.supports_sparse or only_sparse:
        yield "sparse", functools.partial(sparse, case)


def construct(case: Case) -> str | None:
    mine, theirs = (Run(library, case).optimizer for library in (tapegrad, torch))
    if repr(mine) != repr(theirs):
        return f"repr {mine!r}, torch {theirs!r}"
    for what in ("defaults", "param_groups"):
        a, b = getattr(mine, what), getattr(theirs, what)
        if failure := compare.results(without_params(a), without_params(b)):
            return f"{what}: {failure}"
    return None


def without_params(value: Any) -> Any:
    if isinstance(value, list):
        return [without_params(item) for item in value]
    return {key: item for key, item in value.items() if key != "params"}


def trajectory(case: Case, dtype: str, **more: Any) -> str | None:
    mine, theirs = (attempt(Run, library, case, dtype, **more) for library in (tapegrad, torch))
    if isinstance(mine, Exception) or isinstance(theirs, Exception):
        return same_outcome(mine, theirs)
    for count in range(1, STEPS + 1):
        outcomes = attempt(mine.step), attempt(theirs.step)
        if failure := same_outcome(*outcomes):
            return f"step {count}: {failure}"
        if isinstance(outcomes[0], Exception):
            return None
        if count in SEEN and (failure := same_runs(mine, theirs, case.bound(dtype, **more))):
            return f"step {count}: {failure}"
    return None


def continued(case: Case, first: Any, second: Any) -> str | None:
    """Ten steps in one library, its parameters and state_dict into the other, ten steps there: as in torch alone."""
    mine, theirs = (taken_over(Run(a, case), Run(b, case)) for a, b in ((first, second), (torch, torch)))
    return same_runs(mine, theirs, case.bound("float64"))


def taken_over(one: Run, two: Run) -> Run:
    """`two`, after ten steps of `one`, whose parameters and state it takes, and ten of its own."""
    for _ in range(10):
        one.step()
    convert = {tapegrad: to_tapegrad, torch: to_torch_inside}[two.library]
    with torch.no_grad(), tapegrad.no_grad():
        for p, q in zip(two.params, one.params, strict=True):
            p.copy_(convert(q.detach()))
    two.optimizer.load_state_dict(convert(one.optimizer.state_dict()))
    for _ in range(10):
        two.step()
    return two


def copied(case: Case, duplicate: Callable[[Any], Any]) -> str | None:
    """A copy of an optimizer after ten steps has its state, and goes on in the same way."""
    run, original = Run(tapegrad, case), Run(tapegrad, case)
    for _ in range(10):
        run.step()
        original.step()
    run.optimizer = duplicate(run.optimizer)
    run.params = [p for group in run.optimizer.param_groups for p in group["params"]]
    for _ in range(3):
        run.step()
        original.step()
    return same_runs(run, original, 0.0)


def to_torch_inside(value: Any) -> Any:
    """A value of tapegrad, or a container of such, for torch; of torch's own tensors copies."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: to_torch_inside(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(to_torch_inside, value))
    return to_torch(value)


def through_steps(case: Case) -> str | None:
    """The gradients of recorded steps, for the start and for the gradients that the steps were given."""
    case = case._replace(options=case.options | {"capturable": False}) if case.options.get("capturable") else case
    for steps in (3, 1):
        mine, theirs = (attempt(recorded, library, case, steps) for library in (tapegrad, torch))
        # torch writes state of some optimizers over that its own graph needs, from the second step on; ours never does
        if not (isinstance(theirs, RuntimeError) and "modified by an inplace operation" in str(theirs)):
            break
    if failure := same_outcome(mine, theirs):
        return failure
    names = [f"{what} of parameter {i}" for i in range(len(case.shapes)) for what in ("result", "gradient")]
    bound = case.bound("float64", differentiable=True)
    found = (near(a, b, bound, name) for name, a, b in zip(names, mine, theirs, strict=True))
    return next(filter(None, found), None)


def recorded(library: Any, case: Case, steps: int) -> list[Any]:
    """For each parameter its value after some steps, and the gradients of the sum of all squares."""
    run = Run(library, case)
    params = [p.clone() for p in run.params]
    optimizer = case.optimizer(library, params, differentiable=True)
    if case.name == "SGD" and case.options.get("momentum"):  # torch cuts its first buffer off from the gradient
        for p in params:
            optimizer.state[p]["momentum_buffer"] = library.zeros_like(p.detach())
    gradients = [
        [run.tensor(np.full(shape, 0.3 * i - 0.5)).requires_grad_() for i in range(steps)] for shape in case.shapes
    ]
    for i in range(steps):
        for p, given in zip(params, gradients, strict=True):
            p.grad = given[i]
        optimizer.step()
    loss = sum((p * p).sum() for p in params)
    loss.backward()
    return [value for p, start, given in zip(params, run.params, gradients, strict=True)
            for value in (p, [start.grad, *(g.grad for g in given)])]  # fmt: skip


def sparse(case: Case) -> str | None:
    """Ten steps whose gradients are sparse, with an entry given twice; the last one of them is empty."""
    mine, theirs = (Run(library, case) for library in (tapegrad, torch))
    for count in range(10):
        outcomes = attempt(mine.sparse_step, count), attempt(theirs.sparse_step, count)
        if failure := same_outcome(*outcomes):
            return f"step {count}: {failure}"
        if isinstance(outcomes[0], Exception):
            return None
    return same_runs(mine, theirs, case.bound("float64"))


def sparse_gradient(run: Run, shape: tuple[int, ...], count: int) -> Any:
    """For (N, *D): rows count % N, 0 and 0 again, or none at the end."""
    rows = [] if count == 9 else [count % shape[0], 0, 0]
    given = np.random.default_rng(count).standard_normal((len(rows), *shape[1:]))
    indices = np.array([rows], dtype="int64")
    return run.library.sparse_coo_tensor(run.tensor(indices), run.tensor(given), shape)


# ---- schedulers and errors ------------------------------------------------------------------------------------------


def with_schedulers(case: Case, chain: Any) -> str | None:
    """Twenty steps, each followed by one of every scheduler; one that watches a metric gets the loss."""
    runs = [Run(library, case) for library in (tapegrad, torch)]
    made = [[(rebound(make) if run.library is tapegrad else make)(run.optimizer) for make in chain] for run in runs]
    for count in range(1, STEPS + 1):
        for run, schedulers in zip(runs, made, strict=True):
            if case.info.only_supports_sparse_grads:
                run.sparse_step(count)
            else:
                run.step()
            step_all(schedulers, float(run.closure()))
        rates = [[g["lr"] for g in run.optimizer.param_groups] for run in runs]
        if failure := near(*rates, 1e-12, "rates") or same_runs(*runs, case.bound("float64")):
            return f"step {count}: {failure}"
    return None


def step_all(schedulers: list[Any], metric: float) -> None:
    for scheduler in schedulers:
        scheduler.step(*[metric][: type(scheduler).__name__ == "ReduceLROnPlateau"])


def rebound(make: types.FunctionType) -> types.FunctionType:
    """A function of the database with tapegrad's schedulers for its globals."""
    return types.FunctionType(make.__code__, vars(tapegrad.optim.lr_scheduler))


def error_input(name: str, given: Any) -> str | None:
    """Construction, and a step where the error is to come there: exceptions and warnings as torch's."""
    case = given.optimizer_error_input
    outcomes = []
    for library in (tapegrad, torch):
        with warnings.catch_warnings(record=True) as caught_warnings:
            warnings.simplefilter("always")
            outcome = attempt(construct_and_step, library, name, case)
        outcomes.append((outcome, [(w.category.__name__, str(w.message)) for w in caught_warnings]))
    (mine, my_warnings), (theirs, their_warnings) = outcomes
    if my_warnings != their_warnings:
        return f"warns {my_warnings}, torch {their_warnings}"
    return same_outcome(mine, theirs)


def construct_and_step(library: Any, name: str, given: Any) -> None:
    """One step of an optimizer made as an error input says; parameters that it leaves open are two matrices."""
    params, options = given.params, given.kwargs
    if params is None:
        params = [torch.ones(2, 3, requires_grad=True), torch.ones(1, 1, requires_grad=True)]
    if library is tapegrad:
        params, options = with_gradients(params, {}), to_tapegrad(options)
    getattr(library.optim, name)(params, **options).step(lambda: 0.0)


def with_gradients(value: Any, memo: dict[int, Any]) -> Any:
    """`to_tapegrad` of parameters: one given twice is one here too, and each has its gradient."""
    if isinstance(value, dict):
        return {key: with_gradients(item, memo) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(with_gradients(item, memo) for item in value)
    if not isinstance(value, torch.Tensor):
        return value
    if id(value) not in memo:
        memo[id(value)] = to_tapegrad(value)
        if value.grad is not None:
            memo[id(value)].grad = to_tapegrad(value.grad)
    return memo[id(value)]
