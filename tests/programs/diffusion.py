"""Denoising diffusion on points of the plane (Ho et al. 2020): averaged weights, ancestral sampling."""

import copy

import torch
from torch import nn
from torch.nn import functional as F


class SinusoidalEmbedding(nn.Module):
    def __init__(self, size, scale=1.0):
        super().__init__()
        self.size, self.scale = size, scale

    def forward(self, x):
        x = x * self.scale
        half = self.size // 2
        emb = torch.log(torch.Tensor([10000.0])) / (half - 1)
        emb = torch.exp(-emb * torch.arange(half))
        emb = x.unsqueeze(-1) * emb.unsqueeze(0)
        return torch.cat((torch.sin(emb), torch.cos(emb)), dim=-1)


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.ff, self.act = nn.Linear(size, size), nn.GELU()

    def forward(self, x):
        return x + self.act(self.ff(x))


class MLP(nn.Module):
    def __init__(self, hidden=48, layers=2, emb=16):
        super().__init__()
        self.time_mlp = SinusoidalEmbedding(emb)
        self.input_mlp1, self.input_mlp2 = SinusoidalEmbedding(emb, 25.0), SinusoidalEmbedding(emb, 25.0)
        blocks = [nn.Linear(3 * emb, hidden), nn.GELU()] + [Block(hidden) for _ in range(layers)]
        self.joint_mlp = nn.Sequential(*blocks, nn.Linear(hidden, 2))

    def forward(self, x, t):
        parts = self.input_mlp1(x[:, 0]), self.input_mlp2(x[:, 1]), self.time_mlp(t)
        return self.joint_mlp(torch.cat(parts, dim=-1))


class NoiseScheduler:
    def __init__(self, num_timesteps=50, beta_start=0.0001, beta_end=0.02):
        self.num_timesteps = num_timesteps
        self.betas = torch.linspace(beta_start, beta_end, num_timesteps, dtype=torch.float32)
        self.alphas = 1.0 - self.betas
        self.alphas_cumprod = torch.cumprod(self.alphas, axis=0)
        self.sqrt_alphas_cumprod = self.alphas_cumprod**0.5
        self.sqrt_one_minus = (1 - self.alphas_cumprod) ** 0.5

    def add_noise(self, x_start, x_noise, timesteps):
        s1 = self.sqrt_alphas_cumprod[timesteps].reshape(-1, 1)
        s2 = self.sqrt_one_minus[timesteps].reshape(-1, 1)
        return s1 * x_start + s2 * x_noise

    def step(self, noise_pred, t, sample):
        mean = (sample - self.betas[t] / self.sqrt_one_minus[t] * noise_pred) / torch.sqrt(self.alphas[t])
        return mean + (torch.sqrt(self.betas[t]) * torch.randn_like(sample) if t > 0 else 0)


def main(steps=20):
    torch.manual_seed(8)
    model = MLP()
    ema = copy.deepcopy(model).requires_grad_(False)
    scheduler = NoiseScheduler()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    angle = torch.rand(1000) * 2 * torch.pi
    points = torch.stack([torch.cos(angle), torch.sin(angle)], 1) + 0.05 * torch.randn(1000, 2)
    losses = []
    for _ in range(steps):
        batch = points[torch.randperm(1000)[:64]]
        noise = torch.randn(batch.shape)
        timesteps = torch.randint(0, scheduler.num_timesteps, (batch.shape[0],)).long()
        loss = F.mse_loss(model(scheduler.add_noise(batch, noise, timesteps), timesteps), noise)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for slow, fast in zip(ema.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 0.1)
        losses.append(loss.detach().item())
    sample = torch.randn(16, 2)
    with torch.inference_mode():
        for t in reversed(range(scheduler.num_timesteps)):
            sample = scheduler.step(ema(sample, torch.full((16,), t)), t, sample)
    return losses + [sample.norm(dim=1).mean().item()]


if __name__ == "__main__":
    print(main())
