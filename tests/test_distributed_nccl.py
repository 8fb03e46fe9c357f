"""torch.distributed over NCCL, on a stand-in for CuPy's binding of it; tests/gpu/test_gpu_nccl.py has the real one."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace

import nccl_stand_in as stand_in
import numpy as np
import pytest
import tapegrad
from nccl_stand_in import on_device
from tapegrad import distributed as dist
from tapegrad.distributed.nccl import ID_TAG, NCCLTransport
from tapegrad.distributed.progress import Engine
from tapegrad.distributed.single import Done

R = dist.ReduceOp


class Control:
    """What the transport asks of MPI's: to bring the id to the others, and who is alive."""

    def __init__(self, world, rank, size, timeout=20.0):
        self.world, self.rank, self.size, self.ranks = world, rank, size, tuple(range(size))
        self.timeout, self.calls, self.gone = timedelta(seconds=timeout), 0, None
        self.job = SimpleNamespace(engine=Engine(), trouble=lambda task, ranks, everybody: self.gone)

    def broadcast(self, x, root):
        self.calls += 1
        x[...] = self.world.meet(("control", self.calls), self.size, self.rank, x.copy())[root]
        return Done()

    def send(self, x, peer, tag):
        assert tag == ID_TAG
        self.world.meet(("id", self.rank, peer), 2, 0, x.copy())
        return Done()

    def receive(self, x, peer, tag):
        x[...] = self.world.meet(("id", peer, self.rank), 2, 1, None)[0]
        return Done()

    def all_reduce(self, x, op):
        return "over MPI"

    def barrier(self, what):
        return what

    def close(self):
        self.job.engine.close()


def on_ranks(size, program):
    """What program(transport) gives in each rank."""
    world = stand_in.World()

    def rank(number):
        transport = NCCLTransport(Control(world, number, size), stand_in.cupy(world))
        try:
            return program(transport)
        finally:
            transport.close()

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(rank, range(size)))


def each(n, rank, dtype="f4"):
    return on_device(np.arange(n) + 10 * rank + 1, dtype)


def op(kind, factor=None):
    return R(kind, factor)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i4", "i8", "u1", "i1", "c8"])
def test_values_of_collectives(dtype):
    def program(t):
        out, r = {}, t.rank
        x = each(4, r, dtype)
        t.all_reduce(x, op(R.SUM)).wait()
        out["sum"] = x.tolist()
        x = each(4, r, dtype)
        t.reduce(x, 1, op(R.SUM)).wait()
        out["reduce"] = x.tolist()
        x = each(4, r, dtype)
        t.broadcast(x, 2).wait()
        out["broadcast"] = x.tolist()
        whole = on_device(np.zeros(12), dtype)
        t.all_gather(each(4, r, dtype), whole).wait()
        out["gather"] = whole.tolist()
        part = on_device(np.zeros(2), dtype)
        t.reduce_scatter(each(6, r, dtype).reshape(3, 2), part, op(R.SUM)).wait()
        out["scatter"] = part.tolist()
        parts = [on_device(np.zeros(2), dtype) for _ in range(3)]
        t.exchange("all_to_all", {p: each(2, 3 * r + p, dtype) for p in range(3)}, dict(enumerate(parts))).wait()
        out["exchange"] = [p.tolist() for p in parts]
        return out

    rows = [each(4, r, dtype).tolist() for r in range(3)]
    total = np.sum([each(4, r, dtype) for r in range(3)], 0).astype(dtype).tolist()
    halves = np.sum([each(6, r, dtype) for r in range(3)], 0).astype(dtype).reshape(3, 2).tolist()
    for r, found in enumerate(on_ranks(3, program)):
        assert found["sum"] == total and found["reduce"] == (total if r == 1 else rows[r])
        assert found["broadcast"] == rows[2] and found["gather"] == sum(rows, []) and found["scatter"] == halves[r]
        assert found["exchange"] == [each(2, 3 * p + r, dtype).tolist() for p in range(3)]


def test_reductions_and_types():
    def program(t):
        out = []
        for kind in (R.PRODUCT, R.MAX, R.MIN, R.AVG):
            x = each(2, t.rank)
            t.all_reduce(x, op(kind)).wait()
            out.append(x.tolist())
        x = each(2, t.rank)
        t.all_reduce(x, op(R.PREMUL_SUM, 0.5 + t.rank)).wait()
        out.append(x.tolist())
        for kind in (R.SUM, R.PRODUCT):
            x = on_device([True, t.rank == 0, False])
            t.all_reduce(x, op(kind)).wait()
            out.append(x.tolist())
        return out, t.cupy.cuda.nccl.calls

    for found, calls in on_ranks(2, program):
        assert found[:4] == [[11, 24], [11, 12], [1, 2], [6, 7]]
        assert found[4] == [1 * 0.5 + 11 * 1.5, 2 * 0.5 + 12 * 1.5]
        assert found[5:] == [[True, True, False], [True, False, False]]
        assert calls[:2] == [("allReduce", 2, 7, 1), ("allReduce", 2, 7, 2)]
        assert calls[5:] == [("allReduce", 3, 1, 2), ("allReduce", 3, 1, 3)]  # booleans: uint8, max and min


def test_messages_of_pairs():
    def program(t):
        peer = 1 - t.rank
        got = on_device(np.zeros(3), "f4")
        tasks = t.batch([(True, each(3, t.rank), peer), (False, got, peer)])
        for task in tasks.values():
            task.wait()
        if t.rank == 0:
            t.send(each(2, 5), 1, 0).wait()
            return got.tolist(), None
        more = on_device(np.zeros(2), "f4")
        task = t.receive(more, 0, 0)
        task.wait()
        return got.tolist(), (more.tolist(), task.notes["source"])

    first, second = on_ranks(2, program)
    assert first == ([11, 12, 13], None) and second == ([1, 2, 3], ([51, 52], 0))


def test_streams():
    """The communicator's stream waits for the current one before a call, and `wait` makes the current one wait."""

    def program(t):
        current = t.cupy.cuda.get_current_stream()
        task = t.all_reduce(each(2, t.rank), op(R.SUM))
        _, stream = t.made[(0, 1)]
        assert stream.non_blocking and stream is not current
        assert stream.log == [("wait for", current), ("record",)] and current.log == [("record",)]
        task.wait()
        assert current.log == [("record",), ("wait for", stream)]
        assert t.barrier() == "barrier" and current.log[-1] == ("synchronize",)
        assert t.all_reduce(np.ones(2), op(R.SUM)) == "over MPI"  # CPU arrays
        communicator = t.made[(0, 1)][0]
        t.close()
        return communicator.state, stream.log[-1]

    assert on_ranks(2, program) == [("destroyed", ("synchronize",))] * 2


@pytest.mark.parametrize("why", ["death", "timeout", "error"])
def test_a_call_that_cannot_end_is_aborted(why):
    def program(t):
        t.all_reduce(each(2, t.rank), op(R.SUM)).wait()
        communicator, stream = t.made[(0, 1)]
        stream.flowing = False  # what is queued from now on does not end
        t.control.timeout = timedelta(seconds=0.2 if why == "timeout" else 60)
        task = t.all_reduce(each(2, t.rank), op(R.SUM))
        if why == "death":
            t.control.gone = "rank 1 of 2 is gone: killed"
        elif why == "error":
            communicator.error = "NCCL_ERROR_REMOTE_ERROR"
        end = time.monotonic() + 10
        while task.error is None and time.monotonic() < end:
            time.sleep(0.01)  # nobody waits for it: the engine's thread sees it
        texts = []
        for call in (task.wait, lambda: t.all_reduce(each(2, 0), op(R.SUM))):
            with pytest.raises(dist.DistBackendError) as caught:
                call()
            texts.append(str(caught.value))
        return communicator.state, *texts

    reason = {"death": "rank 1 of 2 is gone", "timeout": "timed out after 0.", "error": "NCCL_ERROR_REMOTE_ERROR"}[why]
    for state, first, later in on_ranks(2, program):
        assert state == "aborted" and first.startswith("all_reduce: ") and reason in first
        assert "the group's communicator was aborted" in later


def test_what_nccl_does_not_have():
    def program(t):
        for dtype, kind, error, text in (
            ("i2", R.SUM, TypeError, "Input tensor data type is not supported for NCCL process group: Short"),
            ("i4", R.BAND, ValueError, "Cannot use ReduceOp.BAND with NCCL"),
            ("c8", R.PRODUCT, ValueError, "PRODUCT of complex numbers"),
        ):
            with pytest.raises(error, match=text):
                t.all_reduce(each(2, 0, dtype), op(kind))
        with pytest.raises(ValueError, match="pass src="):
            t.receive(each(2, 0), None, 0)
        t.cupy.cuda.nccl.refuse = True
        with pytest.raises(dist.DistBackendError, match="NCCL error in: all_reduce: NCCL_ERROR_INVALID_ARGUMENT"):
            t.all_reduce(each(2, 0), op(R.SUM))
        return threading.get_ident() > 0

    assert on_ranks(1, program) == [True]


def test_without_a_gpu_the_reason_is_given():
    from tapegrad.distributed.nccl import load_cupy

    if tapegrad.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(dist.DistBackendError, match="needs CuPy and an NVIDIA GPU"):
        load_cupy()
    assert not dist.is_nccl_available() and not dist.is_backend_available("nccl")
