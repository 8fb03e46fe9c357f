"""Which functions autocast runs in which precision, by device type: PyTorch's lists (ATen/autocast_mode.h, 2.13).

lower    every floating argument (not float64) is cast to the region's dtype
float32  every floating argument (not float64) is cast to float32
widest   arguments of different floating dtypes are cast to the widest
kept     run as it is: not in PyTorch's lists, but made of functions here that are
banned   an error that says what to use instead
"""

from __future__ import annotations

_LOWER = """
mm bmm matmul addmm addbmm baddbmm chain_matmul linear prelu nn.functional.conv1d nn.functional.conv2d
nn.functional.conv3d nn.functional.conv_transpose1d nn.functional.conv_transpose2d nn.functional.conv_transpose3d
nn.functional.conv_tbc nn.functional.scaled_dot_product_attention
"""
_LOSSES = """
mse_loss cosine_embedding_loss nll_loss hinge_embedding_loss poisson_nll_loss smooth_l1_loss cross_entropy l1_loss
huber_loss margin_ranking_loss soft_margin_loss triplet_margin_loss multi_margin_loss ctc_loss kl_div
multilabel_margin_loss binary_cross_entropy_with_logits binary_cross_entropy
"""
_CPU_FUNCTIONAL = """
avg_pool3d grid_sample max_pool3d max_unpool1d max_unpool2d max_unpool3d adaptive_avg_pool3d adaptive_max_pool3d
fractional_max_pool2d fractional_max_pool3d
"""
_CPU_FLOAT32 = """
polar prod quantile nanquantile stft cdist trace view_as_complex cholesky cholesky_inverse cholesky_solve inverse
lu_solve orgqr ormqr pinverse geqrf qr svd triangular_solve
linalg.cond linalg.matrix_rank linalg.solve linalg.cholesky linalg.svdvals linalg.eigvals linalg.eigvalsh linalg.inv
linalg.householder_product linalg.tensorinv linalg.tensorsolve linalg.qr linalg.cholesky_ex linalg.svd linalg.eig
linalg.eigh linalg.lstsq linalg.inv_ex
fft.fft fft.ifft fft.fft2 fft.ifft2 fft.fftn fft.ifftn fft.rfft fft.irfft fft.rfft2 fft.irfft2 fft.rfftn fft.irfftn
fft.hfft fft.ihfft
"""
_CUDA_FLOAT32 = """
acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow logsumexp cumprod cumsum dist cdist
renorm prod sum norm
softplus nn.functional.layer_norm nn.functional.rms_norm nn.functional.group_norm
nn.functional.cosine_similarity nn.functional.pdist softmax log_softmax
"""
_RECURRENT = ["lstm_sequence", "gru_sequence", "rnn_sequence"]  # gates come in the region's dtype, states as they are
_KEPT = "mv addmv dot"


def _functional(names: str) -> list[str]:
    return [f"nn.functional.{name}" for name in names.split()]


POLICIES: dict[str, dict[str, str]] = {
    "cpu": {
        **dict.fromkeys(_LOWER.split(), "lower"),
        "linalg.vecdot": "lower",
        **dict.fromkeys(_functional(_LOSSES + _CPU_FUNCTIONAL), "float32"),
        **dict.fromkeys(_CPU_FLOAT32.split(), "float32"),
        **dict.fromkeys(_KEPT.split(), "kept"),
        **dict.fromkeys(["index_copy", *_RECURRENT], "widest"),
        "tensordot": "lower",
    },
    "cuda": {
        **dict.fromkeys(_LOWER.split(), "lower"),
        **dict.fromkeys(["mv", "addmv", "addr", "linalg.vecdot", "linalg.multi_dot"], "lower"),
        **dict.fromkeys(_functional(_LOSSES), "float32"),
        **dict.fromkeys(_CUDA_FLOAT32.split(), "float32"),
        "nn.functional.binary_cross_entropy": "banned",
        **dict.fromkeys(["addcdiv", "addcmul", "atan2", "cross", "dot", "vdot", "scatter_add", "index_put"], "widest"),
        **dict.fromkeys(["nn.functional.grid_sample", "tensordot"], "widest"),
        **dict.fromkeys(_RECURRENT, "widest"),
    },
}
# What backends beside these two get: the fewest promises, PyTorch's lists for the CPU.
OTHER = POLICIES["cpu"]
