"""Results of SQL queries, read in batches: of DuckDB, PostgreSQL and SQLite, and of any connection of ADBC.

A query is executed anew for each reading, so that no result is ever held: bins are chosen in a first reading and rows
counted in a second one. Of a URI both see the same rows, because they are read over one connection: in PostgreSQL in
one transaction (repeatable read, read only), and the files of DuckDB and SQLite are opened for reading only.
"""

from __future__ import annotations

import importlib
import re
import weakref
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Protocol
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import types as is_type

from gpudrift.places.trouble import hidden, named, uri_secrets
from gpudrift.sources.base import OpenedSource, Part, Source, fields_of, positions_of
from gpudrift.sources.libraries import instance_of, kind_of

__all__ = ["FoundQuery", "Query", "absolute", "find_query", "is_query", "query_source", "relation_source"]

SCHEMES = ("duckdb", "sqlite", "postgresql", "postgres")
OTHERS = (
    "mysql",
    "mariadb",
    "mssql",
    "oracle",
    "snowflake",
    "bigquery",
    "redshift",
    "trino",
    "clickhouse",
    "databricks",
)
"""Databases without a driver here: what names one is no store of files, whatever an error of Arrow would say."""
EXAMPLE = "duckdb:///file.db?table=NAME, or ?query=SELECT … as the last parameter"
ROWS = 1 << 16
"""Rows of a batch of DuckDB."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9]*)(?:\+[A-Za-z0-9_]+)?://")


@dataclass(frozen=True)
class Query:
    """The result of a SQL query, as data to profile or compare.

    Parameters
    ----------
    connection : str or connection
        A URI (``duckdb:///file.db``, ``sqlite:///file.db``, ``postgresql://user@host/database``), a connection of
        DuckDB, or a connection of an ADBC driver's ``dbapi`` module.
    sql : str
        It is executed for each reading: twice where bins are chosen, once where they are known, and of SQLite once
        more for its types. It should yield the same rows each time; a different number of them is an error.
    """

    connection: Any = field(repr=False)
    sql: str

    def __post_init__(self) -> None:
        if not str(self.sql).strip():
            raise ValueError(f"sql: expected the text of a query, got {self.sql!r}")


class _Door(Protocol):
    """Where a query is executed."""

    def schema(self) -> pa.Schema:
        """Names and types of the result."""

    def reader(self) -> Any:
        """Execute it: an Arrow reader that is to be closed."""


@dataclass(frozen=True, eq=False)
class _Relation:
    """A relation of DuckDB, or a query on one of its connections."""

    make: Any

    def schema(self) -> pa.Schema:
        table = self._relation().limit(0)
        return (table.to_arrow_table if hasattr(table, "to_arrow_table") else table.arrow)().schema

    def reader(self) -> Any:
        relation = self._relation()
        return (relation.to_arrow_reader if hasattr(relation, "to_arrow_reader") else relation.fetch_arrow_reader)(ROWS)

    def _relation(self) -> Any:
        relation = self.make()
        if relation is None:
            raise ValueError("the statement yields no rows; expected a SELECT")
        return relation


@dataclass(frozen=True, eq=False)
class _Adbc:
    """A query on a connection of ADBC."""

    connection: Any
    sql: str

    def schema(self) -> pa.Schema:
        with closing(self.connection.cursor()) as cursor:
            try:
                return cursor.adbc_execute_schema(self.sql)
            except Exception as error:
                if type(error).__name__ != "NotSupportedError":
                    raise
            cursor.execute(self.sql)
            with closing(cursor.fetch_record_batch()) as reader:
                return reader.schema

    def reader(self) -> Any:
        cursor = self.connection.cursor()
        try:
            cursor.execute(self.sql)
            return _Closing(cursor, cursor.fetch_record_batch())
        except BaseException:
            cursor.close()
            raise


class _Sqlite(_Adbc):
    """A query on a file of SQLite, whose columns have the types of all their values.

    Any value of SQLite has a type of its own, and its driver takes those of the first thousand rows for all: a column
    that begins with nulls, or with whole numbers, would fail at its first real one. So the types are asked for first,
    over all rows, and a row of these types is read, and dropped, before the others.
    """

    def schema(self) -> pa.Schema:
        with closing(self.reader()) as rows:
            return rows.batches.schema

    def reader(self) -> _AfterFirst:
        cursor = self.connection.cursor()
        try:
            cursor.execute(self.typed)
            return _AfterFirst(cursor, cursor.fetch_record_batch())
        except BaseException:
            cursor.close()
            raise

    @cached_property
    def typed(self) -> str:
        """The query behind a row of the types that its columns have."""
        with closing(self.connection.cursor()) as cursor:
            cursor.execute(self._within("SELECT * FROM gpudrift_rows LIMIT 0"))
            with closing(cursor.fetch_record_batch()) as reader:
                names = reader.schema.names
            columns = [f"c{at}" for at in range(len(names))]
            ranks = " ".join(f"WHEN '{kind}' THEN {rank}" for rank, kind in enumerate(_SQLITE_TYPES))
            held = ", ".join(f"max(CASE typeof({column}) {ranks} END)" for column in columns)
            cursor.execute(self._within(f"SELECT {held} FROM gpudrift_rows", f"({', '.join(columns)})"))
            found = [_SQLITE_TYPES[rank or 0] for rank in cursor.fetchone()]
        first = ", ".join(
            f"{_SQLITE_FIRSTS[kind]} AS {_in_quotes(name)}" for kind, name in zip(found, names, strict=True)
        )
        # The driver would write a number among texts with seven digits.
        rest = ", ".join(
            f"CAST({one} AS TEXT)" if kind == "text" else one for kind, one in zip(found, columns, strict=True)
        )
        return self._within(f"SELECT {first} UNION ALL SELECT {rest} FROM gpudrift_rows", f"({', '.join(columns)})")

    def _within(self, outer: str, columns: str = "") -> str:
        return f"WITH gpudrift_rows{columns} AS (\n{self.sql.strip().removesuffix(';')}\n) {outer}"


_SQLITE_FIRSTS = {"integer": "0", "real": "0.0", "blob": "x''", "text": "''"}
"""A value of each type; those that come later hold the others, too."""
_SQLITE_TYPES = tuple(_SQLITE_FIRSTS)


@dataclass(frozen=True)
class _Closing:
    """A reader that closes its cursor, too."""

    cursor: Any
    batches: Any

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return iter(self.batches)

    def close(self) -> None:
        self.batches.close()
        self.cursor.close()


class _AfterFirst(_Closing):
    """The same without the first row."""

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        dropped = 1
        for batch in self.batches:
            yield batch.slice(dropped)
            dropped = 0


class _Address:
    """A query at a URI, connected when it is first needed; pickled, without its connection."""

    def __init__(self, scheme: str, address: str, sql: str, label: str) -> None:
        self.scheme, self.address, self.sql, self.label = scheme, address, sql, label
        self.lock = Lock()
        self.door: _Door | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.scheme, self.address, self.sql, self.label)

    def __repr__(self) -> str:
        return f"_Address({self.label!r})"

    def schema(self) -> pa.Schema:
        return self._opened().schema()

    def reader(self) -> Any:
        return self._opened().reader()

    def _opened(self) -> _Door:
        with self.lock:
            if self.door is None:
                connection, self.door = _connected(self.scheme, self.address, self.sql)
                weakref.finalize(self, connection.close)
            return self.door


def _connected(scheme: str, address: str, sql: str) -> tuple[Any, _Door]:
    if scheme == "duckdb":
        connection = _library("duckdb", "duckdb").connect(address, read_only=True)
        connection.execute("SET enable_progress_bar = false")  # it would stand among what is printed
        return connection, _Relation(lambda: connection.sql(sql))
    if scheme == "sqlite":
        opened = _library("adbc_driver_sqlite.dbapi", "sqlite").connect(f"file:{_quoted_path(address)}?mode=ro")
        return opened, _Sqlite(opened, sql)
    opened = _library("adbc_driver_postgresql.dbapi", "postgresql").connect(address)
    with closing(opened.cursor()) as cursor:
        # One state of the data, and one order of it: a scan may begin where another one is.
        cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor.execute("SET synchronize_seqscans = off")
    opened.commit()
    return opened, _Adbc(opened, sql)


def _quoted_path(path: str) -> str:
    """A path in a URI of SQLite."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _library(module: str, scheme: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0].replace("_", "-")
        raise ModuleNotFoundError(
            f"{scheme}:// needs the package {package}: pip install 'gpudrift[sql]'", name=error.name
        ) from error


@dataclass(frozen=True, eq=False)
class _Result:
    """The rows of a query, which are one part; the place of a column is its position."""

    door: Any
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def size(self, source: OpenedSource, part: Part, place: int) -> int:
        return 16

    def read(self, source: OpenedSource, part: Part, places: Mapping[str, int]) -> Iterator[pa.RecordBatch]:
        with _open_reader(self.door, source.label, self.secrets) as batches:
            for batch in batches:
                arrays = [_plain(batch.column(at), batch.schema.field(at)) for at in places.values()]
                if arrays:
                    yield pa.RecordBatch.from_arrays(arrays, names=list(places))
                else:
                    yield batch.select([])


@contextmanager
def _open_reader(door: _Door, label: str, secrets: tuple[str, ...]) -> Iterator[Iterator[pa.RecordBatch]]:
    """The batches of a query; what the database says is one line without secrets."""
    with named(label, secrets):
        reader = door.reader()

    def batches() -> Iterator[pa.RecordBatch]:
        with named(label, secrets):
            yield from reader

    try:
        yield batches()
    finally:
        reader.close()


def _plain_type(one: pa.Field) -> pa.DataType:
    """The type that a column of a result is read as.

    PostgreSQL's ``numeric`` arrives as text and becomes a float, for it has no scale; types that Arrow does not know
    are the text that they arrive as.
    """
    kind = one.type
    metadata = one.metadata or {}
    if is_type.is_string(kind) and metadata.get(b"ADBC:postgresql:typname") == b"numeric":
        return pa.float64()
    if not isinstance(kind, pa.BaseExtensionType):
        return kind
    storage, name = kind.storage_type, kind.extension_name
    if name == "arrow.opaque" and is_type.is_string(storage):
        return pa.float64() if kind.type_name == "numeric" else storage
    if name == "arrow.bool8":
        return pa.bool_()
    return storage if name == "arrow.json" else kind


def _plain(values: pa.Array, one: pa.Field) -> pa.Array:
    wanted = _plain_type(one)
    if isinstance(values, pa.ExtensionArray) and wanted != values.type:
        values = values.storage
    return values if values.type == wanted else values.cast(wanted)


def _source(label: str, door: _Door, secrets: tuple[str, ...] = ()) -> Source:
    with named(label, secrets):
        schema = door.schema()
    schema = pa.schema([pa.field(one.name, _plain_type(one)) for one in schema])
    parts = (Part(label, None, 0, (0,)),)
    places = (positions_of(schema.names),)
    return OpenedSource(
        label, tuple(fields_of([schema]).values()), parts, _Result(door, secrets), places, columnar=False
    )


def relation_source(relation: Any) -> Source:
    """Source of a relation of DuckDB, which is executed for each reading."""
    return _source("the DuckDB relation", _Relation(lambda: relation))


def query_source(query: Query) -> Source:
    """Source of a `Query`.

    Raises
    ------
    TypeError
        If its connection is none that gives Arrow batches.
    ValueError, FileNotFoundError, ModuleNotFoundError
        One line of what the database says, without secrets.
    """
    connection, sql = query.connection, query.sql
    if isinstance(connection, str):
        scheme, address, params, asked = _split(connection)
        if asked:
            raise ValueError(f"{hidden(connection)!r} says table= or query= beside the query that is given; remove one")
        return _found(scheme, address, params, sql, hidden(connection), uri_secrets(connection)).open()
    shown = sql if len(sql) <= 60 else sql[:59] + "…"
    if instance_of(connection, "duckdb", "DuckDBPyConnection"):
        return _source(f"the query {shown}", _Relation(lambda: connection.sql(sql)))
    if hasattr(connection, "adbc_get_info") or instance_of(connection, "adbc_driver_manager.dbapi", "Connection"):
        return _source(f"the query {shown}", _Adbc(connection, sql))
    raise TypeError(
        f"connection: expected a URI, a DuckDB connection or one of an ADBC driver (adbc_driver_postgresql.dbapi), "
        f"got {kind_of(connection)}"
    )


# --- URIs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FoundQuery:
    """A query at a URI, not connected yet: like files that were found, for a cluster."""

    label: str
    door: _Address
    secrets: tuple[str, ...] = field(default=(), repr=False)
    files: tuple[Any, ...] = ()

    def open(self, _found: object = None) -> Source:
        """Connect, and ask for its columns."""
        return _source(self.label, self.door, self.secrets)

    def summaries(self, _start: int, _stop: int) -> list[Any]:
        """None: there are no files."""
        return []


def is_query(given: object) -> bool:
    """Whether this is a URI of a database."""
    found = _SCHEME.match(given) if isinstance(given, str) else None
    return found is not None and found[1].lower() in SCHEMES + OTHERS


def find_query(uri: str) -> FoundQuery:
    """The query that a URI names; nothing is connected to.

    Raises
    ------
    ValueError
        If the URI names no table and no query.
    """
    scheme, address, params, asked = _split(uri)
    if len(asked) != 1:
        what = "a table and a query" if asked else "neither a table nor a query"
        raise ValueError(f"{hidden(uri)!r} names {what}; expected {EXAMPLE}")
    [(what, text)] = asked.items()
    sql = f"SELECT * FROM {quoted(_decoded(text))}" if what == "table" else _decoded(text)
    return _found(scheme, address, params, sql, hidden(uri), uri_secrets(uri))


def _found(scheme: str, address: str, params: str, sql: str, label: str, secrets: tuple[str, ...]) -> FoundQuery:
    if scheme in ("duckdb", "sqlite"):
        if params:
            raise ValueError(f"{label!r} has parameters that are none: {hidden('?' + params)[1:]}; expected {EXAMPLE}")
        address = str(_file(address, label))
    else:
        address += f"?{params}" if params else ""
    return FoundQuery(label, _Address(scheme, address, sql, label), secrets)


def _split(uri: str) -> tuple[str, str, str, dict[str, str]]:
    """Scheme, address, parameters of the database's own, and the table or the query; a query takes all that follows."""
    found = _SCHEME.match(uri)
    scheme = found[1].lower() if found else ""
    if found is None or scheme not in SCHEMES:
        raise ValueError(
            f"no driver for {hidden(uri)!r}: expected duckdb://, postgresql:// or sqlite://; for others open an ADBC "
            "connection and give gd.Query(connection, sql)"
        )
    head, _, rest = uri.partition("?")
    own, asked = [], {}
    while rest:
        query = re.match(r"query=(.*)", rest, re.DOTALL)
        parameter, _, rest = (rest, "", "") if query else rest.partition("&")
        name, _, value = parameter.partition("=")
        if name in ("table", "query") and value:
            asked[name] = value
        elif parameter:
            own.append(parameter)
    rest = head[found.end() :]
    return scheme, rest if scheme in ("duckdb", "sqlite") else f"postgresql://{rest}", "&".join(own), asked


def _decoded(text: str) -> str:
    """A text of a URI: as it is written if it has spaces, which no URI that was encoded has."""
    return text if re.search(r"\s", text) else unquote(text)


def _file(address: str, label: str) -> Path:
    """The file of a database: below the current folder after three slashes, as SQLAlchemy has it, or from the root.

    Three slashes before a path that is there only from the root are taken for it.
    """
    path = unquote(address)
    relative = Path(path.removeprefix("/"))
    for one in (relative.absolute(), Path(path)):
        if one.is_file():
            return one.absolute()
    raise FileNotFoundError(f"no such file or folder: {label!r} (looked for {str(relative.absolute())!r})")


def absolute(uri: str) -> str:
    """The URI with the whole path of its file, for a process whose current folder is another one."""
    found = _SCHEME.match(uri)
    if found is None or found[1].lower() not in ("duckdb", "sqlite"):
        return uri
    head, mark, rest = uri.partition("?")
    path = _file(head[found.end() :], hidden(uri))
    return f"{found[0]}/{str(path).replace('%', '%25').replace('?', '%3F')}{mark}{rest}"


def quoted(table: str) -> str:
    """The name of a table in SQL: exactly as it is, its parts between dots; what stands in quotes has its dots.

    >>> quoted('sales.Orders'), quoted('"a.b"'), quoted('we"ird')
    ('"sales"."Orders"', '"a.b"', '"we""ird"')
    """
    parts = re.findall(r'(?:^|\.)("(?:[^"]|"")+"(?=\.|$)|[^.]*)', table)
    if not all(parts):
        raise ValueError(f"table: expected a name such as orders or sales.orders, got {table!r}")
    return ".".join(map(_quoted_part, parts))


def _quoted_part(name: str) -> str:
    return name if re.fullmatch(r'"(?:[^"]|"")+"', name) else _in_quotes(name)


def _in_quotes(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
