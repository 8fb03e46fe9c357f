"""torch.backends.opt_einsum: whether einsum asks the package opt_einsum for an order; it finds its own."""

enabled = False
strategy: str | None = None


def is_available() -> bool:
    """Whether opt_einsum is used: no."""
    return False


def get_opt_einsum() -> None:
    """The package opt_einsum, where it is used: None."""
