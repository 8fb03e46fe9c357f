"""`tapegrad.signal`: windows. The folder stands here since at the root it would hide Python's own module signal."""

from . import windows as windows
