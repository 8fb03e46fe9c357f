"""Learning rate schedules: their closed forms, state, warnings and errors; and step by step against PyTorch."""

from __future__ import annotations

import copy
import math
import sys
import warnings

import pytest
import tapegrad
from tapegrad import optim
from tapegrad.optim import lr_scheduler


def make_optimizer(lib=tapegrad, lrs=(0.5, 0.03), name="SGD", **options):
    """An optimizer of `lib` (this package or torch) with one group for each rate."""
    groups = [{"params": [lib.zeros(2, requires_grad=True)], "lr": lr} for lr in lrs]
    return getattr(lib.optim, name)(groups, **options)


def drive(optimizer, scheduler, steps, *metrics):
    """The groups' rates (and momenta) at each of `steps` epochs."""
    seen = []
    for i in range(steps):
        seen.append([{k: g[k] for k in ("lr", "momentum", "betas") if k in g} for g in optimizer.param_groups])
        optimizer.step()
        scheduler.step(*(m[i] for m in metrics))
    seen.append([g["lr"] for g in optimizer.param_groups])
    return seen


def rates(scheduler, steps):
    """The first group's rate at each epoch, epoch 0 included."""
    seen = []
    for _ in range(steps):
        seen.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return seen


def library_of(module):
    """The package (this one or torch) to which a scheduler module belongs."""
    return sys.modules[module.__name__.partition(".")[0]]


class Halve:
    """A callable object, whose attributes a state_dict keeps."""

    def __init__(self, base=0.5):
        self.base = base

    def __call__(self, epoch):
        return self.base**epoch


S = lr_scheduler
# name -> (scheduler of module S on optimizer o)
SCHEDULES = {
    "lambda": lambda S, o: S.LambdaLR(o, [lambda e: 1 / (1 + e), Halve(0.9)]),
    "multiplicative": lambda S, o: S.MultiplicativeLR(o, lambda e: 0.95 + 0.01 * (e % 3)),
    "step": lambda S, o: S.StepLR(o, 3, gamma=0.3),
    "multistep": lambda S, o: S.MultiStepLR(o, [2, 5, 5, 11], gamma=0.7),
    "constant": lambda S, o: S.ConstantLR(o, factor=0.4, total_iters=6),
    "linear": lambda S, o: S.LinearLR(o, start_factor=0.2, end_factor=0.9, total_iters=7),
    "exponential": lambda S, o: S.ExponentialLR(o, 0.83),
    "polynomial": lambda S, o: S.PolynomialLR(o, total_iters=12, power=1.7),
    "cosine": lambda S, o: S.CosineAnnealingLR(o, T_max=5, eta_min=0.001),
    "warm restarts": lambda S, o: S.CosineAnnealingWarmRestarts(o, T_0=4, T_mult=2, eta_min=0.002),
    "sequential": lambda S, o: S.SequentialLR(
        o,
        [S.LinearLR(o, 0.1, total_iters=4), S.ExponentialLR(o, 0.9), S.CosineAnnealingLR(o, 6)],
        milestones=[4, 9],
    ),
    "chained": lambda S, o: S.ChainedScheduler([S.ConstantLR(o, 0.1, 3), S.ExponentialLR(o, 0.9)], optimizer=o),
    "triangular": lambda S, o: S.CyclicLR(o, 0.01, [0.1, 0.2], step_size_up=3, step_size_down=5, mode="triangular"),
    "triangular2": lambda S, o: S.CyclicLR(o, 0.01, 0.1, step_size_up=4, mode="triangular2"),
    "exp_range": lambda S, o: S.CyclicLR(
        o, [0.01, 0.02], 0.1, step_size_up=3, mode="exp_range", gamma=0.95, base_momentum=0.6, max_momentum=[0.8, 0.95]
    ),
    "cyclic scale_fn": lambda S, o: S.CyclicLR(o, 0.01, 0.1, 3, scale_fn=Halve(0.8), scale_mode="iterations"),
    "cyclic alone": lambda S, o: S.CyclicLR(o, 0.01, 0.1, 3, cycle_momentum=False),
    "onecycle": lambda S, o: S.OneCycleLR(o, [1.0, 0.3], total_steps=30),
    "onecycle linear": lambda S, o: S.OneCycleLR(
        o, 1.0, epochs=5, steps_per_epoch=6, anneal_strategy="linear", three_phase=True, pct_start=0.4, div_factor=10.0,
        final_div_factor=50, base_momentum=0.7, max_momentum=[0.9, 0.8],
    ),
    "onecycle alone": lambda S, o: S.OneCycleLR(o, 0.7, total_steps=29, cycle_momentum=False),
}  # fmt: skip

# name -> rate of epoch e from the initial rate 0.5, in closed form
CLOSED = {
    "step": lambda e: 0.5 * 0.3 ** (e // 3),
    "multistep": lambda e: 0.5 * 0.7 ** sum(e >= m for m in (2, 5, 5, 11)),
    "constant": lambda e: 0.5 * (0.4 if e < 6 else 1),
    "linear": lambda e: 0.5 * (0.2 + 0.7 * min(e, 7) / 7),
    "exponential": lambda e: 0.5 * 0.83**e,
    "polynomial": lambda e: 0.5 * (1 - min(e, 12) / 12) ** 1.7,
    "cosine": lambda e: 0.001 + 0.499 * (1 + math.cos(math.pi * e / 5)) / 2,
    "lambda": lambda e: 0.5 / (1 + e),
    "chained": lambda e: 0.5 * 0.9**e * (0.1 if e < 3 else 1),
    "triangular2": lambda e: 0.01 + 0.09 * (1 - abs(e % 8 - 4) / 4) / 2 ** (e // 8),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form(name):
    scheduler = SCHEDULES[name](S, make_optimizer(momentum=0.9))
    assert rates(scheduler, 20) == pytest.approx([CLOSED[name](e) for e in range(20)], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("name", ["step", "multistep", "constant", "linear", "exponential", "polynomial", "cosine"])
def test_step_to_an_epoch_uses_the_closed_form(name):
    scheduler = SCHEDULES[name](S, make_optimizer())
    scheduler.optimizer.step()
    for epoch in (4, 13, 2):
        with pytest.warns(UserWarning, match="The epoch parameter in `scheduler.step"):
            scheduler.step(epoch)
        assert scheduler.get_last_lr()[0] == pytest.approx(CLOSED[name](epoch), rel=1e-12, abs=1e-15)
        assert scheduler.last_epoch == epoch


@pytest.mark.parametrize("name", SCHEDULES)
def test_state_dict_resumes(name):
    """State saved after 6 of 18 steps, loaded into a fresh scheduler and optimizer: the same rates follow."""
    first = make_optimizer(momentum=0.9)
    scheduler = SCHEDULES[name](S, first)
    drive(first, scheduler, 6)
    state, optimizer_state = copy.deepcopy((scheduler.state_dict(), first.state_dict()))
    expected = drive(first, scheduler, 12)

    second = make_optimizer(momentum=0.9)
    resumed = SCHEDULES[name](S, second)
    resumed.load_state_dict(copy.deepcopy(state))
    second.load_state_dict(optimizer_state)
    assert drive(second, resumed, 12) == expected


def test_resume_with_last_epoch():
    first = make_optimizer(lrs=(0.5,))
    expected = rates(SCHEDULES["step"](S, first), 9)
    second = make_optimizer(lrs=(0.5,))
    drive(second, SCHEDULES["step"](S, second), 4)
    third = make_optimizer(lrs=(0.5,))
    third.load_state_dict(second.state_dict())
    assert third.param_groups[0]["initial_lr"] == 0.5
    assert rates(S.StepLR(third, 3, gamma=0.3, last_epoch=4), 4) == pytest.approx(expected[5:9])


def test_state_dict_has_no_optimizer_and_no_functions():
    o = make_optimizer(momentum=0.9)
    state = S.LambdaLR(o, [lambda e: 1.0, Halve(0.25)]).state_dict()
    assert "optimizer" not in state
    assert state["lr_lambdas"] == [None, {"base": 0.25}]
    other = S.LambdaLR(make_optimizer(), [lambda e: 1.0, Halve(0.75)])
    other.load_state_dict(state)
    assert other.lr_lambdas[1].base == 0.25 and callable(other.lr_lambdas[0])
    assert S.CyclicLR(o, 0.1, 0.2, scale_fn=Halve(0.3)).state_dict()["_scale_fn_custom"] == {"base": 0.3}


def test_initial_lr_is_kept_for_a_second_scheduler():
    o = make_optimizer(lrs=(1.0,))
    S.ConstantLR(o, factor=0.5)
    assert o.param_groups[0]["lr"] == 0.5 and o.param_groups[0]["initial_lr"] == 1.0
    assert S.ExponentialLR(o, 0.9).base_lrs == [1.0]


def test_schedule_of_a_group_added_later():
    o = make_optimizer(lrs=(1.0,))
    scheduler = S.ExponentialLR(o, 0.5)
    o.add_param_group({"params": [tapegrad.zeros(1, requires_grad=True)], "lr": 8.0})
    o.step()
    scheduler.step()
    assert [g["lr"] for g in o.param_groups] == [0.5, 4.0]


def test_tensor_rate_is_written_in_place():
    lr = tapegrad.tensor(1.0)
    o = optim.SGD([tapegrad.zeros(1, requires_grad=True)], lr=lr)
    scheduler = S.ExponentialLR(o, 0.5)
    kept = scheduler.get_last_lr()
    o.step()
    scheduler.step()
    assert o.param_groups[0]["lr"] is lr and lr.item() == 0.5
    assert kept[0].item() == 1.0 and scheduler.base_lrs[0].item() == 1.0


def test_user_subclass():
    class Countdown(S.LRScheduler):
        def get_lr(self):
            return [base / (1 + self.last_epoch) for base in self.base_lrs]

    assert rates(Countdown(make_optimizer(lrs=(6.0,))), 3) == [6.0, 3.0, 2.0]
    assert issubclass(S.StepLR, S.LRScheduler) and issubclass(S._LRScheduler, S.LRScheduler)


# --- ReduceLROnPlateau ---


def test_plateau_reduces_after_patience_and_cooldown():
    o = make_optimizer(lrs=(1.0,))
    scheduler = S.ReduceLROnPlateau(o, factor=0.5, patience=1, cooldown=2, min_lr=0.2)
    seen = []
    for metric in [3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]:
        scheduler.step(metric)
        seen.append(o.param_groups[0]["lr"])
    assert seen == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.2]
    assert scheduler.get_last_lr() == [0.2] and scheduler.best == 2 and scheduler.in_cooldown


@pytest.mark.parametrize(
    ("mode", "threshold_mode", "metrics"),
    [
        ("min", "rel", [1.0, 0.95, 0.89]),
        ("min", "abs", [1.0, 0.95, 0.89]),
        ("max", "rel", [1.0, 1.05, 1.11]),
        ("max", "abs", [1.0, 1.05, 1.11]),
    ],
)
def test_plateau_threshold(mode, threshold_mode, metrics):
    scheduler = S.ReduceLROnPlateau(make_optimizer(), mode=mode, threshold=0.1, threshold_mode=threshold_mode)
    bad = []
    for metric in metrics:
        scheduler.step(tapegrad.tensor(metric))
        bad.append(scheduler.num_bad_epochs)
    assert bad == [0, 1, 0]


def test_plateau_state_and_new_groups():
    o = make_optimizer(lrs=(1.0,))
    scheduler = S.ReduceLROnPlateau(o, patience=0, min_lr=[0.1])
    scheduler.step(1.0)
    fresh = S.ReduceLROnPlateau(make_optimizer(lrs=(1.0,)), mode="max")
    fresh.load_state_dict(scheduler.state_dict())
    assert fresh.mode == "min" and fresh.best == 1.0 and fresh.mode_worse == math.inf
    o.add_param_group({"params": [tapegrad.zeros(1, requires_grad=True)]})
    with pytest.raises(RuntimeError, match=r"`optimizer` \(2\) differs from when .* initialized \(1\)"):
        scheduler.step(2.0)


# --- warnings and errors ---


def test_warns_of_the_wrong_order_once():
    o = make_optimizer()
    scheduler = S.StepLR(o, 2)
    with pytest.warns(UserWarning, match=r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
        scheduler.step()
    scheduler.step()


def test_no_warning_in_the_right_order():
    o = make_optimizer()
    scheduler = S.StepLR(o, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drive(o, scheduler, 3)


def test_warns_of_an_overridden_step():
    o = make_optimizer()
    scheduler = S.StepLR(o, 2)
    o.step = lambda: None
    with pytest.warns(UserWarning, match=r"Seems like `optimizer.step\(\)` has been overridden"):
        scheduler.step()


def test_get_lr_outside_step_warns():
    scheduler = S.ExponentialLR(make_optimizer(), 0.9)
    with pytest.warns(UserWarning, match=r"please use `get_last_lr\(\)`"):
        scheduler.get_lr()


def test_optimizer_step_keeps_its_name_and_hooks():
    o = make_optimizer(lrs=(1.0,))
    calls = []
    o.register_step_post_hook(lambda *args: calls.append(args[0]))
    S.StepLR(o, 2)
    S.ExponentialLR(o, 0.5)
    o.step()
    assert calls == [o] and o.step.__name__ == "step"
    assert [g["lr"] for g in copy.deepcopy(o).param_groups] == [1.0]


ERRORS = {
    "not an optimizer": (TypeError, "int is not an Optimizer", lambda S, o: S.StepLR(3, 2)),
    "cyclic not an optimizer": (TypeError, "str is not an Optimizer", lambda S, o: S.CyclicLR("a", 0.1, 0.2)),
    "no initial_lr": (KeyError, "param 'initial_lr' is not specified", lambda S, o: S.StepLR(o, 2, last_epoch=3)),
    "lambda count": (ValueError, "Expected 2 lr_lambdas, but got 1", lambda S, o: S.LambdaLR(o, [abs])),
    "lambda no function": (
        TypeError, "lr_lambda should be a function, but got int", lambda S, o: S.MultiplicativeLR(o, 3)),
    "constant factor": (ValueError, "Constant multiplicative factor", lambda S, o: S.ConstantLR(o, 1.5)),
    "linear start": (ValueError, "Starting multiplicative factor", lambda S, o: S.LinearLR(o, 0.0)),
    "linear end": (ValueError, "Ending multiplicative factor", lambda S, o: S.LinearLR(o, 0.5, 1.5)),
    "plateau factor": (ValueError, "Factor should be < 1.0.", lambda S, o: S.ReduceLROnPlateau(o, factor=1.0)),
    "plateau mode": (ValueError, "mode up is unknown!", lambda S, o: S.ReduceLROnPlateau(o, "up")),
    "plateau threshold mode": (
        ValueError, "threshold mode x is unknown!", lambda S, o: S.ReduceLROnPlateau(o, threshold_mode="x")),
    "plateau min_lr": (ValueError, "expected 2 min_lrs, got 1", lambda S, o: S.ReduceLROnPlateau(o, min_lr=[0.1])),
    "sequential none": (ValueError, "expects at least one scheduler", lambda S, o: S.SequentialLR(o, [], [])),
    "sequential milestones": (
        ValueError, "number of schedulers 1 and the number of milestones to be equal to 1",
        lambda S, o: S.SequentialLR(o, [S.StepLR(o, 2)], [3])),
    "sequential plateau": (
        ValueError, "does not support `ReduceLROnPlateau`",
        lambda S, o: S.SequentialLR(o, [S.ReduceLROnPlateau(o)], [])),
    "sequential no scheduler": (
        TypeError, "at index 0 should have `optimizer` as its attribute", lambda S, o: S.SequentialLR(o, [3], [])),
    "sequential two optimizers": (
        ValueError, "expects all schedulers to belong to the same optimizer",
        lambda S, o: S.SequentialLR(copy.deepcopy(o), [S.StepLR(o, 2)], [])),
    "chained none": (
        ValueError, "expects at least one scheduler to be chained", lambda S, o: S.ChainedScheduler([])),
    "cyclic mode": (ValueError, "mode is invalid and scale_fn is None", lambda S, o: S.CyclicLR(o, 1, 2, mode="x")),
    "cyclic list": (
        ValueError, "max_lr must have the same length as optimizer.param_groups. max_lr has 1 values, ",
        lambda S, o: S.CyclicLR(o, 0.1, [0.2])),
    "cyclic no momentum": (
        ValueError, "optimizer must support momentum or beta1",
        lambda S, o: S.CyclicLR(make_optimizer(library_of(S), name="Adagrad"), 0.1, 0.2)),
    "restarts T_0": (
        ValueError, "Expected positive integer T_0, but got 0", lambda S, o: S.CosineAnnealingWarmRestarts(o, 0)),
    "restarts T_mult": (
        ValueError, "Expected integer T_mult >= 1, but got 1.5",
        lambda S, o: S.CosineAnnealingWarmRestarts(o, 2, 1.5)),
    "restarts eta_min": (
        ValueError, "Expected float or int eta_min, but got x of type",
        lambda S, o: S.CosineAnnealingWarmRestarts(o, 2, eta_min="x")),
    "restarts epoch": (
        ValueError, "Expected non-negative epoch, but got -1",
        lambda S, o: S.CosineAnnealingWarmRestarts(o, 2).step(-1)),
    "onecycle nothing": (ValueError, "You must define either total_steps OR", lambda S, o: S.OneCycleLR(o, 0.1)),
    "onecycle steps": (
        ValueError, "Expected positive integer total_steps, but got 0",
        lambda S, o: S.OneCycleLR(o, 0.1, total_steps=0)),
    "onecycle epochs": (
        ValueError, "Expected positive integer epochs, but got -1",
        lambda S, o: S.OneCycleLR(o, 0.1, epochs=-1, steps_per_epoch=2)),
    "onecycle steps_per_epoch": (
        ValueError, "Expected positive integer steps_per_epoch, but got 2.5",
        lambda S, o: S.OneCycleLR(o, 0.1, epochs=1, steps_per_epoch=2.5)),
    "onecycle pct": (
        ValueError, "Expected float between 0 and 1 pct_start, but got 2",
        lambda S, o: S.OneCycleLR(o, 0.1, total_steps=9, pct_start=2)),
    "onecycle strategy": (
        ValueError, "anneal_strategy must be one of 'cos' or 'linear', instead got x",
        lambda S, o: S.OneCycleLR(o, 0.1, total_steps=9, anneal_strategy="x")),
    "onecycle over": (
        ValueError, "Tried to step 3 times. The specified number of total steps is 2",
        lambda S, o: [(o.step(), s.step()) for s in [S.OneCycleLR(o, 0.1, total_steps=2)] for _ in range(3)]),
}  # fmt: skip


def raised(function, *args):
    with pytest.raises(Exception) as info:
        function(*args)
    return type(info.value), str(info.value)


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    kind, text, call = ERRORS[name]
    found_kind, found_text = raised(call, S, make_optimizer(momentum=0.9))
    assert found_kind is kind and text in found_text


# --- against PyTorch ---


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_same_rates_and_state_as_torch(torch, name, optimizer):
    options = {"momentum": 0.9} if optimizer == "SGD" else {}
    results = []
    for lib in (tapegrad, torch):
        o = make_optimizer(lib, name=optimizer, **options)
        scheduler = SCHEDULES[name](lib.optim.lr_scheduler, o)
        results.append((drive(o, scheduler, 24), scheduler.state_dict()))
    (ours, our_state), (theirs, their_state) = results
    assert ours == theirs  # the same arithmetic in the same order: equal to the last bit
    assert plain(our_state) == plain(their_state)


def plain(state):
    """A scheduler's state as comparable values."""
    return {k: [plain(s) for s in v] if k == "_schedulers" else v for k, v in state.items()}


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_plateau_same_as_torch(torch, mode, threshold_mode):
    metrics = [math.sin(i * i) / (1 + i) for i in range(40)]
    results = []
    for lib in (tapegrad, torch):
        o = make_optimizer(lib)
        scheduler = lib.optim.lr_scheduler.ReduceLROnPlateau(
            o, mode, 0.6, patience=2, threshold=0.05, threshold_mode=threshold_mode, cooldown=1, min_lr=[0.05, 0.001]
        )
        results.append((drive(o, scheduler, 40, metrics), scheduler.state_dict()))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", ["step", "linear", "cosine", "warm restarts", "exponential", "polynomial"])
def test_step_to_an_epoch_same_as_torch(torch, name):
    results = []
    for lib in (tapegrad, torch):
        o = make_optimizer(lib)
        scheduler = SCHEDULES[name](lib.optim.lr_scheduler, o)
        o.step()
        seen = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for epoch in (1, 7, 3.25, 12, 4, 0):
                scheduler.step(epoch)
                seen.append(scheduler.get_last_lr())
        results.append(seen)
    assert results[0] == results[1]


@pytest.mark.parametrize("name", ERRORS)
def test_same_errors_as_torch(torch, name):
    call = ERRORS[name][2]
    ours = raised(call, S, make_optimizer(momentum=0.9))
    theirs = raised(call, torch.optim.lr_scheduler, make_optimizer(torch, momentum=0.9))
    assert ours == theirs
