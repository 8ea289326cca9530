"""Bring the pages up to date: every README.md of the repository, its marked blocks and the outputs of its examples.

A block stands between ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->``, on whatever page:

- ``demo``: what ``gpudrift demo`` prints, without the folder of the data, which depends on the installation;
- ``help``: what ``gpudrift --help`` prints;
- ``pages``: the other pages, each with the sentence in its head that says what it is for;
- ``speed``, ``cases``: the newest result of each case of end_to_end.py among benchmarks/results/*.json;
- ``cluster``: the newest result there of each case of cluster.py, and what scale_model.py makes of them;
- ``gpu``: the newest results there of device.py, "not measured" where there are none;
- ``accuracy``: some shapes of the newest result there of statistics_error.py;
- ``windows``, ``known``, ``falsealarms``, ``segmentalarms``: the newest results of windows.py and false_alarms.py;
- ``verdictalarms``, ``verdictpower``: the newest results of verdicts.py;
- ``readers``: the newest results of lakes.py and json_lines.py;
- and the others of notebook.py.

The examples of a page are run, and what they print is written beside them: see sessions.py. No benchmark is run, so one
call is enough after the wording of the program has changed. ``--check`` writes nothing and exits with 1 where a page is
out of date, time stamps aside.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import committed
import notebook
import page_blocks
import reader_blocks
import sessions
import verdict_blocks
import window_blocks
from committed import NOT_MEASURED, ROOT, Document

from gpudrift.bench.shapes import SHAPES

FOLDERS = (
    "gpudrift/cli",
    "gpudrift/sources",
    "gpudrift/counts",
    "gpudrift/statistics",
    "gpudrift/judging",
    "gpudrift/judging/rules",
    "gpudrift/windows",
    "gpudrift/store",
    "gpudrift/alerts",
    "gpudrift/report",
    "gpudrift/execution/cluster",
    "kernels",
    "benchmarks",
    "examples",
)
"""Those with a page, in the order in which README.md lists them."""

PAGES = (ROOT / "README.md", *(ROOT / folder / "README.md" for folder in FOLDERS))
PURPOSE = re.compile(r"^\| This page \| (?P<purpose>.+) \|$", re.MULTILINE)
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
    """What a command prints, as a block of text."""
    status, shown = sessions.command(*arguments)
    if status != 0:
        sys.exit(f"gpudrift {' '.join(arguments)}: exit status {status}: {shown}")
    return f"```text\n{shown}```\n"


def demo() -> str:
    text = printed("demo", "--rows", "12")
    command = next(line for line in text.splitlines() if line.startswith("$ gpudrift compare "))
    names = dict(zip(("reference", "current"), command.split()[3:5], strict=True))
    return SIDE.sub(lambda found: f"{found['side']:<9}  {names[found['side']]}  {found['rest']}", text)


def usage() -> str:
    return printed("--help")


def pages() -> str:
    rows = []
    for page in PAGES[1:]:
        name = page.relative_to(ROOT).as_posix()
        found = PURPOSE.search(page.read_text(encoding="utf-8"))
        if found is None:
            sys.exit(f"{name} does not say in its head what it is for")
        rows.append(f"| [{name}]({name}) | {found['purpose']} |")
    return committed.table("Page | What it is for", rows)


def speed() -> str:
    """The newest result of each case, and where."""
    newest: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for document in committed.results("gpudrift/benchmark/1"):
        newest |= {name: (result, document) for name, result in document["cases"].items()}
    if not newest:
        return "No result has been committed yet.\n"
    rows = []
    for name in sorted(newest, key=lambda name: (newest[name][0]["floats"], newest[name][0]["rows"])):
        result, document = newest[name]
        read, ours, machine = result["read"], result["gpudrift"], document["machine"]
        strings = f" + {len(result['strings'])} string" if result["strings"] else ""
        rows.append(
            f"| 2 × {result['rows']:,} rows × {result['floats']:,} float64{strings} columns "
            f"| {ours['seconds']:.1f} s, {ours['peak_bytes'] / 1e9:.2f} GB "
            f"| {read['seconds']:.1f} s, {read['peak_bytes'] / 1e9:.2f} GB | {machine['cores']} |"
        )
    return committed.table("two Parquet files | `gpudrift compare`: | bare read with pyarrow: | cores:", rows)


def accuracy() -> str:
    found = committed.results("gpudrift/accuracy/1")
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
    found = {one["case"]: one for one in committed.results("gpudrift/cluster/1")}
    models = committed.results("gpudrift/scale-model/1")
    notes: dict[str, int] = {}
    rows = []
    for name, (what, target, described) in CLUSTER_ROWS.items():
        document = found.get(name)
        if document is None:
            rows.append(f"| {what} | not measured | {target} | |")
            continue
        note = notes.setdefault(committed.surroundings(document), len(notes) + 1)
        rows += [f"| {label} | {value} | {wanted} | {note} |" for label, value, wanted in described(document["result"])]
    if models:
        note = notes.setdefault(committed.surroundings(models[-1]), len(notes) + 1)
        rows += [f"| {label} | {value} | | {note} |" for label, value in model_rows(models[-1])]
    else:
        rows.append("| scale model: error, and what it predicts | not measured | | |")
    head = ["| what | measured | target | note |", "| --- | --- | --- | ---: |"]
    listed = [f"{number}. {text}" for text, number in notes.items()]
    return "\n".join([*head, *rows, *([""] if listed else []), *listed]) + "\n"


def size_of(table: dict[str, Any]) -> str:
    texts = f" + {len(table['strings'])} string" if table["strings"] else ""
    return f"{table['rows']:,} rows × {table['floats']:,} float64{texts} columns"


def workers_rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    label = f"two workers, times as fast as one: {size_of(result['table'])}"
    each = {
        "fit and count": "profile",
        "count": "count",
        "read alone": "read_count",
        "the same counting in plain processes": "processes",
        "plain arithmetic on this machine": "arithmetic",
    }
    told = ", ".join(f"{words} {result[name]['ratio']['median']:.2f}" for words, name in each.items())
    return [(label, told, f"≥ {result['target']}")]


def wide_rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    label = f"time over that of the bare read by the same workers: {size_of(result['table'])}"
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
        ("bytes on the network, all included, as a share of the bytes counted", shares, "< 1 %"),
    ]


def rows_rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    told = ", ".join(
        f"{one['table']['rows']:,} rows {one['profile']['worker_peak_bytes'] / 1e6:.0f} MB"
        f" / {one['count']['worker_peak_bytes'] / 1e6:.0f} MB"
        for one in result["sizes"].values()
    )
    *_, last = result["sizes"].values()
    floats = last["table"]["floats"]
    told += "; ratio of the last two " + " / ".join(
        f"{result[f'{name}_memory_ratio']:.2f}" for name in ("profile", "count")
    )
    label = f"peak memory of a worker, fit and count / count, {floats} float64 columns"
    return [(label, told, f"≤ {result['target']} × for ten times the rows")]


def graph_rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    table = result["table"]
    label = f"a job of {table['row_groups']:,} parts × {table['floats']} blocks of columns, built and submitted"
    told = f"{result['tasks']:,} tasks in {result['seconds']:.1f} s"
    return [(label, told, f"≤ {result['target']} s")]


CLUSTER_ROWS: dict[str, tuple[str, str, Callable[[dict[str, Any]], list[tuple[str, str, str]]]]] = {
    "workers": ("two workers, times as fast as one", "≥ 1.8", workers_rows),
    "wide": ("1,000,000 rows × 5,000 columns: time over that of the bare read", "≤ 1.5 ×", wide_rows),
    "rows": ("peak memory of a worker at 1e6, 1e7 and 1e8 rows", "flat", rows_rows),
    "graph": ("a job of 10,000 parts × 5 blocks of columns, built and submitted", "≤ 10 s", graph_rows),
}


def model_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    checked = document["checks"]
    told = ", ".join(f"{name} {one['error_of_seconds']:+.0%}" for name, one in checked.items() if one["rows"] >= 10**6)
    rows = [("scale model: error of its times, against runs that it was not fitted to", told or "not checked")]
    threads = document["threads_of_a_machine"]
    for name, entry in document["predictions"].items():
        hour = entry["machines_for_an_hour"]
        work = entry["machines_of_work"]
        words = "no cluster does it in an hour" if hour is None else f"machines for an hour: {hour:,}"
        rows.append(
            (
                f"scale model: {name} on machines of {threads} threads",
                f"{words}; for reading and counting alone: {work:,}",
            )
        )
    return rows


# --- a GPU -----------------------------------------------------------------------------------------------------------


def outcomes(newest: dict[str, Document]) -> str:
    tests = newest["tests"]["tests"]
    passed = tests["tests"] - tests["failures"] - tests["errors"] - tests["skipped"]
    said = [f"{passed} pass, {tests['failures'] + tests['errors']} fail, {tests['skipped']} skipped"]
    files = {Path(path).name: one["state"] for path, one in tests.get("files", {}).items()}
    return "; ".join([*said, *(f"{name}: {state}" for name, state in files.items() if state != "done")])


def ours_of(newest: dict[str, Document], part: str) -> list[Document]:
    return [one for one in newest["bench"]["bench"]["measured"] if (one["who"], one["part"]) == ("gpudrift", part)]


def shares(newest: dict[str, Document]) -> dict[tuple[str, str], float]:
    return {(one["dtype"], one["shape"]): one["share"] for one in ours_of(newest, "shapes")}


def usual_shares(dtype: str) -> Callable[[dict[str, Document]], str]:
    def told(newest: dict[str, Document]) -> str:
        found = [shares(newest).get((dtype, shape)) for shape in ("uniform", "normal")]
        return ", ".join(NOT_MEASURED if share is None else f"{share:.0%}" for share in found)

    return told


def worst_share(newest: dict[str, Document]) -> str:
    """Of all shapes: where some are missing the worst one may be among them."""
    found = [(share, shape) for (dtype, shape), share in shares(newest).items() if dtype == "float32"]
    if len(found) < len(SHAPES):
        return f"{NOT_MEASURED}: {len(found)} of {len(SHAPES)} shapes"
    share, shape = min(found)
    return f"{share:.0%} ({shape})"


def beside_peer(name: str) -> Callable[[dict[str, Document]], str]:
    def told(newest: dict[str, Document]) -> str:
        document = newest["bench"]["bench"]
        ours = {(one["dtype"], one["shape"]): one for one in ours_of(newest, "shapes")}
        same = ours.get(("float32", "normal"))
        peers = {one["who"]: one["seconds"] / one["rows"] for one in document["measured"] if one["part"] == "peers"}
        if name not in peers or same is None:
            return f"{NOT_MEASURED}: {document['missing'].get(name, 'not there')}"
        return f"{peers[name] / (same['seconds'] / same['rows']):.1f} ×"

    return told


def idle_share(newest: dict[str, Document]) -> str:
    wide = max(ours_of(newest, "widths"), key=lambda one: one["columns"], default=None)
    if wide is None:
        return NOT_MEASURED
    return f"{wide['host']:.1%} ({wide['columns']:,} × {wide['rows']:,})"


def file_cases(newest: dict[str, Document], *, wide: bool) -> list[Document]:
    """Tables that were read from files, the shortest first; those of thousands of columns, or the others."""
    cases = [document["files"][name.removeprefix("files ")] for name, document in newest.items() if "files " in name]
    chosen = [one for one in cases if (one["tables"]["reference"]["columns"] >= 1_000) == wide]
    return sorted(chosen, key=lambda one: one["tables"]["reference"]["rows"])


def beside_bare_read(*, wide: bool) -> Callable[[dict[str, Document]], str]:
    """Fit and count, and count alone, over the bare read: cuDF's, or the engine's own where there is no cuDF."""

    def told(newest: dict[str, Document]) -> str:
        parts = []
        for case in file_cases(newest, wide=wide):
            table = case["tables"]["reference"]
            ours = {one["table"]: one for one in case["measured"] if one["what"] == "profile"}
            key, words = ("over_library", "") if case["library"] else ("over_engine", " the engine's own read")
            steps = (("fit and count", ours["reference"]), ("count", ours["current"]))
            ratios = ", ".join(f"{step} {one[key]:.2f} ×{words}" for step, one in steps)
            why = "".join(f"; {NOT_MEASURED} beside {name}: {reason}" for name, reason in case["missing"].items())
            parts.append(f"{table['rows']:,} × {table['columns']:,}: {ratios}{why}")
        return "; ".join(parts) or NOT_MEASURED

    return told


def gpu_memory(newest: dict[str, Document]) -> str:
    cases = [*file_cases(newest, wide=False), *file_cases(newest, wide=True)]
    if not cases:
        return NOT_MEASURED
    most = max(cases, key=lambda case: case["memory"]["gpu_peak_over_budget"])
    table, memory = most["tables"]["reference"], most["memory"]
    sizes = f"{memory['gpu_peak_bytes'] / 1e6:,.0f} MB of {memory['gpu_budget_bytes'] / 1e6:,.0f} MB"
    return f"{memory['gpu_peak_over_budget']:.2f} ({sizes}, {table['rows']:,} × {table['columns']:,})"


def cluster_of_one(newest: dict[str, Document]) -> str:
    found = newest["cluster"]["cluster"]
    table = found["table"]
    return f"equal; {found['ratio']:.2f} × this process ({table['rows']:,} × {table['floats']:,})"


GPU_LINES: tuple[tuple[str, str, str, Callable[[dict[str, Document]], str]], ...] = (
    ("`pytest -m gpu`: equal to NumPy and Numba to the bit", "all pass", "tests", outcomes),
    (
        "float32, 1,024 quantile bins with sums, uniform and normal: share of the copy bandwidth",
        "≥ 30 %",
        "bench",
        usual_shares("float32"),
    ),
    ("float32, the same, the worst shape", "≥ 25 %", "bench", worst_share),
    ("float64, the same, uniform and normal", "≥ 60 %", "bench", usual_shares("float64")),
    ("times as fast as CUB `HistogramRange` on the same edges", "≥ 5 ×", "bench", beside_peer("CUB HistogramRange")),
    ("times as fast as `cupy.histogram` on the same edges", "≥ 10 ×", "bench", beside_peer("cupy.histogram")),
    (
        "5,000 float32 columns × 1,000,000 rows: share of the time in which the GPU is idle",
        "< 5 %",
        "bench",
        idle_share,
    ),
    (
        "Parquet to profile, time over that of `pylibcudf.read_parquet` of the same columns",
        "≤ 1.1 ×",
        "files",
        beside_bare_read(wide=False),
    ),
    ("the same, 5,000 columns", "≤ 1.1 ×", "files", beside_bare_read(wide=True)),
    ("the same: peak of GPU memory over the budget", "≤ 1", "files", gpu_memory),
    ("a cluster of one GPU: its profile, and its time", "equal to the bit", "cluster", cluster_of_one),
)


def gpu() -> str:
    """What a GPU does; "not measured" where no result has been committed."""
    newest = committed.newest_parts()
    rows = []
    for what, wanted, part, told in GPU_LINES:
        there = part == "files" or part in newest
        rows.append(f"| {what} | {told(newest) if there else NOT_MEASURED} | {wanted} |")
    lines = ["| on a GPU | measured | target |", "| --- | --- | --- |", *rows]
    notes = dict.fromkeys(note for name, document in newest.items() if (note := device_note(name, document)))
    return "\n".join([*lines, *([""] if notes else []), *(f"- {note}" for note in notes)]) + "\n"


def device_note(part: str, document: Document) -> str:
    """What a part was measured with; nothing for those that say it elsewhere."""
    made = f"commit {document['commit'][:10]}, {document['date'][:10]}" if document["commit"] else document["date"][:10]
    head = document.get("bench") if part == "bench" else document.get("files", {}).get(part.removeprefix("files "))
    if head is None:
        return f"{document.get('device', 'a GPU')}: {part}; {made}" if part == "cluster" else ""
    versions = ", ".join(f"{name} {number}" for name, number in head["versions"].items())
    copy = f", a copy {head['copy_bytes_per_second'] / 1e9:,.0f} GB/s" if part == "bench" else ""
    what = "counting" if part == "bench" else "from files"
    return f"{what}: {head['device']}, driver {head['details']['driver']}{copy}; {versions}; {made}"


BLOCKS: dict[str, Callable[[], str]] = {
    "demo": demo,
    "help": usage,
    "pages": pages,
    "speed": speed,
    "cluster": cluster,
    "gpu": gpu,
    "accuracy": accuracy,
    **notebook.BLOCKS,
    **page_blocks.BLOCKS,
    **reader_blocks.BLOCKS,
    **verdict_blocks.BLOCKS,
    **window_blocks.BLOCKS,
}


def filled(text: str) -> str:
    """The text with every block made anew, and every output of its examples."""

    def block(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in BLOCKS:
            sys.exit(f"no block {name!r}, only {', '.join(BLOCKS)}")
        return f"<!-- begin: {name} -->\n{BLOCKS[name]()}<!-- end: {name} -->"

    with tempfile.TemporaryDirectory() as folder:
        return sessions.renewed(BLOCK.sub(block, text), sessions.make_folder(Path(folder)))


def timeless(text: str) -> str:
    return TIME_STAMP.sub("TIME", text)


def stale(page: Path, *, check: bool) -> list[str]:
    """Names of the blocks that are out of date, and ``examples``; without ``check`` the page is brought up to date."""
    before = page.read_text(encoding="utf-8")
    after = filled(before)
    if timeless(before) == timeless(after):
        return []
    if not check:
        page.write_text(after, encoding="utf-8")
    old, new = ({m["name"]: m["body"] for m in BLOCK.finditer(timeless(text))} for text in (before, after))
    return [name for name in new if old.get(name) != new[name]] or ["examples"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 where a page is out of date; write nothing")
    parser.add_argument("--readme", type=Path, action="append", help="default: every page")
    given = parser.parse_args()
    found = {page: stale(page, check=given.check) for page in given.readme or PAGES}
    told = [f"{page}: out of date: {', '.join(names)}" for page, names in found.items() if names]
    if given.check and told:
        sys.exit("; ".join(told) + " (run python benchmarks/update_readme.py)")


if __name__ == "__main__":
    main()
