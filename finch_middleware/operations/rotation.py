"""
Re-seals every token with the current key, while the application runs.

Each row is replaced by compare-and-set, so that a newer token is never overwritten. The rows are
the only record of progress: after an interruption, run it again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from finch_middleware.attempts import Attempt
from finch_middleware.crypto.vault import Vault
from finch_middleware.errors import CannotOpen, KeyUnavailable, StorageUnavailable
from finch_middleware.records import SealedToken, StoredConnection, StoredToken
from finch_middleware.secret import Secret
from finch_middleware.storage.protocol import Storage
from finch_middleware.storage.shards import WHOLE, Shard
from finch_middleware.storage.spool import Spool

T = TypeVar("T")

#: Rows read at once: a rotation needs the memory of one batch.
BATCH = 500
_SMALLEST_BATCH = 200

# A busy storage is asked again: callbacks are more urgent than a rotation.
_PAUSES_SECONDS = (0.1, 0.5, 2.0, 5.0)
_TRIES = 20

# A callback may have to wait for the transaction of one batch.
_LONGEST_TRANSACTION_SECONDS = 0.02
_LONGEST_REST_SECONDS = 0.1
# How much slower each transaction may find the storage than those before it.
_SLOWER = 1.05

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
        """The totals after one more batch: the results, each unopened one with its key."""
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
        self._pace = _Pace()

    def census(self, *, limit: int | None = None, shard: Shard = WHOLE) -> Census:
        """
        Count the tokens of each key: of *shard*, or of its first *limit* connections in the scan.

        The first shard includes those in quarantine and in the spool.

        Raises:
            StorageFault: The storage is unavailable.
        """
        keys: Counter[str] = Counter()
        client_types: Counter[str] = Counter()
        others = seen = 0
        complete = True
        unreadable: set[str] = set()
        proof = _Proof()
        for batch in self._connections(unreadable, shard=shard):
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
        quarantined = self._quarantined() if shard.number == 1 else []
        for held in quarantined:
            proof.add(_key_of(held), partial(self._open_quarantined, held))
        return Census(
            connections=keys,
            quarantined=Counter(map(_key_of, quarantined)),
            spooled=Counter(self._spooled(proof) if shard.number == 1 else ()),
            client_types=client_types,
            others=others,
            unreadable=sorted(unreadable),
            unopened=proof.refusals,
            complete=complete,
        )

    def outdated(self, census: Census) -> int:
        """How many of the counted tokens were not sealed by the current key."""
        return sum(n for key_id, n in census.keys.items() if key_id != self._vault.key_id)

    def run(self, *, shard: Shard = WHOLE) -> Iterator[Rotated]:
        """
        Re-seal every row of *shard* that another key has sealed; yields after each transaction.

        The first shard includes the tokens in quarantine, which are few. Rows that a worker with
        the old key writes during the run may be missed: run it when every worker has the new key,
        and check with `census` afterwards.

        Raises:
            KeyUnavailable: A key is unavailable. Run it again; what is done stays done.
            StorageFault: The storage is unavailable. Run it again; what is done stays done.
        """
        self._vault.prove()
        held = self._quarantined() if shard.number == 1 else []
        rotated = Rotated().after(
            [(self._reseal_quarantined(each), _key_of(each)) for each in held]
        )
        yield rotated
        unreadable: set[str] = set()
        with _collecting_new_objects():
            for batch in self._tokens(unreadable, shard=shard):
                rotated = rotated.after(self._reseal_each(batch))
                yield rotated
        if unreadable:
            yield dataclasses.replace(rotated, unreadable=sorted(unreadable))

    def _connections(
        self, unreadable: set[str], *, shard: Shard
    ) -> Iterator[Sequence[StoredConnection]]:
        """Every connection that can be read; the names of the others go to *unreadable*."""
        after: str | None = None
        while True:
            scan = partial(self._storage.scan_shard, shard, after=after, limit=BATCH)
            batch = _patiently(scan)
            unreadable.update(batch.unreadable)
            if not batch.connections:
                return
            yield batch.connections
            after = batch.connections[-1].connection_id

    def _tokens(self, unreadable: set[str], *, shard: Shard) -> Iterator[Sequence[StoredToken]]:
        """Every token that can be read; the names of the others go to *unreadable*."""
        after: object | None = None
        while True:
            limit = min(self._pace.rows, BATCH)
            scan = partial(self._storage.scan_tokens, after=after, limit=limit, shard=shard)
            batch = _patiently(scan)
            unreadable.update(batch.unreadable)
            if batch.tokens:
                yield batch.tokens
            if batch.after is None:
                return
            after = batch.after

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

    def _reseal_each(self, rows: Sequence[StoredToken]) -> list[tuple[_Result, str]]:
        """Re-seal these tokens; returns the results for `Rotated.after`."""
        changes = []
        results: list[tuple[_Result, str]] = []
        for each in rows:
            try:
                resealed = self._resealed(each)
            except CannotOpen:
                results.append(("unopened", each.sealed.key_id))
                continue
            if resealed is None:
                results.append(("kept", ""))
            else:
                changes.append((each, resealed))
        done = self._swap_each(changes) if changes else []
        for (old, _), swapped in zip(changes, done, strict=True):
            if swapped:
                results.append(("resealed", ""))
            else:
                results.append((self._reseal_changed(old), old.sealed.key_id))
        return results

    def _swap_each(self, changes: Sequence[tuple[StoredToken, SealedToken]]) -> Sequence[bool]:
        with self._pace.transaction(len(changes)):
            return _patiently(partial(self._storage.swap_tokens, changes))

    def _reseal_changed(self, stored: StoredToken) -> _Result:
        """Re-seal a token whose row has changed, again where it changes before the swap."""
        for _ in range(_TRIES):
            latest = self._get(stored.connection_id)
            if latest is None:
                return "kept"
            try:
                resealed = self._resealed(latest)
            except CannotOpen:
                return "unopened"
            if resealed is None:
                return "kept"
            if self._swap_each([(latest, resealed)])[0]:
                return "resealed"
        raise StorageUnavailable("busy")

    def _reseal_held(self) -> list[tuple[_Result, str]]:
        """Re-seal the quarantined tokens."""
        return [(self._reseal_quarantined(each), _key_of(each)) for each in self._quarantined()]

    def _reseal_quarantined(self, attempt: Attempt) -> _Result:
        """Re-seal a quarantined token."""
        sealed = attempt.sealed.text if attempt.sealed else ""
        context = (attempt.attempt_id,)
        try:
            text = self._vault.reseal(sealed, purpose="quarantine", context=context)
        except CannotOpen:
            return "unopened"
        if text is None:
            return "kept"
        resealed = dataclasses.replace(attempt, sealed=SealedToken(text=text))
        # False: an operator has just completed it, and its token is now a connection's.
        written = _patiently(lambda: self._storage.settle(resealed))
        return "resealed" if written else "kept"

    def _open_quarantined(self, attempt: Attempt) -> Secret:
        text = attempt.sealed.text if attempt.sealed else ""
        return self._vault.open(text, purpose="quarantine", context=(attempt.attempt_id,))

    def _resealed(self, stored: StoredToken) -> SealedToken | None:
        """Its token under the current key; None if it is, or if another client_id's."""
        return self._vault.reseal_grant(stored) if stored.client_id == self._client_id else None

    def _get(self, connection_id: str) -> StoredToken | None:
        stored = _patiently(lambda: self._storage.get(connection_id))
        return StoredToken.of(stored) if stored is not None else None


class _Pace:
    """
    How much a rotation asks of the storage, which others use at the same time.

    Attributes:
        rows: How many rows the next transaction should swap.
    """

    def __init__(self) -> None:
        self.rows = _SMALLEST_BATCH
        self._row_seconds = math.inf
        self._ended = 0.0
        self._took = 0.0

    @contextlib.contextmanager
    def transaction(self, rows: int) -> Iterator[None]:
        """Around a transaction of *rows*: leaves others as much time as the last one took."""
        rest = min(self._took, _LONGEST_REST_SECONDS) - (time.monotonic() - self._ended)
        if rest > 0:
            time.sleep(rest)
        began = time.monotonic()
        yield
        self._ended = time.monotonic()
        self._took = self._ended - began or 1e-6  # where the clock is coarse
        # The fastest of the last ones: on a busy disk most of the time is the commit's, and a
        # smaller transaction would take as long.
        self._row_seconds = min(self._row_seconds * _SLOWER, self._took / rows)
        fitting = int(_LONGEST_TRANSACTION_SECONDS / self._row_seconds)
        self.rows = max(_SMALLEST_BATCH, min(fitting, BATCH))


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


@contextlib.contextmanager
def _collecting_new_objects() -> Iterator[None]:
    """
    Keep Python's collector from reading the other objects of the process.

    It did after each few batches, which took a third of a rotation's time.
    """
    ours = gc.get_freeze_count() == 0
    if ours:
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


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
