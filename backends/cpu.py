"""torch.backends.cpu: what the processor can do, as far as the library chooses by it."""


def get_cpu_capability() -> str:
    """The vector instructions the library was written for: DEFAULT, since NumPy chooses them."""
    return "DEFAULT"
