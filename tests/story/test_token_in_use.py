"""The token in use: Finch's SDK, requests and httpx, at the fake Finch itself."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import finch as sdk
import httpx
import pytest
import requests
from werkzeug.wrappers import Response

from finch_middleware import ConfigurationError, Connections, StatusChange, UsageError
from finch_middleware.crypto.opened import Connection
from finch_middleware.testing import Behaviour, FakeFinch
from tests.faulty_storage import FaultyStorage
from tests.site import KEY, Browser, Site


def connected(fake: FakeFinch, site: Site, *, entities: int = 1) -> Connection:
    browser = Browser(site)
    browser.get(fake.allow(browser.location("acme"), entities=entities))
    [connection] = site.finch.connections.for_customer("acme")
    return connection


@pytest.fixture
def connection(fake: FakeFinch, site: Site) -> Connection:
    return connected(fake, site, entities=2)


def status_of(site: Site) -> str | None:
    [connection] = site.finch.connections.for_customer("acme")
    return connection.status


def test_each_entity_is_named_where_the_call_names_none(site: Site, connection: Connection) -> None:
    first, second = connection.entity_ids

    with site.finch.connections.client(connection, entity=first) as client:
        company = client.hris.company.retrieve()
        other = client.hris.company.retrieve(entity_ids=[second])
        state = client.account.introspect()

    assert company.id != other.id
    assert state.connection_id == connection.connection_id


def test_the_async_client_does_the_same(
    fake: FakeFinch, site: Site, connection: Connection
) -> None:
    async def run() -> str:
        client = site.finch.connections.async_client(connection, entity=connection.entity_ids[1])
        async with client:
            company = await client.hris.company.retrieve()
            fake.set_status(connection.connection_id, "reauth")
            with pytest.raises(sdk.AuthenticationError):
                await client.hris.company.retrieve()
            return company.id

    assert asyncio.run(run())
    assert status_of(site) == "reauth"


def test_a_new_login_that_is_needed_is_stored_and_a_refused_token_is_not(
    fake: FakeFinch, site: Site, connection: Connection
) -> None:
    with site.finch.connections.client(connection, entity=connection.entity_ids[0]) as client:
        for body in ('{"name": "invalid_token_error"}', "[]", "<html>"):
            fake.script("company", Behaviour(shape=lambda _, body=body: Response(body, 401)))
            with pytest.raises(sdk.APIError):
                client.hris.company.retrieve()
        assert status_of(site) is None

        fake.set_status(connection.connection_id, "reauth", entity=connection.entity_ids[0])
        with pytest.raises(sdk.AuthenticationError):
            client.hris.company.retrieve()

    assert status_of(site) == "reauth"


def test_the_status_of_a_newer_token_is_not_touched(
    fake: FakeFinch, site: Site, connection: Connection
) -> None:
    with site.finch.connections.client(connection, entity=connection.entity_ids[0]) as client:
        browser = Browser(site)
        browser.get(fake.allow(browser.location("acme")))
        fake.set_status(connection.connection_id, "reauth")
        with pytest.raises(sdk.AuthenticationError):
            client.hris.company.retrieve()

    assert status_of(site) is None


def test_a_storage_that_is_down_does_not_hide_finchs_response(
    fake: FakeFinch, faulty_site: Site, faulty: FaultyStorage
) -> None:
    connection = connected(fake, faulty_site)
    fake.set_status(connection.connection_id, "reauth")
    with faulty_site.finch.connections.client(connection) as client:
        faulty.down("get", times=1)
        with pytest.raises(sdk.AuthenticationError):
            client.hris.company.retrieve()


@pytest.mark.parametrize("client", ["sdk", "requests", "httpx"])
def test_a_redirect_takes_no_token_elsewhere(
    fake: FakeFinch, site: Site, connection: Connection, client: str
) -> None:
    with FakeFinch() as elsewhere:
        away = Behaviour.redirect(f"{elsewhere.api_url}/employer/company", status=307)
        fake.script("company", away)
        url = f"{fake.api_url}/employer/company"
        auth = site.finch.connections.auth(connection)
        if client == "sdk":
            with (
                site.finch.connections.client(connection) as finch,
                pytest.raises(sdk.APIStatusError),
            ):
                finch.hris.company.retrieve()
        elif client == "requests":
            requests.get(url, auth=auth, timeout=30)
        else:
            httpx.get(url, auth=auth, follow_redirects=True)

        headers = [request.headers for request in elsewhere.ledger.requests]
    assert connection.access_token.reveal() not in json.dumps(headers)


@pytest.mark.parametrize("get", [requests.get, httpx.get])
def test_requests_and_httpx_take_the_same_auth(
    fake: FakeFinch, site: Site, connection: Connection, get: Any
) -> None:
    auth = site.finch.connections.auth(connection)

    response = get(f"{fake.api_url}/introspect", auth=auth, timeout=30)

    assert response.json()["connection_id"] == connection.connection_id
    with pytest.raises(UsageError, match=r"sent to http.* only"):
        get("http://127.0.0.1:9/introspect", auth=auth, timeout=30)
    assert connection.access_token.reveal() not in repr(vars(auth))


def test_an_entity_of_another_connection_is_refused(site: Site, connection: Connection) -> None:
    with pytest.raises(UsageError, match="one of the connection's entity_ids"):
        site.finch.connections.client(connection, entity="unknown")


def test_a_worker_needs_no_client_secret(fake: FakeFinch, make_site: Any, tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/finch.db"
    connection = connected(fake, make_site(storage=url))
    variables = {
        "FINCH_CLIENT_ID": fake.client_id,
        "FINCH_STORAGE_URL": url,
        "FINCH_KEY": KEY,
        "FINCH_API_URL": fake.api_url,
    }

    changes: list[StatusChange] = []
    connections = Connections.from_env(variables, on_status=changes.append)

    [found] = connections.for_customer("acme")
    assert found.access_token.reveal() == connection.access_token.reveal()
    refreshed = connections.refresh(found.connection_id, customer_id="acme")
    assert refreshed is not None
    assert refreshed.status == "connected"
    assert [each.after for each in changes] == ["connected"]


@pytest.mark.parametrize("options", [{}, {"storage": object()}], ids=["none", "no storage"])
def test_a_worker_hears_of_everything_that_is_wrong_and_of_nothing_else(options: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Connections.from_env({}, **options)

    assert sorted(fault.partition(":")[0] for fault in caught.value.faults) == [
        "client_id",
        "key",
        "storage",
    ]
