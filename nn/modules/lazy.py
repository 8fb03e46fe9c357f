"""Lazy layers: those that find the number of their input features or channels at the first call."""

from __future__ import annotations

from itertools import chain
from typing import Any

from ...autograd.api.creation import tensor
from ...autograd.dtypes import int64
from ...autograd.modes import no_grad
from ...autograd.tensor import Tensor
from ..parameter import UninitializedBuffer, UninitializedParameter, is_lazy
from .batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .instancenorm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from .linear import Linear
from .module import Module

__all__ = [
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "LazyLinear",
]


class LazyModuleMixin(Module):
    """A module with lazy parameters: the first call (or a loaded state) gives them their shapes.

    A subclass names it before the ordinary layer, gives its lazy parameters in `__init__`, materialises them in
    `initialize_parameters(*args of the call)`, and names in `cls_to_become` the class that it then turns into. Make the
    optimizer, and start any initialisation of your own, after a first call with a dummy batch.

    >>> import tapegrad as torch
    >>> layer = torch.nn.LazyLinear(3)
    >>> layer.weight
    <UninitializedParameter>
    >>> layer(torch.zeros(2, 5)).shape
    torch.Size([2, 3])
    >>> layer
    Linear(in_features=5, out_features=3, bias=True)
    """

    cls_to_become: type[Module] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._load_hook = self._register_load_state_dict_pre_hook(self._lazy_load_hook)
        self._initialize_hook = self.register_forward_pre_hook(self._infer_parameters, with_kwargs=True)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Lazy tensors are saved as they are."""
        for name, held in self._state_tensors().items():
            destination[prefix + name] = held if keep_vars or is_lazy(held) else held.detach()

    def _lazy_load_hook(self, state_dict: Any, prefix: str, *_: Any) -> None:
        """Gives lazy tensors the shapes of those that are about to be loaded."""
        for name, held in chain(self._parameters.items(), self._buffers.items()):
            given = state_dict.get(prefix + name)
            if given is not None and is_lazy(held) and not is_lazy(given):
                held.materialize(given.shape)

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Materialises the lazy parameters for a call with these arguments; every subclass defines it."""
        raise NotImplementedError(f"initialize_parameters is not implemented for {type(self).__name__}")

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter or buffer of this module has no shape yet."""
        return any(is_lazy(held) for held in chain(self._parameters.values(), self._buffers.values()))

    def _infer_parameters(self, module: Any, args: Any, kwargs: Any = None) -> None:
        """The forward pre-hook of the first call: initialises, and makes the module an ordinary one."""
        module.initialize_parameters(*args, **(kwargs or {}))
        if module.has_uninitialized_params():
            raise RuntimeError(f"module {self._get_name()} has not been fully initialized")
        module._initialize_hook.remove()
        module._load_hook.remove()
        del module._initialize_hook, module._load_hook
        if module.cls_to_become is not None:
            module.__class__ = module.cls_to_become

    def _replicate_for_data_parallel(self) -> None:
        raise RuntimeError(
            "Modules with uninitialized parameters can't be used with `DataParallel`. "
            "Run a dummy forward pass to correctly initialize the modules"
        )


class _LazyLayer(LazyModuleMixin):
    """What the layers below share: each stands before the ordinary layer that it becomes."""

    _missing: str  # the attribute that is 0 until the first call

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        ordinary: Any = cls.__bases__[-1]
        if cls.cls_to_become is None and not issubclass(ordinary, LazyModuleMixin):
            cls.cls_to_become = ordinary

    def reset_parameters(self) -> None:
        """The ordinary layer's first values, once the shapes are known."""
        if not self.has_uninitialized_params() and getattr(self, self._missing) != 0:
            super().reset_parameters()  # type: ignore[misc]  # the ordinary layer's, the base beside this one

    def _lazy_parameters(self, weight: bool, bias: bool, device: Any, dtype: Any) -> None:
        for name, wanted in (("weight", weight), ("bias", bias)):
            if wanted:
                setattr(self, name, UninitializedParameter(device=device, dtype=dtype))

    def _materialize(self, **shapes: tuple[int, ...]) -> None:
        """Gives the tensors of these names, those that are None left out, their shapes; then draws the values."""
        with no_grad():
            for name, shape in shapes.items():
                held = getattr(self, name)
                if held is not None:
                    held.materialize(shape)
            self.reset_parameters()


class LazyLinear(_LazyLayer, Linear):
    """A Linear whose in_features is the last extent of its first input. input: (*, in) -> (*, out_features)."""

    _missing = "in_features"

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None):
        super().__init__(0, 0, False)
        self.out_features = out_features
        self._lazy_parameters(True, bias, device, dtype)

    def initialize_parameters(self, input: Tensor) -> None:
        if self.has_uninitialized_params():
            self.in_features = input.shape[-1]
            self._materialize(weight=(self.out_features, self.in_features), bias=(self.out_features,))
        if self.in_features == 0:  # the shapes came from a loaded state
            if input.shape[-1] != self.weight.shape[-1]:
                raise AssertionError(
                    f"The in_features inferred from input: {input.shape[-1]} is not equal to in_features from "
                    f"self.weight: {self.weight.shape[-1]}"
                )
            self.in_features = input.shape[-1]


class _LazyConvNd(_LazyLayer):
    """What the lazy convolutions share; `rank`, `transposed`, ... come from the ordinary layer beside it."""

    _missing = "in_channels"
    rank: int
    transposed: bool
    groups: int
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    bias: Any

    def initialize_parameters(self, input: Tensor, *args: Any, **kwargs: Any) -> None:
        if not self.has_uninitialized_params():
            return
        self.in_channels = self._get_in_channels(input)
        if self.in_channels % self.groups != 0:
            raise ValueError("in_channels must be divisible by groups")
        first, second = self.out_channels, self.in_channels
        if self.transposed:
            first, second = second, first
        self._materialize(weight=(first, second // self.groups, *self.kernel_size), bias=(self.out_channels,))

    def _get_in_channels(self, input: Tensor) -> int:
        n = self.rank
        if input.dim() not in (n + 1, n + 2):
            raise RuntimeError(
                f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {type(self).__name__}, but "
                f"got input of size: {input.shape}"
            )
        return input.shape[input.dim() - n - 1]

    def _get_num_spatial_dims(self) -> int:
        return self.rank


class _LazyConv(_LazyConvNd):
    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__(0, 0, kernel_size, stride, padding, dilation, groups, False, padding_mode, device, dtype)
        self.out_channels = out_channels
        self._lazy_parameters(True, bias, device, dtype)


class _LazyConvTranspose(_LazyConvNd):
    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__(
            0, 0, kernel_size, stride, padding, output_padding, groups, False, dilation, padding_mode, device, dtype
        )
        self.out_channels = out_channels
        self._lazy_parameters(True, bias, device, dtype)


class LazyConv1d(_LazyConv, Conv1d):
    """A Conv1d that takes in_channels from its first input. input: (N, C, L) or (C, L) -> out_channels for C, L'."""


class LazyConv2d(_LazyConv, Conv2d):
    """A Conv2d that takes in_channels from its first input. input: (N, C, H, W) or without N, as Conv2d.

    >>> import tapegrad as torch
    >>> layer = torch.nn.LazyConv2d(8, 3)
    >>> layer(torch.zeros(1, 3, 5, 5)).shape, layer.in_channels
    (torch.Size([1, 8, 3, 3]), 3)
    """


class LazyConv3d(_LazyConv, Conv3d):
    """A Conv3d that takes in_channels from its first input. input: (N, C, D, H, W) or without N, as Conv3d."""


class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d):
    """A ConvTranspose1d that takes in_channels from its first input. input: (N, C, L) or (C, L)."""


class LazyConvTranspose2d(_LazyConvTranspose, ConvTranspose2d):
    """A ConvTranspose2d that takes in_channels from its first input. input: (N, C, H, W) or without N."""


class LazyConvTranspose3d(_LazyConvTranspose, ConvTranspose3d):
    """A ConvTranspose3d that takes in_channels from its first input. input: (N, C, D, H, W) or without N."""


class _LazyNormBase(_LazyLayer):
    """What the lazy normalisations share: num_features is the extent of dimension 1 of the first input."""

    _missing = "num_features"
    num_features: int

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__(0, eps, momentum, False, False, device, dtype, bias=False)
        self.affine = affine
        self.track_running_stats = track_running_stats
        self._lazy_parameters(affine, affine and bias, device, dtype)
        if track_running_stats:
            self.running_mean = UninitializedBuffer(device=device, dtype=dtype)
            self.running_var = UninitializedBuffer(device=device, dtype=dtype)
            self.num_batches_tracked = tensor(0, dtype=int64, device=device)

    def initialize_parameters(self, input: Tensor) -> None:
        if self.has_uninitialized_params():
            self.num_features = input.shape[1]
            shape = (self.num_features,)
            self._materialize(weight=shape, bias=shape, running_mean=shape, running_var=shape)


class LazyBatchNorm1d(_LazyNormBase, BatchNorm1d):
    """A BatchNorm1d that takes num_features from its first input. (N, C) or (N, C, L) -> same."""


class LazyBatchNorm2d(_LazyNormBase, BatchNorm2d):
    """A BatchNorm2d that takes num_features from its first input. (N, C, H, W) -> same."""


class LazyBatchNorm3d(_LazyNormBase, BatchNorm3d):
    """A BatchNorm3d that takes num_features from its first input. (N, C, D, H, W) -> same."""


class LazyInstanceNorm1d(_LazyNormBase, InstanceNorm1d):
    """An InstanceNorm1d that takes num_features from its first input. (N, C, L) -> same."""


class LazyInstanceNorm2d(_LazyNormBase, InstanceNorm2d):
    """An InstanceNorm2d that takes num_features from its first input. (N, C, H, W) -> same."""


class LazyInstanceNorm3d(_LazyNormBase, InstanceNorm3d):
    """An InstanceNorm3d that takes num_features from its first input. (N, C, D, H, W) -> same."""
