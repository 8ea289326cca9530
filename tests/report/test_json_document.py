"""The JSON document: valid, free of NaN, consistent in itself, and true of the raw data."""

from __future__ import annotations

import itertools
import json
import math
import re
from importlib import resources
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from support import reference, strategies, tables
from support.command import people, run, strict_json
from support.example_document import HOSTILE_NAMES
from support.tables import table_of_everything

import gpudrift as gd
from gpudrift.report.page.pages import page_of

SEVERITIES = ["major", "moderate", "undecided", "none", "too few rows", "not judged"]
NUMERIC = ("real", "integer", "datetime", "clock")


def _validator() -> jsonschema.Draft202012Validator:
    text = (resources.files("gpudrift") / "report" / "comparison-1.schema.json").read_text("utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


VALIDATOR = _validator()


def document_of(*arguments: Any, **options: Any) -> dict[str, Any]:
    """The document of a comparison as text and back, after everything that holds for each one was checked."""
    report = gd.compare(*arguments, **options)
    document = strict_json(report.to_json())
    check(document)
    assert [column.name for column in report.columns] == [column["name"] for column in document["columns"]]
    assert list(report.drifted) == [column["name"] for column in document["columns"] if column["drifted"]]
    return document


def check(document: dict[str, Any]) -> None:
    VALIDATOR.validate(document)
    columns = document["columns"]
    check_summary(document)
    for side in ("reference", "current"):
        rows = document[side]["rows"]
        assert all(column[side]["rows"] == rows for column in columns if "missing" in column[side])
    for column in columns:
        check_statistics(column)
        check_distribution(column)
        check_sides(column)
        check_severity(column, document["parameters"])


def check_summary(document: dict[str, Any]) -> None:
    columns, summary = document["columns"], document["summary"]
    judged = [column for column in columns if column["severity"] not in ("not judged", "too few rows")]
    drifted = [column for column in columns if column["drifted"]]
    assert (summary["columns"], summary["judged"], summary["drifted"]) == (
        len(columns),
        len(judged),
        len(drifted),
    )
    assert summary["undecided"] == sum(column["severity"] == "undecided" for column in columns)
    assert summary["changed"] == sum(bool(column["changed"]) and column["severity"] == "none" for column in columns)
    assert summary["share"] == (len(drifted) / len(judged) if judged else None)
    assert len({column["name"] for column in columns}) == len(columns)
    places = [SEVERITIES.index(column["severity"]) for column in columns]
    assert places == sorted(places), "not ordered by drift"
    severities = {column["name"]: column["severity"] for column in columns}
    for found in document["schema"]:
        if found["finding"] == "added":
            assert found["column"] not in severities
            assert found["reference"] is None
        else:
            assert severities[found["column"]] == "not judged"
        assert (found["current"] is None) == (found["finding"] == "dropped")


def check_severity(column: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Decide again, from the document alone."""
    severity, statistics = column["severity"], column["statistics"]
    assert column["drifted"] == (severity in ("moderate", "major"))
    assert (column["reason"] is None) == (severity == "none")
    if severity == "not judged":
        return
    thresholds = parameters["thresholds"]
    limits = {**thresholds["*"], **thresholds.get(column["name"], {})}
    reached, doubtful, changed = {}, False, set()
    for name, (moderate, major) in limits.items():
        statistic = statistics.get(name, {"value": None})
        if statistic["value"] is None:
            continue
        low, high = sizes(statistic)
        floor = statistic.get("noise_floor", 0.0)
        if low >= moderate and low > floor:
            limit = ("major", major) if low >= major else ("moderate", moderate)
            reached[name] = dict(zip(("severity", "limit"), limit, strict=True))
        elif high >= moderate and high > floor:
            doubtful = True
        elif low > floor:
            changed.add(name)
    assert column["reached"] == reached
    assert set(column["changed"]) == (changed if severity != "too few rows" else set())
    if reached:
        assert severity == min((one["severity"] for one in reached.values()), key=SEVERITIES.index)
    elif doubtful or any("2**" in note for note in column["notes"]):
        assert severity == "undecided" or (not doubtful and severity in ("none", "too few rows"))
    else:
        assert severity in ("none", "too few rows")


def sizes(statistic: dict[str, Any]) -> tuple[float, float]:
    """What the size of a statistic lies between."""
    low = statistic.get("low", statistic["value"])
    high = statistic.get("high", statistic["value"]) if "low" in statistic else statistic["value"]
    high = math.inf if high is None else high
    if low >= 0:
        return low, high
    return (-high, -low) if high <= 0 else (0.0, max(-low, high))


def check_statistics(column: dict[str, Any]) -> None:
    for name, statistic in column["statistics"].items():
        value = statistic["value"]
        if value is None:
            assert statistic["reason"]
            assert not {"low", "high", "p_value", "noise_floor"} & statistic.keys()
            continue
        if "low" in statistic:
            assert statistic["low"] <= value or math.isclose(statistic["low"], value, rel_tol=1e-12)
            assert statistic["high"] is None or value <= statistic["high"] or math.isclose(value, statistic["high"])
        if name in ("ks", "js", "hellinger", "tv", "linf", "cramers_v", "new"):
            assert -1e-12 <= value <= 1 + 1e-12
        if name in ("psi", "wasserstein", "wasserstein_scaled", "chi2"):
            assert value >= 0
        if "bins" in statistic:
            assert len(statistic["bins"]) == statistic["cells"] + 1
            places = [place(edge) for edge in statistic["bins"]]
            assert places == sorted(places)
            # Decimals of 18 digits are more than a JSON number keeps.
            assert len(set(places)) == len(places) or str(column["unit"]).startswith("decimal")
        if "values" in statistic:
            assert len(statistic["values"]) <= statistic["cells"] <= len(statistic["values"]) + 2
        if name == "psi":
            check_rows_of_cells(statistic, [present(column, side) for side in ("reference", "current")])


def present(column: dict[str, Any], side: str) -> int:
    """Rows with a value."""
    return int(column[side]["rows"] - column[side]["missing"])


def check_rows_of_cells(statistic: dict[str, Any], present: list[int]) -> None:
    """Every row with a value is in one cell, and PSI is made of nothing else."""
    sides = [statistic["reference_rows"], statistic["current_rows"]]
    assert [sum(side) for side in sides] == present
    cells = statistic["cells"]
    assert [len(side) for side in sides] == [cells, cells]
    listed = len(statistic["bins"]) - 1 if "bins" in statistic else len(statistic["values"])
    assert cells - listed == (0 if "bins" in statistic else cells > listed)
    shares = [[max(rows / sum(side), statistic["floor"]) for rows in side] for side in sides]
    again = math.fsum((p - q) * math.log(p / q) for p, q in zip(*shares, strict=True))
    assert math.isclose(statistic["value"], again, rel_tol=1e-12, abs_tol=1e-15)


def place(edge: Any) -> Any:
    """Something that orders like the edge: times are ISO 8601, their years may have more digits than four."""
    if not isinstance(edge, str):
        return edge
    found = re.fullmatch(r"([+-]?\d{4,})(-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d+)?Z?)?)", edge)
    assert found, f"{edge!r} is not ISO 8601"
    return int(found[1]), found[2]


def check_distribution(column: dict[str, Any]) -> None:
    picture = column["distribution"]
    if picture is None:
        return
    sides = [picture["reference"], picture["current"]]
    assert len(sides[0]) == len(sides[1])
    for shares, side in zip(sides, ("reference", "current"), strict=True):
        finite = present(column, side) - sum(column[side].get(f"{end}_infinity", 0) for end in ("negative", "positive"))
        total = math.fsum(shares)
        assert total <= 1 + 1e-9
        assert (total > 0) == (finite > 0)
    if "edges" in picture:
        assert len(picture["edges"]) == len(sides[0]) + 1
        values = [place(point["value"]) for point in picture["points"]]
        assert values == sorted(set(values))
        assert all(max(point["reference"], point["current"]) >= 0.02 for point in picture["points"])
    else:
        assert len(picture["values"]) == len(sides[0])


def at_most(one: float, other: float) -> bool:
    """Whether one is not larger, where what is in zero's bin is zero."""
    return one <= other or abs(one - other) <= 2.0**-1022


def check_sides(column: dict[str, Any]) -> None:
    for name in ("reference", "current"):
        side = column[name]
        if "missing" not in side:
            continue
        assert side["missing"] == side["null"] + side["nan"] + side["absent"]
        if side.get("min") is not None and column["unit"] is None:
            assert at_most(side["min"], side["median"])
            assert at_most(side["median"], side["max"])
            assert side["std"]["low"] <= side["std"]["value"] <= side["std"]["high"]
            values = [quantile["value"] for quantile in side["quantiles"]]
            assert values == sorted(values)
    missing = column["statistics"].get("missing")
    if missing is not None and missing["value"] is not None:
        shares = [column[side]["missing"] / column[side]["rows"] for side in ("reference", "current")]
        assert [missing["reference"], missing["current"]] == shares
        assert missing["value"] == shares[1] - shares[0]


# --- documents of all kinds of tables ---------------------------------------------------------------------


def test_the_demo():
    document = run("demo", "--json", "-").document
    check(document)
    assert document["summary"]["judged"] > 20


def everything_later() -> pa.Table:
    table = table_of_everything(400)
    for name in ("real", "text", "boolean"):
        table = table.set_column(table.schema.names.index(name), name, table[name].take(list(range(399, -1, -1))))
    table = table.set_column(2, "integer", pa.array(["now", "text"] * 200)).drop(["naive"])
    return table.append_column("fresh", pa.array(range(400))).append_column("\x1b[31m", pa.nulls(400))


PAIRS = {
    "alike": (table_of_everything(), table_of_everything()),
    "changed": (table_of_everything(), everything_later()),
    "the other way": (everything_later(), table_of_everything()),
    "few rows": (table_of_everything(30), table_of_everything(20)),
    "one row": (table_of_everything(1), table_of_everything(1)),
    "nothing shared": (people(50), table_of_everything()),
    "hostile": tuple(
        pa.table({name: pa.array([*HOSTILE_NAMES[:9], *HOSTILE_NAMES[10:]] * times) for name in HOSTILE_NAMES[:9]})
        for times in (20, 30)
    ),
    "enormous": (
        pa.table({"x": [1.7e308, -1.7e308, 0.0, 5e-324] * 50, "n": [2**63 - 1, -(2**63), 0, 1] * 50}),
        pa.table({"x": [-1.7e308, 1e308, 1.0, 2e-308] * 50, "n": [-(2**63), -(2**63), 5, 1] * 50}),
    ),
}


@pytest.mark.parametrize("name", list(PAIRS))
def test_every_kind_and_oddity(name):
    document_of(*PAIRS[name])


EMPTY = {
    "no rows before": (table_of_everything(0), table_of_everything()),
    "no rows now": (table_of_everything(), table_of_everything(0)),
    "no rows": (table_of_everything(0), table_of_everything(0)),
    "no columns now": (table_of_everything(), pa.table({})),
}


@pytest.mark.parametrize("name", list(EMPTY))
def test_without_rows_there_is_no_document(name):
    with pytest.raises(ValueError, match=r"^nothing could be compared: "):
        gd.compare(*EMPTY[name])


@pytest.mark.parametrize("name", ["alike", "changed"])
def test_every_kind_is_there(name):
    kinds = {column["kind"] for column in document_of(*PAIRS[name])["columns"]}
    assert kinds == {"real", "integer", "datetime", "clock", "categorical", "identifier", "skipped"}


def test_named_columns_other_thresholds_and_edges():
    first, second = PAIRS["changed"]
    document_of(first, second, columns=["clock", "id", "real", "naive"])
    limits = {
        "*": {"psi": (0.0, 0.0), "ks": 0.01, "cramers_v": 0.01},
        "text": {"js": 0.5, "linf": (0.1, 0.1)},
    }
    document = document_of(first, second, thresholds=limits, alpha=0.5)
    assert document["parameters"]["thresholds"]["*"]["ks"] == [0.01, 0.025]
    document_of(first, second, edges={"real": [-1, 1], "date": ["1980-01-01"]}, kinds={"uint64": "categorical"})


@settings(deadline=None, max_examples=30)
@given(strategies.pairs(max_rows=120))
def test_any_two_tables(pair):
    if all(table.num_rows for table in pair):
        page_of(document_of(*pair))
        return
    with pytest.raises(ValueError, match="nothing could be compared: "):
        gd.compare(*pair)


# Their first against their second half for the tables that are in no other comparison; half a second each.
HALVES = {f"{name}-halves" for name in ("nycflights_planes", "nycflights_weather", "secom", "secom_labels")}
REAL = [one for one in tables.COMPARISONS if not one.id.endswith("-halves") or one.id in HALVES]


@pytest.mark.slow
@pytest.mark.skipif(not tables.available(), reason="the real tables are not here (GPUDRIFT_DATA names another place)")
@pytest.mark.parametrize("comparison", REAL, ids=lambda comparison: comparison.id)
def test_real_tables(comparison):
    """Of the wide ones every 2,000th column; long ones as they are."""
    before, after = comparison.load(every=2000)
    document = document_of(before, after)
    assert (document["reference"]["rows"], document["current"]["rows"]) == (before.num_rows, after.num_rows)
    assert {column["name"] for column in document["columns"]} == set(before.schema.names)


# --- the same document by every way -----------------------------------------------------------------------


def test_the_document_is_the_same_from_python_and_the_command_line(tmp_path):
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    for table, path in zip(PAIRS["alike"], (first, second), strict=True):
        pq.write_table(table.drop(["float16"]), path)
    printed = run("compare", first, second, "--json", "-").document
    run("compare", first, second, "--json", tmp_path / "out.json", "--quiet")
    written = strict_json((tmp_path / "out.json").read_text("utf-8"))
    python = strict_json(gd.compare(first, second).to_json())
    returned = strict_json(gd.compare(str(first), str(second)).to_json(tmp_path / "again.json", indent=2))
    again = strict_json((tmp_path / "again.json").read_text("utf-8"))
    for document in (printed, written, python, returned, again):
        check(document)
        document.pop("created")
        assert document == printed


# --- the numbers of the document, from the raw data -------------------------------------------------------


def raw(column: pa.ChunkedArray) -> list[Any]:
    """What is not missing, times as integers."""
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int32() if pa.types.is_date32(column.type) else pa.int64())
    return [value for value in column.to_pylist() if value is not None and value == value]


def edges_of(bins: list[Any], kind: pa.DataType) -> list[Any]:
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        unit = "D" if pa.types.is_date(kind) else kind.unit
        return [int(np.datetime64(edge.rstrip("Z"), unit).astype(np.int64)) for edge in bins]
    return bins


def rows_over(values: list[Any], edges: list[Any]) -> list[int]:
    """Bin i is e(i) <= x < e(i+1), the last one closed; -inf is in the first and +inf in the last."""
    counts = [0] * (len(edges) - 1)
    for value in values:
        if value == -math.inf:
            counts[0] += 1
            continue
        if value == math.inf:
            counts[-1] += 1
            continue
        for i, (low, high) in enumerate(itertools.pairwise(edges)):
            if low <= value < high or (i == len(counts) - 1 and value == high):
                counts[i] += 1
                break
        else:
            raise AssertionError(f"{value!r} is in no bin")
    return counts


def assert_recomputed(column: dict[str, Any], before: pa.ChunkedArray, after: pa.ChunkedArray) -> None:
    statistics = column["statistics"]
    for name, formula in (("psi", reference.psi), ("js", reference.js_distance)):
        edges = edges_of(statistics[name]["bins"], before.type)
        rows = [rows_over(raw(side), edges) for side in (before, after)]
        p, q = map(reference.shares, rows)
        assert statistics[name]["value"] == pytest.approx(formula(p, q), rel=1e-12, abs=1e-12), column["name"]
        if name == "psi":
            assert [statistics["psi"][f"{side}_rows"] for side in ("reference", "current")] == rows
        if name == "js":
            for other in ("hellinger", "tv", "kl", "linf"):
                again = getattr(reference, other)(p, q)
                assert statistics[other]["value"] == pytest.approx(again, rel=1e-12, abs=1e-12), column["name"]


def numbers(rows: int, seed: int) -> pa.Table:
    draw = np.random.default_rng(seed)
    shift = seed / 10
    reals = draw.normal(shift, 1 + shift, rows)
    infinite = draw.normal(shift, 1, rows)
    infinite[: 20 + seed], infinite[50 : 60 + 2 * seed] = np.inf, -np.inf
    times = draw.integers(10**15, 10**15 + 10**13 * (seed + 1), rows)
    return pa.table(
        {
            "real": reals,
            "with infinities": infinite,
            "with gaps": pa.array(np.where(draw.random(rows) < 0.1 + shift, np.nan, reals), from_pandas=False),
            "zero inflated": np.where(draw.random(rows) < 0.6 - shift, 0.0, np.abs(reals)),
            "single": reals.astype(np.float32),
            "integer": pa.array(draw.poisson(3 + seed, rows), mask=draw.random(rows) < 0.1),
            "large": 2**62 + draw.integers(0, 1000 + 100 * seed, rows),
            "date": pa.array((times // 86_400_000_000).astype(np.int32)).cast(pa.date32()),
            "naive": pa.array(times).cast(pa.timestamp("us")),
            "zoned": pa.array(times // 1000).cast(pa.timestamp("ms", "Europe/Berlin")),
        }
    )


def test_psi_and_its_relatives_can_be_recomputed_from_the_data_and_the_bins():
    before, after = numbers(3000, 0), numbers(2000, 2)
    document = document_of(before, after)
    assert {column["kind"] for column in document["columns"]} == {"real", "integer", "datetime"}
    for column in document["columns"]:
        assert_recomputed(column, before[column["name"]], after[column["name"]])
    assert document["summary"]["drifted"] > 0


@pytest.mark.skipif(not tables.available(), reason="the real tables are not here (GPUDRIFT_DATA names another place)")
def test_psi_of_a_real_table_can_be_recomputed():
    before, after = tables.BY_ID["bike_sharing-2011-vs-2012"].load()
    document = document_of(before, after)
    numeric = [column for column in document["columns"] if column["kind"] in NUMERIC and column["statistics"]]
    assert len(numeric) > 8
    for column in numeric:
        assert_recomputed(column, before[column["name"]], after[column["name"]])


def test_categorical_psi_can_be_recomputed_from_the_listed_values():
    draw = np.random.default_rng(0)
    before = draw.choice(["a", "b", "c", "d", "rare"], 4000, p=[0.4, 0.3, 0.2, 0.0999, 0.0001])
    after = draw.choice(["a", "b", "c", "d", "new", "rare"], 3000, p=[0.3, 0.3, 0.2, 0.1, 0.0999, 0.0001])
    (column,) = document_of({"x": before}, {"x": after})["columns"]
    statistics = column["statistics"]
    assert statistics["new"]["value"] == pytest.approx(
        np.mean(after == "new") + np.mean(~np.isin(after, [*before, "new"]))
    )
    listed = statistics["psi"]["values"]
    assert set(listed) == {"a", "b", "c", "d", "new"}  # the last has too few rows on both sides
    cells = [[side.tolist().count(value) for value in listed] for side in (before, after)]
    rows = [[*own, side.size - sum(own)] for own, side in zip(cells, (before, after), strict=True)]
    assert [statistics["psi"][f"{side}_rows"] for side in ("reference", "current")] == rows
    p, q = map(reference.shares, rows)
    assert len(p) == statistics["psi"]["cells"]
    assert statistics["psi"]["value"] == pytest.approx(reference.psi(p, q), rel=1e-12, abs=1e-12)
    values = sorted({*before.tolist(), *after.tolist()})
    p, q = (reference.shares([side.tolist().count(value) for value in values]) for side in (before, after))
    assert len(p) == statistics["js"]["cells"]
    for name, formula in (("js", reference.js_distance), ("cramers_v", reference.cramers_v), ("tv", reference.tv)):
        assert statistics[name]["value"] == pytest.approx(formula(p, q), rel=1e-12, abs=1e-12)


def test_the_checks_of_this_file_can_fail():
    """A document that contradicts itself is found out."""
    document = document_of(*PAIRS["alike"])
    wrong: list[Any] = [
        lambda d: d["summary"].update(drifted=d["summary"]["drifted"] + 1),
        lambda d: d["columns"][0].update(severity="moderate"),
        lambda d: d["columns"].reverse(),
        lambda d: d["columns"][0]["reference"].update(missing=1 + d["columns"][0]["reference"]["missing"]),
        lambda d: d["columns"][0]["statistics"]["psi"].update(value=math.nan),
        lambda d: d["columns"][0]["statistics"]["psi"].update(value=5.0, noise_floor=0.0),
        lambda d: d["columns"][0].update(unheard="of"),
        lambda d: d["columns"][0]["statistics"]["psi"]["current_rows"].reverse(),
    ]
    for change in wrong:
        changed = json.loads(json.dumps(document))
        change(changed)
        with pytest.raises((AssertionError, jsonschema.ValidationError)):
            check(changed)
    with pytest.raises(AssertionError):
        strict_json('{"x": NaN}')
