"""Run by `mpiexec -n 2`: rank 1 leaves out a backward pass. The other is told within the group's time, and both end."""

from __future__ import annotations

import sys
import time
from datetime import timedelta

import tapegrad as T

D = T.distributed


def main() -> None:
    D.init_process_group("mpi", timeout=timedelta(seconds=1))
    model = T.nn.parallel.DistributedDataParallel(T.nn.Linear(20, 5))
    x = T.ones(4, 20)
    model(x).sum().backward()
    began = time.monotonic()
    out = model(x).sum()
    if D.get_rank() == 0:
        try:
            out.backward()
        except D.DistBackendError as error:
            print(f"told after {time.monotonic() - began:.1f} s: {error}", flush=True)
            sys.exit(0)
        print("backward returned", flush=True)
        sys.exit(1)
    time.sleep(2)  # alive, elsewhere


if __name__ == "__main__":
    main()
