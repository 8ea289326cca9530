"""Alerts: what drifted, since when, by how much and in which segments; each change is sent once.

``reports`` reads saved reports, ``events`` decides what has changed, ``channels`` formats it, ``sending`` delivers it,
``memory`` is the state file, ``settings`` the configuration, and ``running`` does one run. Nothing heavy is imported.
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
