"""The list of faults fits the code: each can be planted, and what shall find it is there."""

from __future__ import annotations

import shlex

import pytest
from plant import ROOT, faults

FAULTS = faults()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_a_fault_can_be_planted(fault):
    source = (ROOT / fault.file).read_text("utf-8")
    assert source.count(fault.text) == 1
    compile(source.replace(fault.text, fault.becomes), fault.file, "exec")
    paths = [word for word in shlex.split(fault.test) if word.startswith("tests/")]
    assert paths
    assert all((ROOT / path).exists() for path in paths)


def test_each_fault_has_a_description_of_its_own():
    assert len({fault.what for fault in FAULTS}) == len(FAULTS)
