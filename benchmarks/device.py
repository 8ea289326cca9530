"""Everything that takes a GPU, in one command: the first half hour on a device, each figure kept.

    python benchmarks/device.py [--folder DIR] [--only kernels,variants] [--quick] [--seconds 580]
    python benchmarks/device.py --plan

Parts, in the order that brings back most first, each a process of its own under a time limit of its own:

- ``probe``: versions; every kernel compiled, with its registers; float32 subnormals, a column of each type and a launch
  above 48 KiB of shared memory beside NumPy; cycles of shared loads, atomics and conversions; compute-sanitizer;
- ``tests``: every file of tests that needs a GPU, one after the other;
- ``kernels``: ``gpudrift bench``, and counters of ncu where that is there and permitted;
- ``variants``: one constant of gpudrift/backends/cuda is changed at a time, on float32 columns of three
  shapes, so that what was kept can be told from what was tried;
- ``cudf``: one read and one group-by by cuDF beside the CPU, where it is installed;
- ``files``: ``gpudrift bench --files`` on tables that are generated, each deleted before the next: from Parquet to a
  report beside cuDF's read, and the peak of GPU memory beside the budget (``--cases``; 1e9 only if asked for);
- ``wide``: the same with 5,000 columns, which makes 24 GB of files;
- ``cluster``: the same counting by a cluster of one worker on this GPU and by this process, in turn, to the same bit.

Each part has one JSON in the folder, ``device-NAME-PART.json``, which is written whole after every figure: whatever
ends a run leaves all figures so far. Run again with the same folder, it measures what is missing; what other code,
another device or other options measured is measured anew, which one line says. A part that crashes or is stopped does
not keep the next ones from running, and failed tests do not either: but then every JSON names them, and no page shows
figures of it. The package need not be installed; the parts probe and kernels take its dependencies and CuPy alone.

Exit status: 0 all chosen parts are done and right, 1 tests failed, something was counted wrongly, or a part is not
done, 2 the options make no sense, 3 there is no GPU that can be used.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from device_processes import ROOT, adopt_orphans, run_limited, scratch
from device_sheet import Sheet, head_of, path_of, remove_unfinished, stamp_tests

RESULTS = ROOT / "benchmarks" / "results"
NEEDED = ("numpy", "scipy", "pyarrow", "numba", "click", "rich")
"""Those of the package itself; CuPy is asked after them, and says more."""
WHO_SECONDS = 120.0
"""To find the device: the first import of CuPy on a fresh machine, and the driver's start."""
FILE_CASES = ("1e6", "1e7", "1e8")
ASKED_CASES = ("1e9",)
"""That are left out unless somebody asks for them."""


@dataclass(frozen=True)
class Part:
    """A part: the seconds after which it is stopped, and those that it is estimated to take.

    Estimates are of what the host does, as measured on a core (2**26 values of a shape are made in 0.1 to 8 s, 16
    million values a second are written to Parquet), on 16 cores with a margin; what the GPU does is short beside it.
    """

    name: str
    limit: float
    estimate: float
    about: str


PARTS = {
    part.name: part
    for part in (
        Part("probe", 180, 90, "do kernels compile and count right; cycles of the hardware; sanitizers"),
        Part("tests", 300, 170, "three files: 170, 70 and 50 s at most"),
        Part("kernels", 420, 200, "37 figures, 2 s each; 60 s for columns; 60 s for nvcc and ncu"),
        Part("variants", 240, 120, "42 figures, 2.5 s each; 15 s for columns"),
        Part("cudf", 240, 40, "a read and a group-by of a million rows"),
        Part("files", 360, 200, "0.4, 4 and 16 GB: 80 s to write, 120 s for 5, 5 and 3 rounds"),
        Part("wide", 420, 280, "40 GB: 130 s to write, 150 s for 3 rounds"),
        Part("cluster", 240, 60, "a worker, and 6 rounds of 0.4 GB"),
    )
}


# --- one part, in a process of its own -------------------------------------------------------------------------------


def run_part(name: str, sheet: Sheet, given: argparse.Namespace) -> None:
    """Measure what the sheet does not have."""
    adopt_orphans()
    sheet.ended("running")
    options = {"quick": given.quick, "repeat": given.repeat}
    if name == "probe":
        from device_probe import run_probe

        run_probe(sheet, quick=given.quick)
    elif name == "tests":
        from device_tests import run_tests, unfinished

        run_tests(sheet, quick=given.quick)
        why = unfinished(sheet.document["tests"])
        if why:
            sheet.ended("cut" if sheet.document["tests"]["outcomes"] else "left out", why)
            return
    else:
        import device_parts as parts

        quick = given.quick
        if name == "kernels":
            parts.measure_kernels(sheet, **options)
        elif name == "variants":
            parts.measure_variants(sheet, **options)
        elif name == "cudf":
            parts.measure_cudf(sheet, quick=quick)
        elif name == "files":
            known = parts.QUICK_CASES if quick else parts.CASES
            cases = {case: known[case] for case in given.cases if case in known}
            parts.measure_file_cases(sheet, cases, quick=quick)
        elif name == "wide":
            parts.measure_file_cases(sheet, parts.QUICK_WIDE if quick else parts.WIDE, quick=quick)
        elif name == "cluster":
            why = parts.measure_cluster(sheet, (parts.QUICK_CASES if quick else parts.CASES)["1e6"], quick=quick)
            if why:
                sheet.ended("left out", why)
                return
    sheet.ended("done")


def who() -> dict[str, str]:
    """The name of the device, or why none can be used; asked in a process of its own, which a driver may hang."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        return {"why": f"not installed: {', '.join(missing)}"}
    from gpudrift.backends.cuda.device import probe

    found = probe()
    return {"why": found.why_not} if found.why_not else {"name": found.name}


# --- all of them -----------------------------------------------------------------------------------------------------


def is_done(name: str, sheet: Sheet | None, given: argparse.Namespace) -> bool:
    if sheet is None or sheet.document.get("state") != "done":
        return False
    there = sheet.document.get("files", {})
    return name != "files" or all(there.get(case, {}).get("whole") for case in wanted_cases(given))


def wanted_cases(given: argparse.Namespace) -> list[str]:
    """Toy tables are not made of every size."""
    return [case for case in given.cases if not given.quick or case in ("1e6", "1e9")]


def failed_of(folder: Path, device: str, given: argparse.Namespace) -> list[str] | None:
    """Tests that failed and what the probe found wrong in this run, by name; None where no test has run."""
    from device_probe import wrong_in
    from device_tests import failed_in

    found: list[str] | None = None
    for name, failed in (("tests", failed_in), ("probe", wrong_in)):
        path = path_of(folder, device, name)
        sheet, different = Sheet.open(path, head_for(name, device, given))
        if not different and path.exists():
            some = failed(sheet.document)
            found = [*(found or []), *some] if some or name == "tests" else found
    return found


def head_for(name: str, device: str, given: argparse.Namespace) -> dict[str, Any]:
    return head_of(name, device=device, quick=given.quick, repeat=given.repeat, commit=given.commit)


def supervise(names: Sequence[str], device: str, given: argparse.Namespace) -> dict[str, str]:
    """Run parts one after the other; what became of each, in words, empty where it is done."""
    folder, start = given.folder, time.monotonic()
    became: dict[str, str] = {}
    for name in names:
        part, path = PARTS[name], path_of(folder, device, name)
        sheet, different = Sheet.open(path, head_for(name, device, given))
        if different:
            print(f"{name}: measured anew: {different}", flush=True)
        elif is_done(name, sheet, given):
            print(f"{name}: there already, {sheet.document['figures']} figures", flush=True)
            became[name] = ""
            continue
        limit, left = given.limits.get(name, part.limit), given.seconds - (time.monotonic() - start)
        if left < min(part.estimate, limit):
            became[name] = f"left out: takes about {part.estimate:.0f} s, and {max(left, 0):.0f} s are left"
            print(f"{name}: {became[name]}", flush=True)
            continue
        print(f"\n--- {name}, at most {min(limit, left):.0f} s", flush=True)
        became[name] = run_supervised(name, path, device, given, min(limit, left))
        remove_unfinished(folder)
        stamp_tests(folder, device, PARTS, failed_of(folder, device, given))
    return became


def run_supervised(name: str, path: Path, device: str, given: argparse.Namespace, limit: float) -> str:
    options = ["--folder", str(given.folder), "--device", device, "--repeat", str(given.repeat)]
    options += ["--quick"] if given.quick else []
    options += ["--cases", ",".join(given.cases)]
    options += ["--commit", given.commit] if given.commit else []
    command = [sys.executable, str(Path(__file__).resolve()), "--part", name, *options]
    with scratch() as folder:
        ended = run_limited(command, limit, tell=lambda line: print(line, flush=True), TMPDIR=folder)
    sheet, _ = Sheet.open(path, head_for(name, device, given))
    sheet.document["seconds"] = sheet.document.get("seconds", 0.0) + ended.seconds
    if not ended.why:
        sheet.save()
    else:
        sheet.ended("cut" if ended.status is None else "crashed", ended.why, ended.end[-4000:])
    return "" if sheet.state == "done" else f"{sheet.state}: {sheet.document.get('why', '')}"


def plan(names: Sequence[str], given: argparse.Namespace) -> str:
    """Parts with their limits and estimates, which need no GPU."""
    chosen = [PARTS[name] for name in names]
    lines = [f"{'part':<9} {'limit':>6} {'estimate':>9}"]
    lines += [
        f"{one.name:<9} {given.limits.get(one.name, one.limit):>4.0f} s {one.estimate:>7.0f} s  {one.about}"
        for one in chosen
    ]
    longest = max(chosen, key=lambda one: one.estimate)
    total = sum(one.estimate for one in chosen)
    lines.append(f"about {total / 60:.0f} minutes in all; the longest part is {longest.name}: {longest.estimate:.0f} s")
    return "\n".join(lines)


def summary(became: dict[str, str], device: str, given: argparse.Namespace) -> tuple[str, bool]:
    """What became of each part, with the end of the output of those that were cut, and whether all is well."""
    lines = ["", f"--- {device}: {given.folder}"]
    for name, why in became.items():
        sheet = Sheet.read(path_of(given.folder, device, name))
        document = sheet.document if sheet is not None else {}
        figures, seconds = document.get("figures", 0), document.get("seconds", 0.0)
        lines.append(f"{name:<9} {figures:>4} figures in {seconds:>4.0f} s  {why or 'done'}")
        end = document.get("end", "")
        if why and end:
            lines += [f"    {line}" for line in end.splitlines()[-8:]]
    failed = failed_of(given.folder, device, given)
    if failed:
        lines += [
            "",
            f"!!! {len(failed)} FAILED: no figure of this run may be shown",
            *(f"    {one}" for one in failed[:20]),
        ]
    elif failed is None:
        lines.append("no tests of this code have run in this folder")
    return "\n".join(lines), not failed and not any(became.values())


# --- the command -----------------------------------------------------------------------------------------------------


def chosen(text: str | None, known: Sequence[str], parser: argparse.ArgumentParser, option: str) -> list[str]:
    """Some of what is known, in the order in which it is known."""
    names = text.split(",") if text else list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"{option}: unknown {unknown[0]!r}; choose from {', '.join(known)}")
    return [name for name in known if name in names]


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=RESULTS, metavar="DIR", help="default: benchmarks/results")
    parser.add_argument("--only", metavar="A,B", help=f"some of {', '.join(PARTS)}; all by default")
    parser.add_argument("--cases", metavar="A,B", help=f"of files: some of {', '.join(FILE_CASES + ASKED_CASES)}")
    parser.add_argument("--quick", action="store_true", help="small columns, to see that it works")
    parser.add_argument("--repeat", type=int, default=5, help="measurements of each figure (default 5)")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="for all of it: what no longer fits is left out"
    )
    parser.add_argument("--limits", metavar="A=S,B=S", default="", help="other time limits of parts, in seconds")
    parser.add_argument("--plan", action="store_true", help="print the parts with their limits, and end")
    parser.add_argument("--commit", help="that is measured, where the checkout does not say")
    parser.add_argument("--part", choices=PARTS, help="measure one part in this very process, without a limit")
    parser.add_argument("--device", metavar="NAME", help="the name of the GPU, where it is known")
    parser.add_argument("--who", action="store_true", help="print as JSON which GPU is used, and end")
    given = parser.parse_args(arguments)
    given.folder = given.folder.resolve()  # processes are started in the root of the repository
    given.only = chosen(given.only, tuple(PARTS), parser, "--only")
    usual = given.cases or ",".join(FILE_CASES)
    given.cases = chosen(usual, FILE_CASES + ASKED_CASES, parser, "--cases")
    if given.repeat < 1:
        parser.error(f"--repeat: expected at least 1, got {given.repeat}")
    try:
        given.limits = {
            name: float(seconds) for name, _, seconds in (one.partition("=") for one in given.limits.split(",") if one)
        }
    except ValueError:
        parser.error(f"--limits: expected PART=SECONDS, got {given.limits!r}")
    chosen(",".join(given.limits), tuple(PARTS), parser, "--limits")
    return given


def device_name(given: argparse.Namespace) -> str:
    """Of the GPU; the command ends where there is none."""
    if given.device:
        return str(given.device)
    ended = run_limited([sys.executable, str(Path(__file__).resolve()), "--who"], WHO_SECONDS)
    try:
        found = json.loads(ended.end.splitlines()[-1])
    except (ValueError, IndexError):
        found = {"why": f"{ended.why or 'no answer'}: {ended.end[-500:]}"}
    if "name" not in found:
        print(f"device.py: nothing can be measured here: {found['why']}", file=sys.stderr)
        sys.exit(3)
    return str(found["name"])


def main(arguments: Sequence[str] | None = None) -> None:
    given = options(arguments)
    if given.who:
        print(json.dumps(who()))
        return
    if given.plan:
        print(plan(given.only, given))
        return
    adopt_orphans()
    device = device_name(given)
    if given.part is not None:
        head = head_for(given.part, device, given)
        sheet, _ = Sheet.open(path_of(given.folder, device, given.part), head)
        sheet.document["tests_failed"] = failed_of(given.folder, device, given)
        run_part(given.part, sheet, given)
        return
    if given.commit is None:
        import end_to_end

        given.commit = end_to_end.commit()
    given.folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(given.folder)
    told, well = summary(supervise(given.only, device, given), device, given)
    print(told)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
