"""Faults that are planted in the kernels are found: the proof of test_kernels.py can fail. And what sanitizers say."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support import emulated_gpu
from support.emulated_gpu import count_on, replaced

import gpudrift as gd
from gpudrift.backends.cuda.launch import Counters, device_values

pytestmark = pytest.mark.slow  # each fault is compiled


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("emulation")


def test_a_group_that_counts_into_another_is_caught(folder):
    fault = replaced("count.cu", "group = first_group + blockIdx.z", "group = first_group")
    values = np.random.default_rng(0).normal(size=100)
    device = emulated_gpu.EmulatedDevice(emulated_gpu.build_fault(folder, fault))
    schema = gd.fit({"x": values})
    counters = Counters(device, schema, groups=2)
    held = device.array(values)
    counters.add(device_values([(0, "float64", 100, held.pointer, 0, 0, False)]), groups=np.array([0, 50, 100]))
    assert [int(one.sum()) for one in counters.read()[0]] != [50, 50]


FAULTS = {
    "no barrier after zeroing": ("count.cu", "    __syncthreads();  // counters are zero\n", ""),
    "no barrier before emptying": ("count.cu", "        __syncthreads();  // rows are counted\n", ""),
    "no barrier after emptying": ("count.cu", "        __syncthreads();  // sums have room\n", ""),
    "a wrong slot at an edge": ("arithmetic.cuh", "gd_reaches(double a, double b) { return a >= b; }",
                                "gd_reaches(double a, double b) { return a > b; }"),
    "no edge in a cell": ("count.cu", "near = (entry & GD_EDGES_MASK) != 0;", "near = false;"),
    "one edge in a cell of two": ("count.cu", "nearer = reached && ", "nearer = false && "),
    "two edges in a crowded cell": ("count.cu", "(entry & GD_EDGES_MASK) > 2 * GD_EDGE", "false"),
    "a crowd that ends too early": ("count.cu", "high = middle - 1;", "high = middle - 2;"),
    "a scale of the bin before": ("count.cu", "gd_load_if(bin != named, scale", "gd_load_if(false, scale"),
    "counters that are not flushed": ("count.cu", " + at, (gd_u64)count);", " + at, 0ull);"),
    "a counter that is not flushed": (
        "count.cu",
        "at < bins + GD_SPECIALS; at += blockDim.x) {\n",
        "at < bins + GD_SPECIALS - 2; at += blockDim.x) {\n",
    ),
    "a residual that overflows": ("count.cu", "GD_ROWS_OF_A_COPY = 65536", "GD_ROWS_OF_A_COPY = 65538"),
    "a copy that overflows": ("count.cu", "GD_ROWS_OF_COPIES = 49152", "GD_ROWS_OF_COPIES = 66560"),
    "a run that is not ended": ("count.cu", "    gd_end_run(block, seen);\n}", "}"),
    "sums that are not emptied": ("count.cu", "                gd_store(0u, address);\n", ""),
    "a guide that is too high": ("count.cu", "gd_store(whole_guide[at],", "gd_store(1 + whole_guide[at],"),
    "bounds of one lane": ("count.cu", "low = min(low, __shfl_xor_sync(0xFFFFFFFFu, low, distance));", ""),
    "a float32 widened by C++": ("slots.cuh", "__dsub_rn(gd_widened(x), edge)", "__dsub_rn((double)x, edge)"),
    "a smallest float32 of C++": ("count.cu", "gd_smaller(seen.low, rank)", "min(seen.low, rank)"),
    "a float32 compared by C++": ("count.cu", "if (gd_reaches(rank, limit))", "if (rank >= limit)"),
    "a limit rounded by C++": ("slots.cuh", "return gd_rounded_up(edge);", "return (float)edge;"),
}  # fmt: skip
SINGLE = [fault for fault in FAULTS if "float32" in fault or "limit" in fault]
"""Of what is done with float32."""


def faulted(folder: Path, fault: str | None, stored: str = "") -> subprocess.CompletedProcess[str]:
    """Kernels with a fault, as CuPy compiles them, on the tables that show it."""
    stored = stored or ("float32" if fault in SINGLE else "float64")
    room = emulated_gpu.RTX if fault == "a run that is not ended" else emulated_gpu.H200
    change = replaced(*FAULTS[fault]) if fault else lambda name, text: text
    library = emulated_gpu.build_fault(folder, change, emulated_gpu.FLUSH, room=room, stored=stored)
    return process("faulty_kernels.py", library, stored)


@pytest.fixture(scope="module")
def faulty(folder):
    """All of them at work on all cores: a second for each to be built and tried."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {fault: pool.submit(faulted, folder, fault) for fault in FAULTS}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_caught(faulty, fault):
    done = faulty[fault].result()
    assert done.stdout != "same\n", fault
    assert done.stdout == "different\n" or done.returncode != 0


@pytest.mark.parametrize("stored", ["float64", "float32"])
def test_without_a_fault_nothing_differs(folder, stored):
    done = faulted(folder, None, stored)
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr


def process(script: str, library: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run kernels in a process of their own: those with a fault may crash, sanitizers must be loaded first."""
    scripts = Path(emulated_gpu.__file__).parent
    paths = os.pathsep.join([str(scripts.parent), *sys.path])
    command = [sys.executable, str(scripts / script), str(library), *more]
    return subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_divergent_barriers_are_reported(folder):
    fault = replaced(
        "count.cu",
        "    __syncthreads();  // counters are zero\n",
        "    if (threadIdx.x & 1)\n        __syncthreads();\n    else\n        __syncthreads();\n",
    )
    library = emulated_gpu.build_fault(folder, fault)
    with pytest.raises(AssertionError, match="wait for each other in different places"):
        count_on(emulated_gpu.EmulatedDevice(library), pa.table({"x": [1.0, 2.0]}), gd.fit({"x": [1.0, 2.0]}), 1 << 20)


# --- sanitizers ----------------------------------------------------------------------------------------------------

SANITIZERS = ("-fsanitize=address,undefined,float-cast-overflow,alignment", "-fno-sanitize-recover=all", "-O1", "-g")


def sanitized(library: Path, *types: str) -> subprocess.CompletedProcess[str]:
    """The kernels on tables of every kind, in a process into which the sanitizers were loaded first."""
    found = [subprocess.run(["g++", f"-print-file-name=lib{name}.so"], capture_output=True, text=True, check=True)
             for name in ("asan", "ubsan")]  # fmt: skip
    return process(
        "sanitized_kernels.py",
        library,
        *types,
        LD_PRELOAD=" ".join(one.stdout.strip() for one in found),
        ASAN_OPTIONS="detect_leaks=0:detect_stack_use_after_return=0",
        UBSAN_OPTIONS="print_stacktrace=0",
        PYTHONMALLOC="malloc",
        OMP_NUM_THREADS="1",
    )


SANITIZED_FAULTS = {
    "beyond shared memory": (
        ("count.cu", "        gd_store(0u, block.sums + 4 * at);", "        gd_store(0u, block.sums + 4 * at + 4);"),
        "AddressSanitizer: heap-buffer-overflow",
    ),
    "a number that does not fit an integer": (
        ("slots.cuh", "return min(__double2uint_rz(__dmul_rn(__dsub_rn(x, edge), gd_power(scale))),",
         "return min((gd_u32)__dmul_rn(x, 1e10),"),
        "is outside the range of representable values",
    ),
    "values that are not aligned": (
        ("count.cu", "packed = (const Pack*)(values + head);", "packed = (const Pack*)((char*)(values + head) + 1);"),
        "misaligned address",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def checked(folder):
    """The kernels under the sanitizers, as they are and with each fault, on all cores."""

    def tried(fault: str | None) -> subprocess.CompletedProcess[str]:
        if fault is None:
            return sanitized(emulated_gpu.build(folder, *SANITIZERS))
        change = replaced(*SANITIZED_FAULTS[fault][0])
        return sanitized(emulated_gpu.build_fault(folder, change, *SANITIZERS), "float64")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {fault: pool.submit(tried, fault) for fault in (None, *SANITIZED_FAULTS)}


def test_sanitizers_find_nothing(checked):
    done = checked[None].result()
    assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr[-3000:]


@pytest.mark.parametrize("fault", SANITIZED_FAULTS)
def test_sanitizers_find_planted_faults(checked, fault):
    message = SANITIZED_FAULTS[fault][1]
    done = checked[fault].result()
    assert done.returncode != 0
    assert message in done.stderr, done.stderr[-3000:]
