"""
The storage interface: the few promises that a backend keeps.

A storage sees ciphertext, hashes and what is needed to list connections; it never needs to
be trusted with a secret. `memory`, `sqlalchemy` and `redis` stand beside this file. For another,
give a class these methods; `finch_middleware.testing.StorageContract` checks the promises.

Every method may be called from many threads at once and, unless the storage says that it
lives in one process, from many processes. Each raises `StorageUnavailable` when it cannot
confirm what it was asked; nothing else may escape.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from finch_middleware.attempts import Attempt
from finch_middleware.records import StoredConnection


@runtime_checkable
class Storage(Protocol):
    """What a backend has to do, and what it promises in doing it."""

    def check(self) -> None:
        """
        Return when a claim written now would be durable: reachable, writable, schema as expected.

        Called before a person is sent to Finch, so it must be cheap: what cannot change
        while the process lives (the schema, the server's settings) may be remembered.

        Raises:
            SchemaMismatch: Tables are missing or old. The message names the mend.
            StorageUnavailable: It cannot be reached or written now.
        """

    def claim(self, attempt: Attempt) -> Attempt | None:
        """
        Record *attempt* as the only one allowed to present its code.

        None: this caller won. Otherwise the attempt that stands, under the same code_hash
        or else under the same flow_hash (where that is not None). Of any number of racing
        callers exactly one gets None. Durable when it returns.

        Raises:
            StorageUnavailable: The claim is not known to be recorded.
        """

    def attempt(self, code_hash: bytes) -> Attempt | None:
        """The attempt that stands for this code, as last committed."""

    def settle(self, attempt: Attempt, connection: StoredConnection | None = None) -> bool:
        """
        Write the end of an attempt and the connection that it brought, in one durable step.

        The attempt replaces the standing one of its code_hash and attempt_id if that is
        still claimed, or if the new state holds a token (stored, quarantined), but a
        quarantined one never replaces a stored one. In the same state `notified` may become
        True. It is written anew if none stands. If
        another attempt holds its flow_hash, it is written with None there. The connection
        replaces the stored one of its connection_id unless that has a later `obtained_at`.
        Settling twice changes nothing more.

        True: the attempt was written. False: what stands was already settled otherwise;
        the connection is written all the same.
        """

    def release(self, attempt: Attempt) -> None:
        """Remove the claim, if it is still this attempt's and claimed: the code is unspent."""

    def unsettled(self, *, leased_before: datetime) -> Iterable[Attempt]:
        """
        Attempts that owe something and whose lease ended before that instant.

        The claimed ones, and with `notified` False all but the quarantined.
        """

    def quarantined(self) -> Iterable[Attempt]:
        """Attempts that hold a token which nobody could be given."""

    def get(self, connection_id: str) -> StoredConnection | None:
        """
        That connection, whoever it belongs to.

        Raises:
            StorageUnavailable: Also where it is there and cannot be read.
        """

    def for_customer(self, customer_id: str) -> Sequence[StoredConnection]:
        """A customer's connections, the newest `obtained_at` first; those that can be read."""

    def delete(self, connection_id: str) -> bool:
        """Remove a connection. Whether there was one."""

    def scan(self, *, after: str | None, limit: int) -> Sequence[StoredConnection]:
        """
        Up to *limit* connections in one fixed order, those behind connection id *after*.

        A scan in batches sees every connection that stood all the while exactly once,
        also while others are written, and *after* need not exist any more.

        A row that cannot be read (a later version wrote it, or somebody altered it) is left
        out, by those who can. They have ``survey`` beside it; see the function of that name.
        """

    def swap(self, old: StoredConnection, new: StoredConnection) -> bool:
        """
        Replace *old* by *new*, of one connection_id, if it still stands so. Whether it did.

        A storage may have ``swap_each(pairs) -> Sequence[bool]`` beside it, which does the same
        for some dozens of pairs in one transaction: a rotation of keys then waits for the
        disk once for all of them.
        """

    def forget(self, *, settled_before: datetime) -> int:
        """
        Remove attempts settled before that instant that owe nothing. How many went; 0: no more.

        A request may wait for it, so one call removes some hundreds and leaves the rest.
        Never a claimed one, a quarantined one, or one with `notified` False.
        """


def survey(
    storage: Storage, *, after: str | None, limit: int
) -> tuple[Sequence[StoredConnection], Sequence[str]]:
    """
    What `scan` finds, and the names of rows on the way there that it leaves out.

    A row at the end of one stretch may be named in the next one again. Where *storage* has no
    method ``survey(*, after, limit)`` that tells them, none is named.
    """
    surveyed: _Survey | None = getattr(storage, "survey", None)
    if surveyed is None:
        return storage.scan(after=after, limit=limit), ()
    return surveyed(after=after, limit=limit)


class _Survey(Protocol):
    def __call__(
        self, *, after: str | None, limit: int
    ) -> tuple[Sequence[StoredConnection], Sequence[str]]: ...
