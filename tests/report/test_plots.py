"""Pictures with matplotlib: they draw the numbers of the document, and no text of the data is taken for mathematics."""

from __future__ import annotations

import copy
import io

import numpy as np
import pyarrow as pa
import pytest
from support.example_document import HOSTILE_NAMES, example_document
from support.hotels import HOTELS

import gpudrift as gd
from gpudrift.report.plots import column_plot, windows_plot

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from matplotlib import pyplot  # noqa: E402 - after it is known to be there


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def report():
    return gd.compare(*HOTELS)


@pytest.fixture(scope="module")
def watched():
    return gd.monitor(*HOTELS, time="arrival_date", every="1w", by="hotel")


def drawn(ax) -> bytes:
    """What a file of the picture holds: drawing it must not fail or warn."""
    stream = io.BytesIO()
    ax.figure.savefig(stream, format="png", dpi=40)
    return stream.getvalue()


def test_bins_and_single_values_are_those_of_the_document(report):
    ax = report["adr"].plot()
    distribution = report["adr"].document()["distribution"]
    reference, current = ax.patches
    points = {point["value"]: point for point in distribution["points"]}
    for side, step in (("reference", reference), ("current", current)):
        values, edges, _ = step.get_data()
        assert edges.tolist() == distribution["edges"]
        assert values.sum() + sum(point[side] for point in points.values()) == pytest.approx(1.0)
    pins = [line for line in ax.lines if line.get_marker() == "o"]
    assert dict(zip(pins[0].get_xdata(), pins[0].get_ydata(), strict=True)) == {
        value: point["current"] for value, point in points.items()
    }
    assert 62.0 in points
    assert ax.get_title(loc="left").startswith("adr (real): major, PSI 0.676 ≥ 0.25")
    assert "508" in ax.get_xlabel()
    drawn(ax)


def test_a_heavy_tailed_column_has_a_logarithmic_axis():
    rng = np.random.default_rng(4)
    before, after = (pa.table({"x": np.exp(rng.normal(shift, 2.5, 20_000))}) for shift in (0, 0.5))
    ax = gd.compare(before, after)["x"].plot()
    assert ax.get_xscale() == "asinh"
    drawn(ax)


def test_categories_are_bars_of_their_shares(report):
    ax = report["meal"].plot()
    names = [label.get_text() for label in ax.get_yticklabels()]
    distribution = report["meal"].document()["distribution"]
    widths = [bar.get_width() for bar in ax.patches]
    shares = dict(zip(distribution["values"], distribution["reference"], strict=True))
    assert widths[: len(names)] == [shares[None if name == "all others" else name] for name in names]
    assert "rarer categories" in report["country"].plot().get_xlabel()


def test_dates_are_dates(report):
    ax = report["reservation_status_date"].plot()
    drawn(ax)
    assert any("2016" in label.get_text() for label in ax.get_xticklabels())
    assert "2014-10-17" in ax.get_xlabel()


def test_it_is_drawn_where_it_is_asked_for(report):
    _, ax = pyplot.subplots()
    assert report["adr"].plot(ax) is ax
    assert report["adr"].plot(ax=ax) is ax


def test_every_column_of_a_real_report_can_be_drawn(report):
    for column in report:
        drawn(column.plot(pyplot.figure().subplots()))
        pyplot.close("all")


def test_a_column_without_values_says_why():
    table = pa.table({"x": pa.nulls(500, pa.float64()), "y": np.arange(500) % 7})
    report = gd.compare(table, table)
    with pytest.raises(ValueError, match="plot: column 'x' has no distribution"):
        report["x"].plot()


def test_a_statistic_over_windows_is_drawn_with_its_thresholds(watched):
    ax = watched.plot("children")
    lines = {line.get_label(): line for line in ax.lines}
    series = watched.document()["series"]
    told = series["statistics"]["wasserstein_scaled"][series["columns"].index("children")]
    assert lines["Scaled Wasserstein distance"].get_ydata().tolist() == told
    assert set(lines["moderate from"].get_ydata()) == {0.1}
    assert set(lines["major from"].get_ydata()) == {0.25}
    assert ax.get_title(loc="left") == "children: Scaled Wasserstein distance, 27 windows of 1w"
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels[0] == "2016-06-27"
    drawn(ax)
    share = watched.plot("agent", "missing")
    assert share.get_ylabel() == "Missing rows"
    assert set(share.lines[0].get_ydata()) == {0.05}


def test_what_is_not_beyond_chance_is_drawn_hollow(watched):
    series = watched.document()["series"]
    told = series["statistics"]["spread"][series["columns"].index("babies")]
    expected = [at for at, value in enumerate(told) if abs(value) >= 0.1]
    assert expected  # two weeks with few babies, and no drift
    assert all("babies" not in [one.column for one in window.drifted] for window in watched)
    hollow = [line for line in watched.plot("babies", "spread").lines if line.get_label() == "not beyond chance"]
    assert hollow[0].get_xdata().tolist() == expected


def test_calibrated_thresholds_are_drawn_window_by_window():
    rng = np.random.default_rng(2)
    n = 20_000
    before, after = (
        pa.table({"x": rng.normal(size=n) + shift * np.sin(np.arange(n) / 1500), "at": np.arange(n)})
        for shift in (1, 2)
    )
    baseline = gd.profile(before, time="at", every=500)
    found = gd.monitor(baseline, after, thresholds="calibrated", rate=0.05)
    document = found.document()
    statistic = next(iter(document["series"]["limits"]["calibrated"]))
    ax = found.plot("x", statistic)
    told = document["series"]["limits"]["calibrated"][statistic][document["series"]["columns"].index("x")]
    assert ax.lines[0].get_ydata().tolist()[1:-1] == told
    drawn(ax)


def test_what_cannot_be_drawn_over_windows_says_why(watched):
    with pytest.raises(gd.UnknownColumnError, match="did you mean 'children'"):
        watched.plot("childen")
    with pytest.raises(ValueError, match="no statistic 'cramers_v' of column 'adr'; there are psi"):
        watched.plot("adr", "cramers_v")
    document = watched.document(series=False)
    with pytest.raises(ValueError, match="no series"):
        windows_plot(document, "adr")


@pytest.mark.filterwarnings("ignore:Glyph")  # of scripts that the font does not have
@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "$x$", "$\\frac{", "price in $ and $", "<script>", "x" * 10_000])
def test_hostile_names_and_categories_are_text(name):
    document = example_document(20)
    kinds = {}
    for column in document["columns"]:
        if column["distribution"]:
            kinds.setdefault("values" in column["distribution"], copy.deepcopy(column))
    assert len(kinds) == 2
    for column in kinds.values():
        column["name"] = name
        column["reason"] = name
        if "values" in column["distribution"]:
            column["distribution"]["values"][:2] = [name, "$y$"]
        ax = column_plot(column)
        drawn(ax)
        for label in (ax.title, ax._left_title, *ax.get_yticklabels()):
            assert label.get_parse_math() is False or "$" not in label.get_text()


def test_without_matplotlib_the_error_says_what_to_install(report, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "gpudrift\[plot\]"'):
        report["adr"].plot()
