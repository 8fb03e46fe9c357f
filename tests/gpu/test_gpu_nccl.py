"""torch.distributed over NCCL on real GPUs, one process each under mpiexec. Skipped without two, or NCCL."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tapegrad as torch

if not torch.cuda.is_available():
    pytest.skip("CuPy finds no NVIDIA device", allow_module_level=True)
if not torch.distributed.is_nccl_available():
    pytest.skip("NCCL or mpi4py is not installed", allow_module_level=True)
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
if MPIEXEC is None:
    pytest.skip("there is no mpiexec: pip install 'tapegrad[mpi]'", allow_module_level=True)

PROGRAM = """
import tapegrad as torch
import tapegrad.distributed as dist

dist.init_process_group("nccl")
rank, world = dist.get_rank(), dist.get_world_size()
torch.cuda.set_device(rank)
for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64):
    for size in (1, 1000, 1_000_003):
        x = torch.full((size,), rank + 1, dtype=dtype, device="cuda")
        work = dist.all_reduce(x, async_op=True)
        work.wait()
        assert (x == world * (world + 1) // 2).all()
        dist.broadcast(y := torch.full((size,), rank, dtype=dtype, device="cuda"), world - 1)
        assert (y == world - 1).all()
        whole = torch.empty(world, size, dtype=dtype, device="cuda")
        dist.all_gather_into_tensor(whole, torch.full((size,), rank, dtype=dtype, device="cuda"))
        assert (whole == torch.arange(world, device="cuda").to(dtype)[:, None]).all()
        part = torch.empty(size, dtype=dtype, device="cuda")
        dist.reduce_scatter_tensor(part, whole)
        assert (part == rank * world).all()
        outs = [torch.empty(size, dtype=dtype, device="cuda") for _ in range(world)]
        dist.all_to_all(outs, [torch.full((size,), rank, dtype=dtype, device="cuda")] * world)
        assert all((out == r).all() for r, out in enumerate(outs))
if world > 1:
    got = torch.empty(5, device="cuda")
    ops = [dist.P2POp(dist.isend, torch.full((5,), float(rank), device="cuda"), (rank + 1) % world)]
    ops.append(dist.P2POp(dist.irecv, got, (rank - 1) % world))
    for work in dist.batch_isend_irecv(ops):
        work.wait()
    assert (got == (rank - 1) % world).all()
found = [None] * world
dist.all_gather_object(found, {"rank": rank})
assert found == [{"rank": r} for r in range(world)]
dist.barrier()
dist.destroy_process_group()
print(f"rank {rank} is done")
"""


def test_collectives(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    world = torch.cuda.device_count()
    if world < 2:
        pytest.skip("NCCL takes one process per device, and there is one device")
    command = [str(MPIEXEC), "-n", str(world), sys.executable, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.count("is done") == world, done.stdout + done.stderr
