"""Finch's official SDK, unchanged, works with the fake: an independent client."""

from __future__ import annotations

import asyncio
import base64
import json
import operator
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import finch as sdk
import pytest
from werkzeug.wrappers import Request, Response

from finch_middleware.testing.fake_finch import FakeFinch
from tests.processes import free_port
from tests.serving import served
from tests.testing.asking_fake import REDIRECT_URI, query_of

SECRETS = [base64.b64encode(text * 12).decode() for text in (b"a", b"b")]
SESSION = {
    "customer_id": "acme",
    "customer_name": "Acme Inc.",
    "products": ["company", "directory", "individual", "employment", "payment", "pay_statement"],
    "redirect_uri": REDIRECT_URI,
}
PAGINATED = ("hris.directory.list", "hris.payments.list")
MANUAL = Path(__file__).parents[2] / "docs" / "testing.md"


class Receiver:
    """Keeps the webhooks it gets, and answers each with `status`."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, dict[str, str]]] = []
        self.status = 200
        self.url = ""

    def respond(self, request: Request) -> Response:
        self.received.append((request.get_data(), dict(request.headers)))
        return Response(status=self.status, headers={"Location": "/elsewhere"})


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    with served(Request.application(receiver.respond)) as address:
        receiver.url = f"{address}/finch/webhook"
        yield receiver


@pytest.fixture
def fake(receiver: Receiver) -> Iterator[FakeFinch]:
    # With the real clock, since the SDK compares a webhook's time with it.
    with FakeFinch(webhook_url=receiver.url, webhook_secrets=SECRETS) as fake:
        yield fake


class Client:
    """The SDK's client, which refuses a response that is not of its type: sync or async."""

    def __init__(self, fake: FakeFinch, loop: asyncio.Runner | None, **options: Any) -> None:
        self._loop = loop
        self._sdk = (sdk.AsyncFinch if loop else sdk.Finch)(
            base_url=fake.api_url,
            client_id=fake.client_id,
            client_secret=fake.client_secret,
            max_retries=0,
            _strict_response_validation=True,
            **options,
        )

    def call(self, name: str, *args: Any, **given: Any) -> Any:
        """The result of the call of that name; a paginated one is read to its end."""
        result = operator.attrgetter(name)(self._sdk)(*args, **given)
        if name == "webhooks.unwrap":
            return result
        return self._loop.run(_awaited(name, result)) if self._loop else _all(name, result)

    def close(self) -> None:
        """Close its connections."""
        if self._loop:
            self._loop.run(self._sdk.close())
        else:
            self._sdk.close()


async def _awaited(name: str, result: Any) -> Any:
    return [each async for each in result] if name in PAGINATED else await result


def _all(name: str, result: Any) -> Any:
    return list(result) if name in PAGINATED else result


@pytest.fixture(params=["sync", "async"])
def client_of(request: pytest.FixtureRequest) -> Iterator[Callable[..., Client]]:
    """Makes clients of one kind."""
    made = []
    with asyncio.Runner() as runner:

        def make(fake: FakeFinch, **options: Any) -> Client:
            made.append(Client(fake, runner if request.param == "async" else None, **options))
            return made[-1]

        yield make
        for each in made:
            each.close()


def connected(client: Client, fake: FakeFinch, *, entities: int = 1, **session: Any) -> Any:
    """The token's response, in the SDK's type."""
    opened = client.call("connect.sessions.new", **SESSION, **session)
    code = query_of(fake.allow(opened.connect_url, entities=entities))["code"][0]
    return client.call("access_tokens.create", code=code, redirect_uri=REDIRECT_URI)


def test_the_manual_names_the_kinds_of_calls_that_are_made_here() -> None:
    [listed] = re.findall(
        r"SDK works with the fake: Connect (.+?), with `F", MANUAL.read_text(), re.S
    )

    made = set(re.findall(r'call\(\s*"([a-z_]+)\.', Path(__file__).read_text()))

    assert sorted(["connect", *re.findall("`([a-z_]+)", listed)]) == sorted(made)


def test_every_data_call_gets_a_response_of_its_type(
    fake: FakeFinch, client_of: Callable[..., Client]
) -> None:
    granted = connected(client_of(fake), fake, entities=2)
    client = client_of(fake, access_token=granted.access_token)
    one = {"entity_ids": granted.entity_ids[:1]}

    company = client.call("hris.company.retrieve", **one)
    people = client.call("hris.directory.list", **one)
    first = [{"individual_id": people[0].id}]
    individual = client.call("hris.individuals.retrieve_many", requests=first, **one)
    employment = client.call("hris.employments.retrieve_many", requests=first, **one)
    payments = client.call(
        "hris.payments.list", start_date="2026-01-01", end_date="2026-12-31", **one
    )
    asked = [{"payment_id": payments[0].id}]
    statements = client.call("hris.pay_statements.retrieve_many", requests=asked, **one)
    state = client.call("account.introspect").connection_status

    assert company.legal_name
    assert len({person.id for person in people}) == 25
    assert individual.responses[0].body.id == people[0].id
    assert employment.responses[0].body.id == people[0].id
    assert [payment.pay_date for payment in payments] == sorted(p.pay_date for p in payments)
    body = statements.responses[0].body
    assert (
        sum(each.gross_pay.amount for each in body.pay_statements) == payments[0].gross_pay.amount
    )
    assert state.last_successful_sync is not None


def test_a_connections_life_from_sessions_to_disconnect(
    fake: FakeFinch, client_of: Callable[..., Client]
) -> None:
    application = client_of(fake)
    granted = connected(application, fake)
    client = client_of(fake, access_token=granted.access_token)
    with pytest.raises(sdk.BadRequestError) as refused:
        connected(application, fake)
    fake.set_status(granted.connection_id, "reauth", message="Sign in again")
    with pytest.raises(sdk.AuthenticationError) as reauth:
        client.call("hris.company.retrieve")
    state = client.call("account.introspect").connection_status

    opened = application.call(
        "connect.sessions.reauthenticate",
        connection_id=granted.connection_id,
        redirect_uri=REDIRECT_URI,
    )
    code = query_of(fake.allow(opened.connect_url, entities=3))["code"][0]
    again = application.call("access_tokens.create", code=code, redirect_uri=REDIRECT_URI)
    repaired = client_of(fake, access_token=again.access_token)
    entities = repaired.call("account.introspect").entities

    assert refused.value.body["context"] == {"connection_id": granted.connection_id}
    assert reauth.value.body["finch_code"] == "reauthenticate_user"
    assert (state.status, state.message) == ("reauth", "Sign in again")
    assert again.connection_id == granted.connection_id
    assert again.access_token != granted.access_token
    assert again.entity_ids[:1] == granted.entity_ids
    assert [(e.id, e.status) for e in entities or ()] == [
        (e, "connected") for e in again.entity_ids
    ]
    assert repaired.call("account.disconnect").status == "success"
    with pytest.raises(sdk.AuthenticationError) as ended:
        repaired.call("account.disconnect")
    assert ended.value.body["name"] == "invalid_token_error"


def test_the_sandbox_makes_and_changes_connections(
    fake: FakeFinch, client_of: Callable[..., Client]
) -> None:
    client = client_of(fake)

    made = client.call("sandbox.connections.create", provider_id="gusto", products=["company"])
    bearer = client_of(fake, access_token=made.access_token)
    beside = client.call(
        "sandbox.connections.accounts.create", company_id=made.company_id, provider_id="adp_run"
    )
    changed = bearer.call("sandbox.connections.accounts.update", connection_status="reauth")
    job = bearer.call("sandbox.jobs.create", type="data_sync_all")
    state = bearer.call("account.introspect")

    assert beside.company_id == made.company_id
    assert beside.connection_id != made.connection_id == changed.connection_id
    assert (state.connection_status.status, state.client_type) == ("reauth", "sandbox")
    assert job.job_id in job.job_url
    fake.ledger.wait_for_deliveries(1)
    [delivery] = fake.ledger.deliveries
    assert json.loads(delivery.body)["data"]["status"] == "reauth"


@pytest.mark.parametrize("secret", SECRETS)
def test_the_sdk_unwraps_webhooks_with_either_secret(
    fake: FakeFinch, client_of: Callable[..., Client], receiver: Receiver, secret: str
) -> None:
    client = client_of(fake, webhook_secret=secret)
    granted = connected(client, fake)

    delivery = fake.set_status(granted.connection_id, "reauth")

    [received] = receiver.received
    event = client.call("webhooks.unwrap", *received)
    assert delivery is not None
    assert delivery.statuses == (200,)
    assert (event.event_type, event.data.status) == ("account.updated", "reauth")
    assert (event.connection_id, event.entity_id) == (granted.connection_id, None)


def test_an_event_is_repeated_under_its_id_and_placed_in_time(
    fake: FakeFinch, client_of: Callable[..., Client], receiver: Receiver
) -> None:
    opened = client_of(fake).call("connect.sessions.new", **SESSION)
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
    fake: FakeFinch, client_of: Callable[..., Client], receiver: Receiver
) -> None:
    application = client_of(fake, webhook_secret=SECRETS[0])
    granted = connected(application, fake, entities=3)
    client = client_of(fake, access_token=granted.access_token)

    client.call("account.disconnect_entity", entity_ids=granted.entity_ids[:2])
    fake.ledger.wait_for_deliveries(2)

    left = [e.id for e in fake.account(granted.connection_id).entities if e.status == "connected"]
    assert left == granted.entity_ids[2:]
    events = [application.call("webhooks.unwrap", *each) for each in receiver.received]
    assert [event.entity_id for event in events] == granted.entity_ids[:2]
    assert {event.data.status for event in events} == {"disconnected"}
    opened = application.call(
        "connect.sessions.reauthenticate",
        connection_id=granted.connection_id,
        redirect_uri=REDIRECT_URI,
    )
    fake.allow(opened.connect_url)
    assert fake.account(granted.connection_id).entity_ids == tuple(granted.entity_ids)


def test_an_unreachable_receiver_and_a_missing_address_are_told_apart() -> None:
    connection_id = str(uuid.uuid4())
    unreachable = f"http://127.0.0.1:{free_port()}/"
    with FakeFinch(webhook_url=unreachable, webhook_secrets=SECRETS) as fake:
        delivery = fake.send_webhook(connection_id=connection_id)
    with FakeFinch() as silent:
        assert silent.set_status(connection_id, "reauth") is None
        with pytest.raises(RuntimeError, match="webhook_url"):
            silent.send_webhook(connection_id=connection_id)

        seen: list[bytes] = []
        silent.deliver_webhooks(lambda body, headers: seen.append(body) or 204, secrets=SECRETS)
        handed_over = silent.send_webhook(connection_id=connection_id)

    assert delivery.statuses == (0,)
    assert (seen, handed_over.statuses) == ([handed_over.body], (204,))


@pytest.mark.parametrize("secrets", [[], ["no base64!"]])
def test_a_webhook_address_needs_secrets_in_base64(secrets: list[str]) -> None:
    with pytest.raises(ValueError):
        FakeFinch(webhook_url="http://127.0.0.1:1/", webhook_secrets=secrets)
