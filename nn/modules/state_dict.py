"""What a module saves and how it loads it: `state_dict`, `load_state_dict` and their hooks.

A state dict is an OrderedDict, name -> tensor, in the order of registration; the dotted names are the paths of the
modules. Its attribute `_metadata` holds {module path: {"version": module._version}}.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ...autograd.hooks import RemovableHandle
from ...autograd.modes import no_grad
from ...autograd.tensor import Tensor
from ..parameter import Parameter, is_lazy
from .hooks import WrappedHook, add_hook
from .registry import LazyHooks, Registry

__all__: list[str] = []

EXTRA_STATE = "_extra_state"  # the key, behind the module's prefix, of what get_extra_state returns


class _IncompatibleKeys(NamedTuple):
    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self.missing_keys!r}, unexpected_keys={self.unexpected_keys!r})"


class Stateful:
    """The part of Module that saves and loads."""

    _version: int = 1  # kept in `_metadata`; raise it when the names change, and translate in _load_from_state_dict
    _parameters: Registry
    _buffers: Registry
    _modules: Registry
    _non_persistent_buffers_set: set[str]
    _state_dict_hooks = LazyHooks()
    _state_dict_pre_hooks = LazyHooks()
    _load_state_dict_pre_hooks = LazyHooks()
    _load_state_dict_post_hooks = LazyHooks()

    def get_extra_state(self) -> Any:
        """What else is to be saved with this module; define it together with `set_extra_state`."""
        raise RuntimeError(f"{type(self).__name__} has no extra state: define get_extra_state() and set_extra_state()")

    def set_extra_state(self, state: Any) -> None:
        """Called by `load_state_dict` with what `get_extra_state` returned when it was saved."""
        raise RuntimeError(f"{type(self).__name__} has no extra state: define get_extra_state() and set_extra_state()")

    # --- saving

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """An OrderedDict of the parameters and persistent buffers of this module and of all below it.

        The tensors are detached and share memory with the module's own; `keep_vars=True` gives these themselves.
        `prefix` is put before each name; `destination` is filled instead of a new dictionary.
        """
        if args:
            warnings.warn("Positional args are being deprecated, use kwargs instead.", FutureWarning, stacklevel=2)
            destination = args[0] if destination is None else destination
            prefix = args[1] if len(args) > 1 and prefix == "" else prefix
            keep_vars = args[2] if len(args) > 2 and keep_vars is False else keep_vars
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = metadata
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in self._state_dict_hooks.values():
            replacement = hook(self, destination, prefix, metadata)
            if replacement is None:
                continue
            if getattr(hook, "_from_public_api", False):
                raise RuntimeError("state_dict post-hook must return None")
            destination = replacement
        return destination

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Puts this module's own tensors into `destination`; its children come after."""
        for name, tensor in self._state_tensors().items():
            destination[prefix + name] = tensor if keep_vars else tensor.detach()
        if type(self).get_extra_state is not Stateful.get_extra_state:
            destination[prefix + EXTRA_STATE] = self.get_extra_state()

    def _state_tensors(self) -> dict[str, Tensor]:
        """name -> own parameter or persistent buffer, those that are None left out."""
        named = dict(self._parameters)
        named.update((k, v) for k, v in self._buffers.items() if k not in self._non_persistent_buffers_set)
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def register_state_dict_pre_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Calls `hook(module, prefix, keep_vars)` before `state_dict` collects this module's tensors."""
        return add_hook(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Any) -> RemovableHandle:
        """Calls `hook(module, state_dict, prefix, local_metadata)` after `state_dict`; it may change the dictionary."""
        hook._from_public_api = True
        return add_hook(self._state_dict_hooks, hook)

    def _register_state_dict_hook(self, hook: Any) -> RemovableHandle:
        """As `register_state_dict_post_hook`, for a hook which may return another dictionary."""
        if getattr(hook, "_from_public_api", False):
            raise RuntimeError(
                "Cannot register the same function as the state dict post hook that was "
                "previously registered via register_state_dict_post_hook"
            )
        return add_hook(self._state_dict_hooks, hook)

    # --- loading

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """Copies the tensors of `state_dict` into this module and those below it.

        Args:
            state_dict: name -> tensor, as `state_dict()` returns.
            strict: whether the names must match exactly.
            assign: put the tensors themselves in place of the module's, instead of copying into these.

        Returns:
            A pair `missing_keys`, `unexpected_keys`.

        Raises:
            RuntimeError: naming every missing or unexpected key and every tensor of another shape.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        metadata = getattr(state_dict, "_metadata", None)
        loaded: Any = OrderedDict(state_dict)  # a copy: the hooks may change it
        if metadata is not None:
            loaded._metadata = metadata
        keys = _IncompatibleKeys([], [])
        errors: list[str] = []
        _load(self, loaded, "", metadata, assign, keys, errors)
        if strict:
            for kind, names in (("Unexpected", keys.unexpected_keys), ("Missing", keys.missing_keys)):
                if names:
                    quoted = ", ".join(f'"{name}"' for name in names)
                    errors.insert(0, f"{kind} key(s) in state_dict: {quoted}. ")
        if errors:
            report = "\n\t".join(errors)
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t{report}")
        return keys

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Loads this module's own tensors, the entries of `state_dict` behind `prefix`; its children come after.

        Subclasses override it to translate old names. Problems are appended to the three lists, never raised.
        """
        for hook in self._load_state_dict_pre_hooks.values():
            hook(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        own = self._state_tensors()
        assign = local_metadata.get("assign_to_params_buffers", False)
        for name, tensor in own.items():
            key = prefix + name
            if key in state_dict:
                self._load_tensor(name, tensor, key, state_dict[key], assign, error_msgs)
            elif strict:
                missing_keys.append(key)
        extra_key = prefix + EXTRA_STATE
        if type(self).set_extra_state is not Stateful.set_extra_state:
            if extra_key in state_dict:
                self.set_extra_state(state_dict[extra_key])
            elif strict:
                missing_keys.append(extra_key)
        elif strict and extra_key in state_dict:
            unexpected_keys.append(extra_key)
        if strict:
            for key in state_dict:
                if key.startswith(prefix) and key != extra_key:
                    name, dot, _ = key[len(prefix) :].partition(".")
                    if name not in (self._modules if dot else own):
                        unexpected_keys.append(key)

    def _load_tensor(self, name: str, own: Tensor, key: str, value: Any, assign: bool, errors: list[str]) -> None:
        """Puts `value` into (with `assign`: in place of) the module's tensor `name`, or notes in `errors` why not."""
        if not isinstance(value, Tensor):
            errors.append(
                f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like object from '
                f"checkpoint but received {type(value)}"
            )
            return
        lazy = is_lazy(own)  # it has no shape; two lazy ones go together
        if not lazy and len(own.shape) == 0 and len(value.shape) == 1 and value.shape[0] == 1:
            value = value[0]  # scalars were saved with shape (1,) before PyTorch 0.4
        if not lazy and value.shape != own.shape:
            errors.append(
                f"size mismatch for {key}: copying a param with shape {value.shape} from checkpoint, "
                f"the shape in current model is {own.shape}."
            )
            return
        try:
            with no_grad():
                if not assign:
                    own.copy_(value)
                    return
                if isinstance(own, Parameter):
                    if isinstance(value, Parameter):
                        value.requires_grad_(own.requires_grad)
                    else:
                        value = Parameter(value, requires_grad=own.requires_grad)
                setattr(self, name, value)
        except Exception as error:
            errors.append(
                f'While copying the parameter named "{key}", whose dimensions in the model are {own.size()} and '
                f"whose dimensions in the checkpoint are {value.size()}, an exception occurred : {error.args}."
            )

    def register_load_state_dict_pre_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Calls `hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)`
        before this module's tensors are loaded; it may change any of these in place."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(
        self, hook: Callable[..., None], with_module: bool = False
    ) -> RemovableHandle:
        return add_hook(self._load_state_dict_pre_hooks, WrappedHook(hook, self if with_module else None))

    def register_load_state_dict_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Calls `hook(module, incompatible_keys)` after this module and those below it are loaded.

        The hook may change the two lists of `incompatible_keys` in place, and returns nothing.
        """
        return add_hook(self._load_state_dict_post_hooks, hook)


def _load(
    module: Any, entries: Any, prefix: str, metadata: Any, assign: bool, keys: _IncompatibleKeys, errors: list[str]
) -> None:
    """Loads `module` and those below it from `entries`, whose keys all begin with `prefix`."""
    local_metadata = {} if metadata is None else dict(metadata.get(prefix[:-1], {}))
    if assign:
        local_metadata["assign_to_params_buffers"] = assign
    # always strict: load_state_dict itself drops the key lists where they do not count
    module._load_from_state_dict(entries, prefix, local_metadata, True, *keys, errors)
    for name, child in module._modules.items():
        if child is not None:
            below = f"{prefix}{name}."
            chosen = {key: value for key, value in entries.items() if key.startswith(below)}
            _load(child, chosen, below, metadata, assign, keys, errors)
    for hook in module._load_state_dict_post_hooks.values():
        if hook(module, keys) is not None:
            raise AssertionError(
                "Hooks registered with ``register_load_state_dict_post_hook`` are not expected to return new values, "
                "if incompatible_keys need to be modified, it should be done inplace."
            )
