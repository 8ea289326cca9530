"""TODO-PACKAGE."""

from __future__ import annotations
