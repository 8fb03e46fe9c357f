"""`tapegrad.linalg`: PyTorch's linear algebra. Functions take batches of matrices in the last two dimensions.

>>> import tapegrad as torch
>>> A = torch.tensor([[4.0, 2.0], [2.0, 3.0]])
>>> L = torch.linalg.cholesky(A)
>>> torch.linalg.norm(L @ L.mT - A) < 1e-6
tensor(True)
"""

from __future__ import annotations

from .autograd.api.factor import LinAlgError as LinAlgError
from .autograd.api.factor import cholesky as cholesky
from .autograd.api.factor import cholesky_ex as cholesky_ex
from .autograd.api.factor import eig as eig
from .autograd.api.factor import eigh as eigh
from .autograd.api.factor import eigvals as eigvals
from .autograd.api.factor import eigvalsh as eigvalsh
from .autograd.api.factor import householder_product as householder_product
from .autograd.api.factor import ldl_factor as ldl_factor
from .autograd.api.factor import ldl_factor_ex as ldl_factor_ex
from .autograd.api.factor import ldl_solve as ldl_solve
from .autograd.api.factor import lu as lu
from .autograd.api.factor import lu_factor as lu_factor
from .autograd.api.factor import lu_factor_ex as lu_factor_ex
from .autograd.api.factor import lu_solve as lu_solve
from .autograd.api.factor import qr as qr
from .autograd.api.factor import svd as svd
from .autograd.api.factor import svdvals as svdvals
from .autograd.api.linalg import cond as cond
from .autograd.api.linalg import cross as cross
from .autograd.api.linalg import det as det
from .autograd.api.linalg import diagonal as diagonal
from .autograd.api.linalg import inv as inv
from .autograd.api.linalg import inv_ex as inv_ex
from .autograd.api.linalg import lstsq as lstsq
from .autograd.api.linalg import matrix_exp as matrix_exp
from .autograd.api.linalg import matrix_norm as matrix_norm
from .autograd.api.linalg import matrix_power as matrix_power
from .autograd.api.linalg import matrix_rank as matrix_rank
from .autograd.api.linalg import multi_dot as multi_dot
from .autograd.api.linalg import norm as norm
from .autograd.api.linalg import pinv as pinv
from .autograd.api.linalg import slogdet as slogdet
from .autograd.api.linalg import solve as solve
from .autograd.api.linalg import solve_ex as solve_ex
from .autograd.api.linalg import solve_triangular as solve_triangular
from .autograd.api.linalg import tensorinv as tensorinv
from .autograd.api.linalg import tensorsolve as tensorsolve
from .autograd.api.linalg import vander as vander
from .autograd.api.linalg import vecdot as vecdot
from .autograd.api.linalg import vector_norm as vector_norm
from .autograd.api.matrix import matmul as matmul
