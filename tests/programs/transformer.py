"""A Transformer for translation from nn.Transformer, as in PyTorch's tutorial: masks, warm-up schedule."""

import math

import torch
import torch.nn as nn
from torch import Tensor

PAD, BOS, EOS, WORDS = 1, 2, 3, 16


class PositionalEncoding(nn.Module):
    def __init__(self, emb_size, dropout, maxlen=50):
        super().__init__()
        den = torch.exp(-torch.arange(0, emb_size, 2) * math.log(10000) / emb_size)
        pos = torch.arange(0, maxlen).reshape(maxlen, 1)
        table = torch.zeros((maxlen, emb_size))
        table[:, 0::2] = torch.sin(pos * den)
        table[:, 1::2] = torch.cos(pos * den)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("pos_embedding", table.unsqueeze(-2))

    def forward(self, token_embedding: Tensor):
        return self.dropout(token_embedding + self.pos_embedding[: token_embedding.size(0), :])


class Seq2SeqTransformer(nn.Module):
    def __init__(self, width=32, heads=4, layers=2, dropout=0.1):
        super().__init__()
        self.transformer = nn.Transformer(
            d_model=width, nhead=heads, num_encoder_layers=layers, num_decoder_layers=layers, dim_feedforward=64,
            dropout=dropout,
        )  # fmt: skip
        self.generator = nn.Linear(width, WORDS)
        self.src_tok_emb = nn.Embedding(WORDS, width)
        self.tgt_tok_emb = nn.Embedding(WORDS, width)
        self.positional_encoding = PositionalEncoding(width, dropout=dropout)
        self.width = width
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def embed(self, table, tokens):
        return self.positional_encoding(table(tokens.long()) * math.sqrt(self.width))

    def forward(self, src, trg, src_mask, tgt_mask, src_padding_mask, tgt_padding_mask, memory_key_padding_mask):
        outs = self.transformer(
            self.embed(self.src_tok_emb, src), self.embed(self.tgt_tok_emb, trg), src_mask, tgt_mask, None,
            src_padding_mask, tgt_padding_mask, memory_key_padding_mask,
        )  # fmt: skip
        return self.generator(outs)


def create_mask(src, tgt):
    tgt_mask = (torch.triu(torch.ones((tgt.shape[0], tgt.shape[0]))) == 1).transpose(0, 1)
    tgt_mask = tgt_mask.float().masked_fill(tgt_mask == 0, float("-inf")).masked_fill(tgt_mask == 1, 0.0)
    src_mask = torch.zeros((src.shape[0], src.shape[0])).type(torch.bool)
    return src_mask, tgt_mask, (src == PAD).transpose(0, 1), (tgt == PAD).transpose(0, 1)


def batch_of(count):
    """(S, N) sources and their images under a fixed permutation of the words, padded."""
    lengths = torch.randint(3, 8, (count,))
    src = torch.full((7, count), PAD)
    tgt = torch.full((9, count), PAD)
    for i in range(count):
        n = int(lengths[i])
        words = torch.randint(4, WORDS, (n,))
        src[:n, i] = words
        tgt[: n + 2, i] = torch.cat([torch.tensor([BOS]), 4 + (words * 5) % (WORDS - 4), torch.tensor([EOS])])
    return src, tgt


def main(steps=20):
    torch.manual_seed(0)
    model = Seq2SeqTransformer()
    loss_fn = torch.nn.CrossEntropyLoss(ignore_index=PAD)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    rate = lambda step: 0.1 * 32**-0.5 * min((step + 1) ** -0.5, (step + 1) * 10**-1.5)  # noqa: E731
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda=rate)
    losses = []
    model.train()
    for _ in range(steps):
        src, tgt = batch_of(16)
        tgt_input, tgt_out = tgt[:-1, :], tgt[1:, :]
        src_mask, tgt_mask, src_padding, tgt_padding = create_mask(src, tgt_input)
        logits = model(src, tgt_input, src_mask, tgt_mask, src_padding, tgt_padding == 1, src_padding)
        optimizer.zero_grad()
        loss = loss_fn(logits.reshape(-1, logits.shape[-1]), tgt_out.reshape(-1))
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    print(main())
