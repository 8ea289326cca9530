"""Numbers of a page are those of the document as they are shown, in two bytes each; unpacked here by a stupid loop."""

from __future__ import annotations

import base64
import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpudrift.report.page.packing import block, code_of, numbers, ragged, shown
from gpudrift.report.text import number_text, share_text

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SHARES = st.floats(-1, 1) | st.sampled_from([1e-9, 1e-4, 0.0001, 0.999, 0.9999, 0.99999, 1 - 2**-53, 0.5, 1.0, 0.0])
KINDS = {"u8": "<u1", "u16": "<u2", "u32": "<u4", "i32": "<i4", "f32": "<f4", "f64": "<f8"}


def decoded(code: int) -> float | None:
    """What a code means: three digits and a power of ten."""
    if code == 0:
        return None
    if code == 1:
        return 0.0
    sign, rest = (-1, code - 2 - 34 * 900) if code >= 2 + 34 * 900 else (1, code - 2)
    power, digits = divmod(rest, 900)
    return sign * float(Fraction(digits + 100) * Fraction(10) ** (power - 12 - 2))


def unblocked(packed):
    return np.frombuffer(base64.b64decode(packed["b"]), KINDS[packed["t"]])


def unpacked(packed, count, meaning):
    """All numbers of what `shown` or `numbers` made."""
    if packed is None:
        return [None] * count
    assert packed["n"] == count
    if "all" in packed:
        return [meaning(packed["all"])] * count
    found = [packed.get("else")] * count
    codes = unblocked(packed["codes"] if "codes" in packed else packed["values"]).tolist()
    places = unblocked(packed["at"]).tolist() if "at" in packed else range(count)
    for place, code in zip(places, codes, strict=True):
        found[place] = meaning(code)
    for place, value in packed.get("also", {}).items():
        found[int(place)] = value
    return found


@given(FINITE)
@example(0.0004999999)
@example(0.0005)
@example(0.99949999)
@example(0.9995)
@example(999.4999)
@example(999.5)
@example(5e-324)
@example(1.7976931348623157e308)
def test_a_statistic_is_written_as_it_is(value):
    [found] = unpacked(shown([value]), 1, decoded)
    assert number_text(found) == number_text(value)


@given(SHARES)
@example(0.9950001)
def test_a_share_is_written_as_it_is(share):
    [found] = unpacked(shown([share], share=True), 1, decoded)
    assert share_text(found) == share_text(share)


@given(FINITE, FINITE)
def test_bounds_hold_as_they_are_shown(low, high):
    [lower], [upper] = (
        unpacked(shown([value], bound=bound), 1, decoded) for value, bound in ((low, "low"), (high, "high"))
    )
    assert lower <= low or abs(low) < 0.0005
    assert upper >= high or abs(high) < 0.0005


@given(st.lists(st.none() | FINITE | st.just(0.0), max_size=50))
def test_all_digits_stay_where_all_are_shown(values):
    found = unpacked(numbers(values), len(values), float)
    assert [None if one is None or math.isnan(one) else one for one in found] == values


@given(st.lists(st.none() | SHARES, max_size=50))
def test_what_is_none_stays_none(values):
    found = unpacked(shown(values, share=True), len(values), decoded)
    assert [one is None for one in found] == [one is None for one in values]


@given(st.lists(st.none() | st.lists(st.floats(-1e300, 1e300), max_size=6).map(sorted), max_size=12))
def test_edges_are_told_apart_to_a_hundredth_of_their_bin(rows):
    packed = ragged(rows)
    if packed is None:
        assert not any(rows)
        return
    sizes, wide = unblocked(packed["sizes"]).tolist(), set(packed["wide"])
    parts = {False: unblocked(packed["f32"]).tolist(), True: unblocked(packed["f64"]).tolist()}
    for at, row in enumerate(rows):
        part = parts[at in wide]
        found, part[:] = part[: sizes[at]], part[sizes[at] :]
        narrowest = min((b - a for a, b in pairwise(row or ())), default=0.0)
        assert len(found) == len(row or ())
        assert all(abs(a - b) <= 0.01 * narrowest * (1 + 1e-12) for a, b in zip(found, row or (), strict=True))
    assert not any(parts.values())


@given(
    st.lists(st.none() | FINITE | SHARES | st.integers(-1000, 1000).map(lambda k: k / 2000), max_size=30), st.booleans()
)
def test_many_numbers_have_the_codes_of_each(values, share):
    codes = [code_of(value, share=share) for value in values]
    beside = [value if code == 65535 else code or None for value, code in zip(values, codes, strict=True)]
    assert unpacked(shown(values, share=share), len(values), lambda code: code or None) == beside


def test_what_no_code_can_say_stands_beside():
    assert code_of(1e300) == 65535
    assert unpacked(shown([None, 1e300, 0.5]), 3, decoded) == [None, 1e300, 0.5]


def test_what_is_tiny_is_shown_as_less_than_something():
    assert number_text(unpacked(shown([1e-300]), 1, decoded)[0]) == number_text(1e-300) == "<0.001"


@given(st.lists(st.none() | FINITE, max_size=30))
def test_six_digits_stay_where_six_are_shown(values):
    found = unpacked(numbers(values, digits=6), len(values), float)
    for one, value in zip(found, values, strict=True):
        if value is None:
            assert one is None or math.isnan(one)
        else:
            assert f"{one:.6g}" == f"{value:.6g}" and (one == value or not float(value).is_integer())


@pytest.mark.parametrize("kind", list(KINDS))
def test_arrays_are_little_endian_everywhere(kind):
    array = np.array([1, 2, 200], np.dtype(KINDS[kind]).newbyteorder(">"))
    packed = block(array)
    assert packed["t"] == kind
    assert unblocked(packed).tolist() == [1, 2, 200]


def test_equal_numbers_take_no_room():
    assert len(str(shown([0.25] * 5000))) < 50
    assert len(str(numbers([21996] * 5000))) < 50
    assert len(str(shown([None] * 4999 + [0.1]))) < 150
