"""Run by `mpiexec -n 4`: DistributedDataParallel and its like against one process with the whole batch.

Every process runs every check; each prints one line "ok NAME" on rank 0 when all processes have passed it.
"""

from __future__ import annotations

import copy
import io
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import tapegrad as T

D, nn, F = T.distributed, T.nn, T.nn.functional
DDP = nn.parallel.DistributedDataParallel
RNG = np.random.default_rng(0)
X = T.tensor(RNG.standard_normal((32, 20)).astype("f"))
Y = T.tensor(RNG.integers(0, 5, 32))


def network(seed: int) -> Any:
    T.manual_seed(seed)
    layers = [nn.Linear(20, 80), nn.ReLU(), nn.Linear(80, 80), nn.ReLU(), nn.Linear(80, 5)]
    return nn.Sequential(*layers)


def share(x: Any) -> Any:
    n = len(x) // D.get_world_size()
    return x[D.get_rank() * n : (D.get_rank() + 1) * n]


def same(a: Any, b: Any, tolerance: float = 1e-6) -> None:
    assert a.shape == b.shape, (a.shape, b.shape)
    worst = (a - b).abs().max().item()
    assert worst <= tolerance, worst


def same_everywhere(t: Any) -> None:
    found = [T.empty_like(t) for _ in range(D.get_world_size())]
    D.all_gather(found, t.detach())
    for other in found:
        assert T.equal(other, found[0])


def loss_of(model: Any, x: Any, y: Any) -> Any:
    return F.cross_entropy(model(x), y)


OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "many_buckets": {"bucket_cap_mb": 0.01},
    "views": {"bucket_cap_mb": 0.01, "gradient_as_bucket_view": True},
    "unused_search": {"bucket_cap_mb": 0.01, "find_unused_parameters": True},
    "static": {"bucket_cap_mb": 0.01, "static_graph": True},
    "list": {"bucket_cap_mb_list": [0.001, 0.02]},
}


def check_gradients_are_those_of_the_whole_batch() -> None:
    """Every option, with accumulation under no_sync in every second step."""
    x, y = share(X), share(Y)
    half = len(x) // 2
    for name, options in OPTIONS.items():
        model, alone = DDP(network(D.get_rank()), **options), network(0)
        pairs = list(zip(model.parameters(), alone.parameters(), strict=True))
        for p, q in pairs:
            assert T.equal(p, q), name  # rank 0's
        mine, theirs = (T.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in (model, alone))
        for step in range(5):
            mine.zero_grad(set_to_none=step != 3)
            theirs.zero_grad()
            if step % 2:
                with model.no_sync():
                    (loss_of(model, x[:half], y[:half]) / 2).backward()
                (loss_of(model, x[half:], y[half:]) / 2).backward()
            else:
                loss_of(model, x, y).backward()
            loss_of(alone, X, Y).backward()
            for p, q in pairs:
                same(p.grad, q.grad)
            mine.step()
            theirs.step()
        data = model._get_ddp_logging_data()
        assert data["has_rebuilt_buckets"] is (name != "unused_search"), name
        # numbers per bucket: 0.01 MB are full with (5 + 400 + 80 + 6400) of the last layers; in the model's order other
        buckets = {"defaults": [8565], "unused_search": [485, 8080], "list": [405, 6480, 1680]}.get(name, [6885, 1680])
        assert data["bucket_sizes"] == ", ".join(str(4 * n) for n in buckets), (name, data["bucket_sizes"])
        if "gradient_as_bucket_view" in options:
            buffers = {id(b.buffer.array) for b in model.reducer.buckets}
            assert all(id(p.grad.array.base) in buffers for p in model.parameters())


class Branches(nn.Module):
    """Two branches of which a call uses one, the other or both, and a parameter that nobody uses."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(20, 5), nn.Linear(20, 5)
        self.never = nn.Parameter(T.ones(3))

    def forward(self, x: Any, which: str) -> Any:
        return {w: getattr(self, w)(x) for w in which}


def check_unused_parameters() -> None:
    """Rank 0 uses one branch, the others the other one: zeros are contributed; what nobody uses keeps no gradient."""
    rank, world = D.get_rank(), D.get_world_size()
    T.manual_seed(0)
    net = Branches()
    model = DDP(net, find_unused_parameters=True, bucket_cap_mb=1e-4)
    for _ in range(2):
        model.zero_grad()
        which = "a" if rank == 0 else "b"
        model(share(X), which)[which].sum().backward()
        assert net.never.grad is None
    same(net.a.bias.grad, T.full((5,), 8.0 / world))
    same(net.b.bias.grad, T.full((5,), 8.0 * (world - 1) / world))
    model.zero_grad()
    model(share(X), "ab")["a"].sum().backward()  # an output outside of the loss
    assert net.b.weight.grad is None and net.a.weight.grad is not None
    model(share(X), "ab")["b"].sum().backward()
    assert net.b.weight.grad is not None
    static = DDP(Branches(), static_graph=True)
    for _ in range(3):
        static.zero_grad()
        static(share(X), "a")["a"].sum().backward()
        assert static.module.b.weight.grad is None
        same_everywhere(static.module.a.weight.grad)


def check_an_unused_parameter_is_an_error_at_the_next_forward() -> None:
    model = DDP(Branches())
    model(share(X), "a")["a"].sum().backward()
    try:
        model(share(X), "a")
    except RuntimeError as error:
        text = str(error)
    assert text.startswith("Expected to have finished reduction in the prior iteration before starting a new one.")
    assert "find_unused_parameters=True" in text and f"for rank {D.get_rank()}: 0 3 4 (never, b.weight, b.bias)" in text


def check_models_that_differ() -> None:
    """An error on every process, which does not hang."""
    for width, expected in ((5 + (D.get_rank() == 1), "appears not to match sizes"), (None, "inconsistent")):
        net = nn.Linear(20, width) if width else nn.Linear(20, 5, bias=D.get_rank() != 2)
        try:
            DDP(net)
        except RuntimeError as error:
            assert expected in str(error), error
        else:
            raise AssertionError("no error")


def check_buffers_follow_rank_0() -> None:
    for sync in (True, False):
        net = nn.Sequential(nn.Linear(20, 4), nn.BatchNorm1d(4))
        model = DDP(net, forward_sync_buffers=sync)
        for _ in range(3):
            model(share(X)).sum().backward()
        model(share(X))  # the broadcast is before the forward
        means = [T.empty(4) for _ in range(D.get_world_size())]
        model.eval()
        model(share(X))
        D.all_gather(means, net[1].running_mean)
        assert T.equal(means[0], means[1]) is sync
        assert len({int(net[1].num_batches_tracked)}) == 1


def check_sync_batch_norm() -> None:
    """Uneven batches, one of them empty: output, gradients and statistics of the whole batch."""
    data = T.tensor(RNG.standard_normal((16, 3, 4, 4)), requires_grad=True)
    g = T.tensor(RNG.standard_normal((16, 3, 4, 4)))
    for affine in (True, False):
        alone = nn.BatchNorm2d(3, affine=affine).double()
        net = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(alone))
        data.grad = None
        expected = alone(data)
        expected.backward(g)
        cuts = [0, 5, 5, 11, 16]
        a, b = cuts[D.get_rank()], cuts[D.get_rank() + 1]
        x = data.detach()[a:b].clone().requires_grad_()
        out = net(x)
        out.backward(g[a:b])
        if b > a:
            same(out, expected[a:b], 1e-12)
            same(x.grad, data.grad[a:b], 1e-12)
        same(net.running_mean, alone.running_mean, 1e-12)
        same(net.running_var, alone.running_var, 1e-12)
        if affine:
            for p, q in ((net.weight, alone.weight), (net.bias, alone.bias)):
                D.all_reduce(p.grad)
                same(p.grad, q.grad, 1e-10)


def check_hooks() -> None:
    hooks = D.algorithms.ddp_comm_hooks.default_hooks
    seen = []

    def own(state: Any, bucket: D.GradBucket) -> T.futures.Future[T.Tensor]:
        seen.append((bucket.index(), bucket.is_last(), len(bucket.gradients()) == len(bucket.parameters())))
        return hooks.allreduce_hook(state, bucket)

    cases = [(own, 1e-6), (hooks.allreduce_hook, 1e-6), (hooks.fp16_compress_hook, 2e-4)]
    cases += [(hooks.bf16_compress_hook, 2e-3), (hooks.fp16_compress_wrapper(hooks.allreduce_hook), 2e-4)]
    for hook, tolerance in cases:
        model, alone = DDP(network(1), bucket_cap_mb=0.01), network(0 + 1)
        model.register_comm_hook(None, hook)
        for _ in range(2):
            model.zero_grad()
            loss_of(model, share(X), share(Y)).backward()
        loss_of(alone, X, Y).backward()
        for p, q in zip(model.parameters(), alone.parameters(), strict=True):
            same(p.grad, q.grad, tolerance)
            same_everywhere(p.grad)
    last = len(model.reducer.buckets) - 1
    assert seen[-last - 1 :] == [(i, i == last, True) for i in range(last + 1)], seen


def check_join() -> None:
    """Rank r has 2 + r batches; the model and ZeRO's are the same at the end, and of the last iteration."""
    for divide in (True, False):
        for options in ({}, {"find_unused_parameters": True}, {"static_graph": True}):
            net = nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
            model = DDP(net, **options)
            optimizer = T.optim.SGD(model.parameters(), lr=0.1)
            with model.join(divide_by_initial_world_size=divide):
                for _ in range(2 + D.get_rank()):
                    optimizer.zero_grad()
                    model(share(X)).sum().backward()
                    optimizer.step()
            for t in (*model.parameters(), *model.buffers()):
                same_everywhere(t)
    line = nn.Linear(1, 1, bias=False)
    model = DDP(line)
    with model.join(divide_by_initial_world_size=False):
        for _ in range(1 + (D.get_rank() == 3)):
            line.zero_grad()
            model(T.ones(1, 1)).sum().backward()
    same_everywhere(line.weight)
    assert line.weight.grad.item() == 1.0  # the only one that went on
    model = DDP(nn.Linear(20, 4))
    zero = D.optim.ZeroRedundancyOptimizer(model.parameters(), T.optim.Adam, lr=0.1)
    with D.algorithms.Join([model, zero]):
        for _ in range(2 + D.get_rank()):
            zero.zero_grad()
            model(share(X)).sum().backward()
            zero.step()
    for p in model.parameters():
        same_everywhere(p)
    try:
        with model.join(throw_on_early_termination=True):
            for _ in range(1 + D.get_rank()):
                model(share(X)).sum().backward()
    except RuntimeError as error:
        assert "exhausted" in str(error)
    else:
        raise AssertionError("no error")


def check_zero() -> None:
    """Loss, parameters and consolidated state of AdamW in one process; groups, a scheduler, state loaded back."""
    rank, world = D.get_rank(), D.get_world_size()
    for views in (False, True):
        model, alone = DDP(network(0)), network(0)

        def groups(m: Any) -> list[dict[str, Any]]:
            p = list(m.parameters())
            return [{"params": p[:2], "lr": 1e-2}, {"params": p[2:], "weight_decay": 0.1}]

        zero = D.optim.ZeroRedundancyOptimizer(
            groups(model), T.optim.AdamW, parameters_as_bucket_view=views, lr=1e-3, betas=(0.8, 0.99)
        )
        adam = T.optim.AdamW(groups(alone), lr=1e-3, betas=(0.8, 0.99))
        schedulers = [T.optim.lr_scheduler.StepLR(o, 2, 0.5) for o in (zero, adam)]
        for step in range(5):
            if step == 3:  # a checkpoint by rank 0, read by all
                try:
                    zero.state_dict()
                except RuntimeError as error:
                    assert "has not been consolidated on this rank" in str(error)
                zero.consolidate_state_dict(to=0)
                file = io.BytesIO()
                if rank == 0:
                    state = zero.state_dict()
                    for key, own in adam.state_dict()["state"].items():
                        for name, value in own.items():
                            same(state["state"][key][name], value)
                    T.save(state, file)
                sent = [file.getvalue()]
                D.broadcast_object_list(sent, src=0)
                zero = D.optim.ZeroRedundancyOptimizer(groups(model), T.optim.AdamW, lr=9.0)
                zero.load_state_dict(T.load(io.BytesIO(sent[0])))
                schedulers[0].optimizer = zero
            for o, m, x, y in ((zero, model, share(X), share(Y)), (adam, alone, X, Y)):
                o.zero_grad()
                loss_of(m, x, y).backward()
                o.step()
            for scheduler in schedulers:
                scheduler.step()
            assert zero.param_groups[0]["lr"] == adam.param_groups[0]["lr"]
            for p, q in zip(model.parameters(), alone.parameters(), strict=True):
                same(p, q, 1e-5)
                same_everywhere(p)
        kept = T.tensor([sum(s["exp_avg"].numel() for s in zero.optim.state.values())])
        D.all_reduce(kept)
        assert int(kept) == sum(p.numel() for p in alone.parameters())  # each is kept once
        assert len(zero.state) < 6 and world > 1


def check_messages_and_bytes_are_those_of_the_cost_model() -> None:
    """What every process sends in a step, counted at the transport, for buckets of one and of two rounds."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
    import cost_model

    rank, world = D.get_rank(), D.get_world_size()
    model = DDP(network(0), bucket_cap_mb=0.01)
    zero = D.optim.ZeroRedundancyOptimizer(model.parameters(), T.optim.AdamW)
    loss_of(model, share(X), share(Y)).backward()
    zero.step()
    loss = loss_of(model, share(X), share(Y))  # the second forward pass also sends the order of the buckets
    transport = D.group.WORLD.transport
    send, sent = transport._send, []
    transport._send = lambda x, peer, tag: sent.append(x.nbytes) or send(x, peer, tag)
    try:
        loss.backward()
        reduced = len(sent), sum(sent)
        sent.clear()
        zero.step()
    finally:
        del transport._send
    buckets = [b.buffer.numel() for b in model.reducer.buckets]
    shares = [sum(s.buffer.numel() for s in own) for own in zero._shares]
    assert sum(buckets) == sum(shares) == sum(p.numel() for p in model.parameters())
    assert min(buckets) * 4 < cost_model.SMALL < max(buckets) * 4
    assert reduced == cost_model.ddp_step(buckets, 4, world, rank)
    assert (len(sent), sum(sent)) == cost_model.zero_step(shares, 4, world, rank)


def check_a_backward_pass_left_out_is_an_error_on_the_others_in_time() -> None:
    """Rank 1 leaves it out: the others name it when their group's time is over, and the program goes on."""
    impatient = D.new_group(timeout=timedelta(seconds=1))
    model = DDP(nn.Linear(20, 5), process_group=impatient)
    out = model(X).sum()
    D.barrier()
    if D.get_rank() == 1:
        return
    began = time.monotonic()
    try:
        out.backward()
    except D.DistBackendError as error:
        assert "all_reduce: timed out after" in str(error) and "waiting for rank 1" in str(error), error
        assert 0.9 < time.monotonic() - began < 10
    else:
        raise AssertionError("backward returned")


def main() -> None:
    D.init_process_group("mpi")
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            check()
            D.barrier()
            if D.get_rank() == 0:
                print("ok", name, flush=True)
    D.destroy_process_group()


if __name__ == "__main__":
    main()
