"""Finch Connect without Finch: the page, what it brings back, and the ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import FakeFinch

REDIRECT_URI = "http://localhost:5000/finch/callback"
VERSION = {"Finch-API-Version": "2020-09-17"}
SESSION = {"customer_id": "acme", "customer_name": "Acme Inc.", "products": ["company"]}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fake(clock: Clock) -> Iterator[FakeFinch]:
    with FakeFinch(clock=clock) as fake:
        yield fake


def open_session(fake: FakeFinch, **fields: Any) -> Any:
    auth = (fake.client_id, fake.client_secret)
    url = fake.api_url + "/connect/sessions"
    return requests.post(url, json=SESSION | fields, headers=VERSION, auth=auth, timeout=5).json()


def present(fake: FakeFinch, code: str) -> Any:
    body = {"client_id": fake.client_id, "client_secret": fake.client_secret, "code": code}
    url = fake.api_url + "/auth/token"
    return requests.post(url, json=body, headers=VERSION, timeout=5).json()


def query_of(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)


class Form(HTMLParser):
    """The one form of a page, and the names of all its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.tags: set[str] = set()
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        if tag == "form":
            self.action = given["action"]
        if given.get("type") == "hidden":
            self.fields[given["name"]] = given["value"]


class TestConnect:
    @pytest.mark.parametrize("echo_state", [True, False])
    def test_consent_brings_a_code_and_the_state_if_finch_echoes_it(self, echo_state: bool) -> None:
        with FakeFinch(echo_state=echo_state) as fake:
            answer = open_session(fake, redirect_uri=REDIRECT_URI + "?a=b")

            callback = fake.allow(answer["connect_url"] + "&state=s%26t")

        query = query_of(callback)
        assert callback.startswith(REDIRECT_URI + "?a=b&")
        assert query["code"] == [fake.ledger.codes[0].code]
        assert query.get("state") == (["s&t"] if echo_state else None)

    def test_refusing_brings_an_error_and_closing_brings_nothing(self, fake: FakeFinch) -> None:
        location = open_session(fake, redirect_uri=REDIRECT_URI)["connect_url"]

        denied, closed = query_of(fake.deny(location)), fake.close(location)

        assert denied["error"] == ["access_denied"]
        assert denied["error_description"]
        assert closed == REDIRECT_URI
        assert fake.ledger.codes == ()

    def test_an_expired_session_gives_no_code(self, fake: FakeFinch, clock: Clock) -> None:
        answer = open_session(fake, redirect_uri=REDIRECT_URI, minutes_to_expire=1)
        clock.move(timedelta(minutes=1))

        with pytest.raises(LookupError):
            fake.allow(answer["connect_url"])
        page = requests.get(answer["connect_url"], timeout=5)

        assert page.status_code == 400
        assert "expired" in page.text

    def test_an_address_of_somewhere_else_is_not_taken(self, fake: FakeFinch) -> None:
        session_id = open_session(fake, redirect_uri=REDIRECT_URI)["session_id"]

        with pytest.raises(ValueError, match="not an address"):
            fake.allow(f"https://connect.example/authorize?session={session_id}")

    @pytest.mark.parametrize("decision", ["allow", "deny", "close"])
    def test_the_form_of_the_page_leads_back_without_a_script(
        self, fake: FakeFinch, decision: str
    ) -> None:
        location = open_session(fake, redirect_uri=REDIRECT_URI)["connect_url"]
        form = Form(requests.get(location + "&state=%22%3E%3Cb", timeout=5).text)

        answer = requests.post(
            fake.connect_origin + form.action,
            data=form.fields | {"provider": "rippling", "decision": decision},
            allow_redirects=False,
            timeout=5,
        )

        query = query_of(answer.headers["Location"])
        assert answer.status_code == 302
        assert query["state"] == ['"><b']
        assert [issued.provider_id for issued in fake.ledger.codes] == (
            ["rippling"] if decision == "allow" else []
        )
        assert ("code" in query, "error" in query) == (decision == "allow", decision == "deny")

    @pytest.mark.parametrize(
        ("decision", "kind"), [("allow", "success"), ("deny", "error"), ("close", "closed")]
    )
    def test_an_embedded_page_tells_its_parent_and_nobody_else(
        self, fake: FakeFinch, decision: str, kind: str
    ) -> None:
        location = open_session(fake)["connect_url"]
        asked = location + "&state=</script>&app_type=spa&sdk_host_url=http://localhost:5000"
        form = Form(requests.get(asked, timeout=5).text)

        page = requests.post(
            fake.connect_origin + form.action,
            data=form.fields | {"decision": decision, "provider": "gusto"},
            timeout=5,
        ).text

        script = page.split("<script>parent.postMessage(")[1].split(");</script>")[0]
        assert "<" not in script
        message, target = json.loads(f"[{script}]")
        assert (message["name"], message["kind"]) == ("finch-auth-message-v2", kind)
        assert target == "http://localhost:5000"
        assert message.get("state") == ("</script>" if kind == "success" else None)
        assert message.get("code") == next((i.code for i in fake.ledger.codes), None)

    def test_an_embedded_session_is_not_shown_outside_a_frame(self, fake: FakeFinch) -> None:
        location = open_session(fake)["connect_url"]

        assert requests.get(location, timeout=5).status_code == 400

    @pytest.mark.parametrize(
        "fields",
        [
            {"decision": "allow"},
            {"decision": "allow", "provider": "abacus"},
            {"decision": "perhaps", "provider": "gusto"},
            {"decision": "allow", "provider": "gusto", "sdk_host_url": "javascript:alert()"},
        ],
    )
    def test_a_form_that_the_page_does_not_have_is_refused(
        self, fake: FakeFinch, fields: dict[str, str]
    ) -> None:
        session_id = open_session(fake, redirect_uri=REDIRECT_URI)["session_id"]

        url = fake.connect_origin + "/authorize"
        answer = requests.post(url, data={"session": session_id} | fields, timeout=5)

        assert answer.status_code == 400
        assert fake.ledger.codes == ()

    def test_a_session_for_one_provider_offers_no_other(self, fake: FakeFinch) -> None:
        integration = {"provider": "sage", "auth_method": "api_token"}
        answer = open_session(fake, redirect_uri=REDIRECT_URI, integration=integration)

        page = requests.get(answer["connect_url"], timeout=5).text
        fake.allow(answer["connect_url"], provider="gusto")

        assert 'value="sage"' in page
        assert 'value="gusto"' not in page
        assert fake.ledger.codes[0].provider_id == "sage"

    def test_what_no_person_could_do_is_an_error(self, fake: FakeFinch) -> None:
        embedded = open_session(fake)
        redirect = open_session(fake, redirect_uri=REDIRECT_URI)

        with pytest.raises(ValueError, match="embedded"):
            fake.allow(embedded["connect_url"])
        with pytest.raises(ValueError, match="provider"):
            fake.allow(redirect["connect_url"], provider="abacus")

        assert fake.ledger.codes == ()

    def test_the_page_shows_names_as_text_and_loads_nothing(self, fake: FakeFinch) -> None:
        name = "<script src=//x.example>"
        answer = open_session(fake, redirect_uri=REDIRECT_URI, customer_name=name)

        page = requests.get(answer["connect_url"], timeout=5).text

        assert "&lt;script src=//x.example&gt;" in page
        assert not {"script", "link", "img", "iframe"} & Form(page).tags


class TestLedger:
    def test_it_records_a_request_as_it_arrived(self, fake: FakeFinch) -> None:
        url = fake.api_url + "/auth/token"

        requests.post(url, data=b"{broken", headers={"x-Odd-CASE": "v"}, timeout=5)

        seen = fake.ledger.requests[0]
        assert (seen.endpoint, seen.method, seen.body) == ("token", "POST", b"{broken")
        assert ("x-Odd-CASE", "v") in seen.headers
        assert seen.header("X-odd-case") == "v"
        assert fake.ledger.calls("token") == 1
        assert fake.ledger.calls("sessions") == 0

    def test_no_repr_shows_a_code_a_token_or_a_secret(self, fake: FakeFinch) -> None:
        code = fake.issue_code(customer_id="acme")
        token = present(fake, code)["access_token"]
        bearer = {"Authorization": f"Bearer {token}"}
        requests.get(fake.api_url + "/introspect", headers=bearer, timeout=5)
        ledger = fake.ledger

        shown = repr((fake, ledger, ledger.requests, ledger.codes, ledger.sessions))

        assert not [each for each in (code, token, fake.client_secret) if each in shown]

    def test_another_process_reads_it_with_tokens_hashed(self, fake: FakeFinch) -> None:
        code = fake.issue_code(customer_id="acme")
        token = present(fake, code)["access_token"]

        answer = requests.get(fake.api_url + "/_fake/ledger", timeout=5)

        book = answer.json()
        assert book["tokens"] == [hashlib.sha256(token.encode()).hexdigest()]
        assert (book["codes"][0]["code"], book["codes"][0]["presented"]) == (code, 1)
        assert book["calls"] == {"token": 1}
        assert token not in answer.text
        assert fake.client_secret not in answer.text
