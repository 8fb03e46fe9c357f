"""What every collective gives, beside values computed plainly. Every process makes the inputs of all."""

from __future__ import annotations

import functools
import operator
from datetime import timedelta

import numpy as np
import tapegrad as torch
import tapegrad.distributed as dist

R = dist.ReduceOp
DTYPES = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 complex128".split()


def inputs(size, dtype, seed=0):
    """The tensors of all processes."""
    made = []
    for rank in range(WORLD):
        values = np.random.default_rng([seed, rank]).standard_normal((size, 2)) * 3
        values = values[:, 0] + 1j * values[:, 1] if dtype.is_complex else values[:, 0]
        made.append(torch.tensor(np.abs(values) if dtype == torch.uint8 else values).to(dtype))
    return made


def same_bits(x):
    """Fails unless all processes hold the same bytes."""
    found = [None] * WORLD
    dist.all_gather_object(found, x.contiguous().view(torch.uint8).tolist() if x.dtype == torch.bool else x.tolist())
    assert len({str(one) for one in found}) == 1, found


def reductions(dtype, size):
    xs = inputs(size, dtype)
    if dtype == torch.bool:
        expected = {R.SUM: functools.reduce(operator.or_, xs), R.PRODUCT: functools.reduce(operator.and_, xs)}
    else:
        wide = [x.float() for x in xs] if dtype.itemsize == 2 and dtype.is_floating_point else xs
        expected = {
            R.SUM: functools.reduce(operator.add, wide).to(dtype),
            R.PRODUCT: functools.reduce(operator.mul, wide).to(dtype),
        }
    if not dtype.is_complex and dtype != torch.bool:
        expected[R.MAX] = functools.reduce(torch.maximum, xs)
        expected[R.MIN] = functools.reduce(torch.minimum, xs)
    if not (dtype.is_floating_point or dtype.is_complex):
        expected[R.BAND] = functools.reduce(operator.and_, xs)
        expected[R.BXOR] = functools.reduce(operator.xor, xs)
    elif dtype.itemsize > 2:
        expected[R.AVG] = expected[R.SUM] / WORLD
    for op, value in expected.items():
        x = xs[RANK].clone()
        dist.all_reduce(x, op)
        assert torch.equal(x, value), (op, dtype, x, value)
        x = xs[RANK].clone()
        dist.reduce(x, WORLD - 1, op)
        assert torch.equal(x, value if RANK == WORLD - 1 else xs[RANK])


def moves(dtype, size):
    xs = inputs(size, dtype, 1)
    x = xs[RANK].clone()
    dist.broadcast(x, 1)
    assert torch.equal(x, xs[1])
    outs = [torch.empty(size, dtype=dtype) for _ in xs]
    dist.all_gather(outs, xs[RANK])
    assert all(map(torch.equal, outs, xs))
    out = torch.empty(WORLD * size, dtype=dtype)
    dist.all_gather_into_tensor(out, xs[RANK])
    assert torch.equal(out, torch.cat(xs))
    parts = torch.empty(WORLD, size, dtype=dtype)
    parts[RANK] = xs[RANK]
    dist.all_gather_into_tensor(parts, parts[RANK])  # a part of the output
    assert torch.equal(parts, torch.stack(xs))
    here = [torch.empty(size, dtype=dtype) for _ in xs] if RANK == 0 else None
    dist.gather(xs[RANK], here)
    assert here is None or all(map(torch.equal, here, xs))
    mine = torch.empty(size, dtype=dtype)
    dist.scatter(mine, xs if RANK == WORLD - 1 else None, WORLD - 1)
    assert torch.equal(mine, xs[RANK])


def splitting():
    sums = torch.stack([torch.arange(6.0) * (rank + 1) for rank in range(WORLD)])
    out = torch.empty(6)
    dist.reduce_scatter(out, [row * (RANK + 1) for row in sums])
    total = WORLD * (WORLD + 1) / 2
    assert torch.equal(out, sums[RANK] * total)
    dist.reduce_scatter_tensor(out, sums * (RANK + 1), R.AVG)
    assert torch.equal(out, sums[RANK] * total / WORLD)
    out = [torch.empty(rank + 1) for rank in range(WORLD)]
    dist.all_to_all(out, [torch.full((RANK + 1,), 10.0 * RANK + rank) for rank in range(WORLD)])
    assert [t.tolist() for t in out] == [[10.0 * rank + RANK] * (rank + 1) for rank in range(WORLD)]
    rows = torch.empty(WORLD, 2)
    dist.all_to_all_single(rows, torch.stack([torch.full((2,), 10.0 * RANK + rank) for rank in range(WORLD)]))
    assert rows[:, 1].tolist() == [10.0 * rank + RANK for rank in range(WORLD)]
    mine = torch.full((WORLD * (RANK + 1),), float(RANK))  # RANK + 1 elements for everybody
    got = torch.empty(sum(range(1, WORLD + 1)))
    dist.all_to_all_single(got, mine, list(range(1, WORLD + 1)), [RANK + 1] * WORLD)
    assert got.tolist() == [float(rank) for rank in range(WORLD) for _ in range(rank + 1)]


def under_way():
    """Many calls at once, of several sizes, waited for in another order; the memory of views; other devices."""
    tensors = [torch.full((n,), float(RANK + i)) for i, n in enumerate([1, 5000, 200_000, 3, 70_000, 0] * 4)]
    works = [dist.all_reduce(t, async_op=True) for t in tensors]
    first = sum(range(WORLD))
    for i in reversed(range(len(works))):
        assert works[i].wait() and works[i].is_completed() and works[i].result() == [tensors[i]]
        assert (tensors[i] == first + WORLD * i).all()
    grid = torch.zeros(6, 4)
    grid[:, ::2] = RANK
    for view in (grid[:, ::2], grid.t()):
        dist.all_reduce(view)
    assert grid[:, 0].tolist() == [first * WORLD] * 6 and not grid[:, 1].any()
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    held = (y * y).sum()
    version = y._version
    with torch.no_grad():
        dist.all_reduce(y)
    assert y._version == version + 1
    try:
        held.backward()
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
    else:
        raise AssertionError("a write that the tape did not see")
    far = torch.full((3,), float(RANK), device="fake")
    dist.all_reduce(far)
    assert far.tolist() == [first] * 3 and far.device.type == "fake"


def messages():
    right, left = (RANK + 1) % WORLD, (RANK - 1) % WORLD
    got = torch.empty(50_000)
    mine = torch.full((50_000,), float(RANK))
    both = [dist.P2POp(dist.isend, mine, right, tag=3), dist.P2POp(dist.irecv, got, left, tag=3)]
    for work in dist.batch_isend_irecv(both):
        work.wait()
    assert (got == left).all()
    if RANK == 0:
        seen = set()
        for _ in range(WORLD - 1):
            one = torch.empty(1)
            sender = dist.recv(one)
            assert one.item() == sender
            seen.add(sender)
        assert seen == set(range(1, WORLD))
        work = dist.irecv(torch.empty(2), 1, tag=5)
        try:
            work.wait()
        except dist.DistBackendError as error:
            assert "sent 4 bytes" in str(error) and "holds 8" in str(error)
        else:
            raise AssertionError("a message of another size")
    else:
        dist.send(torch.tensor([float(RANK)]), 0)
        if RANK == 1:
            dist.send(torch.ones(1), 0, tag=5)
    dist.barrier()


def objects():
    found = [None] * WORLD
    dist.all_gather_object(found, {"rank": RANK, "pad": "x" * 1000 * RANK})
    assert [one["rank"] for one in found] == list(range(WORLD)) and len(found[1]["pad"]) == 1000
    here = [None] * WORLD if RANK == 1 else None
    dist.gather_object(("o", RANK), here, 1)
    assert here is None or here == [("o", rank) for rank in range(WORLD)]
    several = [1, "two", [3]] if RANK == 0 else [None] * 3
    dist.broadcast_object_list(several, 0)
    assert several == [1, "two", [3]]
    one = [None]
    dist.scatter_object_list(one, [f"for {rank}" for rank in range(WORLD)] if RANK == 0 else None, 0)
    assert one == [f"for {RANK}"]
    if RANK == 0:
        dist.send_object_list([1, {"a": 2}], 1)
    elif RANK == 1:
        got = [None, None]
        assert dist.recv_object_list(got, 0) == 0 and got == [1, {"a": 2}]


def groups():
    pairs = [dist.new_group([rank, rank + 1]) for rank in range(0, WORLD, 2)]
    mine = pairs[RANK // 2]
    assert [g == dist.GroupMember.NON_GROUP_MEMBER for g in pairs].count(False) == 1
    assert (dist.get_rank(mine), dist.get_world_size(mine)) == (RANK % 2, 2)
    base = RANK - RANK % 2
    assert dist.get_process_group_ranks(mine) == [base, base + 1]
    assert dist.get_global_rank(mine, 1) == base + 1 and dist.get_group_rank(mine, base + 1) == 1
    x = torch.full((4,), float(RANK))
    dist.all_reduce(x, group=mine)
    assert x.tolist() == [2 * base + 1] * 4
    dist.broadcast(x, base + 1, group=mine)
    dist.broadcast(x, group=mine, group_src=0)
    if WORLD > 2:
        try:
            dist.broadcast(x, (base + 2) % WORLD, group=mine)
        except ValueError as error:
            assert "is not part of group" in str(error)
        else:
            raise AssertionError("a root outside of the group")
        import warnings

        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            other = next(g for g in pairs if g == dist.GroupMember.NON_GROUP_MEMBER)
            assert dist.all_reduce(x, group=other) is None and dist.get_rank(other) == -1
        assert "does not belong to the given group" in str(seen[0].message)
    dist.destroy_process_group(mine)


def late():
    """A process that does not come is named when the time is over; the others' later calls are not disturbed."""
    dist.barrier()
    patient = dist.new_group(timeout=timedelta(seconds=0.3))
    if RANK == 1:
        return
    try:
        dist.monitored_barrier(patient)
    except dist.DistBackendError as error:
        assert "monitored_barrier: timed out after 0." in str(error) and "waiting for rank 1 of" in str(error), error
    else:
        raise AssertionError("rank 1 was not there")


def sizes_that_differ():
    """More comes than a tensor holds: an error there, and the program still ends in good order."""
    group = dist.new_group(timeout=timedelta(seconds=20))
    x = torch.ones(5 if RANK else 6)
    try:
        dist.all_reduce(x, group=group)
    except dist.DistBackendError as error:
        assert RANK and "all_reduce: " in str(error), error
    else:
        assert RANK == 0


if __name__ == "__main__":
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    RANK, WORLD = dist.get_rank(), dist.get_world_size()
    assert torch.get_num_threads() >= 1 and dist.get_backend() == "gloo"
    for name in DTYPES:
        for size in (3, 20_001) if name in ("float32", "bfloat16") else (3,):
            reductions(getattr(torch, name), size)
            moves(getattr(torch, name), size)
    x = torch.randn(10_007, generator=torch.Generator().manual_seed(RANK))
    dist.all_reduce(x)
    same_bits(x)
    y = torch.ones(4) * (RANK + 1)
    dist.all_reduce(y, dist._make_nccl_premul_sum(0.5))
    assert y.tolist() == [WORLD * (WORLD + 1) / 4] * 4
    for part in (splitting, under_way, messages, objects, groups, sizes_that_differ, late):
        part()
    dist.destroy_process_group()
    dist.init_process_group()  # again
    assert dist.get_backend() == "mpi"
    dist.barrier()
    dist.destroy_process_group()
    print(f"rank {RANK} of {WORLD} is done")
