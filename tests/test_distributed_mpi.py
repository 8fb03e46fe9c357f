"""torch.distributed over MPI: programs of tests/mpi_programs/ under mpiexec, and what one process sees of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
import tapegrad
from tapegrad import distributed as dist

PROGRAMS = Path(__file__).with_name("mpi_programs")
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
over_mpi = pytest.mark.skipif(
    find_spec("mpi4py") is None or MPIEXEC is None, reason="needs mpi4py and mpiexec: pip install 'tapegrad[mpi]'"
)


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PMI_", "OMPI_", "RANK", "WORLD_SIZE", "OMP_NUM"))}
    return kept | more


def mpi(processes: int, program: str, *args: str, kept: bool = False) -> subprocess.CompletedProcess[str]:
    """kept: in a shell that stays a second when the program fails, so that mpiexec does not end the others at once."""
    command = [sys.executable, str(PROGRAMS / program), *args]
    if kept:
        command = ["sh", "-c", '"$@" || { sleep 1; exit 1; }', "sh", *command]
    command = [str(MPIEXEC), "-n", str(processes), *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment())


@over_mpi
def test_collectives():
    done = mpi(4, "collectives.py")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
    assert sorted(re.findall(r"rank (\d) of", done.stdout)) == ["0", "1", "2", "3"]


DEATHS = [
    ("kill", 1, "its process ended without a word"),
    ("kill", 0, "its process ended without a word"),  # the one that tells the others
    ("raise", 1, "it raised ValueError: invalid literal"),
    ("exit", 1, "its program ended"),
]


@over_mpi
def test_a_process_that_dies(tmp_path):
    """The others raise DistBackendError that names it, in time, and the program ends: all ways side by side."""

    def die(case):
        way, rank, reason = case
        folder = tmp_path / f"{way}{rank}"
        folder.mkdir()
        begun = time.monotonic()
        done = mpi(3, "death.py", way, str(rank), str(folder), kept=way == "kill")
        assert time.monotonic() - begun < 60 and done.returncode != 0, case
        said = {path.name: path.read_text().split(" ", 1) for path in folder.iterdir()}
        assert sorted(said) == [str(r) for r in range(3) if r != rank], (case, done.stdout + done.stderr)
        for seconds, text in said.values():
            assert float(seconds) < 10 and f"rank {rank} of 3 is gone: {reason}" in text, (case, text)

    with ThreadPoolExecutor(2) as pool:  # two at a time: they mostly wait
        list(pool.map(die, DEATHS[::-1]))


@over_mpi
def test_mpiexec_itself_ends_all_where_one_is_killed(tmp_path):
    done = mpi(3, "death.py", "kill", "1", str(tmp_path))
    assert done.returncode != 0


@over_mpi
def test_a_process_that_ends_before_it_begins(tmp_path):
    """The other does not wait in MPI_Init for longer than its time."""
    program = tmp_path / "early.py"
    program.write_text(
        "import os, datetime, tapegrad.distributed as dist\n"
        "if os.environ['PMI_RANK'] == '0':\n    os._exit(7)\n"
        "dist.init_process_group(timeout=datetime.timedelta(seconds=2))\n"
    )
    command = [str(MPIEXEC), "-n", "2", sys.executable, str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())
    assert done.returncode != 0 and "Timeout (0:00:02)!" in done.stderr, done.stderr


def test_without_mpi4py_the_extra_is_named():
    code = (
        "import sys\nsys.modules['mpi4py'] = None\nimport tapegrad.distributed as dist\n"
        "try:\n    dist.init_process_group()\nexcept ImportError as error:\n"
        "    assert \"pip install 'tapegrad[mpi]'\" in str(error) and 'mpiexec -n 4' in str(error)\n"
        "else:\n    raise AssertionError\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(PMI_SIZE="2", PMI_RANK="0")
    )
    assert done.returncode == 0, done.stderr


# ---- arguments, in a world of one, beside torch's gloo where that is at hand

X = "T.ones(2)"
WRONG = f"""
D.all_reduce(3)
D.all_reduce([{X}])
D.all_reduce(T.ones(2, dtype=T.int32), op=D.ReduceOp.AVG)
D.all_reduce({X}, op=D.ReduceOp.BAND)
D.all_reduce(T.ones(2, dtype=T.complex64), op=D.ReduceOp.MAX)
D.broadcast({X}, 1)
D.broadcast({X})
D.broadcast({X}, 0, group_src=0)
D.broadcast({X}, -1)
D.broadcast(3, 0)
D.reduce({X}, 5)
D.all_gather([], {X})
D.all_gather([T.ones(3)], {X})
D.all_gather([T.ones(2, dtype=T.int32)], {X})
D.all_gather({X}, {X})
D.all_gather([{X}, {X}], {X})
D.gather({X})
D.gather({X}, [{X}, {X}], 0)
D.gather({X}, [T.ones(3)], 0)
D.scatter({X})
D.scatter({X}, [{X}, {X}], 0)
D.scatter({X}, [T.ones(3)], 0)
D.scatter({X}, [T.ones(2, dtype=T.int32)], 0)
D.reduce_scatter({X}, [])
D.reduce_scatter({X}, [{X}, {X}])
D.all_to_all([{X}], [])
D.all_to_all([{X}], [{X}, {X}])
D.all_to_all([{X}], [T.ones(3)])
D.all_to_all_single({X}, {X}, [1], [1])
D.all_to_all_single({X}, {X}, [1, 1], [1, 1])
D.all_to_all_single({X}, T.ones(2, dtype=T.int32))
D.send({X}, 0)
D.P2POp(D.all_reduce, {X}, 0)
D.batch_isend_irecv([3])
D.init_process_group("gloo", rank=0, world_size=1)
""".strip().splitlines()


def errors_of(T):
    """(type, text) of each wrong call, without the words that name torch's transport or its types of this process."""
    found = []
    T.distributed.init_process_group("gloo", rank=0, world_size=1)
    try:
        for call in WRONG:
            with pytest.raises(Exception) as caught:  # noqa: PT011  # which one is what is compared
                eval(call, {"T": T, "D": T.distributed})
            found.append((caught.type.__name__, str(caught.value)))
    finally:
        T.distributed.destroy_process_group()
    return found


def test_wrong_arguments_are_refused():
    types = {kind for kind, _ in errors_of(tapegrad)}
    assert types == {"TypeError", "RuntimeError", "ValueError"}


def test_wrong_arguments_beside_torch(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29517")
    for call, ours, theirs in zip(WRONG, errors_of(tapegrad), errors_of(torch), strict=True):
        said, expected = (re.sub(r"ProcessGroupGloo::|<class '[^']*'>", "", text).strip() for _, text in (ours, theirs))
        assert ours[0] == theirs[0] and said.startswith(expected), (call, ours, theirs)


BEFORE = "all_reduce(x) | broadcast(x, 0) | barrier() | get_rank() | new_group([0]) | all_gather_object([None], 1)"


@pytest.mark.parametrize("call", BEFORE.split(" | "))
def test_before_init_process_group(call):
    with pytest.raises(ValueError, match="Default process group has not been initialized"):
        eval(f"dist.{call}", {"dist": dist, "x": tapegrad.ones(1)})


def test_names_of_transports():
    with pytest.raises(AssertionError, match="Unknown backend type telepathy"):
        dist.init_process_group("telepathy")
    with pytest.raises(TypeError, match="Expected timeout argument to be of type datetime.timedelta"):
        dist.init_process_group("gloo", timeout=3, rank=0, world_size=1)
    with pytest.raises(AssertionError, match="Process group cannot be None"):
        dist.destroy_process_group()
    dist.init_process_group("mpi")  # not under mpiexec: a world of its own, as with MPI
    assert dist.get_world_size() == 1
    dist.destroy_process_group()
    assert repr(dist.ReduceOp.SUM) == "<RedOpType.SUM: 0>" and dist.ReduceOp(dist.ReduceOp.MAX) == dist.ReduceOp.MAX
