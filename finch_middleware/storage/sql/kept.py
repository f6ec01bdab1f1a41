"""
Statements that SQLAlchemy compiles once, and the driver runs.

SQLAlchemy's result and its bookkeeping cost several times what SQLite needs for a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, methodcaller
from typing import Any

from sqlalchemy import Connection, Select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.types import TypeEngine

#: The option of an engine's connections by which `run` knows an engine of ours.
OURS = "finch_middleware_ours"

Convert = Callable[[Any], Any]

#: What a driver's cursor, or SQLAlchemy's result, states of a statement.
COUNT: Callable[[Any], int] = attrgetter("rowcount")
ROWS: Callable[[Any], Sequence[Sequence[Any]]] = methodcaller("fetchall")


class Kept:
    """A statement without parameters that expand, ready for any number of executions."""

    def __init__(self, statement: Select[Any] | UpdateBase) -> None:
        self._statement = statement
        self._form: _Form | None = None

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rows that it finds, by the names of their columns."""
        form = self._form or self._made(connection)
        return form.read(run(connection, form.text, form.bound(values), read=ROWS))

    def count(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """How many rows it changed."""
        form = self._form or self._made(connection)
        count: int = run(connection, form.text, form.bound(values))
        return count

    def count_each(self, connection: Connection, values: Mapping[str, Sequence[Any]]) -> int:
        """How many rows it changed, run for each place of these lists; below 0: not counted."""
        form = self._form or self._made(connection)
        result = connection.exec_driver_sql(
            form.text,
            form.bound_each(values),
            execution_options={"preserve_rowcount": True},
        )
        return result.rowcount

    def in_text(
        self, connection: Connection, values: Mapping[str, Any], *, literal: Convert
    ) -> str:
        """The statement with each value written into it by *literal*."""
        form = self._form or self._made(connection)
        given = {**form.fixed, **values}
        return form.text % {name: literal(given[name]) for name in form.names}

    def read(self, connection: Connection, found: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
        """What `rows` returns, of rows that were found by `in_text`."""
        form = self._form or self._made(connection)
        return form.read(found)

    def _made(self, connection: Connection) -> _Form:
        # Not earlier: what SQLAlchemy writes depends on the server's version.
        self._form = _Form.of(self._statement, connection=connection)
        return self._form


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """
    A statement as one driver takes it.

    Attributes:
        names: The parameters; in their order, where the driver takes a sequence.
        fixed: The values that the statement itself holds.
        written: What converts a value, where one has to be converted.
        columns: Of the result.
        readers: What converts a column of the result, where one has to be converted.
    """

    text: str
    names: tuple[str, ...]
    positional: bool
    fixed: Mapping[str, Any]
    written: Mapping[str, Convert]
    columns: tuple[str, ...]
    readers: tuple[tuple[str, Convert], ...]

    @classmethod
    def of(cls, statement: Select[Any] | UpdateBase, *, connection: Connection) -> _Form:
        dialect = connection.dialect
        compiled: Any = statement.compile(dialect=dialect)
        columns = list(statement.selected_columns) if isinstance(statement, Select) else []

        def implemented(kind: TypeEngine[Any]) -> Any:
            return kind.dialect_impl(dialect)

        written = {
            name: implemented(parameter.type).bind_processor(dialect)
            for parameter, name in compiled.bind_names.items()
        }
        readers = (
            (each.name, implemented(each.type).result_processor(dialect, None)) for each in columns
        )
        return cls(
            text=compiled.string,
            names=tuple(compiled.positiontup if compiled.positional else written),
            positional=compiled.positional,
            fixed={name: value for name, value in compiled.params.items() if value is not None},
            written={name: convert for name, convert in written.items() if convert},
            columns=tuple(each.name for each in columns),
            readers=tuple((name, convert) for name, convert in readers if convert),
        )

    def bound(self, values: Mapping[str, Any]) -> Sequence[Any] | Mapping[str, Any]:
        """The parameters as the driver takes them."""
        bound = {**self.fixed, **values}
        for name, convert in self.written.items():
            bound[name] = convert(bound[name])
        return tuple([bound[name] for name in self.names]) if self.positional else bound

    def bound_each(self, values: Mapping[str, Sequence[Any]]) -> Sequence[Any]:
        """`bound` for each place of these lists; name by name, which costs a third."""
        columns: list[Iterable[Any]] = []
        for name in self.names:
            convert = self.written.get(name)
            columns.append(map(convert, values[name]) if convert else values[name])
        rows = list(zip(*columns, strict=True))
        named = (dict(zip(self.names, each, strict=True)) for each in rows)
        return rows if self.positional else list(named)

    def read(self, found: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
        rows = [dict(zip(self.columns, each, strict=True)) for each in found]
        for row in rows:
            for name, convert in self.readers:
                row[name] = convert(row[name])
        return rows


#: A statement, and the values of its parameters.
Bound = tuple[Kept, Mapping[str, Any]]


def is_ours(connection: Connection) -> bool:
    """Whether no application has this connection's engine."""
    return OURS in connection.get_execution_options()


def run(
    connection: Connection, text: str, *parameters: Any, read: Callable[[Any], Any] = COUNT
) -> Any:
    """
    Run one text of SQL; what *read* returns of the cursor.

    On the application's engine through SQLAlchemy: its log and its listeners see what we do.
    """
    if OURS not in connection.get_execution_options():
        given = parameters[0] if parameters else None
        options = {"preserve_rowcount": True}
        return read(connection.exec_driver_sql(text, given, options))
    try:
        driver_connection: Any = connection.connection.dbapi_connection
        cursor = driver_connection.cursor()
        cursor.execute(text, *parameters)
        result = read(cursor)
    except Exception as error:
        failure = _as_sqlalchemy_s(connection, error)
    else:
        return result
    try:
        # Not inside the except block: the driver's error may hold the parameters.
        raise failure
    finally:
        # Or the error and this frame keep each other, and the session, until a collection.
        del failure


def _as_sqlalchemy_s(connection: Connection, error: Exception) -> Exception:
    """The error that SQLAlchemy would raise."""
    driver_errors: Any = connection.dialect.loaded_dbapi.Error
    if not isinstance(error, driver_errors):
        return error
    session: Any = connection.connection.dbapi_connection
    wrapped: Exception = DBAPIError.instance(
        None,
        None,
        error,
        driver_errors,
        connection_invalidated=connection.dialect.is_disconnect(error, session, None),
        dialect=connection.dialect,
    )
    return wrapped
