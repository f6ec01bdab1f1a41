"""The fake's data calls enforce entities, products and states, and its unknowns can be chosen."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import FakeFinch, Unknowns
from tests.testing.asking_fake import (
    REDIRECT_URI,
    TIMEOUT_SECONDS,
    VERSION,
    body_of,
    open_session,
    post,
    query_of,
)

EVERY = ["company", "directory", "individual", "employment", "payment", "pay_statement"]


def granted(fake: FakeFinch, location: str, **consent: Any) -> dict[str, Any]:
    code = query_of(fake.allow(location, **consent))["code"][0]
    body = body_of(fake, code) | {"redirect_uri": REDIRECT_URI}
    response: dict[str, Any] = post(fake, "/auth/token", body).json()
    return response


def connected(fake: FakeFinch, *, products: list[str] = EVERY, **consent: Any) -> dict[str, Any]:
    opened = open_session(fake, redirect_uri=REDIRECT_URI, products=products).json()
    return granted(fake, opened["connect_url"], **consent)


def reauthenticated(fake: FakeFinch, connection_id: str) -> dict[str, Any]:
    fields = {"connection_id": connection_id, "redirect_uri": REDIRECT_URI, "products": None}
    opened = post(
        fake, "/connect/sessions/reauthenticate", fields, auth=(fake.client_id, fake.client_secret)
    )
    return granted(fake, opened.json()["connect_url"])


def call(
    fake: FakeFinch, path: str, token: dict[str, Any], *, body: Any = None, **query: Any
) -> requests.Response:
    return requests.request(
        "GET" if body is None else "POST",
        fake.api_url + path,
        params=query,
        json=body,
        headers=VERSION | {"Authorization": f"Bearer {token['access_token']}"},
        timeout=TIMEOUT_SECONDS,
    )


@pytest.mark.parametrize("spelling", ["entity_ids", "entity_ids[]"])
def test_a_connection_with_several_entities_needs_exactly_one_named(
    fake: FakeFinch, spelling: str
) -> None:
    token = connected(fake, entities=2)
    first, second = token["entity_ids"]

    none = call(fake, "/employer/company", token)
    both = call(fake, "/employer/company", token, **{spelling: [first, second]})
    other = call(fake, "/employer/company", token, **{spelling: "unknown"})
    one, two = (
        call(fake, "/employer/company", token, **{spelling: entity}) for entity in (first, second)
    )

    assert [r.status_code for r in (none, both, other, one, two)] == [400, 400, 400, 200, 200]
    assert {r.json()["name"] for r in (none, both, other)} == {"invalid_request_error"}
    assert one.json()["id"] != two.json()["id"]


def test_a_single_entity_need_not_be_named_and_its_data_stays_the_same(fake: FakeFinch) -> None:
    token = connected(fake)

    first, second = (call(fake, "/employer/directory", token).json() for _ in range(2))

    assert first == second
    assert first["paging"] == {"count": 25, "offset": 0}


def test_pages_of_the_directory_and_of_statements_cover_everything(fake: FakeFinch) -> None:
    token = connected(fake)
    whole = call(fake, "/employer/directory", token).json()["individuals"]
    pages = [
        call(fake, "/employer/directory", token, offset=n, limit=10).json()["individuals"]
        for n in (0, 10, 20, 30)
    ]
    payment = call(
        fake, "/employer/payment", token, start_date="2026-10-01", end_date="2026-10-31"
    ).json()[0]
    asked = [{"payment_id": payment["id"], "offset": n, "limit": 20} for n in (0, 20)]
    statements = call(fake, "/employer/pay-statement", token, body={"requests": asked}).json()

    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert [person for page in pages for person in page] == whole
    paid = [
        s["individual_id"] for r in statements["responses"] for s in r["body"]["pay_statements"]
    ]
    assert paid == payment["individual_ids"]


@pytest.mark.parametrize(
    ("path", "body", "query"),
    [
        ("/employer/directory", None, {"offset": "-1"}),
        ("/employer/directory", None, {"limit": "many"}),
        ("/employer/payment", None, {"start_date": "2026-01-01"}),
        ("/employer/payment", None, {"start_date": "soon", "end_date": "2026-01-01"}),
        ("/employer/individual", {}, {}),
        ("/employer/individual", {"requests": []}, {}),
        ("/employer/employment", {"requests": ["id"]}, {}),
        ("/employer/pay-statement", {"requests": [{"payment_id": 7}]}, {}),
    ],
)
def test_a_malformed_data_call_is_refused(
    fake: FakeFinch, path: str, body: Any, query: dict[str, str]
) -> None:
    assert call(fake, path, connected(fake), body=body, **query).status_code == 400


def test_an_unknown_person_of_a_batch_is_that_ones_error(fake: FakeFinch) -> None:
    token = connected(fake)
    known = call(fake, "/employer/directory", token).json()["individuals"][3]["id"]
    asked = {"requests": [{"individual_id": each} for each in (known, "unknown")]}

    responses = call(fake, "/employer/individual", token, body=asked).json()["responses"]

    assert [(r["individual_id"], r["code"]) for r in responses] == [(known, 200), ("unknown", 404)]


def test_a_token_covers_its_products_alone(fake: FakeFinch) -> None:
    token = connected(fake, products=["company"])

    assert call(fake, "/employer/company", token).status_code == 200
    assert call(fake, "/employer/directory", token).status_code == 403


@pytest.mark.parametrize(
    ("status", "http", "finch_code"),
    [
        ("pending", 202, "data_sync_in_progress"),
        ("processing", 202, "data_sync_in_progress"),
        ("reauth", 401, "reauthenticate_user"),
        ("error_no_account_setup", 401, "account_setup_required"),
    ],
)
@pytest.mark.parametrize("of_entity", [False, True])
def test_a_state_without_data_is_named_and_other_entities_keep_working(
    fake: FakeFinch, status: str, http: int, finch_code: str, of_entity: bool
) -> None:
    token = connected(fake, entities=2)
    first, second = token["entity_ids"]

    fake.set_status(token["connection_id"], status, entity=first if of_entity else None)

    affected = call(fake, "/employer/company", token, entity_ids=first)
    other = call(fake, "/employer/company", token, entity_ids=second)
    assert (affected.status_code, affected.json()["finch_code"]) == (http, finch_code)
    assert other.status_code == (200 if of_entity else http)


def test_a_status_that_finch_does_not_have_is_refused(fake: FakeFinch) -> None:
    token = connected(fake)

    with pytest.raises(ValueError, match="no such status: broken"):
        fake.set_status(token["connection_id"], "broken")
    with pytest.raises(KeyError):
        fake.set_status(token["connection_id"], "reauth", entity="unknown")


def test_only_own_entities_can_be_disconnected(fake: FakeFinch) -> None:
    token = connected(fake, entities=2)
    body = {"entity_ids": [token["entity_ids"][0], "unknown"]}

    response = call(fake, "/disconnect-entity", token, body=body)

    assert response.status_code == 400
    assert len(fake.account(token["connection_id"]).entity_ids) == 2


def test_sandbox_endpoints_refuse_a_connection_that_is_none(fake: FakeFinch) -> None:
    response = call(fake, "/sandbox/jobs", connected(fake), body={"type": "data_sync_all"})

    assert response.status_code == 400


@pytest.mark.parametrize(("fate", "works"), [("lives", 200), ("dies", 401)])
def test_the_old_token_lives_or_dies_after_signing_in_again(fate: Any, works: int) -> None:
    with FakeFinch(clock=Clock(), unknowns=Unknowns(old_token=fate)) as fake:
        old = connected(fake)
        new = reauthenticated(fake, old["connection_id"])

        assert call(fake, "/introspect", old).status_code == works
        assert call(fake, "/introspect", new).status_code == 200


@pytest.mark.parametrize(("answer", "customer"), [("named", "acme"), ("null", None)])
def test_the_customer_of_a_new_login_is_named_or_null(answer: Any, customer: str | None) -> None:
    with FakeFinch(unknowns=Unknowns(reauthenticated_customer=answer)) as fake:
        first = connected(fake)

        assert first["customer_id"] == "acme"
        assert reauthenticated(fake, first["connection_id"])["customer_id"] == customer


def test_a_refusal_may_depend_on_the_provider_and_name_no_connection() -> None:
    unknowns = Unknowns(connected_customer="refused per provider", refusal_names_connection=False)
    with FakeFinch(unknowns=unknowns) as fake:
        connected(fake, provider="gusto")

        other = open_session(fake, integration={"provider": "adp_run"})
        same = open_session(fake, integration={"provider": "gusto"})
        open_choice = open_session(fake)

    assert [r.status_code for r in (other, same, open_choice)] == [201, 400, 201]
    assert "context" not in same.json()


@pytest.mark.parametrize(("reauth", "status"), [("works", 200), ("refused", 401)])
@pytest.mark.parametrize("path", ["/introspect", "/disconnect"])
def test_calls_about_a_token_work_or_not_while_a_person_has_to_sign_in(
    path: str, reauth: Any, status: int
) -> None:
    with FakeFinch(unknowns=Unknowns(reauth=reauth)) as fake:
        token = connected(fake)
        fake.set_status(token["connection_id"], "reauth")

        response = call(fake, path, token, body={} if path == "/disconnect" else None)

    assert response.status_code == status
    assert response.json().get("finch_code") == (None if status == 200 else "reauthenticate_user")


@pytest.mark.parametrize(("sends", "events"), [("nothing", 0), ("one", 1), ("one per entity", 2)])
def test_a_disconnect_may_send_events(sends: Any, events: int) -> None:
    given: Any = {"webhook_url": "http://127.0.0.1:1/", "webhook_secrets": ["YQ=="]}
    with FakeFinch(unknowns=Unknowns(disconnect_sends=sends), **given) as fake:
        token = connected(fake, entities=2)

        call(fake, "/disconnect", token, body={})

        fake.ledger.wait_for_deliveries(events)
        bodies = [json.loads(each.body) for each in fake.ledger.deliveries]
    entity_ids = {"one": [None], "one per entity": token["entity_ids"]}.get(sends, [])
    assert [body["entity_id"] for body in bodies] == entity_ids


def test_another_process_changes_a_state(fake: FakeFinch) -> None:
    too_early = post(fake, "/_fake/status", {"status": "reauth"})
    token = connected(fake)
    given = {"status": "reauth"}

    changed = post(fake, "/_fake/status", given)
    odd = [{"status": "broken"}, given | {"entity": "?"}, given | {"x": 1}]
    odd += [given | {"connection_id": each} for each in ("?", 1)]
    refused = [too_early.status_code]
    refused += [post(fake, "/_fake/status", each).status_code for each in odd]
    no_json = requests.post(f"{fake.api_url}/_fake/status", "{}", timeout=TIMEOUT_SECONDS)

    assert (changed.status_code, changed.json()) == (200, {"delivered": []})
    assert fake.account(token["connection_id"]).status == "reauth"
    assert {*refused, no_json.status_code} == {400}
