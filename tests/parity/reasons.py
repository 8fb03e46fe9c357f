"""Where tapegrad differs from PyTorch on purpose, or where a comparison needs to know something of an operator."""

# Results that are memory as it was found: only dtype and shape can be compared.
UNINITIALISED = {
    "empty", "empty_like", "new_empty", "new_empty_strided", "empty_strided", "empty_permuted", "resize_", "resize_as_",
}  # fmt: skip

# Results defined up to a sign, a phase or an order: compared after the entry's own output_process_fn_grad.
GAUGE: set[str] = set()

# Ill-conditioned samples: the factor by which the tolerances are widened, and why.
LOOSE: dict[str, float] = {}

# Entry -> why it differs on purpose.
DIFFERS: dict[str, str] = {
    "special.bessel_j0": "PyTorch's value is wrong by up to 4e-7 between 5 and 7 (mpmath)",
    "special.bessel_y1": "PyTorch's value is wrong by up to 9e-7 between 5 and 7 (mpmath)",
}
