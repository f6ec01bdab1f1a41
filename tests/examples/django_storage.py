"""
The storage contract on examples/custom_storage.py, with a Django of its own.

`test_custom_storage` runs this file in a separate process, because a process has one Django, and
the Django of the other tests has no database.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from django.db import connections, transaction

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path[:0] = [str(EXAMPLES), str(EXAMPLES / "django_project")]
os.environ["DJANGO_SETTINGS_MODULE"] = "payroll.own_database"
# A second connection to the same file, as another process has.
settings.DATABASES["other"] = settings.DATABASES["default"]
django.setup()

from custom_storage import DjangoStorage, _columns  # noqa: E402  # models need the settings
from payroll.models import (  # noqa: E402  # as above
    FinchAttempt,
    FinchConnection,
    FinchStoredEvent,
)

from finch_middleware.attempts import AttemptState  # noqa: E402
from finch_middleware.errors import SchemaMismatch, StorageUnavailable  # noqa: E402
from finch_middleware.storage.protocol import Storage  # noqa: E402
from finch_middleware.testing import FakeFinch, StorageContract  # noqa: E402
from finch_middleware.testing.sample_records import NOON, an_attempt, key_of  # noqa: E402
from tests.faulty_storage import FaultyStorage  # noqa: E402
from tests.site import Browser, Site  # noqa: E402

MODELS = (FinchAttempt, FinchConnection, FinchStoredEvent)


class Request(FaultyStorage):
    """Calls a storage as a request does: at the end the thread's connection is closed."""

    def __init__(self, using: str = "default") -> None:
        super().__init__(DjangoStorage(using))

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().call(name, *args, **kwargs)
        finally:
            connections.close_all()


@pytest.fixture
def storage() -> Iterator[Any]:
    with connections["default"].schema_editor() as editor:
        for model in MODELS:
            editor.create_model(model)
    yield Request()
    with connections["default"].schema_editor() as editor:
        for model in MODELS:
            editor.delete_model(model)
    connections.close_all()


class TestDjango(StorageContract):
    @pytest.fixture
    def storage(self, storage: Storage) -> Storage:
        return storage

    @pytest.fixture
    def reopen(self) -> Callable[[], Storage]:
        return functools.partial(Request, "other")


def test_missing_tables_name_the_command() -> None:
    with pytest.raises(SchemaMismatch, match=r"manage\.py migrate"):
        Request().check()


def test_a_claim_inside_a_transaction_of_the_application_is_refused(storage: Storage) -> None:
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        DjangoStorage().claim(an_attempt())

    assert storage.attempt(key_of("code")) is None


def test_a_fault_keeps_no_parameter(storage: Storage) -> None:
    with pytest.raises(StorageUnavailable) as refused:
        DjangoStorage().claim(an_attempt(reference="a \ud800 canary", attempt_id=None))

    assert refused.value.__context__ is None
    connections.close_all()


def test_forget_removes_some_hundreds_at_a_time(storage: Storage) -> None:
    failed = [an_attempt(f"{i}").settled(AttemptState.FAILED, at=NOON) for i in range(501)]
    rows = [FinchAttempt(**_columns(FinchAttempt, attempt)) for attempt in failed]
    FinchAttempt.objects.bulk_create(rows)

    gone = [storage.forget(settled_before=NOON + timedelta(days=1)) for _ in range(3)]

    assert gone == [500, 1, 0]


def test_an_employer_is_connected(storage: Storage, tmp_path: Path) -> None:
    with FakeFinch() as fake, Site(fake, storage=storage, spool=tmp_path) as site:
        browser = Browser(site)

        responses = [browser.get(fake.allow(browser.location())) for _ in range(2)]

        [connection] = site.finch.connections.for_customer("acme")
        assert [response.status for response in responses] == [303, 303]
        assert connection.access_token.reveal() == fake.ledger.tokens[-1]
