from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finch_middleware.storage.open import open_storage
from finch_middleware.testing.fake_finch import FakeFinch
from tests.faulty_storage import FaultyStorage
from tests.site import KEY, Browser, MakeSite, Site, log_text
from tests.story.oracle import unaccounted


@pytest.fixture(autouse=True)
def _patient(patient: None) -> None:
    """A database that is only slow changes no story."""


@pytest.fixture
def callback(fake: FakeFinch, browser: Browser) -> str:
    """The address with a code to which Finch sends this browser, after acme has agreed."""
    return fake.allow(browser.location())


@pytest.fixture
def faulty(storage_options: dict[str, Any]) -> FaultyStorage:
    """The storage of this test, with faults on demand."""
    return FaultyStorage(open_storage(storage_options["storage"]))


@pytest.fixture
def faulty_site(make_site: MakeSite, faulty: FaultyStorage, tmp_path: Path) -> Site:
    """A site on the faulty storage, with a spool."""
    return make_site(storage=faulty, spool=tmp_path / "spool")


@pytest.fixture(autouse=True)
def no_secret_is_reported(
    fake: FakeFinch, sites: list[Site], caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """After every story: no log line and no event holds a secret, and no error escaped."""
    caplog.set_level(logging.DEBUG)
    yield
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    reported = log_text(records) + repr([site.events for site in sites])
    secrets = {fake.client_secret, KEY.partition(":")[2], *fake.ledger.tokens}
    secrets.update(issued.code for issued in fake.ledger.codes)
    secrets.update(*(site.secrets for site in sites))
    assert not [secret for secret in secrets if secret in reported]
    assert not [error for site in sites for error in site.errors]


@pytest.fixture(autouse=True)
def every_token_is_accounted_for(
    fake: FakeFinch, sites: list[Site], tmp_path: Path
) -> Iterator[None]:
    """After every story: each token that Finch minted is stored or reported."""
    yield
    try:
        assert not unaccounted(fake, sites, folder=tmp_path)
    finally:
        # Last of all: a storage that is asked once more opens a connection once more.
        for site in sites:
            storage: Any = site.finch.storage
            getattr(getattr(storage, "real", storage), "close", lambda: None)()


@pytest.fixture
def connection_id(fake: FakeFinch, site: Site, browser: Browser) -> str:
    browser.get(fake.allow(browser.location("acme")))
    [connection] = site.finch.connections.for_customer("acme")
    return connection.connection_id
