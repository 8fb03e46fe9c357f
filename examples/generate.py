"""Text from a GPT-2, written as it is generated: python examples/generate.py --model FOLDER --prompt "Once upon a time"

FOLDER has a checkpoint in the layout of the Hugging Face hub (config.json, model.safetensors, tokenizer.json): GPT-2,
LLaMA, Mistral or Qwen2. Without one, a small random GPT-2 and a byte-level BPE tokenizer are made from a text
(--text FILE, or the pages of this repository), saved in that layout, and read from there:

    python examples/generate.py                              # random weights: random words
    python examples/generate.py --train 300                  # trained for a minute: words that look like the text's
    python examples/generate.py --train 300 --out my-gpt2    # kept, for --model my-gpt2

Needs the extra `models`: pip install 'tapegrad[models]'
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import tapegrad as torch

try:
    import tokenizers
except ImportError as error:
    raise SystemExit(f"{error}; this example needs the extra models: pip install 'tapegrad[models]'") from error

models = torch.models
END = "<|endoftext|>"
CONTEXT = 64  # tokens of a training window


def read_text(path: Path | None) -> str:
    """The file's text, or that of the pages beside this example."""
    if path is not None:
        return path.read_text(encoding="utf-8")
    pages = sorted((Path(__file__).parent.parent / "docs").glob("**/*.md"))
    if not pages:
        raise SystemExit(
            "no docs folder beside the examples: give a text with --text FILE, or a checkpoint with --model"
        )
    return "\n\n".join(page.read_text(encoding="utf-8") for page in pages)


def train_tokenizer(text: str, vocabulary: int) -> Any:
    """A byte-level BPE tokenizer as GPT-2's, of at most so many tokens, learnt from the text."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(text.splitlines(keepends=True), trainer)
    return models.Tokenizer(backend, {"bos_token": END, "eos_token": END})


def make_model(tokenizer: Any, width: int, layers: int) -> Any:
    """A GPT-2 with random weights."""
    end = tokenizer.eos_token_id
    config = models.GPT2Config(
        vocab_size=len(tokenizer), n_positions=256, n_embd=width, n_layer=layers, n_head=4, bos_token_id=end,
        eos_token_id=end, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return models.GPT2LMHeadModel(config)


def train(model: Any, data: Any, steps: int, batch: int = 16) -> None:
    """Adam on random windows of the text. data: (tokens,) int."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    began = time.perf_counter()
    for step in range(1, steps + 1):
        starts = torch.randint(len(data) - CONTEXT, (batch,)).tolist()
        tokens = torch.stack([data[i : i + CONTEXT] for i in starts])
        loss = model(tokens, labels=tokens).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step == 1 or step % max(1, steps // 10) == 0:
            print(f"step {step:5}  loss {loss.item():.3f}  {time.perf_counter() - began:.0f} s", flush=True)
    model.eval()


def make_checkpoint(folder: Path, text: str, steps: int, quick: bool) -> None:
    """Writes a small GPT-2 and its tokenizer in the layout of the hub."""
    tokenizer = train_tokenizer(text[:1_000_000], 400 if quick else 1000)
    model = make_model(tokenizer, *((32, 2) if quick else (128, 4)))
    if steps:
        data = torch.tensor(tokenizer.backend.encode(text[:1_000_000]).ids)
        print(f"{len(text)} characters, {len(data)} tokens; {model.num_parameters()} parameters")
        train(model, data, steps, 4 if quick else 16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"{', '.join(sorted(path.name for path in folder.iterdir()))} in {folder}")


def generate(folder: Path, args: argparse.Namespace) -> None:
    """Reads the checkpoint and prints what it makes of the prompt, word by word."""
    began = time.perf_counter()
    model = models.from_pretrained(folder)
    tokenizer = models.Tokenizer.from_pretrained(folder)
    print(f"{type(model).__name__}, {model.num_parameters()} parameters, read in {time.perf_counter() - began:.2f} s\n")
    inputs = tokenizer([args.prompt])
    count, began = 0, time.perf_counter()

    def tokens() -> Any:
        nonlocal count
        for token in model.stream(
            inputs["input_ids"], max_new_tokens=args.tokens, do_sample=not args.greedy, temperature=args.temperature,
            top_k=args.top_k, top_p=args.top_p, generator=torch.Generator().manual_seed(args.seed),
        ):  # fmt: skip
            count += 1
            yield token

    print(args.prompt, end="", flush=True)
    for piece in models.text_pieces(tokenizer, tokens(), skip_special_tokens=True):
        print(piece, end="", flush=True)
    seconds = time.perf_counter() - began
    print(f"\n\n{count} tokens, {count / seconds:.0f} per second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, help="a folder with a checkpoint and a tokenizer")
    parser.add_argument("--text", type=Path, help="what the tokenizer, and the model with --train, learn from")
    parser.add_argument("--train", type=int, default=0, metavar="STEPS")
    parser.add_argument("--out", type=Path, help="where the new checkpoint is kept")
    parser.add_argument("--prompt", default="The")
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--greedy", action="store_true", help="the likeliest token each time")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top-k", type=int, default=40)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a tiny model and few tokens, for tests")
    args = parser.parse_args()
    if args.quick:
        args.tokens = min(args.tokens, 20)
    torch.manual_seed(args.seed)
    if args.model is not None:
        generate(args.model, args)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        make_checkpoint(folder, read_text(args.text), args.train, args.quick)
        generate(folder, args)


if __name__ == "__main__":
    main()
