"""The verdict in one sentence counts what was decided, and says what was not."""

from __future__ import annotations

import pytest

from gpudrift.report.headlines import headline


def document(**counts):
    severities = [name.replace("_", " ") for name, number in counts.items() for _ in range(number)]
    drifted = sum(severity in ("moderate", "major") for severity in severities)
    judged = sum(severity not in ("too few rows", "not judged") for severity in severities)
    return {
        "format": "gpudrift/comparison/1",
        "summary": {"judged": judged, "drifted": drifted},
        "columns": [{"severity": severity} for severity in severities],
    }


@pytest.mark.parametrize(
    ("counts", "sentence", "worst"),
    [
        ({"major": 1, "none": 3}, "1 of 4 judged columns drifted (25 %)", "major"),
        ({"moderate": 1, "not_judged": 2}, "1 of 1 judged column drifted (100 %)", "moderate"),
        ({"none": 2}, "None of 2 judged columns drifted", "none"),
        ({"major": 1, "undecided": 1, "none": 3}, "1 of 4 columns that could be judged drifted (25 %)", "major"),
        (
            {"major": 2, "too_few_rows": 1500},
            "2 of 2 columns that could be judged drifted; 1,500 have too few rows",
            "major",
        ),
        (
            {"none": 1, "too_few_rows": 1, "undecided": 1},
            "None of 1 column that could be judged drifted; 1 has too few rows and 1 is undecided",
            "undecided",
        ),
        ({"not_judged": 3}, "No column could be judged", "undecided"),
    ],
)
def test_a_comparison(counts, sentence, worst):
    found = headline(document(**counts))
    assert (found.sentence, found.worst) == (sentence, worst)


@pytest.mark.parametrize(
    ("windows", "only_in_segments", "sentence", "worst"),
    [
        ([], 0, "No window could be judged", "undecided"),
        ([None, None], 0, "None of 2 windows drifted", "none"),
        ([None, "moderate"], 0, "1 of 2 windows drifted", "moderate"),
        (["major", "moderate"], 1, "2 of 2 windows drifted, 1 only in segments", "major"),
        ([None, "moderate"], 1, "1 of 2 windows drifted, only in segments", "moderate"),
    ],
)
def test_windows(windows, only_in_segments, sentence, worst):
    listed = [{"judged": 5, "drifted": [{"severity": one}] if one else [], "in_segments": []} for one in windows]
    summary = {"with_drift": sum(one is not None for one in windows), "only_in_segments": only_in_segments}
    found = headline({"format": "gpudrift/monitoring/1", "summary": summary, "windows": listed})
    assert (found.sentence, found.worst) == (sentence, worst)
