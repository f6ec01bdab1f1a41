"""An application's engine that logs every statement with its parameters: none is a secret."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import KEY, Browser, Site, log_text
from tests.storages import emptied


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mysql"])
def test_an_engine_that_echoes_shows_no_secret_of_a_whole_flow(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    fake: FakeFinch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/finch.db"
    else:
        url = emptied(request.getfixturevalue(kind).url)
    engine = create_engine(url, echo="debug")
    storage = SQLAlchemyStorage(engine)

    with Site(fake, storage=storage, spool=tmp_path / "spool") as site:
        browser = Browser(site)
        callback = fake.allow(browser.location())
        answers = [browser.get(callback) for _ in range(2)]
        site.finch.connections.for_customer("acme")[0].access_token.reveal()
        site.finch.recovery.sweep()

    logged = log_text(caplog.records)
    secrets = {fake.client_secret, KEY.partition(":")[2], *fake.ledger.tokens, *site.secrets}
    secrets.update(issued.code for issued in fake.ledger.codes)
    assert [answer.status for answer in answers] == [303, 303]
    assert "INSERT INTO finch_attempts" in logged
    assert "fm1.k1." in logged
    assert len(secrets) > 4
    assert [secret for secret in secrets if secret in logged] == []
    engine.dispose()
