"""Runs as JSON files: the form is fixed here, and a file of another form is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FORMAT = 1
KEYS = {  # of a run: key -> type
    "format": int, "date": str, "threads": int, "backend": str, "settings": dict, "machine": dict, "versions": dict,
    "libraries": list, "absent": dict, "pools": dict, "workloads": dict, "footprint": dict, "scaling": dict,
}  # fmt: skip
MEASURED = {  # of a result that did not fail
    "seconds": float, "low": float, "high": float, "samples": int, "rounds": list, "losses": list,
    "first_seconds": float, "import_seconds": float, "memory": dict,
}  # fmt: skip


def check(run: Any) -> dict[str, Any]:
    """The run itself; ValueError says what is not as it must be."""
    if not isinstance(run, dict) or run.get("format") != FORMAT:
        found = run.get("format") if isinstance(run, dict) else type(run).__name__
        raise ValueError(f"a run of format {FORMAT} was expected, this is {found!r}")
    _check_keys(run, KEYS, "the run")
    for name, entry in run["workloads"].items():
        _check_keys(entry, {"title": str, "sizes": dict, "results": dict}, name)
        for library, result in entry["results"].items():
            if library not in run["libraries"]:
                raise ValueError(f"{name}: {library} is none of the run's libraries")
            _check_keys(result, {"error": str} if "error" in result else MEASURED, f"{name}, {library}")
    return run


def _check_keys(entry: dict[str, Any], keys: dict[str, type], where: str) -> None:
    for key, kind in keys.items():
        if not isinstance(entry.get(key), kind):
            raise ValueError(f"{where}: {key!r} must be {kind.__name__}, got {type(entry.get(key)).__name__}")


def load(path: str | Path) -> dict[str, Any]:
    """The run in a file."""
    try:
        return check(json.loads(Path(path).read_text(encoding="utf-8")))
    except ValueError as error:
        error.add_note(f"in {path}")
        raise


def save(run: dict[str, Any], path: Path) -> None:
    """Writes the run, its folder too; the file is whole at every moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(check(run), indent=1) + "\n", encoding="utf-8")
    fresh.replace(path)
