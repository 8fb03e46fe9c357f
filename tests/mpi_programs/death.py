"""One process ends in the middle of an all_reduce, in the way that the argument names; the others say what they saw."""

from __future__ import annotations

import os
import signal
import sys
import time

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
if dist.get_rank() == 1:
    work = dist.all_reduce(x, async_op=True)
    WAYS[sys.argv[1]]()
begun = time.monotonic()
try:
    while True:
        dist.all_reduce(x)
except dist.DistBackendError as error:
    print(f"rank {dist.get_rank()} after {time.monotonic() - begun:.2f} s: {str(error).splitlines()[0]}", flush=True)
    raise
