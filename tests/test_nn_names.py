"""Names of torch.nn that programs import beside the layers: methods of layers, nn.attention, deprecated forms."""

from importlib import import_module

import pytest
import tapegrad
from both import Programs, kind, said, warned

program = Programs()


@program
def arguments_of_recurrent_layers(T):
    found = []
    for layer in (
        T.nn.GRU(3, 4, 2, bidirectional=True),
        T.nn.LSTM(3, 4, proj_size=2, batch_first=True),
        T.nn.RNN(3, 4),
    ):
        x, state = T.zeros(5, 2, 3), T.arange(16.0).reshape(1, 4, 4)
        hx = (state, state + 1) if isinstance(layer, T.nn.LSTM) else state
        packed = layer.get_expected_hidden_size(T.zeros(4, 3), T.tensor([2, 1, 1]))
        found += [layer.get_expected_hidden_size(x, None), packed, layer.permute_hidden(hx, T.tensor([1, 0, 3, 2]))]
        found += [layer.permute_hidden(hx, None) is hx, said(layer.check_forward_args, x, hx, None, length=80)]
        fitting = T.zeros(layer.get_expected_hidden_size(x, None))
        if isinstance(layer, T.nn.LSTM):
            found.append(layer.get_expected_cell_size(x, None))
            fitting = (fitting, T.zeros(layer.get_expected_cell_size(x, None)))
        found.append(layer.check_forward_args(x, fitting, None))
    return found


@program
def masks_merged(T):
    layer, query = T.nn.MultiheadAttention(4, 2, batch_first=True), T.zeros(2, 3, 4)
    masks = [None, T.eye(3), T.eye(3).bool(), T.ones(4, 3, 3)]
    paddings = [None, T.eye(2, 3), T.eye(2, 3).bool()]
    return [layer.merge_masks(mask, padding, query) for mask in masks for padding in paddings]


@program
def attention_kernels(T):
    A = import_module(f"{T.__name__}.nn.attention")
    q, k = (T.sin(T.arange(n, dtype=T.float64)).reshape(1, -1, 4) for n in (8, 12))
    attend, found = T.nn.functional.scaled_dot_product_attention, []
    for backends in (A.SDPBackend.MATH, [A.SDPBackend.MATH, A.SDPBackend.FLASH_ATTENTION]):
        with A.sdpa_kernel(backends):
            found.append(attend(q, k, k))
    return [*found, kind(A.sdpa_kernel("math").__enter__), int(A.SDPBackend.CUDNN_ATTENTION)]


@program
def causal_masks(T):
    B = import_module(f"{T.__name__}.nn.attention.bias")
    q, k = (T.sin(T.arange(n, dtype=T.float64)).reshape(1, -1, 4) for n in (8, 12))
    attend, found = T.nn.functional.scaled_dot_product_attention, []
    for make in (B.causal_upper_left, B.causal_lower_right):
        mask = make(2, 3)
        found += [repr(mask), attend(q, k, k, mask), mask.seq_len_kv, mask.variant.name, kind(make, 2)]
    return [*found, warned(B.causal_lower_right, 3, 2)[1:], kind(B.CausalBias, 1, 2, 3)]


@program
def private_names_in_common_use(T):
    M = T.nn.modules
    shown = M.module._addindent("a\nb\nc", 4), repr(M.transformer._get_clones(T.nn.ReLU(), 2))
    same = M.activation.MultiheadAttention is T.nn.MultiheadAttention
    return [*shown, same, kind(M.transformer._get_activation_fn, "x")]


@program
def deprecated_forms(T):
    layer = T.nn.Linear(2, 1)
    weights = {"weight": T.ones(1, 2), "bias": T.zeros(1)}
    called = warned(T.nn.utils.stateless.functional_call, layer, parameters_and_buffers=weights, args=T.ones(2))
    return [called, [repr(item) for item in warned(T.nn.Container, a=T.nn.ReLU())]]


@program
def options_of_linear_cross_entropy(T):
    O = T.nn.LinearCrossEntropyOptions  # noqa: E741
    wrong = [{"acc_policy": "x"}, {"chunking_method": "x"}, {"chunking_method": "aspect_ratio:0"}]
    wrong += [{"batch_chunk_size": 0}, {"acc_dtype": T.int64}]
    found = [said(O, **options) for options in wrong]
    found += [repr(O()), repr(O(True, 4, None, "compact", T.float32)), O() == O()]
    return [*found, kind(setattr, O(), "acc_policy", "x")]


@program
def modules_in_channels_last(T):
    model = T.nn.Sequential(T.nn.Conv2d(2, 3, 3), T.nn.BatchNorm2d(3))
    strides = [p.stride() for p in model.to(memory_format=T.channels_last).parameters()]
    y = model.eval()(T.ones(1, 2, 4, 4).to(memory_format=T.channels_last))
    model.to(T.float64, memory_format=T.contiguous_format)
    strides += [model[0].weight.stride(), str(model[0].weight.dtype)]
    return [strides, y.shape, said(T.nn.Conv3d(2, 3, 2).to, memory_format=T.channels_last)]


def test_types_of_sizes():
    from tapegrad.nn import common_types

    torch = pytest.importorskip("torch")
    theirs = {name for name in vars(torch.nn.common_types) if name.startswith("_") and name.endswith("_t")}
    assert theirs <= set(vars(common_types))
    assert tapegrad.nn.common_types is common_types


@pytest.mark.parametrize("name", sorted(program))
def test_parity(name):
    program.check(name)
