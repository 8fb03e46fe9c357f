"""Where tapegrad differs from PyTorch on purpose, or where a comparison needs to know something of an operator."""

# Results that are memory as it was found: only dtype and shape can be compared.
UNINITIALISED = {
    "empty", "empty_like", "new_empty", "new_empty_strided", "empty_strided", "empty_permuted", "resize_", "resize_as_",
}  # fmt: skip

# Indices that may name any of several equal elements: what they name is compared. The place of `dim` in the arguments.
ANY_OF_EQUALS = {"argsort": 0, "kthvalue": 1, "mode": 0, "sort": 0, "topk": 1}

# Results defined up to a sign, a phase or an order: compared after the entry's own output_process_fn_grad.
GAUGE = {"linalg.eig", "linalg.eigh", "linalg.svd", "svd", "svd_lowrank", "pca_lowrank"}

# Ill-conditioned samples: the factor by which the tolerances are widened, and why.
LOOSE: dict[str, float] = {
    "cov": 1000.0,  # the samples' weights are float32 and require gradients: torch's own error there is up to 8e-5
}

# Entry -> why it differs on purpose.
DIFFERS: dict[str, str] = {
    "H": "complex conjugates are values here, not views with a flag",
    "conj": "complex conjugates are values here, not views with a flag",
    "mH": "complex conjugates are values here, not views with a flag",
    "chalf": "complex32: NumPy has no such dtype",
    "fft.ihfft2": "out= is written; torch leaves it as it was",
    "fft.ihfftn": "out= is written; torch leaves it as it was",
    "jiterator_unary": "compiles CUDA code at run time; torch's entry has no dtype on the CPU",
    "jiterator_binary": "compiles CUDA code at run time; torch's entry has no dtype on the CPU",
    "jiterator_binary_return_by_ref": "compiles CUDA code at run time; torch's entry has no dtype on the CPU",
    "jiterator_2inputs_2outputs": "compiles CUDA code at run time; torch's entry has no dtype on the CPU",
    "jiterator_4inputs_with_extra_args": "compiles CUDA code at run time; torch's entry has no dtype on the CPU",
    "torch._scaled_mm": "float8 dtypes",
    "torch._scaled_mm_v2": "float8 dtypes",
    "torch.ops.aten._flash_attention_forward": "torch's entry has no dtype on the CPU",
    "torch.ops.aten._efficient_attention_forward": "torch's entry has no dtype on the CPU",
    "as_strided_scatter": "what was written over gets no gradient; torch gives it the cotangent all the same",
    "cat": "out= made of a NumPy array may be resized",
    "gather": "out= that is resized has memory of its own",
    "i0": "the limit at infinity; torch gives nan",
    "igamma": "SciPy's value where both arguments are extreme",
    "igammac": "SciPy's value where both arguments are extreme",
    "polygamma": "the limit at infinity; torch gives nan",
    "sparse.mm": "reduce= has no gradient",
    "sparse.sampled_addmm": "compressed sparse layouts",
    "special.airy_ai": "the limit at infinity; torch gives nan",
    "special.i1": "the limit at infinity; torch gives nan",
    "special.modified_bessel_i0": "the limit at infinity; torch gives nan",
    "special.modified_bessel_i1": "the limit at infinity; torch gives nan",
    "special.zeta": "the limit at infinity; torch gives nan",
    "istft": "torch gives no gradient to the samples' window, a view made without grad",
    "linalg.norm": "the second gradient at norm 0 is 0; torch's is nan",
    "nn.functional.linear_cross_entropy": "torch's chunked form has no second gradient; ours has",
    "special.bessel_j0": "PyTorch's value is wrong by up to 4e-7 between 5 and 7 (mpmath)",
    "special.bessel_j1": "PyTorch's value is wrong by up to 4e-7 between 5 and 7 (mpmath)",
    "special.bessel_y0": "PyTorch's value is wrong by up to 9e-7 between 5 and 7 (mpmath)",
    "special.bessel_y1": "PyTorch's value is wrong by up to 9e-7 between 5 and 7 (mpmath)",
}
