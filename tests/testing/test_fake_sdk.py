"""Finch's official SDK, unchanged, works with the fake: an independent client."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from threading import Thread
from typing import Any

import finch as sdk
import pytest
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from finch_middleware.testing.fake_finch import FakeFinch
from tests.testing.asking_fake import REDIRECT_URI, query_of

SECRETS = [base64.b64encode(text * 12).decode() for text in (b"a", b"b")]
PRODUCTS: Any = ["company", "directory", "individual", "employment", "payment", "pay_statement"]


class Receiver:
    """A server that keeps the webhooks it gets, and answers each with `status`."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, dict[str, str]]] = []
        self.status = 200
        self._server = make_server("127.0.0.1", 0, Request.application(self._respond))
        self.url = f"http://127.0.0.1:{self._server.server_port}/finch/webhook"
        self._thread = Thread(target=self._server.serve_forever)

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _respond(self, request: Request) -> Response:
        self.received.append((request.get_data(), dict(request.headers)))
        return Response(status=self.status, headers={"Location": "/elsewhere"})


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def fake(receiver: Receiver) -> Iterator[FakeFinch]:
    # With the real clock, since the SDK compares a webhook's time with it.
    with FakeFinch(webhook_url=receiver.url, webhook_secrets=SECRETS) as fake:
        yield fake


def client_of(fake: FakeFinch, **options: Any) -> Any:
    """The SDK's client; it refuses a response that is not of its type."""
    return sdk.Finch(
        base_url=fake.api_url,
        client_id=fake.client_id,
        client_secret=fake.client_secret,
        max_retries=0,
        _strict_response_validation=True,
        **options,
    )


def connected(fake: FakeFinch, *, entities: int = 1, **session: Any) -> Any:
    """The token's response, in the SDK's type."""
    client = client_of(fake)
    opened = client.connect.sessions.new(
        customer_id="acme",
        customer_name="Acme Inc.",
        products=PRODUCTS,
        redirect_uri=REDIRECT_URI,
        **session,
    )
    code = query_of(fake.allow(opened.connect_url, entities=entities))["code"][0]
    return client.access_tokens.create(code=code, redirect_uri=REDIRECT_URI)


def test_every_call_of_the_sdk_gets_a_response_of_its_type(fake: FakeFinch) -> None:
    granted = connected(fake, entities=2)
    client = client_of(fake, access_token=granted.access_token)
    entity_ids = granted.entity_ids[:1]

    company = client.hris.company.retrieve(entity_ids=entity_ids)
    people = list(client.hris.directory.list(entity_ids=entity_ids))
    first = [{"individual_id": people[0].id}]
    individual = client.hris.individuals.retrieve_many(entity_ids=entity_ids, requests=first)
    employment = client.hris.employments.retrieve_many(entity_ids=entity_ids, requests=first)
    payments = client.hris.payments.list(
        start_date="2026-01-01", end_date="2026-12-31", entity_ids=entity_ids
    ).items
    statements = client.hris.pay_statements.retrieve_many(
        entity_ids=entity_ids, requests=[{"payment_id": payments[0].id}]
    )

    assert company.legal_name
    assert len({person.id for person in people}) == 25
    assert individual.responses[0].body.id == people[0].id
    assert employment.responses[0].body.id == people[0].id
    assert [payment.pay_date for payment in payments] == sorted(p.pay_date for p in payments)
    body = statements.responses[0].body
    assert (
        sum(each.gross_pay.amount for each in body.pay_statements) == payments[0].gross_pay.amount
    )
    assert client.account.introspect().connection_status.last_successful_sync is not None


def test_a_connections_life_from_sessions_to_disconnect(fake: FakeFinch) -> None:
    granted = connected(fake)
    client = client_of(fake, access_token=granted.access_token)
    with pytest.raises(sdk.BadRequestError) as refused:
        connected(fake)
    fake.set_status(granted.connection_id, "reauth", message="Sign in again")
    with pytest.raises(sdk.AuthenticationError) as reauth:
        client.hris.company.retrieve()
    state = client.account.introspect().connection_status

    opened = client.connect.sessions.reauthenticate(
        connection_id=granted.connection_id, redirect_uri=REDIRECT_URI
    )
    code = query_of(fake.allow(opened.connect_url, entities=3))["code"][0]
    again = client.access_tokens.create(code=code, redirect_uri=REDIRECT_URI)
    repaired = client_of(fake, access_token=again.access_token)
    entities = repaired.account.introspect().entities

    assert refused.value.body["context"] == {"connection_id": granted.connection_id}
    assert reauth.value.body["finch_code"] == "reauthenticate_user"
    assert (state.status, state.message) == ("reauth", "Sign in again")
    assert again.connection_id == granted.connection_id
    assert again.access_token != granted.access_token
    assert again.entity_ids[:1] == granted.entity_ids
    assert [(e.id, e.status) for e in entities or ()] == [
        (e, "connected") for e in again.entity_ids
    ]
    assert repaired.account.disconnect().status == "success"
    with pytest.raises(sdk.AuthenticationError) as ended:
        repaired.account.disconnect()
    assert ended.value.body["name"] == "invalid_token_error"


def test_the_async_client_reads_the_same(fake: FakeFinch) -> None:
    granted = connected(fake)

    async def read() -> tuple[str | None, int]:
        async with sdk.AsyncFinch(
            base_url=fake.api_url, access_token=granted.access_token, max_retries=0
        ) as client:
            company = await client.hris.company.retrieve()
            people = [person async for person in client.hris.directory.list()]
            await client.account.disconnect()
            return company.legal_name, len(people)

    name, people = asyncio.run(read())

    assert name
    assert people == 25


def test_the_sandbox_makes_and_changes_connections(fake: FakeFinch) -> None:
    client = client_of(fake)

    made = client.sandbox.connections.create(provider_id="gusto", products=["company"])
    bearer = client_of(fake, access_token=made.access_token)
    beside = client.sandbox.connections.accounts.create(
        company_id=made.company_id or "", provider_id="adp_run"
    )
    changed = bearer.sandbox.connections.accounts.update(connection_status="reauth")
    job = bearer.sandbox.jobs.create(type="data_sync_all")

    assert beside.company_id == made.company_id
    assert beside.connection_id != made.connection_id == changed.connection_id
    assert bearer.account.introspect().connection_status.status == "reauth"
    assert bearer.account.introspect().client_type == "sandbox"
    assert job.job_id in job.job_url


@pytest.mark.parametrize("secret", SECRETS)
def test_the_sdk_unwraps_webhooks_with_either_secret(
    fake: FakeFinch, receiver: Receiver, secret: str
) -> None:
    granted = connected(fake)

    delivery = fake.set_status(granted.connection_id, "reauth")

    [(body, headers)] = receiver.received
    event: Any = client_of(fake, webhook_secret=secret).webhooks.unwrap(body, headers)
    assert delivery is not None
    assert delivery.statuses == (200,)
    assert (event.event_type, event.data.status) == ("account.updated", "reauth")
    assert (event.connection_id, event.entity_id) == (granted.connection_id, None)


def test_an_event_is_repeated_under_its_id_and_placed_in_time(
    fake: FakeFinch, receiver: Receiver
) -> None:
    opened = client_of(fake).connect.sessions.new(
        customer_id="acme", customer_name="Acme", products=PRODUCTS, redirect_uri=REDIRECT_URI
    )
    fake.allow(opened.connect_url)
    [code] = fake.ledger.codes
    receiver.status = 307

    early = fake.send_webhook(connection_id=code.connection_id, repeat=3, order=-60)
    late = fake.send_webhook(connection_id=code.connection_id, event_type="test")

    assert early.statuses == (307, 307, 307)
    assert len({headers["Finch-Event-Id"] for _, headers in receiver.received[:3]}) == 1
    assert early.event_id < late.event_id
    assert len(early.event_id) == len("msg_") + 27
    assert fake.ledger.deliveries == (early, late)
    assert code.minted == ()


def test_a_disconnected_entity_is_reported_and_restored_by_a_new_login(
    fake: FakeFinch, receiver: Receiver
) -> None:
    granted = connected(fake, entities=3)
    client = client_of(fake, access_token=granted.access_token)

    client.account.disconnect_entity(entity_ids=granted.entity_ids[:2])
    fake.ledger.wait_for_deliveries(2)

    left = [e.id for e in fake.account(granted.connection_id).entities if e.status == "connected"]
    assert left == granted.entity_ids[2:]
    events: list[Any] = [
        client_of(fake, webhook_secret=SECRETS[0]).webhooks.unwrap(*each)
        for each in receiver.received
    ]
    assert [event.entity_id for event in events] == granted.entity_ids[:2]
    assert {event.data.status for event in events} == {"disconnected"}
    opened = client.connect.sessions.reauthenticate(
        connection_id=granted.connection_id, redirect_uri=REDIRECT_URI
    )
    fake.allow(opened.connect_url)
    assert fake.account(granted.connection_id).entity_ids == tuple(granted.entity_ids)


def test_an_unreachable_receiver_and_a_missing_address_are_told_apart() -> None:
    with Receiver() as gone:
        url = gone.url
    with FakeFinch(webhook_url=url, webhook_secrets=SECRETS) as fake:
        delivery = fake.send_webhook(connection_id=connected(fake).connection_id)
    with FakeFinch() as silent:
        connection_id = connected(silent).connection_id

        assert silent.set_status(connection_id, "reauth") is None
        with pytest.raises(RuntimeError, match="webhook_url"):
            silent.send_webhook(connection_id=connection_id)

    assert delivery.statuses == (0,)


@pytest.mark.parametrize("secrets", [[], ["no base64!"]])
def test_a_webhook_address_needs_secrets_in_base64(secrets: list[str]) -> None:
    with pytest.raises(ValueError):
        FakeFinch(webhook_url="http://127.0.0.1:1/", webhook_secrets=secrets)
