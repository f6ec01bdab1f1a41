"""The fake's Connect page, what it returns to the browser, and the ledger."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import timedelta

import pytest
import requests

from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import FakeFinch
from tests.examples.browser import Reader
from tests.testing.asking_fake import (
    REDIRECT_URI,
    TIMEOUT_SECONDS,
    get,
    open_session,
    present,
    query_of,
)


class TestConnect:
    @pytest.mark.parametrize("echo_state", [True, False])
    def test_consent_returns_a_code_and_the_echoed_state(self, echo_state: bool) -> None:
        with FakeFinch(echo_state=echo_state) as fake:
            response = open_session(fake, redirect_uri=REDIRECT_URI + "?a=b").json()

            callback = fake.allow(response["connect_url"] + "&state=s%26t")

        query = query_of(callback)
        assert callback.startswith(REDIRECT_URI + "?a=b&")
        assert query["code"] == [fake.ledger.codes[0].code]
        assert query.get("state") == (["s&t"] if echo_state else None)

    def test_refusing_returns_an_error_and_closing_returns_nothing(self, fake: FakeFinch) -> None:
        location = open_session(fake, redirect_uri=REDIRECT_URI).json()["connect_url"]

        denied, closed = query_of(fake.deny(location)), fake.close(location)

        assert denied["error"] == ["access_denied"]
        assert denied["error_description"]
        assert closed == REDIRECT_URI
        assert fake.ledger.codes == ()

    def test_an_expired_session_gives_no_code(self, fake: FakeFinch, clock: Clock) -> None:
        response = open_session(fake, redirect_uri=REDIRECT_URI, minutes_to_expire=1).json()
        clock.move(timedelta(minutes=1))

        with pytest.raises(LookupError):
            fake.allow(response["connect_url"])
        page = get(response["connect_url"])

        assert page.status_code == 400
        assert "expired" in page.text

    def test_an_address_of_another_site_is_refused(self, fake: FakeFinch) -> None:
        session_id = open_session(fake, redirect_uri=REDIRECT_URI).json()["session_id"]

        with pytest.raises(ValueError, match="not an address"):
            fake.allow(f"https://connect.example/authorize?session={session_id}")

    @pytest.mark.parametrize("decision", ["allow", "deny", "close"])
    def test_the_form_of_the_page_leads_back_without_a_script(
        self, fake: FakeFinch, decision: str
    ) -> None:
        location = open_session(fake, redirect_uri=REDIRECT_URI).json()["connect_url"]
        form = Reader(get(location + "&state=%22%3E%3Cb").text).forms[0]

        response = requests.post(
            fake.connect_origin + form.action,
            data=form.fields | {"provider": "rippling", "decision": decision},
            allow_redirects=False,
            timeout=TIMEOUT_SECONDS,
        )

        query = query_of(response.headers["Location"])
        assert response.status_code == 302
        assert query["state"] == ['"><b']
        assert [issued.provider_id for issued in fake.ledger.codes] == (
            ["rippling"] if decision == "allow" else []
        )
        assert ("code" in query, "error" in query) == (decision == "allow", decision == "deny")

    @pytest.mark.parametrize(
        ("decision", "kind"), [("allow", "success"), ("deny", "error"), ("close", "closed")]
    )
    def test_an_embedded_page_posts_its_message_to_its_parent_only(
        self, fake: FakeFinch, decision: str, kind: str
    ) -> None:
        location = open_session(fake).json()["connect_url"]
        asked = location + "&state=</script>&app_type=spa&sdk_host_url=http://localhost:5000"
        form = Reader(get(asked).text).forms[0]

        page = requests.post(
            fake.connect_origin + form.action,
            data=form.fields | {"decision": decision, "provider": "gusto"},
            timeout=TIMEOUT_SECONDS,
        ).text

        script = page.split("<script>parent.postMessage(")[1].split(");</script>")[0]
        assert "<" not in script
        message, target = json.loads(f"[{script}]")
        assert (message["name"], message["kind"]) == ("finch-auth-message-v2", kind)
        assert target == "http://localhost:5000"
        assert message.get("state") == ("</script>" if kind == "success" else None)
        assert message.get("code") == next((i.code for i in fake.ledger.codes), None)

    def test_an_embedded_session_is_not_shown_outside_a_frame(self, fake: FakeFinch) -> None:
        location = open_session(fake).json()["connect_url"]

        assert get(location).status_code == 400

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
        session_id = open_session(fake, redirect_uri=REDIRECT_URI).json()["session_id"]

        url = fake.connect_origin + "/authorize"
        response = requests.post(
            url, data={"session": session_id} | fields, timeout=TIMEOUT_SECONDS
        )

        assert response.status_code == 400
        assert fake.ledger.codes == ()

    def test_a_session_for_one_provider_offers_no_other(self, fake: FakeFinch) -> None:
        integration = {"provider": "sage", "auth_method": "api_token"}
        response = open_session(fake, redirect_uri=REDIRECT_URI, integration=integration).json()

        page = get(response["connect_url"]).text
        fake.allow(response["connect_url"], provider="gusto")

        assert 'value="sage"' in page
        assert 'value="gusto"' not in page
        assert fake.ledger.codes[0].provider_id == "sage"

    def test_an_impossible_decision_is_an_error(self, fake: FakeFinch) -> None:
        embedded = open_session(fake).json()
        redirect = open_session(fake, redirect_uri=REDIRECT_URI).json()

        with pytest.raises(ValueError, match="embedded"):
            fake.allow(embedded["connect_url"])
        with pytest.raises(ValueError, match="provider"):
            fake.allow(redirect["connect_url"], provider="abacus")

        assert fake.ledger.codes == ()

    def test_the_page_shows_names_as_text_and_loads_nothing(self, fake: FakeFinch) -> None:
        name = "<script src=//x.example>"
        response = open_session(fake, redirect_uri=REDIRECT_URI, customer_name=name).json()

        page = get(response["connect_url"]).text

        assert "&lt;script src=//x.example&gt;" in page
        assert re.search("<(script|link|img|iframe)", page) is None


class TestLedger:
    def test_it_records_a_request_as_it_arrived(self, fake: FakeFinch) -> None:
        url = fake.api_url + "/auth/token"

        requests.post(url, data=b"{broken", headers={"x-Odd-CASE": "v"}, timeout=TIMEOUT_SECONDS)

        seen = fake.ledger.requests[0]
        assert (seen.endpoint, seen.method, seen.body) == ("token", "POST", b"{broken")
        assert ("x-Odd-CASE", "v") in seen.headers
        assert seen.header("X-odd-case") == "v"
        assert fake.ledger.calls("token") == 1
        assert fake.ledger.calls("sessions") == 0

    def test_no_repr_shows_a_code_a_token_or_a_secret(self, fake: FakeFinch) -> None:
        code = fake.issue_code(customer_id="acme")
        token = present(fake, code).json()["access_token"]
        bearer = {"Authorization": f"Bearer {token}"}
        get(fake.api_url + "/introspect", headers=bearer)
        ledger = fake.ledger

        shown = repr((fake, ledger, ledger.requests, ledger.codes, ledger.sessions))

        assert not [each for each in (code, token, fake.client_secret) if each in shown]

    def test_another_process_reads_it_with_tokens_hashed(self, fake: FakeFinch) -> None:
        code = fake.issue_code(customer_id="acme")
        token = present(fake, code).json()["access_token"]

        response = get(fake.api_url + "/_fake/ledger")

        ledger_json = response.json()
        assert ledger_json["tokens"] == [hashlib.sha256(token.encode()).hexdigest()]
        assert (ledger_json["codes"][0]["code"], ledger_json["codes"][0]["presented"]) == (code, 1)
        assert ledger_json["calls"] == {"token": 1}
        assert token not in response.text
        assert fake.client_secret not in response.text
