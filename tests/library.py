"""What belongs to the library: its files and packages, found from the folders. Shared by several test modules."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The root is the package, so these folders lie inside it without being part of it. Dot folders never are.
NOT_LIBRARY = {"tests", "benchmarks", "examples", "docs", "build", "dist", "out", "__pycache__"}


def library_files() -> list[Path]:
    """Every .py file of the library, sorted."""
    found = list(ROOT.glob("*.py"))
    for folder in ROOT.iterdir():
        if folder.is_dir() and not folder.name.startswith(".") and folder.name not in NOT_LIBRARY:
            found += folder.rglob("*.py")
    return sorted(found)


def module_name(path: Path) -> str:
    """The import name: ROOT/nn/init.py -> "tapegrad.nn.init", ROOT/nn/__init__.py -> "tapegrad.nn"."""
    parts = ["tapegrad", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_names() -> set[str]:
    """Every package that a wheel must hold: each folder with library code."""
    return {".".join(["tapegrad", *path.parent.relative_to(ROOT).parts]) for path in library_files()}
