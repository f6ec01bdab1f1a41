"""
A storage of your own, here on the Django ORM, with Django's tables, transactions and database.

The two models are in ``django_project/payroll/models.py``. Put them into an application of your
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
from payroll.models import FinchAttempt, FinchConnection

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.errors import SchemaMismatch, StorageUnavailable
from finch_middleware.records import (
    NO_CUSTOMER,
    StoredConnection,
    connection_hash,
    customer_hash,
    row_from_json,
    row_to_json,
)
from finch_middleware.storage.protocol import Scan, Storage

R = TypeVar("R", Attempt, StoredConnection)


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
        if not {FinchAttempt._meta.db_table, FinchConnection._meta.db_table} <= tables:
            raise SchemaMismatch("the tables are missing: run `manage.py migrate`")
        self._attempts.filter(code_hash="").delete()  # fails without the right to write

    def claim(self, attempt: Attempt) -> Attempt | None:
        with self._alone():
            existing = self.attempt(attempt.code_hash) or self._of_flow(attempt)
            if existing is None:  # of two that find none, the unique keys let one through
                self._attempts.create(**_columns(FinchAttempt, attempt))
            return existing

    def attempt(self, code_hash: bytes) -> Attempt | None:
        return _first(Attempt, self._attempts.filter(code_hash=code_hash.hex()))

    def settle(self, attempt: Attempt, connection: StoredConnection | None = None) -> bool:
        with self._alone():
            if connection is not None:
                self._keep_newest(connection)
            found = self._attempts.filter(code_hash=attempt.code_hash.hex())
            existing = _first(Attempt, found.select_for_update())
            if self._of_flow(attempt) is not None:
                attempt = replace(attempt, flow_hash=existing.flow_hash if existing else None)
            if existing is not None and not attempt.replaces(existing):
                return existing == attempt
            FinchAttempt(**_columns(FinchAttempt, attempt)).save(using=self._using)
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

    def get(self, connection_id: str) -> StoredConnection | None:
        found = self._of_id(connection_id).exclude(customer_hash=NO_CUSTOMER.hex())
        return _first(StoredConnection, found)

    def for_customer(self, customer_id: str) -> Sequence[StoredConnection]:
        found = self._connections.filter(customer_hash=customer_hash(customer_id).hex())
        return _read(StoredConnection, found.order_by("-obtained_at"))

    def scan(self, *, after: str | None, limit: int) -> Scan:
        start = "" if after is None else connection_hash(after).hex()
        found = self._connections.filter(connection_hash__gt=start).order_by("connection_hash")
        found = found.exclude(customer_hash=NO_CUSTOMER.hex())
        return Scan(connections=_read(StoredConnection, found[:limit]))

    def swap(self, old: StoredConnection, new: StoredConnection) -> bool:
        with self._alone():
            found = self._of_id(old.connection_id)
            unchanged = _first(StoredConnection, found.select_for_update()) == old
            return unchanged and found.update(**_columns(FinchConnection, new)) == 1

    def forget(self, *, settled_before: datetime) -> int:
        pending = Q(notified=False) | Q(state__in=(AttemptState.CLAIMED, AttemptState.QUARANTINED))
        done = self._attempts.filter(~pending, settled_at__lt=settled_before)
        some = list(done.values_list("code_hash", flat=True)[:500])
        return done.filter(code_hash__in=some).delete()[0]

    def _of_id(self, connection_id: str) -> QuerySet[FinchConnection]:
        return self._connections.filter(connection_hash=connection_hash(connection_id).hex())

    def _of_flow(self, attempt: Attempt) -> Attempt | None:
        held = self._attempts.filter(flow_hash=(attempt.flow_hash or b"").hex())
        return _first(Attempt, held.exclude(code_hash=attempt.code_hash.hex()))

    def _keep_newest(self, new: StoredConnection) -> None:
        columns = _columns(FinchConnection, new)
        self._connections.bulk_create([FinchConnection(**columns)], ignore_conflicts=True)
        # A ValueError if it was deleted meanwhile: nothing is confirmed then.
        [old] = _read(StoredConnection, self._of_id(new.connection_id).select_for_update())
        if new.replaces(old):
            self._of_id(new.connection_id).update(**columns)


for _name, _method in list(vars(DjangoStorage).items()):
    if callable(_method) and not _name.startswith("_"):
        setattr(DjangoStorage, _name, confirmed(_method))


def _columns(model: type[Model], record: Attempt | StoredConnection) -> dict[str, Any]:
    row = record.as_row()
    plain = {name: v.hex() if isinstance(v, bytes) else v for name, v in row.items()}
    return {each.name: plain.get(each.name, row_to_json(row)) for each in model._meta.fields}


def _read(kind: type[R], found: Iterable[Any]) -> list[R]:
    return [kind.from_row(row_from_json(each.row)) for each in found]


def _first(kind: type[R], found: Iterable[Any]) -> R | None:
    return next(iter(_read(kind, found)), None)
