"""Which version of a table is asked for: a number, a time, or a name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["Version"]


@dataclass(frozen=True)
class Version:
    """A version as it was written; without a text, the latest one."""

    text: str | None = None

    @property
    def number(self) -> int | None:
        """A version of Delta or a snapshot of Iceberg."""
        return int(self.text) if self.text is not None and re.fullmatch("[0-9]{1,19}", self.text) else None

    @property
    def time(self) -> datetime | None:
        """A date or time, in UTC if it says no zone."""
        if self.text is None or self.number is not None:
            return None
        try:
            time = datetime.fromisoformat(self.text)
        except ValueError:
            return None
        return time if time.tzinfo is not None else time.replace(tzinfo=UTC)

    def of_delta(self, label: str) -> int | datetime | None:
        """What Delta knows: a number or a time.

        Raises
        ------
        ValueError
            For anything else.
        """
        found = self.number if self.number is not None else self.time
        if self.text is not None and found is None:
            raise ValueError(
                f"{self.text!r} is no version of the Delta table {label!r}: expected a number such as 12, or a time "
                "such as 2026-11-30T12:00:00Z"
            )
        return found
