"""VGG from a list of layer widths, with batch norm and dropout, on small pictures."""

import torch
import torch.nn as nn
import torch.nn.functional as F

CONFIG = [8, "M", 16, 16, "M", 32, 32, "M"]


class VGG(nn.Module):
    def __init__(self, features, num_classes=10, dropout=0.5):
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(
            nn.Linear(32 * 2 * 2, 64), nn.ReLU(True), nn.Dropout(p=dropout),
            nn.Linear(64, 64), nn.ReLU(True), nn.Dropout(p=dropout),
            nn.Linear(64, num_classes),
        )  # fmt: skip

    def forward(self, x):
        x = self.avgpool(self.features(x))
        x = torch.flatten(x, 1)
        return self.classifier(x)


def make_layers(cfg, batch_norm=True):
    layers, in_channels = [], 3
    for v in cfg:
        if v == "M":
            layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
            continue
        layers += [nn.Conv2d(in_channels, v, kernel_size=3, padding=1)]
        layers += [nn.BatchNorm2d(v), nn.ReLU(inplace=True)] if batch_norm else [nn.ReLU(inplace=True)]
        in_channels = v
    return nn.Sequential(*layers)


def main(steps=20):
    torch.manual_seed(2)
    model = VGG(make_layers(CONFIG), dropout=0.2)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-4, alpha=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=8, gamma=0.5)
    patterns = torch.rand(10, 3, 16, 16)
    losses = []
    for _ in range(steps):
        target = torch.randint(0, 10, (16,))
        images = patterns[target] + 0.1 * torch.randn(16, 3, 16, 16)
        optimizer.zero_grad()
        loss = F.nll_loss(F.log_softmax(model(images), dim=1), target)
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    print(main())
