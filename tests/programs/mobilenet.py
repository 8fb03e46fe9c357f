"""MobileNetV2's inverted residuals with depthwise convolutions, and squeeze-and-excitation with hard activations."""

import torch
from torch import nn


class ConvBNAct(nn.Sequential):
    def __init__(self, inp, out, kernel_size=3, stride=1, groups=1, activation=nn.ReLU6):
        super().__init__(
            nn.Conv2d(inp, out, kernel_size, stride, (kernel_size - 1) // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out),
            activation(inplace=True),
        )


class SqueezeExcitation(nn.Module):
    def __init__(self, channels, squeeze=4):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // squeeze, 1)
        self.fc2 = nn.Conv2d(channels // squeeze, channels, 1)

    def forward(self, x):
        scale = x.mean([2, 3], keepdim=True)
        scale = nn.functional.hardsigmoid(self.fc2(nn.functional.relu(self.fc1(scale))))
        return scale * x


class InvertedResidual(nn.Module):
    def __init__(self, inp, out, stride, expand, attention=False):
        super().__init__()
        hidden = int(round(inp * expand))
        self.use_res_connect = stride == 1 and inp == out
        layers = [ConvBNAct(inp, hidden, kernel_size=1)] if expand != 1 else []
        layers.append(ConvBNAct(hidden, hidden, stride=stride, groups=hidden, activation=nn.Hardswish))
        if attention:
            layers.append(SqueezeExcitation(hidden))
        layers += [nn.Conv2d(hidden, out, 1, 1, 0, bias=False), nn.BatchNorm2d(out)]
        self.conv = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        settings = [(8, 1, 1, False), (12, 2, 3, True), (12, 1, 3, True), (16, 2, 3, False)]
        features, channels = [ConvBNAct(3, 8, stride=1)], 8
        for out, stride, expand, attention in settings:
            features.append(InvertedResidual(channels, out, stride, expand, attention))
            channels = out
        self.features = nn.Sequential(*features, ConvBNAct(channels, 32, kernel_size=1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(32, num_classes))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out")
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
            elif isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, 0, 0.01)
                nn.init.zeros_(m.bias)

    def forward(self, x):
        return self.classifier(self.features(x).mean([2, 3]))


def main(steps=20):
    torch.manual_seed(5)
    model = MobileNet()
    optimizer = torch.optim.Adamax(model.parameters(), lr=2e-3)
    patterns = torch.rand(10, 3, 16, 16)
    losses = []
    for _ in range(steps):
        target = torch.randint(0, 10, (16,))
        images = patterns[target] + 0.2 * torch.randn(16, 3, 16, 16)
        loss = nn.functional.cross_entropy(model(images), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


if __name__ == "__main__":
    print(main())
