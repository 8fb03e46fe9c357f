"""A 2-4-1 sigmoid network learns XOR; its gradients, derived by hand, are compared with the engine's."""

import tapegrad as torch

torch.manual_seed(1)
x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
y = torch.tensor([[0.0], [1.0], [1.0], [0.0]])

w1 = torch.randn(2, 4, requires_grad=True)
b1 = torch.zeros(4, requires_grad=True)
w2 = torch.randn(4, 1, requires_grad=True)
b2 = torch.zeros(1, requires_grad=True)


def by_hand(h, out):
    """The gradients of mean((out - y)^2): chain rule, layer by layer. sigmoid' = s (1 - s)."""
    d_out = 2 * (out - y) / y.numel() * out * (1 - out)
    d_h = d_out @ w2.t() * h * (1 - h)
    return x.t() @ d_h, d_h.sum(0), h.t() @ d_out, d_out.sum(0)


for epoch in range(2000):
    h = torch.sigmoid(x @ w1 + b1)
    out = torch.sigmoid(h @ w2 + b2)
    loss = ((out - y) ** 2).mean()
    loss.backward()
    with torch.no_grad():
        for p, expected in zip((w1, b1, w2, b2), by_hand(h, out), strict=True):
            assert torch.allclose(p.grad, expected, rtol=1e-4, atol=1e-7), (epoch, p.grad, expected)
            p -= 5.0 * p.grad
            p.grad.zero_()
    if (epoch + 1) % 500 == 0:
        print(f"epoch {epoch + 1}: loss {loss.item():.5f}")

print("predictions:", [round(v, 3) for v in out.detach().flatten().tolist()])
print("the engine's gradients equalled the ones derived by hand in every step")
assert loss.item() < 0.01
