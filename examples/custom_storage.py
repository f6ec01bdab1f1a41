"""
A storage of your own, here on the Django ORM, with Django's tables, transactions and database.

The three models are in ``django_project/payroll/models.py``. Put them into an application of your
project, run ``manage.py makemigrations`` and ``migrate``, and set
``"storage": DjangoStorage(), "spool": "/var/lib/app/finch-spool"``. A row holds its record as one
text, and a column for each value that is searched. docs/storage.md states what each method
promises; `finch_middleware.testing.StorageContract` tests it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from django.db import Error, IntegrityError, connections, transaction
from django.db.models import Model, Q, QuerySet
from payroll.models import FinchAttempt, FinchConnection, FinchStoredEvent

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.errors import SchemaMismatch, StorageUnavailable
from finch_middleware.records import (
    ANNOUNCED_CUSTOMER,
    NO_CUSTOMER,
    StoredConnection,
    connection_hash,
    customer_hash,
    row_from_json,
    row_to_json,
)
from finch_middleware.storage.events import FinchEvent, StoredEvent, event_hash
from finch_middleware.storage.history import join
from finch_middleware.storage.protocol import Scan, Storage
from finch_middleware.storage.shards import WHOLE, Shard

R = TypeVar("R", Attempt, StoredConnection, StoredEvent)
MODELS = {Attempt: FinchAttempt, StoredConnection: FinchConnection, StoredEvent: FinchStoredEvent}
# Of rows without a token, which no list shows.
HIDDEN = (NO_CUSTOMER.hex(), ANNOUNCED_CUSTOMER.hex())


def confirmed(method: Callable[..., Any]) -> Callable[..., Any]:
    """Turn every error into a `StorageUnavailable` that holds no parameter of a statement."""

    def call(*args: Any, **kwargs: Any) -> Any:
        for _ in range(3):
            try:
                return method(*args, **kwargs)
            except IntegrityError:
                continue  # another request wrote first: read again
            except (Error, ValueError):
                break
        raise StorageUnavailable

    return call


class DjangoStorage(Storage):
    """A storage on the database called *using*."""

    def __init__(self, using: str = "default") -> None:
        self._using = using
        self._attempts = FinchAttempt.objects.using(using)
        self._connections = FinchConnection.objects.using(using)
        # durable: a claim inside a transaction of the application would not be committed.
        self._alone = functools.partial(transaction.atomic, using=using, durable=True)

    def check(self) -> None:
        tables = set(connections[self._using].introspection.table_names())
        if not {model._meta.db_table for model in MODELS.values()} <= tables:
            raise SchemaMismatch("the tables are missing: run `manage.py migrate`")
        self._attempts.filter(code_hash="").delete()  # fails without the right to write

    def claim(self, attempt: Attempt) -> Attempt | None:
        with self._alone():
            existing = self.attempt(attempt.code_hash) or self._of_flow(attempt)
            if existing is None:  # of two that find none, the unique keys let one through
                self._save(attempt, over=None)
            return existing

    def attempt(self, code_hash: bytes) -> Attempt | None:
        return self._find(Attempt, code_hash)

    def settle(self, attempt: Attempt, connection: StoredConnection | None = None) -> bool:
        with self._alone():
            if connection is not None:
                self._join(connection)
            existing = self._find(Attempt, attempt.code_hash, locked=True)
            if self._of_flow(attempt) is not None:
                attempt = replace(attempt, flow_hash=existing.flow_hash if existing else None)
            if existing is not None and not attempt.replaces(existing):
                return existing == attempt
            self._save(attempt, over=existing)
            return True

    def release(self, attempt: Attempt) -> None:
        mine = {"code_hash": attempt.code_hash.hex(), "attempt_id": attempt.attempt_id}
        self._attempts.filter(state=AttemptState.CLAIMED, **mine).delete()

    def unsettled(self, *, leased_before: datetime) -> Sequence[Attempt]:
        unreported = Q(notified=False) & ~Q(state=AttemptState.QUARANTINED)
        pending = self._attempts.filter(Q(state=AttemptState.CLAIMED) | unreported)
        return _read(Attempt, pending.filter(leased_until__lt=leased_before))

    def quarantined(self) -> Sequence[Attempt]:
        return _read(Attempt, self._attempts.filter(state=AttemptState.QUARANTINED))

    def row(self, connection_id: str) -> StoredConnection | None:
        return self._find(StoredConnection, connection_hash(connection_id))

    def for_customer(self, customer_id: str) -> Sequence[StoredConnection]:
        found = self._connections.filter(customer_hash=customer_hash(customer_id).hex())
        return _read(StoredConnection, found.order_by("-obtained_at"))

    def scan(self, *, after: Any, limit: int, shard: Shard = WHOLE) -> Scan[StoredConnection]:
        start = shard.before if after is None else connection_hash(after)
        found = self._connections.exclude(customer_hash__in=HIDDEN).order_by("connection_hash")
        part = found.filter(connection_hash__gt=start.hex(), connection_hash__lte=shard.last.hex())
        rows = _read(StoredConnection, part[:limit])
        return Scan(rows=rows, after=rows[-1].connection_id if rows else None)

    def swap(self, old: StoredConnection | None, new: StoredConnection) -> bool:
        with self._alone():
            current = self._find(StoredConnection, connection_hash(new.connection_id), locked=True)
            if current == old:
                self._save(new, over=old)
            return current == old

    def ended(self, *, before: datetime) -> Sequence[StoredConnection]:
        ended = self._connections.filter(customer_hash=NO_CUSTOMER.hex(), obtained_at__lt=before)
        return _read(StoredConnection, ended.exclude(row__contains='"history":""')[:500])

    def event(self, event_id: str) -> StoredEvent | None:
        return self._find(StoredEvent, event_hash(event_id))

    def record(self, event: StoredEvent) -> StoredEvent | None:
        with self._alone():
            earlier = self.event(event.event_id)
            if earlier is None:
                self._save(event, over=None)
            return earlier

    def mark_delivered(self, event: FinchEvent) -> None:
        with self._alone():
            if stored := self._find(StoredEvent, event_hash(event.event_id), locked=True):
                self._save(replace(stored, delivered=True), over=stored)

    def forget(self, *, settled_before: datetime) -> int:
        pending = Q(notified=False) | Q(state__in=(AttemptState.CLAIMED, AttemptState.QUARANTINED))
        return _remove(self._attempts.filter(~pending, settled_at__lt=settled_before))

    def forget_events(self, *, received_before: datetime) -> int:
        announced = {"customer_hash": ANNOUNCED_CUSTOMER.hex(), "obtained_at__lt": received_before}
        old = FinchStoredEvent.objects.using(self._using).filter(received_at__lt=received_before)
        return _remove(old) + _remove(self._connections.filter(**announced))

    def _of_flow(self, attempt: Attempt) -> Attempt | None:
        held = self._attempts.filter(flow_hash=(attempt.flow_hash or b"").hex())
        return _first(Attempt, held.exclude(code_hash=attempt.code_hash.hex()))

    def _join(self, new: StoredConnection) -> None:
        old = self._find(StoredConnection, connection_hash(new.connection_id), locked=True)
        joined = join(new, old)
        if joined is not None:
            self._save(joined, over=old)

    def _find(self, kind: type[R], key: bytes, *, locked: bool = False) -> R | None:
        found = MODELS[kind].objects.using(self._using).filter(pk=key.hex())
        return _first(kind, found.select_for_update() if locked else found)

    def _save(self, record: Any, *, over: Any) -> None:
        model = MODELS[type(record)]
        # Of two that found nothing, one gets an IntegrityError, and reads again.
        model(**_columns(model, record)).save(using=self._using, force_insert=over is None)


for _name, _method in list(vars(DjangoStorage).items()):
    if callable(_method) and not _name.startswith("_"):
        setattr(DjangoStorage, _name, confirmed(_method))


def _columns(model: type[Model], record: Any) -> dict[str, Any]:
    row = record.as_row()
    plain = {name: v.hex() if isinstance(v, bytes) else v for name, v in row.items()}
    return {each.name: plain.get(each.name, row_to_json(row)) for each in model._meta.fields}


def _remove(found: QuerySet[Any]) -> int:
    return found.filter(pk__in=list(found.values_list("pk", flat=True)[:500])).delete()[0]


def _read(kind: type[R], found: Iterable[Any]) -> list[R]:
    return [kind.from_row(row_from_json(each.row)) for each in found]


def _first(kind: type[R], found: Iterable[Any]) -> R | None:
    return next(iter(_read(kind, found)), None)
