"""Every CUDA kernel compiles to machine code for sm_80 and sm_90, with no register spilled. No GPU, no driver.

Needs NVIDIA's compiler, which the extra tapegrad[cuda-check] installs (450 MB); `make cuda-check` does the same alone.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tapegrad.backends.cupy import check, compile, launch

needs_compiler = pytest.mark.skipif(
    compile.missing() is not None, reason=f"NVIDIA's compiler cannot be used: {compile.missing()}"
)
SOURCES = check.by_source()


@needs_compiler
@pytest.mark.parametrize("arch", check.ARCHITECTURES)
@pytest.mark.parametrize("source", SOURCES)
def test_a_source_compiles_without_spills(source: str, arch: str) -> None:
    entries = compile.for_architecture(source, SOURCES[source], arch)
    assert len(entries) == len(SOURCES[source])
    assert not {name: spilled for name, (_, spilled) in entries.items() if spilled}


@needs_compiler
def test_a_wrong_source_and_a_spill_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrong.cuh").write_text("template <class T> __global__ void f(T* x) { x[0] = undefined_name; }")
    # 64 values that live at once, in threads that may have 32 registers
    spilling = """
__global__ void __launch_bounds__(1024, 2) f(float* x) {
    float v[64];
#pragma unroll
    for (int i = 0; i < 64; i++) v[i] = x[i * 1024 + threadIdx.x];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 64; i++) x[i * 1024 + threadIdx.x] = v[63 - i] * v[(i * 7) % 64];
}
"""
    (tmp_path / "spilling.cuh").write_text(spilling)
    monkeypatch.setattr(compile, "SOURCES", tmp_path)
    with pytest.raises(Exception, match="undefined_name"):
        compile.for_architecture("wrong.cuh", ["f<float>"], "sm_90")
    entries = compile.for_architecture("spilling.cuh", ["f"], "sm_90")
    assert [spilled > 0 for _, spilled in entries.values()] == [True]


def test_the_log_is_read() -> None:
    log = """ptxas info    : Compiling entry function '_Z1fPf' for 'sm_90'
ptxas info    : Function properties for _Z1fPf
    0 bytes stack frame, 8 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 30 registers, used 0 barriers
ptxas info    : Compiling entry function '_Z1gPf' for 'sm_90'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 128 registers
"""
    assert compile.report(log) == {"_Z1fPf": (30, 24), "_Z1gPf": (128, 0)}


def test_every_kernel_of_the_sources_is_declared() -> None:
    """Each __global__ function of a source is a Kernel, with as many arguments and template arguments."""
    declared = {(k.source, k.name): k for k in launch.Kernel.declared}
    pattern = re.compile(
        r"(?:template <([^>]*)>\s*)?__global__ void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\(([^)]*)\)", re.DOTALL
    )
    found = set()
    for path in sorted(compile.SOURCES.glob("*.cuh")):
        for template, name, arguments in pattern.findall(path.read_text("utf-8")):
            kernel = declared[path.name, name]
            assert len(kernel.choices) == len([p for p in template.split(",") if p]), kernel.name
            assert len(kernel.signature) == len(arguments.split(",")), kernel.name
            found.add((path.name, name))
    assert found == set(declared)


def test_a_source_is_one_text() -> None:
    for path in sorted(compile.SOURCES.glob("*.cuh")):
        whole = compile.text(path.name)
        assert '#include "' not in whole and "#pragma once" not in whole
        assert whole.count("typedef long long i64;") == 1
