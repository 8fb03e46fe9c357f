"""torch.backends.openmp: whether the library's own loops run on OpenMP threads; they are NumPy's."""


def is_available() -> bool:
    """Whether OpenMP is used: no."""
    return False
