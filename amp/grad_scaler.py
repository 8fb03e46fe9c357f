"""GradScaler: multiplies the loss, so that gradients in a half precision do not vanish, and divides before a step.

The scale, the count of good steps and what was found in the gradients are tensors on the device of the loss: the host
waits once per step, to know whether to make it, and not at all with an optimizer that takes the scale and the finding
itself (`_step_supports_amp_scaling`), which is what a recorded step needs.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

from ..autograd import api as T
from ..autograd.dtypes import float16, float32, float64, int32
from ..autograd.modes import no_grad
from ..autograd.tensor import Tensor
from ..backends.registry import backend_of, kernels_of

_READY, _UNSCALED, _STEPPED = range(3)
_NEW_SCALE = (
    "new_scale should be a float or a 1-element torch.cuda.FloatTensor or torch.FloatTensor with requires_grad=False."
)


class GradScaler:
    """Scales losses by a factor which halves after gradients overflowed and doubles after a while without.

        scaler.scale(loss).backward()
        scaler.step(optimizer)          # divides the gradients; no step where one is infinite or NaN
        scaler.update()

    Args:
        device: where scales live; without that device the scaler switches itself off, with a warning.
        init_scale, growth_factor, backoff_factor, growth_interval: the factor at first, what it is multiplied by when
            `growth_interval` steps went well, and after one that did not.
        enabled: False makes all methods pass things through.
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        self._device, self._enabled = device, enabled
        if device == "cuda" and enabled:
            from ..cuda import is_available

            if not is_available():
                warnings.warn(
                    "torch.cuda.amp.GradScaler is enabled, but CUDA is not available.  Disabling.", stacklevel=2
                )
                self._enabled = False
        if self._enabled:
            if growth_factor <= 1.0:
                raise AssertionError("The growth factor must be > 1.0.")
            if backoff_factor >= 1.0:
                raise AssertionError("The backoff factor must be < 1.0.")
            self._init_scale, self._init_growth_tracker = init_scale, 0
            self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
            self._growth_interval = growth_interval
            self._scale: Tensor | None = None  # () float32, made where the first loss is
            self._growth_tracker: Tensor | None = None  # () int32
            self._optimizers: dict[int, dict[str, Any]] = {}

    def scale(self, outputs: Any) -> Any:
        """A tensor, or each of a list or tuple (nested), times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            if self._scale is None:
                where = outputs.device
                self._scale = T.full((), self._init_scale, dtype=float32, device=where)
                self._growth_tracker = T.full((), self._init_growth_tracker, dtype=int32, device=where)
            return outputs * self._scale.to(outputs.device)
        if isinstance(outputs, (list, tuple)):
            return type(outputs)([self.scale(item) for item in outputs])
        if hasattr(outputs, "__iter__"):
            return map(self.scale, outputs)
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def _of(self, optimizer: Any) -> dict[str, Any]:
        return self._optimizers.setdefault(id(optimizer), {"stage": _READY, "found_inf_per_device": {}})

    def _made(self, name: str) -> tuple[Tensor, Tensor]:
        """The scale and the count of good steps. AssertionError where nothing was scaled yet."""
        for attribute in ("_scale", "_growth_tracker"):
            if getattr(self, attribute) is None:
                raise AssertionError(
                    f"Attempted {name} but {attribute} is None.  This may indicate your script did not use "
                    "scaler.scale(loss or outputs) earlier in the iteration."
                )
        assert self._scale is not None and self._growth_tracker is not None
        return self._scale, self._growth_tracker

    def unscale_(self, optimizer: Any) -> None:
        """Divides the gradients of an optimizer's parameters by the scale; for clipping between backward and step.

        RuntimeError the second time before `update`, and after `step`; ValueError for float16 gradients.
        """
        if not self._enabled:
            return
        scale, _ = self._made("unscale_")
        own = self._of(optimizer)
        if own["stage"] == _UNSCALED:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if own["stage"] == _STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        inverse = scale.to(float64).reciprocal().to(float32)
        own["found_inf_per_device"] = _unscaled(optimizer, inverse, allow_fp16=False)
        own["stage"] = _UNSCALED

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """`optimizer.step(*args)` on the divided gradients, unless one is infinite or NaN: then None.

        An optimizer with `_step_supports_amp_scaling` is asked in any case: it finds `grad_scale` (None where the
        gradients are divided already) and `found_inf` among its attributes. RuntimeError for a closure, and the second
        time before `update`.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        scale, _ = self._made("step")
        own = self._of(optimizer)
        if own["stage"] == _STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            result = self._step_with_scale(optimizer, own, scale, args, kwargs)
        else:
            if own["stage"] == _READY:
                self.unscale_(optimizer)
            found = own["found_inf_per_device"].values()
            if not found:
                raise AssertionError("No inf checks were recorded for this optimizer.")
            result = None if sum(f.item() for f in found) else optimizer.step(*args, **kwargs)
        own["stage"] = _STEPPED
        return result

    def _step_with_scale(
        self, optimizer: Any, own: dict[str, Any], scale: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if "grad_scaler" in inspect.signature(optimizer.step).parameters:
            warnings.warn(
                "GradScaler is going to stop passing itself as a keyword argument to the passed optimizer. In the near "
                "future GradScaler registers `grad_scale: Tensor` and `found_inf: Tensor` to the passed optimizer and "
                "let the optimizer use them directly.",
                FutureWarning,
                stacklevel=3,
            )
            return optimizer.step(*args, **{**kwargs, "grad_scaler": self})
        if own["stage"] == _READY:
            self._check_inf_per_device(optimizer)
        found = [t.to(scale.device) for t in own["found_inf_per_device"].values()]
        before = getattr(optimizer, "grad_scale", None)
        optimizer.grad_scale = before if own["stage"] == _UNSCALED else scale if before is None else scale * before
        optimizer.found_inf = sum(found[1:], found[0]) if found else T.zeros((), device=scale.device)
        try:
            return optimizer.step(*args, **kwargs)
        finally:
            del optimizer.grad_scale, optimizer.found_inf

    def _check_inf_per_device(self, optimizer: Any) -> dict[Any, Tensor]:
        """Looks for infinite gradients without dividing them. -> {device: () float32, 1 where there was one}."""
        scale, _ = self._made("_check_inf_per_device")
        found = _unscaled(optimizer, T.ones((), dtype=float32, device=scale.device), allow_fp16=True)
        self._of(optimizer)["found_inf_per_device"] = found
        return found

    def update(self, new_scale: Any = None) -> None:
        """The next scale, from what the steps since the last update found, or as given (a float, or one element)."""
        if not self._enabled:
            return
        scale, tracker = self._made("update")
        with no_grad():
            if isinstance(new_scale, float):
                scale.fill_(new_scale)
            elif new_scale is not None:
                if new_scale.device.type != self._device or new_scale.numel() != 1 or new_scale.requires_grad:
                    raise AssertionError(_NEW_SCALE)
                scale.copy_(new_scale)
            else:
                found = [f for own in self._optimizers.values() for f in own["found_inf_per_device"].values()]
                if not found:
                    raise AssertionError("No inf checks were recorded prior to update.")
                self._adapt(scale, tracker, sum([f.to(scale.device) for f in found[1:]], found[0].to(scale.device)))
        self._optimizers = {}

    def _adapt(self, scale: Tensor, tracker: Tensor, found: Tensor) -> None:
        """The scale and the count after a step, on the device; the scale never grows to infinity."""
        backend = backend_of(scale.array)
        kernel = kernels_of(backend).get("update_scale")
        if kernel is not None:
            with backend.guard(backend.device_of(scale.array)):
                settings = float(self._growth_factor), float(self._backoff_factor), self._growth_interval
                kernel(scale.array, tracker.array, found.array, *settings)
            return
        overflowed = found > 0
        good = tracker + 1
        grows = good == self._growth_interval
        grown = scale * self._growth_factor
        kept = T.where(grows & T.isfinite(grown), grown, scale)
        scale.copy_(T.where(overflowed, scale * self._backoff_factor, kept))
        tracker.copy_(T.where(overflowed | grows, 0, good))

    def get_scale(self) -> float:
        """The scale; 1 where the scaler is off. Waits for the device."""
        if not self._enabled:
            return 1.0
        return float(self._init_scale) if self._scale is None else self._scale.item()

    def get_growth_factor(self) -> float:
        """What the scale is multiplied by after `growth_interval` good steps."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Sets it."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """What the scale is multiplied by after a step that overflowed."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Sets it."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """How many good steps let the scale grow."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Sets it."""
        self._growth_interval = new_interval

    def _get_growth_tracker(self) -> int:
        if not self._enabled:
            return 0
        return self._init_growth_tracker if self._growth_tracker is None else int(self._growth_tracker.item())

    def is_enabled(self) -> bool:
        """Whether the scaler does anything."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """The scale and its settings; empty where the scaler is off."""
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(), "growth_factor": self._growth_factor, "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval, "_growth_tracker": self._get_growth_tracker(),
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what `state_dict` gave. RuntimeError for an empty one, which a switched-off scaler wrote."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "The source state dict is empty, possibly because it was saved from a disabled instance of GradScaler."
            )
        self._init_scale, self._init_growth_tracker = state_dict["scale"], state_dict["_growth_tracker"]
        if self._scale is not None:
            self._scale.fill_(self._init_scale)
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        if self._growth_tracker is not None:
            self._growth_tracker.fill_(self._init_growth_tracker)

    def __getstate__(self) -> dict[str, Any]:
        """RuntimeError in the middle of an iteration, when optimizers are known by their identity."""
        if not self._enabled:
            return self.__dict__.copy()
        if self._optimizers:
            raise RuntimeError(
                "A GradScaler instance may only be pickled at the beginning of an iteration, or at the end after "
                "scaler.update()."
            )
        made = {"_init_scale": self.get_scale(), "_init_growth_tracker": self._get_growth_tracker()}
        return {**self.__dict__, **made, "_scale": None, "_growth_tracker": None}


def _unscaled(optimizer: Any, inverse: Tensor, allow_fp16: bool) -> dict[Any, Tensor]:
    """Multiplies all gradients by `inverse` (() float32). -> {device: () float32, 1 where one was infinite or NaN}."""
    groups: dict[tuple[Any, type], list[Tensor]] = {}
    for p in [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]:
        if p.grad.dtype is float16 and not allow_fp16:
            raise ValueError("Attempting to unscale FP16 gradients.")
        if p.grad.is_sparse and p.grad.dtype is float16:
            p.grad = p.grad.coalesce()
        grad = p.grad._values() if p.grad.is_sparse else p.grad
        groups.setdefault((grad.device, type(grad.array)), []).append(grad)
    found: dict[Any, Tensor] = {}
    with no_grad():
        for (device, _), grads in groups.items():
            flag = found.setdefault(device, T.zeros((), dtype=float32, device=device))
            _unscale_all(grads, flag, inverse.to(device))
    return found


def _unscale_all(grads: list[Tensor], found: Tensor, inverse: Tensor) -> None:
    """Gradients of one device, in place: by the backend's kernel `unscale_all`, else one after the other."""
    backend = backend_of(grads[0].array)
    kernel = kernels_of(backend).get("unscale_all")
    if kernel is not None:
        with backend.guard(backend.device_of(grads[0].array)):
            if kernel([g.array for g in grads], found.array, inverse.array) is not NotImplemented:
                return
    for grad in grads:
        found.copy_(T.maximum(found, (~T.isfinite(grad)).any().to(float32)))
        grad.mul_(inverse)
