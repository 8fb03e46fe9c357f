"""RealNVP (Dinh et al. 2017) on two half moons: affine couplings, change of variables, a distribution as the base."""

import torch
import torch.nn as nn
from torch.distributions import MultivariateNormal
from torch.distributions.normal import Normal


class Coupling(nn.Module):
    def __init__(self, mask, hidden=32):
        super().__init__()
        self.register_buffer("mask", mask)
        self.scale = nn.Sequential(nn.Linear(2, hidden), nn.LeakyReLU(), nn.Linear(hidden, 2), nn.Tanh())
        self.shift = nn.Sequential(nn.Linear(2, hidden), nn.LeakyReLU(), nn.Linear(hidden, 2))

    def forward(self, x):
        kept = x * self.mask
        s, t = self.scale(kept) * (1 - self.mask), self.shift(kept) * (1 - self.mask)
        return kept + (1 - self.mask) * (x * torch.exp(s) + t), s.sum(dim=1)

    def inverse(self, z):
        kept = z * self.mask
        s, t = self.scale(kept) * (1 - self.mask), self.shift(kept) * (1 - self.mask)
        return kept + (1 - self.mask) * (z - t) * torch.exp(-s)


class RealNVP(nn.Module):
    def __init__(self, layers=4):
        super().__init__()
        masks = [torch.tensor([float(i % 2), float((i + 1) % 2)]) for i in range(layers)]
        self.layers = nn.ModuleList(Coupling(mask) for mask in masks)
        self.prior = MultivariateNormal(torch.zeros(2), torch.eye(2))

    def log_prob(self, x):
        total = x.new_zeros(x.shape[0])
        for layer in reversed(self.layers):
            x, log_det = layer(x)
            total += log_det
        return self.prior.log_prob(x) + total

    def sample(self, count):
        x = self.prior.sample((count,))
        for layer in self.layers:
            x = layer.inverse(x)
        return x


def moons(count):
    t = torch.pi * torch.rand(count)
    upper = torch.rand(count) < 0.5
    x = torch.where(upper, torch.cos(t), 1 - torch.cos(t))
    y = torch.where(upper, torch.sin(t), 0.5 - torch.sin(t))
    return torch.stack([x, y], dim=-1) + Normal(0.0, 0.05).sample((count, 2))


def main(steps=20):
    torch.manual_seed(9)
    flow = RealNVP()
    optimizer = torch.optim.Adam([p for p in flow.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(steps):
        loss = -flow.log_prob(moons(128)).mean()
        optimizer.zero_grad()
        loss.backward(retain_graph=False)
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        losses.append(flow.sample(64).std().item())
    return losses


if __name__ == "__main__":
    print(main())
