"""Django's adapter, with Django's own test client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from threading import Barrier, Thread
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from finch_middleware import ConfigurationError, FinchConnect
from finch_middleware.testing.fake_finch import FakeFinch

pytest.importorskip("django")

from django.http import HttpResponse
from django.test import Client, RequestFactory, override_settings

from finch_middleware.adapters import django as adapter
from finch_middleware.adapters.django import begin, callback, finch, invite
from finch_middleware.testing.django import use_fake_finch
from tests.adapters import django_site
from tests.adapters.django_site import ORIGIN
from tests.processes import forked, succeeds

django_site.set_up()


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


# The view


def test_a_post_needs_no_django_token_but_must_come_from_the_own_origin(
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


def test_djangos_login_middleware_redirects_the_begin_path_and_no_code(
    with_begin_path: dict[str, Any],
) -> None:
    # Its module needs the installed applications.
    middleware = import_module("django.contrib.auth.middleware")
    component = FinchConnect(**with_begin_path)
    request: Any = RequestFactory(SERVER_NAME="localhost").get("/finch/callback?code=c0de")
    request.user = SimpleNamespace(is_authenticated=False)
    check = middleware.LoginRequiredMiddleware(lambda request: HttpResponse()).process_view

    assert check(request, callback(component), (), {}) is None
    assert check(request, invite(component), (), {}) is None
    assert check(request, begin(component), (), {}) is not None


def test_the_callback_view_accepts_a_component(options: dict[str, Any]) -> None:
    mine = FinchConnect(**options)

    response = callback(mine)(RequestFactory().get("/anywhere?code=x"))

    assert response.status_code == 400


def test_the_urlconf_loads_even_with_a_wrong_setting() -> None:
    with override_settings(FINCH={}):
        view = callback(finch)

        assert callable(view)


# The view of the begin path


def test_a_post_to_the_begin_path_must_come_from_the_own_origin(
    with_begin_path: dict[str, Any], client: Client, fake: FakeFinch
) -> None:
    with override_settings(FINCH=with_begin_path):
        foreign = client.post("/begin", HTTP_ORIGIN="https://evil.example")

    assert foreign.status_code == 403
    assert b"Reference" in foreign.content
    assert fake.ledger.calls("sessions") == 0


def test_the_begin_view_accepts_a_component(with_begin_path: dict[str, Any]) -> None:
    mine = FinchConnect(**with_begin_path)

    response = begin(mine)(RequestFactory().get("/anywhere"))

    assert response.status_code == 200
    assert b"<form" in response.content


def test_an_invited_person_needs_no_login_and_no_token_of_django(
    options: dict[str, Any], client: Client, fake: FakeFinch
) -> None:
    with override_settings(FINCH={**options, "invite_path": "/invitation"}):
        link = finch().invitation_url(customer_id="acme", customer_name="Acme Inc.")
        page, pressed = client.get(link), client.post(link, HTTP_ORIGIN=ORIGIN)
        query = urlsplit(fake.allow(pressed.headers["Location"])).query
        returned = client.get(f"/finch/callback?{query}")

    assert b"Connect the payroll of Acme Inc." in page.content
    assert returned.headers["Location"].startswith("/invitation?finch=connected&")


# The component


def test_a_child_makes_its_component_though_the_lock_was_held_at_the_fork(
    options: dict[str, Any],
) -> None:
    with override_settings(FINCH=options):
        with adapter._lock[os.getpid()]:  # as a thread holds it that makes the component
            child = forked(finch)

        assert succeeds(child)


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


def test_overridden_settings_get_a_component_of_their_own(options: dict[str, Any]) -> None:
    with override_settings(FINCH=options):
        first = finch()

    with override_settings(FINCH={**options, "redirect_uri": f"{ORIGIN}/elsewhere"}):
        second = finch()

    paths = [each.settings.callback_path for each in (first, second)]
    assert paths == ["/finch/callback", "/elsewhere"]


def test_a_missing_setting_is_named() -> None:
    with override_settings(), pytest.raises(ConfigurationError, match=r"settings\.FINCH"):
        finch()


def test_a_traceback_with_locals_shows_no_option(options: dict[str, Any]) -> None:
    wrong = {**options, "products": []}

    with override_settings(FINCH=wrong), pytest.raises(ConfigurationError) as raised:
        finch()

    frames = [entry.frame for entry in raised.traceback if entry.path.name == "django.py"]
    assert len(frames) == 2
    assert options["client_secret"] not in repr([frame.f_locals for frame in frames])


def test_a_subclass_of_the_app_config_computes_options_below_the_settings(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"brand": "of the subclass", "return_to": "/of-the-subclass"}
    monkeypatch.setattr(adapter.FinchConfig, "more_options", lambda self: more)

    with override_settings(FINCH={**options, "brand": "of the settings"}):
        component = finch()
        page = component.callback({"REQUEST_METHOD": "GET"}).get_data(as_text=True)

    assert component.settings.brand == "of the settings"
    assert 'href="/of-the-subclass"' in page


def test_a_project_under_test_keeps_its_options_and_uses_the_fake(
    options: dict[str, Any], fake: FakeFinch, client: Client
) -> None:
    of_production = {"storage": "postgresql://nowhere.invalid/production", "brand": "Acme Payroll"}

    with (
        override_settings(FINCH={**options, **of_production}),
        use_fake_finch(fake, return_to="/of-the-test") as component,
    ):
        query = returned(client, fake)
        response = client.get(f"/finch/callback?{query}")
        found = finch().connections.for_customer("acme")

    assert component.settings.brand == "Acme Payroll"
    assert response.headers["Location"].startswith("/?finch=connected&")
    assert [each.connection_id for each in component.connections.for_customer("acme")] == [
        each.connection_id for each in found
    ]
