"""The contract that every optimizer keeps: parameter groups, hooks, `state_dict`, and how `step` is wrapped.

It follows torch.optim.optimizer of PyTorch 2.13. The update itself is in the subclasses: those whose formula is applied
to one parameter at a time derive from `elementwise.FormulaOptimizer`.
"""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import chain
from typing import Any

from ..autograd.dtypes import float32, float64, get_default_dtype
from ..autograd.hooks import RemovableHandle
from ..autograd.modes import set_grad_enabled
from ..autograd.tensor import Tensor, wrap
from ..backends.registry import backend_of_device

__all__ = ["Optimizer", "register_optimizer_step_pre_hook", "register_optimizer_step_post_hook"]

Group = dict[str, Any]
State = dict[str, Any]
ParamsT = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]  # what optimizers are made of

_global_optimizer_pre_hooks: OrderedDict[int, Callable[..., Any]] = OrderedDict()
_global_optimizer_post_hooks: OrderedDict[int, Callable[..., Any]] = OrderedDict()

HOOK_TABLES = (
    "_optimizer_step_pre_hooks",
    "_optimizer_step_post_hooks",
    "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)


class _RequiredParameter:
    """The default of an option which every group must give itself."""

    def __repr__(self) -> str:
        return "<required parameter>"


required = _RequiredParameter()


def _use_grad_for_differentiable(func: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates `step` of an optimizer outside this package: gradients are recorded in it if the option says so."""

    @functools.wraps(func)
    def step(*args: Any, **kwargs: Any) -> Any:
        with set_grad_enabled(args[0].defaults["differentiable"]):
            return func(*args, **kwargs)

    return step


def _add_hook(table: OrderedDict[int, Callable[..., Any]], hook: Any, prepend: bool = False) -> RemovableHandle:
    handle = RemovableHandle(table)
    table[handle.id] = hook
    if prepend:
        table.move_to_end(handle.id, last=False)
    return handle


def register_optimizer_step_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Calls `hook(optimizer, args, kwargs)` before the step of every optimizer. It may return new (args, kwargs)."""
    return _add_hook(_global_optimizer_pre_hooks, hook)


def register_optimizer_step_post_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Calls `hook(optimizer, args, kwargs)` after the step of every optimizer."""
    return _add_hook(_global_optimizer_post_hooks, hook)


def typename(obj: Any) -> str:
    """The type as PyTorch writes it in messages: 'torch.FloatTensor' for a tensor, 'module.Name' otherwise."""
    if isinstance(obj, Tensor):
        return f"torch.{obj.dtype.legacy}Tensor"
    kind = type(obj)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def scalar_state(value: float, like: Any, fused: bool | None = False, on_device: bool | None = False) -> Tensor:
    """A 0-d tensor for a counter such as `step`: float32, or float64 where that is the default dtype.

    It lives on the CPU, where reading it costs no transfer, unless `on_device` asks for the device of `like`.
    """
    dtype = float64 if get_default_dtype() is float64 and not fused else float32
    device = like.device.type if on_device else "cpu"
    backend = backend_of_device(device)
    return wrap(backend.asarray(value, dtype=dtype.np, device=like.device if on_device else None))


class Optimizer:
    """Base class of all optimizers.

    params: an iterable of tensors, of (name, tensor) pairs as `named_parameters()` gives them, or of dicts, each with
    the key "params" and options of its own. defaults: the options of groups that do not give them.

    Raises TypeError for a single tensor, a set, or something that is no tensor; ValueError for an empty list, for a
    parameter that is not a leaf, that is in two groups, or when only some have names.
    """

    state: defaultdict[Any, Any]
    param_groups: list[Group]
    defaults: dict[str, Any]

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self._make_hook_tables()
        self._patch_step_function()
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                + typename(params)
            )
        self.state = defaultdict(dict)
        self.param_groups = []
        groups: list[Any] = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    # --- copying, pickling, printing ---

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_hook_tables()
        self._patch_step_function()
        self.defaults.setdefault("differentiable", False)

    def __repr__(self) -> str:
        text = f"{type(self).__name__} ("
        for i, group in enumerate(self.param_groups):
            options = (f"    {key}: {group[key]}\n" for key in sorted(group) if key != "params")
            text += f"\nParameter Group {i}\n" + "".join(options)
        return text + ")"

    # --- hooks ---

    def _make_hook_tables(self) -> None:
        for table in HOOK_TABLES:
            self.__dict__.setdefault(table, OrderedDict())

    def _patch_step_function(self) -> None:
        """Makes the class's `step`, which a user may have written, call the hooks. Done once per class."""
        if not getattr(type(self).step, "hooked", False):
            hooked: Any = self.profile_hook_step(type(self).step)
            hooked.hooked = True
            type(self).step = hooked  # type: ignore[method-assign]

    @staticmethod
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        """`func` with the step hooks called before and after it."""

        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self = args[0]
            for hook in chain(_global_optimizer_pre_hooks.values(), self._optimizer_step_pre_hooks.values()):
                result = hook(self, args, kwargs)
                if result is None:
                    continue
                if not (isinstance(result, tuple) and len(result) == 2):
                    raise RuntimeError(
                        f"{func} must return None or a tuple of (new_args, new_kwargs), but got {result}."
                    )
                args, kwargs = result
            out = func(*args, **kwargs)
            for hook in chain(self._optimizer_step_post_hooks.values(), _global_optimizer_post_hooks.values()):
                hook(self, args, kwargs)
            return out

        return wrapper

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Calls `hook(optimizer, args, kwargs)` before `step`; it may return new (args, kwargs)."""
        return _add_hook(self.__dict__["_optimizer_step_pre_hooks"], hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Calls `hook(optimizer, args, kwargs)` after `step`."""
        return _add_hook(self.__dict__["_optimizer_step_post_hooks"], hook)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Calls `hook(optimizer)` before `state_dict` is taken."""
        return _add_hook(self.__dict__["_optimizer_state_dict_pre_hooks"], hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Calls `hook(optimizer, state_dict)` on the finished dict; it may return another one."""
        return _add_hook(self.__dict__["_optimizer_state_dict_post_hooks"], hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Calls `hook(optimizer, state_dict)` on a shallow copy before loading; it may return another dict."""
        return _add_hook(self.__dict__["_optimizer_load_state_dict_pre_hooks"], hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Calls `hook(optimizer)` after loading."""
        return _add_hook(self.__dict__["_optimizer_load_state_dict_post_hooks"], hook, prepend)

    # --- state_dict ---

    def state_dict(self) -> dict[str, Any]:
        """{"state": {index: {...}}, "param_groups": [{..., "params": [index, ...]}]}.

        Parameters are numbered in the order of the groups. Tensors are the optimizer's own, not copies.
        """
        for hook in self.__dict__["_optimizer_state_dict_pre_hooks"].values():
            hook(self)
        index: dict[int, int] = {}
        groups = []
        first = 0
        for group in self.param_groups:
            for i, p in enumerate(group["params"], first):
                index.setdefault(id(p), i)
            first += len(group["params"])
            packed = {key: value for key, value in group.items() if key != "params"}
            packed["params"] = [index[id(p)] for p in group["params"]]
            groups.append(packed)
        state = {(index[id(key)] if isinstance(key, Tensor) else key): value for key, value in self.state.items()}
        result: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in self.__dict__["_optimizer_state_dict_post_hooks"].values():
            changed = hook(self, result)
            result = result if changed is None else changed
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over state and options from what `state_dict` returned. Parameters are matched by their order.

        State tensors are cast to the parameter's dtype and device, except `step`; where nothing is to be cast they are
        taken as they are, not copied. ValueError when the number of groups, or of parameters in a group, differs.
        """
        state_dict = state_dict.copy()
        for hook in self.__dict__["_optimizer_load_state_dict_pre_hooks"].values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        groups, saved = self.param_groups, deepcopy(state_dict["param_groups"])
        if len(groups) != len(saved):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(g["params"]) != len(s["params"]) for g, s in zip(groups, saved, strict=True)):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        ids = chain.from_iterable(s["params"] for s in saved)
        by_id = dict(zip(ids, chain.from_iterable(g["params"] for g in groups), strict=True))

        def cast(param: Any, value: Any, param_id: Any, key: Any = None) -> Any:
            if isinstance(value, Tensor):
                saved_groups = state_dict["param_groups"]
                return self._process_value_according_to_param_policy(param, value, param_id, saved_groups, key)
            if isinstance(value, dict):
                return {k: cast(param, v, param_id, k) for k, v in value.items()}
            if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
                return type(value)(cast(param, v, param_id) for v in value)  # type: ignore[call-arg]
            return value

        state: defaultdict[Any, Any] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in by_id:
                state[by_id[key]] = cast(by_id[key], value, key)
            else:
                state[key] = value
        for group, new in zip(groups, saved, strict=True):
            new["params"] = group["params"]
            if "param_names" in group:
                new.setdefault("param_names", group["param_names"])
        self.__setstate__({"state": state, "param_groups": saved})
        for hook in self.__dict__["_optimizer_load_state_dict_post_hooks"].values():
            hook(self)

    @staticmethod
    def _process_value_according_to_param_policy(
        param: Any, value: Any, param_id: Any, param_groups: list[Group], key: Any = None
    ) -> Any:
        """A loaded state tensor, cast for `param`: counters keep their dtype, all else takes the parameter's."""
        group = next((g for g in param_groups if param_id in g["params"]), {})
        if key == "step":
            if group.get("capturable") or group.get("fused"):
                return value.to(dtype=float32, device=param.device)
            return value
        if param.dtype.is_floating_point:
            return value.to(dtype=param.dtype, device=param.device)
        return value.to(device=param.device)

    # --- the step ---

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients; `set_to_none=False` fills them with zeros instead."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif (grad := p.grad) is not None:
                    if grad.grad_fn is not None:
                        grad.detach_()
                    else:
                        grad.requires_grad_(False)
                    grad.zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all parameters that have a gradient. closure: evaluates the model and returns the loss."""
        raise NotImplementedError

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group: a dict with "params" (a tensor, or tensors or (name, tensor) pairs) and options of its own."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        _unpack_params(param_group)
        for param in param_group["params"]:
            if not isinstance(param, Tensor):
                raise TypeError("optimizer can only optimize Tensors, but one of the params is " + typename(param))
            if not (self.defaults.get("differentiable") or param.is_leaf or param.retains_grad):
                raise ValueError("can't optimize a non-leaf Tensor")
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            param_group.setdefault(name, default)
        self._check_membership(param_group)
        self.param_groups.append(param_group)

    def _check_membership(self, param_group: Group) -> None:
        params = {id(p) for p in param_group["params"]}
        if len(params) != len(param_group["params"]):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; "
                "in future, this will cause an error; "
                "see github.com/pytorch/pytorch/issues/40967 for more information",
                stacklevel=4,
            )
        named = "param_names" in param_group
        for group in self.param_groups:
            if named != ("param_names" in group):
                raise ValueError(
                    "all optimizer param groups should be with/without names. "
                    f"cannot add param group {'with names' if named else 'without names'} to the optimizer"
                )
        if any(id(p) in params for group in self.param_groups for p in group["params"]):
            raise ValueError("some parameters appear in more than one parameter group")


def _unpack_params(param_group: Group) -> None:
    """Makes `params` a list of tensors, and `param_names` of the names where the entries are (name, tensor) pairs."""
    params = param_group["params"]
    if isinstance(params, Tensor):
        params = [params]
    elif isinstance(params, set):
        raise TypeError(
            "optimizer parameters need to be organized in ordered collections, but "
            "the ordering of tensors in sets will change between runs. Please use a list instead."
        )
    entries = list(params)
    names = [entry[0] for entry in entries if isinstance(entry, tuple)]
    param_group["params"] = [entry[1] if isinstance(entry, tuple) else entry for entry in entries]
    if names:
        if len(names) != len(entries):
            raise ValueError("all optimizer params should be with/without names. Some param names are missing")
        param_group["param_names"] = names
