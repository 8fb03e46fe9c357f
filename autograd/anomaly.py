"""Anomaly mode: which forward line made the node whose gradient failed or became NaN."""

from __future__ import annotations

import sys
import traceback
import warnings
from typing import Any

from .graph import OWNED, Node
from .hooks import WrappedOp
from .modes import mode, recording
from .op import GRAPH
from .versions import inside_library


class TracedOp(WrappedOp):
    """An op which remembers the stack of the call that recorded it, and looks at the gradients it gives."""

    def __init__(self, op: Any, stack: Any, check_nan: bool):
        super().__init__(op)
        self.stack = stack
        self.check_nan = check_nan

    def vjp(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        self._run(self.op.vjp, node, g, F, grads)

    def vjp_graph(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        self._run(self.op.vjp_graph, node, g, F, grads)

    def forward_trace(self) -> str:
        """The forward call's traceback as text."""
        return "".join(traceback.format_list(self.stack))

    def recorded_at(self) -> tuple[str, int]:
        """File and line of the forward call."""
        return self.stack[-1].filename, self.stack[-1].lineno

    def _run(self, vjp: Any, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        own: dict[Any, Any] = {edge: None for edge in node.edges if edge in grads}
        own[OWNED] = set()
        try:
            vjp(node, g, F, own)
        except Exception as error:
            error.add_note(f"the forward call that made {node.name()}:\n{self.forward_trace()}")
            raise
        self.check(node, g, own, F)
        for edge in {id(e): e for e in node.edges if e is not None}.values():
            r = own.get(edge)
            if edge in grads and r is not None:
                _add(grads, edge, r, F)

    def check(self, node: Node, g: Any, own: dict[Any, Any], F: Any) -> None:
        """Looks at the gradients `own` that the node gave for `g`; RuntimeError for a NaN."""
        for i, edge in enumerate(node.edges) if self.check_nan else ():
            r = own.get(edge)
            if r is not None and not isinstance(r, list) and _has_nan(r, F):
                warnings.warn(
                    f"Error detected in {node.name()}. Traceback of forward call that caused the error:\n"
                    f"{self.forward_trace()}",
                    UserWarning,
                    stacklevel=2,
                )
                line = self.stack[-1]
                raise RuntimeError(
                    f"Function '{node.name()}' returned nan values in its {i}th output. "
                    f'(recorded by "{line.filename}", line {line.lineno}: {line.line})'
                )


def _add(grads: dict[Any, Any], edge: Any, r: Any, F: Any) -> None:
    held = grads[edge]
    if isinstance(r, list):  # the gradients of a node with several outputs
        held = [None] * len(r) if held is None else held
        grads[edge] = [h if v is None else v for h, v in zip(held, r, strict=True)]
    elif held is None:
        grads[edge] = r
    else:
        grads[edge] = GRAPH.add(held, r) if F is GRAPH else held + r


def _has_nan(r: Any, F: Any) -> bool:
    array = r.array if F is GRAPH else r
    return array.dtype.kind in "fcV" and bool((array != array).any())


def user_stack() -> Any:
    """The present stack without the library's own frames at its end."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and inside_library(frame):
        frame = frame.f_back
    return traceback.extract_stack(frame)


class set_detect_anomaly(recording):
    """Switches anomaly mode on or off at once; as a context manager, for its block.

    Args:
        mode: on or off.
        check_nan: raise RuntimeError when a gradient becomes NaN.
    """

    def __init__(self, mode: bool, check_nan: bool = True):
        super().__init__(self)
        self.check_nan = check_nan
        self._outer = _state()
        _switch(self if mode else None)

    def recorded(self, node: Node, tensors: tuple[Any, ...]) -> None:
        """Notes where the new node comes from."""
        node.op = TracedOp(node.op, user_stack(), self.check_nan)
        if self.below is not None:
            self.below.recorded(node, tensors)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        mode.grad, mode.recorder = self._outer if mode.grad is not False else (False, self._outer[1])

    below: Any = None


def _state() -> tuple[Any, Any]:
    return mode.grad, mode.recorder


def _switch(recorder: Any) -> None:
    before = mode.recorder
    if recorder is None:
        while isinstance(before, set_detect_anomaly):
            before = before.below or True
        mode.recorder = before
    else:
        recorder.below = None if before is True else before
        mode.recorder = recorder
    if mode.grad is not False:
        mode.grad = mode.recorder


class detect_anomaly(set_detect_anomaly):
    """Anomaly mode for a block: a failing or NaN gradient is told with the forward line that caused it."""

    def __init__(self, check_nan: bool = True):
        warnings.warn(
            "Anomaly Detection has been enabled. This mode will increase the runtime and should only be enabled for "
            "debugging.",
            stacklevel=2,
        )
        self._check = check_nan
        recording.__init__(self, self)
        self.check_nan = check_nan

    def __enter__(self) -> None:
        self._outer = _state()
        _switch(self)


def is_anomaly_enabled() -> bool:
    """Whether anomaly mode is on in this thread."""
    recorder: Any = mode.recorder
    while recorder is not True and recorder is not None:
        if isinstance(recorder, set_detect_anomaly):
            return True
        recorder = recorder.below
    return False


def is_anomaly_check_nan_enabled() -> bool:
    """Whether anomaly mode is on and looks for NaN."""
    return is_anomaly_enabled() and mode.recorder.check_nan
