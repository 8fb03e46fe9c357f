"""L-BFGS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..autograd.modes import enable_grad, no_grad
from ..autograd.tensor import Tensor, wrap
from ..autograd.versions import mark_written
from ..backends.registry import backend_of
from .elementwise import check_options, number
from .line_search import Point, strong_wolfe
from .optimizer import Optimizer, State

__all__ = ["LBFGS"]


class _History:
    """The last pairs of gradient change y and step s, and what they say about the inverse Hessian.

    Nocedal, Wright: Numerical Optimization, Algorithm 7.4 (two-loop recursion).
    """

    def __init__(self, xp: Any, size: int, state: State):
        self.xp, self.size = xp, size
        self.y = [t.array for t in state.get("old_dirs") or ()]
        self.s = [t.array for t in state.get("old_stps") or ()]
        self.ro = [number(value) for value in state.get("ro") or ()]
        self.scale = number(state.get("H_diag", 1.0))
        self.al: list[float] = []

    def clear(self) -> None:
        self.y, self.s, self.ro, self.scale = [], [], [], 1.0

    def add(self, y: Any, s: Any) -> None:
        """Remembers a pair, and forgets the oldest, unless the curvature along it is not positive."""
        ys = float(y @ s)
        if ys > 1e-10:
            for kept, new in ((self.y, y), (self.s, s), (self.ro, 1.0 / ys)):
                if len(kept) == self.size:
                    kept.pop(0)
                kept.append(new)
            self.scale = ys / float(y @ y)

    def direction(self, g: Any) -> Any:
        """-H g (n,), H the approximate inverse Hessian."""
        d = -g
        work = self.xp.empty_like(d)
        self.al = [0.0] * len(self.y)
        for i in range(len(self.y) - 1, -1, -1):
            self.al[i] = float(self.s[i] @ d) * self.ro[i]
            d -= self.xp.multiply(self.y[i], self.al[i], out=work)
        d *= self.scale
        for i in range(len(self.y)):
            be = float(self.y[i] @ d) * self.ro[i]
            d += self.xp.multiply(self.s[i], self.al[i] - be, out=work)
        return d

    def save(self, state: State, like: Any, d: Any, t: float) -> None:
        """Puts the pairs, the direction d (n,) and the step length t into the state, under PyTorch's names."""

        def scalar(value: float) -> Tensor:
            return wrap(self.xp.full_like(like, value, shape=()))

        if self.al:
            state["al"] = [scalar(value) for value in self.al] + [None] * (self.size - len(self.al))
        state["d"], state["t"] = wrap(d), t
        state["old_dirs"] = [wrap(y) for y in self.y]
        state["old_stps"] = [wrap(s) for s in self.s]
        state["ro"] = [scalar(value) for value in self.ro]
        state["H_diag"] = scalar(self.scale) if self.y else 1


class LBFGS(Optimizer):
    """L-BFGS over all parameters as one vector; `step` needs a closure and takes up to `max_iter` iterations.

    Arguments, defaults and state are PyTorch's; line_search_fn: None or "strong_wolfe". One parameter group only.

    >>> import tapegrad as torch
    >>> x = torch.zeros(2, requires_grad=True)
    >>> optimizer = torch.optim.LBFGS([x], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = ((x - 3) ** 2).sum()
    ...     loss.backward()
    ...     return loss
    >>> optimizer.step(closure)
    tensor(18., grad_fn=<SumBackward0>)
    >>> x
    tensor([3., 3.], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        check_options(lr=lr)
        if max_eval is None:
            max_eval = max_iter * 5 // 4
        defaults = {
            "lr": lr, "max_iter": max_iter, "max_eval": max_eval, "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change, "history_size": history_size, "line_search_fn": line_search_fn,
        }  # fmt: skip
        super().__init__(params, defaults)
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    @property
    def _params(self) -> list[Tensor]:
        return self.param_groups[0]["params"]

    def _flat_grad(self) -> Any:
        """All gradients as one new vector (n,): zeros where there is none, complex ones as (real, imaginary) pairs."""
        xp = backend_of(self._params[0].array).xp
        parts = []
        for p in self._params:
            grad = p.grad.to_dense() if p.grad is not None and p.grad.is_sparse else p.grad
            flat = (xp.zeros_like(p.array) if grad is None else grad.array).reshape(-1)
            parts.append(_as_real(xp.ascontiguousarray(flat)))
        return xp.concatenate(parts)

    def _move(self, t: float, d: Any) -> None:
        """Every parameter += t * its part of d (n,)."""
        start = 0
        for p in self._params:
            array = p.array
            stop = start + array.size * (2 if array.dtype.kind == "c" else 1)
            part = d[start:stop] * t
            if array.dtype.kind == "c":
                part = part.view(f"c{2 * part.itemsize}")
            array += part.reshape(array.shape)  # d has the widest dtype of all parameters
            start = stop
        mark_written(*self._params)

    def _restore(self, saved: list[Any]) -> None:
        for p, array in zip(self._params, saved, strict=True):
            p.array[...] = array
        mark_written(*self._params)

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Up to `max_iter` iterations. closure: clears the gradients, computes the loss and its gradients, returns it.

        Returns the loss at the start.
        """
        with no_grad():
            return self._iterate(enable_grad()(closure))

    def _iterate(self, closure: Callable[[], Any]) -> Any:
        group = self.param_groups[0]
        state = self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        tolerance, lr = group["tolerance_change"], number(group["lr"])
        first_loss = closure()
        loss, g = float(first_loss), self._flat_grad()
        state["func_evals"] += 1
        evaluations = 1
        if not _size(g) > group["tolerance_grad"]:
            return first_loss
        history = _History(backend_of(g).xp, group["history_size"], state)
        d, t, before, loss_before = (_raw(state.get(name)) for name in ("d", "t", "prev_flat_grad", "prev_loss"))
        for n_iter in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                history.clear()
                d, t = -g, min(1.0, 1.0 / float(abs(g).sum())) * lr
            else:
                history.add(g - before, d * t)
                d, t = history.direction(g), lr
            before, loss_before = g, loss
            slope = float(g @ d)
            if slope > -tolerance:
                break
            last = n_iter == group["max_iter"]
            loss, g, t, count = self._search(closure, t, d, Point(0.0, loss, g, slope), evaluations, last)
            evaluations += count
            state["func_evals"] += count
            if last or evaluations >= group["max_eval"] or not _size(g) > group["tolerance_grad"]:
                break
            if _size(d) * t <= tolerance or abs(loss - loss_before) < tolerance:
                break
        history.save(state, g, d, t)
        state["prev_flat_grad"], state["prev_loss"] = wrap(before), loss_before
        return first_loss

    def _search(
        self, closure: Callable[[], Any], t: float, d: Any, start: Point, evaluations: int, last: bool
    ) -> tuple[float, Any, float, int]:
        """Moves along d. Returns the new loss and gradient, the step length, and how often the closure was called.

        Without a line search, the last iteration does not evaluate again: the caller has no use for it.
        """
        group = self.param_groups[0]
        if group["line_search_fn"] is None:
            self._move(t, d)
            if last:
                return start.f, start.g, t, 0
            return float(closure()), self._flat_grad(), t, 1
        if group["line_search_fn"] != "strong_wolfe":
            raise RuntimeError("only 'strong_wolfe' is supported")
        origin = [p.array.copy() for p in self._params]

        def evaluate(t: float) -> tuple[float, Any]:
            self._move(t, d)
            loss, g = float(closure()), self._flat_grad()
            self._restore(origin)
            return loss, g

        point, count = strong_wolfe(evaluate, t, d, start, max_ls=group["max_eval"] - evaluations)
        self._move(point.t, d)
        return point.f, point.g, point.t, count


def _as_real(flat: Any) -> Any:
    """A contiguous vector (n,), complex ones as their (2 n,) real numbers."""
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat


def _raw(value: Any) -> Any:
    """A value of the state as the iteration works with it: vectors as raw arrays, numbers as Python's."""
    if isinstance(value, Tensor):
        return value.array if value.array.ndim else value.item()
    return value


def _size(v: Any) -> float:
    """The largest magnitude in v."""
    return float(abs(v).max())
