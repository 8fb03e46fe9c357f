"""Compiles groups of kernel sources into files of machine code. Run as a program, by path: build.py FOLDER KEY GROUP...

Only here is Numba imported: in child processes, or in this one where no child can be started. A file holds one line of
JSON, {kernel: [symbol, argument types, offset, length]} or {kernel: {"error": text}}, and after it the object files.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).parent
_PACKAGE = "tapegrad_kernel_sources"  # the sources know nothing of the library: it is not imported to compile them


def source(group: str) -> ModuleType:
    """The group's module of sources, freshly imported."""
    if _PACKAGE not in sys.modules:
        place = HERE / "sources"
        spec = importlib.util.spec_from_file_location(
            _PACKAGE, place / "__init__.py", submodule_search_locations=[str(place)]
        )
        assert spec is not None and spec.loader is not None
        package = sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(package)
    sys.modules.pop(f"{_PACKAGE}.{group}", None)
    return importlib.import_module(f"{_PACKAGE}.{group}")


def compiled(body: Any, types: list[Any], flags: set[str]) -> tuple[str, bytes]:
    """(symbol, object file) of one kernel. Raises what Numba raises, RuntimeError for a call out of the kernel."""
    from numba.core import compiler, cpu, registry
    from numba.core.types import void

    chosen: Any = compiler.Flags()
    chosen.no_cpython_wrapper = chosen.no_cfunc_wrapper = True
    chosen.nrt = False
    chosen.error_model = "numpy"
    chosen.noalias = True  # without it LLVM gives up on loops over many arrays
    chosen.fastmath = cpu.FastMathOptions(flags)
    target = registry.cpu_target
    made = compiler.compile_extra(target.typing_context, target.target_context, body, tuple(types), void, chosen, {})
    code = made.library._get_compiled_object()
    outside = [f.name for f in made.library._final_module.functions if f.is_declaration]
    outside = [name for name in outside if not name.startswith("llvm.")]
    if outside:  # the loader would end the process where it does not find one
        raise RuntimeError(f"the kernel calls {', '.join(outside)}")
    return made.fndesc.llvm_func_name, code


def build(group: str) -> bytes:
    """The contents of the group's file."""
    from numba.core.errors import NumbaWarning

    module = source(group)
    language = sys.modules[f"{_PACKAGE}.language"]
    mine = [k for k in language.KERNELS if k[0].__module__ == module.__name__]
    table: dict[str, Any] = {}
    blobs: list[bytes] = []
    offset = 0
    for body, text, flags in mine:
        codes = text.split()
        generic = any(c.startswith("T") for c in codes)
        for kind in ("f4", "f8") if generic else ("f4",):
            name = f"{body.__name__}_{kind}" if generic else body.__name__
            plain = [c.replace("T", kind).replace("I", "i" + kind[1]) for c in codes]
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", NumbaWarning)  # hints at speed; what fails is an error
                    types = [language.type_of(c, kind) for c in codes]
                    symbol, code = compiled(language.specialised(body, kind), types, flags)
            except Exception as error:  # of any kind: told when the kernel is asked for, and NumPy serves
                table[name] = {"error": f"{type(error).__name__}: {error}"}
                continue
            table[name] = [symbol, plain, offset, len(code)]
            blobs.append(code)
            offset += len(code)
    language.KERNELS[:] = [k for k in language.KERNELS if k not in mine]
    return json.dumps(table).encode() + b"\n" + b"".join(blobs)


def write(folder: Path, key: str, group: str) -> None:
    """Builds the group's file; it appears in one step, whole."""
    contents = build(group)
    handle, name = tempfile.mkstemp(dir=folder, prefix=f".{group}-")
    with os.fdopen(handle, "wb") as file:
        file.write(contents)
    os.replace(name, folder / file_name(group, key))


def file_name(group: str, key: str) -> str:
    """The name of a group's file."""
    return f"{group}-{key}.kernels"


if __name__ == "__main__":
    for _group in sys.argv[3:]:
        write(Path(sys.argv[1]), sys.argv[2], _group)
