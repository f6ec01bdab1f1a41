"""
Re-seals every token with the current key, while the application runs.

Each row is replaced by compare-and-set, so that a newer token is never overwritten. The rows are
the only record of progress: after an interruption, run it again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from finch_middleware.attempts import Attempt
from finch_middleware.crypto.vault import Holder, Vault
from finch_middleware.errors import CannotOpen, KeyUnavailable, StorageUnavailable
from finch_middleware.records import SealedToken, StoredToken
from finch_middleware.storage.protocol import Scan, Storage
from finch_middleware.storage.shards import WHOLE, Shard
from finch_middleware.storage.spool import Spool

T = TypeVar("T")
H = TypeVar("H", Attempt, StoredToken)

# Rows read at once: a rotation needs the memory of one batch.
_BATCH = 500
_SMALLEST_BATCH = 200

# A busy storage is asked again: callbacks are more urgent than a rotation.
_PAUSES_SECONDS = (0.1, 0.5, 2.0, 5.0)
_TRIES = 20

# A callback may have to wait for the transaction of one batch.
_LONGEST_TRANSACTION_SECONDS = 0.02
_LONGEST_REST_SECONDS = 0.1
# How much slower each transaction may find the storage than those before it.
_SLOWER = 1.05


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

    def plus(self, more: Rotated) -> Rotated:
        """Both together."""
        return Rotated(
            seen=self.seen + more.seen,
            resealed=self.resealed + more.resealed,
            unopened=Counter(self.unopened) + Counter(more.unopened),
            unreadable={*self.unreadable, *more.unreadable},
        )


@dataclass(kw_only=True, eq=False, repr=False)
class Rotation:
    """Re-seals the tokens of one client_id with one key."""

    client_id: str
    vault: Vault
    storage: Storage
    spool: Spool

    def __post_init__(self) -> None:
        self._pace = _Pace()

    def census(self, *, limit: int | None = None, shard: Shard = WHOLE) -> Census:
        """
        Count the tokens of each key: of *shard*, or of its first *limit* connections in the scan.

        The first shard includes those in quarantine and in the spool.

        Raises:
            StorageFault: The storage is unavailable.
        """
        keys, client_types = Counter[str](), Counter[str]()
        others = 0
        unreadable: set[str] = set()
        proof = _Proof(self.vault)
        rows = self.storage.connections(shard, unreadable=unreadable)
        for each in itertools.islice(rows, limit):
            if each.client_id == self.client_id:
                keys[proof.key_of(each)] += 1
                client_types[each.client_type] += 1
            else:
                others += 1
        complete = next(rows, None) is None
        return Census(
            connections=keys,
            quarantined=Counter(map(proof.key_of, self._quarantined(shard))),
            spooled=Counter(map(proof.key_of, self._spooled(shard))),
            client_types=client_types,
            others=others,
            unreadable=sorted(unreadable),
            unopened=proof.refusals,
            complete=complete,
        )

    def outdated(self, census: Census) -> int:
        """How many of the counted tokens were not sealed by the current key."""
        return sum(n for key_id, n in census.keys.items() if key_id != self.vault.key_id)

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
        self.vault.prove()
        rotated = self._reseal_quarantined(shard)
        yield rotated
        after: object | None = None
        with _collecting_new_objects():
            while True:
                scan = partial(self.storage.scan_tokens, after=after, shard=shard)
                batch = _patiently(partial(scan, limit=self._pace.rows))
                rotated = rotated.plus(self._reseal(batch))
                yield rotated
                if batch.after is None:
                    return
                after = batch.after

    def _quarantined(self, shard: Shard) -> list[Attempt]:
        """The attempts that hold a token; with the first shard only."""
        found = _patiently(self.storage.quarantined) if shard.number == 1 else ()
        return [each for each in found if each.client_id == self.client_id and each.sealed]

    def _spooled(self, shard: Shard) -> Iterator[Holder]:
        """What waits in the spool; with the first shard only."""
        for entry in self.spool.entries() if shard.number == 1 else ():
            if entry.attempt.client_id == self.client_id:
                yield entry.connection or entry.attempt

    def _reseal_quarantined(self, shard: Shard) -> Rotated:
        held = self._quarantined(shard)
        changes, unopened = self._changes(held)
        resealed = 0
        for attempt, sealed in changes:
            changed = dataclasses.replace(attempt, sealed=sealed)
            # False: an operator has just completed it, and its token is now a connection's.
            resealed += _patiently(partial(self.storage.settle, changed))
        return Rotated(seen=len(held), resealed=resealed, unopened=unopened)

    def _reseal(self, batch: Scan[StoredToken]) -> Rotated:
        """Re-seal the tokens of a batch. A row that changes before the swap is read again."""
        rows, resealed, unopened = batch.rows, 0, Counter[str]()
        for _ in range(_TRIES):
            changes, not_opened = self._changes(rows)
            unopened += not_opened
            if not changes:
                return Rotated(
                    seen=len(batch.rows),
                    resealed=resealed,
                    unopened=unopened,
                    unreadable=batch.unreadable,
                )
            with self._pace.transaction(len(changes)):
                done = _patiently(partial(self.storage.swap_tokens, changes))
            resealed += sum(done)
            changed = [old for (old, _), swapped in zip(changes, done, strict=True) if not swapped]
            latest = [_patiently(partial(self.storage.get, old.connection_id)) for old in changed]
            rows = [StoredToken.of(row) for row in latest if row is not None]
        raise StorageUnavailable("busy")

    def _changes(self, holders: Iterable[H]) -> tuple[list[tuple[H, SealedToken]], Counter[str]]:
        """What to re-seal, each with its new seal; and by key how many do not open."""
        changes: list[tuple[H, SealedToken]] = []
        unopened = Counter[str]()
        for each in holders:
            if each.client_id != self.client_id:
                continue
            try:
                sealed = self.vault.reseal_grant(each)
            except CannotOpen:
                unopened[_key_of(each)] += 1
            else:
                if sealed is not None:
                    changes.append((each, sealed))
        return changes, unopened


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
        self.rows = max(_SMALLEST_BATCH, min(fitting, _BATCH))


class _Proof:
    """Which keys open something, and why the others open nothing."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._opened: set[str] = set()
        self.refusals: dict[str, str] = {}

    def key_of(self, holder: Holder) -> str:
        """The key that sealed it; opens it, unless that key has opened another one already."""
        key_id = _key_of(holder)
        if key_id not in self._opened:
            try:
                self._vault.open_grant(holder)
            except (CannotOpen, KeyUnavailable) as error:
                self.refusals[key_id] = str(error)
            else:
                self._opened.add(key_id)
                self.refusals.pop(key_id, None)
        return key_id


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


def _key_of(holder: Holder) -> str:
    return holder.sealed.key_id if holder.sealed else ""


def _patiently(ask: Callable[[], T]) -> T:
    """The storage's result, after some retries."""
    for pause in _PAUSES_SECONDS:
        try:
            return ask()
        except StorageUnavailable:
            time.sleep(pause)
    return ask()
