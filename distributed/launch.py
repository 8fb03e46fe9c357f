"""How programs of several processes are started, and which transports there are."""

from __future__ import annotations

import os
from importlib.util import find_spec

# What launchers set: the number of processes, and this one's number.
LAUNCHERS = (
    ("PMI_SIZE", "PMI_RANK"),  # MPICH, Intel MPI
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
)


def launched() -> tuple[int, int] | None:
    """(how many processes mpiexec started, this one's number); None where it started none."""
    for size, rank in LAUNCHERS:
        if os.environ.get(size, "").isdigit() and os.environ.get(rank, "").isdigit():
            return int(os.environ[size]), int(os.environ[rank])
    return None


def is_mpi_available() -> bool:
    """Whether mpi4py is installed."""
    return find_spec("mpi4py") is not None


def is_gloo_available() -> bool:
    """Whether backend="gloo" serves several processes: as MPI, where mpi4py is installed."""
    return is_mpi_available()


def is_nccl_available() -> bool:
    """Whether CuPy, NCCL and mpi4py are installed, and a GPU is there."""
    if find_spec("cupy") is None or not is_mpi_available():
        return False
    from .nccl import load_cupy
    from .types import DistBackendError

    try:
        load_cupy()
    except DistBackendError:
        return False
    return True


def _absent() -> bool:
    """Whether there is such a transport: no."""
    return False


is_ucc_available = is_xccl_available = _absent


def is_torchelastic_launched() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_backend_available(backend: str) -> bool:
    """Whether several processes can use a transport of that name."""
    available = {"gloo": is_gloo_available, "mpi": is_mpi_available, "nccl": is_nccl_available}
    return available.get(backend.lower(), _absent)()
