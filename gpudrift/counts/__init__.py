"""What was counted, and adds up: profiles, groups of them, packets that travel, files that last."""

from __future__ import annotations
