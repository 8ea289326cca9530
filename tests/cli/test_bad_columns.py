"""Bad columns: each is a named row in the report, and the other columns are compared."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from support.bad_files import columns_of, ipc_of, write
from support.command import DONE, FOUND, fails, people, run
from support.example_document import HOSTILE_NAMES

import gpudrift as gd
from gpudrift.columns.schema import MAX_BINS


def findings(reference: Path, current: Path) -> set[tuple[str, str]]:
    outcome = run("compare", reference, current, "--json", "-", "--fail-on", "schema")
    found = {(entry["column"], entry["finding"]) for entry in outcome.document["schema"]}
    assert outcome.status == (FOUND if found else DONE)
    return found


# --- columns ----------------------------------------------------------------------------------------------


def test_a_column_in_one_table_only_is_named(good, tmp_path):
    other = write(tmp_path, "other", people(500, seed=1).drop(["city"]).append_column("town", people(500)["city"]))
    assert findings(good, other) == {("city", "dropped"), ("town", "added")}
    columns = columns_of(good, other)
    assert set(columns) == {"age", "city", "score"}
    assert columns["city"]["severity"] == "not judged"
    assert "dropped" in columns["city"]["reason"]
    out = run("compare", good, other).out
    assert "city" in out
    assert "town" in out
    report = gd.compare(good, other)
    assert [(f.column, f.change, f.reference, f.current) for f in report.comparison.schema_changes] == [
        ("city", "dropped", "string", None),
        ("town", "added", None, "string"),
    ]


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        (pa.array([1.5] * 50), pa.array(["a"] * 50), "type changed"),
        (pa.array(["a"] * 50), pa.array([1.5] * 50), "type changed"),
        (pa.array([1] * 50), pa.array([1.5] * 50), "type changed"),
        (pa.array([True] * 50), pa.array(["yes"] * 50), "type changed"),
        (
            pa.array([1] * 50, pa.timestamp("us")),
            pa.array([1] * 50, pa.timestamp("us", "UTC")),
            "type changed",
        ),
        (pa.array([1] * 50, pa.timestamp("us")), pa.array([1] * 50), "type changed"),
        (pa.array([1] * 50, pa.date32()), pa.array(["1970-01-32"] * 50), "type changed"),
        (pa.array([1] * 50), pa.array([[1]] * 50), "type changed"),
        (pa.array([[1]] * 50), pa.array([1] * 50), "type changed"),
        (pa.array([1] * 50).dictionary_encode(), pa.array(["1"] * 50), "type changed"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.type),
)
def test_a_type_that_changed_is_named_with_both_types(tmp_path, before, after, finding):
    extra = pa.array(np.arange(50) % 7)
    reference, current = tmp_path / "reference.arrow", tmp_path / "current.arrow"
    reference.write_bytes(ipc_of(pa.table({"x": before, "y": extra})))  # Parquet would change some types
    current.write_bytes(ipc_of(pa.table({"x": after, "y": extra})))
    assert findings(reference, current) == {("x", finding)}
    columns = columns_of(reference, current)
    assert columns["x"]["severity"] == "not judged"
    assert columns["y"]["severity"] == "none"
    (found,) = gd.compare(reference, current).comparison.schema_changes
    assert (found.reference, found.current) == (str(before.type), str(after.type))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (pa.array([1.5] * 50), pa.array([1.5] * 50, pa.float32())),
        (pa.array([1] * 50), pa.array([1] * 50, pa.int8())),
        (pa.array([1] * 50), pa.array([1.0] * 49 + [math.nan])),
        (pa.array(["a"] * 50), pa.array(["a"] * 50).dictionary_encode()),
        (pa.array(["a"] * 50), pa.array(["a"] * 50, pa.large_string())),
        (pa.array([1] * 50, pa.timestamp("ms")), pa.array([1000] * 50, pa.timestamp("us"))),
        (pa.array([1] * 50, pa.date32()), pa.array(["1970-01-02"] * 50)),
        (pa.array([True] * 50), pa.array(["true"] * 50)),
        (pa.array([True] * 50), pa.array([1.0] * 49 + [math.nan])),
        (pa.array([1.0] * 50), pa.array([1] * 50)),
    ],
    ids=lambda value: str(value.type),
)
def test_a_type_that_holds_the_same_values_is_no_finding(tmp_path, before, after):
    reference, current = write(tmp_path, "reference", {"x": before}), write(tmp_path, "current", {"x": after})
    assert findings(reference, current) == set()
    assert gd.compare(reference, current)["x"].psi.value == pytest.approx(0, abs=1e-3)


def test_all_null_and_constant_columns_are_rows_of_the_report(tmp_path):
    n = 300
    nothing, constant = pa.nulls(n, pa.float64()), pa.array([7.25] * n)
    varied = pa.array(np.random.default_rng(0).normal(size=n))
    table = {
        "null both": nothing, "null since": varied, "null before": nothing, "untyped": pa.nulls(n),
        "constant": constant, "constant changed": constant, "constant since": varied, "constant before": constant,
        "same text": pa.array(["a"] * n), "null text": pa.nulls(n, pa.string()),
    }  # fmt: skip
    later = table | {
        "null since": nothing, "null before": varied, "constant changed": pa.array([7.5] * n),
        "constant since": constant, "constant before": varied,
    }  # fmt: skip
    reference, current = write(tmp_path, "reference", table), write(tmp_path, "current", later)
    columns = columns_of(reference, current)
    assert set(columns) == set(table)
    severities = {name: column["severity"] for name, column in columns.items()}
    drifted = {name for name, severity in severities.items() if severity == "major"}
    assert drifted == {"null since", "null before", "constant changed", "constant since", "constant before"}
    assert severities["constant"] == severities["same text"] == "none"
    for name in ("null both", "untyped", "null text"):
        assert not columns[name]["drifted"]
        assert columns[name]["statistics"]["psi"]["value"] is None
        assert "no values" in columns[name]["statistics"]["psi"]["reason"]
    scaled = columns["constant changed"]["statistics"]["wasserstein_scaled"]
    assert scaled == {"value": None, "reason": "the reference is constant"}
    assert columns["constant changed"]["statistics"]["wasserstein"]["value"] == pytest.approx(0.25)
    out = run("compare", reference, current, "--all").out
    for name in table:
        assert name in out


def test_infinities_are_counted_and_never_spoil_a_number(tmp_path):
    n = 400
    values = np.random.default_rng(0).normal(size=n)
    some = values.copy()
    some[:40], some[40:60] = np.inf, -np.inf
    table = {
        "same": some,
        "new": values,
        "gone": some,
        "only": np.full(n, np.inf),
        "both ends": np.tile([np.inf, -np.inf], n // 2),
    }
    later = table | {"new": some, "gone": values}
    columns = columns_of(write(tmp_path, "reference", table), write(tmp_path, "current", later))
    assert set(columns) == set(table)
    assert columns["same"]["reference"]["positive_infinity"] == 40
    assert columns["same"]["reference"]["negative_infinity"] == 20
    for name in ("new", "gone"):
        assert "infinities differ" in columns[name]["statistics"]["wasserstein"]["reason"]
        assert columns[name]["statistics"]["ks"]["value"] == pytest.approx(0.1)
    assert columns["same"]["statistics"]["wasserstein"]["value"] == pytest.approx(0, abs=1e-9)
    assert "no finite values" in columns["only"]["statistics"]["wasserstein"]["reason"]
    assert columns["only"]["reference"]["mean"] is None


@pytest.mark.parametrize("door", ["parquet", "arrow", "csv", "pandas"])
def test_a_name_that_occurs_twice_is_a_row_and_the_others_are_compared(good, tmp_path, door):
    numbers = pa.array(np.arange(500) % 7)
    table = pa.Table.from_arrays([numbers, numbers, numbers], names=["twice", "once", "twice"])
    if door == "pandas":
        frame = pd.DataFrame({0: range(500), 1: np.arange(500) % 7, 2: range(500)})
        frame.columns = ["twice", "once", "twice"]
        report = gd.compare(frame, frame)
        assert report["twice"].severity == "not judged"
        assert "2 times" in str(report["twice"].reason)
        assert report["once"].severity == "none"
        return
    path = tmp_path / f"twice.{door}"
    {
        "parquet": pq.write_table,
        "csv": pa.csv.write_csv,
        "arrow": lambda t, p: p.write_bytes(ipc_of(t)),
    }[door](table, path)
    columns = columns_of(path, path)
    assert columns["twice"]["severity"] == "not judged"
    assert "2 times" in columns["twice"]["reason"]
    assert columns["once"]["severity"] == "none"
    assert "2 times" in run("compare", path, path).out
    once = write(tmp_path, "once", {"twice": numbers, "once": numbers})
    assert columns_of(once, path)["twice"]["severity"] == "not judged"
    assert columns_of(path, once)["twice"]["severity"] == "not judged"


def test_10_000_categories_too_many_give_a_bound_that_says_so(tmp_path):
    draw = np.random.default_rng(0)
    before = [f"value {number}" for number in draw.integers(0, 14_096, 60_000)]
    after = [f"value {number}" for number in draw.integers(7000, 21_096, 60_000)]
    reference, current = write(tmp_path, "reference", {"v": before}), write(tmp_path, "current", {"v": after})
    (column,) = columns_of(reference, current).values()
    assert column["kind"] == "categorical"
    assert column["drifted"]
    assert column["statistics"]["psi"]["bound"] == "lower"
    assert any("not counted individually" in note for note in column["notes"])
    new = column["statistics"]["new"]
    known = set(before)
    assert new["low"] <= np.mean([text not in known for text in after]) <= new["high"]
    assert column["reference"]["distinct_exact"] is False
    assert column["reference"]["distinct"] == pytest.approx(len(known), rel=0.1)
    assert run("profile", reference, "-o", tmp_path / "p", "--quiet").status == DONE
    assert (tmp_path / "p").stat().st_size < 400_000
    assert gd.Profile.load(tmp_path / "p").counts.sum() == 60_000


def test_every_text_another_one_is_an_identifier_and_not_judged(tmp_path):
    path = write(tmp_path, "ids", {"id": [f"id-{n:06}" for n in range(10_000)], "x": np.arange(10_000) % 9})
    column = columns_of(path, path)["id"]
    assert (column["kind"], column["severity"]) == ("identifier", "not judged")
    assert "select it by name to judge it" in column["reason"]


def test_too_many_edges_are_one_line_with_the_column(good, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(f"[columns.age]\nedges = {list(range(MAX_BINS + 5))}\n")
    message = fails("compare", good, good, "--config", config)
    assert "'age'" in message
    assert str(MAX_BINS) in message


def test_names_with_markup_and_control_characters(tmp_path):
    names = [name for name in HOSTILE_NAMES if "\ud800" not in name] + [
        "\x1b]8;;http://x\x07link",
        "\x00",
        "\r",
        " ",
    ]
    table = pa.table({name: pa.array(np.arange(200) % 5) for name in names})
    reference, current = write(tmp_path, "a", table), write(tmp_path, "b", table.drop(names[:2]))
    assert set(columns_of(reference, current)) == set(names)
    assert findings(reference, current) == {(name, "dropped") for name in names[:2]}
    assert run("compare", reference, current, "--all").status == DONE  # ``run`` looks at every character
    assert run("profile", reference, "-o", tmp_path / "p").status == DONE
    assert run("info", tmp_path / "p").status == DONE
    for name in names:
        assert gd.compare(reference, reference)[name].severity == "none"


def test_a_name_that_is_no_text_at_all_is_no_crash():
    """A lone surrogate cannot be a name in Arrow; in a dict it can."""
    with pytest.raises(ValueError, match="surrogate") as caught:
        gd.compare({"\ud800": [1.0, 2.0]}, {"\ud800": [1.0, 2.0]})
    assert "\n" not in str(caught.value)


def test_columns_that_cannot_be_counted_are_rows_with_their_type(tmp_path):
    n = 100
    table = {
        "list": pa.array([[1]] * n),
        "struct": pa.array([{"a": 1}] * n),
        "bytes": pa.array([b"\xff"] * n),
        "fixed": pa.array([b"ab"] * n, pa.binary(2)),
        "map": pa.array([[("a", 1)]] * n, pa.map_(pa.string(), pa.int64())),
        "x": pa.array(np.arange(n) % 5),
    }
    path = write(tmp_path, "odd", table)
    columns = columns_of(path, path)
    for name, array in table.items():
        if name != "x":
            assert columns[name]["kind"] == "skipped"
            assert columns[name]["severity"] == "not judged"
            assert str(array.type).split("<", maxsplit=1)[0] in columns[name]["reason"]
    assert columns["x"]["severity"] == "none"
    del table["x"]
    assert "cannot be counted" in fails("compare", *[write(tmp_path, "all odd", table)] * 2)
