"""YAML as people mean it: version 1.2 of the specification, in which a text stays a text.

PyYAML parses; what its scalars mean is decided here, by the core schema of YAML 1.2.2 (section 10.3.2). Under YAML 1.1,
PyYAML's own, ``NO`` is false, ``1:30`` is 90 and ``010`` is 8; here they are two texts and the number 10. Dates are no
part of the core schema: an unquoted one is a text that knows its date, for whoever expects one.

Refused, each with its line: a key that stands twice, keys that are no plain value, tags beyond the core schema, merge
keys, and aliases that would make more than ``MOST_VALUES`` values or of which one holds itself. What is read is a tree
of dicts, lists and plain values, whatever the file.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["MOST_BYTES", "MOST_VALUES", "DateText", "load_yaml"]

MOST_BYTES = 16 << 20
"""Of a file. PyYAML reads some 100 kB a second; rules for 1,000 columns take about that."""
MOST_VALUES = 100_000
"""That aliases may make of the values that are written down, where these are fewer."""
LONGEST = 300
"""Characters of what is wrong."""

_CORE = "tag:yaml.org,2002:"
_PLAIN = "plain"
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?( ?(Z|[-+][0-9:]+))?)?"
)
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("null", "Null", "NULL", "~", ""), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class DateText(str):
    """An unquoted text that is a date or a time, too."""

    __slots__ = ()

    @property
    def date(self) -> datetime.date | None:
        """The date, or the time; None where the calendar does not have it."""
        try:
            if len(self) == 10:
                return datetime.date.fromisoformat(self)
            return datetime.datetime.fromisoformat(self.replace(" Z", "Z").replace(" +", "+").replace(" -", "-"))
        except ValueError:
            return None


def load_yaml(content: str) -> Any:
    """What a text means as YAML 1.2.

    Raises
    ------
    ImportError
        Without PyYAML.
    ValueError
        One line of at most ``LONGEST`` characters, with the line of the text.
    """
    yaml: Any = import_module("yaml")
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has {len(content):,} characters, at most {MOST_BYTES:,} are read")
    try:
        loader = yaml.SafeLoader(content)
        # Of this object alone: those of the class are everybody's. A plain scalar without a tag gets one of ours.
        loader.yaml_implicit_resolvers = {None: [(_PLAIN, re.compile(""))]}
        node = loader.get_single_node()
        return None if node is None else _Reading(node).value(node)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(filter(None, (error.context, error.problem)))
        raise ValueError(_cut(said if mark is None else f"line {mark.line + 1}: {said}")) from None
    except yaml.YAMLError as error:
        raise ValueError(_cut(str(error))) from None


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def _wrong(node: Any, what: str) -> ValueError:
    return ValueError(_cut(f"line {node.start_mark.line + 1}: {what}"))


class _Reading:
    """Values of the nodes of one file."""

    def __init__(self, root: Any) -> None:
        self.sizes: dict[int, int] = {}
        self.written = 0
        size = self._size(root)
        if size > max(MOST_VALUES, self.written):
            raise _wrong(
                root, f"aliases (*name) make {_many(size)} values of {self.written:,}; write them out, or fewer"
            )

    def _size(self, node: Any) -> int:
        """Values below a node, those that aliases repeat counted each time; without walking them each time."""
        known = self.sizes.get(id(node))
        if known is not None:
            if known == 0:
                raise _wrong(node, "an alias stands within what it stands for")
            return known
        self.written += 1
        self.sizes[id(node)] = 0
        if node.id == "mapping":
            size = 1 + sum(self._size(key) + self._size(value) for key, value in node.value)
        else:
            size = 1 if node.id == "scalar" else 1 + sum(map(self._size, node.value))
        self.sizes[id(node)] = size
        return size

    def value(self, node: Any) -> Any:
        if node.id == "scalar":
            return _scalar(node)
        if node.tag != _CORE + ("map" if node.id == "mapping" else "seq"):
            raise _wrong(node, f"the tag {node.tag.removeprefix(_CORE)!r:.60} is not one of YAML's core schema")
        if node.id == "sequence":
            return [self.value(one) for one in node.value]
        made: dict[Any, Any] = {}
        lines: dict[tuple[type, Any], int] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if (type(key), key) in lines:
                first = lines[type(key), key]
                raise _wrong(key_node, f"{key_node.value!r:.60} stands twice, first in line {first}")
            lines[type(key), key] = key_node.start_mark.line + 1
            made[key] = self.value(value_node)
        return made

    def _key(self, node: Any) -> Any:
        if not node.id == "scalar":
            raise _wrong(node, "a key has to be a plain value, not a list or a table")
        if node.tag == _PLAIN and node.value == "<<":
            raise _wrong(node, "merge keys (<<) are none of YAML 1.2; write the entries out")
        key = _scalar(node)
        return str(key) if isinstance(key, DateText) else key


def _many(count: int) -> str:
    return f"{count:,}" if count < 10**12 else f"about 10^{len(str(count)) - 1}" if count < 10**4000 else "endless"


def _scalar(node: Any) -> Any:
    """What a scalar means: quoted a text; by its tag, if it has one; else by the core schema."""
    text, tag = node.value, node.tag.removeprefix(_CORE)
    if tag == _PLAIN:
        return _plain(node, text)
    made = _TAGGED.get(tag)
    if made is None:
        raise _wrong(node, f"the tag {tag!r:.60} is not one of YAML's core schema")
    try:
        return made(text)
    except (ValueError, KeyError):
        raise _wrong(node, f"{text!r:.60} is no value of the tag {tag!r}") from None


def _plain(node: Any, text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        try:
            return _integer(text)
        except ValueError:  # Python reads no numbers of more than 4,300 digits
            raise _wrong(node, f"a number of {len(text):,} digits") from None
    if _REAL.fullmatch(text):
        return _real(text)
    return DateText(text) if _DATE.fullmatch(text) else text


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError(text)
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


def _real(text: str) -> float:
    if not (_REAL.fullmatch(text) or _INTEGER.fullmatch(text)):
        raise ValueError(text)
    return float(re.sub(r"\.(?=[in])", "", text.lower()))  # Python writes no point before inf and nan


_TAGGED: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": _integer,
    "float": _real,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "null": lambda text: {word: None for word in _WORDS if _WORDS[word] is None}[text],
}
