"""A vision transformer (Dosovitskiy et al. 2021) from nn.TransformerEncoder: patches, class token, stochastic depth."""

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, parameters_to_vector


class PatchEmbedding(nn.Module):
    def __init__(self, size, patch, channels, width):
        super().__init__()
        self.count = (size // patch) ** 2
        self.proj = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class MLP(nn.Sequential):
    def __init__(self, width, hidden):
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, width))


class Block(nn.Module):
    def __init__(self, width, heads, drop_path):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.MultiheadAttention(width, heads, dropout=0.1, batch_first=True)
        self.mlp = MLP(width, 2 * width)
        self.drop_path = drop_path

    def drop(self, x):
        if not self.training or self.drop_path == 0:
            return x
        keep = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1 - self.drop_path)
        return x * keep.div_(1 - self.drop_path)

    def forward(self, x):
        y = self.norm1(x)
        y, _ = self.attn(y, y, y, need_weights=False)
        x = x + self.drop(y)
        return x + self.drop(self.mlp(self.norm2(x)))


class ViT(nn.Module):
    def __init__(self, size=16, patch=4, width=32, depth=2, heads=4, classes=10):
        super().__init__()
        self.embed = PatchEmbedding(size, patch, 3, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, self.embed.count + 1, width).normal_(std=0.02))
        self.blocks = nn.Sequential(*[Block(width, heads, 0.1 * i) for i in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        x = self.embed(x)
        cls = self.cls_token.expand(x.shape[0], -1, -1)
        x = torch.cat((cls, x), dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


def main(steps=20):
    torch.manual_seed(11)
    model = ViT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    criterion = nn.CrossEntropyLoss()
    patterns = torch.rand(10, 3, 16, 16)
    losses = []
    for _ in range(steps):
        target = torch.randint(0, 10, (16,))
        images = patterns[target] + 0.1 * torch.randn(16, 3, 16, 16)
        mixed = 0.8 * images + 0.2 * images.flip(0)
        logits = model(mixed)
        loss = 0.8 * criterion(logits, target) + 0.2 * criterion(logits, target.flip(0))
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses + [parameters_to_vector(model.parameters()).norm().item()]


if __name__ == "__main__":
    print(main())
