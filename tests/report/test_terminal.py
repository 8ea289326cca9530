"""The terminal report: every line fits, nothing hostile comes through, pictures are right."""

from __future__ import annotations

import io
import re
from collections import Counter
from copy import deepcopy
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from support.example_document import column_of, example_document, histogram

from gpudrift.report import comparison as terminal
from gpudrift.report.comparison import render, write
from gpudrift.report.text import plain

WIDTHS = (80, 100, 120, 200)
BLOCKS = " ▁▂▃▄▅▆▇█"


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def drawn(document: dict[str, Any], width: int = 120, **options: Any) -> list[str]:
    file = io.StringIO()
    write(document, file, width=width, **options)
    return file.getvalue().splitlines()


def small(*columns: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Make a document of these columns only; undecided ones are among the judged, as in every document."""
    judged = [column for column in columns if column["severity"] not in ("not judged", "too few rows")]
    drifted = sum(column["drifted"] for column in columns)
    counts = {"columns": len(columns), "judged": len(judged), "drifted": drifted}
    share = drifted / len(judged) if judged else None
    return example_document() | {"columns": list(columns), "schema": [], "summary": counts | {"share": share}} | changes


def row_of(name: str, lines: list[str]) -> str:
    (row,) = [line for line in lines if re.match(rf"\S (major|moderate|undecided|none) +{re.escape(name)}(  |$)", line)]
    return row


def pictures_of(name: str, lines: list[str]) -> tuple[str, str]:
    (titles,) = [line for line in lines if line.startswith("severity")]
    row = row_of(name, lines)
    starts = [titles.index("reference"), titles.index("current"), titles.index("PSI") - 4]
    assert starts[1] - 2 - starts[0] == 16
    return row[starts[0] : starts[1] - 2], row[starts[1] : starts[2]][: starts[1] - 2 - starts[0]]


# --- what is drawn


@pytest.mark.parametrize("width", [20, 40, 60, 79, *WIDTHS])
@pytest.mark.parametrize("options", [{}, {"columns": None, "verbose": True}, {"columns": 3}])
def test_every_line_fits_and_is_harmless(width: int, options: dict[str, Any]) -> None:
    lines = drawn(example_document(), width, **options)
    assert len(lines) > 20
    for line in lines:
        assert cell_len(line) <= width, line
        assert plain(line) == line
        assert line == line.rstrip()


@pytest.mark.parametrize("width", WIDTHS)
def test_hostile_names_appear_literally(width: int) -> None:
    text = "\n".join(drawn(example_document(), width, columns=None))
    assert row_of("[red]x[/red]", text.splitlines())
    for shown in (
        "a\\x1b[31mb",
        "\\u202egpj.e",
        "two\\nlines",
        "\\x9b2Jc1",
        "\\ud800 lo",
        "mood 🙂🚀",
        "売上_",
    ):
        assert shown in text, shown
    assert "zip\\x1b]0;owned\\x07" in text
    assert "today/pay\\x1b[2Jments.parquet" in text
    assert re.search(r"long_n+…n+  ", text)


def test_hostile_reasons_types_and_sources_are_harmless() -> None:
    document = small(
        column_of("a", "real", "major", "psi \x1b[2J ≥ [bold]0.25[/bold]"),
        column_of("b", "skipped", "not judged", "type\n\x1b[2J [link=x]y[/link]"),
        schema=[{"column": "[b]", "finding": "type changed", "reference": "\x1b[1m", "current": "[i]"}],
    )
    document["backend"] = "[red]numba"
    lines = drawn(document, 200, verbose=True)
    text = "\n".join(lines)
    assert all(plain(line) == line for line in lines)
    assert "psi \\x1b[2J ≥ [bold]0.25[/bold]" in text
    assert "type\\n\\x1b[2J [link=x]y[/link]" in text
    assert "\\x1b[1m → [i]" in text
    assert "counted by [red]numba" in text


@pytest.mark.parametrize("width", WIDTHS)
def test_the_headline_says_what_was_compared_and_the_verdict(width: int) -> None:
    lines = drawn(example_document(), width)
    assert re.fullmatch(r"reference  (s3://|…/)warehouse/\S+ +12,400,000 rows in 31 files", lines[0])
    assert re.fullmatch(r"current    today/pay\S+ +1,310,442 rows in 1 file", lines[1])
    told = " ".join(" ".join(lines[3:6]).split())
    assert told.startswith("● 8 of 38 columns that could be judged drifted (21 %) 4 major 4 moderate 1 undecided")
    assert "1 with too few rows 40 not judged 4 schema changes" in told


@pytest.mark.parametrize(
    ("columns", "sentence", "colour"),
    [
        (
            [column_of("a", "real", "major", "psi"), column_of("b")],
            "1 of 2 judged columns drifted (50 %)",
            "31",
        ),
        ([column_of("a", "real", "moderate", "psi")], "1 of 1 judged column drifted (100 %)", "33"),
        ([column_of("a"), column_of("b")], "None of 2 judged columns drifted", "32"),
        ([column_of("a", "clock", "not judged", "order")], "No column could be judged", "33"),
        ([], "No column could be judged", "33"),
    ],
)
def test_the_verdict_and_its_colour(columns: list[dict[str, Any]], sentence: str, colour: str) -> None:
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=True, color_system="standard")
    console.print(render(small(*columns)))
    assert f"\x1b[1;{colour}m● {sentence}\x1b[0m" in file.getvalue()


def undecided(name: str) -> dict[str, Any]:
    return column_of(name, "real", "undecided", "KS is at least 0.1, the limit is 0.1")


def few(name: str) -> dict[str, Any]:
    return column_of(name, "real", "too few rows", "4 and 5 values: not even a complete change would be beyond chance")


@pytest.mark.parametrize(
    ("columns", "sentence", "colour"),
    [
        (
            [*(column_of(f"d{n}", "real", "major", "psi") for n in range(2)), *(few(f"f{n}") for n in range(1500))],
            "2 of 2 columns that could be judged drifted; 1,500 have too few rows",
            "31",
        ),
        ([column_of("a"), few("b"), few("c")], "None of 1 column that could be judged drifted; 2 have", "33"),
        ([few("a"), undecided("b")], "No column could be judged; 1 has too few rows and 1 is undecided", "33"),
        (
            [column_of("a", "real", "moderate", "psi"), *(undecided(f"u{n}") for n in range(3))],
            "1 of 1 column that could be judged drifted; 3 are undecided",
            "33",
        ),
        (
            [column_of("a", "real", "moderate", "psi"), column_of("b"), undecided("c")],
            "1 of 2 columns that could be judged drifted (50 %)",
            "33",
        ),
    ],
)
def test_columns_that_could_not_be_judged_are_not_counted_as_judged(
    columns: list[dict[str, Any]], sentence: str, colour: str
) -> None:
    file = io.StringIO()
    console = Console(file=file, width=160, force_terminal=True, color_system="standard")
    console.print(render(small(*columns)))
    assert f"\x1b[1;{colour}m● {sentence}" in file.getvalue()


def test_columns_with_too_few_rows_are_listed_by_reason_and_are_no_rows_of_the_table() -> None:
    lines = drawn(small(column_of("d", "real", "major", "psi"), *(few(f"f{n}") for n in range(99))), 80)
    start = lines.index("Too few rows")
    assert lines[start + 1] == "  4 and 5 values: not even a complete change would be beyond chance"
    assert re.match(r"      f0  f1  .*  … and \d+ more$", lines[start + 2])
    assert not any("more columns" in line for line in lines)
    assert not any(line.startswith("histograms") for line in drawn(small(few("a")), 80))


def test_schema_findings_come_one_a_line_and_are_capped() -> None:
    lines = drawn(example_document(), 100)
    start = lines.index("Schema")
    assert [line.split() for line in lines[start + 1 : start + 5]] == [
        ["+", "signup_channel", "added", "string"],
        ["−", "legacy_flag", "dropped", "bool"],
        ["~", "zip\\x1b]0;owned\\x07", "type", "changed", "int32", "→", "string"],
        ["~", "weight", "unit", "changed", "kg", "→", "g"],
    ]
    many = [{"column": f"c{n}", "finding": "added", "reference": None, "current": "bool"} for n in range(1234)]
    lines = drawn(example_document() | {"schema": many})
    assert "  … and 1,224 more" in lines
    assert sum(line.startswith("  + c") for line in lines) == 10
    lines = drawn(example_document() | {"schema": many[:60]}, verbose=True)
    assert sum(line.startswith("  + c") for line in lines) == 60
    assert "Schema" not in drawn(example_document() | {"schema": []})


def test_pictures_go_before_numbers_and_reasons_never() -> None:
    titles = {
        width: next(line for line in drawn(example_document(), width) if line.startswith("severity")).split()
        for width in (40, 60, *WIDTHS, 300)
    }
    everything = ["kind", "reference", "current", "PSI", "W/σ", "V", "new", "KS", "missing", "why"]
    assert titles[300] == ["severity", "column", *everything]
    pictures = {"reference", "current", "ref", "cur"}
    for width in (60, *WIDTHS):
        if not pictures & set(titles[width]):
            assert "kind" not in titles[width]
        else:
            assert "PSI" in titles[width]
    kept = [len({"PSI", "W/σ", "V", "new", "KS"} & set(titles[width])) for width in sorted(titles)]
    assert kept[0] < kept[-1] == 5


def test_order_is_kept_and_drifted_columns_come_first_when_there_are_too_many() -> None:
    columns = [column_of(f"q{n}") for n in range(5)]
    columns.insert(1, column_of("d0", "real", "moderate", "psi"))
    columns.insert(4, column_of("d1", "real", "major", "psi"))

    def names(most: int | None) -> list[str]:
        lines = drawn(small(*columns), columns=most)
        return re.findall(r"^\S (?:major|moderate|none) +(\w+)", "\n".join(lines), re.MULTILINE)

    assert names(None) == names(7) == [column["name"] for column in columns]
    assert names(1) == ["d0"]
    assert names(2) == ["d0", "d1"]
    assert names(4) == ["q0", "d0", "q1", "d1"]
    assert names(0) == []


@pytest.mark.parametrize(
    ("most", "sentence"),
    [
        (20, "… and 19 more columns (none drifted; --all shows them)"),
        (5, "… and 34 more columns (3 of them drifted; --all shows them)"),
        (38, "… and 1 more column (none drifted; --all shows them)"),
        (0, "… and 39 more columns (8 of them drifted; --all shows them)"),
    ],
)
def test_what_is_left_out_is_counted(most: int, sentence: str) -> None:
    assert sentence in drawn(example_document(), columns=most)


def test_nothing_is_left_out_when_all_is_asked_for() -> None:
    assert not [line for line in drawn(example_document(), columns=None) if "--all" in line]
    assert not [line for line in drawn(example_document(), columns=40) if "--all" in line]


def test_of_thousands_of_columns_only_what_is_shown_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Counter[str] = Counter()

    def counting(name: str) -> Any:
        real = getattr(terminal, name)

        def call(*given: Any) -> Any:
            made[name] += 1
            return real(*given)

        return call

    for name in ("_cells", "_pictures"):
        monkeypatch.setattr(terminal, name, counting(name))
    lines = drawn(example_document(5000))
    assert "… and 4,939 more columns (none drifted; --all shows them)" in lines
    assert made["_cells"] == made["_pictures"] == 20


# --- numbers


def test_numbers_of_a_row() -> None:
    lines = drawn(example_document(), 200, columns=None)
    (titles,) = [line for line in lines if line.startswith("severity")]

    def cells(name: str) -> dict[str, str]:
        """The numbers of a row, by what stands above them."""
        row = "".join(character * max(cell_len(character), 0) for character in row_of(name, lines))
        ends = {title: re.search(rf"(?<= ){title}(?= |$)", titles).end() for title in ("PSI", "W/σ", "V", "new", "KS")}
        return {title: row[:end].split("  ")[-1].strip() for title, end in ends.items()}

    assert cells("amount_usd") == {"PSI": "1.84", "W/σ": "1.27", "V": "", "new": "", "KS": "0.920"}
    assert cells("merchant_category") == {"PSI": "0.420", "W/σ": "", "V": "0.310", "new": "31 %", "KS": ""}
    assert cells("payment_method") == {"PSI": "0.120", "W/σ": "", "V": "0.094", "new": "", "KS": ""}
    assert cells("constant_before") == {"PSI": "0.110", "W/σ": "–", "V": "", "new": "", "KS": "0.055"}
    assert cells("a\\x1b[31mb") == {"PSI": "0.090", "W/σ": "0.262", "V": "", "new": "", "KS": "0.045"}
    assert row_of("amount_usd", lines).endswith("  PSI 1.84 ≥ 0.25")


def test_reasons_are_shortened_and_go_on_under_themselves() -> None:
    lines = drawn(example_document(), 80)
    row = row_of("[red]x[/red]", lines)
    following = lines[lines.index(row) + 1]
    assert row.endswith("  missing 0% → 52%;")
    assert following == " " * row.index("missing") + "PSI 0.31 ≥ 0.25"
    assert row_of("a\\x1b[31mb", lines).endswith("  W/σ 0.262 ≥ 0.25")
    assert row_of("[red]x[/red]", drawn(example_document(), 200)).endswith("  missing 0% → 52%; PSI 0.31 ≥ 0.25")


def test_missing_is_shown_where_it_matters() -> None:
    columns = [
        column_of("more", "real", "major", "missing", missing=(0.0, 0.52)),
        column_of("as_before", missing=(0.031, 0.032)),
        column_of("all", missing=(1.0, 1.0)),
        column_of("nothing"),
    ]
    lines = drawn(small(*columns), 150)
    assert "  0 % → 52 %  missing" in row_of("more", lines)
    assert row_of("as_before", lines).endswith("  3.2 %")
    assert "→" not in row_of("as_before", lines)
    assert row_of("all", lines).endswith("  100 %")
    assert "%" not in row_of("nothing", lines)
    assert "missing" not in next(line for line in drawn(small(columns[-1]), 150) if line.startswith("severity"))


def test_numbers_are_aligned_right() -> None:
    lines = drawn(example_document(), 120, columns=None)
    (titles,) = [line for line in lines if line.startswith("severity")]
    end = titles.index("PSI") + 3
    rows = [line for line in lines if re.match(r"\S (major|moderate|undecided|none|too few) ", line)]
    assert len(rows) == 39
    for row in rows:
        cells = "".join(character * max(cell_len(character), 0) for character in row)
        assert cells[end - 1].isdigit()
        assert cells[end : end + 2] == "  "


# --- pictures


def test_all_mass_in_one_bin() -> None:
    spike = [0.0] * 64
    spike[21] = 1.0
    lines = drawn(small(column_of("x", distribution=histogram([1 / 64] * 64, spike))), 160)
    reference, current = pictures_of("x", lines)
    assert reference == "▁" * 16
    assert current == " " * 5 + "█" + " " * 10


def test_pictures_share_one_scale() -> None:
    distribution = histogram([0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25])
    reference, current = pictures_of("x", drawn(small(column_of("x", distribution=distribution)), 160))
    assert reference.rstrip() == "██"
    assert current.rstrip() == "▄▄▄▄"


def test_values_are_drawn_by_size_and_in_order() -> None:
    reference = [0.02] * 30 + [0.4]
    current = [0.01] * 29 + [0.71, 0.0]
    distribution = {"values": [str(n) for n in range(31)], "reference": reference, "current": current}
    before, after = pictures_of("x", drawn(small(column_of("x", "categorical", distribution=distribution)), 160))
    assert len(before) == len(after) == 16
    assert before[-2:] == "▁▅"
    assert after[-2:] == "█ "
    assert set(after[:14]) == {"▁"}


def test_columns_without_a_picture() -> None:
    empty = column_of("empty", distribution=histogram([0.0] * 4, [0.0] * 4))
    lines = drawn(small(empty, column_of("none_at_all") | {"distribution": None}), 160)
    for name in ("empty", "none_at_all"):
        assert not set(row_of(name, lines)) & set(BLOCKS[1:])


# --- what was not judged


def test_not_judged_columns_are_grouped_by_reason() -> None:
    lines = drawn(example_document(), 120)
    listed = lines[lines.index("Not judged") + 1 :]
    assert listed[0] == "  identifier: its values rarely repeat (select it by name to judge it)"
    assert listed[1].startswith("      user_id  order_id  session_id  trace_00")
    shown = len(re.split("  +", listed[1].strip())) - 1
    assert listed[1].endswith(f"  … and {33 - shown} more")
    assert listed[2] == "  row-order column, e.g. a timestamp: it always differs (select it by name to judge it)"
    assert listed[3] == "      created_at  row_number"
    assert [line.strip() for line in listed[6:10]] == [
        *("added", "signup_channel"),
        *("dropped: the current table has no such column", "legacy_flag"),
    ]
    everything = " ".join(drawn(example_document(), 120, verbose=True))
    assert all(f"trace_{place:02}_\\x07uuid" in everything for place in range(30))


def test_too_many_reasons_are_counted() -> None:
    columns = [column_of(f"c{n}", "skipped", "not judged", f"reason {n // 2}") for n in range(30)]
    columns += [column_of(f"x{n}", "clock", "not judged", "the most frequent") for n in range(3)]
    lines = drawn(small(*columns))
    assert lines[lines.index("Not judged") + 1].split() == ["the", "most", "frequent", "x0", "x1", "x2"]
    assert "  … and 16 more, for other reasons" in lines
    assert sum(bool(re.match(r"  reason \d+ +c\d+  c\d+$", line)) for line in lines) == 7


# --- legend and provenance


def test_the_legend_names_what_is_shown_and_the_thresholds() -> None:
    text = " ".join(drawn(example_document(), 240))
    assert "moderate / major from  PSI, W/σ 0.1 / 0.25  missing, new 5 % / 20 %" in text
    assert "(alpha 0.05)" in text
    assert "KS: largest difference" in text
    assert "KS: largest difference" not in " ".join(drawn(example_document(), 80))
    assert "PSI: population stability index" in " ".join(drawn(example_document(), 40))  # reasons say it
    assert "Cramér" not in " ".join(drawn(small(column_of("a")), 200))


@pytest.mark.parametrize(
    "thresholds",
    [{"psi": [0.15, 0.3]}, {"*": {"psi": [0.15, 0.3]}, "age": {"psi": [0.2, 0.4]}}],
)
def test_thresholds_may_come_in_other_forms(thresholds: dict[str, Any]) -> None:
    document = example_document() | {"parameters": {"alpha": 0.01, "thresholds": thresholds}}
    text = " ".join(drawn(document, 200))
    assert "moderate / major from  PSI 0.15 / 0.3  and above the noise floor (alpha 0.01)" in text


@pytest.mark.parametrize("thresholds", [{}, {"psi": 0.1}, {"psi": "ab"}, {"psi": {}}, {"*": 3}])
def test_thresholds_of_an_unknown_form_are_left_out(thresholds: dict[str, Any]) -> None:
    document = example_document() | {"parameters": {"alpha": 0.05, "thresholds": thresholds}}
    assert "moderate / major from  and above the noise floor" in " ".join(drawn(document, 200))


def test_verbose_says_where_the_numbers_come_from() -> None:
    document = example_document()
    short, long = drawn(document), drawn(document, verbose=True)
    assert "counted by numba, gpudrift 0.2.0, 2026-11-23T10:00:00+00:00" in short
    for digest in (
        document["schema_digest"],
        *(document[side]["fingerprint"] for side in ("reference", "current")),
    ):
        assert any(line.endswith(f"  {digest}") for line in long)
        assert not any(digest in line for line in short)
    assert any(line.startswith("versions ") and "numpy 2.3.1" in line for line in long)


# --- the stream


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437"])
@pytest.mark.parametrize("width", [60, *WIDTHS])
def test_ascii_where_the_encoding_has_no_blocks(encoding: str, width: int) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    write(example_document(), file, width=width, columns=None, verbose=True)
    file.flush()
    lines = raw.getvalue().decode(encoding).splitlines()
    assert all(cell_len(line) <= width for line in lines)
    assert not set("".join(lines)) & set(BLOCKS[1:] + "●○→≥·")
    assert any(line.startswith("* major ") for line in lines)
    assert any("\\u58f2" in line for line in lines)
    if width == 200:
        assert any(".-*@@#*=-...." in line or re.search(r"amount_usd.*[.:\-=+*#@]{8}", line) for line in lines)


def test_ascii_pictures_are_the_same_pictures() -> None:
    document = small(column_of("x", distribution=histogram([0.125 * n for n in range(9)], [0.0] * 9)))
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    write(document, file, width=160)
    file.seek(0)
    assert " .:-=+*#@ " in row_of("x", file.read().splitlines())


def test_no_escape_leaves_for_a_stream_that_is_no_terminal() -> None:
    assert "\x1b" not in "\n".join(drawn(example_document()))


class Terminal(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


def test_colour_on_a_terminal_but_not_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    colours = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7])m")
    coloured = Terminal()
    write(example_document(), coloured, width=100)
    assert colours.search(coloured.getvalue())
    monkeypatch.setenv("NO_COLOR", "1")
    quiet = Terminal()
    write(example_document(), quiet, width=100)
    assert not colours.search(quiet.getvalue())
    without = re.compile(r"\x1b\[[\d;]*m")
    lines = drawn(example_document(), 100)
    assert without.sub("", quiet.getvalue()).splitlines() == lines
    assert without.sub("", coloured.getvalue()).splitlines() == lines


def test_the_document_is_not_changed_and_drawing_twice_gives_the_same() -> None:
    document = example_document()
    before = deepcopy(document)
    assert drawn(document) == drawn(document)
    assert document == before


def test_render_takes_the_smaller_of_its_width_and_the_console_s() -> None:
    for own, console_width in ((80, 120), (120, 80), (None, 80)):
        file = io.StringIO()
        Console(file=file, width=console_width).print(render(example_document(), width=own))
        assert file.getvalue().splitlines() == drawn(example_document(), 80)
