"""Shape functions and index functions beside PyTorch: values, dtypes, shapes, strides, errors, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import tapegrad
from beside_torch import flat, outcome, same_call, same_gradient

real_torch = pytest.importorskip("torch")

# Inputs (beside_torch.py): x (2, 3) float32, d (3, 4) and cube (3, 4, 5) float64, v (5,), z (), e (0,), i int, b bool.
SHAPES = """
x.view(3, 2)|x.view(-1)|x.view((2, -1))|x.view(size=(6,))|x.view(T.tensor(3), 2)|x.view(-1, -1)|x.view(4, -1)
x.view(5, 2)|x.view(-2, 3)|x.view(0, -1)|e.view(-1, 0)|e.view(3, -1)|x.t().view(-1)|x.view(2.0, 3)|x.view("a")|x.view()
z.view(1, 1)|x.view(T.int32)|d.view(T.int32)|x.view(dtype=T.uint8)|x.view(T.float64)|z.view(T.int64)|x.view_as(i)
x.view_as(v)|cube[:, 1:].view(3, 15)|cube[:, 1:].view(3, 3, 5, 1)|cube.transpose(0, 1).view(12, 5)
cube[:, :, :1].view(3, 4)|x.reshape(3, 2)|x.t().reshape(6)|x.reshape((6,))|x.reshape(shape=(1, 6))|x.reshape(4)
x.reshape(2.0, 3)|x.reshape()|e3.reshape(0, -1)|x.reshape_as(T.zeros(3, 2))|T.reshape(x, (-1,))
cube.permute(2, 0, 1).reshape(5, 12).stride()|x.permute(1, 0)|x.permute((1, 0))|x.permute(dims=(1, 0))|x.permute(0)
x.permute(0, 0)|x.permute(0, 5)|x.permute()|z.permute(())|x.permute(1.0, 0)|cube.permute(-1, 0, 1)|x.transpose(0, 1)
x.transpose(-1, 0)|x.transpose(0, 5)|x.transpose(0)|z.transpose(0, -1)|x.swapaxes(0, 1)|x.swapdims(0, 1)
T.swapaxes(x, axis0=0, axis1=1)|T.transpose(x, dim0=0, dim1=1)|x.transpose("a", 1)|cube.movedim(0, 2)
cube.movedim((0, 1), (1, 2))|cube.moveaxis(-1, 0)|cube.movedim((0, 0), (1, 0))|cube.movedim((0,), (1, 0))
cube.movedim(0, 5)|x.t()|v.t()|z.t()|cube.t()|x.T|x.mT|cube.mT|v.mT|v.H|x.H|c.H + 0|c.mH + 0|c.adjoint() + 0
v.adjoint()|cube.H|x[None].squeeze()|x[None].squeeze(0)|x[None].squeeze(1)|x[None].squeeze((0, 1))|x.squeeze(())
x.squeeze(5)|x.squeeze("a")|z.squeeze(0)|x[None].squeeze(dim=0)|T.squeeze(one, -2)|x.unsqueeze(0)|x.unsqueeze(-1)
x.unsqueeze(5)|z.unsqueeze(0)|z.unsqueeze(1)|x.unsqueeze()|x.flatten()|x.flatten(1, 0)|cube.flatten(1)
cube.flatten(0, 1)|cube.flatten(start_dim=1, end_dim=-1)|z.flatten()|cube.transpose(0, 1).flatten()|cube.flatten(0, 3)
d.unflatten(1, (2, 2))|d.unflatten(-1, (2, -1))|d.unflatten(1, (2, 3))|d.unflatten(5, (2, 2))|d.unflatten(1, ())
x.ravel()|x.t().ravel()|x.expand(2, 2, 3)|x.expand(2, -1, -1)|x.expand((2, 2, 3))|x.expand(size=(2, 3))
x.expand(-1, 2, 3)|x.expand(3)|x.expand(2, 5)|x[:, :1].expand(-1, 4)|x[:, :1].expand(-1, 4).stride()|x.expand()
x.expand("a")|z.expand(2, 2)|z.expand(())|x.expand_as(T.zeros(4, 2, 3))|x.broadcast_to((4, 2, 3))
T.broadcast_to(x, (4, 2, 3))|T.broadcast_tensors(x, T.zeros(4, 1, 1))|T.broadcast_tensors(x, T.zeros(3, 1))
T.broadcast_shapes((3, 1), (4,))|T.broadcast_shapes((3, 2), (4,))|T.broadcast_shapes(3, (4, 3))|x.select(0, 1)
x.select(1, -1)|x.select(0, 5)|z.select(0, 0)|x.select(dim=1, index=0)|d.narrow(1, 1, 2)|d.narrow(1, -2, 1)
d.narrow(0, 1, 3)|d.narrow(0, 4, 1)|d.narrow(0, 1, -1)|T.narrow(d, 0, T.tensor(1), 1)|d.diagonal()|d.diagonal(1)
d.diagonal(-1)|d.diagonal(9)|d.diagonal(0, 0, 0)|cube.diagonal(1, 0, 2)|cube.diagonal(dim1=2, dim2=1)|v.unfold(0, 2, 1)
d.unfold(1, 3, 2)|d.unfold(1, 5, 1)|d.unfold(1, 2, 0)|d.unfold(1, -1, 1)|z.unfold(0, 1, 1)
d.unfold(dimension=0, size=1, step=1)|d.as_strided((2, 2), (1, 2))|d.as_strided((2, 2), (1, 2), 3)
d.as_strided((2, 2), (10, 2), 3)|d.as_strided((2, 2), (-1, 2))|d.as_strided((2,), (1, 2))|d[1:].as_strided((2,), (1,))
d[1:].as_strided((2,), (1,), 0)|d.t().as_strided((3,), (2,), 1)|x.size()|x.size(-1)|x.size(5)|x.size(1.5)|x.stride()
x.stride(0)|x.stride(2)|x.t().stride()|x[None].stride()|x.unsqueeze(1).stride()|T.zeros(2, 0, 3).stride()
cube[1, :, 2:].storage_offset()|x.storage_offset()|x[1].data_ptr() - x.data_ptr()|x.element_size()|h.element_size()
x.numel()|T.numel(x)|x.nelement()|x.dim()|x.ndimension()|x.ndim|x.is_contiguous()|x.t().is_contiguous()
x.t().contiguous().is_contiguous()|x.t().contiguous().stride()|x.t().is_contiguous(memory_format=T.contiguous_format)
e.data_ptr()|cube[None].is_contiguous(memory_format=T.channels_last)|T.is_same_size(x, i)|x.is_same_size(d)
T.is_same_size(x, 1)|T.numel([1])|x.clone().unsqueeze_(0)|x.clone().squeeze_()|x.clone().t_()
x.clone().transpose_(0, 1)|x.clone().swapaxes_(0, 1)|x.clone().unsqueeze_(5)
"""

JOINS = """
T.cat([x, x])|T.cat((x, x), 1)|T.cat([x, x], dim=-1)|T.cat([x, x], axis=1)|T.cat([x, v])|T.cat([d, T.zeros(2, 3)])
T.cat([])|T.cat([d, T.zeros(2, 3)], dim=1)|T.cat([x, e])|T.cat([e, e])|T.cat([e, i])|T.cat([z])|T.cat([x, i])
T.cat([i, u])|T.cat([b, u])|T.cat(x)|T.cat([x, 1])|T.cat([x, x], 2)|T.cat([x, x], "a")|T.cat([x, d[:2, :3]])
T.cat([x] * 12, 1)|T.concat([x, x])|T.concatenate([x, x], axis=1)|T.stack([x, x])|T.stack([x, x], 2)
T.stack([x, x], dim=-1)|T.stack([x, x], 5)|T.stack([])|T.stack([x, v])|T.stack([x, i])|T.stack([z, z])|T.stack(x)
T.stack([x, 1])|T.stack(1)|T.hstack([x, x])|T.hstack([v, v])|T.hstack([z, z])|T.hstack([])|T.vstack([v, v])
T.vstack([x, x])|T.vstack(x)|T.row_stack([v, v])|T.dstack([v, v])|T.dstack([x, x])|T.column_stack([v, v])
T.column_stack([z, z])|T.column_stack([x, x])|T.atleast_1d(z)|T.atleast_2d(z)|T.atleast_2d(v)|T.atleast_3d(v)
T.atleast_3d(x)|T.atleast_3d(z)|T.atleast_1d(v, z)|T.atleast_2d([v, z])|T.block_diag(x, v, z)|T.block_diag(cube)
d.split(2)|d.split(3, 1)|d.split([1, 3], 1)|d.split([1, 2], dim=1)|d.split([1, -2])|d.split(0)|d.split(-1)
d.split(split_size=2)|T.split(d, split_size_or_sections=[1, 2])|T.split(d, 1, -1)|d.split(1.5)|d.split("a")
e3.split(1, 1)|e3.split(0, 1)|z.split(1)|d.chunk(2)|d.chunk(5, 1)|d.chunk(0)|T.chunk(d, chunks=2, dim=1)|e3.chunk(2, 1)
v.chunk(4)|d.tensor_split(2)|d.tensor_split((1, 3), dim=1)|d.tensor_split(T.tensor([1, 2]))|v.tensor_split(3)
v.tensor_split((2, 1, 9, -1))|d.tensor_split(0)|d.hsplit(2)|d.hsplit([1])|d.hsplit(3)|v.hsplit(5)|d.vsplit(3)
d.vsplit(2)|v.vsplit(1)|d.dsplit(2)|cube.dsplit(5)|z.hsplit(1)|d.unbind()|d.unbind(1)|d.unbind(3)|z.unbind()|v.unbind()
e3.unbind(1)|list(d)|T.unbind(cube, dim=-1)
"""

REARRANGED = """
x.repeat(2, 2)|x.repeat(2)|x.repeat(2, 1, 1)|x.repeat((2, 2))|x.repeat(repeats=(2, 2))|x.repeat(-1, 2)|x.repeat()
x.repeat(0, 1)|z.repeat(3)|x.t().repeat(2, 1, 1)|x.tile(2)|x.tile((2, 2, 2))|T.tile(x, dims=(2,))
x.repeat_interleave(2)|x.repeat_interleave(2, dim=1)|x.repeat_interleave(2, 0)
d.repeat_interleave(T.tensor([1, 2, 0]), dim=0)|d.repeat_interleave(T.tensor([1, 2]), dim=0)
d.repeat_interleave(T.tensor([1, 2, -1]), dim=0)|T.repeat_interleave(T.tensor([1, 0, 2]))|x.repeat_interleave(-1)
v.repeat_interleave(T.tensor([2]))|T.repeat_interleave(d, T.tensor([1, 2, 3]), dim=0, output_size=6)
x.repeat_interleave(1.5)|x.flip(0)|x.flip((0, 1))|x.flip(0, 1)|x.flip(dims=[1])|x.flip(0, 0)|x.flip(5)|x.flip(())
z.flip(0)|x.fliplr()|v.fliplr()|x.flipud()|z.flipud()|x.roll(1)|x.roll(1, 0)|d.roll((1, 2), (0, 1))|x.roll((1, 2), 0)
x.roll(shifts=1, dims=1)|x.roll(1, 5)|z.roll(1)|v.roll(-7)|x.roll((), ())|x.rot90()|x.rot90(2, (0, 1))|x.rot90(-1)
x.rot90(0)|x.rot90(1, (0, 0))|T.rot90(cube, k=3, dims=[1, 2])|v.rot90()|x.rot90(1, (0,))|d.tril()|d.triu(1)
cube.tril(-1)|v.tril()|b.triu()|i.tril(diagonal=1)|d.clone().tril_()|x.clone().triu_(1)|h.tril()|c.triu()
T.tril_indices(3, 3)|T.triu_indices(3, 4, 1)|T.tril_indices(3, 4, offset=-1, dtype=T.int32)|T.tril_indices(-1, 3)
T.triu_indices(3, 3, -1)|v.diag()|v.diag(-1)|d.diag()|d.diag(1)|cube.diag()|x.diag_embed()|x.diag_embed(1, 0, 1)
x.diag_embed(-1, 2, 0)|x.diag_embed(0, 0, 0)|x.diagflat()|v.diagflat(1)|T.meshgrid(v, v[:2], indexing="ij")
T.meshgrid(v, v[:2], indexing="xy")|T.meshgrid([v, v], indexing="ij")|T.meshgrid(z, v, indexing="ij")
T.meshgrid(v, i[0], indexing="ij")|T.meshgrid(v, indexing="zz")|T.meshgrid()|T.meshgrid(v, v[:2], v[:3], indexing="xy")
T.cartesian_prod(v, v[:2])|T.cartesian_prod(v)|T.cartesian_prod(x)|T.combinations(v)|T.combinations(v, 3, True)
T.combinations(v, 0)|T.combinations(v, -1)|T.combinations(x)|T.unravel_index(T.tensor([5, 7]), (3, 4))
"""

INDEX = """
d.gather(1, T.tensor([[0, 1], [3, 0]]))|d.gather(0, T.tensor([[0, 1, 2, 0]]))|d.gather(0, T.tensor([[0, 1], [3, 0]]))
d.gather(0, T.tensor([0]))|d.gather(0, T.tensor([[0, -1]]))|d.gather(0, T.tensor([[0, 1, 2, 0, 1]]))
d.gather(5, T.tensor([[0]]))|d.gather(0, T.tensor([[0.0]]))|d.gather(0, T.tensor([[0]], dtype=T.int32))
z.gather(0, T.tensor([0]))|z.gather(0, T.tensor(0))|T.gather(d, dim=1, index=T.tensor([[1]]))
d.gather(0, T.zeros(0, dtype=T.int64))|cube.transpose(0, 2).gather(1, T.tensor([[[0], [3]]]))
T.gather(d, 0, T.tensor([[0]]), sparse_grad=False)|d.scatter(0, T.tensor([[0, 1], [2, 0]]), 1.0)
d.scatter(0, T.tensor([[0, 1], [2, 0]]), d)|d.scatter(0, T.tensor([[0, 1], [2, 0]]), d[:1])
d.scatter(0, T.tensor([[3]]), 1.0)|d.scatter(0, T.tensor([[0]]), x)
d.scatter(0, T.tensor([[0, 1], [0, 0]]), 2.0, reduce="multiply")|d.scatter(0, T.tensor([[0]]), 2.0, reduce="zz")
i.scatter(0, T.tensor([[0]]), 1.5)|d.clone().scatter_(1, T.tensor([[0], [1], [2]]), 1)
d.clone().scatter_(1, T.tensor([[0], [1], [2]]), value=True)|d.scatter(1, T.tensor([[0]]), z)
d.clone().scatter_(dim=1, index=T.tensor([[0], [1]]), src=d)|d.scatter(0, T.tensor([[0]]), 1j)
z.scatter(0, T.tensor([0]), 2.0)|d.t().clone().t().scatter_(0, T.tensor([[0, 2, 1]]), 9.0)
d.clone().t().scatter_(0, T.tensor([[0, 2, 1]]), 9.0)|d.scatter_add(0, T.tensor([[0, 1], [0, 0]]), d)
d.scatter_add(0, T.tensor([[0, 1], [0, 0]]), x)|d.clone().scatter_add_(1, T.tensor([[0, 0]]), d)
i.scatter_add(1, T.tensor([[0, 0], [1, 1]]), i)|h.scatter_add(1, T.tensor([[0, 0, 0]]), h)
d.scatter_add(0, T.tensor([[0]]), 1.0)|d.scatter_reduce(0, T.tensor([[0, 1], [0, 0]]), d, "sum")
d.scatter_reduce(0, T.tensor([[0, 1], [0, 0]]), d, "prod", include_self=False)
d.scatter_reduce(0, T.tensor([[0, 1], [0, 0]]), d, reduce="amax")
d.scatter_reduce(0, T.tensor([[0, 1], [0, 0]]), d, "amin", include_self=False)
i.scatter_reduce(1, T.tensor([[0, 0], [1, 1]]), i, "mean")
i.scatter_reduce(1, T.tensor([[0, 0], [1, 1]]), i, "amax", include_self=False)
d.scatter_reduce(0, T.tensor([[0]]), d, "zz")
d.clone().scatter_reduce_(0, T.tensor([[0, 1], [0, 0]]), d, "mean", include_self=False)
d.index_select(0, T.tensor([2, 0]))|d.index_select(0, T.tensor([3]))|d.index_select(0, T.tensor([-1]))
d.index_select(0, T.tensor([[0]]))|d.index_select(1, T.tensor(1))|d.index_select(0, T.tensor([0.0]))
d.index_select(1, T.tensor([0], dtype=T.int32))|d.index_select(5, T.tensor([0]))|z.index_select(0, T.tensor([0]))
T.index_select(d, dim=-1, index=T.tensor([0, 0]))|d.index_select(0, T.tensor([], dtype=T.int64))
d.index_add(0, T.tensor([0, 2, 0]), d)|d.index_add(0, T.tensor([0, 2]), d[:2], alpha=2)
d.index_add(0, T.tensor([0, 2]), d)|d.index_add(0, T.tensor([0, 2]), d[:2, :3])
d.index_add(0, T.tensor([0, 2]), T.ones(2, 4))|d.index_add(0, T.tensor([3]), d[:1])
d.index_add(0, T.tensor([-1]), d[:1])|d.index_add(0, T.tensor([[0]]), d[:1])|d.index_add(0, T.tensor([0.0]), d[:1])
d.clone().index_add_(1, T.tensor([0, 0]), d[:, :2])|d.clone().t().index_add_(0, T.tensor([0, 0]), d.t()[:2])
i.index_add(0, T.tensor([1]), i[:1], alpha=3)|d.index_copy(0, T.tensor([0, 2]), d[:2])
d.index_copy(0, T.tensor([0, 2]), d)|d.index_copy(0, T.tensor([0]), d[:1, :3])|d.index_copy(0, T.tensor([3]), d[:1])
d.index_copy(0, T.tensor([0]), T.ones(1, 4))|d.index_copy(0, T.tensor([0], dtype=T.int32), d[:1])
d.clone().index_copy_(1, T.tensor([3, 1]), d[:, :2])|d.index_fill(0, T.tensor([0, -1]), 1.5)
d.index_fill(0, T.tensor([0]), z.double())|d.index_fill(0, T.tensor([0]), v)|d.index_fill(0, T.tensor([5]), 1.0)
d.index_fill(0, T.tensor([0], dtype=T.int32), 1.0)|d.clone().index_fill_(1, T.tensor([1]), -1)
i.index_fill(0, T.tensor([1]), 2.5)|d.index_put((T.tensor([0, 2]),), z.double())
d.index_put((T.tensor([0, 0]),), d[:2], accumulate=True)|d.index_put((T.tensor([0]),), x[0, 0])
d.index_put([T.tensor([0]), T.tensor([1])], z.double())|d.index_put((T.tensor([0]),), 1.0)
d.index_put(T.tensor([0]), z)|d.index_put((1,), z)|d.index_put((d > 1,), z.double())
d.clone().index_put_((T.tensor([0, 2]), T.tensor([1])), v[:2])|d.index_put((T.tensor([5]),), z.double())
d.take(T.tensor([[0, 11], [-1, 2]]))|d.take(T.tensor([12]))|d.take(T.tensor([-13]))
d.take(T.tensor([0], dtype=T.int32))|d.t().take(T.tensor([1, 2]))|d.put(T.tensor([0, -1]), v[:2])
d.put(T.tensor([0, 0]), v[:2], accumulate=True)|d.put(T.tensor([0]), v)|d.put(T.tensor([20]), v[:1])
d.put(T.tensor([0]), x[0, :1])|d.clone().put_(T.tensor([[0, 3]]), v[None, :2])|d.clone().t().put_(T.tensor([1]), v[:1])
T.take_along_dim(d, T.tensor([[0], [1], [-1]]), dim=1)|T.take_along_dim(d, T.tensor([[0], [1]]))
T.take_along_dim(d, T.tensor([[0, 1]]), 1)|T.take_along_dim(d, T.tensor([0, 1]), 1)
T.take_along_dim(d, T.tensor([[0.0]]), 1)|d.take_along_dim(d.argsort(1), 1)|d.masked_fill(d > 1, 0.5)
d.masked_fill((d > 1)[:, :1], -inf)|d.masked_fill(T.ones(2, 3, 4, dtype=T.bool), 1.0)|d.masked_fill(b, 1.0)
d.masked_fill(d > 1, z)|d.masked_fill(d > 1, v)|x.masked_fill(i, 1.0)|i.masked_fill(b, 1.5)|i.masked_fill(b, z)
u.masked_fill(b, 300)|u.masked_fill(b, -1)|h.masked_fill(b, 1e10)|x.masked_fill(b, 1j)|b.masked_fill(b, 2)
d.clone().masked_fill_(d > 1, 0)|d.clone().masked_fill_(T.ones(2, 3, 4, dtype=T.bool), 1.0)
d.clone().t().masked_fill_(d.t() > 1, 7)|i.masked_fill(b, nan)|T.masked_fill(x, b, value=2)
x.masked_fill(mask=b, value=2)|z.masked_fill(T.tensor(True), 1)|d.masked_select(d > 1)|d.masked_select((d > 1)[:, :1])
d.masked_select(b)|d.masked_select(i)|d.masked_select(T.zeros(3, 1, dtype=T.bool))|v.masked_select((d > 1)[:, :1])
d.masked_scatter(d > 1, v)|d.masked_scatter((d > 1)[:, :1], d)|d.masked_scatter(d > -9, v)|d.masked_scatter(d > 1, x)
x.masked_scatter(i, x)|d.clone().masked_scatter_(d > 1, v)|T.nonzero(zeros)|T.nonzero(zeros, as_tuple=True)|z.nonzero()
z.nonzero(as_tuple=True)|b.nonzero()|e.nonzero()|T.argwhere(zeros)|T.argwhere(z)|T.where(b)
d.select_scatter(v[:4], 0, 1)|d.select_scatter(v, 0, 1)|d.select_scatter(v[:3], 1, -1)|d.select_scatter(v[:4], 0, 7)
d.slice_scatter(T.ones(1, 4), 0, 1, 2)|d.slice_scatter(T.ones(1, 4), start=2)|d.slice_scatter(T.ones(2, 4), start=2)
d.slice_scatter(T.ones(3, 2), 1, step=2)|d.diagonal_scatter(v[:3])|d.diagonal_scatter(v[:3], 1)|d.diagonal_scatter(v)
d.clone().fill_diagonal_(5)|T.zeros(7, 3).fill_diagonal_(1, wrap=True)|T.zeros(3, 3, 3).fill_diagonal_(2)
v.clone().fill_diagonal_(1)|T.zeros(2, 3, 3).fill_diagonal_(1)|T.searchsorted(v.sort()[0], 2.5)
T.searchsorted(v.sort()[0], d)|T.searchsorted(v.sort()[0], v, right=True, out_int32=True)
T.searchsorted(v, v, side="zz")|T.searchsorted(v.sort()[0], v, side="right")
T.searchsorted(v, v, side="left", right=True)|T.searchsorted(d.sort(1)[0], d)|T.searchsorted(d, x)
T.searchsorted(v, v, sorter=v.argsort())|T.searchsorted(v, v, sorter=T.tensor([0]))|T.bucketize(d, v.sort()[0])
T.bucketize(d, v.sort()[0], right=True)|T.bucketize(2.5, v.sort()[0])|T.bucketize(d, d)
T.bucketize(i, T.tensor([1, 3]), out_int32=True)
"""

# What autograd shows: the names of nodes, and whether memory is shared.
GRAPHS = """
d.requires_grad_()[0].grad_fn.name()|d.requires_grad_()[1:].grad_fn.name()|d.requires_grad_()[:].grad_fn.name()
d.requires_grad_()[...].grad_fn.name()|d.requires_grad_()[None].grad_fn.name()|d.requires_grad_()[0, 1:].grad_fn.name()
d.requires_grad_()[1:, 0].grad_fn.name()|d.requires_grad_()[:, 0].grad_fn.name()|d.requires_grad_()[[0]].grad_fn.name()
d.requires_grad_()[d > 1].grad_fn.name()|d.requires_grad_().view(-1).grad_fn.name()
d.requires_grad_().t().reshape(-1).grad_fn.name()|d.requires_grad_().split(2)[0].grad_fn.name()
d.requires_grad_().split([1, 2])[0].grad_fn.name()|d.requires_grad_().chunk(2)[1].grad_fn.name()
d.requires_grad_().unbind()[0].grad_fn.name()|list(d.requires_grad_())[0].grad_fn.name()
d.requires_grad_().squeeze().grad_fn.name()|d.requires_grad_().squeeze(0).grad_fn.name()
d.requires_grad_().squeeze((0,)).grad_fn.name()|d.requires_grad_().T.grad_fn.name()
d.requires_grad_().t().grad_fn.name()|d.requires_grad_().mT.grad_fn.name()
d.requires_grad_().expand(2, 3, 4).grad_fn.name()|T.cat([d.requires_grad_(), d]).grad_fn.name()
T.stack([d.requires_grad_(), d]).grad_fn.name()|d.requires_grad_().repeat(1, 2).grad_fn.name()
d.requires_grad_().narrow(0, 0, 1).grad_fn.name()|d.requires_grad_().rot90().grad_fn.name()
d.requires_grad_().flip(0).grad_fn.name()|d.requires_grad_().masked_fill(d > 1, 0).grad_fn.name()
d.requires_grad_().masked_fill(d > 1, v[0]).grad_fn.name()
d.requires_grad_().scatter(0, T.tensor([[0]]), 1.0).grad_fn.name()
d.requires_grad_().scatter(0, T.tensor([[0]]), d).grad_fn.name()
d.requires_grad_().index_fill(0, T.tensor([0]), 1.0).grad_fn.name()|d.requires_grad_().diag_embed().grad_fn.name()
d.requires_grad_().contiguous().requires_grad|d.requires_grad_().flatten(0, 0) is d|d.contiguous() is d
v.flatten() is v|(d.view(-1)._base is d)|d.reshape(4, 3)._base is d|d.t().reshape(-1)._base is None|d[0]._base is d
d[0][1]._base is d|d.split(1)[0]._base is d|d.view(-1).data_ptr() == d.data_ptr()|d[1:, 1:].storage_offset()
d.t()[1].is_contiguous()
"""

GRADIENTS = """
d.view(2, 6)|d.t().reshape(-1)|d.permute(1, 0)|cube.permute(2, 0, 1)|d.transpose(0, 1)|d.t()|cube.mT|c.mH|c.H|d.T
cube.movedim(0, 2)|d[None].squeeze()|d[None].squeeze(0)|one.squeeze((0,))|d.unsqueeze(1)|cube.flatten(1)
d.unflatten(1, (2, 2))|d.t().ravel()|d.expand(2, 3, 4)|d[:, :1].expand(-1, 3)|T.broadcast_tensors(d, T.zeros(2, 1, 1))
d.select(1, 2)|d.narrow(1, 1, 2)|d.diagonal(1)|cube.diagonal(0, 2, 1)|d.unfold(1, 3, 1)|cube.unfold(0, 2, 1)
d.as_strided((3, 3), (2, 1), 1)|d.t().as_strided((3, 3), (2, 1), 1)|d.as_strided((2, 2), (1, 1))
T.cat([d, d * 2, d[:1]])|T.cat([d] * 10, 1)|T.cat([v, x[0]])|T.stack([v, v * 2], 1)|T.stack([c, c])|T.vstack([v, v])
T.block_diag(d, v)|d.split(2)|d.split(2)[1]|d.split([1, 3], 1)|d.chunk(2, 1)[0] * d.chunk(2, 1)[1]|d.unbind(1)
d.unbind()[1]|v.unbind()|list(d)|d.tensor_split(2, 1)|d.repeat(2, 1, 3)|d.tile((2,))|d.repeat_interleave(2, 1)
d.repeat_interleave(2)|d.repeat_interleave(T.tensor([1, 2, 0]), 0)|d.flip(0, 1)|d.roll(1)|d.roll((1, -2), (0, 1))
d.rot90()|d.rot90(2)|d.tril()|cube.triu(1)|d.diag()|v.diag(1)|d.diag_embed(1, 0, 2)|d.diagflat()
T.meshgrid(v, v, indexing="xy")|T.cartesian_prod(v, v)|T.combinations(v, 2)|d.gather(1, T.tensor([[0, 0], [3, 0]]))
T.take_along_dim(d, d.argsort(1), 1)|d.scatter(0, T.tensor([[0, 1], [2, 0]]), 1.0)
d.scatter(0, T.tensor([[0, 1], [2, 0]]), cube[0, :2, :2])|d.scatter_add(0, T.tensor([[0, 1], [0, 0]]), cube[0, :2, :2])
zeros.scatter_reduce(0, T.tensor([[0, 1], [0, 0]]), d[:2, :2], "sum")
zeros.scatter_reduce(0, T.tensor([[0, 1], [0, 0]]), d[:2, :2], "prod")
zeros.scatter_reduce(0, T.tensor([[0, 1], [0, 0]]), d[:2, :2], "mean", include_self=False)
d.scatter_reduce(0, T.tensor([[0, 1], [0, 0]]), ties[:2, :2], "amax")
d.scatter_reduce(1, T.tensor([[0, 1, 0], [0, 0, 1]]), ties[:, :3] * 1, "amin", include_self=False)
d.index_reduce(0, T.tensor([0, 0]), d[:2] * 1, "prod")
d.index_reduce(1, T.tensor([0, 2]), d[:, :2] + 0.1, "amax", include_self=False)
d.scatter_reduce(0, T.tensor([[2, 2, 1]]), zeros[:1, :3], "prod", include_self=False)
d.index_select(0, T.tensor([2, 0, 2]))|d.index_add(0, T.tensor([0, 2, 0]), zeros)
d.index_add(1, T.tensor([3, 3]), v[:2].expand(3, 2), alpha=2)|d.index_copy(0, T.tensor([2]), zeros[:1])
d.index_fill(1, T.tensor([0]), 2.0)|d.index_fill(1, T.tensor([0]), v.sum())|d.index_put((T.tensor([0, 2]),), v[:4])
d.index_put((T.tensor([0, 0]), T.tensor([1, 1])), v[:2], accumulate=True)|d.take(T.tensor([[0, 11], [0, 2]]))
d.put(T.tensor([0, 5]), v[:2])|d.put(T.tensor([0, 0]), v[:2], accumulate=True)|d.masked_fill(d > 1, 2.0)
d.masked_fill((d > 1)[:, :1], v.sum())|d.masked_select(d > 1)|v[:4].masked_select((d > 1)[:, :1])
d.masked_scatter(d > 1, v)|d.masked_scatter((d > 1)[:, :1], zeros)|d.select_scatter(v[:4], 0, 1)
d.slice_scatter(v[:4].view(2, 2)[:, :1].expand(2, 4), 0, 1)|d.diagonal_scatter(v[:3], 1)
c.gather(1, T.tensor([[0, 0]]))|c[T.tensor([0, 0])]|d[1]|d[-1, 2]|d[:, 1]|d[1:, ::2]|d[None, 1]|d[..., 0]|d[[0, 2, 0]]
d[T.tensor([[0, 1], [2, 0]])]|d[:, [3, 0, 3]]|d[[0, 2], [1, 1]]|d[d > 1]|d[T.tensor([True, False, True])]
d[T.tensor([True, False, True]), 1:]|d[1, T.tensor([0, 0])]|cube[0, :, [1, 2]]|cube[[0, 1], :, [1, 2]]
cube[:, [0, 1], [1, 1]]|cube[:, T.tensor([True, False, True, True])]|cube[..., None, [0, 1]]|d[True]|d[:, None, [0, 1]]
v[T.tensor(2)]|v[T.tensor([[0, 0], [4, 0]])]
"""


def cells(table: str) -> list[str]:
    return [cell.strip() for line in table.strip().splitlines() for cell in line.split("|")]


@pytest.mark.parametrize("text", cells(SHAPES + JOINS + REARRANGED + INDEX + GRAPHS))
def test_same_as_torch(text: str) -> None:
    same_call(real_torch, text)


@pytest.mark.parametrize("table", [SHAPES, JOINS, REARRANGED, INDEX], ids=["shapes", "joins", "rearranged", "index"])
def test_on_another_device(table: str) -> None:
    """The same values as on the CPU; tensors stay on their device; the same exceptions."""
    from tapegrad.backends import registry

    to_numpy = registry.load("fake").to_numpy
    for text in cells(table):
        here, _, _ = outcome(tapegrad, text)
        tapegrad.set_default_device("fake")
        try:
            there, _, _ = outcome(tapegrad, text)
        finally:
            tapegrad.set_default_device(None)
        if isinstance(here, Exception):
            assert type(there) is type(here), (text, there)
            continue
        assert not isinstance(there, Exception), (text, there)
        for a, b in zip(flat(here), flat(there), strict=True):
            if isinstance(a, tapegrad.Tensor):
                assert b.device.type == "fake", text
                np.testing.assert_array_equal(to_numpy(b.array), a.array, err_msg=text)


@pytest.mark.parametrize("text", cells(GRADIENTS))
def test_gradient_as_torch(text: str) -> None:
    same_gradient(real_torch, text)


def test_one_hot_as_torch() -> None:
    from tapegrad.autograd.api.masked import one_hot

    theirs = real_torch.nn.functional.one_hot
    for values, classes in (([0, 2, 1], -1), ([[1, 0]], 4), ([], 3)):
        mine = one_hot(tapegrad.tensor(values, dtype=tapegrad.int64), classes)
        wanted = theirs(real_torch.tensor(values, dtype=real_torch.int64), classes)
        np.testing.assert_array_equal(mine.numpy(), wanted.numpy())
    for values, classes, dtype in (
        ([0, 2], 2, "int64"),
        ([-1], -1, "int64"),
        ([0], -1, "float32"),
        ([], -1, "int64"),
        ([0], 0, "int64"),
    ):
        texts = []
        for library, function in ((real_torch, theirs), (tapegrad, one_hot)):
            with pytest.raises(RuntimeError) as caught:
                function(library.tensor(values, dtype=getattr(library, dtype)), classes)
            texts.append(str(caught.value).splitlines()[0])
        assert texts[0] == texts[1]


def test_expanded_memory_refuses_writes() -> None:
    for library in (real_torch, tapegrad):
        wide = library.zeros(1, 3).expand(2, 3)
        with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
            wide.mul_(2)
        with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
            wide[:, 0] = 1
        base = library.zeros(1, 3)
        base.expand(2, 3)[0].add_(1)  # one row lies in one place only
        base.expand(1, 3).add_(1)
        assert base.tolist() == [[2, 2, 2]]
