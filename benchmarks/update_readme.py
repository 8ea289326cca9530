"""Fill the marked blocks of README.md from commands and from committed results; no number there is typed by hand.

A block stands between ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->``:

- ``demo``: what ``gpudrift demo`` prints, 100 columns wide and without colour; where it names the data, the folder is
  left out, because that depends on where the package is installed;
- ``help``: what ``gpudrift --help`` prints;
- ``benchmarks``: the newest result of each case among benchmarks/results/*.json, made by end_to_end.py;
- ``cluster``: the newest result there of each case of cluster.py, and what scale_model.py makes of them;
- ``gpu``: the newest result there of device.py, "not measured" where there is none;
- ``accuracy``: some shapes of the newest result there that was made by statistics_error.py.

``--check`` writes nothing and exits with 1 where a block is out of date, time stamps aside.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
WIDTH = 100
BLOCK = re.compile(r"<!-- begin: (?P<name>[a-z]+) -->\n(?P<body>.*?)<!-- end: (?P=name) -->", re.DOTALL)
TIME_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\+00:00|Z)")
SIDE = re.compile(r"^(?P<side>reference|current) +(?P<path>\S+)  +(?P<rest>[\d,]+ rows.*)$", re.MULTILINE)

SHOWN_SHAPES = {
    "normal": "normal",
    "uniform": "uniform",
    "exponential": "exponential",
    "lognormal": "lognormal, σ = 2",
    "cauchy": "Cauchy",
    "zero_inflated": "80 % zeros, else gamma",
    "sentinels": "5 % at −999, else normal",
    "heavy_ties": "normal, one decimal",
    "counts": "Poisson counts",
    "ids_of_nineteen_digits": "integers near 2**62",
    "unit_error": "everything times 1000",
}


def printed(*arguments: str) -> str:
    """What a command prints in a terminal of this width that has no colours, as a block of text."""
    surroundings = {**os.environ, "COLUMNS": str(WIDTH), "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    surroundings.pop("FORCE_COLOR", None)
    command = [sys.executable, "-m", "gpudrift.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=surroundings, check=True)
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    return "```text\n" + "\n".join(lines).strip("\n") + "\n```\n"


def demo() -> str:
    text = printed("demo")
    command = next(line for line in text.splitlines() if line.startswith("$ gpudrift compare "))
    names = dict(zip(("reference", "current"), command.split()[3:5], strict=True))
    return SIDE.sub(lambda found: f"{found['side']:<9}  {names[found['side']]}  {found['rest']}", text)


def usage() -> str:
    return printed("--help")


def results(made: str) -> list[dict[str, Any]]:
    """Committed results of one format, the oldest first; toy runs are none."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    wanted = [one for one in found if one.get("format") == made and not one.get("quick")]
    return sorted(wanted, key=lambda one: one["date"])


def benchmarks() -> str:
    newest: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for document in results("gpudrift/benchmark/1"):
        newest |= {name: (result, document) for name, result in document["cases"].items()}
    if not newest:
        return "No result has been committed yet.\n"
    notes: dict[str, int] = {}
    rows = []
    for name in sorted(newest):
        result, document = newest[name]
        note = notes.setdefault(surroundings(document), len(notes) + 1)
        columns = f"{result['floats']:,} float64" + (f", {len(result['strings'])} string" if result["strings"] else "")
        read, ours = result["read"], result["gpudrift"]
        rows.append(
            f"| 2 × {result['rows']:,} | {columns} | {read['seconds']:.2f} s | {ours['seconds']:.2f} s "
            f"| {result['ratio']['median']:.2f} | {read['peak_bytes'] / 1e9:.2f} GB "
            f"| {ours['peak_bytes'] / 1e9:.2f} GB | {result['target']['text']} | {note} |"
        )
    head = "| rows | columns | bare read | gpudrift | ratio | memory, read | memory, gpudrift | target | made on |"
    rule = "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | --- |"
    listed = [f"{number}. {text}" for text, number in notes.items()]
    return "\n".join([head, rule, *rows, "", *listed]) + "\n"


def surroundings(document: dict[str, Any]) -> str:
    """Machine, versions, commit and day of a result, as one sentence."""
    machine = document["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    commit = f", commit {document['commit'][:10]}" if document["commit"] else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 1e9:.0f} GB of memory, "
        f"{machine['system']}; {versions}{commit}; medians of {document['repeat']} pairs, {document['date'][:10]}"
    )


def accuracy() -> str:
    found = results("gpudrift/accuracy/1")
    if not found:
        return "No result has been committed yet.\n"
    document = found[-1]
    rows = []
    for shape, words in SHOWN_SHAPES.items():
        entry = document["shapes"].get(shape)
        if entry is None:
            continue
        ks, transport = entry["ks"], entry["wasserstein"]
        rows.append(
            f"| {words} | {ks['error']:.1e} | {ks['width']:.1e} | {transport['relative']:.1e} "
            f"| {transport['width'] / transport['exact']:.1e} |"
        )
    every = [one for entry in document["shapes"].values() for one in entry.values() if one["value"] is not None]
    holding = sum(one["holds"] for one in every)
    versions = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    head = "| column | KS: error | KS: width | Wasserstein: relative error | Wasserstein: relative width |"
    rule = "| --- | ---: | ---: | ---: | ---: |"
    note = (
        f"{document['rows']:,} rows a side; {holding} of {len(every)} intervals over {len(document['shapes'])} shapes "
        f"hold the exact value; {versions}, {document['date'][:10]}."
    )
    return "\n".join([head, rule, *rows, "", note]) + "\n"


def cluster() -> str:
    """What a cluster on this machine does, and what follows for larger ones; "not measured" where nothing was."""
    found = {one["case"]: one for one in results("gpudrift/cluster/1")}
    models = results("gpudrift/scale-model/1")
    notes: dict[str, int] = {}
    rows = []
    for name, (what, target, described) in CLUSTER_ROWS.items():
        document = found.get(name)
        if document is None:
            rows.append(f"| {what} | not measured | {target} | |")
            continue
        note = notes.setdefault(surroundings(document), len(notes) + 1)
        rows += [f"| {label} | {value} | {wanted} | {note} |" for label, value, wanted in described(document["result"])]
    if models:
        note = notes.setdefault(surroundings(models[-1]), len(notes) + 1)
        rows += [f"| {label} | {value} | | {note} |" for label, value in model_rows(models[-1])]
    else:
        rows.append("| scale model: error, and what it predicts | not measured | | |")
    head = ["| what | measured | wanted | made on |", "| --- | --- | --- | ---: |"]
    listed = [f"{number}. {text}" for text, number in notes.items()]
    return "\n".join([*head, *rows, *([""] if listed else []), *listed]) + "\n"


def size_of(table: dict[str, Any]) -> str:
    texts = f" + {len(table['strings'])} string" if table["strings"] else ""
    return f"{table['rows']:,} rows × {table['floats']:,} float64{texts} columns"


def workers_rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    label = f"two workers over one: {size_of(result['table'])}"
    each = {
        "fit and count": "profile",
        "count": "count",
        "only read": "read_count",
        "the same counting in plain processes": "processes",
        "plain arithmetic on this machine": "arithmetic",
    }
    told = ", ".join(f"{words} {result[name]['ratio']['median']:.2f}" for words, name in each.items())
    return [(label, f"times as fast: {told}", f"≥ {result['target']}")]


def wide_rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    label = f"beside the bare read by the same workers: {size_of(result['table'])}"
    size = result["count"]["bytes_counted"] / 1e9
    larger = "" if result["fits_into_memory"] else ", larger than memory"
    told = ", ".join(
        f"{words} {result[name]['ratio']['median']:.2f} × ({result[name]['seconds']:.0f} s)"
        for words, name in (("fit and count", "profile"), ("count", "count"))
    )
    shares = ", ".join(
        f"{words} {result[name]['share_network']:.2%}"
        for words, name in (("fit and count", "profile"), ("count", "count"))
    )
    return [
        (f"{label} ({size:.0f} GB in memory{larger})", told, f"≤ {result['target']} ×"),
        ("bytes on the network, everything included, of the bytes counted", shares, "< 1 %"),
    ]


def rows_rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    told = ", ".join(
        f"{one['table']['rows']:,} rows {one['profile']['worker_peak_bytes'] / 1e6:.0f} MB"
        f" / {one['count']['worker_peak_bytes'] / 1e6:.0f} MB"
        for one in result["sizes"].values()
    )
    *_, last = result["sizes"].values()
    floats = last["table"]["floats"]
    told += "; the last over the one before " + " / ".join(
        f"{result[f'{name}_memory_ratio']:.2f}" for name in ("profile", "count")
    )
    label = f"peak memory of a worker, fit and count / count, {floats} float64 columns"
    return [(label, told, f"≤ {result['target']} × the one before")]


CLUSTER_ROWS: dict[str, tuple[str, str, Callable[[dict[str, Any]], list[tuple[str, str, str]]]]] = {
    "workers": ("two workers over one", "≥ 1.8", workers_rows),
    "wide": ("1,000,000 rows × 5,000 columns beside the bare read", "≤ 1.5 ×", wide_rows),
    "rows": ("peak memory of a worker at 1e6, 1e7 and 1e8 rows", "flat", rows_rows),
}


def model_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    checked = document["checks"]
    told = ", ".join(f"{name} {one['error_of_seconds']:+.0%}" for name, one in checked.items() if one["rows"] >= 10**6)
    rows = [("scale model: its time beside runs that it was not made from", told or "not checked")]
    threads = document["threads_of_a_machine"]
    for name, entry in document["predictions"].items():
        hour = entry["machines_for_an_hour"]
        work = entry["machines_of_work"]
        words = "no cluster does it in an hour" if hour is None else f"{hour:,} machines for an hour"
        rows.append(
            (
                f"scale model: {name} on machines of {threads} threads",
                f"{words}; reading and counting alone are an hour of {work:,}",
            )
        )
    return rows


GPU_LINES = (
    ("`pytest -m gpu`: equal to NumPy and Numba to the bit", "all pass"),
    ("float32, 1,024 quantile bins with sums, uniform and normal: share of the copy bandwidth", "≥ 50 %"),
    ("float32, the same, the worst shape", "≥ 30 %"),
    ("float64, the same, uniform and normal", "≥ 70 %"),
    ("beside CUB `HistogramRange` on the same edges", "≥ 10 ×"),
    ("beside `cupy.histogram` on the same edges", "≥ 20 ×"),
    ("5,000 float32 columns × 1,000,000 rows: share of the time in which the GPU had nothing to do", "< 5 %"),
)


def gpu() -> str:
    """What a GPU does; "not measured" where no result has been committed."""
    found = results("gpudrift/device/1")
    told = gpu_figures(found[-1]) if found else ["not measured"] * len(GPU_LINES)
    rows = [f"| {what} | {value} | {wanted} |" for (what, wanted), value in zip(GPU_LINES, told, strict=True)]
    lines = ["| on a GPU | measured | wanted |", "| --- | --- | --- |", *rows]
    if found:
        ours, document = found[-1], found[-1]["bench"]
        versions = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
        lines += [
            "",
            f"{document['device']}, driver {document['details']['driver']}, a copy "
            f"{document['copy_bytes_per_second'] / 1e9:,.0f} GB/s; {versions}; commit {ours['commit'][:10]}, "
            f"{ours['date'][:10]}",
        ]
    return "\n".join(lines) + "\n"


def gpu_figures(document: dict[str, Any]) -> list[str]:
    """One for each of GPU_LINES."""
    tests, measured = document["tests"], document["bench"]["measured"]
    ours = [one for one in measured if one["who"] == "gpudrift"]
    shapes = {(one["dtype"], one["shape"]): one["share"] for one in ours if one["part"] == "shapes"}
    worst = min((share, shape) for (dtype, shape), share in shapes.items() if dtype == "float32")
    same = next(
        one for one in ours if one["part"] == "shapes" and (one["dtype"], one["shape"]) == ("float32", "normal")
    )
    peers = {one["who"]: one["seconds"] / one["rows"] for one in measured if one["part"] == "peers"}
    per_value = same["seconds"] / same["rows"]
    wide = max((one for one in ours if one["part"] == "widths"), key=lambda one: one["columns"])

    def beside(name: str) -> str:
        why = document["bench"]["missing"].get(name, "not there")
        return f"{peers[name] / per_value:.1f} ×" if name in peers else f"not measured: {why}"

    return [
        f"{tests['tests'] - tests['failures'] - tests['errors'] - tests['skipped']} pass, {tests['failures']} fail, "
        f"{tests['skipped']} skipped",
        f"{shapes['float32', 'uniform']:.0%}, {shapes['float32', 'normal']:.0%}",
        f"{worst[0]:.0%} ({worst[1]})",
        f"{shapes['float64', 'uniform']:.0%}, {shapes['float64', 'normal']:.0%}",
        beside("CUB HistogramRange"),
        beside("cupy.histogram"),
        f"{wide['host']:.1%} ({wide['columns']:,} × {wide['rows']:,})",
    ]


BLOCKS: dict[str, Callable[[], str]] = {
    "demo": demo,
    "help": usage,
    "benchmarks": benchmarks,
    "cluster": cluster,
    "gpu": gpu,
    "accuracy": accuracy,
}


def filled(text: str) -> str:
    """The text with every block made anew."""

    def block(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in BLOCKS:
            sys.exit(f"README.md: no block {name!r}, only {', '.join(BLOCKS)}")
        return f"<!-- begin: {name} -->\n{BLOCKS[name]()}<!-- end: {name} -->"

    return BLOCK.sub(block, text)


def timeless(text: str) -> str:
    return TIME_STAMP.sub("TIME", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 where a block is out of date; write nothing")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    given = parser.parse_args()
    before = given.readme.read_text(encoding="utf-8")
    after = filled(before)
    if timeless(before) == timeless(after):
        return
    if given.check:
        old, new = ({m["name"]: m["body"] for m in BLOCK.finditer(timeless(text))} for text in (before, after))
        stale = [name for name in new if old.get(name) != new[name]]
        sys.exit(f"{given.readme}: out of date: {', '.join(stale)} (run python benchmarks/update_readme.py)")
    given.readme.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
