"""What NVIDIA's compiler makes of the counting kernels: instructions a value, registers, spills, flushes.

    pip install nvidia-cuda-nvrtc nvidia-cuda-nvdisasm
    python benchmarks/machine_code.py [--source kernels/count.cu] [--architecture 90]

Needs no GPU. Kernels are compiled as CuPy has them compiled, with -ftz=true behind all other options.

*Instructions a value* are those of the shortest way once around the loop over packs of 16 bytes without a bitmap, that
passes the load of each value's edge (so all of them are counted), over the values of a pack. Every instruction is
issued for a whole warp, whatever its predicate says, so predicated ones count. The shortest way is the usual one:
values with at most two edges in their cell, none of them NaN or infinite. *Searched* is the same where a value also
goes once around the loop of the search, which one in a cell with three or four edges does at most.
"""

from __future__ import annotations

import argparse
import ctypes
import heapq
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a checkout is enough; hence the imports below it

from gpudrift.backends.cuda.device import OPTIONS  # noqa: E402
from gpudrift.backends.cuda.launch import kernel_source  # noqa: E402
from gpudrift.backends.cuda.layout import SharedMemory  # noqa: E402

SHARED = {
    75: (64, 64),
    80: (163, 164),
    87: (163, 164),
    90: (227, 228),
    100: (227, 228),
    103: (227, 228),
    110: (227, 228),
}
"""KiB of shared memory that a block can have, and a multiprocessor has; others have 99 and 100."""
SHOWN = ("float32", "float64", "int32", "int64")
PACK = {"float16": 8, "float32": 4, "float64": 2, "int8": 16, "int16": 8, "int32": 4, "int64": 2}
"""Values of 16 bytes."""
GENERIC = re.compile(r"(LD|ST|ATOM)\.")
"""Accesses through pointers of which the compiler does not know what they point to."""


@dataclass(frozen=True)
class Instruction:
    """One of a kernel: where, what, and where it may lead to besides the next one."""

    address: int
    text: str
    target: int | None

    @property
    def name(self) -> str:
        return self.text.split()[1] if self.text.startswith("@") else self.text.split()[0]

    @property
    def conditional(self) -> bool:
        """Whether the next one may follow all the same: of a branch by its guard or a predicate among its operands."""
        return self.text.startswith("@") or re.search(r"BRA\s+!?U?P\d", self.text) is not None


def memory_of(architecture: int) -> SharedMemory:
    """Shared memory of devices of an architecture, which kernels are compiled for."""
    block, multiprocessor = SHARED.get(architecture, (99, 100))
    return SharedMemory(block << 10, multiprocessor << 10)


def library_of(package: str, name: str) -> Path | None:
    """A file of a wheel."""
    try:
        listed = files(package) or []
    except PackageNotFoundError:
        return None
    return next((Path(str(one.locate())) for one in listed if re.fullmatch(name, one.name)), None)


def nvrtc_library() -> Path | None:
    """NVRTC's library in its wheel."""
    return library_of("nvidia-cuda-nvrtc", r"libnvrtc\.so\.\d+")


def disassembler() -> Path | None:
    """NVIDIA's disassembler: of its wheel, or where conda or a toolkit has put it."""
    there = shutil.which("nvdisasm")
    return library_of("nvidia-cuda-nvdisasm", "nvdisasm") or (Path(there) if there else None)


def compiled(library: Path, source: str, options: Sequence[str]) -> tuple[str, bytes]:
    """The words of NVRTC, and machine code.

    Raises
    ------
    ValueError
        If it does not compile.
    """
    nvrtc = ctypes.CDLL(str(library))
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"count.cu", 0, None, None) == 0
    given = (ctypes.c_char_p * len(options))(*[one.encode() for one in options])
    failed = nvrtc.nvrtcCompileProgram(program, len(options), given)
    assert nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)) == 0
    told = ctypes.create_string_buffer(size.value)
    assert nvrtc.nvrtcGetProgramLog(program, told) == 0
    if failed:
        raise ValueError(told.value.decode())
    assert nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)) == 0
    code = ctypes.create_string_buffer(size.value)
    assert nvrtc.nvrtcGetCUBIN(program, code) == 0
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return told.value.decode(), code.raw


def with_nvrtc(library: Path, architecture: int, source: str | None = None) -> tuple[str, bytes]:
    """The kernels as CuPy has them compiled for an architecture: it appends the last option itself."""
    options = [f"--gpu-architecture=sm_{architecture}", "--ptxas-options=-v", *OPTIONS]
    options += [*memory_of(architecture).options, "-ftz=true"]
    return compiled(library, kernel_source("count.cu") if source is None else source, options)


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


def disassembled(code: bytes) -> dict[str, list[Instruction]]:
    """Instructions of every kernel."""
    tool = disassembler()
    assert tool is not None, "pip install nvidia-cuda-nvdisasm"
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "count.cubin"
        cubin.write_bytes(code)
        command = [str(tool), "-c", str(cubin)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {}
    for section in re.split(r"^//-+ \.text\.", text, flags=re.MULTILINE)[1:]:
        name = section.split()[0]
        labels: dict[str, int] = {}
        waiting: list[str] = []
        rows: list[tuple[int, str]] = []
        for line in section.splitlines():
            if label := re.match(r"^(\.L_x_\d+):", line):
                waiting.append(label[1])
            elif row := re.match(r"^\s+/\*([0-9a-f]+)\*/\s+(.*?)\s*;", line):
                rows.append((int(row[1], 16), row[2]))
                labels |= dict.fromkeys(waiting, int(row[1], 16))
                waiting = []
        targets = [re.search(r"BRA\b.*\((\.L_x_\d+)\)", text) for _, text in rows]
        found[name] = [
            Instruction(at, text, labels[target[1]] if target else None)
            for (at, text), target in zip(rows, targets, strict=True)
        ]
    return found


def followers(code: Sequence[Instruction]) -> dict[int, list[int]]:
    """Where each instruction may lead to, by place in the list."""
    places = {one.address: at for at, one in enumerate(code)}
    found: dict[int, list[int]] = {}
    for at, one in enumerate(code):
        ends = one.name.startswith(("EXIT", "BRA", "RET")) and not one.conditional
        found[at] = [] if ends or at + 1 == len(code) else [at + 1]
        if one.target is not None:
            found[at].append(places[one.target])
    return found


def shortest(code: Sequence[Instruction], start: int, through: Sequence[int], end: int) -> int:
    """Instructions of the shortest way from one to another, through others in this order; the last is not counted."""
    ways, total = followers(code), 0
    for goal in (*through, end):
        distances, queue = {start: 0}, [(0, start)]
        while queue:
            far, at = heapq.heappop(queue)
            if at == goal and far:
                break
            for after in ways[at]:
                if far + 1 < distances.get(after, 1 << 30) or (after == goal and far):
                    distances[after] = far + 1
                    heapq.heappush(queue, (far + 1, after))
        else:
            raise ValueError("there is no such way")
        total, start = total + far, goal
    return total


@dataclass(frozen=True)
class Loop:
    """The loop over packs of a kernel.

    Parameters
    ----------
    usual, searched : float
        Instructions a value; see the head of this module.
    """

    usual: float
    searched: float


def loop_of(code: Sequence[Instruction], size: int) -> Loop:
    """The loop over packs without a bitmap: from a load of 16 bytes around to the same, with one count for each value.

    Raises
    ------
    ValueError
        If there is none.
    """
    counts = [at for at, one in enumerate(code) if one.name.startswith(("ATOMS.POPC", "ATOMS.INC"))]
    # The next pack is asked for before the one at hand is counted, in the loop under a guard.
    packs = [at for at, one in enumerate(code) if one.text.startswith("@") and ".E.128" in one.name]
    masked = {at for at in packs if any(".U8" in one.name for one in code[at - 40 : at + 40])}
    found: list[tuple[float, float]] = []
    for at in [at for at in packs if at not in masked] or packs:
        own = [count for count in counts if count > at][:size]
        if len(own) < size:
            continue
        # Through the load of the bin's edge: values that are counted.
        edges = [max(place for place in range(count) if code[place].name == "LDS.64") for count in own]
        usual = shortest(code, at, [place for pair in zip(edges, own, strict=True) for place in pair], at)
        searches = [place for place in range(own[0], own[-1]) if is_search(code, place)]
        there = [next((place for place in searches if own[k] < place < own[k + 1]), None) for k in range(size - 1)]
        steps = list(zip(own, there, edges[1:], strict=False))
        through = [edges[0], *(place for step in steps for place in step if place is not None), own[-1]]
        around = shortest(code, at, through, at)
        several = (around - usual) / max(sum(place is not None for place in there), 1)
        found.append((usual / size, usual / size + several))
    if not found:
        raise ValueError("no loop over packs")
    return Loop(*min(found))


def is_search(code: Sequence[Instruction], at: int) -> bool:
    """Whether this is the last instruction of a loop within the loop: the search in a crowded cell."""
    one = code[at]
    return one.target is not None and one.conditional and 0 < one.address - one.target < 0x180


def told_of(code: Mapping[str, Sequence[Instruction]], used: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A table of what there is, for people."""
    head = f"{'kernel':<12} {'a value':>8} {'searched':>10} {'registers':>10} {'spills':>7} {'.FTZ':>5} {'generic':>8}"
    rows = [head]
    for stored in SHOWN:
        name = f"gd_count_{stored}"
        loop, own = loop_of(code[name], PACK[stored]), used[name]
        flushed = sum(".FTZ" in one.text for one in code[name])
        generic = sum(GENERIC.match(one.name) is not None for one in code[name])
        spills = own["spill_stores"] + own["spill_loads"] + own["stack"]
        numbers = (
            f"{loop.usual:>8.1f} {loop.searched:>10.1f} {own['registers']:>10} {spills:>7} {flushed:>5} {generic:>8}"
        )
        rows.append(f"{stored:<12} {numbers}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", type=Path, help="a file of other kernels, its includes in place; default: these")
    parser.add_argument("--architecture", type=int, default=90, help="as in sm_90 (default)")
    given = parser.parse_args()
    library = nvrtc_library()
    if library is None or disassembler() is None:
        sys.exit("machine_code.py: needs NVIDIA's compiler: pip install nvidia-cuda-nvrtc nvidia-cuda-nvdisasm")
    source = given.source.read_text() if given.source else None
    told, code = with_nvrtc(library, given.architecture, source)
    print(*told_of(disassembled(code), resources(told)), sep="\n")


if __name__ == "__main__":
    main()
