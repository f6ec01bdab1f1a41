"""Beginning: what reaches Finch, what the browser gets, and when no person is sent to Finch."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from finch_middleware import AlreadyConnected, FinchRefused, UsageError
from finch_middleware.errors import Unavailable
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.faulty_storage import FaultyStorage
from tests.site import CALLBACK, SAME_ORIGIN_FETCH, Browser, MakeSite, Site


def test_every_argument_reaches_finch(fake: FakeFinch, make_site: MakeSite) -> None:
    site = make_site(sandbox="finch")
    site.opening.update(
        products=["payment"],
        customer_email="payroll@acme.example",
        provider="gusto",
        manual=True,
        expires_in=timedelta(seconds=90),
    )

    Browser(site).begin("acme")

    assert fake.ledger.sessions[0].fields == {
        "customer_id": "acme",
        "customer_name": "Acme Inc.",
        "customer_email": "payroll@acme.example",
        "products": ["payment"],
        "integration": {"provider": "gusto", "auth_method": None},
        "manual": True,
        "minutes_to_expire": 2,
        "redirect_uri": site.origin + CALLBACK,
        "sandbox": "finch",
    }


def test_a_connected_customer_is_an_error_if_the_caller_asks_for_it(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    browser.get(fake.allow(browser.location()))

    with pytest.raises(AlreadyConnected) as caught:
        _begin(site, when_connected="raise")

    assert caught.value.connection_id == fake.ledger.codes[0].connection_id
    assert fake.ledger.calls("reauthenticate") == 0


def test_a_connection_that_finch_does_not_name_cannot_be_renewed(
    fake: FakeFinch, site: Site
) -> None:
    refusal = Behaviour.error(400, finch_code="connection_already_exists")
    fake.script("sessions", refusal)

    with pytest.raises(AlreadyConnected) as caught:
        _begin(site)

    assert caught.value.connection_id is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"return_to": "https://evil.example/"},
        {"customer_id": ""},
        {"customer_name": ""},
        {"flow": "popup"},
        {"when_connected": "ignore"},
        {"expires_in": timedelta(seconds=59)},
    ],
    ids=str,
)
def test_an_impossible_argument_is_an_error_before_any_call(
    fake: FakeFinch, faulty_site: Site, faulty: FaultyStorage, wrong: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        _begin(faulty_site, **wrong)

    assert fake.ledger.calls("sessions") == 0
    assert faulty.calls == []


FINCH_AWAY = {
    "server-error": (Behaviour.error(500, name="server_error"), 502, "unreachable"),
    "reset": (Behaviour.reset(), 502, "unreachable"),
    "html": (Behaviour.garbage("html"), 502, "bad_response"),
    "throttled": (Behaviour.error(429, headers={"Retry-After": "3600"}), 503, "throttled"),
    "unpaid": (Behaviour.error(402, name="payment_required"), 503, "payment_required"),
    "client": (Behaviour.error(401, name="invalid_client_error"), 500, "client_rejected"),
}


@pytest.mark.parametrize("name", FINCH_AWAY)
def test_no_person_is_sent_to_an_unavailable_finch(
    fake: FakeFinch, site: Site, browser: Browser, name: str
) -> None:
    behaviour, status, reason = FINCH_AWAY[name]
    fake.script("sessions", behaviour, times=None)

    answer = browser.begin()

    assert answer.status == status
    assert name != "throttled" or answer.headers["Retry-After"] == "3600"
    assert not browser.cookies
    assert 'href="/settings"' in answer.text
    [event] = site.named("finch.begin.failed")
    assert event.reason == reason
    assert event.reference is not None
    assert event.reference in answer.text


def test_a_refusal_is_logged_once_with_the_reference_that_the_error_has(
    fake: FakeFinch, site: Site
) -> None:
    fake.script("sessions", Behaviour.error(400, name="bad_request"))

    with pytest.raises(FinchRefused) as caught:
        site.finch.begin(customer_id="acme", customer_name="Acme Inc.")

    [event] = site.named("finch.begin.failed")
    assert (event.reason, event.reference) == ("finch_refused", caught.value.reference)


def test_a_product_that_finch_does_not_publish_is_refused_unless_the_option_allows_it(
    site: Site,
) -> None:
    with pytest.raises(UsageError, match="did you mean 'directory'"):
        site.finch.begin(customer_id="acme", customer_name="Acme Inc.", products=["directry"])


def test_a_script_reads_in_json_that_finch_is_unavailable(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    fake.stop()

    answer = browser.request("POST", "/connect?customer=acme", headers=SAME_ORIGIN_FETCH)

    assert answer.status == 502
    assert answer.json["outcome"] == "failed"
    assert answer.json["reason"] == "unreachable"
    assert answer.json["retry"] == "reload"


def test_no_person_is_sent_to_finch_while_the_storage_is_unavailable(
    fake: FakeFinch, faulty_site: Site, faulty: FaultyStorage
) -> None:
    faulty.down("check", times=1)
    browser = Browser(faulty_site)

    refused, allowed = browser.begin(), browser.begin()

    assert refused.status == 503
    assert refused.headers["Retry-After"]
    assert "Nothing new was connected" in refused.text
    assert "go back to the application and press the button again" in refused.text
    [event] = faulty_site.named("finch.begin.failed")
    assert event.reason == "storage_unavailable"
    assert allowed.status == 303
    assert fake.ledger.calls("sessions") == 1


def test_no_person_is_sent_to_finch_while_the_spool_cannot_be_written(
    fake: FakeFinch, make_site: MakeSite, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    site = make_site(spool=tmp_path / "file" / "spool")

    answer = Browser(site).begin()

    assert answer.status == 503
    assert [event.reason for event in site.named("finch.begin.failed")] == ["spool_unavailable"]
    assert fake.ledger.calls("sessions") == 0


def test_the_page_of_one_absence_can_be_made_again(fake: FakeFinch, site: Site) -> None:
    fake.stop()

    with pytest.raises(Unavailable) as caught:
        _begin(site)

    pages = [caught.value.response().get_data(as_text=True) for _ in range(2)]
    [event] = site.named("finch.begin.failed")
    assert all(str(event.reference) in page for page in pages)


def _begin(site: Site, **arguments: Any) -> Any:
    given = {"customer_id": "acme", "customer_name": "Acme Inc.", **arguments}
    return site.finch.begin(**given)
