"""Without drift verdicts are as rarely wrong as they say, no floor is blind, and drift is found.

A few settings of benchmarks/verdicts.py with fixed seeds, by fewer columns: three standard errors are allowed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from support.scripts import BENCHMARKS

COLUMNS = 240
CONTINUOUS = ("psi", "wasserstein_scaled", "spread", "tails")
SETTINGS = {
    "normal": (300, 300),
    "lognormal, sigma 2": (100, 1_000),
    "300 values": (1_000, 1_000),
    "ages, whole": (300, 300),
}


@pytest.fixture
def alarms(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import verdict_alarms

    return verdict_alarms


def drawn(alarms, name, n, m, columns=COLUMNS, shift=0.0):
    """The comparison of columns of a shape, and the two arrays."""
    shape = alarms.SHAPES[name]
    rng = np.random.default_rng([31, n, m, list(alarms.SHAPES).index(name)])
    sides = shape.draw(rng, (columns, n)), shape.draw(rng, (columns, m)) + shift
    return alarms.compared(*(alarms.table(side, shape.kind) for side in sides), shape.kind), sides


def most(level, times=1.0):
    return times * level * COLUMNS + 3.0 * math.sqrt(times * level * COLUMNS)


@pytest.mark.parametrize("name", SETTINGS)
def test_alarms_without_drift_are_rare(alarms, name):
    comparison, _ = drawn(alarms, name, *SETTINGS[name])
    columns = comparison.columns
    for level in (0.05, 0.01):
        found = alarms.above_together(columns, level)
        assert sum(map(bool, found)) <= most(level, 1.5)
    verdicts = [one for verdict in alarms.verdicts(comparison, level) for one in verdict.columns]
    assert [sorted(names) for names in found] == [sorted(one.reached) for one in verdicts]
    drifted = sum(one.drifted for verdict in alarms.verdicts(comparison, 0.01, None) for one in verdict.columns)
    assert drifted <= most(0.01)


@pytest.mark.parametrize("name", ["normal", "lognormal, sigma 2"])
def test_no_floor_is_blind(alarms, name):
    level = 0.05
    columns = drawn(alarms, name, *SETTINGS[name])[0].columns
    found = alarms.above(columns, [level] * COLUMNS)
    for statistic in CONTINUOUS:
        hits = sum(statistic in names for names in found)
        wanted = level / 3.0 * COLUMNS
        assert wanted - 3.0 * math.sqrt(wanted) <= hits <= most(level), statistic


def test_a_shift_is_found_as_often_as_by_a_test(alarms):
    """Of Welch's t with the limit moved until it has as many false alarms."""
    level = 0.0025
    found, p_values = {}, {}
    for shift, columns in ((0.0, 800), (0.3, 200)):
        comparison, (a, b) = drawn(alarms, "normal", 500, 500, columns, shift)
        found[shift] = np.array([bool(names) for names in alarms.above_together(comparison.columns, level)])
        p_values[shift] = stats.ttest_ind(a, b, axis=1, equal_var=False).pvalue
    limit = np.sort(p_values[0.0])[max(found[0.0].sum(), 1) - 1]
    assert found[0.3].mean() >= 0.9 * np.mean(p_values[0.3] <= limit)
