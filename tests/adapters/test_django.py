"""Django's adapter, with Django's own test client."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Barrier, Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from werkzeug.wrappers import Response

from finch_middleware import ConfigurationError, FinchConnect
from finch_middleware.options import new_key
from finch_middleware.testing.fake_finch import FakeFinch

pytest.importorskip("django")

from django.core.checks import run_checks
from django.test import Client, RequestFactory, override_settings

from finch_middleware.adapters.django import callback, finch, to_django
from tests.adapters import django_site

django_site.set_up()

ORIGIN = "http://localhost:8000"
COOKIE = "__Host-finch-abc=fm1.k1.x-_y; Max-Age=600; Secure; HttpOnly; Path=/; SameSite=Lax"


@pytest.fixture
def options(fake: FakeFinch) -> dict[str, Any]:
    return {
        "client_id": fake.client_id,
        "client_secret": fake.client_secret,
        "redirect_uri": f"{ORIGIN}/finch/callback",
        "products": ["company"],
        "storage": "memory://",
        "key": new_key("k1"),
        "api_url": fake.api_url,
        "connect_origin": fake.connect_origin,
    }


@pytest.fixture
def configured(options: dict[str, Any]) -> Iterator[FinchConnect]:
    """The component of ``settings.FINCH``."""
    with override_settings(FINCH=options):
        yield finch()


@pytest.fixture
def client() -> Client:
    client = Client(enforce_csrf_checks=True, SERVER_NAME="localhost")
    client.get("/sign-in?as=acme")
    return client


def returned(client: Client, fake: FakeFinch) -> str:
    """The query with which the browser returns from Finch Connect."""
    location = client.get("/connect").headers["Location"]
    return urlsplit(fake.allow(location)).query


def messages(**settings: Any) -> list[str]:
    with override_settings(**settings):
        return [f"{message.id} {message.msg}" for message in run_checks()]


# The view


def test_a_return_is_stored_through_the_test_client(
    configured: FinchConnect, client: Client, fake: FakeFinch
) -> None:
    query = returned(client, fake)

    answer = client.get(f"/finch/callback?{query}")

    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/?finch=connected&")
    assert [each.provider_id for each in configured.connections.for_customer("acme")] == ["gusto"]


def test_a_reload_is_recognised_by_the_cookie_of_the_first_answer(
    configured: FinchConnect, client: Client, fake: FakeFinch
) -> None:
    query = returned(client, fake)
    first = client.get(f"/finch/callback?{query}")

    again = client.get(f"/finch/callback?{query}")

    assert again.headers["Location"] == first.headers["Location"]
    assert fake.ledger.presented(fake.ledger.codes[0].code) == 1


def test_a_post_needs_no_django_token_but_the_own_origin(
    configured: FinchConnect, client: Client, fake: FakeFinch
) -> None:
    query = returned(client, fake)
    form = "application/x-www-form-urlencoded"

    foreign = client.post(
        "/finch/callback", query, content_type=form, HTTP_ORIGIN="https://evil.example"
    )
    own = client.post("/finch/callback", query, content_type=form, HTTP_ORIGIN=ORIGIN)

    assert foreign.status_code == 403
    assert b"Reference" in foreign.content
    assert own.status_code == 303


@pytest.mark.parametrize(("signed_in", "status"), [("acme", 303), ("globex", 400)])
def test_customer_of_gets_djangos_request(
    configured: FinchConnect, client: Client, fake: FakeFinch, signed_in: str, status: int
) -> None:
    query = returned(client, fake)
    client.get(f"/sign-in?as={signed_in}")

    answer = client.get(f"/finch/of-login?{query}")

    assert answer.status_code == status
    assert fake.ledger.calls("token") == (1 if status == 303 else 0)


def test_a_component_is_taken_as_it_is(options: dict[str, Any]) -> None:
    mine = FinchConnect(**options)

    answer = callback(mine)(RequestFactory().get("/anywhere?code=x"))

    assert answer.status_code == 400


def test_a_wrong_setting_does_not_keep_the_urlconf_from_loading() -> None:
    with override_settings(FINCH={}):
        view = callback(finch)

        assert callable(view)


# The component


def test_all_threads_get_one_component(options: dict[str, Any]) -> None:
    barrier, found = Barrier(8), list[FinchConnect]()

    def ask() -> None:
        barrier.wait()
        found.append(finch())

    with override_settings(FINCH=options):
        threads = [Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len({id(each) for each in found}) == 1


def test_overridden_settings_bring_their_own_component(options: dict[str, Any]) -> None:
    with override_settings(FINCH=options):
        first = finch()

    with override_settings(FINCH={**options, "redirect_uri": f"{ORIGIN}/elsewhere"}):
        second = finch()

    assert (first.callback_path, second.callback_path) == ("/finch/callback", "/elsewhere")


def test_without_the_setting_its_name_is_told() -> None:
    with override_settings(), pytest.raises(ConfigurationError, match=r"settings\.FINCH"):
        finch()


# Answers


def test_an_answer_keeps_status_body_and_headers() -> None:
    answer = to_django(Response(b"\xff", status=418, headers={"X-A": "1", "Vary": "Cookie"}))

    assert (answer.status_code, answer.content) == (418, b"\xff")
    assert (answer["X-A"], answer["Vary"]) == ("1", "Cookie")


def test_an_answer_without_content_type_gets_none() -> None:
    response = Response(status=204)
    del response.headers["Content-Type"]

    answer = to_django(response)

    assert "Content-Type" not in answer


def test_a_header_given_twice_is_joined() -> None:
    response = Response()
    response.headers.add("Vary", "Cookie")
    response.headers.add("Vary", "Accept")

    answer = to_django(response)

    assert answer["Vary"] == "Cookie, Accept"


def test_every_cookie_is_kept_byte_for_byte() -> None:
    headers = [
        COOKIE,
        "finch-gone=; Max-Age=0; HttpOnly; Path=/; SameSite=Lax",
        'odd="a b"; Path=/; Partitioned; Unknown=1',
    ]
    response = Response()
    for header in headers:
        response.headers.add("Set-Cookie", header)

    answer = to_django(response)

    sent = [cookie.OutputString() for cookie in answer.cookies.values()]
    assert sent == headers


def test_djangos_code_can_read_the_cookies_of_an_answer() -> None:
    response = Response()
    response.headers.add("Set-Cookie", COOKIE)

    cookie = to_django(response).cookies["__Host-finch-abc"]

    assert cookie.value == "fm1.k1.x-_y"
    assert (cookie["max-age"], cookie["path"], cookie["samesite"]) == ("600", "/", "Lax")
    assert cookie["secure"] is True
    assert cookie["httponly"] is True


# manage.py check


def test_right_settings_pass_the_check(options: dict[str, Any]) -> None:
    found = messages(FINCH=options)

    assert found == []


def test_every_fault_of_the_settings_is_an_error_of_its_own(options: dict[str, Any]) -> None:
    found = messages(FINCH={**options, "redirect_uri": "http://app.example.com/x", "key": "k1:no"})

    assert len(found) == 2
    assert found[0].startswith("finch_middleware.E001 FINCH: redirect_uri: ")
    assert found[1].startswith("finch_middleware.E001 FINCH: key: ")


def test_a_missing_setting_is_an_error() -> None:
    found = messages()

    assert [message.split(":")[0] for message in found] == ["finch_middleware.E001 FINCH"]


def test_a_redirect_uri_that_nothing_answers_is_a_warning(options: dict[str, Any]) -> None:
    found = messages(FINCH={**options, "redirect_uri": f"{ORIGIN}/nowhere/%C3%A9"})

    assert found == ["finch_middleware.W001 no view answers '/nowhere/é', the path of redirect_uri"]


def test_a_strict_session_is_a_warning(options: dict[str, Any]) -> None:
    found = messages(FINCH=options, SESSION_COOKIE_SAMESITE="Strict")

    assert [message.split()[0] for message in found] == ["finch_middleware.W002"]
