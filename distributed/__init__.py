"""torch.distributed: process groups and what their processes do together.

One process needs nothing. Several are started by `mpiexec -n 4 python train.py` (pip install 'tapegrad[mpi]').
"""

from __future__ import annotations

import importlib
from typing import Any

from .collectives import all_gather as all_gather
from .collectives import all_gather_into_tensor as all_gather_into_tensor
from .collectives import all_reduce as all_reduce
from .collectives import barrier as barrier
from .collectives import broadcast as broadcast
from .collectives import reduce as reduce
from .grad_bucket import GradBucket as GradBucket
from .groups import GroupMember as GroupMember
from .groups import ProcessGroup as ProcessGroup
from .groups import destroy_process_group as destroy_process_group
from .groups import get_backend as get_backend
from .groups import get_global_rank as get_global_rank
from .groups import get_group_rank as get_group_rank
from .groups import get_node_local_rank as get_node_local_rank
from .groups import get_process_group_ranks as get_process_group_ranks
from .groups import get_rank as get_rank
from .groups import get_world_size as get_world_size
from .groups import group as group
from .groups import init_process_group as init_process_group
from .groups import is_available as is_available
from .groups import is_initialized as is_initialized
from .groups import new_group as new_group
from .launch import is_backend_available as is_backend_available
from .launch import is_gloo_available as is_gloo_available
from .launch import is_mpi_available as is_mpi_available
from .launch import is_nccl_available as is_nccl_available
from .launch import is_torchelastic_launched as is_torchelastic_launched
from .launch import is_ucc_available as is_ucc_available
from .launch import is_xccl_available as is_xccl_available
from .objects import all_gather_object as all_gather_object
from .objects import broadcast_object_list as broadcast_object_list
from .objects import gather_object as gather_object
from .objects import recv_object_list as recv_object_list
from .objects import scatter_object_list as scatter_object_list
from .objects import send_object_list as send_object_list
from .p2p import P2POp as P2POp
from .p2p import batch_isend_irecv as batch_isend_irecv
from .p2p import irecv as irecv
from .p2p import isend as isend
from .p2p import recv as recv
from .p2p import send as send
from .scattering import all_to_all as all_to_all
from .scattering import all_to_all_single as all_to_all_single
from .scattering import gather as gather
from .scattering import monitored_barrier as monitored_barrier
from .scattering import reduce_scatter as reduce_scatter
from .scattering import reduce_scatter_tensor as reduce_scatter_tensor
from .scattering import scatter as scatter
from .types import Backend as Backend
from .types import DistBackendError as DistBackendError
from .types import DistError as DistError
from .types import DistNetworkError as DistNetworkError
from .types import DistStoreError as DistStoreError
from .types import QueueEmptyError as QueueEmptyError
from .types import ReduceOp as ReduceOp
from .types import Work as Work
from .types import _make_nccl_premul_sum as _make_nccl_premul_sum
from .types import default_pg_timeout as default_pg_timeout
from .types import reduce_op as reduce_op

all_gather_single, reduce_scatter_single = all_gather_into_tensor, reduce_scatter_tensor  # newer names of PyTorch


def __getattr__(name: str) -> Any:
    if name in ("algorithms", "optim"):  # loaded when they are named
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
