"""Hooks of modules: functions called before and after a module's forward, and on the gradients that pass it.

`Module.__call__` comes here only when a hook table exists on the module or a global hook is registered. The order of
one call is PyTorch's: global before own, each in order of registration;

    forward pre-hooks -> [boundary on the inputs] -> forward -> forward hooks -> [boundary on the outputs]

The boundaries are there when somebody wants gradients: two identity functions in the graph, which see the gradients of
the module's outputs and of its inputs as they pass.
"""

from __future__ import annotations

import functools
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ...autograd.function import Function
from ...autograd.hooks import RemovableHandle
from ...autograd.modes import is_grad_enabled
from ...autograd.tensor import Tensor
from .registry import LazyHooks

__all__: list[str] = []

Hook = Callable[..., Any]


class GlobalHooks:
    """The hooks of all modules. `any` holds the number of each of them: empty means that nobody listens."""

    def __init__(self) -> None:
        self.forward_pre: OrderedDict[int, Hook] = OrderedDict()
        self.forward: OrderedDict[int, Hook] = OrderedDict()
        self.forward_with_kwargs: OrderedDict[int, bool] = OrderedDict()
        self.forward_always_called: OrderedDict[int, bool] = OrderedDict()
        self.backward_pre: OrderedDict[int, Hook] = OrderedDict()
        self.backward: OrderedDict[int, Hook] = OrderedDict()
        self.backward_is_full: bool | None = None
        self.any: OrderedDict[int, bool] = OrderedDict()
        self.parameter_registration: OrderedDict[int, Hook] = OrderedDict()
        self.buffer_registration: OrderedDict[int, Hook] = OrderedDict()
        self.module_registration: OrderedDict[int, Hook] = OrderedDict()


def add_hook(table: Any, hook: Hook, *flags: Any, prepend: bool = False) -> RemovableHandle:
    """Adds `hook` to `table`, and its number to each of `flags`; the handle's `remove` takes all of it back."""
    handle = RemovableHandle(table, extra_dict=list(flags))
    table[handle.id] = hook
    for flag in flags:
        flag[handle.id] = True
    if prepend:
        table.move_to_end(handle.id, last=False)
    return handle


GLOBAL = GlobalHooks()
MIXED_BACKWARD_HOOKS = (
    "Cannot use both regular backward hooks and full backward hooks {where}. Please use only one of them."
)


def register_module_forward_pre_hook(hook: Hook) -> RemovableHandle:
    """Calls `hook(module, args)` before every forward of every module; a returned value replaces the arguments."""
    return add_hook(GLOBAL.forward_pre, hook, GLOBAL.any)


def register_module_forward_hook(
    hook: Hook, *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """Calls `hook(module, args, output)` after every forward of every module; a returned value replaces the output."""
    flags = [GLOBAL.any]
    if with_kwargs:
        flags.append(GLOBAL.forward_with_kwargs)
    if always_call:
        flags.append(GLOBAL.forward_always_called)
    return add_hook(GLOBAL.forward, hook, *flags)


def register_module_full_backward_pre_hook(hook: Hook) -> RemovableHandle:
    """Calls `hook(module, grad_output)` when the gradients of any module's outputs are known."""
    return add_hook(GLOBAL.backward_pre, hook, GLOBAL.any)


def register_module_full_backward_hook(hook: Hook) -> RemovableHandle:
    """Calls `hook(module, grad_input, grad_output)` when the gradients of any module's inputs are known."""
    if GLOBAL.backward_is_full is False:
        raise RuntimeError(MIXED_BACKWARD_HOOKS.format(where="as a global Module hook"))
    GLOBAL.backward_is_full = True
    return add_hook(GLOBAL.backward, hook, GLOBAL.any)


def register_module_backward_hook(hook: Hook) -> RemovableHandle:
    """The form that PyTorch keeps for old programs: sees only the last node of a forward."""
    if GLOBAL.backward_is_full is True:
        raise RuntimeError(MIXED_BACKWARD_HOOKS.format(where="as a global Module hook"))
    GLOBAL.backward_is_full = False
    return add_hook(GLOBAL.backward, hook, GLOBAL.any)


def register_module_buffer_registration_hook(hook: Hook) -> RemovableHandle:
    """Calls `hook(module, name, buffer)` at each registration of a buffer; a returned value takes its place."""
    return add_hook(GLOBAL.buffer_registration, hook)


def register_module_module_registration_hook(hook: Hook) -> RemovableHandle:
    """Calls `hook(module, name, submodule)` at each registration of a child; a returned value takes its place."""
    return add_hook(GLOBAL.module_registration, hook)


def register_module_parameter_registration_hook(hook: Hook) -> RemovableHandle:
    """Calls `hook(module, name, param)` at each registration of a parameter; a returned value takes its place."""
    return add_hook(GLOBAL.parameter_registration, hook)


def registered(hooks: OrderedDict[int, Hook], module: Any, name: str, value: Any) -> Any:
    """What is to be registered under `name` after the global registration `hooks` had their say."""
    for hook in hooks.values():
        replacement = hook(module, name, value)
        if replacement is not None:
            value = replacement
    return value


class WrappedHook:
    """A hook which is handed its module, held weakly and re-tied by copying and pickling with the module."""

    def __init__(self, hook: Hook, module: Any = None):
        self.hook = hook
        functools.update_wrapper(self, hook)
        self.with_module = module is not None
        if module is not None:
            self.module = weakref.ref(module)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.with_module:
            return self.hook(*args, **kwargs)
        module = self.module()
        if module is None:
            raise RuntimeError("You are trying to call the hook of a dead Module!")
        return self.hook(module, *args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        state = {"hook": self.hook, "with_module": self.with_module}
        if self.with_module:
            state["module"] = self.module()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.hook = state["hook"]
        self.with_module = state["with_module"]
        if self.with_module:
            if state["module"] is None:
                raise RuntimeError("You are trying to revive the hook of a dead Module!")
            self.module = weakref.ref(state["module"])


class Hooked:
    """The part of Module that registers hooks and calls them."""

    _hooked: bool = False  # whether a table that takes part in a call exists; see LazyHooks
    _is_full_backward_hook: bool | None = None
    _forward_pre_hooks = LazyHooks(calls=True)
    _forward_hooks = LazyHooks(calls=True)
    _backward_pre_hooks = LazyHooks(calls=True)
    _backward_hooks = LazyHooks(calls=True)
    _forward_pre_hooks_with_kwargs = LazyHooks()
    _forward_hooks_with_kwargs = LazyHooks()
    _forward_hooks_always_called = LazyHooks()

    forward: Callable[..., Any]

    def register_forward_pre_hook(
        self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Calls `hook(module, args)` before forward; what it returns, a tuple or one value, replaces the arguments.

        With `with_kwargs=True` the hook is called as `hook(module, args, kwargs)` and returns None or
        `(args, kwargs)`. With `prepend=True` it runs before the hooks registered so far. The handle that is returned
        has `remove()`.
        """
        flags = [self._forward_pre_hooks_with_kwargs] if with_kwargs else []
        return add_hook(self._forward_pre_hooks, hook, *flags, prepend=prepend)

    def register_forward_hook(
        self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Calls `hook(module, args, output)` after forward; what it returns replaces the output.

        With `with_kwargs=True` the hook is called as `hook(module, args, kwargs, output)`; with `always_call=True` it
        is called even if forward, or a hook before it, raises.
        """
        flags = [self._forward_hooks_with_kwargs] if with_kwargs else []
        if always_call:
            flags.append(self._forward_hooks_always_called)
        return add_hook(self._forward_hooks, hook, *flags, prepend=prepend)

    def register_full_backward_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Calls `hook(module, grad_output)` when the gradients of the outputs are known.

        grad_output is a tuple with one entry per output; a tuple that the hook returns takes its place.
        """
        return add_hook(self._backward_pre_hooks, hook, prepend=prepend)

    def register_full_backward_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Calls `hook(module, grad_input, grad_output)` when the gradients of the inputs are known.

        grad_input has one entry per positional argument, None for those that are no tensors; a tuple that the hook
        returns takes its place in the rest of backward.
        """
        if self._is_full_backward_hook is False:
            raise RuntimeError(MIXED_BACKWARD_HOOKS.format(where="on a single Module"))
        self._is_full_backward_hook = True
        return add_hook(self._backward_hooks, hook, prepend=prepend)

    def register_backward_hook(self, hook: Hook) -> RemovableHandle:
        """The form that PyTorch keeps for old programs: the hook sees only the last node of forward.

        Use `register_full_backward_hook`.
        """
        if self._is_full_backward_hook is True:
            raise RuntimeError(MIXED_BACKWARD_HOOKS.format(where="on a single Module"))
        self._is_full_backward_hook = False
        return add_hook(self._backward_hooks, hook)

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        """Forward with all hooks, global and own."""
        members = self.__dict__
        if not (
            GLOBAL.any
            or members.get("_forward_hooks")
            or members.get("_forward_pre_hooks")
            or members.get("_backward_hooks")
            or members.get("_backward_pre_hooks")
        ):
            return self.forward(*args, **kwargs)
        call = _Call(self, args, kwargs)
        try:
            return call.run()
        except Exception:
            call.run_always_called()
            raise


_NO_HOOKS: Mapping[int, Any] = MappingProxyType({})


class _Call:
    """One call of a module that has hooks."""

    def __init__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.module = module
        self.args = args
        self.kwargs = kwargs
        self.result: Any = None
        self.always_called: set[int] = set()  # the hooks with always_call=True that have run

    def own(self, table: str) -> Mapping[int, Any]:
        """A hook table of the module, which is not made for being looked at."""
        return self.module.__dict__.get(table, _NO_HOOKS)

    def run(self) -> Any:
        module = self.module
        if GLOBAL.forward_pre or self.own("_forward_pre_hooks"):
            self._run_pre_hooks()
        backward = (
            GLOBAL.backward_pre or GLOBAL.backward or self.own("_backward_pre_hooks") or self.own("_backward_hooks")
        )
        boundary = _Boundary.of(module) if backward else None
        if boundary is not None:
            self.args = boundary.on_inputs(self.args)
        self.result = module.forward(*self.args, **self.kwargs)
        for number, hook in (*GLOBAL.forward.items(), *self.own("_forward_hooks").items()):
            self._run_hook(number, hook)
        if boundary is not None:
            if not isinstance(self.result, (Tensor, tuple)):
                warnings.warn(
                    "For backward hooks to be called, module output should be a Tensor or a tuple of Tensors "
                    f"but received {type(self.result)}",
                    stacklevel=4,
                )
            self.result = boundary.on_outputs(self.result)
        if backward:
            _set_last_node_hooks(module, self.args, self.result)
        return self.result

    def _run_pre_hooks(self) -> None:
        with_kwargs = self.own("_forward_pre_hooks_with_kwargs")
        for number, hook in (*GLOBAL.forward_pre.items(), *self.own("_forward_pre_hooks").items()):
            if number in with_kwargs:
                changed = hook(self.module, self.args, self.kwargs)
                if changed is None:
                    continue
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(
                        f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {changed}."
                    )
                self.args, self.kwargs = changed
            else:
                changed = hook(self.module, self.args)
                if changed is not None:
                    self.args = changed if isinstance(changed, tuple) else (changed,)

    def _run_hook(self, number: int, hook: Hook) -> None:
        if number in self.own("_forward_hooks_always_called") or number in GLOBAL.forward_always_called:
            self.always_called.add(number)
        if number in self.own("_forward_hooks_with_kwargs") or number in GLOBAL.forward_with_kwargs:
            changed = hook(self.module, self.args, self.kwargs, self.result)
        else:
            changed = hook(self.module, self.args, self.result)
        if changed is not None:
            self.result = changed

    def run_always_called(self) -> None:
        """After an error: the hooks with always_call=True that have not run; their own errors are only warnings."""
        for kind, hooks, wanted in (
            ("global module", GLOBAL.forward, GLOBAL.forward_always_called),
            ("module", self.own("_forward_hooks"), self.own("_forward_hooks_always_called")),
        ):
            for number, hook in hooks.items():
                if number not in wanted or number in self.always_called:
                    continue
                try:
                    self._run_hook(number, hook)
                except Exception as error:
                    warnings.warn(
                        f"{kind} forward hook with ``always_call=True`` raised an exception that was silenced "
                        f"as another error was raised in forward: {error}",
                        stacklevel=4,
                    )


class BackwardHookFunction(Function):
    """The identity on some tensors; backward goes on with what `gradients` makes of the tuple of their gradients."""

    @staticmethod
    def forward(ctx: Any, gradients: Callable[..., Any], materialize: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.gradients = gradients
        ctx.set_materialize_grads(materialize)
        ctx.mark_non_differentiable(*[tensor for tensor in tensors if not tensor.requires_grad])
        return tensors

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        return (None, None, *ctx.gradients(grads))


class _Boundary:
    """The two identity functions around one call of a module, and the backward hooks which they serve.

    The places of the tensors among the arguments (or outputs) are kept, so that hooks see one entry per argument.
    """

    def __init__(self, module: Any, hooks: list[Hook], pre_hooks: list[Hook]):
        self.module = module
        self.hooks = hooks
        self.pre_hooks = pre_hooks
        self.grad_outputs: tuple[Any, ...] | None = None
        self.inputs: list[int] | None = None
        self.outputs: list[int] = []
        self.n_inputs = 0
        self.n_outputs = 0

    @classmethod
    def of(cls, module: Any) -> _Boundary | None:
        """The boundary of a call of `module`, or None where nobody has a full backward hook."""
        pre_hooks = [*GLOBAL.backward_pre.values(), *module._backward_pre_hooks.values()]
        hooks = list(GLOBAL.backward.values()) if GLOBAL.backward_is_full else []
        if module._is_full_backward_hook:
            hooks += module._backward_hooks.values()
        return cls(module, hooks, pre_hooks) if hooks or pre_hooks else None

    @staticmethod
    def _watched(
        values: tuple[Any, ...], gradients: Callable[..., Any], materialize: bool
    ) -> tuple[tuple[Any, ...], list[int] | None]:
        """`values` whose tensors hand their gradients to `gradients`, and their places (None: no gradient can come).

        With `materialize` an absent gradient is shown as zeros, else as None.
        """
        places = [place for place, value in enumerate(values) if isinstance(value, Tensor)]
        if not (is_grad_enabled() and any(values[place].requires_grad for place in places)):
            return values, None
        passed = list(values)
        tensors = BackwardHookFunction.apply(gradients, materialize, *[values[place] for place in places])
        for place, tensor in zip(places, tensors, strict=True):
            passed[place] = tensor
        kind = type(values)
        return (tuple(passed) if kind is tuple else kind(*passed)), places  # kind: a named tuple

    def on_inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.n_inputs = len(args)
        args, self.inputs = self._watched(args, self.input_gradients, True)
        return args

    def on_outputs(self, result: Any) -> Any:
        outputs = result if isinstance(result, tuple) else (result,)
        self.n_outputs = len(outputs)
        outputs, places = self._watched(outputs, self.output_gradients, False)
        self.outputs = places or []
        return outputs if isinstance(result, tuple) else outputs[0]

    def output_gradients(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        """Called in backward when the gradients of the outputs are known; returns those to go on with."""
        grad_outputs = _spread(self.outputs, grads, self.n_outputs)
        for hook in self.pre_hooks:
            changed = hook(self.module, grad_outputs)
            if changed is None:
                continue
            if len(changed) != len(grad_outputs):
                raise RuntimeError(
                    "Backward pre hook returned an invalid number of grad_output, "
                    f"got {len(changed)}, but expected {len(grad_outputs)}"
                )
            grad_outputs = changed
        self.grad_outputs = grad_outputs
        if self.inputs is None:
            self._run_without_inputs()
        return tuple(grad_outputs[place] for place in self.outputs)

    def _run_without_inputs(self) -> None:
        """No input wants a gradient, so the input boundary will not be reached: the hooks run here."""
        if self.hooks:
            warnings.warn(
                "Full backward hook is firing when gradients are computed with respect to module outputs since no "
                "inputs require gradients. See https://docs.pytorch.org/docs/main/generated/torch.nn.Module.html#"
                "torch.nn.Module.register_full_backward_hook for more details.",
                stacklevel=6,
            )
        for hook in self.hooks:
            changed = hook(self.module, (None,) * self.n_inputs, self.grad_outputs)
            if changed is not None and not (isinstance(changed, tuple) and all(grad is None for grad in changed)):
                raise RuntimeError(
                    "Backward hook for Modules where no input requires gradient should always return None or None "
                    "for all gradients."
                )
        self.grad_outputs = None

    def input_gradients(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        """Called in backward when the gradients of the inputs are known; returns those to go on with."""
        if self.grad_outputs is None or self.inputs is None:
            return grads  # the outputs took no part in this backward
        grad_inputs = _spread(self.inputs, grads, self.n_inputs)
        for hook in self.hooks:
            changed = hook(self.module, grad_inputs, self.grad_outputs)
            if changed is None:
                continue
            if len(changed) != len(grad_inputs):
                raise RuntimeError(
                    "Backward hook returned an invalid number of grad_input, "
                    f"got {len(changed)}, but expected {len(grad_inputs)}"
                )
            grad_inputs = changed
        self.grad_outputs = None
        return tuple(grad_inputs[place] for place in self.inputs)


def _spread(places: list[int], values: tuple[Any, ...], size: int) -> tuple[Any, ...]:
    """A tuple of `size` entries with `values` at `places`, None elsewhere."""
    spread: list[Any] = [None] * size
    for place, value in zip(places, values, strict=True):
        spread[place] = value
    return tuple(spread)


def _set_last_node_hooks(module: Any, args: Any, result: Any) -> None:
    """Ties the hooks of `register_backward_hook` to the node of the first tensor in `result`."""
    hooks = list(GLOBAL.backward.values()) if GLOBAL.backward_is_full is False else []
    if module._is_full_backward_hook is False:
        hooks += module._backward_hooks.values()
    if not hooks:
        return
    first = result
    while not isinstance(first, Tensor):
        first = next(v for v in first.values() if isinstance(v, Tensor)) if isinstance(first, dict) else first[0]
    node = first.grad_fn
    if node is None:
        return
    for hook in hooks:
        node.register_hook(WrappedHook(hook, module))
    blind_spot = _blind_spot(args, result, node)
    if blind_spot:
        warnings.warn(
            f"Using {blind_spot} Please use register_full_backward_hook to get the documented behavior.",
            FutureWarning,
            stacklevel=5,
        )


def _blind_spot(args: Any, result: Any, node: Any) -> str:
    """What a hook on the last node cannot see of this call, in PyTorch's words; '' where it sees all."""
    removed = "is deprecated and will be removed in future versions. This hook will be missing some"
    results = (result,) if isinstance(result, Tensor) else result
    if not (isinstance(results, tuple) and all(isinstance(r, Tensor) for r in results)):
        return (
            "non-full backward hooks on a Module that does not return a single Tensor or a tuple of Tensors "
            f"{removed} of the grad_output."
        )
    if not all(isinstance(arg, Tensor) for arg in args):
        return (
            "non-full backward hooks on a Module that does not take as input a single Tensor or a tuple of Tensors "
            f"{removed} of the grad_input."
        )
    nodes = {r.grad_fn for r in results if r.grad_fn is not None}
    if len(nodes) > 1:
        return f"a non-full backward hook when outputs are generated by different autograd Nodes {removed} grad_output."
    if {arg.grad_fn for arg in args if arg.grad_fn is not None} != {parent for parent, _ in node.next_functions}:
        return f"a non-full backward hook when the forward contains multiple autograd Nodes {removed} grad_input."
    return ""
