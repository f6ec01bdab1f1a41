"""The library's requests, and the fake's responses, held against a description of Finch's API."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from finch_middleware.finch.transport import FinchResponse, Request, Transport
from finch_middleware.testing.fake_finch import FakeFinch, SeenRequest
from tests.site import Browser, MakeSite

yaml = pytest.importorskip("yaml")
jsonschema = pytest.importorskip("jsonschema")
openapi = pytest.importorskip("openapi_spec_validator")

pytestmark = pytest.mark.full

API: Any = yaml.safe_load(Path(__file__).with_name("finch_openapi.yaml").read_text())
SCHEMES = {"basic": "Basic ", "bearer": "Bearer "}


def faults_of(request: SeenRequest) -> list[str]:
    """How *request* differs from the description."""
    operation = API["paths"].get(request.path, {}).get(request.method.lower())
    if operation is None:
        return ["no such call"]
    headers = dict(request.headers)
    scheme = next((SCHEMES[name] for need in operation["security"] for name in need), "")
    faults = []
    if headers.get("Finch-API-Version") != API["info"]["version"]:
        faults.append("Finch-API-Version")
    if not headers.get("Authorization", "").startswith(scheme) or bool(scheme) != (
        "Authorization" in headers
    ):
        faults.append("Authorization")
    if "requestBody" not in operation:
        return [*faults, *(["a body"] if request.body else [])]
    [(kind, content)] = operation["requestBody"]["content"].items()
    if headers.get("Content-Type") != kind:
        faults.append("Content-Type")
    return [*faults, *differences(content["schema"], request.body)]


def differences(schema: dict[str, Any], body: bytes | None) -> list[str]:
    """Where *body* differs from *schema*."""
    whole = {**schema, "components": API["components"]}
    found = jsonschema.Draft202012Validator(whole).iter_errors(json.loads(body or b"null"))
    return [each.json_path for each in found]


def faults_of_response(request: Request, response: FinchResponse) -> list[str]:
    """How the *response* to *request* differs from the description."""
    [operation] = API["paths"][urlsplit(request.url).path].values()
    described = operation["responses"].get(str(response.status))
    if described is None:
        return [f"status {response.status}"]
    named = API["components"]["responses"][described["$ref"].rpartition("/")[2]]
    return differences(named["content"]["application/json"]["schema"], response.body)


@pytest.fixture
def exchanged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Request, FinchResponse]]:
    """Each request that is sent, and its response."""
    found: list[tuple[Request, FinchResponse]] = []
    send = Transport.send

    def keep(self: Transport, request: Request, **given: Any) -> Any:
        response = send(self, request, **given)
        assert isinstance(response, FinchResponse)
        found.append((request, response))
        return response

    monkeypatch.setattr(Transport, "send", keep)
    return found


@pytest.mark.parametrize("sandbox", [None, "finch"])
def test_every_request_and_response_follows_the_description(
    fake: FakeFinch,
    make_site: MakeSite,
    exchanged: list[tuple[Request, FinchResponse]],
    sandbox: Any,
) -> None:
    site = make_site(sandbox=sandbox)
    browser, connections = Browser(site), site.finch.connections
    site.opening.update(customer_email="a@acme.test", provider="gusto", manual=False)
    browser.get(fake.allow(browser.location(), entities=3))
    site.opening = {"flow": "embedded"}
    opened = browser.embedded()
    browser.fetch(fake.allow_embedded(opened["session_id"], state=opened["state"]))
    [connection] = connections.for_customer("acme")
    own = {"connection_id": connection.connection_id, "customer_id": "acme"}
    connections.refresh(**own)
    connections.disconnect_entities(**own, entity_ids=connection.entity_ids[:2])
    site.opening = {"connection_id": connection.connection_id, "products": ["company"]}
    browser.get(fake.allow(browser.location()))
    connections.disconnect(**own)

    seen = [each for each in fake.ledger.requests if each.endpoint != "authorize"]

    openapi.validate(API)
    assert {each.path: faults for each in seen if (faults := faults_of(each))} == {}
    assert {each.path for each in seen} == API["paths"].keys()
    assert [faults for pair in exchanged if (faults := faults_of_response(*pair))] == []
    assert len(exchanged) == len(seen)
    assert fake.ledger.notes == ()


def test_what_the_description_does_not_have_is_a_fault(
    fake: FakeFinch, make_site: MakeSite, exchanged: list[tuple[Request, FinchResponse]]
) -> None:
    Browser(make_site()).begin()
    [request] = fake.ledger.requests
    odd = json.dumps({**json.loads(request.body), "products": [], "scope": "all"}).encode()
    changes: list[dict[str, Any]] = [{"body": odd}, {"headers": ()}, {"path": "/connect"}]

    faults = [faults_of(replace(request, **change)) for change in changes]

    assert [len(each) for each in faults] == [2, 3, 1]
    [(asked, response)] = exchanged
    bodies = [b"{}", (response.body or b"").replace(b"}", b', "x": 1}')]
    odd_ones = [replace(response, body=each) for each in bodies]
    odd_ones.append(replace(response, status=200))
    assert [len(faults_of_response(asked, each)) for each in odd_ones] == [2, 1, 1]
