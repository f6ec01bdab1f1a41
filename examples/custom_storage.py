"""
A storage of your own, here over the Django ORM: its tables, its transactions, its database.

Put the two models into an application of your project, run ``manage.py makemigrations``, and say
``FINCH = {"storage": DjangoStorage(), "spool": "/var/lib/app/finch-spool", …}``. Rows hold a
record as one text, and columns for what is searched. docs/storage.md says what each method
promises; the kit, `finch_middleware.testing.StorageContract`, checks it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from django.db import DatabaseError, IntegrityError, connections, models, transaction

from finch_middleware.errors import SchemaMismatch, StorageUnavailable
from finch_middleware.records import Attempt, AttemptState, StoredConnection, row_from_json
from finch_middleware.records import connection_key as key_of
from finch_middleware.records import customer_key as key_of_customer
from finch_middleware.records import row_to_json as as_text
from finch_middleware.storage.precedence import gives_way, replaces

T = TypeVar("T")


class FinchAttempt(models.Model):
    code_key: models.CharField[str, str] = models.CharField(max_length=64, primary_key=True)
    flow_key: models.CharField[str | None, str | None] = models.CharField(
        max_length=64, null=True, unique=True
    )
    attempt_id: models.CharField[str, str] = models.CharField(max_length=64)
    state: models.CharField[str, str] = models.CharField(max_length=16, db_index=True)
    notified: models.BooleanField[bool, bool] = models.BooleanField()
    leased_until: models.DateTimeField[datetime, datetime] = models.DateTimeField()
    settled_at: models.DateTimeField[datetime | None, datetime | None] = models.DateTimeField(
        null=True, db_index=True
    )
    row: models.TextField[str, str] = models.TextField()

    class Meta:
        app_label = "payroll"


class FinchConnection(models.Model):
    connection_key: models.CharField[str, str] = models.CharField(max_length=64, primary_key=True)
    customer_key: models.CharField[str, str] = models.CharField(max_length=64, db_index=True)
    obtained_at: models.DateTimeField[datetime, datetime] = models.DateTimeField()
    row: models.TextField[str, str] = models.TextField()

    class Meta:
        app_label = "payroll"


def confirmed(method: Callable[..., Any]) -> Callable[..., Any]:
    """Lets nothing escape but `StorageUnavailable`, and no parameter of a statement with it."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        for _ in range(3):
            try:
                return method(*args, **kwargs)
            except IntegrityError:
                continue  # another was faster: look again
            except (DatabaseError, UnicodeError):
                break
        raise StorageUnavailable

    return call


class DjangoStorage:
    """The methods of `finch_middleware.Storage`, on the database called *using*."""

    in_process = False  # other processes see the same rows

    def __init__(self, using: str = "default") -> None:
        self._using = using
        self._attempts = FinchAttempt.objects.using(using)
        self._connections = FinchConnection.objects.using(using)
        # durable: inside a transaction of the application's a claim would not be committed.
        self._alone = functools.partial(transaction.atomic, using=using, durable=True)

    def check(self) -> None:
        tables = connections[self._using].introspection.table_names()
        if not {FinchAttempt._meta.db_table, FinchConnection._meta.db_table} <= set(tables):
            raise SchemaMismatch("the tables are missing: run `manage.py migrate`")
        self._attempts.filter(code_key="").delete()  # whether it may write

    def claim(self, attempt: Attempt) -> Attempt | None:
        try:
            with self._alone():
                self._attempts.create(**_columns(attempt))
            return None
        except IntegrityError:
            standing = self.attempt(attempt.code_key) or self._of_flow(attempt)
            if standing is None:
                raise  # it was released meanwhile: nobody has won
            return standing

    def attempt(self, code_key: bytes) -> Attempt | None:
        return _first(_attempts(self._attempts.filter(code_key=code_key.hex())))

    def settle(self, attempt: Attempt, connection: StoredConnection | None = None) -> bool:
        with self._alone():
            if connection is not None:
                self._keep_newest(connection)
            holder = self._of_flow(attempt)
            if holder is not None and holder.code_key != attempt.code_key:
                attempt = replace(attempt, flow_key=None)
            found = self._attempts.filter(code_key=attempt.code_key.hex())
            standing = _first(_attempts(found.select_for_update()))
            if standing is not None and not gives_way(standing, to=attempt):
                return standing == attempt
            FinchAttempt(**_columns(attempt)).save(using=self._using)
            return True

    def release(self, attempt: Attempt) -> None:
        mine = {"code_key": attempt.code_key.hex(), "attempt_id": attempt.attempt_id}
        self._attempts.filter(state=AttemptState.CLAIMED, **mine).delete()

    def unsettled(self, *, leased_before: datetime) -> Sequence[Attempt]:
        untold = models.Q(notified=False) & ~models.Q(state=AttemptState.QUARANTINED)
        owing = self._attempts.filter(models.Q(state=AttemptState.CLAIMED) | untold)
        return _attempts(owing.filter(leased_until__lt=leased_before))

    def quarantined(self) -> Sequence[Attempt]:
        return _attempts(self._attempts.filter(state=AttemptState.QUARANTINED))

    def get(self, connection_id: str) -> StoredConnection | None:
        return _first(_stored(self._of_id(connection_id)))

    def for_customer(self, customer_id: str) -> Sequence[StoredConnection]:
        found = self._connections.filter(customer_key=key_of_customer(customer_id).hex())
        return _stored(found.order_by("-obtained_at"))

    def delete(self, connection_id: str) -> bool:
        return self._of_id(connection_id).delete()[0] == 1

    def scan(self, *, after: str | None, limit: int) -> Sequence[StoredConnection]:
        start = "" if after is None else key_of(after).hex()
        found = self._connections.filter(connection_key__gt=start).order_by("connection_key")
        return _stored(found[:limit])

    def swap(self, old: StoredConnection, new: StoredConnection) -> bool:
        with self._alone():
            found = self._of_id(old.connection_id)
            if _stored(found.select_for_update()) != [old]:
                return False
            return found.update(**_columns_of(new)) == 1

    def forget(self, *, settled_before: datetime) -> int:
        owing = (AttemptState.CLAIMED, AttemptState.QUARANTINED)
        done = self._attempts.filter(settled_at__lt=settled_before, notified=True)
        keys = list(done.exclude(state__in=owing).values_list("code_key", flat=True)[:500])
        return self._attempts.filter(code_key__in=keys).exclude(state__in=owing).delete()[0]

    def _of_id(self, connection_id: str) -> models.QuerySet[FinchConnection]:
        return self._connections.filter(connection_key=key_of(connection_id).hex())

    def _of_flow(self, attempt: Attempt) -> Attempt | None:
        flow_key = attempt.flow_key.hex() if attempt.flow_key is not None else "none"
        return _first(_attempts(self._attempts.filter(flow_key=flow_key)))

    def _keep_newest(self, new: StoredConnection) -> None:
        FinchConnection.objects.using(self._using).bulk_create(
            [FinchConnection(**_columns_of(new))], ignore_conflicts=True
        )
        found = self._of_id(new.connection_id)
        if replaces(new, old=_stored(found.select_for_update())[0]):
            found.update(**_columns_of(new))


for _name in [name for name in vars(DjangoStorage) if not name.startswith("_")]:
    if callable(_method := getattr(DjangoStorage, _name)):
        setattr(DjangoStorage, _name, confirmed(_method))


def _columns(attempt: Attempt) -> dict[str, Any]:
    names = ("attempt_id", "state", "notified", "leased_until", "settled_at")
    flow_key = attempt.flow_key.hex() if attempt.flow_key is not None else None
    keys = {"code_key": attempt.code_key.hex(), "flow_key": flow_key}
    row = {"row": as_text(attempt.as_row())}
    return {name: getattr(attempt, name) for name in names} | keys | row


def _columns_of(stored: StoredConnection) -> dict[str, Any]:
    key, customer_key = key_of(stored.connection_id), key_of_customer(stored.customer_id)
    keys = {"connection_key": key.hex(), "customer_key": customer_key.hex()}
    return {"obtained_at": stored.obtained_at, "row": as_text(stored.as_row())} | keys


def _attempts(found: Iterable[FinchAttempt]) -> list[Attempt]:
    return [Attempt.from_row(row_from_json(each.row)) for each in found]


def _stored(found: Iterable[FinchConnection]) -> list[StoredConnection]:
    return [StoredConnection.from_row(row_from_json(each.row)) for each in found]


def _first(found: list[T]) -> T | None:
    return found[0] if found else None
