"""Separates two clouds of points with p = 1 / (1 + exp(-x w - b)), written out, and BCELoss."""

import tapegrad as torch

torch.manual_seed(0)
x = torch.cat([torch.randn(100, 2) + 1.5, torch.randn(100, 2) - 1.5])
y = torch.cat([torch.ones(100, 1), torch.zeros(100, 1)])

w = torch.zeros(2, 1, requires_grad=True)
b = torch.zeros(1, requires_grad=True)
criterion = torch.nn.BCELoss()
optimizer = torch.optim.SGD([w, b], lr=0.5)

for epoch in range(100):
    p = 1 / (1 + torch.exp(-(x @ w + b)))
    loss = criterion(p, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (epoch + 1) % 25 == 0:
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}")

with torch.no_grad():
    p = 1 / (1 + torch.exp(-(x @ w + b)))
    right = ((p > 0.5) == (y > 0.5)).float().mean().item()
print(f"accuracy {right:.3f}")
assert right > 0.95
