"""The kernels as NVIDIA's compilers take them, for every architecture that is supported: nothing may spill.

NVRTC is what compiles them where they run (CuPy calls it); nvcc says the same with more words, where there is one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gpudrift.backends.cuda.device import OPTIONS
from gpudrift.backends.cuda.launch import STORED, THREADS, kernel_source

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import machine_code

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
MOST_INSTRUCTIONS = 75
"""For a float32 without a bitmap, in a cell with at most two edges; see benchmarks/machine_code.py."""


def check(found: dict[str, dict[str, int]]) -> None:
    assert set(found) == KERNELS
    for name, one in found.items():
        assert one["spill_stores"] == one["spill_loads"] == one["stack"] == 0, (name, one)
        assert one["registers"] * THREADS <= REGISTERS // 2, f"{name}: two blocks shall fit a multiprocessor"


def with_nvcc(folder: Path, architecture: int, code: str = "") -> str:
    source = folder / "count.cu"
    source.write_text(code or kernel_source("count.cu"))
    options = [*OPTIONS, *machine_code.memory_of(architecture).options, "-ftz=true"]
    command = ["nvcc", "-cubin", f"-arch=sm_{architecture}", "-Xptxas", "-v", *options, "-Werror", "all-warnings"]
    output = ["-o", str(folder / "count.cubin")]
    done = subprocess.run([*command, str(source), *output], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


nvrtc = machine_code.nvrtc_library()
FOR_NVCC = TESTED if nvrtc is None else TESTED[:1]


@pytest.fixture(scope="module")
def compiling(tmp_path_factory):
    """Both compilers at work on all cores: four seconds for each architecture."""
    found = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        if nvrtc is not None:
            found |= {("nvrtc", one): pool.submit(machine_code.with_nvrtc, nvrtc, one) for one in TESTED}
        if shutil.which("nvcc") is not None:
            folders = {one: tmp_path_factory.mktemp("nvcc") for one in FOR_NVCC}
            found |= {("nvcc", one): pool.submit(with_nvcc, folders[one], one) for one in FOR_NVCC}
        yield found


@pytest.mark.parametrize("architecture", FOR_NVCC)
def test_nothing_spills_with_nvcc(compiling, architecture):
    if ("nvcc", architecture) not in compiling:
        pytest.skip("there is no nvcc here")
    check(machine_code.resources(compiling["nvcc", architecture].result()))


@pytest.mark.parametrize("architecture", TESTED)
def test_nothing_spills_with_nvrtc(compiling, architecture):
    if ("nvrtc", architecture) not in compiling:
        pytest.skip("there is no NVRTC here")
    told, code = compiling["nvrtc", architecture].result()
    check(machine_code.resources(told))
    assert all(name.encode() in code for name in KERNELS)


def test_the_kernels_that_measure_a_device_compile(tmp_path):
    """benchmarks/wavefronts.cu, with what CuPy adds: their loops are there, and two blocks fit a multiprocessor."""
    code = (BENCHMARKS / "wavefronts.cu").read_text()
    wanted = {f"wf_{name}" for name in ("load32", "load64", "atomic_literal", "atomic_variable", "float_to_double")}
    wanted |= {"wf_double_to_float", "wf_double_to_unsigned", "wf_fma_double"}
    told = [with_nvcc(tmp_path, 90, code)] if shutil.which("nvcc") else []
    told += [machine_code.with_nvrtc(nvrtc, 90, code)[0]] if nvrtc else []
    for found in map(machine_code.resources, told):
        assert set(found) == wanted
        for one in found.values():
            assert one["spill_stores"] == one["spill_loads"] == one["stack"] == 0
            assert one["registers"] <= REGISTERS // (2 * 512)


def test_a_compiler_was_there():
    assert shutil.which("nvcc") or nvrtc or sys.platform != "linux"


def test_a_spill_is_seen():
    told = """ptxas info    : Compiling entry function 'gd_count_float32' for 'sm_90'
ptxas info    : Function properties for gd_count_float32
    16 bytes stack frame, 12 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers
"""
    found = machine_code.resources(told)
    assert found == {"gd_count_float32": {"registers": 128, "stack": 16, "spill_stores": 12, "spill_loads": 12}}
    with pytest.raises(AssertionError):
        check(found)


# --- machine code ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=TESTED)
def code(request, compiling):
    if nvrtc is None or machine_code.disassembler() is None:
        pytest.skip("there is no NVRTC here, or no nvdisasm")
    return machine_code.disassembled(compiling["nvrtc", request.param].result()[1])


def test_no_option_flushes_a_value(code):
    """CuPy compiles with -ftz=true; nothing that is done with a float32 may hear of it.

    (What copies rows divides sizes by means of float32; no value is in there.)
    """
    assert set(code) == KERNELS
    for name in KERNELS - {"gd_take", "gd_take_bits"}:
        flushed = [one.text for one in code[name] if ".FTZ" in one.text]
        assert not flushed, (name, flushed)


def test_float32_of_cpp_would_be_flushed(compiling):
    """The check can fail: without the PTX of arithmetic.cuh."""
    if nvrtc is None or machine_code.disassembler() is None:
        pytest.skip("there is no NVRTC here, or no nvdisasm")
    source = kernel_source("count.cu")
    changed = source.replace("__dsub_rn(gd_widened(x), edge)", "__dsub_rn((double)x, edge)")
    assert changed != source
    code = machine_code.disassembled(machine_code.with_nvrtc(nvrtc, 90, changed)[1])
    assert any(".FTZ" in one.text for one in code["gd_count_float32"])


def test_pointers_are_known_to_be_global(code):
    for name in KERNELS:
        if name.startswith("gd_count"):
            generic = [one.text for one in code[name] if machine_code.GENERIC.match(one.name)]
            assert not generic, (name, generic)


def test_counts_are_the_atomics_that_merge_lanes(code, request):
    for name in KERNELS:
        if name.startswith("gd_count"):
            names = {one.name for one in code[name] if one.name.startswith("ATOMS")}
            assert not any("CAS" in one or "CAST" in one for one in names), (name, names)
            if "75" not in request.node.name:
                assert any("POPC.INC" in one for one in names), (name, names)


def test_instructions_of_a_value(compiling):
    if nvrtc is None or machine_code.disassembler() is None:
        pytest.skip("there is no NVRTC here, or no nvdisasm")
    code = machine_code.disassembled(compiling["nvrtc", 90].result()[1])
    loops = {
        stored: machine_code.loop_of(code[f"gd_count_{stored}"], size) for stored, size in machine_code.PACK.items()
    }
    assert loops["float32"].usual <= MOST_INSTRUCTIONS
    for stored, loop in loops.items():
        assert 20 < loop.usual <= loop.searched < 100, (stored, loop)


def test_the_shortest_way_is_counted():
    text = ["A", "@P0 BRA 4", "B", "C", "D", "@P1 BRA 0", "EXIT"]
    code = [
        machine_code.Instruction(at, one.rstrip("0 4") if "BRA" in one else one, int(one[-1]) if "BRA" in one else None)
        for at, one in enumerate(text)
    ]
    assert machine_code.shortest(code, 0, [4], 0) == 4
    assert machine_code.shortest(code, 0, [2, 4], 0) == 6
    with pytest.raises(ValueError, match="no such way"):
        machine_code.shortest(code, 6, [], 0)


def table() -> None:
    """Print the registers of every kernel on every architecture; spills and stack are 0 where this returns."""
    assert nvrtc is not None, "pip install nvidia-cuda-nvrtc"
    found = {}
    for architecture in ARCHITECTURES:
        found[architecture] = machine_code.resources(machine_code.with_nvrtc(nvrtc, architecture)[0])
        try:
            check(found[architecture])
        except AssertionError as error:
            sys.exit(f"sm_{architecture}: {error}")
    registers = {f"sm_{at}": {name: one["registers"] for name, one in sorted(own.items())} for at, own in found.items()}
    sys.stdout.write(json.dumps(registers, indent=1) + "\n")


if __name__ == "__main__":
    table()
