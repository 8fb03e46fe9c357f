"""nn.utils: clipping, vectors of parameters, weight normalisation, padded and packed batches, functional_call.

Tests that take `torch` run twice with the same assertions: with tapegrad, and with PyTorch where it is installed.
"""

import math

import pytest
import tapegrad
from module_samples import raises
from tapegrad.nn.utils.rnn import pack_padded_sequence


@pytest.fixture(params=["tapegrad", "torch"])
def torch(request):
    return pytest.importorskip(request.param)


def affine(torch):
    class Affine(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([[1.0, 2.0, 2.0], [0.0, 3.0, 4.0]]))
            self.bias = torch.nn.Parameter(torch.zeros(2))
            self.register_buffer("calls", torch.tensor(0))

        def forward(self, x, scale=1):
            self.calls = self.calls + 1
            return (self.weight @ x + self.bias) * scale

    return Affine


# --- clipping


def with_gradients(torch, *gradients):
    parameters = [torch.nn.Parameter(torch.zeros(len(g))) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    return [*parameters, torch.nn.Parameter(torch.zeros(1))]  # one that has no gradient


@pytest.mark.parametrize("order, norm", [(2.0, 13.0), (1, 19.0), (math.inf, 12.0), ("inf", 12.0), (3, 1819 ** (1 / 3))])
def test_clip_grad_norm(torch, order, norm):
    parameters = with_gradients(torch, [3.0, 4.0], [12.0])
    total = torch.nn.utils.clip_grad_norm_(parameters, 1.0, norm_type=order)
    found = [g for p in parameters[:2] for g in p.grad.tolist()]
    assert total.shape == () and total.item() == pytest.approx(norm, rel=1e-6)
    assert found == pytest.approx([g / norm for g in [3, 4, 12]], rel=1e-5)
    assert parameters[2].grad is None


def test_clip_grad_norm_leaves_small_gradients(torch):
    clip = torch.nn.utils.clip_grad_norm_
    parameters = with_gradients(torch, [3.0, 4.0])
    assert clip(iter(parameters), 10).item() == 5 and parameters[0].grad.tolist() == [3, 4]
    assert clip(parameters[0], 10).item() == 5
    assert clip([], 1.0).item() == 0 and clip(parameters[1:], 1.0).item() == 0
    with pytest.warns(UserWarning, match="`parameters` is an empty generator, no gradient clipping will occur."):
        clip((p for p in []), 1.0)


def test_clip_grad_norm_of_nonfinite_gradients(torch):
    parameters = with_gradients(torch, [math.inf, 1.0])
    assert raises(RuntimeError, torch.nn.utils.clip_grad_norm_, parameters, 1.0, error_if_nonfinite=True) == (
        "The total norm of order 2.0 for gradients from `parameters` is non-finite, so it cannot be clipped. To "
        "disable this error and scale the gradients by the non-finite norm anyway, set `error_if_nonfinite=False`"
    )
    assert torch.nn.utils.clip_grad_norm_(parameters, 1.0).item() == math.inf
    assert math.isnan(parameters[0].grad[0].item()) and parameters[0].grad[1].item() == 0


def test_clipping_in_two_steps(torch):
    parameters = with_gradients(torch, [3.0, 4.0])
    total = torch.nn.utils.get_total_norm([parameters[0].grad])
    assert total.item() == 5 and torch.nn.utils.get_total_norm([]).item() == 0
    torch.nn.utils.clip_grads_with_norm_(parameters, 2.5, total)
    assert parameters[0].grad.tolist() == pytest.approx([1.5, 2.0], rel=1e-5)
    with pytest.warns(FutureWarning, match="clip_grad_norm` is now deprecated"):
        torch.nn.utils.clip_grad_norm(parameters, 1.0)


def test_clip_grad_value(torch):
    parameters = with_gradients(torch, [3.0, -4.0, 0.5], [0.25])
    torch.nn.utils.clip_grad_value_(parameters, 1)
    assert [p.grad.tolist() for p in parameters[:2]] == [[1, -1, 0.5], [0.25]]
    torch.nn.utils.clip_grad_value_(parameters[0], 0.5)
    assert parameters[0].grad.tolist() == [0.5, -0.5, 0.5]


# --- vectors


def test_parameters_and_vectors(torch):
    utils, m = torch.nn.utils, affine(torch)()
    vector = utils.parameters_to_vector(m.parameters())
    assert vector.tolist() == [1, 2, 2, 0, 3, 4, 0, 0] and vector.requires_grad
    weight = m.weight
    utils.vector_to_parameters(torch.arange(8.0), m.parameters())
    assert m.weight is weight and m.weight.tolist() == [[0, 1, 2], [3, 4, 5]] and m.bias.tolist() == [6, 7]
    assert m.weight.is_leaf and m.weight.requires_grad
    assert raises(TypeError, utils.vector_to_parameters, [1], m.parameters()) == "expected torch.Tensor, but got: list"
    assert raises(RuntimeError, utils.vector_to_parameters, torch.ones(7), m.parameters())
    assert raises(RuntimeError, utils.parameters_to_vector, [torch.ones(3, 2).t()])


# --- weight normalisation


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
class TestWeightNorm:
    def test_the_weight_is_recomputed(self, torch):
        m = affine(torch)()
        before = m.weight.tolist()
        assert torch.nn.utils.weight_norm(m) is m
        assert list(m.state_dict()) == ["bias", "weight_g", "weight_v", "calls"]
        assert [name for name, _ in m.named_parameters()] == ["bias", "weight_g", "weight_v"]
        assert m.weight_g.tolist() == [[3], [5]] and m.weight_v.tolist() == before
        with torch.no_grad():
            m.weight_g.mul_(2)
            m.weight_v.mul_(7)
        x = torch.tensor([1.0, 0.0, 1.0])
        y = m(x)
        assert y.tolist() == pytest.approx([6, 8]) and m.weight.tolist()[0] == pytest.approx([2, 4, 4])
        y.sum().backward()
        assert m.weight_g.grad.flatten().tolist() == pytest.approx([1, 0.8])
        assert m.weight_v.grad.flatten().tolist() == pytest.approx(
            [4 / 21, -4 / 21, 2 / 21, 2 / 7, -24 / 175, 18 / 175], abs=1e-6
        )

    def test_remove(self, torch):
        m = torch.nn.utils.weight_norm(affine(torch)())
        with torch.no_grad():
            m.weight_g.mul_(2)
        assert torch.nn.utils.remove_weight_norm(m) is m
        assert sorted(m.state_dict()) == ["bias", "calls", "weight"] and isinstance(m.weight, torch.nn.Parameter)
        assert m.weight.flatten().tolist() == pytest.approx([2, 4, 4, 0, 6, 8])
        assert m(torch.ones(3)).tolist() == pytest.approx([10, 14]) and not m._forward_pre_hooks

    @pytest.mark.parametrize("dim, shape", [(0, (2, 1)), (1, (1, 3)), (None, ()), (-1, ())])
    def test_dim(self, torch, dim, shape):
        m = torch.nn.utils.weight_norm(affine(torch)(), dim=dim)
        assert m.weight_g.shape == shape
        assert m.weight.flatten().tolist() == pytest.approx([1, 2, 2, 0, 3, 4])

    def test_errors(self, torch):
        m = torch.nn.utils.weight_norm(affine(torch)())
        assert raises(RuntimeError, torch.nn.utils.weight_norm, m) == (
            "Cannot register two weight_norm hooks on the same parameter weight"
        )
        assert raises(ValueError, torch.nn.utils.remove_weight_norm, torch.nn.Sequential()) == (
            "weight_norm of 'weight' not found in Sequential()"
        )


# --- padded and packed batches


def test_pack_and_pad(torch):
    rnn = torch.nn.utils.rnn
    x = torch.arange(12.0).view(3, 4, 1).requires_grad_()
    packed = rnn.pack_padded_sequence(x, [3, 2, 2, 1])
    assert packed.data.flatten().tolist() == [0, 1, 2, 3, 4, 5, 6, 8] and packed.batch_sizes.tolist() == [4, 3, 1]
    assert packed.sorted_indices is None and packed.unsorted_indices is None
    padded, lengths = rnn.pad_packed_sequence(packed, padding_value=-1)
    assert padded.squeeze(2).tolist() == [[0, 1, 2, 3], [4, 5, 6, -1], [8, -1, -1, -1]] and lengths.tolist() == [
        3,
        2,
        2,
        1,
    ]
    (padded * torch.tensor([[1.0], [2.0], [3.0], [4.0]])).sum().backward()
    assert x.grad.squeeze(2).tolist() == [[1, 2, 3, 4], [1, 2, 3, 0], [1, 0, 0, 0]]
    padded, _ = rnn.pad_packed_sequence(packed, batch_first=True, total_length=4)
    assert padded.shape == (4, 4, 1) and padded[0].flatten().tolist() == [0, 4, 8, 0]


def test_pack_in_any_order(torch):
    rnn = torch.nn.utils.rnn
    x = torch.arange(6).view(3, 2)  # batch first: three sequences
    packed = rnn.pack_padded_sequence(x, torch.tensor([1, 2, 1]), batch_first=True, enforce_sorted=False)
    assert packed.sorted_indices.tolist() == [1, 0, 2] and packed.unsorted_indices.tolist() == [1, 0, 2]
    assert packed.data.tolist() == [2, 0, 4, 3] and packed.batch_sizes.tolist() == [3, 1]
    padded, lengths = rnn.pad_packed_sequence(packed, batch_first=True)
    assert padded.tolist() == [[0, 0], [2, 3], [4, 0]] and lengths.tolist() == [1, 2, 1]
    assert (
        rnn.invert_permutation(torch.tensor([2, 0, 1])).tolist() == [1, 2, 0] and rnn.invert_permutation(None) is None
    )


def test_packed_sequence(torch):
    rnn = torch.nn.utils.rnn
    packed = rnn.pack_padded_sequence(torch.ones(2, 2), [2, 1])
    assert isinstance(packed, tuple) and packed._fields == ("data", "batch_sizes", "sorted_indices", "unsorted_indices")
    assert type(packed.to(torch.float64)) is rnn.PackedSequence and packed.double().data.dtype == torch.float64
    assert packed.to(torch.float32) is packed is packed.cpu() and packed.long().batch_sizes is packed.batch_sizes
    assert packed.half().data.dtype == torch.float16 and packed.int().float().data.dtype == torch.float32
    assert [p.data.dtype for p in (packed.short(), packed.char(), packed.byte())] == [
        torch.int16, torch.int8, torch.uint8,
    ]  # fmt: skip
    assert not packed.is_cuda
    pair = rnn.PackedSequence((packed.data, packed.batch_sizes))
    assert pair.data is packed.data and pair.batch_sizes is packed.batch_sizes
    assert repr(packed) == (
        "PackedSequence(data=tensor([1., 1., 1.]), batch_sizes=tensor([2, 1]), sorted_indices=None, "
        "unsorted_indices=None)"
    )


@pytest.mark.parametrize(
    "shape, lengths, text",
    [
        (
            (4, 3),
            [3, 4, 1],
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can",
        ),
        (
            (4, 3),
            [4, 3, 0],
            "Length of all samples has to be greater than 0, but found an element in 'lengths' that is",
        ),
        ((4, 3), [4, 3], "Expected `len(lengths)` to be equal to batch_size, but got 2 (batch_size=3)"),
        ((4, 3), [[4, 3, 1]], "'lengths' argument should be a 1D CPU int64 tensor, but got 2D cpu Long tensor"),
        ((0, 3), [1, 1, 1], "Cannot pack empty tensors."),
    ],
)
def test_pack_errors(torch, shape, lengths, text):
    pack = torch.nn.utils.rnn.pack_padded_sequence
    assert raises(RuntimeError, pack, torch.zeros(*shape), torch.tensor(lengths)).startswith(text)


def test_too_long():
    """PyTorch makes a packed sequence whose parts contradict each other; here it is an error."""
    text = raises(RuntimeError, pack_padded_sequence, tapegrad.zeros(4, 1), [5])
    assert text == "Expected all lengths to be at most the padded length 4, but got 5"


def test_total_length_too_short(torch):
    rnn = torch.nn.utils.rnn
    packed = rnn.pack_padded_sequence(torch.ones(3, 1), [3])
    assert raises(ValueError, rnn.pad_packed_sequence, packed, total_length=2) == (
        "Expected total_length to be at least the length of the longest sequence in input, but got total_length=2 "
        "and max sequence length being 3"
    )


def test_pad_sequence(torch):
    pad = torch.nn.utils.rnn.pad_sequence
    a, b = torch.ones(1, 2, requires_grad=True), torch.full((3, 2), 2.0)
    padded = pad([a, b])
    assert padded.shape == (3, 2, 2) and padded[:, 0].tolist() == [[1, 1], [0, 0], [0, 0]]
    padded.sum().backward()
    assert a.grad.tolist() == [[1, 1]] and padded.is_contiguous()
    left = pad([a, b], batch_first=True, padding_value=7, padding_side="left")
    assert left[0].tolist() == [[7, 7], [7, 7], [1, 1]] and left[1].tolist() == b.tolist()
    assert pad([torch.ones(2).long(), torch.ones(1) * 1.7]).tolist() == [[1, 1], [1, 0]]
    assert pad(torch.ones(2, 3)).shape == (3, 2)
    assert raises(RuntimeError, pad, 3) == (
        "pad_sequence: Expected iterable for input sequences, but got arg of type: <class 'int'>"
    )
    assert raises(RuntimeError, pad, []) == "received an empty list of sequences"
    assert raises(RuntimeError, pad, [a], padding_side="up") == (
        "Expected padding_side to be one of left or right, but got up."
    )
    assert raises(RuntimeError, pad, [torch.ones(2, 3), torch.ones(1, 4)])


def test_sequences_there_and_back(torch):
    rnn = torch.nn.utils.rnn
    sequences = [torch.arange(n) + 10 * n for n in (2, 3, 1)]
    expected = [s.tolist() for s in sequences]
    padded = rnn.pad_sequence(sequences, batch_first=True)
    found = rnn.unpad_sequence(padded, torch.tensor([2, 3, 1]), batch_first=True)
    assert [s.tolist() for s in found] == expected
    found = rnn.unpad_sequence(rnn.pad_sequence(sequences), torch.tensor([2, 3, 1]))
    assert [s.tolist() for s in found] == expected
    packed = rnn.pack_sequence(sequences, enforce_sorted=False)
    assert packed.data.tolist() == [30, 20, 10, 31, 21, 32]
    assert [s.tolist() for s in rnn.unpack_sequence(packed)] == expected
    assert raises(RuntimeError, rnn.pack_sequence, sequences).startswith("`lengths` array must be sorted")


# --- functional_call


def test_functional_call(torch):
    call, m = torch.func.functional_call, affine(torch)()
    weight, bias, calls = m.weight, m.bias, m.calls
    given = {"weight": torch.ones(2, 3, requires_grad=True), "bias": torch.ones(2)}
    y = call(m, given, torch.ones(3), {"scale": 10})
    assert y.tolist() == [40, 40]
    y.sum().backward()
    assert given["weight"].grad.tolist() == [[10] * 3] * 2 and weight.grad is None
    assert m.weight is weight and m.bias is bias and m._parameters["weight"] is weight and m.calls.item() == 1
    buffers = {"calls": torch.tensor(5)}
    call(m, [given, buffers], (torch.ones(3),))
    assert m.calls.item() == 1
    given = {**given, "calls": torch.tensor(5)}
    call(m, given, torch.ones(3))
    assert given["calls"].item() == 6 and calls.item() == 0
    with pytest.raises(RuntimeError):
        call(m, given, torch.ones(4))
    assert m.weight is weight and m.calls.item() == 1


def test_functional_call_of_tied_parameters(torch):
    call, Affine = torch.func.functional_call, affine(torch)
    m = torch.nn.ModuleDict({"a": Affine(), "b": Affine()})
    m.b.weight = m.a.weight
    m.forward = lambda x: m.a(x) + m.b(x)
    zeros, ones, x = torch.zeros(2, 3), torch.ones(2, 3), torch.ones(3)
    assert call(m, {"a.weight": ones}, x).tolist() == [6, 6]
    assert call(m, {"a.weight": ones}, x, tie_weights=False).tolist() == [8, 10]
    assert raises(ValueError, call, m, {"a.weight": ones, "b.weight": zeros}, x) == (
        "functional_call got multiple values for keys ['a.weight', 'b.weight'], which are tied. Consider using "
        "tie_weights=False"
    )
    assert m.a.weight is m.b.weight


def test_functional_call_errors(torch):
    call, m, x = torch.func.functional_call, affine(torch)(), torch.ones(3)
    assert raises(RuntimeError, call, m, {"foo": torch.ones(2)}, x, strict=True) == (
        "Error(s) in reparametrizing for Affine:\n\tUnexpected key(s): 'foo'.\n\t"
        "Missing key(s): 'bias', 'calls', 'weight'."
    )
    call(m, {"foo": torch.ones(2)}, x)
    assert not hasattr(m, "foo")
    assert raises(AttributeError, call, m, {"foo.bar": torch.ones(2)}, x) == "Affine has no attribute `foo`"
    assert raises(TypeError, call, m, {"weight": 3}, x) == "3 is not an instance of torch.Tensor"
    assert raises(ValueError, call, m, [{"weight": x}, {"weight": x}], x) == (
        "['weight'] appeared in multiple dictionaries; behavior of functional call is ambiguous"
    )
    assert (
        raises(ValueError, call, m, [3], x) == "Expected all elements of parameter_and_buffer_dicts to be dictionaries"
    )
    assert raises(ValueError, call, m, 3, x) == (
        "Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got <class 'int'>"
    )
    assert m.weight.tolist() == [[1, 2, 2], [0, 3, 4]]
