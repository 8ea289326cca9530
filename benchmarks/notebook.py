"""The blocks of the page on speed: every case with its result, and what was expected of a GPU beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

import committed
import end_to_end
import scale_model
from committed import NOT_MEASURED, Document, table

from gpudrift.backends.cuda import launch, layout

__all__ = ["BLOCKS"]


def noted(notes: dict[str, int], document: Document) -> int:
    return notes.setdefault(committed.surroundings(document), len(notes) + 1)


# --- on cores --------------------------------------------------------------------------------------------------------


def cases() -> str:
    """The cases of end_to_end.py, each with its newest result."""
    newest: dict[str, tuple[Document, Document]] = {}
    for document in committed.results("gpudrift/benchmark/1"):
        newest |= {name: (result, document) for name, result in document["cases"].items()}
    notes: dict[str, int] = {}
    rows = []
    for name, case in end_to_end.CASES.items():
        files = f"{case.rows:,} rows, {case.floats:,} float64"
        if case.strings:
            files += f", {len(case.strings)} string columns of {case.strings[0]:,} to {case.strings[-1]:,} values"
        if name not in newest:
            rows.append(f"| `{name}` | {files} | | {NOT_MEASURED} | {case.target()} | |")
            continue
        result, document = newest[name]
        read, ours = result["read"], result["gpudrift"]
        told = (
            f"{ours['seconds']:.2f} s, read {read['seconds']:.2f} s, ratio {result['ratio']['median']:.2f} "
            f"({min(result['ratio']['all']):.2f} to {max(result['ratio']['all']):.2f}); "
            f"{ours['peak_bytes'] / 1e9:.2f} GB"
        )
        size = f"{result['bytes'] / 1e9:.1f} GB"
        rows.append(f"| `{name}` | {files} | {size} | {told} | {case.target()} | {noted(notes, document)} |")
    return table("case | two files of | disk: | measured | target | note:", rows, notes)


RUNS = {
    "workers": "one worker, two, one, …: 50 float64 and 5 string columns",
    "wide": "beside a bare read: 5,000 float64 columns",
    "rows": "ever more rows of 20 float64 columns, a fresh cluster for each",
    "graph": "a task for each of 10,000 parts and 5 float64 columns, submitted and cancelled",
    "overhead": "empty and tiny tasks, many files, row groups and columns, packets, bytes per second",
}


def runs() -> str:
    """The cases of cluster.py, and their largest tables."""
    found = {one["case"]: one["result"] for one in committed.results("gpudrift/cluster/1")}
    rows = []
    for name, what in RUNS.items():
        tables = [one for one in entries(found.get(name)) if "file_bytes" in one]
        if tables:
            most = max(tables, key=lambda one: one["file_bytes"])
            size = f"{most['rows']:,} | {most['file_bytes'] / 1e9:.1f} GB"
        else:
            size = f"{NOT_MEASURED} |"
        rows.append(f"| `{name}` | {what} | {size} |")
    return table("case | what | rows: | disk:", rows)


def entries(value: object) -> Iterator[Document]:
    """All mappings within a document."""
    if isinstance(value, dict):
        yield value
        for within in value.values():
            yield from entries(within)


COSTS = {
    "task_seconds": ("a task, for the scheduler", 1e3, "ms"),
    "start_seconds": ("a cluster, until its first task runs", 1, "s"),
    "bytes_per_second": ("float64, read and counted by a thread", 1e-6, "MB/s"),
    "read_bytes_per_second": ("float64, only read", 1e-6, "MB/s"),
    "string_bytes_per_second": ("text, read and counted by a thread", 1e-6, "MB/s"),
    "footer_chunk_seconds": ("a column chunk in a footer", 1e6, "µs"),
    "footer_file_seconds": ("a file to open", 1e3, "ms"),
    "packet_slot_bytes": ("a slot in a result", 1, "bytes"),
    "add_slot_seconds": ("a slot to add", 1e9, "ns"),
    "fit_column_seconds": ("a column to choose bins for", 1e3, "ms"),
    "process_bytes": ("a worker that has counted nothing yet", 1e-6, "MB"),
}


def costs() -> str:
    """What scale_model.py puts together."""
    found = [one for one in committed.results("gpudrift/cluster/1") if one["case"] == "overhead"]
    notes: dict[str, int] = {}
    rows = []
    for name, (words, factor, unit) in COSTS.items():
        if found:
            value = f"{factor * found[-1]['result']['costs'][name]:,.2f} {unit}"
            rows.append(f"| {words} | {value} | {noted(notes, found[-1])} |")
        else:
            rows.append(f"| {words} | {NOT_MEASURED} | |")
    return table("cost of | measured: | note:", rows, notes)


def machines() -> str:
    """What scale_model.py predicts for machines without GPUs."""
    found = committed.results("gpudrift/scale-model/1")
    if not found:
        return f"{NOT_MEASURED}: no result of scale_model.py has been committed\n"
    rows = []
    for name, entry in found[-1]["predictions"].items():
        for number, one in entry["on"].items():
            traffic = one["traffic"]
            rows.append(
                f"| {name} | {number} | {scale_model.said(one['seconds']['all'])} | {one['tasks']:,} "
                f"| {traffic['share']:.3%} | {one['worker_bytes'] / 1e9:.1f} GB | {one['scheduler_load']:.0%} "
                f"| {one['bandwidth_per_worker'] / 1e9:.1f} GB/s |"
            )
    head = "table | machines: | time: | tasks: | traffic: | memory of each: | scheduler busy: | storage of each:"
    return table(head, rows)


# --- on GPUs ---------------------------------------------------------------------------------------------------------


def kernels() -> str:
    """Every figure of ``gpudrift bench`` on a GPU."""
    newest = committed.newest_parts()
    if "bench" not in newest:
        return f"{NOT_MEASURED}\n"
    document = newest["bench"]["bench"]
    rows = [
        f"| {one['part']} | {one['who']} | {one['dtype']} {one['shape']} | {one['columns']:,} × {one['rows']:,} "
        f"| {one['bins']:,} | {one['values_per_second'] / 1e9:,.1f} | {one['bytes_per_second'] / 1e9:,.0f} "
        f"| {one['share']:.0%} | {'' if one['host'] is None else format(one['host'], '.1%')} |"
        for one in document["measured"]
    ]
    head = "part | who | column | columns × rows: | bins: | G values/s: | GB/s: | of the copy: | host:"
    return table(head, rows)


def files() -> str:
    """Every case of ``gpudrift bench --files`` on a GPU, and where its time went."""
    newest = committed.newest_parts()
    cases = {name: one["files"][name.removeprefix("files ")] for name, one in newest.items() if "files " in name}
    if not cases:
        return f"{NOT_MEASURED}\n"
    rows = []
    for case in cases.values():
        size = case["tables"]["reference"]
        seconds = {(one["what"], one["table"]): one for one in case["measured"] if one["who"] != "engine"}
        read, ours = seconds.get(("read", "both")), seconds["to profile", "both"]
        shares = ", ".join(f"{name} {share:.0%}" for name, share in case["split"]["share"].items())
        bare = "" if read is None else f"{read['seconds']:.2f} s, {read['bytes_per_second'] / 1e9:,.1f} GB/s"
        ratio = ours["over_engine"] if ours["over_library"] is None else ours["over_library"]
        rows.append(
            f"| 2 × {size['rows']:,} × {size['columns']:,} | {bare or NOT_MEASURED} | {ours['seconds']:.2f} s "
            f"| {ratio:.2f}{'' if bare else ' × the engine’s own read'} | {shares} "
            f"| {case['memory']['gpu_peak_over_budget']:.2f} |"
        )
    return table("rows × columns | bare read | to profiles: | ratio: | time of all threads | memory / budget:", rows)


def gpus() -> str:
    """What scale_model.py says of clusters of GPUs; assumptions are named as such."""
    found = committed.results("gpudrift/scale-model/1")
    if not found or "gpus" not in found[-1]:
        return f"{NOT_MEASURED}: no result of scale_model.py has been committed\n"
    model = found[-1]["gpus"]
    rates = [
        f"| {name} | {rate['bytes_per_second'] / 1e9:,.0f} GB/s "
        f"| {'measured' if rate['measured'] else f'{NOT_MEASURED}, assumed'}: {rate['source']} |"
        for name, rate in model["rates"].items()
    ]
    storages = model["storages"]
    cells: dict[tuple[str, int, str], dict[str, str]] = {}
    for one in model["on"]:
        kept = "as they are" if one["decode"] == "decode" else "made for GPUs"
        cell = f"{scale_model.said(one['seconds'])}, {one['bottleneck']}"
        cells.setdefault((one["table"], one["gpus"], kept), {})[one["storage"]] = cell
    rows = [
        f"| {name} | {number} | {kept} | " + " | ".join(cell[storage] for storage in storages) + " |"
        for (name, number, kept), cell in cells.items()
    ]
    measured = all(rate["measured"] for rate in model["rates"].values())
    head = "table | GPUs: | files | " + " | ".join(
        f"{name}, {v / 1e9:,.0f} GB/s a node" for name, v in storages.items()
    )
    note = "" if measured else "Times on paper, and what limits them; they follow from the assumptions above.\n\n"
    return table("rate of a GPU | value: | where it is from", rates) + "\n" + note + table(head, rows)


# --- the notebook: what was expected, what was found, what was kept --------------------------------------------------


def share_of(dtype: str) -> Callable[[dict[str, Document]], str]:
    def told(newest: dict[str, Document]) -> str:
        if "bench" not in newest:
            return NOT_MEASURED
        found = {
            one["shape"]: one
            for one in newest["bench"]["bench"]["measured"]
            if (one["part"], one["who"], one["dtype"]) == ("shapes", "gpudrift", dtype)
        }
        known = [shape for shape in ("uniform", "normal") if shape in found]
        told = [
            f"{shape} {found[shape]['values_per_second'] / 1e9:,.0f} G values/s, {found[shape]['share']:.0%}"
            for shape in known
        ]
        return ", ".join(told) or NOT_MEASURED

    return told


def variants_of(constant: str) -> Callable[[dict[str, Document]], str]:
    """The share of the copy for each value, of each shape."""

    def told(newest: dict[str, Document]) -> str:
        found = [one for one in newest.get("variants", {}).get("variants", ()) if one["constant"] == constant]
        values: dict[int, list[str]] = {}
        for one in found:
            values.setdefault(one["value"], []).append(f"{one['share']:.0%}")
        shapes = ", ".join(dict.fromkeys(one["shape"] for one in found))
        return "; ".join(f"{value:,}: {', '.join(shares)}" for value, shares in values.items()) + (
            f" ({shapes})" if found else NOT_MEASURED
        )

    return told


def kept(constant: str) -> str:
    return f"{getattr(layout if hasattr(layout, constant) else launch, constant):,}"


def file_figures(figure: Callable[[Document], float | None], form: str) -> Callable[[dict[str, Document]], str]:
    """The smallest and the largest of a figure over all tables that were read."""

    def told(newest: dict[str, Document]) -> str:
        cases = [one["files"][name.removeprefix("files ")] for name, one in newest.items() if "files " in name]
        known = [value for case in cases if (value := figure(case)) is not None]
        if not known:
            return NOT_MEASURED
        ends = dict.fromkeys(format(value, form) for value in (min(known), max(known)))
        return " to ".join(ends)

    return told


def bare_rate(case: Document) -> float | None:
    rates = [
        one["bytes_per_second"] / 1e9
        for one in case["measured"]
        if (one["what"], one["table"]) == ("read", "both") and one["who"] != "engine"
    ]
    return rates[0] if rates else None


def count_over_read(case: Document) -> float | None:
    [ratio] = [one["over_library"] for one in case["measured"] if (one["what"], one["table"]) == ("profile", "current")]
    return None if ratio is None else float(ratio)


def merging(case: Document) -> float | None:
    """Milliseconds, of a wide table."""
    wide = case["tables"]["reference"]["columns"] >= 1_000
    return 1e3 * float(case["split"]["seconds"]["merge"]) if wide else None


def counting_rate(newest: dict[str, Document]) -> str:
    if "bench" not in newest:
        return NOT_MEASURED
    widths = [
        one["bytes_per_second"] / 1e12
        for one in newest["bench"]["bench"]["measured"]
        if (one["part"], one["who"]) == ("widths", "gpudrift")
    ]
    return f"{median(widths):.2f} TB/s, the median of widths" if widths else NOT_MEASURED


def predicted(dtype: str) -> Callable[[], str]:
    """What kernel_model.py says of normal and uniform columns."""

    def told() -> str:
        found = [one for one in committed.results("gpudrift/kernel-model/1") if "predicted" in one]
        if not found:
            return "nothing predicted"
        rows = [one for one in found[-1]["predicted"] if one["dtype"] == dtype and one["when"] == "now"]
        usual = [one for one in rows if one["shape"] in ("uniform", "normal")]
        size = int(dtype.removeprefix("float")) / 8
        copy = found[-1]["assumed"]["copy_bytes_per_second"]
        shares = min(one["share_low"] for one in usual), max(one["share_high"] for one in usual)
        rates = [f"{share * copy / size / 1e9:.0f}" for share in shares]
        return f"{' to '.join(rates)} G values/s, {shares[0]:.0%} to {shares[1]:.0%} of the copy"

    return told


Entry = tuple[str, str | Callable[[], str], Callable[[dict[str, Document]], str], Callable[[], str]]
TUNING: tuple[Entry, ...] = (
    ("float64 on an H200, 1,024 bins with sums", predicted("float64"), share_of("float64"), str),
    ("float32, the same", predicted("float32"), share_of("float32"), str),
    (
        "`CELLS` of the guide",
        "more: fewer cells with an edge, so fewer words read, until blocks take too much shared memory",
        variants_of("CELLS"),
        lambda: kept("CELLS"),
    ),
    (
        "`COPIES` of the sums",
        "more: lanes that meet in a bin wait less; helps most where most rows lie in one bin",
        variants_of("COPIES"),
        lambda: kept("COPIES"),
    ),
    ("`THREADS` of a block", "nothing predicted", variants_of("THREADS"), lambda: kept("THREADS")),
    (
        "`LEAST_ROWS` of a block",
        "fewer: shared memory is filled and emptied too often; more: multiprocessors without work",
        variants_of("LEAST_ROWS"),
        lambda: kept("LEAST_ROWS"),
    ),
    ("bare decode by cuDF", "20 to 50 GB/s", file_figures(bare_rate, ".1f"), str),
    ("counting of wide tables of float32 in GPU memory", "1 to 1.5 TB/s", counting_rate, str),
    ("Parquet to profile over the bare read, bins known", "1.02 to 1.05", file_figures(count_over_read, ".2f"), str),
    ("merging profiles of 5,000 columns, in ms", "some", file_figures(merging, ".1f"), str),
)


def kernel_model() -> str:
    """Cycles of the newest result of kernel_model.py, which no device was asked for."""
    found = committed.results("gpudrift/kernel-model/1")
    if not found:
        return f"{NOT_MEASURED}\n"
    rows = []
    for one in found[-1]["predicted"]:
        parts = [f"{one[name]:.1f}" for name in ("issue", "loads", "atomics", "memory")]
        cycles = f"{one['cycles_low']:.1f} to {one['cycles_high']:.1f}"
        share = f"{one['share_low']:.0%} to {one['share_high']:.0%}"
        rows.append(f"| {one['dtype']} | {one['shape']} | {one['when']} | {' | '.join(parts)} | {cycles} | {share} |")
    head = (
        "type | shape | kernel | issue: | loads: | atomics: | memory: | cycles of a warp's values: | share of a copy:"
    )
    return table(head, rows)


def tuning() -> str:
    """What was predicted before a device was there, what was measured, and the value that is in the code."""
    newest = committed.newest_parts()
    rows = [
        f"| {what} | {foretold if isinstance(foretold, str) else foretold()} | {told(newest)} | {now()} |"
        for what, foretold, told, now in TUNING
    ]
    return table("what | predicted | measured | kept:", rows)


# --- accuracy --------------------------------------------------------------------------------------------------------


def shapes() -> str:
    """Every shape of the newest result of statistics_error.py."""
    found = committed.results("gpudrift/accuracy/1")
    if not found:
        return f"{NOT_MEASURED}\n"
    rows = []
    for name, entry in found[-1]["shapes"].items():
        told = []
        for statistic in ("ks", "wasserstein"):
            one = entry[statistic]
            held = "yes" if one["holds"] else "**no**"
            told += ["", ""] if one["value"] is None else [f"{one['value']:.6g} in {one['width']:.1e} wide", held]
        rows.append(f"| {name} | " + " | ".join(told) + " |")
    return table("shape | KS | holds | Wasserstein | holds", rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "cases": cases,
    "runs": runs,
    "costs": costs,
    "machines": machines,
    "kernels": kernels,
    "files": files,
    "gpus": gpus,
    "model": kernel_model,
    "tuning": tuning,
    "shapes": shapes,
}
