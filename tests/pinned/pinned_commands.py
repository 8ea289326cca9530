"""What the commands print and write, run one after the other in a folder of their own: a transcript of each chapter.

The commands are run as ``python -m gpudrift`` runs them, but in this process. What depends on when and where they run
is replaced by words in capitals.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.csv
import pyarrow.parquet as pq
from pinned_tables import every_kind

TEXTS = Path(__file__).with_name("texts")

RULES = """\
[table]
rows = { at_least = 10_000 }
column_changes = false
scale_change = false

[columns.customer_type]
share = { of = "Transient", at_most = 0.70 }

[columns.country]
missing = 0.002
new = 0.001

[columns.market_segment]
among = ["Online TA", "Offline TA/TO", "Groups", "Direct", "Corporate", "Complementary"]

[columns.lead_time]
nulls = false
outside = 0.1

[columns.adr]
min = 0
mean = { at_least = 60, at_most = 100, severity = "moderate", name = "rates" }
median = { at_least = 91.3, at_most = 91.31 }

[columns.no_such_column]
nulls = false
"""

CONFIG = """\
alpha = 0.01

[thresholds]
psi = [0.2, 0.4]

[columns.agent]
kind = "categorical"

[columns.lead_time]
edges = [1, 7, 30, 90, 365]
thresholds = { ks = 0.2 }

[columns.arrival_date_year]
kind = "clock"

[alerts]
name = "bookings"
state = "state.json"

[alerts.retrain]
windows = 2
share = 0.3

[alerts.log]
to = "alerts.jsonl"
"""

SMALL = "--columns adr,lead_time,country,customer_type,company,arrival_date_year,hotel"
HOTELS = "hotel_2015.parquet hotel_2016.parquet"
WINDOWS = "--time arrival_date --every 1mo"
ZONED = "--time zoned --every 1w --zone Europe/Berlin"
SAVED = "windows.parquet hotel_2016.parquet"
RULED = "hotel_2016.parquet --rules rules.toml"

CHAPTERS: dict[str, tuple[str, ...]] = {
    "profile": (
        "profile hotel_2015.parquet -o base.parquet",
        "profile hotel_2016.parquet -o now.parquet --like base.parquet",
        "profile reference.parquet -o kinds.parquet",
        f"profile hotel_2015.parquet -o windows.parquet {WINDOWS} --by hotel {SMALL}",
        "profile hotel_2016.parquet -o ruled.parquet --rules rules.toml --columns adr,country",
        f"profile reference.parquet -o zoned.parquet {ZONED} --by city,flag --segments 3",
        "profile reference.csv -o csv.parquet --config ages.toml",
        "profile hotel_2015.parquet -o silent.parquet --quiet",
    ),
    "info": ("info base.parquet", "info kinds.parquet", "info windows.parquet", "info zoned.parquet"),
    "compare": (
        f"compare {HOTELS}",
        f"compare {HOTELS} {SMALL} --json report.json",
        "compare base.parquet now.parquet --rows 5",
        "compare reference.parquet current.parquet --all --fail-on drift",
        "compare reference.csv current.csv --fail-on schema",
        "compare reference.parquet other.parquet --rows 3 --fail-on schema",
        "compare reference.parquet reference.parquet --fail-on drift,schema --rows 4",
        f"compare {HOTELS} --config drift.toml --rows 4",
        "compare kinds.parquet current.parquet --columns clock,token,nothing,many --all --alpha 0.001",
        f"compare {HOTELS} --quiet",
        "compare kinds.parquet current.parquet --columns real,city --json -",
    ),
    "monitor": (
        f"monitor {HOTELS} {WINDOWS} --by hotel --columns adr,country,lead_time --json monitoring.json",
        f"monitor {HOTELS} {WINDOWS} --rows 3 --windows 2 --rolling 3 --fail-on skew",
        f"monitor {SAVED} --thresholds calibrated --rate 0.05 --columns adr,country --fail-on drift",
        f"monitor {HOTELS} {WINDOWS} --rules rules.toml --since 2016-11-01 --fail-on quality",
        "monitor reference.parquet current.parquet --time day --every 1q --by flag --fail-on drift",
        "monitor windows.parquet hotel_2016.parquet --store watch --batch 2016 --last 2 --rolling 0 --rows 3",
        "monitor windows.parquet hotel_2016.parquet --store watch --batch 2016 --rows 2 --windows 2",
        "monitor windows.parquet hotel_2015.parquet --store watch --batch 2015 --quiet",
        "monitor windows.parquet hotel_2015.parquet --store watch --batch again --quiet",
        "monitor windows.parquet --store watch --last 1 --json -",
    ),
    "store": (
        "store list watch",
        "store list watch --since 2015-09-01 --before 2016-08-01",
        "store compact watch --before 2015-09-01 --dry-run",
        "store compact watch --before 2015-09-01",
        "store compact watch --before 2015-09-01",
        "store retain watch --keep-from 2015-08-01 --dry-run",
        "store retain watch --keep-from 2015-08-01",
        "store retain watch --keep-from 2015-08-01",
        "monitor kinds.parquet hotel_2016.parquet --store watch",
        "monitor windows.parquet hotel_2016.parquet --store watch --batch 2015",
        "monitor windows.parquet hotel_2015.parquet --store watch --batch anew --last 1 --columns adr,hotel",
        "store list watch --before 2015-11-01",
    ),
    "check": (
        "check hotel_2016.parquet --rules rules.toml --reference hotel_2015.parquet --json findings.json",
        "check hotel_2016.parquet --rules rules.toml --fail-on quality",
        "check ruled.parquet --rules rules.toml --fail-on skew",
        f"check {RULED} --reference base.parquet --first hotel_2016.parquet --fail-on skew",
        "check now.parquet --rules rules.toml --reference base.parquet --quiet --fail-on drift,skew",
        "check reference.parquet --rules kept.toml --fail-on quality,drift,skew,undecided",
    ),
    "rules": (
        "rules suggest base.parquet",
        "rules suggest reference.parquet",
        "rules suggest base.parquet -o suggested.toml",
        "rules suggest base.parquet -o suggested.toml --force",
        "check hotel_2015.parquet --rules suggested.toml --fail-on quality,drift,skew,undecided",
        "check hotel_2016.parquet --rules suggested.toml --reference base.parquet",
    ),
    "alert": (
        "alert report.json --config drift.toml --window 2026-11-23 --json alerts-opened.json --fail-on new",
        "alert report.json --config drift.toml --window 2026-11-23 --fail-on new",
        "alert report.json --state state.json --window 2026-11-24 --fail-on open",
        "compare reference.csv reference.csv --json quiet.json --quiet",
        "alert quiet.json --state csv.json --window 2026-11-23",
        "alert findings.json --state findings-state.json --window 2026-11-23",
        "alert monitoring.json --state monitoring-state.json --json alerts-monitoring.json --fail-on retrain",
        "alert monitoring.json --state monitoring-state.json",
        "alert report.json --state state.json --window 2026-11-20",
        "alert report.json --config drift.toml --window 2026-11-25 --fail-on retrain",
    ),
    "errors": (
        "",
        "comp",
        "compare nowhere.parquet hotel_2016.parquet",
        f"compare {HOTELS} --columns adr,nothing_like_it",
        f"compare {HOTELS} --config threshold.toml",
        f"compare {HOTELS} --config statistic.toml",
        f"compare {HOTELS} --config word.toml",
        f"compare {HOTELS} --config broken.toml",
        f"compare {HOTELS} --config kind.toml",
        f"compare {HOTELS} --fail-on shift",
        f"compare {HOTELS} --alpha 2",
        f"compare {HOTELS} --rows 0",
        f"compare {HOTELS} --backend fast",
        f"compare {HOTELS} --workers 3",
        f"compare {HOTELS} --json nowhere/report.json",
        f"compare {HOTELS} --json hotel_2015.parquet",
        f"compare {HOTELS} --columns ,",
        f"compare {HOTELS} --no-such-option",
        "compare hotel_2015.parquet",
        "compare base.parquet hotel_2016.parquet --config drift.toml",
        "compare base.parquet kinds.parquet",
        "compare damaged.parquet hotel_2016.parquet",
        "compare hotel_2015.parquet damaged.parquet",
        "compare damaged-profile.parquet hotel_2016.parquet",
        "compare cut-profile.parquet hotel_2016.parquet",
        "compare empty-folder hotel_2016.parquet",
        "compare words.txt hotel_2016.parquet",
        "compare hotel_2015.parquet reference.parquet",
        "info nowhere.parquet",
        "info hotel_2015.parquet",
        "info damaged-windows.parquet",
        "profile hotel_2015.parquet",
        "profile hotel_2015.parquet -o -",
        "profile hotel_2015.parquet -o hotel_2015.parquet",
        "profile hotel_2015.parquet -o x.parquet --time arrival_date",
        "profile hotel_2015.parquet -o x.parquet --time adr --every 1d",
        "profile hotel_2015.parquet -o x.parquet --time nothing --every 1d",
        "profile hotel_2015.parquet -o x.parquet --time arrival_date --every 1parsec",
        "profile hotel_2015.parquet -o x.parquet --zone Europe/Berlin",
        "profile hotel_2015.parquet -o x.parquet --segments 3",
        "profile hotel_2015.parquet -o x.parquet --by adr",
        "profile hotel_2016.parquet -o x.parquet --like hotel_2015.parquet",
        "monitor hotel_2015.parquet",
        f"monitor {HOTELS}",
        f"monitor {HOTELS} --batch today",
        f"monitor {HOTELS} {WINDOWS} --rate 0.1",
        f"monitor {HOTELS} {WINDOWS} --since yesterday",
        f"monitor {HOTELS} {WINDOWS} --since 2030-01-01",
        "monitor base.parquet hotel_2016.parquet --thresholds calibrated",
        "monitor windows.parquet now.parquet",
        "monitor windows.parquet --store nowhere",
        "store list nowhere",
        "store retain watch --keep-from then",
        "store retain watch",
        "store sweep watch",
        "check hotel_2016.parquet",
        "check hotel_2016.parquet --rules nowhere.toml",
        "check hotel_2016.parquet --rules wrong.toml",
        "check hotel_2016.parquet --rules rules.toml --fail-on anything",
        "rules suggest nowhere.parquet",
        "rules suggest base.parquet -o suggested.toml",
        "alert report.json",
        "alert words.txt --state x.json",
        "alert nowhere.json --state x.json",
        "alert monitoring.json --state x.json --window 2026-11-23",
        "alert report.json --state report.json",
        "alert report.json --state damaged-state.json",
    ),
    "help": (
        "--help",
        *(f"{command} --help" for command in ("compare", "demo", "explain", "profile", "info", "report")),
        *(f"{command} --help" for command in ("check", "monitor", "alert", "bench")),
        *(f"{command} --help" for command in ("rules", "rules suggest")),
        *(f"{command} --help" for command in ("store", "store list", "store compact", "store retain")),
    ),
    "compare-80": (f"compare {HOTELS}", "compare reference.parquet current.parquet --all"),
    "demo": ("demo",),
}
WIDTHS = {"compare-80": 80}
PARTS = (
    "report.json",
    "monitoring.json",
    "findings.json",
    "alerts-opened.json",
    "alerts-monitoring.json",
    "state.json",
)
"""JSON files that the commands write."""


@dataclass
class Told:
    """What one run of all chapters printed and wrote."""

    texts: dict[str, str] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)


def run(arguments: Sequence[str], width: int = 120) -> tuple[int, str, str]:
    """Run a command as ``python -m gpudrift`` does; its exit status and what it printed on both streams."""
    status = -1

    def leave(code: int) -> None:
        raise SystemExit(code)

    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2)]
    with (
        mock.patch.dict(os.environ, COLUMNS=str(width)),
        mock.patch.object(sys, "argv", ["gpudrift", *arguments]),
        mock.patch("os._exit", leave),
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
    ):
        try:
            runpy.run_module("gpudrift", run_name="__main__")
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else -1
    texts = []
    for stream in streams:
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())
    return status, texts[0], texts[1]


def tell(folder: Path) -> Told:
    """Run all chapters in a folder, which should be empty."""
    told = Told()
    with contextlib.chdir(folder):
        write_inputs()
        for chapter, commands in CHAPTERS.items():
            written = [transcript(command, WIDTHS.get(chapter, 120)) for command in commands]
            told.texts[chapter] = "\n".join(written)
            if chapter == "profile":
                write_damaged()
        told.texts["info"] += "\n" + _facts()
        for name in PARTS:
            told.documents[name] = without_provenance(json.loads(Path(name).read_text("utf-8")))
    return told


def transcript(command: str, width: int) -> str:
    """A command, what it printed, and its exit status where that is not 0."""
    status, out, err = run(command.split(), width)
    lines = [f"$ gpudrift {command}".rstrip(), *normalised(out).splitlines()]
    lines += [f"stderr: {line}".rstrip() for line in normalised(err).splitlines()]
    return "\n".join(line.rstrip() for line in lines) + "\n" + (f"exit status {status}\n" if status else "")


def _facts() -> str:
    """What ``gpudrift info`` knows of this machine, without the facts."""
    status, out, err = run(["info"])
    names = [f"{line.split('  ')[0].strip():.10} …" for line in out.splitlines()]
    return (
        "\n".join(["$ gpudrift info", *names, *err.splitlines()]) + "\n" + (f"exit status {status}\n" if status else "")
    )


def normalised(text: str) -> str:
    """The same without versions, times of the run, and folders of this machine."""
    text = text.replace(str(Path.cwd()), "FOLDER")
    text = re.sub(r"^(reference|current) +\S*(hotel_bookings_\S+) +", r"\1  PACKAGE/\2  ", text, flags=re.MULTILINE)
    text = re.sub(r"by \w+, gpudrift [^ ,]+", "by BACKEND, gpudrift VERSION", text)
    text = re.sub(r"^gpudrift [^ ,]+, (?=\d{4}-)", "gpudrift VERSION, ", text, flags=re.MULTILINE)
    text = re.sub(r"(?<=gpudrift VERSION, )[-0-9]{10}T[:0-9]{8}\+00:00$", "TIME", text, flags=re.MULTILINE)
    text = re.sub(r'"version": "[^"]*"', '"version": "VERSION"', text)
    text = re.sub(r'"created": "[^"]*"', '"created": "TIME"', text)
    text = re.sub(r'"backend": "[^"]*"', '"backend": "BACKEND"', text)
    text = re.sub(r'"versions": \{[^}]*\}', '"versions": {}', text)
    return re.sub(r"-[0-9a-f]{16}-[0-9a-f]{16}\.parquet", "-NAME.parquet", text)


def without_provenance(document: Any) -> Any:
    """A report without when, by what version and from where it was made."""
    gone = {"version": "VERSION", "created": "TIME", "backend": "BACKEND", "versions": {}}
    known = {name: gone[name] for name in gone if name in document}
    return {**document, **known}


def as_text(document: Any) -> str:
    """JSON of which each entry two levels deep is a line: a difference is found, and the file stays small."""

    def lines(value: Any, depth: int) -> str:
        if depth == 0 or not value or not isinstance(value, dict | list):
            return json.dumps(value, ensure_ascii=False, allow_nan=False)
        inner = "\n" + " " * (3 - depth)
        if isinstance(value, list):
            return f"[{inner}" + f",{inner}".join(lines(one, depth - 1) for one in value) + f"{inner[:-1]}]"
        pairs = [f"{json.dumps(name, ensure_ascii=False)}: {lines(one, depth - 1)}" for name, one in value.items()]
        return f"{{{inner}" + f",{inner}".join(pairs) + f"{inner[:-1]}}}"

    return lines(document, 3) + "\n"


# --- inputs ----------------------------------------------------------------------------------------------------------


def write_inputs() -> None:
    """The files that the commands are run on."""
    for year in (2015, 2016):
        shipped = files("gpudrift") / "data" / f"hotel_bookings_{year}.parquet"
        Path(f"hotel_{year}.parquet").write_bytes(shipped.read_bytes())
    reference, current = every_kind(3_000), every_kind(3_000, seed=2, shift=3)
    pq.write_table(reference, "reference.parquet")
    pq.write_table(current, "current.parquet")
    other = current.drop_columns(["city", "price"]).rename_columns({"integer": "new column"})
    pq.write_table(other.set_column(0, "real", other["flag"]), "other.parquet")
    for name, table in {"reference": reference, "current": current}.items():
        pyarrow.csv.write_csv(table.select(["real", "integer", "day", "city", "flag"]), f"{name}.csv")
    texts = {
        "rules.toml": RULES,
        "drift.toml": CONFIG,
        "kept.toml": "[table]\nrows = { at_least = 3_000 }\n[columns.city]\nmissing = 0.5\n",
        "wrong.toml": '[table]\nrow = 3\n[columns.adr]\nmissing = 2\nshare = { at_most = 0.1 }\nmin = "low"\n',
        "ages.toml": '[columns.integer]\nedges = [2, 4, 8]\n[columns.flag]\nkind = "categorical"\n',
        "threshold.toml": '[thresholds]\npsi = "high"\n',
        "statistic.toml": "[thresholds]\npsy = 0.1\n",
        "word.toml": "threshold = 1\n",
        "broken.toml": "alpha = = 1\n",
        "kind.toml": '[columns.adr]\nkind = "money"\n',
        "words.txt": "neither JSON nor a table\n",
        "damaged-state.json": '{"format": "gpudrift/alerts-state/1"}\n',
    }
    for name, text in texts.items():
        Path(name).write_text(text, "utf-8")
    Path("empty-folder").mkdir()
    whole = Path("hotel_2016.parquet").read_bytes()
    Path("damaged.parquet").write_bytes(whole[: len(whole) // 2])


def write_damaged() -> None:
    """Copies of saved profiles in which a byte is another, or the end is gone."""
    for name, saved in {
        "damaged-profile.parquet": "base.parquet",
        "damaged-windows.parquet": "windows.parquet",
    }.items():
        content = bytearray(Path(saved).read_bytes())
        content[len(content) // 2] ^= 1
        Path(name).write_bytes(content)
    content = Path("base.parquet").read_bytes()
    Path("cut-profile.parquet").write_bytes(content[: len(content) // 2])
