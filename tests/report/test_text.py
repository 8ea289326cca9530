"""Hostile text becomes harmless, numbers stay short and honest, pictures have the heights of their shares."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text
from support.example_document import HOSTILE_NAMES

from gpudrift.report.text import Paper, bars, counted, number_text, plain, resampled, share_text

FORBIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)


def is_harmless(text: str) -> bool:
    return not any(unicodedata.category(character) in FORBIDDEN for character in text)


def test_every_character_that_a_terminal_may_obey_is_spelled_out() -> None:
    numbers = [*range(0x3000), *range(0xD7A0, 0xE100), *range(0xF800, 0x10000), *range(0xE0000, 0xE1000)]
    numbers += range(0x3000, sys.maxunicode + 1, 31)
    forbidden = [character for character in map(chr, numbers) if not is_harmless(character)]
    assert len(forbidden) > 20_000
    for character in forbidden:
        before, shown = plain("x" + character)[0], plain("x" + character)[1:]
        assert before == "x"
        assert shown.isascii(), ascii(character)
        assert shown.isprintable(), ascii(character)
        assert shown.startswith("\\"), ascii(character)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("two\nlines\tand\r", "two\\nlines\\tand\\r"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("a\xa0b", "a\\xa0b"),
        ("x\ufe0f\u3164", "x\\ufe0f\\u3164"),
        ("[red]x[/red]", "[red]x[/red]"),
        ("売上 Größe 🙂", "売上 Größe 🙂"),
        ("e\u0301", "e\u0301"),
        ("\u0301e", "\\u0301e"),
        ("e" + 4 * "\u0301", "e" + 3 * "\u0301" + "\\u0301"),
    ],
)
def test_spelling(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(ANY_TEXT, st.none() | st.integers(0, 30), st.sampled_from(["utf-8", "ascii", "latin-1", "cp437"]))
def test_plain_text_is_harmless_fits_and_can_be_written(text: str, limit: int | None, encoding: str) -> None:
    shown = plain(text, limit, encoding)
    assert is_harmless(shown)
    assert limit is None or cell_len(shown) <= limit
    assert shown.encode(encoding).decode(encoding) == shown
    assert plain(shown, limit, encoding) == shown


@given(ANY_TEXT)
def test_what_fits_is_not_cut(text: str) -> None:
    whole = plain(text)
    assert plain(text, max(cell_len(whole), len(text))) == whole


def test_cut_text_says_so_and_counts_wide_characters_twice() -> None:
    assert plain("abcdef", 6) == "abcdef"
    assert plain("abcdef", 5) == "abcd…"
    assert plain("売上売上", 8) == "売上売上"
    assert plain("売上売上", 7) == "売上売…"
    assert plain("売上売上", 6) == "売上…"
    assert plain("abcdef", 5, "ascii") == "ab..."
    assert plain("e\u0301\u0301\u0301" * 9, 9) == "e\u0301\u0301\u0301" * 9
    assert plain("x" * 10_000_000, 4) == "xxx…"
    assert plain("e" + "\u0301" * 10_000_000, 1) == "…"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0"),
        (1e-9, "<0.001"),
        (-1e-9, ">-0.001"),
        (0.00051, "0.001"),
        (0.0312, "0.031"),
        (0.9994, "0.999"),
        (0.9996, "1.00"),
        (-0.25, "-0.250"),
        (1.2345, "1.23"),
        (9.996, "10.0"),
        (99.96, "100"),
        (999.4, "999"),
        (999.6, "1e3"),
        (12345, "1.23e4"),
        (1.7e308, "1.7e308"),
    ],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert number_text(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (None, "–"),
        (0.0, "0 %"),
        (1e-12, "<0.01 %"),
        (0.0312, "3.1 %"),
        (0.00031, "0.031 %"),
        (4 / 31, "13 %"),
        (0.0996, "10 %"),
        (0.994, "99.4 %"),
        (0.99999, ">99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_shares(share: float | None, shown: str) -> None:
    assert share_text(share) == shown


@given(st.floats(0, 1))
def test_only_nothing_is_0_and_only_all_is_100(share: float) -> None:
    assert (share_text(share) == "0 %") == (share == 0)
    assert (share_text(share) == "100 %") == (100 * share == 100)
    assert len(share_text(share)) <= 8


def test_counts_have_their_noun() -> None:
    assert [counted(n, "row") for n in (0, 1, 12_400)] == ["0 rows", "1 row", "12,400 rows"]


def test_bars_have_the_heights_of_their_shares() -> None:
    assert bars([0, 1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, 1], 1) == " ▁▂▃▄▅▆▇█"
    assert bars([1e-300, 0.126], 1) == "▁▂"
    assert bars([0.0, 0.0], 0) == "  "


@given(st.lists(st.integers(0, 1000), max_size=64), st.integers(1, 20))
def test_resampling_averages_whole_bins(counts: list[int], cells: int) -> None:
    means = resampled(counts, cells)
    assert len(means) == min(cells, len(counts))
    if counts and len(counts) % len(means) == 0:
        assert sum(means) * (len(counts) // len(means)) == pytest.approx(sum(counts))
    assert not counts or min(counts) <= min(means) <= max(means) <= max(counts)


def test_resampling_is_not_ragged_and_keeps_a_spike_in_one_cell() -> None:
    assert resampled([1 / 50] * 50, 16) == pytest.approx([1 / 50] * 16)
    spike = [0.0] * 64
    spike[37] = 1.0
    assert [place for place, height in enumerate(resampled(spike, 16)) if height] == [37 // 4]


@given(st.lists(st.sampled_from(HOSTILE_NAMES), max_size=12), st.integers(0, 8), st.integers(60, 90))
def test_flow_keeps_pieces_whole_and_in_order(names: list[str], hanging: int, width: int) -> None:
    paper = Paper(width)
    pieces = [paper.name(name, 40) for name in names]
    lines = [line.plain for line in paper.flow(map(Text, pieces), hanging=hanging)]
    assert all(cell_len(line) <= width for line in lines)
    assert all(line.startswith(" " * hanging) for line in lines[1:])
    assert [piece for line in lines for piece in line.strip().split("  ")] == pieces


def test_a_phrase_is_broken_between_clauses_then_words_and_numbers_stay_whole() -> None:
    paper = Paper(80)
    assert paper.wrapped("PSI 0.31 ≥ 0.25; W/σ 0.3 ≥ 0.1", 30) == ["PSI 0.31 ≥ 0.25; W/σ 0.3 ≥ 0.1"]
    assert paper.wrapped("PSI 0.31 ≥ 0.25; W/σ 0.3 ≥ 0.1", 29) == ["PSI 0.31 ≥ 0.25;", "W/σ 0.3 ≥ 0.1"]
    assert paper.wrapped("PSI 0.31 ≥ 0.25", 12) == ["PSI", "0.31 ≥ 0.25"]
    assert paper.wrapped("new 31 % of all", 9) == ["new 31 %", "of all"]
    assert paper.wrapped("missing 0.1 % → 0.2 %", 20) == ["missing", "0.1 % → 0.2 %"]
    assert paper.wrapped("unbreakable", 5) == ["unbre", "akabl", "e"]
    assert paper.wrapped("a unbreakable", 5) == ["a", "unbre", "akabl", "e"]
    assert paper.wrapped("売上売上", 5) == ["売上", "売上"]
    assert Paper(80, "ascii").wrapped("one b ≥ c d", 8) == ["one", "b >= c d"]
    assert paper.wrapped("", 8) == [""]


@given(ANY_TEXT, st.integers(2, 30), st.sampled_from(["utf-8", "ascii", "cp437"]))
def test_of_a_phrase_nothing_is_lost_and_every_line_fits(text: str, width: int, encoding: str) -> None:
    paper = Paper(80, encoding)
    lines = paper.wrapped(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(paper.word(text).split())


@given(st.lists(st.text(st.sampled_from("ab_;→ 売"), max_size=40), max_size=4), st.integers(8, 60))
def test_a_text_hangs_under_where_it_began(words: list[str], width: int) -> None:
    paper = Paper(width)
    text = "; ".join(words)
    lines = [line.plain for line in paper.hung(Text("label  "), Text(text))]
    assert all(cell_len(line) <= max(width, 12) for line in lines)
    assert "".join("".join(lines).split()) == "label" + "".join(text.split())


def test_of_a_long_name_both_ends_are_kept() -> None:
    paper = Paper(80)
    assert paper.name("arrival_date_week_number", 24) == "arrival_date_week_number"
    assert paper.name("arrival_date_week_number", 23) == "arrival_dat…week_number"
    assert paper.name("売上合計税込前年同期比", 11) == "売上合…期比"
    assert Paper(80, "ascii").name("arrival_date_week_number", 15) == "arriva...number"
    assert paper.name("x" * 10_000_000, 9) == "xxxx…xxxx"
    assert paper.name("abcdefgh", 4) == "abc…"
    assert paper.name("a" * 9 + "e" + "\u0301" * 3, 9) == "aaaa…aaae\u0301\u0301\u0301"


@given(ANY_TEXT, st.integers(0, 30), st.sampled_from(["utf-8", "ascii", "latin-1", "cp437"]))
def test_a_cut_name_is_harmless_and_fits(text: str, limit: int, encoding: str) -> None:
    shown = Paper(80, encoding).name(text, limit)
    assert is_harmless(shown)
    assert cell_len(shown) <= max(limit, 2)  # an empty name is two quotes
    assert plain(shown, encoding=encoding) == shown


def test_names_that_would_look_alike_are_told_apart() -> None:
    paper = Paper(80)
    names = ["stays_in_week_nights_of_all", "stays_in_weekend_nights_of_all", "adr"]
    assert paper.name(names[0], 16) == paper.name(names[1], 16)
    shown = paper.names(names, 16)
    assert len(set(shown)) == 3
    assert shown[2] == "adr"
    sensors = [f"plant_07_line_{line:02}_temperature_celsius_mean" for line in range(40)]
    assert len(set(paper.names(sensors, 16))) == 40
    assert paper.names(["x" * 50, "x" * 51], 20) != [paper.name("x" * 50, 20)] * 2
    assert paper.names(["x" * 50] * 2, 20) == [paper.name("x" * 50, 20)] * 2  # the same name twice is one


@given(st.lists(st.text("abc", min_size=8, max_size=60), max_size=8, unique=True), st.integers(8, 30))
def test_names_fit_and_stay_in_order(names: list[str], limit: int) -> None:
    shown = Paper(80).names(names, limit)
    assert all(cell_len(name) <= limit for name in shown)
    for name, cut in zip(names, shown, strict=True):
        assert cut == name or "…" in cut
        assert cut.strip("…")[-3:] in name


def test_signs_become_ascii_where_the_encoding_lacks_them_but_names_do_not() -> None:
    paper = Paper(80, "ascii")
    assert paper.word("● ▁▂▃▄▅▆▇█ → σ …") == "* .:-=+*#@ -> sd ..."
    assert paper.name("σ") == "\\u03c3"
    assert Paper(80, "cp437").word("█▁") == "@."
    assert Paper(80, "utf-8").word("● █▁ σ") == "● █▁ σ"
    assert paper.name("") == '""'


def test_of_a_long_path_the_end_is_kept():
    paper = Paper(80)
    path = "/home/someone/with/a/very/long/way/to/data/2026-11-23.parquet"
    assert paper.path(path, 80) == path
    assert paper.path(path, 30) == "…/to/data/2026-11-23.parquet"
    assert paper.path(path, 10) == "2026-…quet"
    assert cell_len(paper.path("/a/\x1b[31m" * 30, 20)) <= 20
    assert "\x1b" not in paper.path("/a/\x1b[31m" * 30, 20)
