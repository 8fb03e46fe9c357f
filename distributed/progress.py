"""The engine behind calls under way: tasks are programs that yield the requests they wait for.

A task is a generator. It posts sends and receives, yields [(peer, request), ...], is resumed when all of them are done,
and ends when the call is. So a collective of two rounds reads as a program, and any number of them are under way at
once: tasks advance whenever somebody waits, and in a thread that looks after them while the program computes.

Nothing here waits inside the transport: requests are asked by `Test()`. A wait spins for 0.2 ms (a small all_reduce
takes some microseconds where each process has a core), giving its core up in between, then sleeps, up to 0.2 ms at a
time and after 0.1 s up to 1 ms, so that more processes than cores get on. Every turn looks at the deadline and at who
has died.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

from .types import DistBackendError

Requests = list[tuple[int, Any]]  # (rank in the group, request with Test())
Steps = Generator[Requests, None, None]

ANYONE = -1  # the peer of a receive that takes what comes first
SPIN = 2e-4  # seconds of asking again at once, before the first sleep
SHORT, MIDDLE, LONG = 5e-5, 2e-4, 1e-3  # the first sleep; the longest one at first, and after PATIENCE; in seconds
PATIENCE = 0.1
NEWS = 1.0  # seconds for which an error of the transport waits for the news of a death that explains it
_yield_core = getattr(os, "sched_yield", lambda: time.sleep(0))


class Pause:
    """What a waiting thread does between two questions: at first nearly nothing, then longer and longer sleeps."""

    def __init__(self) -> None:
        self.begun, self.length = time.perf_counter(), SHORT

    def __call__(self) -> None:
        waited = time.perf_counter() - self.begun
        if waited < SPIN:
            _yield_core()
            return
        time.sleep(self.length)
        self.length = min(MIDDLE if waited < PATIENCE else LONG, 1.5 * self.length)


def _over(request: Any) -> bool:
    """Whether a request of a failed call is done; one that ends with an error is."""
    try:
        return bool(request.Test())
    except Exception:  # of MPI: the call has failed already
        return True


class Task:
    """One call under way.

    Attributes:
        what: the call's name, for errors.
        pending: the requests it waits for, with the peers.
        error: what it failed with.
        notes: what the program found out, as the source of a message.
    """

    def __init__(self, engine: Engine, what: str, steps: Steps, timeout: float, trouble: Callable[[Task], str | None]):
        self.engine, self.what, self.steps, self.timeout, self.trouble = engine, what, steps, timeout, trouble
        self.pending: Requests = []
        self.done = self.watched = False
        self.error: BaseException | None = None
        self.notes: dict[str, int] = {}
        self.begun = time.monotonic()
        engine.start(self)

    def advance(self) -> None:
        """Asks the requests, and runs the program on for as long as all it waits for is there."""
        try:
            while True:
                self.pending = [(peer, request) for peer, request in self.pending if not request.Test()]
                if self.pending:
                    return
                self.pending = next(self.steps)
        except StopIteration:
            self.done = True
        except Exception as error:  # kept, raised where it is waited for
            self.fail(error, self._known_by(time.monotonic() + NEWS))

    def _known_by(self, end: float) -> str | None:
        """Why the transport failed, if it is for a death: the news of that may come a moment after the error."""
        while (reason := self.trouble(self)) is None and time.monotonic() < end:
            time.sleep(SHORT)
        return reason

    def fail(self, error: BaseException, reason: str | None = None) -> None:
        """Ends it with an error; `reason` is one known better than the error's.

        What its open requests may still write into is kept for as long as they are.
        """
        if not isinstance(error, DistBackendError):
            made = DistBackendError(f"{self.what}: {reason or error}")
            made.__cause__ = error
            error = made
        self.error, self.done = error, True
        if self.pending:
            self.engine.abandoned.append(self)

    def check(self, limit: float) -> None:
        """Fails it where a peer is gone, or `limit` (seconds since it began) is over."""
        reason = self.trouble(self)
        waited = time.monotonic() - self.begun
        if reason is None and waited > limit:
            peers = ", ".join(map(str, sorted({peer for peer, _ in self.pending})))
            reason = (
                f"timed out after {waited:.1f} s, waiting for rank {peers} of the group. Did every process make "
                "this call, in the same order? (timeout= of init_process_group sets the limit)"
            )
        if reason is not None:
            self.fail(DistBackendError(f"{self.what}: {reason}"))

    def poll(self) -> bool:
        """Whether it is done or failed."""
        if not self.done:
            self.engine.poll()
        if not self.done:
            with self.engine.lock:
                if not self.done:
                    self.check(self.timeout)
        return self.done

    def look_after(self, watched: bool = False) -> None:
        """Lets it go on while the program computes. watched: that thread asks for the deadline and for deaths too."""
        self.watched = watched
        if not self.done:
            self.engine.look_after()

    def wait(self, timeout: float | None = None) -> None:
        """Returns when it is done; raises what it failed with. timeout: seconds from now; None: the group's."""
        limit = self.timeout if timeout is None else time.monotonic() - self.begun + timeout
        if not self.done:
            pause = Pause()
            while True:
                self.engine.poll()
                if self.done:
                    break
                with self.engine.lock:
                    if not self.done:
                        self.check(limit)
                if self.done:
                    break
                pause()
        if self.error is not None:
            raise self.error


class Engine:
    """All calls under way of this process, and the thread that looks after them."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.tasks: list[Task] = []
        self.abandoned: list[Task] = []  # failed ones with open requests: their memory must stay
        self.work = threading.Event()
        self.thread: threading.Thread | None = None
        self.closed = False

    def start(self, task: Task) -> None:
        """Begins a task: what can be done at once is done in the caller's thread."""
        with self.lock:
            task.advance()
            if not task.done:
                self.tasks.append(task)

    def poll(self) -> None:
        """Advances every task."""
        with self.lock:
            for task in self.tasks:
                if not task.done:
                    task.advance()
            self.tasks = [task for task in self.tasks if not task.done]

    def look_after(self) -> None:
        """From now on a thread advances tasks until there are none: for calls that nobody waits for yet."""
        if self.thread is None:
            self.thread = threading.Thread(target=self._run, name="tapegrad-distributed", daemon=True)
            self.thread.start()
        self.work.set()

    def _run(self) -> None:
        while not self.closed:
            self.work.wait()
            self.work.clear()
            pause = Pause()
            pause.begun -= SPIN  # no spinning: the program computes
            while self.tasks and not self.closed:
                self.poll()
                for task in [task for task in self.tasks if task.watched]:
                    task.poll()
                pause()

    def take_back(self) -> bool:
        """Cancels what failed calls left open; whether nothing is open any more, within a second."""
        open_still = [request for task in self.abandoned for _, request in task.pending if not _over(request)]
        for request in open_still:
            request.Cancel()
        for _ in range(1000):
            open_still = [request for request in open_still if not _over(request)]
            if not open_still:
                return True
            time.sleep(NEWS / 1000)
        return False

    def close(self) -> None:
        """Ends the thread."""
        self.closed = True
        self.work.set()
        if self.thread is not None:
            self.thread.join()
