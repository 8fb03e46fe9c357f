"""One process ends in the middle of an all_reduce, in the way that the arguments name; the others say what they saw.

Arguments: the way, the rank, and the folder where the others write a file each (mpiexec may lose what they print).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import tapegrad as torch
import tapegrad.distributed as dist

WAYS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "raise": lambda: int("boom"),
    "exit": lambda: sys.exit(1),
}

dist.init_process_group()
x = torch.ones(500_000)
dist.all_reduce(x)
if dist.get_rank() == int(sys.argv[2]):
    work = dist.all_reduce(x, async_op=True)
    WAYS[sys.argv[1]]()
begun = time.monotonic()
try:
    while True:
        dist.all_reduce(x)
except dist.DistBackendError as error:
    Path(sys.argv[3], str(dist.get_rank())).write_text(f"{time.monotonic() - begun:.2f} {error}")
    raise
