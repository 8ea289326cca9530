"""Folders: what lies beside data is no data, tables of lakes are no folders of files, and keys have types."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sources import one_line, types, values, write

import gpudrift
from gpudrift.sources import absolute, find_source, is_uri, open_source
from gpudrift.sources.keys import key_type, key_values

ROWS = pa.table({"i": [1, 2]})


# --- beside the data


@pytest.mark.parametrize(
    "beside",
    ["README.txt", "readme.csv", "LICENSE.txt", "LICENSE-2.0.txt", "_SUCCESS", "schema.json", "part-0.parquet.crc",
     "SHA256SUMS", "md5sums.txt", "notes.txt", "sub/README.txt"],
)  # fmt: skip
@pytest.mark.parametrize("extension", ["parquet", "arrow"])
def test_texts_beside_data_are_passed_over(tmp_path, beside, extension):
    write(tmp_path / f"part-0.{extension}", ROWS)
    (tmp_path / beside).parent.mkdir(exist_ok=True)
    (tmp_path / beside).write_text("Ask Ada.\n")
    assert open_source(tmp_path).files == (f"{tmp_path}/part-0.{extension}",)


@pytest.mark.parametrize("beside", ["README.txt", "LICENSE", "checksums.txt", "Changelog.txt", "README.txt.gz"])
def test_texts_beside_csv_are_known_by_their_names(tmp_path, beside):
    write(tmp_path / "part-0.csv", ROWS)
    (tmp_path / beside).write_text("Ask, Ada.\n1,2\n")
    assert open_source(tmp_path).files == (f"{tmp_path}/part-0.csv",)
    write(tmp_path / "readings.csv", ROWS)
    assert len(open_source(tmp_path).files) == 2, "only whole names are known"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.parquet", "b.parquet", "notes.csv"], ["all files must be of one format", "*.parquet'", "*.csv'"]),
        (["a.parquet", "sub/b.csv.gz"], ["/*.parquet'", "/**/*.csv.gz'"]),
        (["a.csv", "notes.txt"], ["data, as", "*.csv'", "*.txt'"]),
        (["a.arrow", "b.parquet"], ["*.arrow'", "*.parquet'"]),
    ],
)
def test_a_mix_is_an_error_that_names_globs_which_help(tmp_path, names, words):
    for name in names:
        write(tmp_path / name.replace(".gz", "").replace(".txt", ".csv"), ROWS)
        made = tmp_path / name.replace(".gz", "").replace(".txt", ".csv")
        if made.name != name.rpartition("/")[2]:
            made.rename(tmp_path / name)
    with pytest.raises(ValueError, match="give one kind of them") as error:
        open_source(tmp_path)
    line = one_line(error, *words)
    globs = [word for word in str(error.value).split("'") if "*" in word]
    assert len(globs) == 2, line
    for glob in globs:
        assert find_source([glob]).files, "each glob names files"


def test_a_file_that_is_named_is_read_whatever_it_is_called(tmp_path):
    write(tmp_path / "README.csv", ROWS)
    (tmp_path / "README.csv").rename(tmp_path / "README.txt")
    assert values(open_source(tmp_path / "README.txt")) == {"i": [1, 2]}
    with pytest.raises(FileNotFoundError, match="no data files"):
        open_source(tmp_path)


# --- tables of lakes


MARKS = {
    "Delta": ("_delta_log/00000000000000000000.json",),
    "Hudi": (".hoodie/hoodie.properties",),
    "Iceberg": ("metadata/00001-x.metadata.json",),
}


@pytest.mark.parametrize("form", MARKS)
def test_a_table_is_never_read_as_plain_files(tmp_path, form):
    table = tmp_path / "lake" / "sales"
    for name in ("data/k=1/a.parquet", "data/b.parquet", "c.parquet"):
        write(table / name, ROWS)
    for name in MARKS[form]:
        (table / name).parent.mkdir(parents=True)
        (table / name).write_text("{}")
    write(tmp_path / "lake" / "plain" / "d.parquet", ROWS)
    inside = [
        *(f"{tmp_path}/{below}" for below in ("lake", "**/*.parquet", "lake/*", "*/sales/data/*.parquet")),
        *(f"{table}/{below}" for below in ("*.parquet", "data", "data/k=1")),
        [f"{table}/data", f"{tmp_path}/lake/plain"],
        [f"{table}/c.parquet", f"{table}/data/b.parquet"],
    ]
    for path in inside:
        with pytest.raises(ValueError, match=f"is an? {form} table") as error:
            open_source(path)
        one_line(error, "sales'", "Arrow table" if form == "Hudi" else "alone")
    assert open_source(f"{tmp_path}/lake/plain").rows == 2
    assert open_source(f"{table}/c.parquet").rows == 2, "one file, asked for by its name, is that file"


def test_hudi_names_the_door(tmp_path):
    (tmp_path / ".hoodie").mkdir()
    write(tmp_path / "a.parquet", ROWS)
    with pytest.raises(ValueError, match="is a Hudi table") as error:
        open_source(tmp_path)
    one_line(error, "hudi", "from_batches", "read_snapshot")


def test_folders_whose_names_only_look_so(tmp_path):
    write(tmp_path / "metadata" / "a.parquet", ROWS)
    write(tmp_path / "data" / "b.parquet", ROWS)
    assert open_source(tmp_path).rows == 4
    assert open_source(tmp_path / "data").rows == 2


@pytest.mark.parametrize(("form", "library"), [("Delta", "deltalake"), ("Iceberg", "pyiceberg")])
def test_without_the_library_one_line_names_what_to_install(tmp_path, form, library):
    for name in MARKS[form]:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{}")
    code = f"""
import sys
sys.modules[{library!r}] = None
import gpudrift.sources
try:
    gpudrift.sources.open_source({str(tmp_path)!r})
except ModuleNotFoundError as error:
    print(error)
assert not any(name.partition(".")[0] in ("deltalake", "pyiceberg") and sys.modules[name] for name in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert f"pip install 'gpudrift[{form.lower()}]'" in done.stdout


@pytest.mark.parametrize("address", ["delta:", "iceberg:"])
def test_addresses(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    assert absolute(f"{address}///a/b@12") == f"{address}/a/b@12"
    assert absolute(f"{address}//b@12") == absolute(f"{address}b@12") == f"{address}{tmp_path}/b@12"
    assert is_uri(f"{address}s3://bucket/b@12")
    assert not is_uri(f"{address}///a")
    with pytest.raises(FileNotFoundError, match="no such file"):
        open_source(f"{address}nope@3")
    (tmp_path / "plain").mkdir()
    with pytest.raises(ValueError, match="no table of a lake"):
        open_source(f"{address}plain")
    with pytest.raises(ValueError, match="read alone"):
        open_source([f"{address}plain", "x.parquet"])


# --- an empty path


def test_an_empty_path_is_not_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.parquet", ROWS)
    for given_ in ("", [""], ["a.parquet", ""], b""):
        with pytest.raises((ValueError, TypeError), match=r"path is empty|cannot read"):
            open_source(given_)
    with pytest.raises(ValueError, match="path is empty"):
        absolute("")
    with pytest.raises(ValueError, match="path is empty"):
        gpudrift.compare("a.parquet", "")
    assert open_source(".").rows == 2


# --- keys


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "-20", "0"], pa.int64()),
        (["9223372036854775807", "-9223372036854775808"], pa.int64()),
        (["9223372036854775808"], pa.string()),
        (["007", "12"], pa.string()),
        (["00"], pa.string()),
        (["-01"], pa.string()),
        (["+1"], pa.string()),
        (["1", None], pa.int64()),
        (["", "1"], pa.string()),
        (["2025-01-01", None, "1970-12-31"], pa.date32()),
        (["2025-02-30"], pa.string()),
        (["2025-1-1"], pa.string()),
        (["2025-01-01", "x"], pa.string()),
        (["2025-01-01 05:00:00", "2025-01-01T06:30"], pa.timestamp("us")),
        (["2025-01-01T05:00:00Z"], pa.timestamp("us", "UTC")),
        (["2025-01-01T05:00:00Z", "2025-01-01T05:00:00"], pa.string()),
        (["2025-01-01T25:00:00"], pa.string()),
        (["٣"], pa.string()),
        ([None], pa.string()),
    ],
)
def test_types_of_keys(texts, kind):
    assert key_type(texts) == kind
    assert [value.is_valid for value in key_values(texts, kind)] == [text is not None for text in texts]


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), min_size=1))
def test_integers_come_back(numbers):
    texts = [None if number is None else str(number) for number in numbers]
    assert [value.as_py() for value in key_values(texts, pa.int64())] == numbers
    assert key_type(texts) == (pa.int64() if any(texts) else pa.string())


@given(st.lists(st.dates(), min_size=1))
def test_dates_come_back(dates):
    texts = [date.isoformat() for date in dates]
    assert key_type(texts) == pa.date32()
    assert [value.as_py() for value in key_values(texts, pa.date32())] == dates


@pytest.mark.parametrize("extension", ["parquet", "csv", "arrow"])
def test_keys_are_typed_like_the_reference(tmp_path, extension):
    for folder in ("k=007/d=2025-01-01", "k=010/d=2025-01-02"):
        write(tmp_path / folder / f"a.{extension}", ROWS)
    source = open_source(tmp_path)
    assert types(source) == {"i": pa.int64(), "k": pa.string(), "d": pa.date32()}
    wanted = {"k": pa.int64(), "d": pa.timestamp("us"), "other": pa.string()}
    made = source.with_types(wanted)
    assert types(made) == {"i": pa.int64(), "k": pa.int64(), "d": pa.timestamp("us")}
    assert values(made)["k"] == [7, 7, 10, 10]
    assert values(made)["d"] == [dt.datetime(2025, 1, 1)] * 2 + [dt.datetime(2025, 1, 2)] * 2
    assert types(source.with_types({"k": pa.float64(), "d": pa.string()})) | {"i": 0} == {
        "i": 0, "k": pa.float64(), "d": pa.string(),
    }  # fmt: skip
    assert types(source.with_types({"k": pa.bool_(), "d": pa.int64()})) == types(source), "which they are not"


def test_a_reference_with_the_key_as_a_column(tmp_path):
    for folder in ("store=007", "store=042"):
        write(tmp_path / "lake" / folder / "a.parquet", ROWS)
    schema = gpudrift.fit({"i": [1, 2] * 20, "store": [7, 42] * 20})
    expected = gpudrift.profile({"i": [1, 2, 1, 2], "store": [7, 7, 42, 42]}, schema=schema)
    assert gpudrift.profile(tmp_path / "lake", schema=schema).digest == expected.digest
