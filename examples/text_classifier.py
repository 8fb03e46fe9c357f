"""An embedding and an LSTM learn to tell praise from blame in short made-up sentences of unequal length."""

import tapegrad as torch

nn = torch.nn

torch.manual_seed(0)
GOOD = "wonderful moving brilliant funny warm clever touching splendid".split()
BAD = "boring dull clumsy noisy empty tedious shallow awful".split()
PLAIN = "the film was a story about some people and their city with music in it".split()
words = ["<pad>"] + sorted({*GOOD, *BAD, *PLAIN, "not"})
number = {w: i for i, w in enumerate(words)}


def pick(items):
    return items[torch.randint(len(items), (1,)).item()]


def sentence():
    """A sentence and its label: 1 for praise; 'not' turns the word after it."""
    text = [pick(PLAIN) for _ in range(torch.randint(2, 8, (1,)).item())]
    praise, turned = torch.rand(1).item() < 0.5, torch.rand(1).item() < 0.3
    said = (["not"] if turned else []) + [pick(GOOD if praise != turned else BAD)]
    at = torch.randint(len(text) + 1, (1,)).item()
    return text[:at] + said + text[at:], int(praise)


def encode(pairs):
    """(padded word numbers (N, T), lengths (N,), labels (N,))."""
    rows = [torch.tensor([number[w] for w in text]) for text, _ in pairs]
    lengths = torch.tensor([len(r) for r in rows])
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths, torch.tensor([label for _, label in pairs])


class TextClassifier(nn.Module):
    def __init__(self, vocabulary, width=16, hidden=32):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, 2)

    def forward(self, index, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding(index), lengths, batch_first=True, enforce_sorted=False
        )
        _, (h, _) = self.lstm(packed)
        return self.fc(h[-1])


train, test = [sentence() for _ in range(512)], [sentence() for _ in range(128)]
model = TextClassifier(len(words))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

for epoch in range(10):
    total = 0.0
    for start in range(0, len(train), 32):
        index, lengths, labels = encode(train[start : start + 32])
        loss = criterion(model(index, lengths), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    with torch.no_grad():
        index, lengths, labels = encode(test)
        right = (model(index, lengths).argmax(dim=1) == labels).float().mean().item()
    print(f"epoch {epoch + 1:2}: loss {total / 16:.4f}, test accuracy {right:.3f}")

assert right > 0.9
