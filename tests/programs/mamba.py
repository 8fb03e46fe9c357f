"""A selective state-space layer (Gu and Dao 2023): depthwise convolution, sequential scan, tied weights."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import einsum


class MambaBlock(nn.Module):
    def __init__(self, d_model, d_state=4, d_conv=4, expand=2, dt_rank=2):
        super().__init__()
        self.d_inner, self.dt_rank, self.d_state = expand * d_model, dt_rank, d_state
        self.in_proj = nn.Linear(d_model, self.d_inner * 2, bias=False)
        self.conv1d = nn.Conv1d(
            in_channels=self.d_inner, out_channels=self.d_inner, bias=True, kernel_size=d_conv, groups=self.d_inner,
            padding=d_conv - 1,
        )  # fmt: skip
        self.x_proj = nn.Linear(self.d_inner, dt_rank + d_state * 2, bias=False)
        self.dt_proj = nn.Linear(dt_rank, self.d_inner, bias=True)
        A = torch.arange(1, d_state + 1, dtype=torch.float32).repeat(self.d_inner, 1)
        self.A_log = nn.Parameter(torch.log(A))
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(self, x):
        (b, length, d) = x.shape
        (x, res) = self.in_proj(x).split(split_size=[self.d_inner, self.d_inner], dim=-1)
        x = self.conv1d(x.transpose(1, 2))[:, :, :length].transpose(1, 2)
        x = F.silu(x)
        return self.out_proj(self.ssm(x) * F.silu(res))

    def ssm(self, x):
        A = -torch.exp(self.A_log.float())
        (delta, B, C) = self.x_proj(x).split(split_size=[self.dt_rank, self.d_state, self.d_state], dim=-1)
        delta = F.softplus(self.dt_proj(delta))
        deltaA = torch.exp(einsum("bld,dn->bldn", delta, A))
        deltaB_u = einsum("bld,bln,bld->bldn", delta, B, x)
        state = torch.zeros((x.shape[0], self.d_inner, self.d_state), device=deltaA.device)
        ys = []
        for i in range(x.shape[1]):
            state = deltaA[:, i] * state + deltaB_u[:, i]
            ys.append(einsum("bdn,bn->bd", state, C[:, i, :]))
        return torch.stack(ys, dim=1) + x * self.D.float()


class Mamba(nn.Module):
    def __init__(self, vocab=17, d_model=16, n_layer=2):
        super().__init__()
        self.embedding = nn.Embedding(vocab, d_model)
        self.layers = nn.ModuleList([MambaBlock(d_model) for _ in range(n_layer)])
        self.norms = nn.ModuleList([nn.RMSNorm(d_model, eps=1e-5) for _ in range(n_layer)])
        self.norm_f = nn.RMSNorm(d_model, eps=1e-5)
        self.lm_head = nn.Linear(d_model, vocab, bias=False)
        self.lm_head.weight = self.embedding.weight

    def forward(self, input_ids):
        x = self.embedding(input_ids)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = layer(norm(x)) + x
        return self.lm_head(self.norm_f(x))


def main(steps=20):
    torch.manual_seed(13)
    model = Mamba()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        first = torch.randint(0, 17, (8, 1))
        tokens = torch.cumsum(torch.cat([first, torch.randint(1, 3, (8, 12))], dim=1), dim=1) % 17
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.reshape(-1, 17), tokens[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    print(main())
