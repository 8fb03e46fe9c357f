"""Fits a straight line by gradient descent on the mean squared error."""

import tapegrad as torch

torch.manual_seed(0)
x = torch.linspace(-1, 1, 100).reshape(-1, 1)
y = 3 * x + 0.5 + 0.1 * torch.randn(100, 1)

model = torch.nn.Linear(1, 1)
criterion = torch.nn.MSELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for epoch in range(200):
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (epoch + 1) % 50 == 0:
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}")

slope, offset = model.weight.item(), model.bias.item()
print(f"y = {slope:.3f} x + {offset:.3f}")
assert abs(slope - 3) < 0.1 and abs(offset - 0.5) < 0.1
