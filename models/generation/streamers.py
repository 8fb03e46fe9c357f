"""Text as it is generated: tokens come one by one, characters and words when they are whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from queue import Queue
from typing import Any

__all__ = ["TextIteratorStreamer", "TextStreamer", "text_pieces"]

# Scripts without spaces between words, of which each character is printed at once: CJK ideographs
UNSPACED = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2FA1F), (0xF900, 0xFAFF))


class Pieces:
    """Turns tokens into text that will not change any more: whole words, lines, ideographs."""

    def __init__(self, tokenizer: Any, **decode_kwargs: Any):
        self.tokenizer, self.options = tokenizer, decode_kwargs
        self.tokens: list[int] = []
        self.given = 0

    def push(self, tokens: Iterable[int]) -> str:
        """What is whole with these tokens behind the earlier ones."""
        self.tokens.extend(tokens)
        text = self.tokenizer.decode(self.tokens, **self.options)
        if text.endswith("\n"):
            piece, self.tokens, self.given = text[self.given :], [], 0
            return piece
        whole = len(text) if text and _unspaced(text[-1]) else text.rfind(" ") + 1
        piece = text[self.given : whole]
        self.given += len(piece)
        return piece

    def rest(self) -> str:
        """What was held back."""
        text = self.tokenizer.decode(self.tokens, **self.options)[self.given :] if self.tokens else ""
        self.tokens, self.given = [], 0
        return text


def _unspaced(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in UNSPACED)


def text_pieces(tokenizer: Any, tokens: Iterable[Any], **decode_kwargs: Any) -> Iterator[str]:
    """The text of a stream of tokens, in pieces that are whole words; joined they are all of it.

    tokens: ints, or (1,) int tensors as `model.stream` yields them. decode_kwargs: for `tokenizer.decode`.
    """
    pieces = Pieces(tokenizer, **decode_kwargs)
    for token in tokens:
        if piece := pieces.push([int(token)]):
            yield piece
    if piece := pieces.rest():
        yield piece


class TextStreamer:
    """`generate(..., streamer=TextStreamer(tokenizer))` prints text while it is generated, for one sequence.

    Args:
        tokenizer: has `decode(ids, **options) -> str`.
        skip_prompt: whether the prompt is left out.
        decode_kwargs: for `tokenizer.decode`, such as skip_special_tokens=True.
    """

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, **decode_kwargs: Any):
        self.tokenizer, self.skip_prompt = tokenizer, skip_prompt
        self._pieces = Pieces(tokenizer, **decode_kwargs)
        self._prompt_is_next = True

    def put(self, value: Any) -> None:
        """Takes tokens: first the prompt (1, L), then (1,) int each. ValueError for several sequences."""
        if len(value.shape) > 1:
            if value.shape[0] > 1:
                raise ValueError("TextStreamer only supports batch size 1")
            value = value[0]
        skip, self._prompt_is_next = self.skip_prompt and self._prompt_is_next, False
        if not skip:
            self.on_finalized_text(self._pieces.push(value.tolist()))

    def end(self) -> None:
        """Prints what was held back."""
        self._prompt_is_next = True
        self.on_finalized_text(self._pieces.rest(), stream_end=True)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """What is done with text that is whole; subclasses do something else than print it."""
        print(text, flush=True, end="\n" if stream_end else "")


class TextIteratorStreamer(TextStreamer):
    """An iterator over the text, for a program that generates in another thread.

    timeout: seconds to wait for the next piece, else queue.Empty is raised; None: for ever.
    """

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, timeout: float | None = None, **decode_kwargs: Any):
        super().__init__(tokenizer, skip_prompt, **decode_kwargs)
        self.text_queue: Queue[str | None] = Queue()
        self.timeout = timeout

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.text_queue.put(text)
        if stream_end:
            self.text_queue.put(None)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        text = self.text_queue.get(timeout=self.timeout)
        if text is None:
            raise StopIteration
        return text
