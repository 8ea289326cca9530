"""The three exceptions of gpudrift that callers may want to tell apart.

Everything else is a built-in type: ``FileNotFoundError`` and other ``OSError`` for files, ``TypeError`` for an input
of a kind that cannot be read, ``ValueError`` for a value that makes no sense. Every message is one line: what was
given, what was expected, for which file or column.
"""

from __future__ import annotations

__all__ = ["IncompatibleColumnError", "SchemaMismatchError", "SourceChangedError"]


class IncompatibleColumnError(ValueError):
    """The data of one column cannot be counted under its schema; only that column is affected.

    Parameters
    ----------
    finding : {"type changed", "unit changed", "unreadable", "unsupported"}
        What kind of trouble it is, in the words of the report.
    reason : str
        One line for people: what was given and what was expected.
    """

    def __init__(self, finding: str, reason: str) -> None:
        super().__init__(reason)
        self.finding = finding
        self.reason = reason

    def __reduce__(self) -> tuple[type[IncompatibleColumnError], tuple[str, str]]:
        return type(self), (self.finding, self.reason)


class SchemaMismatchError(ValueError):
    """Two profiles (or a profile and a request) were not made under the same schema."""


class SourceChangedError(ValueError):
    """A file changed, or is gone, while a run read it: what was counted is not one state of the data.

    Files are compared by size and modification time, before and after each part that is read. Let whoever writes the
    file finish and run again.
    """
