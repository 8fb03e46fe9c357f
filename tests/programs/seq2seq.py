"""Sequence to sequence with Bahdanau attention: packed GRU encoder, decoder by steps, teacher forcing."""

import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

PAD, SOS, EOS, WORDS, HIDDEN = 0, 1, 2, 12, 24


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, HIDDEN, padding_idx=PAD)
        self.gru = nn.GRU(HIDDEN, HIDDEN, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(2 * HIDDEN, HIDDEN)

    def forward(self, source, lengths):
        packed = pack_padded_sequence(self.embedding(source), lengths, batch_first=True, enforce_sorted=False)
        outputs, hidden = self.gru(packed)
        outputs, _ = pad_packed_sequence(outputs, batch_first=True)
        hidden = torch.tanh(self.fc(torch.cat((hidden[-2], hidden[-1]), dim=1)))
        return outputs, hidden


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.Linear(3 * HIDDEN, HIDDEN)
        self.v = nn.Parameter(torch.rand(HIDDEN))

    def forward(self, hidden, outputs, mask):
        repeated = hidden.unsqueeze(1).repeat(1, outputs.size(1), 1)
        energy = torch.tanh(self.attn(torch.cat((repeated, outputs), dim=2)))
        scores = torch.bmm(self.v.expand(hidden.size(0), 1, -1), energy.transpose(1, 2)).squeeze(1)
        return F.softmax(scores.masked_fill(mask == 0, -1e10), dim=1)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, HIDDEN)
        self.attention = Attention()
        self.rnn = nn.GRUCell(3 * HIDDEN, HIDDEN)
        self.out = nn.Linear(4 * HIDDEN, WORDS)

    def forward(self, token, hidden, outputs, mask):
        embedded = F.dropout(self.embedding(token), 0.1, training=self.training)
        weights = self.attention(hidden, outputs, mask)
        context = weights.unsqueeze(1).bmm(outputs).squeeze(1)
        hidden = self.rnn(torch.cat([embedded, context], 1), hidden)
        return self.out(torch.cat((hidden, context, embedded), dim=1)), hidden


def batch_of(count):
    """Random sequences, to be reversed."""
    sources, targets = [], []
    for _ in range(count):
        words = [random.randint(3, WORDS - 1) for _ in range(random.randint(2, 6))]
        sources.append(torch.tensor(words))
        targets.append(torch.LongTensor([SOS] + words[::-1] + [EOS]))
    lengths = torch.tensor([len(s) for s in sources])
    return pad_sequence(sources, batch_first=True), lengths, pad_sequence(targets, batch_first=True, padding_value=PAD)


def main(steps=20):
    random.seed(1)
    torch.manual_seed(1)
    encoder, decoder = Encoder(), Decoder()
    parameters = list(encoder.parameters()) + list(decoder.parameters())
    optimizer = torch.optim.Adam(parameters, lr=5e-3)
    losses = []
    for _ in range(steps):
        source, lengths, target = batch_of(8)
        outputs, hidden = encoder(source, lengths)
        token, loss = target[:, 0], 0
        for t in range(1, target.size(1)):
            logits, hidden = decoder(token, hidden, outputs, source.ne(PAD))
            loss = loss + F.cross_entropy(logits, target[:, t], ignore_index=PAD, reduction="sum")
            token = target[:, t] if random.random() < 0.5 else logits.argmax(1)
        loss = loss / (target[:, 1:] != PAD).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    print(main())
