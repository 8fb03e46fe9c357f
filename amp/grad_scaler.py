"""GradScaler: multiplies the loss, so that gradients in a half precision do not vanish, and divides before a step."""

from __future__ import annotations

import math
import warnings
from typing import Any

from ..autograd import api as T
from ..autograd.modes import no_grad
from ..autograd.tensor import Tensor

_READY, _UNSCALED, _STEPPED = range(3)


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
            self._init_scale = self._factor = float(init_scale)
            self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
            self._growth_interval, self._growth_tracker = growth_interval, 0
            self._used = False
            self._optimizers: dict[int, dict[str, Any]] = {}

    def scale(self, outputs: Any) -> Any:
        """A tensor, or each of a list or tuple (nested), times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            self._used = True
            return outputs * T.tensor(self._factor, device=outputs.device)
        if isinstance(outputs, (list, tuple)):
            return type(outputs)([self.scale(item) for item in outputs])
        if hasattr(outputs, "__iter__"):
            return map(self.scale, outputs)
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def _of(self, optimizer: Any) -> dict[str, Any]:
        return self._optimizers.setdefault(id(optimizer), {"stage": _READY, "found_inf": None})

    def _check_scaled(self, name: str) -> None:
        if not self._used:
            raise AssertionError(
                f"Attempted {name} but _scale is None.  This may indicate your script did not use scaler.scale(loss or "
                "outputs) earlier in the iteration."
            )

    def unscale_(self, optimizer: Any) -> None:
        """Divides the gradients of an optimizer's parameters by the scale; for clipping between backward and step.

        RuntimeError the second time before `update`, and after `step`; ValueError for float16 gradients.
        """
        if not self._enabled:
            return
        self._check_scaled("unscale_")
        own = self._of(optimizer)
        if own["stage"] == _UNSCALED:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if own["stage"] == _STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        own["found_inf"] = self._unscale(optimizer)
        own["stage"] = _UNSCALED

    def _unscale(self, optimizer: Any) -> bool | None:
        """Divides the gradients; whether one is infinite or NaN, None where there is no gradient."""
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        found = None
        with no_grad():
            for grad in grads:
                if grad.dtype.name == "float16":
                    raise ValueError("Attempting to unscale FP16 gradients.")
                found = bool(found) or not bool(T.isfinite(grad).all())
                grad.mul_(1.0 / self._factor)
        return found

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """`optimizer.step(*args)` on the divided gradients, unless one is infinite or NaN: then None."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        self._check_scaled("step")
        own = self._of(optimizer)
        if own["stage"] == _STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if own["stage"] == _READY:
            self.unscale_(optimizer)
        if own["found_inf"] is None:
            raise AssertionError("No inf checks were recorded for this optimizer.")
        result = None if own["found_inf"] else optimizer.step(*args, **kwargs)
        own["stage"] = _STEPPED
        return result

    def update(self, new_scale: Any = None) -> None:
        """The next scale, from what the steps since the last update found, or as given."""
        if not self._enabled:
            return
        self._check_scaled("update")
        found = [own["found_inf"] for own in self._optimizers.values() if own["found_inf"] is not None]
        if new_scale is not None:
            self._factor = float(new_scale)
        else:
            if not found:
                raise AssertionError("No inf checks were recorded prior to update.")
            self._adapt(any(found))
        self._optimizers = {}

    def _adapt(self, overflowed: bool) -> None:
        if overflowed:
            self._factor *= self._backoff_factor
            self._growth_tracker = 0
            return
        self._growth_tracker += 1
        if self._growth_tracker == self._growth_interval:
            grown = self._factor * self._growth_factor
            if math.isfinite(grown) and grown < 2.0**128:  # as a float32 holds it
                self._factor = grown
            self._growth_tracker = 0

    def get_scale(self) -> float:
        """The scale; 1 where the scaler is off."""
        return self._factor if self._enabled else 1.0

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

    def is_enabled(self) -> bool:
        """Whether the scaler does anything."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """The scale and its settings; empty where the scaler is off."""
        if not self._enabled:
            return {}
        return {
            "scale": self._factor, "growth_factor": self._growth_factor, "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval, "_growth_tracker": self._growth_tracker,
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what `state_dict` gave. RuntimeError for an empty one, which a switched-off scaler wrote."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "The source state dict is empty, possibly because it was saved from a disabled instance of GradScaler."
            )
        self._factor = self._init_scale = float(state_dict["scale"])
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval, self._growth_tracker = state_dict["growth_interval"], state_dict["_growth_tracker"]
