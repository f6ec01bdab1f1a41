"""The ciphertexts of an SQL storage, read and replaced many at a time, for a rotation of keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select

from finch_middleware.records import (
    ANNOUNCED_CUSTOMER,
    NO_CUSTOMER,
    SealedToken,
    StoredToken,
    connection_hash,
)
from finch_middleware.storage.protocol import Scan
from finch_middleware.storage.shards import Shard
from finch_middleware.storage.sql.database import Database
from finch_middleware.storage.sql.kept import Kept
from finch_middleware.storage.sql.schema import Tables


class Tokens:
    """
    The column `sealed`, with the three names to which a ciphertext is bound.

    A rotation that read whole rows and replaced them one by one took twenty times as long.
    """

    def __init__(self, database: Database, *, tables: Tables) -> None:
        self._database = database
        self._replacement = database.dialect.replacement(tables.connections)
        columns = tables.connections.c
        order = database.dialect.row_order(tables.connections)
        self._start = order.start
        self._scan = Kept(
            select(
                order.place.label("place"),
                *(columns[name] for name in ("connection_id", "customer_id", "client_id")),
                columns.sealed,
            )
            .where(
                order.place > bindparam("of_place"),
                order.hashed > bindparam("of_start"),
                order.hashed <= bindparam("of_last"),
                columns.customer_hash != NO_CUSTOMER,
                columns.customer_hash != ANNOUNCED_CUSTOMER,
            )
            .order_by(order.place)
            .limit(bindparam("of_limit"))
        )
        self._current = select(columns.connection_hash, columns.sealed).where(
            columns.connection_hash.in_(bindparam("of_hashes", expanding=True))
        )

    def scan(self, *, after: object | None, limit: int, shard: Shard) -> Scan[StoredToken]:
        """See `Storage.scan_tokens`."""
        rows = self._database.read(
            self._scan,
            of_place=self._start if after is None else after,
            of_start=shard.before,
            of_last=shard.last,
            of_limit=limit,
        )
        tokens = [_token(row) for row in rows]
        return Scan(
            rows=[each for each in tokens if each is not None],
            unreadable=[
                str(row["connection_id"])
                for row, token in zip(rows, tokens, strict=True)
                if token is None
            ],
            after=rows[-1]["place"] if rows else None,
        )

    def swap(self, changes: Sequence[tuple[StoredToken, SealedToken]]) -> Sequence[bool]:
        """See `Storage.swap_tokens`; all of them in one transaction."""
        # Column by column: objects for each row would keep Python's collector busy.
        values: dict[str, list[Any]] = {
            "of_place": [old.place for old, _ in changes],
            "of_hash": [connection_hash(old.connection_id) for old, _ in changes],
            "of_sealed": [old.sealed.text for old, _ in changes],
            "new_sealed": [sealed.text for _, sealed in changes],
        }
        return self._database.write(lambda db: self._swap(db, values)) if changes else []

    def _swap(self, db: Connection, values: dict[str, list[Any]]) -> Sequence[bool]:
        done = self._database.dialect.replace_each(db, self._replacement, values)
        hashes, sealed = values["of_hash"], values["new_sealed"]
        if done == len(hashes):
            return [True] * done
        # No two seals are equal: what has the new one now was replaced here.
        rows = db.execute(self._current, {"of_hashes": hashes})
        current = {bytes(row[0]): row[1] for row in rows}
        return [current.get(each) == new for each, new in zip(hashes, sealed, strict=True)]


def _token(row: dict[str, Any]) -> StoredToken | None:
    """The row's token; None where a column holds no text, as SQLite allows."""
    connection_id, customer_id = row["connection_id"], row["customer_id"]
    client_id, sealed = row["client_id"], row["sealed"]
    if not (type(connection_id) is type(customer_id) is type(client_id) is type(sealed) is str):
        return None
    return StoredToken(
        connection_id=connection_id,
        customer_id=customer_id,
        client_id=client_id,
        sealed=SealedToken(text=sealed),
        place=row["place"],
    )
