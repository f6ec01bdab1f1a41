"""What a callback costs: the durable commits that SQLite itself saw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import NullPool

from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.site import Browser, MakeSite, Site


@pytest.fixture
def statements() -> list[str]:
    """The statements that SQLite ran, as it reports them."""
    return []


@pytest.fixture
def engine(tmp_path: Path, statements: list[str]) -> Iterator[Engine]:
    # Nothing is kept: the accounting after a story asks the storage once more.
    engine = create_engine(f"sqlite:///{tmp_path}/traced.db", poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def trace(connection: Any, record: Any) -> None:
        connection.set_trace_callback(statements.append)

    yield engine
    engine.dispose()


@pytest.fixture
def storage_options(engine: Engine, tmp_path: Path) -> dict[str, Any]:
    return {"storage": SQLAlchemyStorage(engine), "spool": tmp_path / "spool"}


def commits(statements: list[str]) -> int:
    """Each transaction, and each change outside of one."""
    begun, count = False, 0
    for statement in statements:
        if statement.startswith(("BEGIN", "COMMIT")):
            begun = statement.startswith("BEGIN")
            count += not begun
        count += not begun and statement.startswith(("INSERT", "UPDATE", "DELETE"))
    return count


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, 2), ({"on_connected": lambda connection: None}, 3)],
    ids=["without a hook", "with on_connected"],
)
@pytest.mark.parametrize("echo_state", [True, False], ids=["state", "no-state"])
def test_a_callback_costs_two_commits_and_a_hook_one_more(
    fake: FakeFinch,
    make_site: MakeSite,
    statements: list[str],
    options: dict[str, Any],
    expected: int,
) -> None:
    site = make_site(**options)
    browser = Browser(site)
    callback = fake.allow(browser.location())
    statements.clear()

    answer = browser.get(callback)

    assert "finch=connected" in answer.location
    assert commits(statements) == expected


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour.error(402, name="payment_required"),
        Behaviour.error(400, name="invalid_grant_error"),
        Behaviour.alter(customer_id="umbrella"),
    ],
    ids=["released", "failed", "quarantined"],
)
def test_a_callback_that_ends_otherwise_costs_two_commits_too(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    callback: str,
    statements: list[str],
    behaviour: Behaviour,
) -> None:
    fake.script("token", behaviour)
    statements.clear()

    browser.get(callback)

    assert commits(statements) == 2
