"""torch.backends.mps: Apple's GPUs, which no backend here serves."""


def is_available() -> bool:
    """Whether there is a usable device: no."""
    return False


def is_built() -> bool:
    """Whether this library can use one: no."""
    return False
