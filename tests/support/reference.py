"""The oracle: the definitions of DESIGN.md as loops that can be checked by eye.

Nothing here is fast and nothing here comes from the package. Integers are Python integers, exact statistics
are ``fractions.Fraction``; where a result is a float64 by definition (a residual), Python's floats are those
floats. Missing is ``None`` (null) or a NaN; a NumPy array of datetime64 or timedelta64 counts as the integers
inside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import numpy as np
import xxhash

SPECIALS = ("-inf", "+inf", "nan", "null", "absent")
SMALLEST_NORMAL = 2.0**-1022
LARGEST_INTEGER = 2**63 - 1


# --- the slot rule (DESIGN.md, section 1) -----------------------------------------------------------------


@dataclass
class Counts:
    """What a numeric column of a profile holds: ``counts`` are the bins and then the five of ``SPECIALS``."""

    counts: list[int]
    sums: list[int]
    low: float | int | None = None
    high: float | int | None = None

    @property
    def bins(self) -> list[int]:
        return self.counts[: -len(SPECIALS)]

    @property
    def specials(self) -> dict[str, int]:
        return dict(zip(SPECIALS, self.counts[-len(SPECIALS) :], strict=True))


def slot(value: float | int | None, edges: Sequence[float] | Sequence[int]) -> int:
    """Position of a value among the bins and the five special slots.

    'Bin i is e(i) <= x < e(i+1), the last bin closed.' 'Every row lands in exactly one slot of a column: a
    bin, -inf, +inf, nan, null, or absent.' 'NaN is not null.' 'uint64 beyond 2**63 - 1 falls in the last
    bin.'
    """
    bins = len(edges) - 1
    if value is None:
        return bins + SPECIALS.index("null")
    if value != value:
        return bins + SPECIALS.index("nan")
    if value == -math.inf:
        return bins + SPECIALS.index("-inf")
    if value == math.inf:
        return bins + SPECIALS.index("+inf")
    for i in range(bins):
        if edges[i] <= value < edges[i + 1]:
            return i
    assert value >= edges[-1], "the edges span everything finite"
    return bins - 1


def is_point(i: int, edges: Sequence[float] | Sequence[int]) -> bool:
    """Whether bin i holds a single value.

    '[v, next(v))', and '0 is always a point bin ([0, 2**-1022) for reals, [0, 1) for integers)'. The last bin
    is closed, so it holds two values at least.
    """
    if i == len(edges) - 2:
        return False
    if isinstance(edges[i], int):
        return edges[i + 1] - edges[i] == 1
    if edges[i] == 0.0 and edges[i + 1] == SMALLEST_NORMAL:
        return True
    return edges[i + 1] == math.nextafter(edges[i], math.inf)


def real_exponent(i: int, edges: Sequence[float]) -> int | None:
    """The s of bin i: ``s(i) = 16 - frexp(width)[1]``; None where the bin keeps no sum.

    'Each bin that is not a point bin keeps a sum'; 'where 2**s(i) is no float64 the bin keeps no sum'.
    """
    if is_point(i, edges):
        return None
    s = 16 - math.frexp(edges[i + 1] - edges[i])[1]
    return None if s > 1023 else s


def integer_shift(i: int, edges: Sequence[int]) -> int | None:
    """The t of bin i: 'the smallest shift that fits' its residuals in 16 bits; None for a point bin."""
    if is_point(i, edges):
        return None
    largest = edges[i + 1] - edges[i]
    if i < len(edges) - 2:
        largest -= 1  # only the last bin holds its upper edge
    t = 0
    while largest >> t > 65535:
        t += 1
    return t


def real_residual(value: float, i: int, edges: Sequence[float]) -> int:
    """'min(floor((x - e(i)) * 2**s(i)), 2**16 - 1)', in float64; 0 where the bin keeps no sum."""
    s = real_exponent(i, edges)
    if s is None:
        return 0
    return min(math.floor((value - edges[i]) * math.ldexp(1.0, s)), 65535)


def integer_residual(value: int, i: int, edges: Sequence[int]) -> int:
    """'(x - e(i)) >> t(i)'; 0 where the bin keeps no sum."""
    t = integer_shift(i, edges)
    return 0 if t is None else (value - edges[i]) >> t


def count_real(values: Iterable[float | None], valid: Sequence[bool] | None, edges: Iterable[float]) -> Counts:
    """Count a column of kind real: float16, 32 or 64, 'converted exactly to float64'.

    Null is where ``valid`` is False or the value is None.
    """
    rows = [None if x is None else float(x) for x in values]
    return _count(rows, valid, [float(e) for e in edges], real_residual)


def count_integer(values: Iterable[int | float | None], valid: Sequence[bool] | None, edges: Iterable[int]) -> Counts:
    """Count a column of kind integer.

    Null is where ``valid`` is False or the value is None, NaT or NaN ('NaN as null' in whole-numbered floats,
    whose infinities stay infinities). Numbers beyond 2**63 - 1 count as 2**63 - 1, so they fall in the last
    bin.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "mM":
        missing = np.isnat(values).tolist()
        values = [None if nat else x for x, nat in zip(values.view(np.int64).tolist(), missing, strict=True)]
    return _count([_whole(x) for x in values], valid, [int(e) for e in edges], integer_residual)


def _whole(x: int | float | None) -> int | float | None:
    if x is None or x != x:
        return None
    return x if x in (math.inf, -math.inf) else min(int(x), LARGEST_INTEGER)


def _count(rows: list, valid: Sequence[bool] | None, edges: list, residual: Callable) -> Counts:
    bins = len(edges) - 1
    result = Counts([0] * (bins + len(SPECIALS)), [0] * bins)
    known = {}  # value -> its slot and residual, only to count ties faster
    for row, value in enumerate(rows):
        if value is None or (valid is not None and not valid[row]):
            result.counts[slot(None, edges)] += 1
            continue
        if value not in known:
            place = slot(value, edges)
            known[value] = place, residual(value, place, edges) if place < bins else 0
        place, units = known[value]
        result.counts[place] += 1
        if place < bins:
            result.sums[place] += units
            result.low = value if result.low is None else min(result.low, value)
            result.high = value if result.high is None else max(result.high, value)
    return result


def numbers(values) -> list[float | int]:
    """The non-missing values of a raw column as Python numbers: no null, no NaN, no NaT."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "mM":
        values = values[~np.isnat(values)].view(np.int64)
    if isinstance(values, np.ndarray):
        values = values.tolist()
    return [x for x in values if x is not None and x == x]


def finite(values) -> list[float | int]:
    """The finite values of a raw column as Python numbers."""
    return [x for x in numbers(values) if x not in (math.inf, -math.inf)]


# --- exact statistics of raw values (DESIGN.md, section 4) ------------------------------------------------


def ks_exact(a, b) -> Fraction | None:
    """'D = max abs(F_ref - F_cur) over non-missing rows, -inf and +inf at the ends'; None where a side is
    empty.
    """
    a, b = numbers(a), numbers(b)
    if not a or not b:
        return None
    largest = 0
    for _, below_a, below_b in _steps(a, b):
        largest = max(largest, abs(below_a * len(b) - below_b * len(a)))
    return Fraction(largest, len(a) * len(b))


def wasserstein_exact(a, b) -> Fraction | None:
    """'Integral of abs(F_ref - F_cur) over finite rows, in the column's unit'; None where a side is empty."""
    a, b = finite(a), finite(b)
    if not a or not b:
        return None
    steps = _steps(a, b)
    ratios = [x.as_integer_ratio() for x, _, _ in steps]
    unit = math.lcm(*{denominator for _, denominator in ratios})  # whole numbers of it: sums of fractions take longer
    places = [numerator * (unit // denominator) for numerator, denominator in ratios]
    total = 0
    for (x, y), (_, below_a, below_b) in zip(pairwise(places), steps, strict=False):
        total += abs(below_a * len(b) - below_b * len(a)) * (y - x)
    return Fraction(total, len(a) * len(b) * unit)


def _steps(a: list, b: list) -> list[tuple[float | int, int, int]]:
    """Every distinct value in order, with how many of a and of b are at most it."""
    a, b = sorted(a), sorted(b)
    steps, below_a, below_b = [], 0, 0
    for x in sorted({*a, *b}):
        while below_a < len(a) and a[below_a] <= x:
            below_a += 1
        while below_b < len(b) and b[below_b] <= x:
            below_b += 1
        steps.append((x, below_a, below_b))
    return steps


def mean_exact(values) -> Fraction | None:
    """Mean of the finite rows; None where there are none."""
    values = finite(values)
    return sum(map(Fraction, values), Fraction(0)) / len(values) if values else None


def variance_exact(values) -> Fraction | None:
    """Population variance of the finite rows: the mean of (x - mean)**2; None where there are none."""
    mean = mean_exact(values)
    if mean is None:
        return None
    values = finite(values)
    return sum(((Fraction(x) - mean) ** 2 for x in values), Fraction(0)) / len(values)


# --- statistics of shares (DESIGN.md, section 4) ----------------------------------------------------------


def psi_cuts(
    ref_counts: Sequence[int],
    neg_inf: int,
    pos_inf: int,
    own: Sequence[Sequence[int]],
    allowed: Sequence[int] | None = None,
    ranks: int = 10,
) -> list[int]:
    """Which fine edges are the cuts of PSI (10 ranks) or JS (32): ascending numbers of edges, 0 and k included.

    Cuts are both ends of the cell of every value that stands out (`own`: first and last edge of each) and, for
    r = 1 … ranks - 1, the first edge that is in no halo (`allowed`) and whose prefix count of the other rows is
    >= r/ranks of them; integer arithmetic, duplicates dropped. The other rows are those in none of these cells, the
    infinities included: -inf lies before the first edge, +inf after the last.
    """
    bins = len(ref_counts)
    edges = range(bins + 1) if allowed is None else allowed
    cuts = {0, bins}
    if neg_inf + sum(ref_counts) + pos_inf == 0:
        return sorted(cuts)
    held = {i for first, last in own for i in range(first, last)}
    for first, last in own:
        cuts |= {first, last}
    others = [0 if i in held else count for i, count in enumerate(ref_counts)]
    rest = neg_inf + sum(others) + pos_inf
    for r in range(1, ranks) if rest else ():
        cuts.add(next((edge for edge in edges if ranks * (neg_inf + sum(others[:edge])) >= r * rest), bins))
    return sorted(cuts)


def coarse_counts(counts: Sequence[int], neg_inf: int, pos_inf: int, cuts: Sequence[int]) -> list[int]:
    """Rows between neighbouring cuts: '-inf counts in the first bin, +inf in the last'."""
    coarse = [sum(counts[left:right]) for left, right in pairwise(cuts)]
    coarse[0] += neg_inf
    coarse[-1] += pos_inf
    return coarse


def shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total for count in counts]


def psi(p: Sequence[float], q: Sequence[float], floor: float = 1e-4) -> float:
    """'sum (p - q) ln(p / q), natural log'; shares 'below the floor 1e-4 are raised to it, without
    renormalising'.
    """
    terms = []
    for share, other in zip(p, q, strict=True):
        a, b = max(share, floor), max(other, floor)
        terms.append((a - b) * math.log(a / b))
    return math.fsum(terms)


def js_distance(p: Sequence[float], q: Sequence[float]) -> float:
    """'Jensen-Shannon *distance*, base 2, in [0, 1]': the root of the mean divergence from the middle."""
    terms = []
    for a, b in zip(p, q, strict=True):
        middle = (a + b) / 2
        if a > 0:
            terms.append(a * math.log2(a / middle) / 2)
        if b > 0:
            terms.append(b * math.log2(b / middle) / 2)
    return math.sqrt(max(math.fsum(terms), 0.0))


def hellinger(p: Sequence[float], q: Sequence[float]) -> float:
    """'sqrt(sum (sqrt p - sqrt q)^2 / 2)'."""
    return math.sqrt(math.fsum((math.sqrt(a) - math.sqrt(b)) ** 2 for a, b in zip(p, q, strict=True)) / 2)


def tv(p: Sequence[float], q: Sequence[float]) -> float:
    """'sum abs(p - q) / 2'."""
    return math.fsum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2


def kl(p: Sequence[float], q: Sequence[float], floor: float = 1e-4) -> float:
    """'sum p ln(p/q) with the floor'."""
    terms = []
    for share, other in zip(p, q, strict=True):
        a, b = max(share, floor), max(other, floor)
        terms.append(a * math.log(a / b))
    return math.fsum(terms)


def linf(p: Sequence[float], q: Sequence[float]) -> float:
    """'max abs(p - q)'."""
    return max(abs(a - b) for a, b in zip(p, q, strict=True))


def cramers_v(p: Sequence[float], q: Sequence[float]) -> float:
    """'From the two share vectors at equal weight': sqrt(sum (p - q)^2 / (2 (p + q)))."""
    terms = [(a - b) ** 2 / (2 * (a + b)) for a, b in zip(p, q, strict=True) if a + b > 0]
    return math.sqrt(math.fsum(terms))


def chi2_pooled(ref_counts: Sequence[int], cur_counts: Sequence[int]) -> tuple[float, int]:
    """Chi-square and its degrees of freedom: 'independence on the two-row table, no Yates correction, cells
    expected below 5 pooled' into one. With fewer than two cells left it is (0.0, 0).
    """
    n, m = sum(ref_counts), sum(cur_counts)
    cells, pool = [], [0, 0]
    for a, b in zip(ref_counts, cur_counts, strict=True):
        if min(n, m) * (a + b) < 5 * (n + m):
            pool[0] += a
            pool[1] += b
        else:
            cells.append((a, b))
    if sum(pool) > 0:
        cells.append((pool[0], pool[1]))
    if n == 0 or m == 0 or len(cells) < 2:
        return 0.0, 0
    terms = []
    for a, b in cells:
        for observed, row in ((a, n), (b, m)):
            expected = row * (a + b) / (n + m)
            terms.append((observed - expected) ** 2 / expected)
    return math.fsum(terms), len(cells) - 1


def bh_adjust(p_values: Sequence[float]) -> list[float]:
    """Benjamini-Hochberg: with p ascending, the adjusted i-th is min over j >= i of p(j) * count / j, at most
    1.
    """
    count = len(p_values)
    order = sorted(range(count), key=lambda i: p_values[i])
    adjusted = [1.0] * count
    smallest = 1.0
    for rank in range(count, 0, -1):
        i = order[rank - 1]
        smallest = min(smallest, p_values[i] * count / rank)
        adjusted[i] = smallest
    return adjusted


# --- categorical columns (DESIGN.md, section 1) -----------------------------------------------------------


@dataclass
class ValueCounts:
    """What a categorical column of a profile holds.

    ``frequent`` are the counts of the listed categories in their order, ``kept`` the exact counts of the k
    other values with the smallest hashes in the order of their hashes, ``dropped`` the rows of all values
    beyond.
    """

    frequent: list[int]
    kept: dict[bytes, int] = field(default_factory=dict)
    dropped: int = 0
    null: int = 0


def value_bytes(value: str | bytes | bool | int) -> bytes:
    """'The UTF-8 bytes without normalisation, integers as decimal text, booleans as true and false'."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, (bool, np.bool_)):
        return b"true" if value else b"false"
    return value.encode() if isinstance(value, str) else str(int(value)).encode()


def value_hash(value: bytes) -> int:
    """XXH64 with seed 0."""
    return xxhash.xxh64_intdigest(value, seed=0)


def count_values(values: Iterable, categories: Sequence[bytes | str], k: int = 4096) -> ValueCounts:
    """Count a categorical column.

    'An exact count for each of the schema's frequent values, and for the rest a bottom-k sketch by hash: the
    k distinct values with the smallest hash (equal hashes ordered by bytes), each with its exact count, and
    the number of rows dropped.'
    """
    listed = [value_bytes(category) for category in categories]
    result = ValueCounts([0] * len(listed))
    rest: dict[bytes, int] = {}
    for value in values:
        if value is None:
            result.null += 1
            continue
        text = value_bytes(value)
        if text in listed:
            result.frequent[listed.index(text)] += 1
        else:
            rest[text] = rest.get(text, 0) + 1
    order = sorted(rest, key=lambda text: (value_hash(text), text))
    result.kept = {text: rest[text] for text in order[:k]}
    result.dropped = sum(rest[text] for text in order[k:])
    return result


# --- the sample that edges come from (DESIGN.md, section 2) -----------------------------------------------


def sample_rows(rows: int, columns: int) -> list[int]:
    """The row numbers of the sample.

    'About clamp(2**26 / columns, 8,192, 65,536) rows, as blocks of consecutive rows that start at multiples
    of one power-of-two stride, 512 to 1,023 of them.' The stride is the smallest power of two that gives at
    most 1,023 blocks (that is at least 512 of them, since half the stride gives 1,024 or more).
    """
    target = min(max(2**26 // columns, 8192), 65536)
    if rows <= target:
        return list(range(rows))
    stride = 1
    while -(-rows // stride) > 1023:
        stride *= 2
    blocks = -(-rows // stride)
    length = min(stride, target // blocks)
    return [row for start in range(0, rows, stride) for row in range(start, min(start + length, rows))]
