"""The names that PyTorch programs use are there, as functions and as methods, with PyTorch's parameter names."""

from __future__ import annotations

import inspect

import pytest
import tapegrad

FUNCTIONS = """
abs absolute acos acosh add addbmm addcdiv addcmul addmm addmv addr all allclose amax amin aminmax any arange arccos
arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin argsort argwhere as_strided as_tensor asin asinh atan atan2
atanh atleast_1d atleast_2d atleast_3d baddbmm bernoulli bincount bitwise_and bitwise_not bitwise_or bitwise_xor
block_diag bmm broadcast_shapes broadcast_tensors broadcast_to bucketize cartesian_prod cat cdist ceil chunk clamp
clamp_max clamp_min clip clone column_stack combinations complex concat concatenate conj copysign cos cosh
count_nonzero cross cummax cummin cumprod cumsum deg2rad det diag diag_embed diagflat diagonal diff digamma dist div
divide dot dsplit dstack einsum empty empty_like eq equal erf erfc erfinv exp exp2 expm1 eye fix flatten flip fliplr
flipud float_power floor floor_divide fmax fmin fmod frac from_numpy full full_like gather gcd ge gt heaviside histc
hsplit hstack hypot imag index_add index_copy index_fill index_put index_select inner inverse is_complex
is_floating_point is_tensor isclose isfinite isinf isnan isneginf isposinf kron kthvalue lcm ldexp le lerp lgamma
linspace log log10 log1p log2 log_softmax logaddexp logaddexp2 logcumsumexp logdet logical_and logical_not logical_or
logical_xor logit logspace logsumexp lt masked_fill masked_select matmul max maximum mean median meshgrid min minimum
mm mode moveaxis movedim msort mul multinomial multiply mv nan_to_num nanmean nanmedian nanquantile nansum narrow ne neg
negative nonzero norm normal not_equal ones ones_like outer permute pinverse polar polygamma positive pow prod
promote_types quantile rad2deg rand rand_like randint randint_like randn randn_like randperm ravel real reciprocal relu
remainder renorm repeat_interleave reshape result_type roll rot90 round rsqrt scatter scatter_add scatter_reduce
searchsorted select sigmoid sign signbit sin sinc sinh slogdet softmax sort split sqrt square squeeze stack std std_mean
sub subtract sum svd swapaxes swapdims t take take_along_dim tan tanh tensor tensor_split tensordot tile topk trace
transpose trapezoid trapz tril tril_indices triu triu_indices true_divide trunc unbind unflatten unique
unique_consecutive unsqueeze vander var var_mean vdot view_as_complex view_as_real vsplit vstack where xlogy zeros
zeros_like
""".split()  # fmt: skip

METHODS = """
abs add add_ addcdiv_ addcmul_ addmm_ all any apply_ argmax argmin argsort backward bernoulli_ bfloat16 bmm bool byte
ceil chunk clamp clamp_ clone contiguous copy_ cos cpu cuda cummax cumprod cumsum data_ptr det detach detach_ diag
diagonal dim div div_ dot double element_size eq erf exp exp_ expand expand_as exponential_ fill_ fill_diagonal_ flatten
flip float floor fmod gather ge get_device gt half index_add_ index_copy_ index_fill_ index_put_ index_select int
inverse is_complex is_contiguous is_floating_point isfinite isnan item kthvalue le lerp_ log log_ log_softmax logsumexp
long lt masked_fill masked_fill_ masked_scatter masked_select matmul max mean median min mm mul mul_ multinomial narrow
ndimension ne neg neg_ new_empty new_full new_ones new_tensor new_zeros nonzero norm normal_ numel numpy permute pow
pow_ prod random_ reciprocal register_hook relu relu_ remainder repeat repeat_interleave requires_grad_ reshape
reshape_as retain_grad roll round rsqrt scatter scatter_ scatter_add scatter_add_ select short sigmoid sigmoid_ sign sin
size softmax sort split sqrt sqrt_ square squeeze squeeze_ std storage_offset stride sub sub_ sum swapaxes t t_ take tan
tanh tanh_ to tolist topk transpose transpose_ tril triu trunc type type_as unbind unfold uniform_ unique unsqueeze
unsqueeze_ var view view_as where zero_
""".split()  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_there(name: str) -> None:
    assert callable(getattr(tapegrad, name))


@pytest.mark.parametrize("name", METHODS)
def test_method_is_there(name: str) -> None:
    assert callable(getattr(tapegrad.Tensor, name))


def test_how_many() -> None:
    assert len(set(FUNCTIONS)) >= 250 and len(set(METHODS)) >= 180


def test_documented() -> None:
    """Every public function says what it does."""
    bare = [n for n, f in tapegrad.autograd.api.FUNCTIONS.items() if not (f.__doc__ or "").strip()]
    assert not bare


def test_parameter_names_are_torch_names() -> None:
    """Where torch's signature can be read, ours begins with the same positional parameters."""
    torch = pytest.importorskip("torch")
    read = wrong = 0
    for name in FUNCTIONS:
        theirs = getattr(torch, name, None)
        try:
            parameters = inspect.signature(theirs).parameters.values()
        except (TypeError, ValueError):
            continue
        expected = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        found = list(inspect.signature(getattr(tapegrad, name)).parameters)
        read += 1
        wrong += not set(expected) - {"out"} <= set(found)  # the table adds out=
    assert read > 10 and wrong == 0


def test_public_ops_of_late_families_are_public_too() -> None:
    """An op that is its own public function must stand in a family that `import tapegrad` loads."""
    from tapegrad.autograd.api.table import PUBLIC
    from tapegrad.autograd.op import OPS, load_late

    load_late()
    missing = [name for name, op in OPS.items() if op.public and op.public != "special" and name not in PUBLIC]
    assert not missing, f"move them out of LATE (autograd/ops/__init__.py): {missing}"
