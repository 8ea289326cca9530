"""From statistics to verdicts: thresholds, noise floors, calibration, findings, windows over time."""

from __future__ import annotations
