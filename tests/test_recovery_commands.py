"""`recover` and `sweep`: what an operator reads, and what a cron job does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from finch_middleware import Connection
from finch_middleware.cli import recover, sweep
from finch_middleware.storage.open import open_storage
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.faulty_storage import FaultyStorage
from tests.left_behind import left_behind, quarantined, spooled, standing
from tests.site import KEY, MakeSite, Site, environment_for
from tests.story.oracle import tokens_of


@pytest.fixture
def url(tmp_path: Path) -> str:
    """An empty storage that two processes share."""
    return f"sqlite:///{tmp_path}/finch.db"


@pytest.fixture
def storage_options(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """The storage, with faults on demand, and no pauses between tries to settle."""
    monkeypatch.setattr("finch_middleware.exchange.SETTLE_PAUSES", (0.0,))
    storage: Any = open_storage(url)
    yield {"storage": FaultyStorage(storage), "spool": tmp_path / "spool"}
    storage.close()


@pytest.fixture
def faulty(storage_options: dict[str, Any]) -> FaultyStorage:
    found: FaultyStorage = storage_options["storage"]
    return found


@pytest.fixture
def command_line(
    fake: FakeFinch, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Runs a command with the settings of the site in the environment."""
    more = {"products": "company directory", "storage_url": url, "key": KEY}
    spool = str(tmp_path / "spool")
    settings = environment_for(fake, "http://localhost/finch/callback", spool=spool, **more)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return lambda command, *given: CliRunner().invoke(command, given, catch_exceptions=False)


def test_recover_lists_an_interrupted_attempt_for_a_person(
    fake: FakeFinch, site: Site, faulty: FaultyStorage, command_line: Callable[..., Result]
) -> None:
    # The clock of the test shows a past year: for the command every lease has ended.
    reference = standing(site, fake, left_behind(fake, site, faulty)).reference

    result = command_line(recover.command)

    assert result.exit_code == 0
    first, last = result.output.splitlines()
    assert first == f"2026-01-01 12:00:00 UTC  {reference}  'acme'  interrupted"
    assert "Interrupted attempts: 1." in last
    assert "Interrupted attempts: 0." in command_line(sweep.command).output


def test_recover_stores_spooled_tokens(
    fake: FakeFinch, site: Site, faulty: FaultyStorage, command_line: Callable[..., Result]
) -> None:
    spooled(fake, site, faulty, "acme")

    result = command_line(recover.command)

    assert "recovered from the spool: stored" in result.output
    assert "recovered from the spool: 1." in result.output
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


def test_recover_completes_what_finch_confirms_and_names_the_others(
    fake: FakeFinch, site: Site, command_line: Callable[..., Result], clock: Clock
) -> None:
    quarantined(fake, site, customer_id=None)
    clock.move(timedelta(seconds=1))
    quarantined(fake, site, customer_id="victim", connection_id="c-0")
    fake.script("introspect", *[Behaviour(), Behaviour.error(500)])

    result = command_line(recover.command, "--quarantined")

    assert result.exit_code == 0
    assert "incomplete: completed" in result.output
    assert "other_customer: Finch did not confirm the customer (server_error)" in result.output
    assert result.output.splitlines()[-1] == "Tokens in quarantine: 2. Completed now: 1."
    assert not [token for token in fake.ledger.tokens if token in result.output]


def test_recover_names_the_missing_key(
    fake: FakeFinch,
    site: Site,
    command_line: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quarantined(fake, site, customer_id=None)
    monkeypatch.setenv("FINCH_KEY", KEY.replace("k1:", "k2:"))

    result = command_line(recover.command, "--quarantined")

    assert "its key k1 is not an accepted key" in result.output


def test_a_sweep_of_the_applications_own_component_calls_its_hook(
    fake: FakeFinch,
    make_site: MakeSite,
    faulty: FaultyStorage,
    command_line: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    received: list[Connection] = []
    site = make_site(on_connected=received.append)
    spooled(fake, site, faulty, "acme")
    monkeypatch.setattr(sys.modules[__name__], "an_app", site, raising=False)

    result = command_line(sweep.command, "--app", f"{__name__}:an_app.finch")

    assert result.output.startswith("Tokens recovered from the spool: 1.")
    assert [each.customer_id for each in received] == ["acme"]


@pytest.mark.parametrize(
    "name",
    ["no_such_module:app", f"{__name__}:nothing", f"{__name__}", ":", f"{__name__}:NO_COMPONENT"],
)
def test_a_name_that_is_no_component_is_refused_in_one_sentence(
    command_line: Callable[..., Result], name: str
) -> None:
    result = command_line(sweep.command, "--app", name)

    assert result.exit_code == 2
    assert result.output.startswith(f"Error: --app: {name} ")
