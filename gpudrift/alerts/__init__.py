"""Alerts: what moved, since when, how much, in which segments, and which columns together; each told once.

``events`` decides what there is to tell, ``channels`` how it looks, ``sending`` brings it there, ``memory`` remembers,
``settings`` is the configuration, and ``running`` does one run. Nothing heavy is imported.
"""

from __future__ import annotations

from gpudrift.alerts.events import AlertState, Event, Rules, Window, advance, windows_of
from gpudrift.alerts.running import Outcome, run_alerts
from gpudrift.alerts.settings import Settings, read_settings

__all__ = [
    "AlertState",
    "Event",
    "Outcome",
    "Rules",
    "Settings",
    "Window",
    "advance",
    "read_settings",
    "run_alerts",
    "windows_of",
]
