from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from finch_middleware import FinchConnect
from finch_middleware.cli import main
from finch_middleware.crypto.keys import new_key
from finch_middleware.testing import Behaviour, FakeFinch
from finch_middleware.testing.rows import add_connection


@pytest.fixture
def fake() -> Iterator[FakeFinch]:
    with FakeFinch() as fake:
        yield fake


@pytest.fixture
def environ(fake: FakeFinch, tmp_path: Path) -> dict[str, str]:
    return {
        "FINCH_CLIENT_ID": fake.client_id,
        "FINCH_CLIENT_SECRET": fake.client_secret,
        "FINCH_API_URL": fake.api_url,
        "FINCH_CONNECT_ORIGIN": fake.connect_origin,
        "FINCH_REDIRECT_URI": "https://app.test/finch/callback",
        "FINCH_PRODUCTS": "company",
        "FINCH_STORAGE_URL": f"sqlite:///{tmp_path}/finch.db",
        "FINCH_KEY": new_key("k1"),
    }


def refresh(environ: dict[str, str], *arguments: str) -> Result:
    return CliRunner(env=environ).invoke(main, ["refresh", "--per-second", "3", *arguments])


def test_it_asks_about_each_connection_and_counts_what_finch_reports(
    fake: FakeFinch, environ: dict[str, str]
) -> None:
    finch = FinchConnect.from_env(environ)
    add_connection(finch, customer_id="acme", access_token=token_of(fake, "acme"))

    first = refresh(environ)
    second = refresh(environ, "--older-than", "30m")

    assert (first.exit_code, first.stdout) == (0, "Connections checked: 1. 1 connected.\n")
    assert (second.exit_code, second.stdout) == (0, "Connections checked: 0.\n")
    [connection] = finch.connections.for_customer("acme")
    assert connection.status == "connected"


def token_of(fake: FakeFinch, customer_id: str) -> str:
    """A token that the fake knows."""
    token = fake.ledger.mint(fake.issue_code(customer_id=customer_id), at=fake._clock())
    assert token is not None
    return token


def test_a_refused_token_is_counted_and_ends_with_status_one(environ: dict[str, str]) -> None:
    add_connection(FinchConnect.from_env(environ), customer_id="acme")

    result = refresh(environ)

    assert result.exit_code == 1
    assert "1 finch_refused" in result.stdout


def test_it_stops_with_a_clear_error_where_finch_asks_to_wait(
    fake: FakeFinch, environ: dict[str, str]
) -> None:
    add_connection(FinchConnect.from_env(environ), customer_id="acme")
    fake.script("introspect", Behaviour.error(429), times=None)

    result = refresh(environ)

    assert result.exit_code == 2
    assert "throttled" in result.stderr


@pytest.mark.parametrize("text", ["1", "1w", "-1d", "soon"])
def test_a_duration_has_a_unit(environ: dict[str, str], text: str) -> None:
    result = refresh(environ, "--older-than", text)

    assert result.exit_code == 2
    assert re.search("such as 30m, 12h or 1d", result.stderr)
