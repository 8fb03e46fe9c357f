"""Linear algebra and einsum beside PyTorch: values, dtypes, shapes, errors, gradients; free signs are taken away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tapegrad
from beside_torch import FLOATING, INPUTS, flat, outcome, same_call, same_gradient, same_value

torch = pytest.importorskip("torch")

_RNG = np.random.default_rng(1)


def _regular(*shape: int) -> np.ndarray:
    return _RNG.normal(size=shape) * 0.5 + 2 * np.eye(shape[-1])


def _complex(*shape: int) -> np.ndarray:
    return _RNG.normal(size=shape) + 1j * _RNG.normal(size=shape)


OWN = {
    "A": _regular(3, 3),
    "Ab": _regular(2, 3, 3),
    "Af": _regular(3, 3).astype("f4"),
    "Ac": _complex(3, 3),
    "G": _RNG.normal(size=(3, 3)),
    "Gb": _RNG.normal(size=(2, 3, 3)),
    "tall": _RNG.normal(size=(2, 5, 3)),
    "wide": _RNG.normal(size=(3, 5)),
    "tallc": _complex(4, 3),
    "v3": _RNG.normal(size=3),
    "low": np.outer([1.0, 2, 3], [1.0, 0, 1]),
    "zero": np.zeros((2, 3)),
    "s2": np.array([[1.0, 2.0], [2.0, 4.0]]),
    "diag0": np.diag([1.0, 2.0, 0.0]),
    "some0": np.stack([np.eye(3), np.diag([1.0, 2.0, 0.0])]),
    "nonan": np.full((2, 2), np.nan),
    "none": np.zeros((0, 0)),
    "none3": np.zeros((0, 3)),
    "three0": np.zeros((3, 0)),
    "t234": _RNG.normal(size=(2, 3, 4)),
    "t342": _RNG.normal(size=(3, 4, 2)),
    "far": _RNG.normal(size=(30, 3)),
    "six": _regular(6, 6).reshape(2, 3, 6),
    "ints": np.array([[2, 1], [1, 3]]),
    "w5": np.array([0.5, 2.0, 1.0, 0.25, 3.0]),
    "n5": np.array([1, 2, 0, 3, 1]),
    "hollow": np.array([[0.0, 1, 2, -1], [1, 0, 3, 2], [2, 3, 0, 4], [-1, 2, 4, 0]]),
}
INPUTS.update(OWN)
FLOATING.extend(name for name, a in OWN.items() if a.dtype in ("f8", "c16"))

VALUES = """
T.pdist(A) | T.pdist(A, 1) | T.pdist(A, inf) | T.pdist(none3) | T.pdist(A[:1]) | T.pdist(Ab) | T.pdist(A, -1)
T.linalg.inv(A) | T.linalg.inv(Ab) | T.linalg.inv(Af) | T.linalg.inv(Ac) | T.inverse(A) | A.inverse()
T.linalg.inv(wide) | T.linalg.inv(h) | T.linalg.inv(ints) | T.linalg.inv(v3) | T.linalg.inv([1])
T.linalg.inv(none) | T.linalg.inv_ex(A) | T.linalg.inv_ex(diag0)[1] | T.linalg.inv_ex(some0)[1]
T.linalg.det(A) | T.linalg.det(Ab) | T.linalg.det(Ac) | T.det(A) | A.det() | T.linalg.det(diag0)
T.linalg.det(wide) | T.linalg.det(ints) | T.linalg.det(v3) | T.linalg.det(h) | T.linalg.det(none)
T.linalg.slogdet(A) | T.linalg.slogdet(Ac) | T.slogdet(Ab) | T.linalg.slogdet(diag0) | T.linalg.slogdet(none)
T.logdet(Ab) | T.logdet(-A) | T.logdet(Ac) | T.logdet(wide) | T.linalg.solve(A, v3) | T.linalg.solve(A, wide)
T.linalg.solve(Ab, G) | T.linalg.solve(Ab, tall[:, :3]) | T.linalg.solve(A, tall, left=False)
T.linalg.solve(Ab, G[:2]) | T.linalg.solve(wide, v3) | T.linalg.solve(A, x) | T.linalg.solve(A, v3[:2])
T.linalg.solve(A, wide[:2]) | T.linalg.solve(ints, ints) | T.linalg.solve(A, v3, left=False)
T.linalg.solve_ex(A, v3) | T.linalg.solve_ex(some0, Gb)[1] | T.linalg.solve(none, none3[:, :2])
T.linalg.solve_triangular(A, wide, upper=True) | T.linalg.solve_triangular(Ab, G, upper=False)
T.linalg.solve_triangular(A, tall, upper=True, left=False)
T.linalg.solve_triangular(Ac, Ac, upper=False, unitriangular=True)
T.linalg.solve_triangular(diag0, wide, upper=True) | T.linalg.solve_triangular(some0, Gb, upper=False)
T.linalg.solve_triangular(A, v3, upper=True) | T.linalg.solve_triangular(wide, v3[:, None], upper=True)
T.linalg.solve_triangular(A, wide[:2], upper=True) | T.triangular_solve(v3, A) | T.linalg.cholesky(A @ A.mT)
T.linalg.cholesky(Ab @ Ab.mT) | T.linalg.cholesky(Ac @ Ac.mH) | T.linalg.cholesky(A, upper=True)
T.linalg.cholesky(wide) | T.linalg.cholesky(ints) | T.linalg.cholesky(none) | T.linalg.cholesky_ex(A @ A.mT)
T.linalg.cholesky_ex(-A)[1] | T.cholesky_solve(wide, A.tril()) | T.cholesky_solve(wide, A, True)
T.cholesky_solve(v3, A) | T.cholesky_inverse(A.tril()) | T.cholesky_inverse(Ab, upper=True)
T.cholesky_inverse(wide) | T.linalg.qr(A) | T.linalg.qr(tall) | T.linalg.qr(wide) | T.linalg.qr(tallc)
T.linalg.qr(tall, mode="complete") | T.linalg.qr(tall, mode="r") | T.linalg.qr(A, mode="x") | T.linalg.qr(i)
T.linalg.qr(v3) | T.linalg.qr(none3) | T.linalg.qr(three0) | T.linalg.qr(three0, mode="complete")
[t.abs() for t in T.linalg.svd(A)] | [t.abs() for t in T.linalg.svd(tall, full_matrices=False)]
T.linalg.svd(wide)[1] | T.linalg.svd(tall)[2].abs() | [t.abs() for t in T.svd(A)]
[t.abs() for t in T.svd(wide)] | [t.abs() for t in T.svd(tall, compute_uv=False)] | T.linalg.svd(v3)
T.linalg.svd(i) | T.linalg.svdvals(tall) | T.linalg.svdvals(Ac) | T.linalg.svd(none3)
T.linalg.svd(none3, full_matrices=False) | T.linalg.svdvals(none3) | [t.abs() for t in T.linalg.eigh(A)]
[t.abs() for t in T.linalg.eigh(Ab, UPLO="U")] | T.linalg.eigvalsh(A) | T.linalg.eigvalsh(Ac, "U")
[t.abs() for t in T.linalg.eigh(wide)] | T.linalg.eigh(A, UPLO="X") | T.linalg.eigh(ints)
T.linalg.eigh(none) | T.linalg.eig(A) | T.linalg.eig(Gb) | T.linalg.eig(Ac) | T.linalg.eigvals(G)
T.linalg.eig(wide) | T.linalg.eig(ints) | T.linalg.eig(nonan) | T.linalg.eigvals(wide) | T.linalg.eig(none)
T.linalg.lu(G) | T.linalg.lu(tall) | T.linalg.lu(wide) | T.linalg.lu(Ac) | T.linalg.lu(big) | T.linalg.lu(low)
T.linalg.lu(v3) | T.linalg.lu(i) | T.linalg.lu(none3) | T.linalg.lu_factor(G) | T.linalg.lu_factor(tall)
T.linalg.lu_factor(wide) | T.linalg.lu_factor(diag0) | T.linalg.lu_factor(some0)
T.linalg.lu_factor_ex(some0) | T.linalg.lu_factor(three0) | T.linalg.lu_solve(*T.linalg.lu_factor(G), wide)
T.linalg.lu_solve(*T.linalg.lu_factor(Gb), tall, left=False)
T.linalg.lu_solve(*T.linalg.lu_factor(Ac), Ac, adjoint=True)
T.linalg.lu_solve(*T.linalg.lu_factor(Ac), Ac, left=False, adjoint=True) * 1 | T.linalg.lu_solve(G, n[:3], wide)
T.lu_unpack(*T.linalg.lu_factor(tall)) | T.lu_unpack(*T.linalg.lu_factor(wide), unpack_data=False)
T.lu_unpack(*T.linalg.lu_factor(G), unpack_pivots=False) | T.lu_unpack(G, n[:3]) | T.linalg.pinv(A)
T.linalg.pinv(tall) | T.linalg.pinv(wide) | T.linalg.pinv(low) | T.linalg.pinv(tallc)
T.linalg.pinv(A @ A.mT, hermitian=True) | T.linalg.pinv(tall, atol=1.5)
T.linalg.pinv(tall, rtol=T.tensor([0.3, 0.9])) | T.linalg.pinv(none3) | T.linalg.pinv(v3) | T.linalg.pinv(i)
T.pinverse(wide) | T.pinverse(low) | low.pinverse(0.5) | T.linalg.matrix_exp(A) | T.linalg.matrix_exp(Ab * 9)
T.linalg.matrix_exp(Ac) | T.matrix_exp(A * 1e-3) | T.linalg.matrix_exp(none) | T.linalg.matrix_exp(wide)
T.linalg.matrix_exp(ints) | T.linalg.matrix_exp(Af) | T.linalg.matrix_power(A, 5) | T.matrix_power(Ab, -3)
T.linalg.matrix_power(A, 0) | A.matrix_power(1) | T.linalg.matrix_power(wide, 2)
T.linalg.matrix_power(A, 2.5) | T.linalg.matrix_rank(low) | T.linalg.matrix_rank(tall)
T.linalg.matrix_rank(A, tol=2.5) | T.linalg.matrix_rank(s2, hermitian=True) | T.linalg.matrix_rank(none3)
T.linalg.matrix_rank(tall, atol=2.0) | T.linalg.matrix_rank(tall, rtol=0.5) | T.linalg.matrix_rank(v3)
T.linalg.matrix_rank(i) | T.linalg.lstsq(tall, tall) | T.linalg.lstsq(tall, tall[..., 0])
T.linalg.lstsq(A, v3) | T.linalg.lstsq(A, wide, driver="gelsd") | T.linalg.lstsq(tall, tall, driver="gels")
T.linalg.lstsq(low, wide, driver="gelsd") | T.linalg.lstsq(A, wide[:2]) | T.linalg.lstsq(A, wide, driver="x")
T.linalg.lstsq(i, i) | T.linalg.lstsq(wide, G, driver="gelss") | T.linalg.multi_dot([v3, A, wide])
T.linalg.multi_dot([wide.mT, A, G, v3]) | T.linalg.multi_dot([A, G, A, wide]) | T.linalg.multi_dot([v3, v3])
T.linalg.multi_dot([A]) | T.linalg.multi_dot([wide, wide]) | T.linalg.multi_dot([Ab, A]) | T.linalg.cond(A)
T.linalg.cond(tall) | T.linalg.cond(A, -2) | T.linalg.cond(A, "fro") | T.linalg.cond(Ab, 1)
T.linalg.cond(A, inf) | T.linalg.cond(A, "nuc") | T.linalg.cond(some0, 1) | T.linalg.cond(v3)
T.linalg.cond(wide, 1) | T.linalg.cond(i) | T.linalg.norm(A) | T.linalg.norm(v3) | T.linalg.norm(Ab)
T.linalg.norm(A, 2) | T.linalg.norm(A, -2) | T.linalg.norm(A, 1) | T.linalg.norm(A, inf)
T.linalg.norm(v3, inf) | T.linalg.norm(v3, 3) | T.linalg.norm(A, "nuc") | T.linalg.norm(Ab, "fro", dim=(1, 2))
T.linalg.norm(Ab, 2, dim=(0, 2), keepdim=True) | T.linalg.norm(Ab, 1, dim=1) | T.linalg.norm(Ab, 2)
T.linalg.norm(A, "x") | T.linalg.norm(A, 3) | T.linalg.norm(i) | T.linalg.norm(Ab, 2, dim=(0, 1, 2))
T.linalg.norm(A, "fro", dim=0) | T.linalg.norm(A, dtype=T.complex128) | T.linalg.norm(Ac, dtype=T.float64)
T.linalg.norm(Ac) | T.linalg.norm(Ac, 1) | T.linalg.matrix_norm(Ab) | T.linalg.matrix_norm(t234, -1, (0, 2))
T.linalg.matrix_norm(t234, -inf, (1, 0), keepdim=True) | T.linalg.matrix_norm(t234, "nuc", (2, 0))
T.linalg.matrix_norm(t234, -2) | T.linalg.matrix_norm(v3) | T.linalg.matrix_norm(A, 3)
T.linalg.matrix_norm(A, dim=(0, 0)) | T.linalg.matrix_norm(A, dim=(0,)) | T.linalg.matrix_norm(i)
T.linalg.matrix_norm(A, dtype=T.int64) | T.linalg.matrix_norm(x, 2, dtype=T.float64)
T.linalg.matrix_norm(none3) | T.linalg.matrix_norm(none3, 2) | T.linalg.matrix_norm(three0, 1)
T.linalg.vector_norm(A) | T.linalg.vector_norm(A, 1, dim=0)
T.linalg.vector_norm(A, -inf, dim=(0, 1), keepdim=True) | T.linalg.vector_norm(A, 0)
T.linalg.vector_norm(A, "x") | T.linalg.vector_norm(i) | T.linalg.vector_norm(x, dtype=T.float64)
T.norm(A, "nuc") | T.linalg.cross(A, G) | T.linalg.cross(A, G, dim=0) | T.linalg.cross(Ab, G[None])
T.linalg.cross(wide, wide) | T.linalg.cross(A, v3) | T.cross(s2, s2) | T.cross(t234, t234, dim=1) | A.cross(G)
T.linalg.vecdot(A, G) | T.linalg.vecdot(Ac, Ac) | T.linalg.vecdot(Ab, G, dim=-2) | T.linalg.vecdot(i, i)
T.trace(A) | T.trace(wide) | T.trace(i) | T.trace(u) | T.trace(h) | T.trace(b) | T.trace(v3) | wide.trace()
T.linalg.diagonal(t234) | T.linalg.diagonal(t234, offset=1, dim1=0, dim2=1) | T.linalg.vander(v3)
T.linalg.vander(A, N=5) | T.linalg.vander(i) | T.linalg.vander(z) | T.linalg.vander(v3, N=0) | T.vander(v3)
T.vander(n) | T.vander(v3, 2, increasing=True) | T.vander(A) | T.linalg.tensorinv(T.eye(4).reshape(2, 2, 4))
T.linalg.tensorinv(A, ind=1) | T.linalg.tensorinv(wide, ind=1) | T.linalg.tensorinv(A, ind=0)
T.linalg.tensorsolve(A, v3) | T.linalg.tensorsolve(six, x.double()) | T.linalg.tensorsolve(x, x)
T.linalg.tensorsolve(six.movedim(2, 1), x.double(), dims=(1,)) | T.linalg.householder_product(*T.geqrf(A))
T.linalg.householder_product(*T.geqrf(tall)) | T.orgqr(*T.geqrf(tallc)) | T.geqrf(wide)
T.linalg.householder_product(wide, v3) | T.linalg.householder_product(A, n[:6].double())
T.ormqr(*T.geqrf(A), wide) | T.ormqr(*T.geqrf(A), wide, transpose=True)
T.ormqr(*T.geqrf(A), wide.mT, left=False) | T.ormqr(*T.geqrf(Ac), Ac, transpose=True) | T.linalg.matmul(A, v3)
T.cdist(A, G) | T.cdist(Ab, G) | T.cdist(A, G, p=1) | T.cdist(A, G, p=0) | T.cdist(A, G, p=inf)
T.cdist(A, G, p=3.5) | T.cdist(t234, t234[:1]) | T.cdist(far, A, compute_mode="donot_use_mm_for_euclid_dist")
T.cdist(wide, v3) | T.cdist(i, i) | T.cdist(A, wide) | T.cdist(A, A, p=-1) | T.cdist(A, A, compute_mode="x")
T.cdist(three0, three0) | T.cdist(none3, A) | T.tensordot(A, G) | T.tensordot(t234, t342)
T.tensordot(t234, t342, dims=([1, 2], [0, 1])) | T.tensordot(A, wide, dims=1)
T.tensordot(t234, t342, dims=([0], [2])) | T.tensordot(A, G, 0) | T.tensordot(A, wide, dims=3)
T.tensordot(wide, wide, dims=1) | T.tensordot(A, G, dims=([1], [1, 0])) | T.kron(A, wide) | T.kron(v3, A)
T.kron(i, n) | T.kron(t234, v3) | A.kron(v3)
T.linalg.inv(A, out=T.empty(3, 3, dtype=T.float64)) | T.linalg.det(Af, out=T.empty(0))
T.einsum("ij,ij->i", A, G) | T.einsum("ij,jk", A, wide) | T.einsum("ij") | T.einsum("ij,jk", A)
T.einsum("ij", A, A) | T.einsum("ijk", A) | T.einsum("i", A) | T.einsum("ij,jk->ik", wide, wide)
T.einsum("ij->k", A) | T.einsum("ij->ii", A) | T.einsum("i1", A) | T.einsum("i..j", A)
T.einsum("i...j...", A) | T.einsum("ij->i->j", A) | T.einsum("ij->i...", A) | T.einsum("...->", A)
T.einsum("ii", wide) | T.einsum("", z) | T.einsum(A, [0, 1], [1, 0]) | T.einsum(A, [0, 1], G, [1, 2])
T.einsum(t234, [..., 1], v3[:, None], [..., 5], [..., 5]) | T.einsum(A, [0, 60]) | T.einsum("bA,bB", A, wide)
T.einsum("ij,jk", i, i.t()) | T.einsum(" i j , j k -> i k ", A, A) | T.einsum("ij,jk", [A, A])
T.einsum("i...,i...->...", t234, t234[:, :1]) | T.einsum("bij,bjk,bkl->bil", Ab, Gb, Ab)
T.linalg.ldl_factor(A @ A.mT) | T.linalg.ldl_factor_ex(G + G.mT) | T.linalg.ldl_factor(Ac) | T.linalg.ldl_factor(hollow)
T.linalg.ldl_factor(Ac + Ac.mH, hermitian=True) | T.linalg.ldl_factor(hollow * 1j, hermitian=False)
T.linalg.ldl_solve(*T.linalg.ldl_factor(Gb + Gb.mT), wide)
T.linalg.ldl_solve(*T.linalg.ldl_factor(hollow), hollow * 2)
T.linalg.ldl_solve(*T.linalg.ldl_factor(Ac + Ac.mH, hermitian=True), Ac, hermitian=True)
T.linalg.ldl_factor(wide) | T.linalg.ldl_factor(v3) | T.linalg.ldl_factor(ints)
T.linalg.ldl_factor_ex(T.zeros(2, 3, 3))
T.linalg.ldl_solve(A, n5[:3].int(), v3) | T.linalg.ldl_solve(A, n5[:2].int(), wide) | T.linalg.ldl_solve(A, v3, wide)
T.linalg.ldl_factor(none) | T.cov(wide) | T.cov(wide, correction=0) | T.cov(wide, fweights=n5)
T.cov(wide, aweights=w5) | T.cov(wide, fweights=n5, aweights=w5) | T.cov(wide, correction=2, fweights=n5, aweights=w5)
T.cov(v3) | T.cov(ints)
T.cov(zero[:, :1]) | T.cov(z) | T.cov(none3) | T.cov(tallc) | T.cov(Ab) | T.cov(wide > 0) | T.cov(wide, fweights=n5 * 0)
T.cov(wide, fweights=w5) | T.cov(wide, aweights=n5) | T.cov(wide, fweights=-n5) | T.cov(wide, aweights=w5[:2])
T.corrcoef(wide) | T.corrcoef(tallc) | T.corrcoef(v3) | T.corrcoef(Ab) | wide.corrcoef() | wide.cov(correction=0)
T.addmm(ints, ints, ints, beta=1.5, alpha=2.7) | T.addmv(ints, ints, ints[0], alpha=0.5) | T.addmm(A, nonan, nonan)
T.addmm(s2, nonan, nonan, alpha=0) | T.addmm(nonan, s2, s2, beta=0) | T.addr(ints, ints[0], v3)
T.addr(ints > 1, ints[0] > 1, ints[1] > 1, beta=3, alpha=2) | T.addr(ints, ints[0], ints[1], beta=0.5)
T.addmm(ints > 1, ints > 1, ints > 1) | T.baddbmm(Ab, Gb, Ab, beta=2, alpha=0.5)
T.addbmm(A, Ab, Gb, beta=2, alpha=0.5) | T.zeros(1).addbmm_(T.ones(2, 2, 3), T.ones(2, 3, 4)) | T.linalg.norm(x=A)
T.matmul(t234[..., :0], v3[:0]) | T.matmul(t234[..., :0], A[:0]) | T.inner(t234[..., :0], A[:, :0]) | T.mv(none3, v3)
T.linalg.vander(v3[0], N=3) | T.linalg.diagonal(A, dim1=1, dim2=1) | T.linalg.norm(A, dtype=T.float32)
T.ormqr(A, v3, wide[:2]) | T.ormqr(A, v3[:1], wide) | T.ormqr(v3, v3, wide)
T.linalg.lstsq(input=tall, b=tall) | T.cholesky_solve(input=wide, input2=A) | T.linalg.tensorsolve(input=A, other=v3)
"""

# PyTorch warns of these, once in a process
DEPRECATED = """
T.triangular_solve(wide, A) | T.triangular_solve(wide, A, upper=False)
T.triangular_solve(wide, A, transpose=True, unitriangular=True) | T.cholesky(A @ A.mT, upper=True)
T.qr(wide) | T.qr(tall, some=False) | T.lu_solve(wide, *T.linalg.lu_factor(G)) | T.lu(G)
T.lu(G, get_infos=True) | G.lu() | T.nuclear_norm(A) | T.frobenius_norm(A, dim=(0, 1))
T.chain_matmul(A, G, wide) | T.cross(wide, wide.flip(1)) | T.cross(t234, t234 * 2 + 1)
"""

# LinAlgError, which is another class in each library
SINGULAR = """
T.linalg.inv(diag0) | T.linalg.inv(some0) | T.linalg.inv(diag0[None])
T.linalg.inv_ex(diag0, check_errors=True) | T.linalg.solve(diag0, v3) | T.linalg.solve(some0, Gb)
T.linalg.cholesky(-A) | T.linalg.cholesky(T.stack([A, -A])) | T.cholesky(-A) | T.linalg.svd(nonan)
T.linalg.svdvals(nonan) | T.linalg.matrix_power(diag0, -1) | T.linalg.lstsq(low, wide, driver="gels")
"""

GRADIENTS = """
T.pdist(A) | T.pdist(A, 3)
T.linalg.inv(A) | T.linalg.inv(Ab) | T.linalg.inv(Ac) | T.linalg.inv_ex(A)[0] | T.linalg.det(A)
T.linalg.det(Ab) | T.linalg.det(Ac) | T.linalg.slogdet(Ab)[1] | T.linalg.slogdet(Ac) | T.logdet(A)
T.logdet(Ac) | T.linalg.solve(A, v3) | T.linalg.solve(Ab, G) | T.linalg.solve(A, tall, left=False)
T.linalg.solve(Ac, Ac * 2) | T.linalg.solve_triangular(A, wide, upper=True)
T.linalg.solve_triangular(Ab, G, upper=False, unitriangular=True)
T.linalg.solve_triangular(A, tall, upper=False, left=False) | T.linalg.cholesky(A @ A.mT)
T.linalg.cholesky(Ac @ Ac.mH, upper=True) | T.linalg.cholesky(A) | T.cholesky_solve(wide, A.tril())
T.cholesky_inverse(A.tril()) | T.cholesky_inverse(A.triu(), upper=True) | T.linalg.qr(A) | T.linalg.qr(tall)
T.linalg.qr(wide) | T.linalg.qr(tallc) | T.linalg.qr(wide, mode="complete") | T.linalg.qr(tall)[1]
T.linalg.qr(tall)[0] | [t.abs() for t in T.linalg.svd(A)] | T.linalg.svdvals(tall)
[t.abs() for t in T.linalg.svd(tall, full_matrices=False)]
[t.abs() for t in T.linalg.svd(wide, full_matrices=False)] | T.linalg.svd(A)[0].abs()
T.linalg.svd(A)[2].abs() | T.linalg.svd(tallc, full_matrices=False)[1] | T.linalg.svdvals(Ac)
T.svd(wide)[2].abs() | [t.abs() for t in T.linalg.eigh(A)] | [t.abs() for t in T.linalg.eigh(Ab, UPLO="U")]
T.linalg.eigh(A)[1].abs() | T.linalg.eigvalsh(A) | T.linalg.eigvalsh(Ac) | T.linalg.eigvals(A)
T.linalg.eigvals(Ac) | T.linalg.eigvals(Gb).abs() | T.linalg.eig(A)[1].abs() | T.linalg.lu(G)
T.linalg.lu(tall) | T.linalg.lu(wide) | T.linalg.lu(Ac) | T.linalg.lu_factor(tall)[0]
T.linalg.lu_solve(*T.linalg.lu_factor(Gb), tall[:, :3])
T.linalg.lu_solve(*T.linalg.lu_factor(Ac), Ac, adjoint=True) | T.lu_unpack(*T.linalg.lu_factor(wide))
T.linalg.pinv(A) | T.linalg.pinv(tall) | T.linalg.pinv(wide) | T.linalg.pinv(tallc) | T.linalg.pinv(low)
T.linalg.matrix_exp(A) | T.linalg.matrix_exp(Ab * 9) | T.linalg.matrix_exp(Ac) | T.linalg.matrix_power(A, 5)
T.linalg.matrix_power(Ab, -2) | T.linalg.lstsq(tall, tall * 2 + 1)[0] | T.linalg.lstsq(A, v3)[0]
T.linalg.multi_dot([v3, A, wide]) | T.linalg.cond(A) | T.linalg.cond(Ab, "nuc") | T.linalg.norm(A)
T.linalg.norm(A, 2) | T.linalg.norm(A, -2) | T.linalg.norm(A, 1) | T.linalg.norm(A, -inf)
T.linalg.norm(A, "nuc") | T.linalg.norm(Ab, 2, dim=(0, 2)) | T.linalg.norm(zero) | T.linalg.norm(v3, 3)
T.linalg.norm(zero, dim=1) | T.linalg.norm(zero, 1) | T.linalg.norm(zero, inf) | T.linalg.norm(Ac, 2)
T.linalg.norm(Ac, 1) | T.linalg.matrix_norm(t234, "fro", (0, 2)) | T.linalg.vector_norm(A, 2.5, dim=0)
T.linalg.cross(A, G) | T.linalg.cross(Ab, G[None]) | T.linalg.cross(Ac, Ac * Ac) | T.linalg.vecdot(A, G)
T.linalg.vecdot(Ac, Ac * Ac) | T.trace(wide) | T.trace(Ac) | T.linalg.diagonal(t234) | T.linalg.vander(v3)
T.linalg.tensorinv(A, ind=1) | T.linalg.tensorsolve(A, v3)
T.linalg.householder_product(tall, v3.expand(2, 3)) | T.cdist(A, G) | T.cdist(Ab, G) | T.cdist(A, A)
T.cdist(far, A) | T.cdist(A, G, p=1) | T.cdist(A, G, p=3) | T.cdist(A, G, p=inf)
T.tensordot(t234, t342, dims=([1, 2], [0, 1])) | T.kron(A, wide) | T.einsum("ij,jk->ik", A, wide)
T.einsum("ii->i", A) | T.einsum("bij,bjk,bkl->bil", Ab, Gb, Ab) | T.einsum("ij,ij->", Ac, Ac)
T.einsum("ij,kj->", A, G) | T.einsum("...i,...i->...", Ab, G) | T.einsum("i,j,k->ijk", v3, v3, v3)
T.cov(wide) | T.cov(tallc) | T.cov(wide, correction=0, aweights=w5) | T.corrcoef(wide) | T.corrcoef(tallc)
T.linalg.lu_factor(tallc)[0] | T.linalg.matrix_power(A, 0) | T.addbmm(A, Ab, Gb, beta=2, alpha=0.5)
"""


def listed(text: str) -> list[str]:
    return [item.strip() for line in text.strip().splitlines() for item in line.split(" | ")]


@pytest.mark.parametrize("text", listed(VALUES))
def test_call(text: str) -> None:
    same_call(torch, text, rtol=1e-8)


@pytest.mark.parametrize("text", listed(DEPRECATED))
def test_deprecated(text: str) -> None:
    mine, theirs = outcome(tapegrad, text)[0], outcome(torch, text)[0]
    assert type(mine).__name__ == type(theirs).__name__
    assert not isinstance(mine, Exception)
    for a, b in zip(flat(mine), flat(theirs), strict=True):
        same_value(a, b, 1e-8)


@pytest.mark.parametrize("text", listed(SINGULAR))
def test_singular(text: str) -> None:
    mine, theirs = outcome(tapegrad, text)[0], outcome(torch, text)[0]
    assert type(theirs) is torch.linalg.LinAlgError
    assert type(mine) is tapegrad.linalg.LinAlgError
    assert str(mine) == str(theirs)


@pytest.mark.parametrize("text", listed(GRADIENTS))
def test_gradient(text: str) -> None:
    same_gradient(torch, text, rtol=1e-7)


# ---- what PyTorch does not tell


def _leaf(a: np.ndarray) -> tapegrad.Tensor:
    return tapegrad.tensor(a, requires_grad=True)


SYMMETRIC = {
    "cholesky": lambda L, x: L.cholesky(x),
    "cholesky upper": lambda L, x: L.cholesky(x, upper=True),
    "eigvalsh": lambda L, x: L.eigvalsh(x),
    "eigh": lambda L, x: (L.eigh(x)[1] ** 2) @ L.eigh(x)[0][..., None],
    "eigh U": lambda L, x: L.eigh(x, UPLO="U")[1] ** 2,
}


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric_gradients(name: str) -> None:
    """Functions of symmetric matrices: first and second order against differences, the input made symmetric before."""
    positive = INPUTS["Ab"] @ np.swapaxes(INPUTS["Ab"], -1, -2) + np.eye(3)

    def function(x: tapegrad.Tensor) -> tapegrad.Tensor:
        return SYMMETRIC[name](tapegrad.linalg, (x + x.mT) / 2)

    assert tapegrad.autograd.gradcheck(function, (_leaf(positive),))
    assert tapegrad.autograd.gradgradcheck(function, (_leaf(positive),))


@pytest.mark.parametrize("what", ["values", "vectors", "power"])
def test_eig_gradients(what: str) -> None:
    """Functions of eigenvalues and eigenvectors that do not depend on the vectors' phases, of a real matrix."""

    def function(x: tapegrad.Tensor) -> tapegrad.Tensor:
        w, V = tapegrad.linalg.eig(x)
        if what == "values":
            return w.abs().sum()
        if what == "vectors":
            return V.abs()
        return tapegrad.real((V * w**3) @ tapegrad.linalg.inv(V))  # x cubed

    matrix = INPUTS["G"]
    assert tapegrad.autograd.gradcheck(function, (_leaf(matrix),))
    assert tapegrad.autograd.gradgradcheck(function, (_leaf(matrix),))
    if what == "power":
        np.testing.assert_allclose(function(tapegrad.tensor(matrix)).numpy(), matrix @ matrix @ matrix, atol=1e-12)


def test_svd_of_complex_is_independent_of_phase() -> None:
    """U and Vh of one phase: the rank-one approximation of a complex matrix."""

    def function(x: tapegrad.Tensor) -> tapegrad.Tensor:
        U, S, Vh = tapegrad.linalg.svd(x, full_matrices=False)
        best = (U[:, :1] * S[:1]) @ Vh[:1]
        return tapegrad.view_as_real(best)

    assert tapegrad.autograd.gradcheck(function, (_leaf(INPUTS["tallc"]),))
    assert tapegrad.autograd.gradcheck(function, (_leaf(INPUTS["tallc"].T.copy()),))


def test_gradient_of_a_singular_determinant() -> None:
    """The cofactors, to two orders, where the inverse does not exist."""
    for matrix in (INPUTS["s2"], np.diag([1.0, 2.0, 0.0])):
        assert tapegrad.autograd.gradcheck(tapegrad.linalg.det, (_leaf(matrix),))
        assert tapegrad.autograd.gradgradcheck(tapegrad.linalg.det, (_leaf(matrix),))
    x = _leaf(np.zeros((3, 3)))
    tapegrad.linalg.det(x).backward()
    assert not x.grad.any()


SECOND = {
    "pinv": (lambda x: tapegrad.linalg.pinv(x), "tall"),
    "lu wide": (lambda x: tapegrad.linalg.lu(x)[1:], "wide"),
    "lstsq": (lambda x: tapegrad.linalg.lstsq(x, x[..., :1] ** 2)[0], "tall"),
    "matrix_exp": (lambda x: tapegrad.linalg.matrix_exp(x), "A"),
    "nuclear": (lambda x: tapegrad.linalg.matrix_norm(x, "nuc"), "tall"),
    "cdist": (lambda x: tapegrad.cdist(x, x[:2] * 2 + 1), "A"),
    "cdist by products": (lambda x: tapegrad.cdist(x, x[:2] * 2, compute_mode="use_mm_for_euclid_dist"), "A"),
    "einsum": (lambda x: tapegrad.einsum("bij,bjk,bki->b", x, x, x), "Ab"),
}


@pytest.mark.parametrize("name", SECOND)
def test_second_order(name: str) -> None:
    function, of = SECOND[name]
    assert tapegrad.autograd.gradgradcheck(function, (_leaf(INPUTS[of]),))


def test_no_gradient_where_the_factors_are_missing() -> None:
    x = _leaf(INPUTS["tall"])
    with pytest.raises(RuntimeError, match="not differentiable when mode='complete' and nrows > ncols"):
        tapegrad.linalg.qr(x, mode="complete")[0].sum().backward()
    with pytest.raises(RuntimeError, match="depends on Q, which is not computed when mode='r'"):
        tapegrad.linalg.qr(x, mode="r")[1].sum().backward()


def test_linalg_error_is_a_runtime_error() -> None:
    with pytest.raises(tapegrad.linalg.LinAlgError):
        tapegrad.linalg.inv(tapegrad.zeros(2, 2))
    assert issubclass(tapegrad.linalg.LinAlgError, RuntimeError)


def test_named_results() -> None:
    assert repr(tapegrad.linalg.slogdet(tapegrad.eye(2))) == repr(torch.linalg.slogdet(torch.eye(2)))
    assert tapegrad.svd(tapegrad.eye(2)).V.shape == (2, 2)


def test_all_names_of_linalg() -> None:
    missing = {n for n in dir(torch.linalg) if n[0] != "_" and n != "common_notes"} - set(dir(tapegrad.linalg))
    assert missing <= {"ldl_factor", "ldl_factor_ex", "ldl_solve"}


def test_out_of_several() -> None:
    out = (tapegrad.empty(0), tapegrad.empty(0))
    tapegrad.linalg.slogdet(tapegrad.eye(2) * 2, out=out)
    assert out[0].item() == 1
    assert out[1].item() == pytest.approx(np.log(4))


ON_A_DEVICE = """
T.linalg.inv_ex(Ab) | T.linalg.solve_ex(A, v3) | T.linalg.lu_factor_ex(G) | T.linalg.lu(G) | T.linalg.qr(tall, mode="r")
T.linalg.lu_solve(*T.linalg.lu_factor(G), wide) | T.linalg.lstsq(A, wide, driver="gelsd") | T.linalg.matrix_rank(tall)
T.linalg.matrix_power(Ab, 0) | T.linalg.householder_product(*T.geqrf(tall)) | T.cholesky_inverse(A)
T.svd(A, True, False)
T.lu_unpack(*T.linalg.lu_factor(wide), unpack_pivots=False) | T.linalg.cholesky_ex(-A)[1] | T.linalg.vander(v3)
T.pdist(A)
T.linalg.cond(some0, 1) | T.einsum("ij,jk", A, wide) | T.cdist(A, G) | T.linalg.matrix_norm(A, "nuc")
T.linalg.eigvals(G)
"""


@pytest.mark.parametrize("text", listed(ON_A_DEVICE))
def test_on_a_device(text: str) -> None:
    """Results stay on the device of their input, and are those of the CPU."""
    there = {name: tapegrad.tensor(a).to("fake") for name, a in OWN.items()}
    expected = flat(outcome(tapegrad, text)[0])
    found = flat(eval(text, {"T": tapegrad, **there}))  # noqa: S307
    for t, e in zip(found, expected, strict=True):
        assert t.device.type == "fake"
        np.testing.assert_allclose(t.cpu().numpy(), e.numpy(), rtol=1e-10, atol=1e-12)


def test_lu_blocks() -> None:
    """More columns than one block: the factors multiply back, and pivots are LAPACK's."""
    x = np.random.default_rng(2).normal(size=(2, 100, 90))
    P, L, U = tapegrad.linalg.lu(tapegrad.tensor(x))
    np.testing.assert_allclose((P @ L @ U).numpy(), x, atol=1e-12)
    theirs = torch.linalg.lu_factor(torch.tensor(x))
    mine = tapegrad.linalg.lu_factor(tapegrad.tensor(x))
    np.testing.assert_array_equal(mine.pivots.numpy(), theirs.pivots.numpy())


def test_einsum_takes_views_of_any_layout() -> None:
    """Operands whose last dimensions are not dense in memory give the same sums."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(4, 6, 8, 10))[:, ::2, :, ::5], rng.normal(size=(8, 4, 6))[:, :, ::3]
    mine = tapegrad.einsum("bqhd,hbk->bhqkd", tapegrad.from_numpy(x), tapegrad.from_numpy(y))
    np.testing.assert_allclose(mine.numpy(), np.einsum("bqhd,hbk->bhqkd", x, y))
    mine = tapegrad.einsum("bqhd,hbd->bhq", tapegrad.from_numpy(x), tapegrad.from_numpy(y))
    np.testing.assert_allclose(mine.numpy(), np.einsum("bqhd,hbd->bhq", x, y))


@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (2, 6, 6)])
def test_low_rank(shape: tuple[int, ...]) -> None:
    """A matrix of rank 3 is what its decomposition of rank 3 gives back; M and the mean of the rows are taken off."""
    rng = np.random.default_rng(2)
    A = rng.normal(size=(*shape[:-1], 3)) @ rng.normal(size=(*shape[:-2], 3, shape[-1]))
    U, S, V = tapegrad.svd_lowrank(tapegrad.tensor(A), q=3)
    np.testing.assert_allclose(((U * S.unsqueeze(-2)) @ V.mT).numpy(), A, atol=1e-10)
    M = np.ones(shape[-1])
    again = tapegrad.svd_lowrank(tapegrad.tensor(A + M), q=3, M=tapegrad.tensor(M))
    np.testing.assert_allclose(again[1].numpy(), S.numpy(), rtol=1e-9)
    centred = A - A.mean(-2, keepdims=True)
    principal = tapegrad.pca_lowrank(tapegrad.tensor(A + M), q=3)
    np.testing.assert_allclose(principal[1].numpy(), np.linalg.svd(centred)[1][..., :3], rtol=1e-9, atol=1e-9)


def test_low_rank_of_too_high_a_rank() -> None:
    with pytest.raises(ValueError, match="q.=4. must be non-negative integer and not greater than"):
        tapegrad.pca_lowrank(tapegrad.ones(3, 5), q=4)


def _generalised(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    Q, M = rng.normal(size=(n, n)), rng.normal(size=(n, n))
    return Q @ Q.T + np.diag(np.arange(n)), M @ M.T / n + np.eye(n)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("with_B", [True, False])
def test_lobpcg(largest: bool, with_B: bool) -> None:
    """The eigenpairs that a dense solver finds, B-orthonormal, with or without a preconditioner, in few steps."""
    A, B = map(tapegrad.tensor, _generalised(30))
    L = np.linalg.cholesky(B.numpy() if with_B else np.eye(30))
    values = np.linalg.eigvalsh(np.linalg.solve(L, np.linalg.solve(L, A.numpy()).T))
    expected = values[::-1][:3] if largest else values[:3]
    for iK in [None] if largest else [None, tapegrad.linalg.inv(A)]:
        steps: list[int] = []

        def seen(state: Any, steps: list[int] = steps) -> None:
            steps.append(state.ivars["istep"])

        tapegrad.manual_seed(0)
        E, X = tapegrad.lobpcg(A, k=3, B=B if with_B else None, largest=largest, iK=iK, tracker=seen)
        np.testing.assert_allclose(E.numpy(), expected, rtol=1e-6)
        BX = B @ X if with_B else X
        np.testing.assert_allclose((X.mT @ BX).numpy(), np.eye(3), atol=1e-10)
        np.testing.assert_allclose((A @ X).numpy(), (BX * E).numpy(), atol=1e-4)
        assert steps == list(range(len(steps))) and len(steps) < (100 if iK is None else 40)


def test_lobpcg_of_a_batch_and_its_gradient() -> None:
    A, B = (tapegrad.tensor(a) for a in _generalised(12))
    both = tapegrad.stack([A, B])
    E, X = tapegrad.lobpcg(both, k=2, X=tapegrad.ones(2, 12, 3, dtype=tapegrad.float64).tril())
    assert (E.shape, X.shape) == ((2, 2), (2, 12, 2))
    np.testing.assert_allclose(E.numpy(), np.linalg.eigvalsh(both.numpy())[:, :-3:-1], rtol=1e-7)

    def pairs(A: tapegrad.Tensor, B: tapegrad.Tensor) -> tuple[tapegrad.Tensor, ...]:
        E, X = tapegrad.lobpcg(A, k=2, B=B, largest=False)
        return E, X.abs()

    small = [_leaf(a) for a in _generalised(6)]
    assert tapegrad.autograd.gradcheck(pairs, small)


WRONG_LOBPCG = [
    (ValueError, "smaller than 3 x the number", {"k": 14}),
    (AssertionError, "A and B must have same shape", {"B": tapegrad.eye(2)}),
    (AssertionError, "X shape mismatch", {"X": tapegrad.ones(29, 2)}),
    (ValueError, "method must be", {"method": "power"}),
]


@pytest.mark.parametrize(("error", "text", "kw"), WRONG_LOBPCG)
def test_lobpcg_refuses(error: type[Exception], text: str, kw: dict[str, object]) -> None:
    with pytest.raises(error, match=text):
        tapegrad.lobpcg(tapegrad.eye(30), **kw)
