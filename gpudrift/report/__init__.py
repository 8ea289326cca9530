"""What people and programs see: the report, its JSON document, and its picture in a terminal."""

from __future__ import annotations
