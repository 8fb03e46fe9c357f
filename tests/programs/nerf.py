"""A NeRF-style field (Mildenhall et al. 2020): positional encoding, stratified samples, volume rendering."""

import torch
import torch.nn as nn
import torch.nn.functional as F

relu, sigmoid = F.relu, torch.sigmoid


def positional_encoding(tensor, num_functions=4):
    encoding = [tensor]
    bands = 2.0 ** torch.linspace(0.0, num_functions - 1, num_functions, dtype=tensor.dtype, device=tensor.device)
    for freq in bands:
        for func in [torch.sin, torch.cos]:
            encoding.append(func(tensor * freq))
    return torch.cat(encoding, dim=-1)


class TinyNerf(nn.Module):
    def __init__(self, filter_size=32, num_functions=4):
        super().__init__()
        self.layer1 = nn.Linear(3 + 3 * 2 * num_functions, filter_size)
        self.layer2 = nn.Linear(filter_size, filter_size)
        self.layer3 = nn.Linear(filter_size, 4)

    def forward(self, x):
        return self.layer3(relu(self.layer2(relu(self.layer1(x)))))


def cumprod_exclusive(tensor):
    cumprod = torch.cumprod(tensor, -1)
    cumprod = torch.roll(cumprod, 1, -1)
    cumprod[..., 0] = 1.0
    return cumprod


def render(field, origins, directions, near=1.0, far=3.0, count=16):
    depth = torch.linspace(near, far, count).to(origins)
    noise = torch.rand(list(origins.shape[:-1]) + [count]).to(origins)
    depth = depth + noise * (far - near) / count
    points = origins[..., None, :] + directions[..., None, :] * depth[..., :, None]
    encoded = positional_encoding(points.reshape((-1, 3)))
    chunks = [encoded[i : i + 1024] for i in range(0, encoded.shape[0], 1024)]
    raw = torch.cat([field(chunk) for chunk in chunks], dim=0)
    raw = raw.reshape(list(points.shape[:-1]) + [4])
    sigma, rgb = F.softplus(raw[..., 3]), sigmoid(raw[..., :3])
    far_away = torch.tensor([1e10], dtype=origins.dtype).expand(depth[..., :1].shape)
    dists = torch.cat((depth[..., 1:] - depth[..., :-1], far_away), dim=-1)
    alpha = 1.0 - torch.exp(-sigma * dists)
    weights = alpha * cumprod_exclusive(1.0 - alpha + 1e-10)
    return (weights[..., None] * rgb).sum(dim=-2), (weights * depth).sum(dim=-1)


def main(steps=20):
    torch.manual_seed(9458)
    model = TinyNerf()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(steps):
        angle = torch.rand(()) * 2 * torch.pi
        origin = torch.stack([2 * torch.cos(angle), 2 * torch.sin(angle), torch.tensor(0.5)])
        u, v = torch.meshgrid(torch.linspace(-0.5, 0.5, 8), torch.linspace(-0.5, 0.5, 8), indexing="xy")
        side = torch.linalg.cross(origin, torch.tensor([0.0, 0.0, 1.0]))
        directions = F.normalize(-origin + u[..., None] * side + v[..., None] * torch.tensor([0.0, 0.0, 2.0]), dim=-1)
        inside = (u.square() + v.square()) < 0.09
        target = torch.where(inside[..., None], 0.5 + 0.5 * directions, torch.zeros(3))
        rgb, _ = render(model, origin.expand(directions.shape), directions)
        loss = F.mse_loss(rgb, target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    print(main())
