"""The library's requests to Finch, held against a description of Finch's API."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

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
    schema = {**content["schema"], "components": API["components"]}
    found = jsonschema.Draft202012Validator(schema).iter_errors(json.loads(request.body))
    return [*faults, *(each.json_path for each in found)]


@pytest.mark.parametrize("sandbox", [None, "finch"])
def test_every_request_follows_the_description(
    fake: FakeFinch, make_site: MakeSite, sandbox: Any
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
    assert fake.ledger.notes == ()


def test_what_the_description_does_not_have_is_a_fault(
    fake: FakeFinch, make_site: MakeSite
) -> None:
    Browser(make_site()).begin()
    [request] = fake.ledger.requests
    odd = json.dumps({**json.loads(request.body), "products": [], "scope": "all"}).encode()
    changes: list[dict[str, Any]] = [{"body": odd}, {"headers": ()}, {"path": "/connect"}]

    faults = [faults_of(replace(request, **change)) for change in changes]

    assert [len(each) for each in faults] == [2, 3, 1]
