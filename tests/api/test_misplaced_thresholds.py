"""Thresholds that belong to another call: said where they belong, and before anything is counted."""

from __future__ import annotations

import pytest
from support.command import USAGE, fails

import gpudrift as gd
from gpudrift.judging.calibration import Calibration

TABLE = {"x": [float(value) for value in range(500)]}


class Unread:
    """A table that may not be read."""

    def __arrow_c_stream__(self, requested_schema=None):
        raise AssertionError("it was read")


@pytest.mark.parametrize("given", ["calibrated", object.__new__(Calibration)])
def test_calibrated_thresholds_belong_to_monitor(given):
    words = r"thresholds: .* is for gpudrift\.monitor, .*--thresholds calibrated"
    with pytest.raises(ValueError, match=words):
        gd.compare(Unread(), Unread(), thresholds=given)
    with pytest.raises(ValueError, match=words):
        gd.judge(gd.compare(TABLE, TABLE), thresholds=given)


@pytest.mark.parametrize("given", ["psi", 0.2, ["psi"], "x" * 10**6])
def test_what_are_no_thresholds_is_said_before_anything_is_read(given):
    with pytest.raises(ValueError, match="expected a mapping such as") as error:
        gd.compare(Unread(), Unread(), thresholds=given)
    assert len(str(error.value)) < 300
    if isinstance(given, str):
        with pytest.raises(ValueError, match="expected thresholds by column or 'calibrated'"):
            gd.monitor(Unread(), Unread(), time="x", every="1d", thresholds=given)


def test_the_file_of_options_says_so_too(tmp_path):
    place = tmp_path / "drift.toml"
    place.write_text('thresholds = "calibrated"\n')
    told = fails("compare", "a.parquet", "b.parquet", "--config", place, status=USAGE)
    assert "gpudrift monitor --thresholds calibrated" in told
