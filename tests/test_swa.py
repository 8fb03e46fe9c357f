"""torch.optim.swa_utils: averages of models, statistics of batch norms for them, and the rate that goes with it."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import tapegrad
from both import Programs, said, warned
from tapegrad import nn
from tapegrad.optim import swa_utils

ROUNDS = [1.0, 4.0, -2.5, 0.5, 3.0]


def model(T=tapegrad, dtype=None):
    """Linear and batch norm, with weights that do not come from a generator."""
    net = T.nn.Sequential(T.nn.Linear(3, 2), T.nn.BatchNorm1d(2))
    set_all(T, net, 1.0)
    return net.to(dtype or T.float64)


def set_all(T, net, value):
    """Every parameter and floating buffer counts up from `value`."""
    with T.no_grad():
        for i, t in enumerate([*net.parameters(), *net.buffers()]):
            if t.is_floating_point():
                t.copy_(T.arange(t.numel(), dtype=t.dtype).reshape(t.shape) * 0.1 + value + i)
            else:
                t.fill_(int(10 * value) + i)


def averaged(T=tapegrad, rounds=ROUNDS, **options):
    net = model(T)
    average = T.optim.swa_utils.AveragedModel(net, **options)
    for value in rounds:
        set_all(T, net, value)
        average.update_parameters(net)
    return average


def values(average):
    return [float(p.detach().reshape(-1)[0]) for p in average.module.parameters()]


def test_equal_weights_give_the_mean():
    assert values(averaged()) == pytest.approx([np.mean(ROUNDS) + i for i in range(4)], rel=1e-14)


@pytest.mark.parametrize("name", ["avg_fn", "multi_avg_fn"])
def test_exponential_average(name):
    make = {"avg_fn": swa_utils.get_ema_avg_fn, "multi_avg_fn": swa_utils.get_ema_multi_avg_fn}[name]
    expected = ROUNDS[0]
    for value in ROUNDS[1:]:
        expected = 0.8 * expected + 0.2 * value
    assert values(averaged(**{name: make(0.8)})) == pytest.approx([expected + i for i in range(4)], rel=1e-14)


def test_the_first_update_copies_and_later_ones_leave_the_model():
    net = model()
    average = swa_utils.AveragedModel(net)
    set_all(tapegrad, net, 7.0)
    average.update_parameters(net)
    assert values(average) == values(swa_utils.AveragedModel(net)) == [7.0, 8.0, 9.0, 10.0]
    set_all(tapegrad, net, 9.0)
    average.update_parameters(net)
    assert values(average) == [8.0, 9.0, 10.0, 11.0] and float(net[0].weight[0, 0]) == 9.0
    assert average.n_averaged.item() == 2 and average.n_averaged.dtype == tapegrad.int64


def test_buffers_are_copied_or_averaged():
    mean = np.mean(ROUNDS)
    assert float(averaged().module[1].running_mean[0]) == ROUNDS[-1] + 4
    assert float(averaged(use_buffers=True).module[1].running_mean[0]) == pytest.approx(mean + 4, rel=1e-14)


def test_is_a_module_that_computes_with_the_average():
    average = averaged()
    keys = ["n_averaged", *(f"module.{key}" for key in average.module.state_dict())]
    assert isinstance(average, nn.Module) and list(average.state_dict()) == keys
    x = tapegrad.ones(2, 3, dtype=tapegrad.float64)
    assert (average.eval()(x) == average.module(x)).all()
    other = swa_utils.AveragedModel(model())
    other.load_state_dict(average.state_dict())
    assert other.n_averaged.item() == 5 and values(other) == values(average)
    assert values(copy.deepcopy(average)) == values(average)


def test_lists_are_of_one_dtype():
    """The function on lists is called once for the parameters and once for the counter of the batch norm."""
    seen = []

    def note(averages, currents, count):
        seen.append(({t.dtype for t in averages}, len(currents)))

    averaged(rounds=[1.0, 2.0], use_buffers=True, multi_avg_fn=note)
    assert seen == [({tapegrad.float64}, 6), ({tapegrad.int64}, 1)]


def test_statistics_are_means_over_the_batches():
    net = model().eval()
    net[1].momentum = 0.3
    batches = [tapegrad.full((4, 3), float(i), dtype=tapegrad.float64) for i in range(3)]
    outputs = np.stack([net[0](x).detach().cpu().numpy() for x in batches])
    swa_utils.update_bn(([x, "ignored"] for x in batches), net)
    np.testing.assert_allclose(net[1].running_mean.cpu().numpy(), outputs.mean((0, 1)), rtol=1e-14)
    assert net[1].momentum == 0.3 and not net.training and net[1].num_batches_tracked.item() == 3
    assert net[0].weight.grad is None


def test_without_batch_norm_no_batch_is_read():
    swa_utils.update_bn(iter(lambda: pytest.fail("a batch was read"), None), nn.ReLU())


def test_wrong_arguments():
    for make in (swa_utils.get_ema_avg_fn, swa_utils.get_ema_multi_avg_fn):
        for decay in (-0.1, 1.1):
            with pytest.raises(ValueError, match=f"Invalid decay value {decay} provided"):
                make(decay)
    with pytest.raises(AssertionError, match="Only one of avg_fn and multi_avg_fn should be provided"):
        swa_utils.AveragedModel(model(), avg_fn=max, multi_avg_fn=max)


def test_rate_goes_to_its_goal_and_stays():
    x = tapegrad.ones(1, requires_grad=True)
    optimizer = tapegrad.optim.SGD([x], lr=1.0)
    scheduler = swa_utils.SWALR(optimizer, 0.2, anneal_epochs=4)
    seen = []
    for _ in range(6):
        optimizer.step()
        scheduler.step()
        seen.append(optimizer.param_groups[0]["lr"])
    goals = [0.2 + 0.8 * (1 + np.cos(np.pi * min(e, 4) / 4)) / 2 for e in range(1, 7)]
    assert seen == pytest.approx(goals, rel=1e-12)


def test_optim_does_not_load_nn():
    """Only swa_utils needs it, and is loaded when it is named."""
    program = (
        "import sys, tapegrad; tapegrad.optim.SGD; assert 'tapegrad.nn' not in sys.modules; "
        "tapegrad.optim.swa_utils.SWALR; assert 'tapegrad.nn' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# ---- beside PyTorch -------------------------------------------------------------------------------------------------

programs = Programs()


@programs
def equal_weights(T):
    return averaged(T).state_dict()


@programs
def buffers(T):
    return averaged(T, use_buffers=True).state_dict()


@programs
def ema(T):
    return averaged(T, avg_fn=T.optim.swa_utils.get_ema_avg_fn(0.7)).state_dict()


@programs
def ema_lists(T):
    return averaged(T, multi_avg_fn=T.optim.swa_utils.get_ema_multi_avg_fn(), use_buffers=True).state_dict()


@programs
def swa_lists(T):
    return averaged(T, multi_avg_fn=T.optim.swa_utils.get_swa_multi_avg_fn()).state_dict()


@programs
def swa_lists_of_integers(T):
    """PyTorch refuses to divide integers in place."""
    return said(averaged, T, multi_avg_fn=T.optim.swa_utils.get_swa_multi_avg_fn(), use_buffers=True)


@programs
def functions_alone(T):
    a, b, c = (T.tensor(v, dtype=T.float64) for v in ([1.0, 2.0], [3.0, -1.0], [0.5, 0.25]))
    swa, ema = T.optim.swa_utils.get_swa_multi_avg_fn(), T.optim.swa_utils.get_ema_multi_avg_fn(0.25)
    swa([a], [b], 3)
    ema([a, c], [b, b], None)
    z = T.tensor([1 + 2j, 3 - 1j])
    swa([z], [z * 2], T.tensor(1))
    i = T.tensor([8, 4])
    ema([i], [T.tensor([0, 8])], 1)
    singles = T.optim.swa_utils.get_swa_avg_fn()(a, b, T.tensor(2)), T.optim.swa_utils.get_ema_avg_fn()(a, b, 1)
    return a, c, z, i, singles, said(swa, [i], [i], 2)


@programs
def batch_norm_statistics(T):
    net = model(T)
    net.append(T.nn.BatchNorm1d(2, momentum=None, dtype=T.float64))
    data = [T.arange(12.0, dtype=T.float64).reshape(4, 3) * (i + 1) % 5 for i in range(3)]
    T.optim.swa_utils.update_bn(((x, 0) for x in data), net, device=net[0].weight.device)
    return net.state_dict(), net.training, [m.momentum for m in net[1:]]


@programs
def forward_and_gradient(T):
    average = averaged(T).eval()
    x = T.arange(6.0, dtype=T.float64).reshape(2, 3).requires_grad_()
    y = average(x)
    y.square().sum().backward()
    return y, x.grad, [p.grad for p in average.parameters()], [p.requires_grad for p in average.parameters()]


@programs
def training(T):
    """The loop of the documentation: SGD, a schedule, and from epoch 3 on averages with a rate of their own."""
    net = model(T)
    optimizer = T.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    average = T.optim.swa_utils.AveragedModel(net)
    scheduler = T.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    late = T.optim.swa_utils.SWALR(optimizer, swa_lr=0.05, anneal_epochs=3)
    x = T.arange(24.0, dtype=T.float64).reshape(8, 3).sin()
    seen = []
    for epoch in range(8):
        optimizer.zero_grad()
        loss = (net(x) - x[:, :2]).square().mean()
        loss.backward()
        optimizer.step()
        if epoch > 2:
            average.update_parameters(net)
            late.step()
        else:
            scheduler.step()
        seen.append((loss.item(), optimizer.param_groups[0]["lr"]))
    T.optim.swa_utils.update_bn([x], average)
    return seen, average.state_dict()


@programs
def wrong(T):
    utils = T.optim.swa_utils
    return (
        said(utils.get_ema_avg_fn, 1.5, length=100),
        said(utils.get_ema_multi_avg_fn, -1, length=100),
        said(utils.AveragedModel, T.nn.ReLU(), avg_fn=max, multi_avg_fn=max, length=100),
        said(utils.AveragedModel, 3, length=0),
    )


@programs
def rate_from_outside(T):
    optimizer = T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.1)
    scheduler = T.optim.swa_utils.SWALR(optimizer, 0.3)
    return warned(scheduler.get_lr), scheduler.state_dict()


@pytest.mark.parametrize("name", programs)
def test_as_in_torch(name):
    programs.check(name, rtol=1e-12)
