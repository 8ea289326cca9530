"""A file of rules to start from, written from the counts of a baseline, for a person to read and change.

Promised: the baseline breaks none of its own rules. Intended, and tested on real tables: nor does more of the same
stream. So bounds have room: means may move by half a standard deviation, shares by a tenth, a hundredth of the rows
may lack a value or have one never seen. What is known to be right (no nulls ever, no negative prices) is for the
reader to say; such rules stand in the file as comments.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from fractions import Fraction

from gpudrift.columns.bounds import natural_bound
from gpudrift.columns.schema import LARGEST_REAL
from gpudrift.counts.profiles import ColumnProfile, Profile
from gpudrift.judging.rules.intervals import distinct_at_most_one, mean_interval
from gpudrift.statistics.summaries import moments

__all__ = ["suggested_rules"]

BARE = re.compile(r"[A-Za-z0-9_-]+")
"""A key that TOML takes without quotes."""
MOST_LISTED = 20
"""Distinct values that are written out; where there are more, the baseline is asked."""
FEWEST_OTHERS = 20
"""Rows that differ from the most frequent value, for a column to be expected never to become constant."""
ROOM, SHARE_ROOM, MEAN_ROOM, SIGMAS = 0.01, 0.10, 0.5, 6.0


def suggested_rules(baseline: Profile) -> str:
    """Rules as the text of a TOML file.

    Parameters
    ----------
    baseline : Profile
        Whose counts the bounds are taken from.
    """
    lines = [
        "# Rules suggested by gpudrift from a baseline of "
        f"{baseline.rows:,} rows and {len(baseline):,} columns, with room around it.",
        "# Read them, tighten what you know, delete what you do not want:",
        "#   gpudrift check DATA --rules THIS_FILE --reference BASELINE --fail-on quality,drift",
        "# missing = 0.01 allows up to 1 % of the rows; outside and new: up to that share of the values.",
        "",
        "[table]",
        f"rows = {max(baseline.rows // 100, 1) if baseline.rows else 0}  # at least; the baseline has "
        f"{baseline.rows:,}, your tables may have fewer",
        "column_changes = false  # no column added, dropped, or of another type",
        "scale_change = false  # no column times 1,000, 60, ...: a wrong unit, which is no drift",
        "# drift = false  # every column judged as by 'gpudrift compare'",
    ]
    for name in baseline.schema.names:
        lines += ["", *_column(name, baseline[name])]
    return "\n".join(lines) + "\n"


def _column(name: str, side: ColumnProfile) -> Iterable[str]:
    quoted = _text(name)
    if quoted is None:
        yield "# a column whose name TOML cannot say: it holds half a surrogate pair"
        return
    if side.skipped is not None or side.rows == 0 or side.special["absent"] == side.rows:
        why = "not counted" if side.skipped is not None else "no rows"
        yield f"# [columns.{quoted}]  # {why}"
        return
    yield f"[columns.{name if BARE.fullmatch(name) else quoted}]  # {side.column.kind}"
    yield _missing(side)
    if side.column.kind in ("clock", "identifier", "datetime"):
        return  # new values and other means are what such columns are for
    if side.present:
        yield _constant(side)
        yield from _numeric(side) if side.column.is_numeric else _categorical(side)


def _missing(side: ColumnProfile) -> str:
    share = side.missing / side.rows
    if side.missing == side.rows:
        return "# missing = ...  # no row has a value here"
    allowed = _up(share + ROOM + SIGMAS * math.sqrt(share * (1 - share) / side.rows))
    if side.missing == 0:
        return f"missing = {_number(allowed)}  # none here; if that must be so: nulls = false"
    return f"missing = {_number(min(allowed, 1.0))}  # {100 * share:.3g} % here"


def _constant(side: ColumnProfile) -> str:
    largest = max([int(side.counts.max(initial=0)), side.special["-inf"], side.special["+inf"]])
    if not side.column.is_numeric and side.tail is not None:
        largest = max([*side.counts[:-1].tolist(), *side.tail.counts.tolist(), 0])
    if side.present - largest >= FEWEST_OTHERS:
        return "constant = false"
    return "# constant here" if distinct_at_most_one(side) else "# constant = false  # nearly so here"


def _numeric(side: ColumnProfile) -> Iterable[str]:
    if side.low is None or side.high is None:
        return
    column = side.column
    infinite = (side.special["-inf"] + side.special["+inf"]) / side.present
    ends = [natural_bound(column, Fraction(end)) for end in (side.low, side.high)]
    low, high = _exact(ends[0]), _exact(ends[1])
    allowed = _number(min(_up(ROOM + infinite), 1.0))
    yield f'outside = {{ low = {low}, high = {high}, at_most = {allowed}, kind = "drift" }}  # its range here'
    if side.low >= 0:
        yield "# min = 0  # if anything below is broken"
    found = mean_interval(side)
    std = Fraction(moments(side).std_high)
    room = std * (Fraction(MEAN_ROOM) + Fraction(SIGMAS) / Fraction(math.sqrt(side.finite)))
    if std > 0:
        least, most = natural_bound(column, found[0] - room), natural_bound(column, found[1] + room)
        mean = float(natural_bound(column, found[0]))
        yield f"mean = {{ at_least = {_rounded(least, -1)}, at_most = {_rounded(most, 1)} }}  # {mean:.4g} here"


def _categorical(side: ColumnProfile) -> Iterable[str]:
    assert side.tail is not None
    seen = [*zip(side.column.categories, side.counts[:-1].tolist(), strict=True)]
    seen += zip(side.tail.values, side.tail.counts.tolist(), strict=True)
    seen = sorted(((text, count) for text, count in seen if count), key=lambda one: -one[1])
    texts = [_text(text.decode("utf-8", "surrogatepass")) for text, _ in seen[: MOST_LISTED + 1]]
    # Good and Turing: values never seen hold about as large a share as those seen once.
    unseen = (sum(count == 1 for _, count in seen) + side.dropped) / side.present
    allowed = _up(ROOM + 5 * unseen)
    if len(seen) <= MOST_LISTED and side.dropped == 0 and None not in texts:
        yield f"among = {{ values = [{', '.join(map(str, texts))}], at_most = {_number(min(allowed, 1.0))} }}"
    elif allowed < SHARE_ROOM:
        yield f"new = {_number(allowed)}  # values that the baseline lacks; {len(seen):,} distinct here"
    else:
        yield "# new = ...  # new values are common here"
    if texts and texts[0] is not None and len(seen) > 1:
        share = seen[0][1] / side.present
        room = SHARE_ROOM + SIGMAS * math.sqrt(share * (1 - share) / side.present)
        ends = max(math.floor((share - room) * 100) / 100, 0.0), min(math.ceil((share + room) * 100) / 100, 1.0)
        yield (
            f"share = {{ of = {texts[0]}, at_least = {_number(ends[0])}, at_most = {_number(ends[1])} }}"
            f"  # {100 * share:.3g} % here"
        )


# --- numbers and texts as TOML says them -----------------------------------------------------------------------------


def _up(share: float) -> float:
    """Rounded up to three decimals."""
    return math.ceil(share * 1000 - 1e-9) / 1000


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if value != int(value) else str(int(value))


def _exact(value: Fraction) -> str:
    """A bound that is the value itself: TOML's integers end at 64 bits, its floats are float64."""
    if value.denominator == 1 and abs(value) < 2**53:
        return str(int(value))
    return str(int(value)) if value.denominator == 1 and abs(value) < 2**63 else repr(float(value))


def _rounded(value: Fraction, direction: int) -> str:
    """Three digits, rounded away from the middle; a float64."""
    number = float(max(min(value, Fraction(LARGEST_REAL)), -Fraction(LARGEST_REAL)))
    if number == 0 or abs(number) < 1e-300 or abs(number) > 1e300:
        return repr(number)
    step = Fraction(10) ** (math.floor(math.log10(abs(number))) - 2)
    rounded = (math.ceil if direction > 0 else math.floor)(value / step) * step
    return str(int(rounded)) if rounded.denominator == 1 and abs(rounded) < 10**15 else repr(float(rounded))


def _text(text: str) -> str | None:
    """A text as a TOML string, what is invisible or sits on another letter spelled out; None for what TOML lacks."""
    if any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        return None
    return f'"{"".join(map(_spelled, text))}"'


def _spelled(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable() and unicodedata.category(character)[0] != "M":
        return character
    return f"\\U{ord(character):08x}" if ord(character) > 0xFFFF else f"\\u{ord(character):04x}"
