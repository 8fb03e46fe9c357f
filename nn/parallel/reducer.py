"""The reduction of gradients while the backward pass still runs.

After Li et al., PyTorch Distributed: Experiences on Accelerating Data Parallel Training, VLDB 2020. A hook on each
parameter fires when its gradient is accumulated, copies it into the flat buffer of its bucket, and starts the buffer's
all-reduce once all of the bucket's gradients are there. Buckets are started in the order of their numbers on every
process, whatever the order in which they fill, so that the calls match. The backward pass waits for them at its end.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from ... import distributed as dist
from ...autograd.api.creation import tensor
from ...autograd.dtypes import int32, int64
from ...autograd.engine import collect, edge_of
from ...autograd.hooks import RemovableHandle, register_post_accumulate_grad_hook
from ...autograd.modes import mode, no_grad
from ...autograd.tensor import Tensor
from ...distributed.grad_bucket import GradBucket
from . import messages
from .buckets import Bucket, assign, nbytes

Hook = Callable[[Any, GradBucket], Any]


def _at_end(function: Callable[[], None]) -> None:
    """Calls it when the backward pass under way ends, after those that run within it."""
    mode.walk.outermost().at_end.append(function)


def _remove_all(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


class Reducer:
    """Averages the gradients of `parameters` over a process group.

    Args:
        parameters: leaves that require a gradient, in the same order on all processes.
        names: what errors call them.
        group: the process group.
        first_limits, limits: the sizes of buckets in bytes (see `buckets.assign`), for the first iteration, where they
            are filled in the opposite order of the model's, and after it, in the order in which gradients arrived.
        find_unused: whether parameters may be without a gradient; `static`: whether those are always the same.
        as_view: whether `.grad` becomes a view of the bucket.
        skip_unused: whether buckets of which nothing is used are not reduced.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        names: Sequence[str],
        group: Any,
        first_limits: Sequence[int | None],
        limits: Sequence[int | None],
        find_unused: bool = False,
        static: bool = False,
        as_view: bool = False,
        skip_unused: bool = False,
    ):
        self.parameters, self.names, self.group = list(parameters), list(names), group
        self.limits, self.static, self.as_view, self.skip_unused = list(limits), static, as_view, skip_unused
        self.find_unused = find_unused and not static
        self.divisor = self.world = dist.get_world_size(group)
        self.hook: Hook | None = None
        self.hook_state: Any = None
        self.rebuilt = False
        self.order: list[int] = []  # of arrival, until the buckets are rebuilt
        self.expecting = self.unfinished = False
        self.local_used = [0] * len(self.parameters)
        self.used_by_all: list[int] | None = None  # of a static graph, known after the first iteration
        self.fires: list[int] | None = None  # of a static graph: how often each hook fires
        self.iterations = 0
        self.times = (0.0, 0.0, 0.0)  # of the last backward: the first reduction begun, the wait begun and ended
        backwards = assign(self.parameters, range(len(self.parameters)), first_limits)[::-1]
        self._set_buckets(backwards)
        self._reset()
        handles = [self._watch(i, p) for i, p in enumerate(self.parameters)]
        self.detach = weakref.finalize(self, _remove_all, handles)

    def _watch(self, place: int, p: Tensor) -> RemovableHandle:
        """The hook of a parameter; it does not keep the reducer alive."""
        own = weakref.ref(self)

        def arrived(_: Tensor) -> None:
            reducer = own()
            if reducer is not None:
                reducer._arrived(place)

        return register_post_accumulate_grad_hook(p, arrived)

    # ---- buckets

    def _set_buckets(self, groups: list[list[int]]) -> None:
        self.buckets = [Bucket(self.parameters, places) for places in groups]
        self.home = {place: (bucket, k) for bucket in self.buckets for k, place in enumerate(bucket.places)}

    def rebuild_buckets(self) -> bool:
        """After the first iteration: buckets in the order in which rank 0's gradients arrived. Whether it did so."""
        self.check_finished()
        if self.rebuilt or self.find_unused or len(self.order) != len(self.parameters):
            return False
        order = tensor(self.order, dtype=int64, device=self.parameters[0].device)
        dist.broadcast(order, dist.get_global_rank(self.group, 0), group=self.group)
        before = self.home
        self._set_buckets(assign(self.parameters, order.tolist(), self.limits))
        for i, p in enumerate(self.parameters):
            (old, j), (new, k) = before[i], self.home[i]
            if p.grad is not None and p.grad is old.views[j]:
                with no_grad():
                    p.grad = new.views[k].copy_(p.grad)
        self.rebuilt = True
        return True

    # ---- one iteration

    def _reset(self) -> None:
        self.ready = [False] * len(self.parameters)
        self.left = list(self.fires) if self.fires is not None else []
        self.unused: list[int] = []
        self.next = 0
        self.used_map: Tensor | None = None
        self.used_work: Any = None
        for bucket in self.buckets:
            bucket.pending, bucket.future = len(bucket.places), None

    def check_finished(self) -> None:
        """RuntimeError where the last backward pass did not give all parameters a gradient."""
        if self.unfinished:
            missing = [i for i, done in enumerate(self.ready) if not done]
            raise RuntimeError(
                messages.unfinished(self.static, self.find_unused, dist.get_rank(self.group), missing, self.names)
            )

    def prepare(self, outputs: Sequence[Tensor]) -> None:
        """Before a backward pass that is to be reduced. outputs: where it may begin, read with `find_unused`."""
        self.check_finished()
        self._reset()
        self.expecting = True
        self.iterations += 1
        if self.find_unused:
            reached = {id(leaf) for leaf in collect([edge_of(t) for t in outputs if t.requires_grad])[2]}
            self.unused = [i for i, p in enumerate(self.parameters) if id(p) not in reached]
        elif self.fires is not None:
            self.unused = [i for i, count in enumerate(self.fires) if not count]

    def _arrived(self, place: int) -> None:
        """A gradient was accumulated."""
        self.local_used[place] = 1
        if not self.expecting:
            return
        if not self.unfinished:
            self._begin()
        if self.static and self.fires is None:
            self.order.append(place)
            return
        if self.left:
            self.left[place] -= 1
            if self.left[place] < 0:
                raise RuntimeError(messages.GRAPH_CHANGED)
            if self.left[place]:
                return
        if not self.rebuilt:
            self.order.append(place)
        if self.ready[place]:
            raise RuntimeError(messages.ready_twice(place, self.names[place], self.find_unused))
        self._mark(place)

    def _begin(self) -> None:
        """The first gradient of this backward pass."""
        self.unfinished = True
        self.times = (0.0, 0.0, 0.0)
        if self.static and self.fires is None:
            _at_end(self._first_of_static_graph)
        elif self.find_unused:
            _at_end(self._mark_rest)
        for place in self.unused:
            self._mark(place)

    def _first_of_static_graph(self) -> None:
        """At the end of the first backward pass of a static graph: what was used, and how often; all is reduced now."""
        self.fires = [0] * len(self.parameters)
        for place in self.order:
            self.fires[place] += 1
        used = list(dict.fromkeys(self.order))
        self.order = [i for i, count in enumerate(self.fires) if not count] + used
        self._mark_rest()

    def _mark_rest(self) -> None:
        """At the end: what has no gradient now gets none (outputs that the loss does not use)."""
        for place, done in enumerate(self.ready):
            if not done:
                self._mark(place)

    @no_grad()
    def _mark(self, place: int) -> None:
        """A parameter's gradient, or its absence, is final: into its bucket, which is reduced when it is full."""
        bucket, k = self.home[place]
        self.ready[place] = True
        view, grad = bucket.views[k], self.parameters[place].grad
        if grad is None:
            view.zero_()
        elif grad.is_sparse:
            raise RuntimeError(messages.sparse(self.names[place]))
        elif grad is not view:
            view.copy_(grad)
            if self.as_view:
                self.parameters[place].grad = view
        bucket.pending -= 1
        if bucket.pending == 0:
            self._start()
        elif self.next:
            under_way = self.buckets[self.next - 1].future
            if under_way is not None and hasattr(under_way, "is_completed"):
                under_way.is_completed()  # lets a transport without a thread of its own make progress

    def _start(self) -> None:
        """Starts the reduction of full buckets, in the order of their numbers."""
        while self.next < len(self.buckets) and self.buckets[self.next].pending == 0:
            bucket = self.buckets[self.next]
            self.next += 1
            bucket.began = time.perf_counter()
            if self.next == 1:
                self.times = (bucket.began, 0.0, 0.0)
            if not (self.skip_unused and all(i in self.unused for i in bucket.places)):
                bucket.future = self.run_hook(self.next - 1, bucket, bucket.buffer)
        if self.next == len(self.buckets):
            self._send_used()
            _at_end(self._finish)

    def run_hook(self, index: int, bucket: Bucket, buffer: Tensor) -> Any:
        """Starts the reduction of a bucket's buffer; what is to be waited for."""
        if self.hook is None:
            if self.divisor != 1:
                buffer.div_(self.divisor)
            return dist.all_reduce(buffer, group=self.group, async_op=True)
        future = self.hook(self.hook_state, GradBucket(index, bucket, index == len(self.buckets) - 1, buffer))
        if not hasattr(future, "wait"):
            raise RuntimeError(
                f"Communication hook: expected the hook to return a torch.futures.Future of the reduced buffer, but "
                f"got {type(future).__name__}"
            )
        return future

    @no_grad()
    def _finish(self) -> None:
        """At the end of the backward pass: waits for the reductions and hands the averages out."""
        waiting = time.perf_counter()
        used = self.used_by_all
        if self.used_map is not None:
            self.used_work.wait()
            used = self.used_map.tolist()
            if self.static:
                self.used_by_all = used
        for bucket in self.buckets:
            if bucket.future is None:
                continue
            result = bucket.future.wait()
            if self.hook is not None and result is not bucket.buffer:
                bucket.buffer.copy_(_single(result).reshape(bucket.buffer.shape))
            bucket.future = None
            for place, p, view in zip(bucket.places, bucket.parameters, bucket.views, strict=True):
                if used is None or used[place]:
                    self._hand_out(p, view)
        self.expecting = self.unfinished = False
        self.local_used = [0] * len(self.parameters)
        self.times = (self.times[0], waiting, time.perf_counter())

    def _hand_out(self, p: Tensor, view: Tensor) -> None:
        if p.grad is view:
            return
        if self.as_view:
            p.grad = view
        elif p.grad is None:
            p.grad = view.clone()
        else:
            p.grad.copy_(view)

    def join_iteration(self) -> None:
        """The reductions of one backward pass with zeros, by a process that has no data left."""
        self._reset()
        if not self.rebuilt and not self.find_unused:
            self.order = list(range(len(self.parameters)))
        self.local_used = [0] * len(self.parameters)
        with no_grad():
            for i, bucket in enumerate(self.buckets):
                bucket.future = self.run_hook(i, bucket, bucket.buffer.zero_())
        self._send_used()
        self._finish()

    def _send_used(self) -> None:
        """Starts the count of the processes that used each parameter, where it is not known."""
        if self.find_unused or (self.static and self.used_by_all is None):
            self.used_map = tensor(self.local_used, dtype=int32, device=self.parameters[0].device)
            self.used_work = dist.all_reduce(self.used_map, group=self.group, async_op=True)

    def report(self) -> dict[str, Any]:
        """Figures of the buckets and of the last backward pass; times in nanoseconds, as PyTorch's logging data."""
        began, waiting, ended = self.times
        done = ended > 0
        return {
            "world_size": self.world,
            "rank": dist.get_rank(self.group),
            "iteration": self.iterations,
            "num_parameter_tensors": len(self.parameters),
            "total_parameter_size_bytes": sum(nbytes(p) for p in self.parameters),
            "num_buckets_reduced": len(self.buckets),
            "bucket_sizes": ", ".join(str(nbytes(b.buffer)) for b in self.buckets),
            "has_rebuilt_buckets": self.rebuilt,
            "unused_parameter_size": sum(nbytes(self.parameters[i]) for i in self.unused),
            "backward_comm_time": int(1e9 * (ended - began)) if done else 0,
            "backward_compute_comm_overlap_time": int(1e9 * (waiting - began)) if done else 0,
        }


def _single(result: Any) -> Tensor:
    """The tensor that a communication hook's future gave. TypeError for something else."""
    if isinstance(result, (list, tuple)) and len(result) == 1:
        result = result[0]
    if not isinstance(result, Tensor):
        raise TypeError(f"Communication hook: the future must give a Tensor, but gave {type(result).__name__}")
    return result
