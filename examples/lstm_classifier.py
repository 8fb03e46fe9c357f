"""A two-layer LSTM reads a handwritten digit row by row and says which one it is."""

import digits
import tapegrad as torch

nn = torch.nn
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

torch.manual_seed(0)
images, labels, test_images, test_labels = digits.load(torch)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=64, shuffle=True)


class Reader(nn.Module):
    def __init__(self, input_size=8, hidden_size=64, num_layers=2, num_classes=10):
        super().__init__()
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)
        self.fc = nn.Linear(hidden_size, num_classes)

    def forward(self, x):
        h0 = torch.zeros(self.num_layers, x.size(0), self.hidden_size).to(x.device)
        c0 = torch.zeros(self.num_layers, x.size(0), self.hidden_size).to(x.device)
        out, _ = self.lstm(x, (h0, c0))
        return self.fc(out[:, -1, :])


model = Reader().to(device)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

for epoch in range(8):
    total = 0.0
    for x, y in loader:
        x, y = x.squeeze(1).to(device), y.to(device)
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    with torch.no_grad():
        guess = model(test_images.squeeze(1).to(device)).argmax(dim=1)
    right = (guess.cpu() == test_labels.cpu()).float().mean().item()
    print(f"epoch {epoch + 1}: loss {total / len(loader):.4f}, test accuracy {right:.4f}")

assert right > 0.85
