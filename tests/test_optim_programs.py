"""Optimizers and schedules as programs write them on top of ours, beside the same on PyTorch."""

from __future__ import annotations

import importlib

import pytest
from both import Programs

programs = Programs()


def regression(T):
    """(model, closure that leaves gradients, and the loss) of a small regression."""
    net = T.nn.Sequential(T.nn.Linear(3, 4), T.nn.Tanh(), T.nn.Linear(4, 1)).double()
    with T.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_((T.arange(p.numel(), dtype=T.float64).reshape(p.shape) + i).sin())
    x = T.arange(15.0, dtype=T.float64).reshape(5, 3).cos()

    def closure():
        net.zero_grad()
        loss = T.nn.functional.mse_loss(net(x), x.sum(1, keepdim=True))
        loss.backward()
        return loss

    return net, closure


@programs
def sharpness_aware(T):
    """An optimizer around another one, which shares its groups: two gradients a step."""

    class Sharpness(T.optim.Optimizer):
        def __init__(self, params, base, rho=0.05, **options):
            super().__init__(params, {"rho": rho, **options})
            self.base = base(self.param_groups, **options)
            self.param_groups = self.base.param_groups
            self.defaults.update(self.base.defaults)

        @T.no_grad()
        def step(self, closure):
            closure = T.enable_grad()(closure)
            loss = closure()
            params = [p for group in self.param_groups for p in group["params"]]
            norm = T.norm(T.stack([p.grad.norm(p=2) for p in params]), p=2)
            for p in params:
                self.state[p]["old"] = p.data.clone()
                p.add_(p.grad, alpha=self.defaults["rho"] / (norm.item() + 1e-12))
            closure()
            for p in params:
                p.data = self.state[p]["old"]
            self.base.step()
            return loss

    net, closure = regression(T)
    optimizer = Sharpness(net.parameters(), T.optim.SGD, lr=0.1, momentum=0.9)
    scheduler = T.optim.lr_scheduler.MultiStepLR(optimizer, [3])
    losses = []
    for _ in range(6):
        losses.append(optimizer.step(closure).item())
        scheduler.step()
    return losses, net.state_dict(), optimizer.param_groups[0]["lr"], list(optimizer.param_groups[0])


@programs
def lookahead(T):
    """Slow weights beside an optimizer's own, in its state."""
    net, closure = regression(T)
    optimizer = T.optim.Adam(net.parameters(), lr=0.05)
    losses = []
    for i in range(7):
        losses.append(closure().item())
        optimizer.step()
        for group in optimizer.param_groups:
            for p in group["params"]:
                state = optimizer.state[p]
                slow = state.setdefault("slow_buffer", T.empty_like(p.data).copy_(p.data))
                if i % 3 == 2:
                    slow.add_(p.data - slow, alpha=0.5)
                    p.data.copy_(slow)
    return losses, optimizer.state_dict()


@programs
def sign_momentum(T):
    """Lion, as its authors write it."""

    class Lion(T.optim.Optimizer):
        def __init__(self, params, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1):
            super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

        @T.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                beta1, beta2 = group["betas"]
                for p in filter(lambda p: p.grad is not None, group["params"]):
                    state = self.state[p]
                    if len(state) == 0:
                        state["exp_avg"] = T.zeros_like(p, memory_format=T.preserve_format)
                    average = state["exp_avg"]
                    p.data.mul_(1 - group["lr"] * group["weight_decay"])
                    update = average.clone().mul_(beta1).add_(p.grad, alpha=1 - beta1).sign_()
                    p.add_(update, alpha=-group["lr"])
                    average.mul_(beta2).add_(p.grad, alpha=1 - beta2)

    net, closure = regression(T)
    decay = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    optimizer = Lion([{"params": decay}, {"params": rest, "weight_decay": 0.0}])
    losses = []
    for _ in range(5):
        losses.append(closure().item())
        optimizer.step()
    return losses, optimizer.state_dict()


@programs
def gradual_warmup(T):
    """A schedule around another one, as programs write it on top of _LRScheduler."""
    module = importlib.import_module(f"{T.__name__}.optim.lr_scheduler")

    class Warmup(module._LRScheduler):
        def __init__(self, optimizer, multiplier, total_epoch, after):
            self.multiplier, self.total_epoch, self.after, self.finished = multiplier, total_epoch, after, False
            super().__init__(optimizer)

        def get_lr(self):
            if self.last_epoch <= self.total_epoch:
                return [b * ((self.multiplier - 1.0) * self.last_epoch / self.total_epoch + 1.0) for b in self.base_lrs]
            if not self.finished:
                self.after.base_lrs = [b * self.multiplier for b in self.base_lrs]
                self.finished = True
            return self.after.get_last_lr()

        def step(self, epoch=None):
            if self.finished:
                self.after.step(epoch)
                self._last_lr = self.after.get_last_lr()
            else:
                super().step(epoch)

    net, closure = regression(T)
    optimizer = T.optim.SGD(net.parameters(), lr=0.01, nesterov=True, momentum=0.9)
    scheduler = Warmup(optimizer, 8, 4, T.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10))
    rates = []
    for _ in range(12):
        closure()
        optimizer.step()
        scheduler.step()
        rates.append((scheduler.get_last_lr(), optimizer.param_groups[0]["lr"]))
    return rates, net.state_dict()


@programs
def inverse_root(T):
    """The Transformer's schedule, set by hand around Adam; and accumulated, clipped gradients."""
    net, closure = regression(T)
    optimizer = T.optim.Adam(net.parameters(), lr=0.0, betas=(0.9, 0.98), eps=1e-9)
    seen = []
    for step in range(1, 8):
        rate = 16**-0.5 * min(step**-0.5, step * 4**-1.5)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = closure()
        norm = T.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
        seen.append((rate, loss.item(), norm.item()))
    return seen, net.state_dict()


@pytest.mark.parametrize("name", programs)
def test_as_in_torch(name):
    programs.check(name)
