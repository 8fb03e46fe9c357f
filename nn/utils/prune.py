"""Pruning: parts of a parameter set to zero by a mask, which a forward pre-hook multiplies in before each forward.

The parameter `name` becomes `name_orig`, the mask is the buffer `name_mask`, and `name` itself a plain attribute.
"""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from ...autograd.api.random import rand
from ...autograd.tensor import Tensor
from ..modules.module import Module
from .convert_parameters import parameters_to_vector

__all__ = [
    "BasePruningMethod",
    "CustomFromMask",
    "Identity",
    "L1Unstructured",
    "LnStructured",
    "PruningContainer",
    "RandomStructured",
    "RandomUnstructured",
    "custom_from_mask",
    "global_unstructured",
    "identity",
    "is_pruned",
    "l1_unstructured",
    "ln_structured",
    "random_structured",
    "random_unstructured",
    "remove",
]


class BasePruningMethod(ABC):
    """A way to choose what is pruned: subclasses define `compute_mask` and PRUNING_TYPE.

    PRUNING_TYPE: "unstructured" (single values; only those not yet pruned are shown to compute_mask), "structured"
    (whole channels along `self.dim`) or "global" (everything is shown).
    """

    PRUNING_TYPE: str
    _tensor_name: str  # set by `apply`

    def __call__(self, module: Module, inputs: Any) -> None:
        """The forward pre-hook: puts the pruned tensor in place."""
        setattr(module, self._tensor_name, self.apply_mask(module))

    @abstractmethod
    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask for `t`, of its shape: what `default_mask` leaves, less what this method prunes."""

    def apply_mask(self, module: Module) -> Tensor:
        """The product of the original tensor and the mask."""
        mask, orig = getattr(module, self._tensor_name + "_mask"), getattr(module, self._tensor_name + "_orig")
        return mask.to(dtype=orig.dtype) * orig

    @classmethod
    def apply(
        cls, module: Module, name: str, *args: Any, importance_scores: Tensor | None = None, **kwargs: Any
    ) -> BasePruningMethod:
        """Prunes the parameter `name` of `module` by a method made with the other arguments, which it returns.

        importance_scores: what the method judges by, of the parameter's shape; by default the parameter itself. Of a
        parameter that is pruned already, only what is left is pruned, and a PruningContainer keeps all methods.
        """
        method, again = cls._combined(module, name, cls(*args, **kwargs))
        orig = getattr(module, name)
        scores = _scores(importance_scores, orig, f"parameter {name} of {module}")
        if again:
            default_mask = getattr(module, name + "_mask").detach().clone()
        else:
            module.register_parameter(name + "_orig", orig)
            del module._parameters[name]
            default_mask = orig.new_ones(orig.shape)
        try:
            module.register_buffer(name + "_mask", method.compute_mask(scores, default_mask=default_mask))
            setattr(module, name, method.apply_mask(module))
            module.register_forward_pre_hook(method)
        except Exception:
            if not again:
                module.register_parameter(name, getattr(module, name + "_orig"))
                del module._parameters[name + "_orig"]
            raise
        return method

    @staticmethod
    def _combined(module: Module, name: str, method: BasePruningMethod) -> tuple[BasePruningMethod, bool]:
        """`method` together with the one that prunes `name` already, whose hook is taken away; whether there is one."""
        method._tensor_name = name
        numbers = [number for number, _ in _hooks(module, name)]
        if len(numbers) > 1:
            raise AssertionError(
                f"Avoid adding multiple pruning hooks to the same tensor {name} of module {module}. "
                "Use a PruningContainer."
            )
        if not numbers:
            return method, False
        old = module._forward_pre_hooks.pop(numbers[0])
        container = old if isinstance(old, PruningContainer) else PruningContainer(old)
        container.add_pruning_method(method)
        return container, True

    def prune(
        self, t: Tensor, default_mask: Tensor | None = None, importance_scores: Tensor | None = None
    ) -> Tensor:
        """`t` pruned, without any module. t, default_mask (ones by default), importance_scores: (*S) -> (*S)."""
        scores = _scores(importance_scores, t, "tensor t")
        default_mask = t.new_ones(t.shape) if default_mask is None else default_mask
        return t * self.compute_mask(scores, default_mask=default_mask)

    def remove(self, module: Module) -> None:
        """Makes the pruned tensor the parameter again. The hook stays: the function `remove` takes it away."""
        name = self._tensor_name
        weight = self.apply_mask(module)
        if hasattr(module, name):
            delattr(module, name)
        orig: Any = module._parameters.pop(name + "_orig")
        orig.data = weight.data
        del module._buffers[name + "_mask"]
        setattr(module, name, orig)


def _scores(given: Tensor | None, t: Tensor, what: str) -> Tensor:
    if given is None:
        return t
    if given.shape != t.shape:
        raise AssertionError(
            f"importance_scores should have the same shape as {what}, got {given.shape} vs {t.shape}"
        )
    return given


def _hooks(module: Module, name: str) -> list[tuple[int, BasePruningMethod]]:
    """(number, hook) of what prunes the tensor `name` of the module."""
    found = module._forward_pre_hooks.items()
    return [(i, hook) for i, hook in found if isinstance(hook, BasePruningMethod) and hook._tensor_name == name]


class PruningContainer(BasePruningMethod):
    """Several methods that prune one tensor, one after the other."""

    def __init__(self, *args: BasePruningMethod):
        self._pruning_methods: tuple[BasePruningMethod, ...] = ()
        if len(args) == 1:
            self._tensor_name = args[0]._tensor_name
        for method in args:
            self.add_pruning_method(method)

    def add_pruning_method(self, method: BasePruningMethod) -> None:
        """Adds a method for the same tensor. TypeError for anything else, ValueError for another tensor's."""
        if not isinstance(method, BasePruningMethod):
            raise TypeError(f"{type(method)} is not a BasePruningMethod subclass")
        if self._tensor_name != method._tensor_name:
            raise ValueError(
                f"Can only add pruning methods acting on the parameter named '{self._tensor_name}' to "
                f"PruningContainer {self}. Found '{method._tensor_name}'"
            )
        self._pruning_methods += (method,)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Iterator[BasePruningMethod]:
        return iter(self._pruning_methods)

    def __getitem__(self, idx: int) -> BasePruningMethod:
        return self._pruning_methods[idx]

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask after the last method, which sees what the mask of those before it leaves."""
        method = self._pruning_methods[-1]
        mask = default_mask.to(dtype=t.dtype, copy=True)
        left = _left(method, t, default_mask)
        mask[left] = method.compute_mask(t[left], default_mask=default_mask[left]).to(dtype=mask.dtype)
        return mask


def _left(method: BasePruningMethod, t: Tensor, mask: Tensor) -> Any:
    """The index of what a method may still prune."""
    if method.PRUNING_TYPE == "unstructured":
        return mask == 1
    if method.PRUNING_TYPE == "structured":
        if not hasattr(method, "dim"):
            raise AttributeError(
                'Pruning methods of PRUNING_TYPE "structured" need to have the attribute `dim` defined.'
            )
        if method.dim < -t.ndim:
            raise IndexError(f"Index is out of bounds for tensor with dimensions {t.ndim}")
        dim = method.dim % t.ndim
        others = [d for d in range(t.ndim) if d != dim]
        return _along(t, dim, mask.sum(dim=others) != 0)
    if method.PRUNING_TYPE == "global":
        return (slice(None),) * t.ndim
    raise ValueError(f"Unrecognized PRUNING_TYPE {method.PRUNING_TYPE}")


def _along(t: Tensor, dim: int, index: Any) -> tuple[Any, ...]:
    """The index which is `index` in one dimension and everything in the others."""
    whole: list[Any] = [slice(None)] * t.ndim
    whole[dim] = index
    return tuple(whole)


class Identity(BasePruningMethod):
    """Prunes nothing, but makes the mask."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return default_mask

    @classmethod
    def apply(cls, module: Module, name: str) -> BasePruningMethod:  # type: ignore[override]
        return super().apply(module, name)


class _Unstructured(BasePruningMethod):
    """Prunes single values: an amount, a number or a share of all, of those with the lowest rank."""

    PRUNING_TYPE = "unstructured"

    def __init__(self, amount: float):
        _check_amount(amount)
        self.amount = amount

    def _lowest(self, t: Tensor, count: int) -> Tensor:
        """The flat indices of the values to prune."""
        raise NotImplementedError

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        count = _count(self.amount, t.nelement())
        mask = default_mask.clone()
        if count != 0:
            mask.view(-1)[self._lowest(t, count)] = 0
        return mask


class RandomUnstructured(_Unstructured):
    """Prunes values at random. amount: how many, or (a float) which share of them."""

    def _lowest(self, t: Tensor, count: int) -> Tensor:
        return rand(t.shape, dtype=t.dtype, device=t.device).view(-1).topk(count)[1]

    @classmethod
    def apply(cls, module: Module, name: str, amount: float) -> BasePruningMethod:  # type: ignore[override]
        return super().apply(module, name, amount=amount)


class L1Unstructured(_Unstructured):
    """Prunes the values next to zero. amount: how many, or (a float) which share of them."""

    def _lowest(self, t: Tensor, count: int) -> Tensor:
        return t.abs().reshape(-1).topk(count, largest=False)[1]

    @classmethod
    def apply(  # type: ignore[override]
        cls, module: Module, name: str, amount: float, importance_scores: Tensor | None = None
    ) -> BasePruningMethod:
        return super().apply(module, name, amount=amount, importance_scores=importance_scores)


class _Structured(BasePruningMethod):
    """Prunes whole channels along a dimension."""

    PRUNING_TYPE = "structured"
    amount: float
    dim: int

    def _kept(self, t: Tensor, channels: int, count: int) -> Any:
        """The index along `dim` of the channels that are left when `count` are pruned."""
        raise NotImplementedError

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        if t.ndim <= 1:
            raise ValueError(
                "Structured pruning can only be applied to multidimensional tensors. "
                f"Found tensor of shape {t.shape} with {t.ndim} dims"
            )
        if self.dim >= t.ndim:
            raise IndexError(f"Invalid index {self.dim} for tensor of size {t.shape}")
        channels = t.shape[self.dim]
        count = _count(self.amount, channels)
        if count == 0:
            return default_mask
        mask = t.new_zeros(t.shape)
        mask[_along(t, self.dim, self._kept(t, channels, count))] = 1
        return mask * default_mask.to(dtype=mask.dtype)


class RandomStructured(_Structured):
    """Prunes channels at random. amount: how many, or (a float) which share of them; dim: along which dimension."""

    def __init__(self, amount: float, dim: int = -1):
        _check_amount(amount)
        self.amount = amount
        self.dim = dim

    def _kept(self, t: Tensor, channels: int, count: int) -> Any:
        drawn = rand(channels)
        return drawn > drawn.kthvalue(count)[0]

    @classmethod
    def apply(  # type: ignore[override]
        cls, module: Module, name: str, amount: float, dim: int = -1
    ) -> BasePruningMethod:
        return super().apply(module, name, amount=amount, dim=dim)


class LnStructured(_Structured):
    """Prunes the channels of the smallest Ln norm. n: as the p of `Tensor.norm`."""

    def __init__(self, amount: float, n: Any, dim: int = -1):
        _check_amount(amount)
        self.amount = amount
        self.n = n
        self.dim = dim

    def _kept(self, t: Tensor, channels: int, count: int) -> Any:
        others = [d for d in range(t.ndim) if d != self.dim % t.ndim]
        return t.norm(p=self.n, dim=others).topk(channels - count, largest=True)[1]

    @classmethod
    def apply(  # type: ignore[override]
        cls, module: Module, name: str, amount: float, n: Any, dim: int, importance_scores: Tensor | None = None
    ) -> BasePruningMethod:
        return super().apply(module, name, amount=amount, n=n, dim=dim, importance_scores=importance_scores)


class CustomFromMask(BasePruningMethod):
    """Prunes by a mask that is given."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Tensor):
        self.mask = mask

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        if default_mask.shape != self.mask.shape:
            raise AssertionError(
                f"default_mask shape {default_mask.shape} must match self.mask shape {self.mask.shape}"
            )
        return default_mask * self.mask.to(dtype=default_mask.dtype)

    @classmethod
    def apply(cls, module: Module, name: str, mask: Tensor) -> BasePruningMethod:  # type: ignore[override]
        return super().apply(module, name, mask=mask)


# ---- functions -------------------------------------------------------------------------------------------------------


def identity(module: Module, name: str) -> Module:
    """Gives the parameter `name` a mask of ones. Gives the module."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Module, name: str, amount: float) -> Module:
    """Prunes `amount` values of the parameter at random: a number of them, or a share between 0 and 1."""
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(module: Module, name: str, amount: float, importance_scores: Tensor | None = None) -> Module:
    """Prunes the `amount` values of the parameter which are next to zero, or lowest in importance_scores.

    >>> import tapegrad as torch
    >>> layer = torch.nn.utils.prune.l1_unstructured(torch.nn.Linear(4, 2), "weight", amount=0.5)
    >>> (layer.weight == 0).sum().item(), list(layer.state_dict())
    (4, ['bias', 'weight_orig', 'weight_mask'])
    """
    L1Unstructured.apply(module, name, amount=amount, importance_scores=importance_scores)
    return module


def random_structured(module: Module, name: str, amount: float, dim: int) -> Module:
    """Prunes `amount` channels along `dim` of the parameter at random."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(
    module: Module, name: str, amount: float, n: Any, dim: int, importance_scores: Tensor | None = None
) -> Module:
    """Prunes the `amount` channels along `dim` of the parameter which have the smallest Ln norm."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: Module, name: str, mask: Tensor) -> Module:
    """Prunes the parameter where `mask`, of its shape, is 0."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(parameters: Any, pruning_method: Any, importance_scores: Any = None, **kwargs: Any) -> None:
    """Prunes several parameters together: what is lowest in all of them at once.

    Args:
        parameters: (module, name) pairs.
        pruning_method: a class of PRUNING_TYPE "unstructured", made with `kwargs` (`amount=`, ...).
        importance_scores: {(module, name): scores}; by default the parameters themselves.
    """
    if not isinstance(parameters, Iterable):
        raise TypeError("global_unstructured(): parameters is not an Iterable")
    scores_of = {} if importance_scores is None else importance_scores
    if not isinstance(scores_of, dict):
        raise TypeError("global_unstructured(): importance_scores must be of type dict")
    pairs = list(parameters)
    tensors = [getattr(module, name) for module, name in pairs]
    scores = parameters_to_vector([scores_of.get(pair, t) for pair, t in zip(pairs, tensors, strict=True)])
    masks = [
        getattr(module, name + "_mask", t.new_ones(t.shape)) for (module, name), t in zip(pairs, tensors, strict=True)
    ]
    method = pruning_method(**kwargs)
    if method.PRUNING_TYPE != "unstructured":
        raise TypeError(
            'Only "unstructured" PRUNING_TYPE supported for the `pruning_method`. Found method '
            f"{pruning_method} of type {method.PRUNING_TYPE}"
        )
    method._tensor_name = "temp"
    mask = PruningContainer(method).compute_mask(scores, parameters_to_vector(masks))
    start = 0
    for (module, name), t in zip(pairs, tensors, strict=True):
        custom_from_mask(module, name, mask[start : start + t.numel()].view_as(t))
        start += t.numel()


def remove(module: Module, name: str) -> Module:
    """Makes the pruning of the parameter permanent: it is again one parameter, with zeros. Gives the module.

    ValueError where it is not pruned.
    """
    for number, hook in _hooks(module, name):
        hook.remove(module)
        del module._forward_pre_hooks[number]
        return module
    raise ValueError(f"Parameter '{name}' of module {module} has to be pruned before pruning can be removed")


def is_pruned(module: Module) -> bool:
    """Whether any parameter of the module, or of one below it, is pruned."""
    return any(
        isinstance(hook, BasePruningMethod) for m in module.modules() for hook in m._forward_pre_hooks.values()
    )


def _check_amount(amount: Any) -> None:
    whole = isinstance(amount, numbers.Integral)
    if not whole and not isinstance(amount, numbers.Real):
        raise TypeError(f"Invalid type for amount: {amount}. Must be int or float.")
    if amount < 0 or (not whole and amount > 1):
        raise ValueError(f"amount={amount} should either be a float in the range [0, 1] or a non-negative integer")


def _count(amount: Any, size: int) -> int:
    """How many of `size` are to be pruned."""
    whole = isinstance(amount, numbers.Integral)
    if whole and amount > size:
        raise ValueError(f"amount={amount} should be smaller than the number of parameters to prune={size}")
    return int(amount) if whole else round(amount * size)
