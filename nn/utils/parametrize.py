"""Parametrizations: a parameter of a module becomes a function of other tensors, and those are trained instead.

`module.weight` is then a property of a class made for this module, which computes
`parametrizations[-1](... parametrizations[0](original))` each time it is read; assigning to it runs what they define as
`right_inverse`. The originals and the modules that compute are kept under `module.parametrizations.weight`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...autograd.modes import no_grad
from ...autograd.tensor import Tensor
from ..modules.container import ModuleDict, ModuleList
from ..modules.module import Module
from ..modules.registry import without_mirrors
from ..parameter import Parameter

__all__ = [
    "ParametrizationList",
    "cached",
    "is_parametrized",
    "register_parametrization",
    "remove_parametrizations",
    "transfer_parametrizations_and_params",
    "type_before_parametrizations",
]


class _Cache(dict[tuple[int, str], Tensor]):
    """(id of a module, name of its tensor) -> value, while a `cached` block is open."""

    open_blocks = 0


_cache = _Cache()


@contextmanager
def cached() -> Iterator[None]:
    """Inside the block every parametrized tensor is computed once, at its first use.

    For models which read one several times in a forward pass, as a recurrent cell in a loop or shared weights do.
    """
    _cache.open_blocks += 1
    try:
        yield
    finally:
        _cache.open_blocks -= 1
        if not _cache.open_blocks:
            _cache.clear()


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, in the order they are applied, and the tensors they start from.

    These are `original`, or `original0`, `original1`, ... where the first parametrization's right_inverse gives
    several. `register_parametrization` makes it.

    Args:
        modules: the parametrizations.
        original: the parameter or buffer that is parametrized.
        unsafe: whether the result may have another dtype or shape; then nothing is checked.
    """

    unsafe: bool

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False):
        if len(modules) == 0:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        new: Any = original
        with no_grad():
            for module in reversed(list(self)):
                if hasattr(module, "right_inverse"):
                    try:
                        new = module.right_inverse(new)
                    except NotImplementedError:
                        pass  # as a module without one: taken for the identity
        if not isinstance(new, (Tensor, Sequence)):
            raise ValueError(
                "'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                f"Got {type(new).__name__}"
            )
        self.is_tensor = isinstance(new, Tensor)
        if isinstance(new, Tensor):
            self.ntensors = 1
            self._keep_one(original, new)
        else:
            self.ntensors = len(new)
            self._keep_several(original, new)
        if not unsafe:
            _check_unchanged(
                self(), dtype, shape, "unless `unsafe` flag is enabled", "unparametrized {}", "parametrized {}"
            )

    def _keep_one(self, original: Tensor, new: Tensor) -> None:
        """The same object with the new values, so that optimizers keep hold of it."""
        for what in ("dtype", "device"):
            before, after = getattr(original, what), getattr(new, what)
            if before != after:
                raise ValueError(
                    f"When `right_inverse` outputs one tensor, it may not change the {what}.\n"
                    f"original.{what}: {before}\nright_inverse(original).{what}: {after}"
                )
        _replace(original, new)
        _register(self, "original", original)

    def _keep_several(self, original: Tensor, new: Sequence[Any]) -> None:
        for i, tensor in enumerate(new):
            if not isinstance(tensor, Tensor):
                raise ValueError(
                    "'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                    f"Got element {i} of the sequence with type {type(tensor).__name__}."
                )
            if isinstance(original, Parameter):
                tensor = Parameter(tensor, original.requires_grad)
            tensor.requires_grad_(original.requires_grad)
            _register(self, f"original{i}", tensor)

    def right_inverse(self, value: Tensor) -> None:
        """Makes `value` the result, as far as the right_inverses can: what they give is put into the originals.

        RuntimeError where a parametrization has none.
        """
        new: Any = value
        with no_grad():
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrization {type(module).__name__} does not implement right_inverse.")
                new = module.right_inverse(new)
        if self.is_tensor:
            if not isinstance(new, Tensor):
                raise ValueError(f"`right_inverse` should return a tensor. Got {type(new).__name__}")
            if new.dtype != self.original.dtype:
                raise ValueError(
                    f"The tensor returned by `right_inverse` has dtype {new.dtype} while `original` has dtype "
                    f"{self.original.dtype}"
                )
            _replace(self.original, new)
            return
        if not isinstance(new, Sequence):
            raise ValueError(f"'right_inverse' must return a sequence of tensors. Got {type(new).__name__}.")
        if len(new) != self.ntensors:
            raise ValueError(
                f"'right_inverse' must return a sequence of tensors of length {self.ntensors}. Got a sequence of "
                f"length {len(new)}."
            )
        for i, tensor in enumerate(new):
            original = getattr(self, f"original{i}")
            if not isinstance(tensor, Tensor):
                raise ValueError(
                    "'right_inverse' must return a sequence of tensors or reference-type opaques. "
                    f"Got element {i} of type {type(tensor).__name__}."
                )
            if original.dtype != tensor.dtype:
                raise ValueError(
                    f"Tensor {i} returned by `right_inverse` has dtype {tensor.dtype} while `original{i}` has dtype "
                    f"{original.dtype}"
                )
            _replace(original, tensor)

    def forward(self) -> Tensor:
        """The value of the tensor."""
        if self.is_tensor:
            value = self[0](self.original)
        else:
            value = self[0](*[getattr(self, f"original{i}") for i in range(self.ntensors)])
        number = 1
        while hasattr(self, str(number)):  # not len(): other modules may have been registered here as well
            value = self[number](value)
            number += 1
        return value


def _replace(held: Tensor, new: Tensor) -> None:
    """The values of `new` for the tensor `held`, which stays the same object."""
    if held is not new:
        held.data = new.detach()


def _register(module: Module, name: str, tensor: Tensor) -> None:
    if isinstance(tensor, Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


def _check_unchanged(value: Any, dtype: Any, shape: Any, unless: str, before: str, after: str) -> None:
    """ValueError unless `value` is a tensor of that dtype and shape; `before` and `after` say what is compared."""
    if not isinstance(value, Tensor):
        raise ValueError(f"A parametrization must return a tensor. Got {type(value).__name__}.")
    for what, wanted in (("dtype", dtype), ("shape", shape)):
        found = getattr(value, what)
        if found != wanted:
            raise ValueError(
                f"Registering a parametrization may not change the {what} of the tensor, {unless}.\n"
                f"{before.format(what)}: {wanted}\n{after.format(what)}: {found}"
            )


def _check_inverse(value: Any, like: Tensor, name: str) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"parametrization.right_inverse must return a tensor. Got: {type(value).__name__}")
    for what in ("dtype", "shape"):
        found, wanted = getattr(value, what), getattr(like, what)
        if found != wanted:
            raise ValueError(
                f"The tensor returned by parametrization.right_inverse must have the same {what} as module.{name}, "
                f"unless the `unsafe` flag is enabled.\nmodule.{name}.{what}: {wanted}\nreturned {what}: {found}"
            )


# ---- the class that has the properties -------------------------------------------------------------------------------


def _refuse_pickling(self: Any) -> Any:
    raise RuntimeError(
        "Serialization of parametrized modules is only supported through state_dict(). See:\n"
        "https://pytorch.org/tutorials/beginner/saving_loading_models.html"
        "#saving-loading-a-general-checkpoint-for-inference-and-or-resuming-training"
    )


def _deepcopy(self: Any, memo: dict[int, Any]) -> Any:
    """copy.deepcopy without __getstate__, which refuses. The copy too has a class of its own."""
    if id(self) in memo:
        return memo[id(self)]
    cls: Any = type(self)
    made = cls.__new__(type(cls)(cls.__name__, cls.__bases__, dict(vars(cls))))
    memo[id(self)] = made
    made.__setstate__(copy.deepcopy(without_mirrors(self), memo))
    return made


def _make_class(module: Module) -> None:
    """Gives the module a class of its own, to which properties can be added."""
    cls: Any = type(module)
    members: dict[str, Any] = {"__getstate__": _refuse_pickling}
    if not hasattr(cls, "__deepcopy__"):
        members["__deepcopy__"] = _deepcopy
    module.__class__ = type(cls)(f"Parametrized{cls.__name__}", (cls,), members)


def _property(name: str) -> property:
    def value(self: Any) -> Tensor:
        parametrization = self.parametrizations[name]
        if not _cache.open_blocks:
            return parametrization()
        key = (id(self), name)
        if key not in _cache:
            _cache[key] = parametrization()
        return _cache[key]

    def assign(self: Any, value: Tensor) -> None:
        self.parametrizations[name].right_inverse(value)

    return property(value, assign)


# ---- registering and removing ----------------------------------------------------------------------------------------


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Makes the parameter or buffer `tensor_name` of `module` the result of `parametrization`. Gives the module.

    The former tensor is then `module.parametrizations.<tensor_name>.original`, a parameter. Registered once more, the
    new parametrization is applied to the result of those before it.

    Args:
        module: the module, changed in place; its class becomes Parametrized<class>.
        tensor_name: its parameter or buffer.
        parametrization: a module: tensor -> tensor of the same shape and dtype. With a method `right_inverse`
            (tensor -> tensor, or several tensors which forward then takes), the former value is kept as far as it
            can, and one can assign to the tensor.
        unsafe: whether dtype and shape may change; then nothing is checked.

    Raises ValueError for an unknown name and, unless `unsafe`, where dtype or shape change.

    >>> import tapegrad as torch
    >>> class Symmetric(torch.nn.Module):
    ...     def forward(self, x):
    ...         return x.triu() + x.triu(1).T
    >>> layer = torch.nn.Linear(3, 3)
    >>> _ = torch.nn.utils.parametrize.register_parametrization(layer, "weight", Symmetric())
    >>> torch.equal(layer.weight, layer.weight.T)
    True
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        if not unsafe:
            value = getattr(module, tensor_name)
            result = parametrization(value)
            place = f"module.{tensor_name}"
            _check_unchanged(
                result, value.dtype, value.shape, "unless the `unsafe` flag is enabled",
                place + ".{}", f"parametrization({place}).{{}}",
            )  # fmt: skip
            if hasattr(parametrization, "right_inverse"):
                try:
                    _check_inverse(parametrization.right_inverse(result), value, tensor_name)
                except NotImplementedError:
                    pass
        held = module.parametrizations[tensor_name]
        held.append(parametrization)
        held.unsafe |= unsafe
    elif tensor_name in module._buffers or tensor_name in module._parameters:
        made = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe=unsafe)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            _make_class(module)
            module.parametrizations = ModuleDict()
        setattr(type(module), tensor_name, _property(tensor_name))
        module.parametrizations[tensor_name] = made
    else:
        raise ValueError(
            f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with name "
            f"'{tensor_name}'"
        )
    return module


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether the tensor of that name in `module` is parametrized; without a name, whether any is."""
    held = getattr(module, "parametrizations", None)
    if not isinstance(held, ModuleDict):
        return False
    return len(held) > 0 if tensor_name is None else tensor_name in held


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Makes the tensor an ordinary parameter or buffer again. Gives the module.

    leave_parametrized: whether it keeps its present value; else it becomes the original, which must be one tensor.
    ValueError where it is not parametrized, or not in terms of one tensor.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    held = module.parametrizations[tensor_name]
    if held.is_tensor:
        tensor = held.original
        if leave_parametrized:
            with no_grad():
                _replace(tensor, getattr(module, tensor_name))
    elif leave_parametrized:
        tensor = getattr(module, tensor_name)
        tensor = Parameter(tensor) if tensor.requires_grad else tensor
    else:
        raise ValueError(
            "Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is parametrized in terms of a "
            "sequence of tensors."
        )
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    _register(module, tensor_name, tensor)
    if not is_parametrized(module):
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class of the module without its parametrizations."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(
    from_module: Module, to_module: Module, tensor_name: str | None = None
) -> Module:
    """Registers the parametrizations of `from_module`, and puts its original tensors, in `to_module`; gives the latter.

    tensor_name: the one tensor meant; by default all that are parametrized. What `to_module` lacks is made.
    """
    if not is_parametrized(from_module):
        return to_module
    for name in list(from_module.parametrizations) if tensor_name is None else [tensor_name]:
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name)))
        source = from_module.parametrizations[name]
        for parametrization in source:
            register_parametrization(to_module, name, parametrization)
        target = to_module.parametrizations[name]
        originals = ["original"] if source.is_tensor else [f"original{i}" for i in range(source.ntensors)]
        for original in originals:
            setattr(target, original, getattr(source, original))
    return to_module
