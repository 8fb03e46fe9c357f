"""torch.jit: decorators that give back what they decorate. Nothing is compiled; Python runs the code as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from typing import Final as Final


def script(obj: Any, *args: Any, **kwargs: Any) -> Any:
    """The function, module or class itself."""
    return obj


def trace(func: Any, example_inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
    """The function or module itself, after one call on the example inputs, so that a failing one is seen here."""
    if example_inputs is not None:
        func(*(example_inputs if isinstance(example_inputs, (tuple, list)) else (example_inputs,)))
    return func


def trace_module(mod: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
    """The module itself, after a call of each method that `inputs` names."""
    for name, values in inputs.items():
        getattr(mod, name)(*(values if isinstance(values, (tuple, list)) else (values,)))
    return mod


def ignore(drop: Any = False, **kwargs: Any) -> Any:
    """A decorator that gives back the function; also without parentheses."""
    return drop if callable(drop) else (lambda f: f)


def _same(fn: Any) -> Any:
    """The function or module itself."""
    return fn


export = unused = script_method = script_if_tracing = interface = _same


def freeze(mod: Any, *args: Any, **kwargs: Any) -> Any:
    """The module itself."""
    return mod


optimize_for_inference = freeze


def is_scripting() -> bool:
    """Whether the code runs as TorchScript: no."""
    return False


is_tracing = is_scripting


def annotate(the_type: Any, the_value: Any) -> Any:
    """The value itself."""
    return the_value


class fork:
    """A call that another thread could have made: made at once; `wait()` gives its result."""

    def __init__(self, func: Callable[..., Any], *args: Any, **kwargs: Any):
        self._value = func(*args, **kwargs)

    def wait(self) -> Any:
        """The result."""
        return self._value


def wait(future: fork) -> Any:
    """The result of a `fork`."""
    return future.wait()


@contextmanager
def optimized_execution(should_optimize: bool) -> Iterator[None]:
    """What PyTorch programs put around scripted code: nothing changes inside."""
    yield
