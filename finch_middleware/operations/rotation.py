"""
Brings every sealed token under the key that seals now, while the application runs.

Each row is replaced by compare-and-set, so that a newer token is never written over. Nothing is
remembered but the rows themselves: a run that was cut off goes on where it is started again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from finch_middleware.attempts import Attempt
from finch_middleware.crypto.vault import Vault
from finch_middleware.errors import CannotOpen, StorageUnavailable
from finch_middleware.records import SealedToken, StoredConnection
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.spool import Spool

T = TypeVar("T")

#: Rows read at once; what one batch takes is all the memory that a rotation needs.
BATCH = 500

# A busy storage is asked again: callbacks come first, and a rotation has all day.
_PAUSES_SECONDS = (0.1, 0.5, 2.0, 5.0)
_TRIES = 20

# Rows swapped in one transaction: few enough that a callback hardly waits behind them.
_TRANSACTION = 50
_LONGEST_REST_SECONDS = 0.1

_Fate = Literal["kept", "resealed", "unopened"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """
    Which keys are in use, counted row by row while others may write.

    Attributes:
        connections, quarantined, spooled: Key id: how many tokens it has sealed there. The
            spool is that of this machine.
        client_types: Finch's word on the connections (sandbox, production…): how many.
        others: Connections of another client_id in the same storage; their keys are not ours.
        unreadable: The storage's names of rows that nobody can read; what sealed them is unknown.
        complete: Whether every row was counted.
    """

    connections: Mapping[str, int]
    quarantined: Mapping[str, int]
    spooled: Mapping[str, int]
    client_types: Mapping[str, int]
    others: int
    unreadable: Collection[str] = ()
    complete: bool

    @property
    def keys(self) -> Mapping[str, int]:
        """Key id: how many tokens it has sealed, wherever they lie."""
        return Counter(self.connections) + Counter(self.quarantined) + Counter(self.spooled)

    @property
    def rows(self) -> int:
        """The rows that a rotation looks at, those of other client_ids among them."""
        return sum(self.connections.values()) + sum(self.quarantined.values()) + self.others


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """
    What a rotation has done so far.

    Attributes:
        seen: Rows looked at.
        resealed: Those that are now under the present key and were not before.
        unopened: Key id: rows that did not open, because that key is not among the accepted
            ones or the row was altered. They are left as they are.
        unreadable: The storage's names of rows that nobody can read; they are left as well.
    """

    seen: int = 0
    resealed: int = 0
    unopened: Mapping[str, int] = dataclasses.field(default_factory=dict)
    unreadable: Collection[str] = ()

    def after(self, fates: Sequence[tuple[_Fate, str]]) -> Rotated:
        """This, and a batch of rows with their keys."""
        unopened = Counter(key_id for fate, key_id in fates if fate == "unopened")
        return dataclasses.replace(
            self,
            seen=self.seen + len(fates),
            resealed=self.resealed + sum(fate == "resealed" for fate, _ in fates),
            unopened=Counter(self.unopened) + unopened,
        )


class Rotation:
    """The tokens of one client_id, brought under one key."""

    def __init__(self, *, client_id: str, vault: Vault, storage: Storage, spool: Spool) -> None:
        self._client_id = client_id
        self._vault = vault
        self._storage = storage
        self._spool = spool

    def census(self, *, limit: int | None = None) -> Census:
        """
        Who sealed what: of all connections, or of the first *limit* in the storage's own order.

        Raises:
            StorageFault: The storage is away.
        """
        keys: Counter[str] = Counter()
        client_types: Counter[str] = Counter()
        others = seen = 0
        complete = True
        unreadable: set[str] = set()
        for batch in self._batches(unreadable):
            ours = [each for each in batch if each.client_id == self._client_id]
            keys.update(each.sealed.key_id for each in ours)
            client_types.update(each.client_type for each in ours)
            others += len(batch) - len(ours)
            seen += len(batch)
            if limit is not None and seen >= limit:
                complete = False
                break
        return Census(
            connections=keys,
            quarantined=Counter(_key_of(each) for each in self._quarantined()),
            spooled=Counter(self._spooled()),
            client_types=client_types,
            others=others,
            unreadable=sorted(unreadable),
            complete=complete,
        )

    def outdated(self, census: Census) -> int:
        """How many of the counted tokens another key than the present one has sealed."""
        return sum(n for key_id, n in census.keys.items() if key_id != self._vault.key_id)

    def run(self) -> Iterator[Rotated]:
        """
        Re-seals every row that another key has sealed; yields after each few.

        Rows that are written meanwhile by a worker whose key is the old one may be missed:
        run it when every worker has the new one, and let `census` have the last word.

        Raises:
            KeyUnavailable: A key is not at hand. What is done stays done; run it again.
            StorageFault: The storage is away. What was done is done; run it again.
        """
        self._vault.prove()
        held = [(self._held(each), _key_of(each)) for each in self._quarantined()]
        rotated = Rotated().after(held)
        yield rotated
        unreadable: set[str] = set()
        for batch in self._batches(unreadable):
            for start in range(0, len(batch), _TRANSACTION):
                rotated = rotated.after(self._kept_each(batch[start : start + _TRANSACTION]))
                yield rotated
        if unreadable:
            yield dataclasses.replace(rotated, unreadable=sorted(unreadable))

    def _batches(self, unreadable: set[str]) -> Iterator[Sequence[StoredConnection]]:
        """Every connection that can be read; the names of the others go to *unreadable*."""
        after: str | None = None
        while True:
            batch = _patiently(partial(self._storage.scan, after=after, limit=BATCH))
            unreadable.update(batch.unreadable)
            if not batch.connections:
                return
            yield batch.connections
            after = batch.connections[-1].connection_id

    def _quarantined(self) -> list[Attempt]:
        found = _patiently(self._storage.quarantined)
        return [each for each in found if each.client_id == self._client_id and each.sealed]

    def _spooled(self) -> Iterator[str]:
        for entry in self._spool.entries():
            if entry.attempt.client_id == self._client_id:
                sealed = entry.connection.sealed if entry.connection else entry.attempt.sealed
                yield sealed.key_id if sealed else ""

    def _kept_each(self, rows: Sequence[StoredConnection]) -> list[tuple[_Fate, str]]:
        """What became of some connections' rows, with the keys that they were under."""
        pairs = []
        for each in rows:
            if self._outdated(each):
                with contextlib.suppress(CannotOpen):
                    pairs.append((each, self._resealed(each)))
        began = time.monotonic()
        done = {old.connection_id for old in self._swapped_each(pairs)}
        if done:
            # A database with one writer at a time is everybody else's for as long again.
            time.sleep(min(time.monotonic() - began, _LONGEST_REST_SECONDS))
        return [
            ("resealed" if each.connection_id in done else self._kept(each), each.sealed.key_id)
            for each in rows
        ]

    def _swapped_each(
        self, pairs: Sequence[tuple[StoredConnection, StoredConnection]]
    ) -> list[StoredConnection]:
        """The old ones of those pairs that were swapped."""
        swapped = _patiently(lambda: self._storage.swap_each(pairs)) if pairs else ()
        return [old for (old, _), done in zip(pairs, swapped, strict=True) if done]

    def _outdated(self, stored: StoredConnection) -> bool:
        """Whether it is ours and under another key than the present one."""
        return stored.client_id == self._client_id and self._vault.needs_rewrap(stored.sealed.text)

    def _kept(self, stored: StoredConnection) -> _Fate:
        """What became of a connection's row."""
        latest: StoredConnection | None = stored
        for _ in range(_TRIES):
            if latest is None or not self._outdated(latest):
                return "kept"
            try:
                resealed = self._resealed(latest)
            except CannotOpen:
                return "unopened"
            if self._swapped(latest, resealed):
                return "resealed"
            # Somebody has written it since it was read; theirs is what counts.
            latest = self._get(stored.connection_id)
        raise StorageUnavailable("busy")

    def _held(self, attempt: Attempt) -> _Fate:
        """What became of a quarantined token."""
        sealed, context = attempt.sealed, (attempt.attempt_id,)
        if sealed is None or not self._vault.needs_rewrap(sealed.text):
            return "kept"
        try:
            answer = self._vault.open(sealed.text, purpose="quarantine", context=context)
        except CannotOpen:
            return "unopened"
        text = self._vault.seal(answer, purpose="quarantine", context=context)
        resealed = dataclasses.replace(attempt, sealed=SealedToken(text=text))
        # False: an operator has completed it meanwhile, and its token is a connection's now.
        written = _patiently(lambda: self._storage.settle(resealed))
        return "resealed" if written else "kept"

    def _resealed(self, stored: StoredConnection) -> StoredConnection:
        sealed = self._vault.seal_grant(
            self._vault.open_grant(stored),
            connection_id=stored.connection_id,
            customer_id=stored.customer_id,
        )
        return dataclasses.replace(stored, sealed=sealed)

    def _swapped(self, old: StoredConnection, new: StoredConnection) -> bool:
        return _patiently(lambda: self._storage.swap(old, new))

    def _get(self, connection_id: str) -> StoredConnection | None:
        return _patiently(lambda: self._storage.get(connection_id))


def _key_of(attempt: Attempt) -> str:
    return attempt.sealed.key_id if attempt.sealed else ""


def _patiently(ask: Callable[[], T]) -> T:
    """What the storage answers, in the end."""
    for pause in _PAUSES_SECONDS:
        try:
            return ask()
        except StorageUnavailable:
            time.sleep(pause)
    return ask()
