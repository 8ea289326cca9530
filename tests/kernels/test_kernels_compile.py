"""The kernels as NVIDIA's compilers take them, for every architecture that is supported: nothing may spill.

NVRTC is what compiles them where they run (CuPy calls it); nvcc says the same with more words, where there is one.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

from gpudrift.backends.cuda.device import OPTIONS
from gpudrift.backends.cuda.launch import STORED, THREADS, kernel_source

pytestmark = pytest.mark.slow

ARCHITECTURES = (75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121)
"""What CUDA 13 compiles for; RAPIDS begins with 75 too. As a script this module compiles for all of them."""
TESTED = (75, 90, 120)
"""The oldest, the newest, and the one in between that is most common: four seconds each."""
KERNELS = {
    *(f"gd_count_{stored}" for stored in STORED),
    *("gd_build_guides", "gd_take", "gd_take_bits", "gd_check_texts"),
}
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
REGISTERS = 65_536
"""Of a multiprocessor."""


def resources(told: str) -> dict[str, dict[str, int]]:
    """What ptxas -v says of each kernel."""
    found = {}
    for block in told.split("Compiling entry function '")[1:]:
        numbers = {
            "registers": r"Used (\d+) registers",
            "stack": r"(\d+) bytes stack frame",
            "spill_stores": r"(\d+) bytes spill stores",
            "spill_loads": r"(\d+) bytes spill loads",
        }
        matches = {what: re.search(pattern, block) for what, pattern in numbers.items()}
        assert all(matches.values()), block
        found[block.split("'")[0]] = {what: int(match[1]) for what, match in matches.items() if match}
    return found


def check(found: dict[str, dict[str, int]]) -> None:
    assert set(found) == KERNELS
    for name, one in found.items():
        assert one["spill_stores"] == one["spill_loads"] == one["stack"] == 0, (name, one)
        assert one["registers"] * THREADS <= REGISTERS // 2, f"{name}: two blocks shall fit a multiprocessor"


def with_nvcc(folder: Path, architecture: int, code: str = "") -> str:
    source = folder / "count.cu"
    source.write_text(code or kernel_source("count.cu"))
    command = ["nvcc", "-cubin", f"-arch=sm_{architecture}", "-Xptxas", "-v", *OPTIONS, "-Werror", "all-warnings"]
    output = ["-o", str(folder / "count.cubin")]
    done = subprocess.run([*command, str(source), *output], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def nvrtc_library() -> Path | None:
    """NVRTC's library in its wheel."""
    try:
        listed = files("nvidia-cuda-nvrtc") or []
    except PackageNotFoundError:
        return None
    return next((Path(str(one.locate())) for one in listed if re.fullmatch(r"libnvrtc\.so\.\d+", one.name)), None)


def with_nvrtc(library: Path, architecture: int, code: str = "") -> tuple[str, bytes]:
    """The compiler's words, and the machine code."""
    nvrtc = ctypes.CDLL(str(library))
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    source = (code or kernel_source("count.cu")).encode()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"count.cu", 0, None, None) == 0
    # CuPy prefixes nothing to the code; it adds the architecture to the options.
    options = [f"--gpu-architecture=sm_{architecture}", "--ptxas-options=-v", *OPTIONS]
    given = (ctypes.c_char_p * len(options))(*[one.encode() for one in options])
    failed = nvrtc.nvrtcCompileProgram(program, len(options), given)
    assert nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)) == 0
    told = ctypes.create_string_buffer(size.value)
    assert nvrtc.nvrtcGetProgramLog(program, told) == 0
    assert not failed, told.value.decode()
    assert nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)) == 0
    made = ctypes.create_string_buffer(size.value)
    assert nvrtc.nvrtcGetCUBIN(program, made) == 0
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return told.value.decode(), made.raw


FOR_NVCC = TESTED if nvrtc_library() is None else TESTED[:1]


@pytest.fixture(scope="module")
def compiling(tmp_path_factory):
    """Both compilers at work on all cores: four seconds for each architecture."""
    nvrtc, found = nvrtc_library(), {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        if nvrtc is not None:
            found |= {("nvrtc", one): pool.submit(with_nvrtc, nvrtc, one) for one in TESTED}
        if shutil.which("nvcc") is not None:
            folders = {one: tmp_path_factory.mktemp("nvcc") for one in FOR_NVCC}
            found |= {("nvcc", one): pool.submit(with_nvcc, folders[one], one) for one in FOR_NVCC}
        yield found


@pytest.mark.parametrize("architecture", FOR_NVCC)
def test_nothing_spills_with_nvcc(compiling, architecture):
    if ("nvcc", architecture) not in compiling:
        pytest.skip("there is no nvcc here")
    check(resources(compiling["nvcc", architecture].result()))


@pytest.mark.parametrize("architecture", TESTED)
def test_nothing_spills_with_nvrtc(compiling, architecture):
    if ("nvrtc", architecture) not in compiling:
        pytest.skip("there is no NVRTC here")
    told, code = compiling["nvrtc", architecture].result()
    check(resources(told))
    assert all(name.encode() in code for name in KERNELS)


def test_the_kernels_that_measure_a_device_compile(tmp_path):
    """benchmarks/wavefronts.cu, with what CuPy adds: their loops are there, and two blocks fit a multiprocessor."""
    code = (BENCHMARKS / "wavefronts.cu").read_text()
    wanted = {f"wf_{name}" for name in ("load32", "load64", "atomic_literal", "atomic_variable", "float_to_double")}
    wanted |= {"wf_double_to_float", "wf_double_to_unsigned", "wf_fma_double"}
    told = [with_nvcc(tmp_path, 90, code)] if shutil.which("nvcc") else []
    nvrtc = nvrtc_library()
    told += [with_nvrtc(nvrtc, 90, code)[0]] if nvrtc else []
    for found in map(resources, told):
        assert set(found) == wanted
        for one in found.values():
            assert one["spill_stores"] == one["spill_loads"] == one["stack"] == 0
            assert one["registers"] <= REGISTERS // (2 * 512)


def test_a_compiler_was_there():
    assert shutil.which("nvcc") or nvrtc_library() or sys.platform != "linux"


def test_a_spill_is_seen():
    told = """ptxas info    : Compiling entry function 'gd_count_float32' for 'sm_90'
ptxas info    : Function properties for gd_count_float32
    16 bytes stack frame, 12 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers
"""
    found = resources(told)
    assert found == {"gd_count_float32": {"registers": 128, "stack": 16, "spill_stores": 12, "spill_loads": 12}}
    with pytest.raises(AssertionError):
        check(found)


def table() -> None:
    """Print the registers of every kernel on every architecture; spills and stack are 0 where this returns."""
    library = nvrtc_library()
    assert library is not None, "pip install nvidia-cuda-nvrtc"
    found = {architecture: resources(with_nvrtc(library, architecture)[0]) for architecture in ARCHITECTURES}
    for one in found.values():
        check(one)
    registers = {f"sm_{at}": {name: one["registers"] for name, one in sorted(own.items())} for at, own in found.items()}
    sys.stdout.write(json.dumps(registers, indent=1) + "\n")


if __name__ == "__main__":
    table()
