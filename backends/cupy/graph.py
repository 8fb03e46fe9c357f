"""What a backend needs to record CUDA graphs, for CuPy: streams, memory of the graphs' own, recording and launching.

`Graphs` is all that cuda/graphs.py, cuda/steps.py and cuda/capture.py know of the device, so that tests put another in
its place. It imports no CuPy: the module is the backend's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from . import bounds, launch
from .memory import OutOfMemoryError


def _allocator(cuda: Any, watch: Any) -> Callable[[int], Any]:
    """Memory of the device itself; no method of Pool, which would keep the pool alive in a circle through CuPy."""

    def more(size: int) -> Any:
        try:
            return cuda.MemoryPointer(cuda.Memory(size), 0)
        except cuda.runtime.CUDARuntimeError as error:
            if "MemoryAllocation" in str(error):
                raise OutOfMemoryError(watch.explained(size)) from error
            raise

    return more


class Pool:
    """Device memory from which the arrays of recorded work come, and nothing else does.

    A replay writes to the addresses that it was recorded with, so what was freed meanwhile must not be given to others:
    blocks stay here as long as a graph holds the pool. What CuPy does when memory runs out, giving unused blocks back
    and trying again, would take them from graphs too; therefore the allocation above answers with an error of ours.
    """

    def __init__(self, cupy: Any, watch: Any):
        self.cupy = cupy
        self.memory = cupy.cuda.MemoryPool(_allocator(cupy.cuda, watch))
        watch.of_graphs.add(self)

    def used(self) -> Any:
        """A context in which this thread's new arrays come from here."""
        return self.cupy.cuda.using_allocator(self.memory.malloc)

    def total_bytes(self) -> int:
        """What the pool holds of the device's memory."""
        return int(self.memory.total_bytes())


class Recorded:
    """A CUDA graph, ready to be launched.

    raw: CuPy's object, which has the addresses `graph` and `graphExec`. workspace: memory in which its matrix products
    work, None where it has none; no other work may get it.
    """

    def __init__(self, raw: Any, workspace: Any = None):
        self.raw, self.workspace = raw, workspace

    def launch(self) -> None:
        """Queues all recorded work on the current stream. Wrong indices in it are reported as those of other work."""
        self.raw.launch()
        bounds.expect()

    def text(self) -> str:
        """The graph in the language DOT."""
        return self.raw.debug_dot_str()

    def addresses(self) -> tuple[int, int]:
        """(cudaGraph_t, cudaGraphExec_t)."""
        return int(self.raw.graph), int(self.raw.graphExec)


class Graphs:
    """Recording on the devices of the CuPy backend."""

    device_type = "cuda"

    def __init__(self, backend: Any):
        self.backend, self.cupy, self.cuda = backend, backend.cupy, backend.cupy.cuda
        self._uploads: dict[int, Any] = {}

    def pool(self) -> Pool:
        """Memory for the arrays of one graph, or of several that never run at once."""
        return Pool(self.cupy, self.backend.memory)

    def stream(self) -> Any:
        """A stream to record on: CUDA refuses the one that all work is on at first."""
        return self.cuda.Stream(non_blocking=True)

    def current(self) -> Any:
        """The stream of new work."""
        return self.cuda.get_current_stream()

    @contextmanager
    def inside(self, stream: Any, pool: Any = None) -> Iterator[None]:
        """New work goes to the stream, behind what was queued before; what comes after waits for it."""
        outer = self.current()
        stream.wait_event(outer.record())
        with stream:
            if pool is None:
                yield
            else:
                with pool.used():
                    yield
        outer.wait_event(stream.record())

    def capturing(self) -> bool:
        """Whether the current stream records."""
        return bool(self.current().is_capturing())

    def begin(self) -> None:
        """Records the current stream's work from now on, instead of doing it. RuntimeError on the default stream.

        Always in the mode "relaxed", in which CUDA lets the pool ask for memory meanwhile.
        """
        stream = self.current()
        if stream.ptr in (0, 1, 2):  # the legacy stream by its two numbers, and that of each thread
            raise RuntimeError(
                "CUDA graphs must be captured on a non-default stream. (However, after capture, it's ok to replay them "
                "on the default stream.)"
            )
        bounds.flag()  # made now: as part of the graph it would hold anything before the first replay
        stream.begin_capture()

    def end(self) -> Recorded:
        """Stops recording. CuPy's error where something in between made the recording invalid."""
        stream = self.current()
        raw = stream.end_capture()
        return Recorded(raw, launch.current().release_workspace(stream.ptr))

    def constant(self, host: Any) -> Any:
        """A NumPy array on the device now, though the current stream records: copied on a stream beside it."""
        device = int(self.cuda.runtime.getDevice())
        beside = self._uploads.get(device)
        if beside is None:
            beside = self._uploads[device] = self.stream()
        with beside:
            made = self.cupy.array(host)
        beside.synchronize()
        return made

    def write(self, array: Any, source: Any) -> None:
        """Copies a NumPy array, or one of the device, of the same shape and dtype into an array of the device."""
        if isinstance(source, self.backend.array_type):
            self.cupy.copyto(array, source)
        else:
            array.set(source)

    def synchronize(self) -> None:
        """Waits for the device."""
        self.cuda.Device().synchronize()

    def free_unused(self) -> None:
        """Gives the device what the common pool holds unused."""
        self.backend.memory.empty_cache()
