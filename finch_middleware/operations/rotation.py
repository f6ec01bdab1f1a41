"""
Re-seals every token with the current key, while the application runs.

Each row is replaced by compare-and-set, so that a newer token is never overwritten. The rows are
the only record of progress: after an interruption, run it again.
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
from finch_middleware.errors import CannotOpen, KeyUnavailable, StorageUnavailable
from finch_middleware.records import SealedToken, StoredConnection
from finch_middleware.secret import Secret
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.spool import Spool

T = TypeVar("T")

#: Rows read at once: a rotation needs the memory of one batch.
BATCH = 500

# A busy storage is asked again: callbacks are more urgent than a rotation.
_PAUSES_SECONDS = (0.1, 0.5, 2.0, 5.0)
_TRIES = 20

# Rows swapped in one transaction: few, so that a callback hardly waits for them.
_TRANSACTION = 50
_LONGEST_REST_SECONDS = 0.1

_Result = Literal["kept", "resealed", "unopened"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """
    Which keys are in use, counted row by row while others may write.

    Attributes:
        connections, quarantined, spooled: Key id: how many tokens it has sealed there. The
            spool is that of this machine.
        client_types: Finch's type of the connections (sandbox, production…): how many.
        others: Connections of another client_id in the same storage, which has its own keys.
        unreadable: The storage's names of rows that cannot be read; their keys are unknown.
        unopened: Key id: why none of its counted tokens opens. Those of accepted keys are opened
            until one does: another key may have the same id.
        complete: Whether every row was counted.
    """

    connections: Mapping[str, int]
    quarantined: Mapping[str, int]
    spooled: Mapping[str, int]
    client_types: Mapping[str, int]
    others: int
    unreadable: Collection[str] = ()
    unopened: Mapping[str, str] = dataclasses.field(default_factory=dict)
    complete: bool

    @property
    def keys(self) -> Mapping[str, int]:
        """Key id: how many tokens it has sealed, in all three places."""
        return Counter(self.connections) + Counter(self.quarantined) + Counter(self.spooled)

    @property
    def rows(self) -> int:
        """The rows that a rotation reads, including those of other client_ids."""
        return sum(self.connections.values()) + sum(self.quarantined.values()) + self.others


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """
    What a rotation has done so far.

    Attributes:
        seen: Rows read.
        resealed: Those that the current key has sealed now, and had not before.
        unopened: Key id: rows that did not open, because that key is not among the accepted
            ones or the row was altered. They are left as they are.
        unreadable: The storage's names of rows that cannot be read; they are left as well.
    """

    seen: int = 0
    resealed: int = 0
    unopened: Mapping[str, int] = dataclasses.field(default_factory=dict)
    unreadable: Collection[str] = ()

    def after(self, results: Sequence[tuple[_Result, str]]) -> Rotated:
        """The totals after one more batch: the results with the keys of the rows."""
        unopened = Counter(key_id for result, key_id in results if result == "unopened")
        return dataclasses.replace(
            self,
            seen=self.seen + len(results),
            resealed=self.resealed + sum(result == "resealed" for result, _ in results),
            unopened=Counter(self.unopened) + unopened,
        )


class Rotation:
    """Re-seals the tokens of one client_id with one key."""

    def __init__(self, *, client_id: str, vault: Vault, storage: Storage, spool: Spool) -> None:
        self._client_id = client_id
        self._vault = vault
        self._storage = storage
        self._spool = spool

    def census(self, *, limit: int | None = None) -> Census:
        """
        Count the tokens of each key: of all connections, or of the first *limit* in the scan.

        Raises:
            StorageFault: The storage is unavailable.
        """
        keys: Counter[str] = Counter()
        client_types: Counter[str] = Counter()
        others = seen = 0
        complete = True
        unreadable: set[str] = set()
        proof = _Proof()
        for batch in self._batches(unreadable):
            ours = [each for each in batch if each.client_id == self._client_id]
            keys.update(each.sealed.key_id for each in ours)
            for each in ours:
                proof.add(each.sealed.key_id, partial(self._vault.open_grant, each))
            client_types.update(each.client_type for each in ours)
            others += len(batch) - len(ours)
            seen += len(batch)
            if limit is not None and seen >= limit:
                complete = False
                break
        quarantined = self._quarantined()
        for held in quarantined:
            proof.add(_key_of(held), partial(self._open_quarantined, held))
        return Census(
            connections=keys,
            quarantined=Counter(map(_key_of, quarantined)),
            spooled=Counter(self._spooled(proof)),
            client_types=client_types,
            others=others,
            unreadable=sorted(unreadable),
            unopened=proof.refusals,
            complete=complete,
        )

    def outdated(self, census: Census) -> int:
        """How many of the counted tokens were not sealed by the current key."""
        return sum(n for key_id, n in census.keys.items() if key_id != self._vault.key_id)

    def run(self) -> Iterator[Rotated]:
        """
        Re-seal every row that another key has sealed; yields after each transaction.

        Rows that a worker with the old key writes during the run may be missed: run it when
        every worker has the new key, and check with `census` afterwards.

        Raises:
            KeyUnavailable: A key is unavailable. Run it again; what is done stays done.
            StorageFault: The storage is unavailable. Run it again; what is done stays done.
        """
        self._vault.prove()
        held = [(self._reseal_quarantined(each), _key_of(each)) for each in self._quarantined()]
        rotated = Rotated().after(held)
        yield rotated
        unreadable: set[str] = set()
        for batch in self._batches(unreadable):
            for start in range(0, len(batch), _TRANSACTION):
                rotated = rotated.after(self._reseal_each(batch[start : start + _TRANSACTION]))
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

    def _spooled(self, proof: _Proof) -> Iterator[str]:
        for entry in self._spool.entries():
            if entry.attempt.client_id != self._client_id:
                continue
            if entry.connection:
                key_id, opening = entry.connection.sealed.key_id, self._vault.open_grant
                proof.add(key_id, partial(opening, entry.connection))
            else:
                key_id = _key_of(entry.attempt)
                proof.add(key_id, partial(self._open_quarantined, entry.attempt))
            yield key_id

    def _reseal_each(self, rows: Sequence[StoredConnection]) -> list[tuple[_Result, str]]:
        """Re-seal these connections; returns each result and the key that had sealed the row."""
        pairs = []
        for each in rows:
            if self._outdated(each):
                with contextlib.suppress(CannotOpen):
                    pairs.append((each, self._resealed(each)))
        began = time.monotonic()
        done = {old.connection_id for old in self._swap_each(pairs)}
        if done:
            # Other writers get as much time as this transaction took.
            time.sleep(min(time.monotonic() - began, _LONGEST_REST_SECONDS))
        return [
            (
                "resealed" if each.connection_id in done else self._reseal_one(each),
                each.sealed.key_id,
            )
            for each in rows
        ]

    def _swap_each(
        self, pairs: Sequence[tuple[StoredConnection, StoredConnection]]
    ) -> list[StoredConnection]:
        """The old ones of those pairs that were swapped."""
        swapped = _patiently(lambda: self._storage.swap_each(pairs)) if pairs else ()
        return [old for (old, _), done in zip(pairs, swapped, strict=True) if done]

    def _outdated(self, stored: StoredConnection) -> bool:
        """Whether it is ours, and another key than the current one has sealed it."""
        return stored.client_id == self._client_id and self._vault.needs_rewrap(stored.sealed.text)

    def _reseal_one(self, stored: StoredConnection) -> _Result:
        """Re-seal one connection, again where it changes before the swap."""
        latest: StoredConnection | None = stored
        for _ in range(_TRIES):
            if latest is None or not self._outdated(latest):
                return "kept"
            try:
                resealed = self._resealed(latest)
            except CannotOpen:
                return "unopened"
            if self._swap(latest, resealed):
                return "resealed"
            latest = self._get(stored.connection_id)
        raise StorageUnavailable("busy")

    def _reseal_quarantined(self, attempt: Attempt) -> _Result:
        """Re-seal a quarantined token."""
        if attempt.sealed is None or not self._vault.needs_rewrap(attempt.sealed.text):
            return "kept"
        try:
            answer = self._open_quarantined(attempt)
        except CannotOpen:
            return "unopened"
        text = self._vault.seal(answer, purpose="quarantine", context=(attempt.attempt_id,))
        resealed = dataclasses.replace(attempt, sealed=SealedToken(text=text))
        # False: an operator has just completed it, and its token is now a connection's.
        written = _patiently(lambda: self._storage.settle(resealed))
        return "resealed" if written else "kept"

    def _open_quarantined(self, attempt: Attempt) -> Secret:
        text = attempt.sealed.text if attempt.sealed else ""
        return self._vault.open(text, purpose="quarantine", context=(attempt.attempt_id,))

    def _resealed(self, stored: StoredConnection) -> StoredConnection:
        sealed = self._vault.seal_grant(
            self._vault.open_grant(stored),
            connection_id=stored.connection_id,
            customer_id=stored.customer_id,
        )
        return dataclasses.replace(stored, sealed=sealed)

    def _swap(self, old: StoredConnection, new: StoredConnection) -> bool:
        return _patiently(lambda: self._storage.swap(old, new))

    def _get(self, connection_id: str) -> StoredConnection | None:
        return _patiently(lambda: self._storage.get(connection_id))


class _Proof:
    """Which keys open something, and why the others open nothing."""

    def __init__(self) -> None:
        self._opened: set[str] = set()
        self.refusals: dict[str, str] = {}

    def add(self, key_id: str, opening: Callable[[], object]) -> None:
        """Open one more token of that key, unless one has opened already."""
        if key_id in self._opened:
            return
        try:
            opening()
        except (CannotOpen, KeyUnavailable) as error:
            self.refusals[key_id] = str(error)
        else:
            self._opened.add(key_id)
            self.refusals.pop(key_id, None)


def _key_of(attempt: Attempt) -> str:
    return attempt.sealed.key_id if attempt.sealed else ""


def _patiently(ask: Callable[[], T]) -> T:
    """The storage's result, after some retries."""
    for pause in _PAUSES_SECONDS:
        try:
            return ask()
        except StorageUnavailable:
            time.sleep(pause)
    return ask()
