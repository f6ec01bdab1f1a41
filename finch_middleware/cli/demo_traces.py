"""What the demo's run left on disk: the rows as the database holds them, and every file's bytes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from finch_middleware.storage.protocol import Storage

Row = dict[str, object]

_SQLITE = "sqlite:///"


class Traces:
    """
    One run's connections in the storage, and where its secrets could have leaked to.

    An SQLite file is read by Python's own driver, past this library, and searched byte by
    byte; of any other database the storage tells the columns.
    """

    def __init__(
        self, storage: Storage, *, url: str, client_id: str, customers: Sequence[str], log: Path
    ) -> None:
        self._storage = storage
        self._client_id = client_id
        self._customers = customers
        self._log = log
        self._database = (
            Path(url.removeprefix(_SQLITE).partition("?")[0]).absolute()
            if url.startswith(_SQLITE)
            else None
        )

    def rows(self) -> list[Row]:
        """This run's rows, the oldest first."""
        rows = self._told() if self._database is None else _rows_of_file(self._database)
        return [row for row in rows if row["client_id"] == self._client_id]

    @property
    def searched(self) -> list[str]:
        """What `hold` looks through, by name; a write-ahead log is part of its database."""
        told = ["the columns above"] if self._database is None else []
        return [*told, *(path.name for path in self._files())]

    def hold(self, text: str) -> bool:
        """Whether *text* stands anywhere in what is searched."""
        if self._database is None and text in repr(self.rows()):
            return True
        return any(text.encode() in path.read_bytes() for path in self._files())

    def _files(self) -> list[Path]:
        if self._database is None:
            return [self._log]
        beside = sorted(self._database.parent.iterdir())
        return [*(path for path in beside if _belongs(path, self._database)), self._log]

    def _told(self) -> list[Row]:
        stored = [each for name in self._customers for each in self._storage.for_customer(name)]
        return [dict(each.as_row()) for each in sorted(stored, key=lambda each: each.obtained_at)]


def _rows_of_file(database: Path) -> list[Row]:
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute("SELECT * FROM finch_connections ORDER BY obtained_at")
        return [dict(row) for row in found]


def _belongs(path: Path, database: Path) -> bool:
    return path.is_file() and path.name in (
        database.name,
        f"{database.name}-wal",
        f"{database.name}-journal",
    )


def shortened(value: object) -> str:
    """A column's value on one short line; ciphertext and hashes only begin."""
    if value is None:
        return "(nothing)"
    if isinstance(value, bytes):
        return f"{value[:6].hex()}... ({len(value)} bytes)"
    text = str(value)
    return text if len(text) <= 40 else f"{text[:24]}... ({len(text)} characters)"
