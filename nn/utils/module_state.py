"""Modules called with other tensors than their own, and the states of several, for `torch.func`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...autograd.api.join import stack
from ...autograd.tensor import Tensor
from ..modules.batchnorm import _BatchNorm
from ..modules.container import ModuleList
from ..modules.module import Module

__all__ = ["functional_call", "replace_all_batch_norm_modules_", "stack_module_state"]

_MISSING: Any = object()


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: dict[str, Tensor] | Sequence[dict[str, Tensor]],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Calls `module` as if its parameters and buffers were those given.

    Args:
        module: the module; it is as before when the call returns.
        parameter_and_buffer_dicts: dotted name -> tensor, or a sequence of such dictionaries without common names.
            Where the module assigns a new tensor to one of the names, the dictionary gets it.
        args: the positional arguments, a tuple; anything else is the only one.
        kwargs: the keyword arguments.
        tie_weights: names that are one parameter in the module all get the tensor given for one of them.
        strict: whether all names must be given, and no other.

    >>> import tapegrad as torch
    >>> layer = torch.nn.Linear(2, 1)
    >>> weights = {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}
    >>> torch.func.functional_call(layer, weights, torch.tensor([2.0, 3.0]))
    tensor([5.])
    """
    given = _merged(parameter_and_buffer_dicts)
    if args is None:
        args = ()
    elif not isinstance(args, tuple):
        args = (args,)
    with _reparametrized(module, given, tie_weights, strict):
        return module(*args, **(kwargs or {}))


def stack_module_state(models: Sequence[Module] | ModuleList) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and buffers of several modules of one kind, stacked: for `vmap` over an ensemble.

    models: M modules of the same class and mode.
    Returns: {name: parameter of (M, *S)}, leaves that require a gradient as those of the first do; {name: buffer}.
    Raises RuntimeError for no models, or models of different classes or modes.

    >>> import tapegrad as torch
    >>> models = [torch.nn.Linear(3, 2) for _ in range(5)]
    >>> params, buffers = torch.func.stack_module_state(models)
    >>> params["weight"].shape
    torch.Size([5, 2, 3])
    """
    listed: list[Module] = list(models)
    if not listed:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({model.training for model in listed}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")
    if len({type(model) for model in listed}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    params = _stacked([dict(model.named_parameters()) for model in listed])
    return params, _stacked([dict(model.named_buffers()) for model in listed])


def _stacked(members: list[dict[str, Any]]) -> dict[str, Any]:
    made = {}
    for name in members[0]:
        tensors = [each[name] for each in members]
        wanted = {t.requires_grad for t in tensors}
        if len(wanted) > 1:
            raise RuntimeError(
                f"Expected {name} from each model to have the same .requires_grad: it is True in some, False in others"
            )
        made[name] = stack(tensors).detach().requires_grad_(wanted.pop())
    return made


def replace_all_batch_norm_modules_(root: Module) -> Module:
    """Makes every batch normalisation in `root` one without running statistics, which vmap cannot write. Gives root."""
    for module in root.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            module.running_mean = module.running_var = module.num_batches_tracked = None
            module.track_running_stats = False
    return root


def _merged(dicts: Any) -> dict[str, Tensor]:
    if isinstance(dicts, dict):
        return dicts
    if not isinstance(dicts, Sequence):
        raise ValueError(
            f"Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got {type(dicts)}"
        )
    if not all(isinstance(d, dict) for d in dicts):
        raise ValueError("Expected all elements of parameter_and_buffer_dicts to be dictionaries")
    names = [name for d in dicts for name in d]
    repeated = list(dict.fromkeys(name for name in names if names.count(name) > 1))
    if repeated:
        raise ValueError(f"{repeated} appeared in multiple dictionaries; behavior of functional call is ambiguous")
    return {name: tensor for d in dicts for name, tensor in d.items()}


@contextmanager
def _reparametrized(module: Module, given: dict[str, Tensor], tie_weights: bool, strict: bool) -> Iterator[None]:
    """The module with the tensors `given` inside the block, with its own ones after it."""
    tensors = _with_tied(module, given) if tie_weights else given
    if strict:
        _check_names(module, tensors)
    own: dict[str, Any] = {}
    try:
        for name, tensor in tensors.items():
            own[name] = _swap(module, name, tensor)
        yield
    finally:
        left = {name: _swap(module, name, tensor) for name, tensor in own.items()}
        given.update((name, left[name]) for name in given if name in left)


def _members(module: Module) -> dict[str, Tensor]:
    """dotted name -> parameter or buffer, those with several names under each."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _with_tied(module: Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """`given`, with the other names of each tensor that has several in the module."""
    names_of: dict[Tensor, list[str]] = {}
    for name, tensor in _members(module).items():
        names_of.setdefault(tensor, []).append(name)
    tensors = dict(given)
    for names in names_of.values():
        values = {given[name] for name in names if name in given}
        if len(values) > 1:
            raise ValueError(
                f"functional_call got multiple values for keys {sorted(names)}, which are tied. "
                "Consider using tie_weights=False"
            )
        if values:
            tensors.update(dict.fromkeys(names, *values))
    return tensors


def _check_names(module: Module, tensors: dict[str, Tensor]) -> None:
    names = set(_members(module))
    problems = [
        f"{kind} key(s): {', '.join(map(repr, sorted(found)))}."
        for kind, found in (("Unexpected", set(tensors) - names), ("Missing", names - set(tensors)))
        if found
    ]
    if problems:
        report = "\n\t".join(problems)
        raise RuntimeError(f"Error(s) in reparametrizing for {module._get_name()}:\n\t{report}")


def _swap(module: Module, name: str, tensor: Any) -> Any:
    """Puts `tensor` (_MISSING: nothing) at the dotted `name` and returns what was there (_MISSING: nothing).

    Written into the registries directly: the tensor is in general no Parameter, which assignment would refuse.
    """
    path, _, name = name.rpartition(".")
    owner = module.get_submodule(path)
    if tensor is not None and tensor is not _MISSING and not isinstance(tensor, Tensor):
        raise TypeError(f"{tensor} is not an instance of torch.Tensor")
    for registry in (owner._parameters, owner._buffers):
        if name in registry:
            before = registry.pop(name) if tensor is _MISSING else registry[name]
            if tensor is not _MISSING:
                registry[name] = tensor
            return before
    before = getattr(owner, name, _MISSING)
    if before is not _MISSING and before is not None and not isinstance(before, Tensor):
        raise TypeError(f"attribute `{name}`: {before} is not an instance of torch.Tensor")
    if tensor is not _MISSING:
        setattr(owner, name, tensor)
    elif before is not _MISSING:
        delattr(owner, name)
    return before
