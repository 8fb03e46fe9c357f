"""torch.compile and torch.compiler: accepted, and what is given is what runs.

There is no compiler here: `compile` gives the function or module back as it is, so that programs written for one run
unchanged. Options are checked for their names as PyTorch does, and choose nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .autograd.exporting import is_exporting as is_exporting


def compile(
    model: Any = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: Any = "inductor",
    mode: str | None = None,
    options: dict[str, Any] | None = None,
    disable: bool = False,
    **_: Any,
) -> Any:
    """The function or module itself; without one, a decorator that gives what it decorates.

    RuntimeError where both `mode` and `options` are given, as PyTorch.
    """
    if mode is not None and options is not None:
        raise RuntimeError("Either mode or options can be specified, but both can't be specified at the same time.")
    if model is None:
        return lambda f: compile(f, backend=backend)
    if not callable(model):
        raise RuntimeError(f"Model can't be None or what cannot be called, but got {type(model).__name__}")
    return model


def is_compiling() -> bool:
    """Whether the program is being compiled: no."""
    return False


is_dynamo_compiling = is_compiling


def disable(fn: Callable[..., Any] | None = None, recursive: bool = True, **_: Any) -> Any:
    """The function itself; without one, a decorator."""
    return fn if fn is not None else (lambda f: f)


def allow_in_graph(fn: Any) -> Any:
    """The function itself."""
    return fn


assume_constant_result = nested_compile_region = allow_in_graph


def reset() -> None:
    """Forgets what was compiled: nothing was."""


def cudagraph_mark_step_begin() -> None:
    """Marks a step for CUDA graphs: there are none."""


def list_backends(exclude_tags: Any = ("debug", "experimental")) -> list[str]:
    """The names of compilers: none."""
    return []


class set_stance:
    """A context manager and decorator that tells a compiler how to behave: accepted."""

    def __init__(self, stance: str = "default", **_: Any):
        self.stance = stance

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None
