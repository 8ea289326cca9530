"""How counting runs here: what was asked for, how work is cut, read, and run by threads or by a cluster."""

from __future__ import annotations
