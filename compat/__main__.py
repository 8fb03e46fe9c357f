"""`python -m tapegrad.compat [--check] PROGRAM.py [arguments]`: lists the program's torch names, then runs it."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

from . import install
from .uses import verdicts_of

USAGE = """python -m tapegrad.compat [--check] PROGRAM.py [arguments]

Lists which torch names PROGRAM.py, and the files beside it that it imports, use, and which of them are missing in
tapegrad or differ; then runs it with `import torch` meaning tapegrad. --check lists only.
Exit status: the program's; with --check, 1 where a name is missing; 2 for wrong arguments."""


def listing(program: str) -> tuple[str, int]:
    """(the text that is shown before the program runs, the number of missing names)."""
    verdicts = verdicts_of(program)
    missing = [v for v in verdicts if v.status == "missing"]
    differing = [v for v in verdicts if v.status == "differs"]
    lines = [f"{program}: {len(verdicts)} torch names, {len(missing)} missing, {len(differing)} differ"]
    for title, found in (("missing", missing), ("differ", differing)):
        lines += [f"  {title}:"] if found else []
        lines += [f"    {v.use.name}  ({v.use.file}:{v.use.line})  {v.reason}".rstrip() for v in found]
    same = [v.use.name for v in verdicts if v.status == "same"]
    if same:
        lines.append("  the same: " + " ".join(same))
    return "\n".join(lines), len(missing)


def main(arguments: list[str]) -> int:
    """Runs the command line; gives the exit status of --check, and of a program that ends by itself."""
    check = arguments[:1] == ["--check"]
    rest: list[Any] = arguments[1:] if check else arguments
    if not rest or rest[0] in ("-h", "--help") or not Path(rest[0]).is_file():
        print(USAGE if not rest or rest[0] in ("-h", "--help") else f"no such file: {rest[0]}", file=sys.stderr)
        return 0 if rest and rest[0] in ("-h", "--help") else 2
    program = rest[0]
    try:
        text, missing = listing(program)
    except SyntaxError as error:
        print(f"{error.filename}:{error.lineno}: {error.msg}", file=sys.stderr)
        return 2
    print(text, file=sys.stdout if check else sys.stderr, flush=True)
    if check:
        return 1 if missing else 0
    install()
    sys.argv = rest
    sys.path[0] = str(Path(program).resolve().parent)
    runpy.run_path(program, run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
