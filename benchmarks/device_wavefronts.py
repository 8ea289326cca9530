"""Cycles of a multiprocessor that a warp instruction takes, by wavefronts.cu: it decides how kernels should be built.

A multiprocessor is filled with two blocks of 512 threads, each of which issues the same instruction many times. Cycles
are those from where the first block of a multiprocessor began to where its last one ended, over the instructions of all
its warps; the median over the multiprocessors, of the best of three launches. A load without conflicts should take one,
or two if it reads eight bytes; each further wavefront one more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from device_processes import ROOT

__all__ = ["DEGREES", "cycles_of", "lanes_in_a_bank", "lanes_in_an_address", "measure_wavefronts"]

DEGREES = (1, 2, 4, 8, 16, 32)
THREADS, BLOCKS = 512, 2
"""Of a block, and of a multiprocessor."""
UNROLLED = 16
SHARED = 64 << 10
"""Bytes of a block: what 16 warps take whose lanes all lie in one bank."""
MEMORY = {"load32": 4, "load64": 8, "atomic_literal": 4, "atomic_variable": 4}
"""Bytes that a lane takes."""
ARITHMETIC = {
    "float_to_double": "F2F.F64.F32",
    "double_to_unsigned": "F2I.U32.F64",
    "fma_double": "DFMA",
    "double_to_float": "F2F.F32.F64",
}
INSTRUCTIONS = {
    "load32": "LDS.32",
    "load64": "LDS.64",
    "atomic_literal": "ATOMS.POPC.INC",
    "atomic_variable": "ATOMS.ADD",
} | ARITHMETIC

Offsets = npt.NDArray[np.uint32]


def lanes_in_a_bank(degree: int, size: int) -> Offsets:
    """Byte offsets of 32 lanes, so many of which read different words of one bank; of pairs of banks, if of 8 bytes."""
    lanes = np.arange(32, dtype=np.uint32)
    return (size * (lanes // degree + 32 * (lanes % degree))).astype(np.uint32)


def lanes_in_an_address(degree: int, size: int) -> Offsets:
    """The same, so many of which read one word, and the others words of other banks."""
    return (size * (np.arange(32, dtype=np.uint32) // degree)).astype(np.uint32)


def cycles_of(told: npt.NDArray[np.uint64], rounds: int) -> float:
    """Cycles of a multiprocessor for an instruction of a warp.

    Parameters
    ----------
    told : uint64, shape (blocks, 3)
        Multiprocessor, begin and end of each block.
    rounds : int
    """
    each = []
    for place in np.unique(told[:, 0]):
        own = told[told[:, 0] == place]
        span = int(own[:, 2].max()) - int(own[:, 1].min())
        each.append(span / (len(own) * THREADS // 32 * rounds * UNROLLED))
    return float(median(each))


def measure_wavefronts(have: set[str], *, quick: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each figure that is not there yet, by name: loads and atomics as they meet, and arithmetic."""
    import cupy

    source = (ROOT / "benchmarks" / "wavefronts.cu").read_text(encoding="utf-8")
    with cupy.cuda.Device(0) as own:
        module = cupy.RawModule(code=source, options=("--std=c++17",))
        blocks = BLOCKS * int(own.attributes["MultiProcessorCount"])
        for name, figure in planned(quick=quick):
            if name not in have:
                yield name, figure(cupy, module, blocks)


def planned(*, quick: bool) -> Iterator[tuple[str, Callable[[Any, Any, int], dict[str, Any]]]]:
    """Names and what measures them, those first that say most."""
    rounds = 20 if quick else 400

    def figure(kernel: str, part: int, lanes: Offsets, times: int) -> Callable[[Any, Any, int], dict[str, Any]]:
        def measured(cupy: Any, module: Any, blocks: int) -> dict[str, Any]:
            cycles = launched(cupy, module, f"wf_{kernel}", blocks, part, lanes, times)
            return {"instruction": INSTRUCTIONS[kernel], "cycles": cycles}

        return measured

    for words, lanes in (("in a bank", lanes_in_a_bank), ("in an address", lanes_in_an_address)):
        for degree in DEGREES:
            for kernel, size in MEMORY.items():
                # Warps of loads may share their part; so 8 bytes fit as well.
                part = 32 * 32 * size
                times = max(1, rounds // max(1, degree // 4))
                name = f"{INSTRUCTIONS[kernel]}, {degree} lanes {words}"
                yield name, figure(kernel, part, lanes(degree, size), times)
    for kernel, instruction in ARITHMETIC.items():
        yield instruction, figure(kernel, 32 * 32 * 4, lanes_in_a_bank(1, 4), rounds)


def launched(cupy: Any, module: Any, name: str, blocks: int, part: int, lanes: Offsets, rounds: int) -> float:
    kernel = module.get_function(name)
    kernel.max_dynamic_shared_size_bytes = SHARED
    offsets, told, sink = cupy.asarray(lanes), cupy.zeros((blocks, 3), np.uint64), cupy.zeros(1, np.uint32)
    numbers = (np.int32(part), np.int32(SHARED // part), np.int32(rounds), np.uint32(1))
    best = []
    for _ in range(3):
        kernel((blocks,), (THREADS,), (offsets, *numbers, told, sink), shared_mem=SHARED)
        best.append(cycles_of(cupy.asnumpy(told), rounds))
    return min(best)
