"""New tensors, conversions and legacy constructors beside PyTorch: values, dtypes, errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tapegrad
from both import Programs, cells, check

program = Programs()


@pytest.fixture(autouse=True)
def on_the_cpu() -> Iterator[None]:
    """What is compared here is the host's: memory shared with NumPy, names of types, default devices."""
    with tapegrad.device("cpu"):
        yield


# Each expression is evaluated with T as the one library, then the other. x: float32 (2, 3), i: int64 (2, 3), z: 0-d
# float64, c: complex64 (2,), b: bool (3,), h: float16 (2,), r: float32 (2,) that requires grad.
FROM_DATA = """
T.tensor(1) | T.tensor(1.5) | T.tensor(True) | T.tensor(1j) | T.tensor([]) | T.tensor([[]]) | T.tensor([[], []])
T.tensor(())
T.tensor([1, 2]) | T.tensor([1, 2.5]) | T.tensor([True, 2]) | T.tensor([True, False]) | T.tensor([1, 1j])
T.tensor([1.5, 2j, True])
T.tensor((1, 2)) | T.tensor([(1, 2), [3, 4]]) | T.tensor(range(3)) | T.tensor([range(3), range(3)])
T.tensor([[1.0]])
T.tensor([[[2]]])
T.tensor(np.float64(1.5)) | T.tensor(np.float32(1.5)) | T.tensor(np.int32(3)) | T.tensor(np.bool_(True))
T.tensor(np.int64(3))
T.tensor([np.float64(1.5), 2]) | T.tensor([np.float32(1.5)]) | T.tensor([np.int32(3)]) | T.tensor([1, np.float64(2)])
T.tensor([np.int8(1), np.int16(2)])
T.tensor(np.arange(3)) | T.tensor(np.arange(3.0)) | T.tensor(np.ones((2, 2), np.float16))
T.tensor([np.arange(2), np.arange(2)]) | T.tensor(np.array(3))
T.tensor([np.ones(2, np.float32), np.ones(2, np.float32)]) | T.tensor(np.arange(6).reshape(2, 3).T)
T.tensor(np.uint8(200))
T.tensor([T.tensor(1.5), T.tensor(2.5)]) | T.tensor([T.tensor(1), 2.5]) | T.tensor([[T.tensor(1), 2], [3, 4]])
T.tensor(x) | T.tensor([x[0, 0], x[0, 1]])
T.tensor(1, dtype=T.float32) | T.tensor(1.9, dtype=T.int64) | T.tensor([1.9, -1.9], dtype=T.int32)
T.tensor([0, 2], dtype=T.bool) | T.tensor(300, dtype=T.uint8)
T.tensor(-1, dtype=T.uint8) | T.tensor(1e10, dtype=T.float16) | T.tensor(2**40, dtype=T.int32)
T.tensor([1, 2], dtype=T.complex64) | T.tensor(1j, dtype=T.float32)
T.tensor(2**63) | T.tensor(2**64) | T.tensor(-2**63) | T.tensor(2**63 - 1) | T.tensor([2**70]) | T.tensor(2.0**70)
T.tensor(True, dtype=T.float64) | T.tensor(nan, dtype=T.int64) is not None
T.tensor([1, 2], dtype=float) | T.tensor([1, 2], dtype=int) | T.tensor([1, 2], dtype=bool)
T.tensor([1, 2], dtype=complex) | T.tensor([1, 2], dtype="float32")
T.tensor("a") | T.tensor(["a"]) | T.tensor(None) | T.tensor([None]) | T.tensor({}) | T.tensor({1, 2})
T.tensor(object()) | T.tensor([object()]) | T.tensor(np.array(["a"]))
T.tensor([[1, 2], [3]]) | T.tensor([[1, 2], 3]) | T.tensor([1, [2, 3]]) | T.tensor([[1], [2, 3]])
T.tensor([[[1]], [[2], [3]]]) | T.tensor(np.array([None])) | T.tensor(b"ab")
T.tensor() | T.tensor(1, 2) | T.tensor(1, foo=2) | T.tensor([1.0], requires_grad=True)
T.tensor([1], requires_grad=True) | T.tensor([1j], requires_grad=True) | T.tensor(data=[1])
T.tensor([1.0], device="cpu") | T.tensor([1.0], device="nowhere") | T.tensor(r) | T.tensor(r).is_leaf
T.tensor(1.0, pin_memory=False) | T.tensor([1.0]).is_contiguous()
T.tensor([1.5, nan, inf]) | T.tensor([[1, 2], [3, 4.5]]) | T.tensor(float("1e-50")) | T.tensor(0.1)
T.tensor(16777217)
T.tensor(0.1, dtype=T.float64)
T.as_tensor([1, 2]) | T.as_tensor(1.5) | T.as_tensor(np.arange(3)) | T.as_tensor(x) is x
T.as_tensor(x, dtype=T.float32) is x | T.as_tensor(x, dtype=T.float64) | T.as_tensor(r) is r
T.as_tensor(np.arange(3), dtype=T.float32) | T.as_tensor([1.9], dtype=T.int64) | T.as_tensor("a")
T.as_tensor(np.float32(2)) | T.as_tensor(r, dtype=T.float64).is_leaf | T.as_tensor(None)
T.asarray([1, 2]) | T.asarray(x) is x | T.asarray(x, copy=True) is x | T.asarray(np.arange(3)) | T.asarray(1.5)
T.asarray(x, dtype=T.int64) | T.asarray([1.0], requires_grad=True) | T.asarray(range(3))
T.from_numpy(np.arange(3)) | T.from_numpy(np.ones((2, 2), np.float16)) | T.from_numpy(np.array(1.5))
T.from_numpy(np.arange(4).reshape(2, 2).T).stride() | T.from_numpy(np.zeros(0))
T.from_numpy([1]) | T.from_numpy(np.array(["a"])) | T.from_numpy(np.arange(3)[::-1]) | T.from_numpy(np.float64(1))
T.from_numpy(np.array([None])) | T.from_numpy(np.zeros(2, np.complex64))
T.from_numpy(np.zeros(2, "M8[s]")) | T.from_numpy(np.zeros(2, np.longdouble)) | T.from_numpy(np.zeros(2, np.uint16))
T.from_numpy(np.zeros(2, ">f8")) | T.from_numpy(np.zeros(2, bool))
T.frombuffer(bytearray(b"abcd"), dtype=T.uint8) | T.frombuffer(bytearray(8), dtype=T.float32)
T.frombuffer(bytearray(8), dtype=T.int16, count=2, offset=2)
T.frombuffer(bytearray(4), dtype=T.float32, requires_grad=True)
T.frombuffer(bytearray(3), dtype=T.int16) | T.frombuffer(bytearray(8), dtype=T.int16, offset=9)
T.frombuffer(bytearray(0), dtype=T.uint8) | T.scalar_tensor(2) | T.scalar_tensor(2.5, dtype=T.int64)
T.scalar_tensor(True)
"""
FILLED = """
T.zeros(2, 3) | T.zeros((2, 3)) | T.zeros([2, 3]) | T.zeros(size=(2, 3)) | T.zeros(()) | T.zeros([]) | T.zeros(0)
T.zeros(2, 0, 3) | T.zeros(x.shape) | T.zeros(T.Size([2]))
T.zeros(2, dtype=T.int32) | T.zeros(2, dtype=int) | T.zeros(2, dtype=T.bool) | T.zeros(2, requires_grad=True)
T.zeros(2, dtype=T.int64, requires_grad=True) | T.zeros(np.int64(2)) | T.zeros(T.tensor(2))
T.zeros() | T.zeros(-1) | T.zeros(2, -3) | T.zeros(2.0) | T.zeros("a") | T.zeros(None) | T.zeros((2, 2.0))
T.zeros(2, foo=1) | T.zeros(2, dtype="int") | T.zeros((2, (3,))) | T.zeros(True)
T.zeros(2, device="cpu") | T.zeros(2, layout=T.strided) | T.zeros(2, pin_memory=False) | T.zeros(2, out=None)
T.ones(2, dtype=T.complex64)
T.ones(2, 3) | T.ones(()) | T.ones((2,), dtype=T.uint8) | T.ones(3, dtype=T.float16) | T.ones(2, dtype=T.bool)
T.ones(-2) | T.ones(1.5) | T.empty(2, 3).shape | T.empty(2, dtype=T.int8).dtype | T.empty(0)
T.full((2,), 1) | T.full((2,), 1.5) | T.full((2,), True) | T.full((2,), 1j) | T.full((2,), 1, dtype=T.float64)
T.full((), 3) | T.full([2, 1], 2.5) | T.full(2, 1) | T.full((2,), T.tensor(3)) | T.full((2,), T.tensor(3.5))
T.full((2,), 1.9, dtype=T.int64) | T.full((2,), "a") | T.full((2,), None) | T.full((-1,), 1) | T.full((2,))
T.full((2,), 1.0, requires_grad=True) | T.full((2,), 1, requires_grad=True) | T.full(size=(2,), fill_value=7)
T.full((2,), T.ones(2)) | T.full((1.5,), 1) | T.full((2,), nan) | T.full((2,), 300, dtype=T.uint8)
T.full((2,), 1j, dtype=T.float32) | T.full((2,), inf, dtype=T.float16) | T.full((2,), 1e300)
T.zeros_like(x) | T.zeros_like(i) | T.zeros_like(x, dtype=T.int32) | T.zeros_like(r)
T.zeros_like(r, requires_grad=True) | T.zeros_like(x.t()).stride()
T.zeros_like(x, memory_format=T.contiguous_format)
T.zeros_like([1]) | T.zeros_like(b)
T.ones_like(x) | T.ones_like(b) | T.ones_like(c) | T.ones_like(input=x) | T.ones_like(x, device="cpu")
T.full_like(x, 7) | T.full_like(i, 7.9) | T.full_like(x, 7, dtype=T.int64) | T.full_like(b, 2) | T.full_like(i, 1j)
T.empty_like(h).dtype
T.full_like(x, T.tensor(2)) | T.full_like(x, nan) | T.full_like(i, nan) is not None | T.empty_like(x.t()).stride()
T.empty_like(x, requires_grad=True).requires_grad | T.zeros_like(i, requires_grad=True) | T.zeros_like(z)
x.new_zeros(2) | x.new_zeros((2, 3)) | i.new_zeros(2) | i.new_zeros(2, dtype=T.float32) | x.new_ones(2, 1)
b.new_ones(2) | x.new_full((2,), 3) | i.new_full((2,), 3.7) | x.new_empty(2, 3).shape
x.new_zeros(2, requires_grad=True) | x.new_zeros(size=(1, 2))
x.new_tensor([1, 2]) | i.new_tensor([1.9]) | x.new_tensor(np.arange(2)) | i.new_tensor(5)
x.new_tensor([1], dtype=T.int8) | x.new_tensor([1.0], requires_grad=True) | x.new(2, 3).shape | x.new([1, 2])
i.new([1, 2]) | x.new(x).shape | x.new().shape | x.new_zeros(()) | x.new_zeros(-1)
"""
RANGES = """
T.arange(5) | T.arange(5.0) | T.arange(1, 4) | T.arange(1, 4, 2) | T.arange(0, 1, 0.25) | T.arange(4, 0, -1)
T.arange(0) | T.arange(1.5) | T.arange(-2) | T.arange(2, -2) | T.arange(0, 1, -1) | T.arange(0, 5, 0)
T.arange(end=3) | T.arange(start=1, end=3) | T.arange(1, end=3) | T.arange(1, 3, step=0.5) | T.arange(1, 10, step=3)
T.arange(start=0, end=1, step=0.3) | T.arange(0, 0.9, 0.3) | T.arange(0, 1, 0.1)
T.arange(1, 2, 0.1, dtype=T.float64)
T.arange(3, dtype=T.float32) | T.arange(3, dtype=T.uint8) | T.arange(2.5, dtype=T.int64)
T.arange(0, 2, 0.5, dtype=T.int64) | T.arange(3, dtype=T.bool) | T.arange(3, dtype=T.complex64)
T.arange(3.0, requires_grad=True) | T.arange(3, requires_grad=True)
T.arange(T.tensor(3)) | T.arange(T.tensor(3.0)) | T.arange(np.int64(3)) | T.arange(np.float64(3)) | T.arange("a")
T.arange() | T.arange(None) | T.arange(nan) | T.arange(0, inf) | T.arange(10, 0) | T.arange(True)
T.arange(0, 10**15, 10**14)
T.arange(2**53, 2**53 + 3) | T.arange(-5, 5, 3) | T.arange(3, dtype=T.float16) | T.arange(1e-3, 5e-3, 1e-3)
T.arange(0, 5, out=T.empty(0, dtype=T.int64)) | T.arange(1, 2, 3, 4) | T.arange(1j) | T.arange(5, 0, -2)
T.arange(1, 5, device="cpu")
T.linspace(0, 1, 5) | T.linspace(0, 1, 1) | T.linspace(0, 1, 0) | T.linspace(3, -3, 7)
T.linspace(0, 10, 4, dtype=T.int64) | T.linspace(0, 1, 3, dtype=T.float64) | T.linspace(0, 1, -1) | T.linspace(0, 1)
T.linspace(0, 1, steps=4) | T.linspace(0, 1, 2.5)
T.linspace(start=1, end=2, steps=3) | T.linspace(0, 1, 3, requires_grad=True)
T.linspace(T.tensor(0.0), T.tensor(1.0), 3) | T.linspace(0, 1j, 3) | T.linspace(-1, 1, 11)
T.linspace(0, 1, 3, dtype=T.float16) | T.linspace(0, 255, 4, dtype=T.uint8) | T.linspace(1, 1, 3)
T.linspace(0, 1, 100, dtype=T.float64) | T.linspace(-7, 7, 33) | T.linspace(10, 0, 6, dtype=T.int32)
T.linspace(0, 1, 3, dtype=T.complex64) | T.linspace("a", 1, 2) | T.linspace(-3.7, 3.7, 5, dtype=T.int64)
T.linspace(0, 9, 10, dtype=T.int8)
T.logspace(0, 2, 3) | T.logspace(0, 2, 3, base=2) | T.logspace(0, 1, 1) | T.logspace(0, 3, 4, dtype=T.int64)
T.logspace(0, 1, 0) | T.logspace(0, 1, -1) | T.logspace(-2, 2, 5, dtype=T.float64) | T.logspace(0, 2, 3, 10)
T.logspace(0, 1) | T.logspace(0, 1, 3, base=0.5)
T.eye(3) | T.eye(2, 3) | T.eye(3, 2) | T.eye(2, dtype=T.int64) | T.eye(0) | T.eye(-1) | T.eye(2, -1)
T.eye(2, requires_grad=True) | T.eye(2.0) | T.eye() | T.eye(n=2) | T.eye(2, m=1) | T.eye(2, dtype=T.bool) | T.eye("a")
T.complex(x, x) | T.polar(x, x)
T.tril_indices(3, 3) | T.triu_indices(2, 3, 1) | T.tril_indices(2, 4, offset=-1) | T.vander(T.tensor([1, 2, 3]))
T.complex(x, T.ones(2)) | T.complex(i, i) | T.heaviside(x, x)
"""
CONVERTED = """
x.to(T.float64) | x.to(dtype=T.int32) | x.to("cpu") is x | x.to(T.device("cpu")) is x | x.to(T.float32) is x
x.to(T.float32, copy=True) is x | x.to(i) | x.to(x) is x | x.to("cpu", T.float64)
x.to(device="cpu", dtype=T.float16)
x.to() | x.to("nowhere") | x.to(None) is x | x.to(foo=1) | x.to(float) | x.to("cpu", non_blocking=True) is x
x.to(T.float64, non_blocking=True) | x.to(T.float64, True) | x.to("cpu", T.float64, True, True)
x.to(memory_format=T.contiguous_format) | x.to([1])
x.float() is x | x.double() | x.half() | x.int() | x.long() | x.short() | x.char() | x.byte() | x.bool() | i.float()
i.double() | b.int() | b.float() | x.cfloat() | x.cdouble() | c.float() is not None | x.bfloat16() | i.bfloat16()
h.float()
T.tensor([1.9, -1.9]).int() | T.tensor([300.0, -1.0]).byte() | T.tensor([300]).to(T.uint8) | T.tensor([-1]).byte()
T.tensor([70000]).short() | T.tensor([1e10]).half() | T.tensor([0.5, 0, nan]).bool() | T.tensor([2.5, 3.5]).long()
T.tensor([257]).char()
x.type() | x.type(T.float64) | x.type("torch.IntTensor") | x.type(T.DoubleTensor) | x.type(T.FloatTensor) is x
i.type() | b.type() | h.type() | c.type() | x.type("foo") | x.type(T.int8).type() | x.type_as(i) | i.type_as(x)
x.type(float) | x.bfloat16().type() | x.type(3)
x.numpy() | i.numpy() | z.numpy() | b.numpy() | c.numpy() | h.numpy() | r.numpy() | r.numpy(force=True)
r.detach().numpy() | x.t().numpy() | T.zeros(0).numpy() | x[::, 1:].numpy()
x.tolist() | i.tolist() | z.tolist() | b.tolist() | c.tolist() | h.tolist() | r.tolist() | T.zeros(0).tolist()
T.zeros(2, 0).tolist() | x[0].tolist() | T.tensor(True).tolist() | T.tensor(3).tolist() | T.tensor([0.1]).tolist()
x.bfloat16().tolist()
z.item() | T.tensor(3).item() | T.tensor([[2.5]]).item() | T.tensor(True).item() | T.tensor(1j).item() | x.item()
T.zeros(0).item() | T.tensor(0.1).item() | h[0].item() | r[0].item() | T.tensor([5], dtype=T.uint8).item()
T.tensor([1.5]).bfloat16().item()
float(z) | int(T.tensor(2.7)) | int(T.tensor(-2.7)) | bool(T.tensor(0)) | bool(T.tensor([0.0])) | bool(x)
bool(T.zeros(0)) | float(x) | complex(T.tensor(1j)) | complex(z) | float(T.tensor(1j)) | int(T.tensor([3]))
int(T.tensor(nan)) | int(T.tensor(inf)) | float(T.tensor([2.5])) | int(r[0])
[10, 20, 30][T.tensor(1)] | [10, 20][T.tensor(1.0)] | [10, 20][T.tensor([1])] | [10, 20][T.tensor(True)]
range(T.tensor(3)) | list(range(5))[T.tensor(1) : T.tensor(3)] | [0] * T.tensor(2) | hex(T.tensor(10)) | [10, 20][i]
(0, 1)[T.tensor(1, dtype=T.uint8)] | round(T.tensor(2.5)) | len(x) | len(z)
x.clone() | x.contiguous() is x | x.t().contiguous() | x.t().is_contiguous() | x.cpu() is x | x.data is x | x.data
r.data | r.detach() | r.detach().requires_grad | x.is_floating_point() | i.is_floating_point()
T.is_floating_point(h)
c.is_complex() | x.is_signed()
T.is_tensor(x) | T.is_tensor([1]) | T.is_complex(c) | b.is_signed() | T.numel(x) | x.numel() | x.nelement()
x.element_size() | h.element_size() | x.nbytes | x.itemsize | x.dim() | x.ndim | x.size() | x.size(0) | x.size(-1)
x.size(5) | x.stride() | x.stride(0) | x.t().stride()
x.storage_offset() | x[1].storage_offset() | x[:, 1:].storage_offset() | x.is_cuda | x.is_sparse | x.device | x.layout
x.dtype | x.requires_grad | x.is_leaf | x.get_device() | x.is_pinned() | x.is_quantized | x.is_meta | x.grad_fn
x.grad
x.output_nr | x.is_inference()
x.is_same_size(i) | T.is_same_size(x, z) | x.is_set_to(x) | x.equal(x.clone()) | x.data_ptr() == x.data_ptr()
x[0].data_ptr() == x.data_ptr() | x[1].data_ptr() - x.data_ptr() | T.equal(x, i) | T.is_nonzero(z) | T.is_nonzero(x)
hash(x) == hash(x) | x.T.shape | x.mT.shape | x.H.shape
z in x | 0.0 in x | 99 in x | "a" in x | x in [x] | None in x | x == None | x != None | x is None | x.eq(None)
T.tensor([1]) in [T.tensor([2]), T.tensor([1])] | [t.item() for t in T.arange(3)] | list(z) | iter(x) is not None
tuple(T.arange(2)) | dict(zip("ab", T.arange(2)))
x.copy_(i) | x.copy_(T.tensor(2.0)) | x.copy_(T.ones(3)) | x.copy_(T.ones(4)) | x.copy_(3)
i.copy_(T.tensor([1.9, -1.9, 2.5])) | b.copy_(T.tensor([0.0, 0.5, 2.0]))
x.copy_(c[:, None].expand(2, 3)) is not None
x.copy_(x.t()) | x[0].copy_(T.ones(2, 3)) | r.copy_(T.ones(2))
x.fill_(3) | i.fill_(2.7) | x.fill_(T.tensor(4)) | x.fill_(T.ones(2)) | b.fill_(2) | x.fill_(1j) | x.fill_("a")
r.fill_(1) | x.zero_() | i.fill_(nan) is not None | T.zeros(2, dtype=T.uint8).fill_(300)
T.zeros(2, dtype=T.uint8).fill_(-1) | x[0].fill_(5) | x.fill_(inf) | x.fill_(value=2) | h.fill_(1e10)
x.apply_(lambda v: v * 2) | i.apply_(lambda v: v + 1) | r.apply_(lambda v: v) | x.share_memory_() is x
x.detach_() is x | r.requires_grad_(False) is r | i.requires_grad_() | x.requires_grad_().requires_grad
T.result_type(x, z) | T.result_type(i, 1.5) | T.result_type(i, x) | T.result_type(2, 1.5) | T.result_type(h, 1)
T.result_type(h, z) | T.result_type(True, 1) | T.result_type(b, 1) | T.result_type(z, 1j)
T.result_type(T.tensor(3), b) | T.result_type("a", 1)
x.real | c.real | c.imag | x.imag | T.view_as_real(c) | T.view_as_complex(x[:, :2].contiguous()) | c.conj() | x.conj()
c.resolve_conj() | T.real(c) | x.view(T.int32) | x.view(T.int16).shape | i.view(T.float64).dtype
x[0].view(T.uint8).shape | h.view(T.int16) | z.view(T.int64) | x[:, 1:2].view(T.float64)
"""
LEGACY = """
T.FloatTensor([1, 2]) | T.FloatTensor(2, 3).shape | T.FloatTensor().shape | T.LongTensor([1.9, 2])
T.LongTensor([1, 2]) | T.IntTensor(2).dtype | T.ByteTensor([1, 2]) | T.BoolTensor([1, 0]) | T.DoubleTensor([[1]])
T.HalfTensor([1.5]) | T.FloatTensor(np.arange(3.0, dtype=np.float32))
T.FloatTensor(x).shape | T.FloatTensor((1, 2)) | T.FloatTensor(T.Size([2, 2])).shape | T.FloatTensor(2.5)
T.FloatTensor("a") | T.FloatTensor([[1, 2], [3]]) | T.FloatTensor(1, 2.0) | T.FloatTensor(-1) | T.CharTensor([1])
T.ShortTensor([1, 2]) | T.FloatTensor([T.tensor(1.0)]) | T.FloatTensor(None)
T.Tensor([1, 2]) | T.Tensor(2, 3).shape | T.Tensor().shape | T.Tensor(x).data_ptr() == x.data_ptr()
T.Tensor(2).shape
T.Tensor([[1.5]]).dtype | T.Tensor(np.arange(2.0)) | T.Tensor(2.5) | T.Tensor("ab") | T.Tensor((2, 3))
T.Tensor(T.Size([2, 3])).shape | T.Tensor(i) | T.Tensor([True]) | T.Tensor(range(2)) | T.Tensor(1, device="cpu").shape
isinstance(x, T.FloatTensor) | isinstance(i, T.LongTensor) | isinstance(i, T.FloatTensor) | isinstance(x, T.Tensor)
isinstance(b, T.BoolTensor) | isinstance(r, T.FloatTensor) | T.FloatTensor.dtype | T.LongTensor.dtype
T.FloatTensor is T.DoubleTensor | isinstance(3, T.FloatTensor) | isinstance(T.nn.Parameter(x), T.FloatTensor)
isinstance(x, T.autograd.Variable) | T.autograd.Variable(x) is x
T.autograd.Variable(x, requires_grad=True).requires_grad | T.autograd.Variable(x, volatile=True) is not None
type(T.autograd.Variable(x)).__name__ | T.autograd.variable.Variable is T.autograd.Variable | type(x).__name__
T.set_default_tensor_type is not None | T.get_default_dtype() | T.is_grad_enabled() | T.typename(x) | T.typename(3)
T.Size([1, 2]) | T.numel(T.zeros(2, 0)) | T.finfo(T.float32).eps | T.typename("a") | T.BFloat16Tensor([1.0])
T.device("cpu").type
"""
CELLS = [c for table in (FROM_DATA, FILLED, RANGES, CONVERTED, LEGACY) for c in cells(table)]
INPUTS: dict[str, Any] = {
    "x": lambda T: T.tensor(np.arange(6, dtype="f4").reshape(2, 3)),
    "i": lambda T: T.tensor(np.arange(6).reshape(2, 3)),
    "z": lambda T: T.tensor(2.5, dtype=T.float64),
    "c": lambda T: T.tensor([1 + 2j, 3 - 1j]),
    "b": lambda T: T.tensor([True, False, True]),
    "h": lambda T: T.tensor([1.5, -2.0], dtype=T.float16),
    "r": lambda T: T.tensor([1.0, 2.0], requires_grad=True),
}


@pytest.mark.parametrize("text", CELLS)
def test_expression(text: str) -> None:
    """Values, dtypes and flags are torch's, and so are exceptions' types."""
    check(text, length=0, **INPUTS)
