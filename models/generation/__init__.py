"""Text from models that score the next token: `model.generate(...)`, `model.stream(...)`, and what they are set by."""

from .config import GenerationConfig
from .loop import GenerationMixin
from .processors import PROCESSORS
from .streamers import TextIteratorStreamer, TextStreamer, text_pieces

__all__ = [
    "PROCESSORS",
    "GenerationConfig",
    "GenerationMixin",
    "TextIteratorStreamer",
    "TextStreamer",
    "text_pieces",
]
