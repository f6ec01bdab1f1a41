"""Finch's webhooks in the views of every framework, and in the adapters."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from finch_middleware import FinchConnect, UsageError
from finch_middleware.adapters.asgi import FinchASGIMiddleware
from finch_middleware.adapters.django import finch as django_component
from finch_middleware.adapters.flask import Finch
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.testing.fake_finch import FakeFinch
from tests.adapters import django_site
from tests.adapters.test_asgi import Application, call, http_scope, receiving, untouchable
from tests.delivering import PATH, REAUTH, RECEIVING, delivery, headers_of
from tests.site import options_for
from tests.test_request import MAKERS, Maker, every_framework, falcon
from tests.threats.desk import component

django_site.set_up()

BODY = json.dumps(REAUTH).encode()


@pytest.fixture
def finch(fake: FakeFinch) -> FinchConnect:
    return component(fake, **RECEIVING)


def status_of(finch: FinchConnect) -> str | None:
    """That of the connection which the delivery is about; it is not stored yet."""
    row = finch.storage.row("connection")
    return row.status if row is not None else None


@every_framework
def test_a_view_of_any_framework_receives(finch: FinchConnect, make: Maker) -> None:
    response = finch.webhook(make(delivery()))

    assert (response.status_code, response.get_data()) == (200, b"")
    assert status_of(finch) == "reauth"


def test_a_body_that_a_framework_kept_only_in_parsed_form_is_refused(finch: FinchConnect) -> None:
    request = falcon(delivery())
    request.get_media()

    assert finch.webhook(request).status_code == 400
    assert status_of(finch) is None


def test_a_view_without_secrets_is_explained(fake: FakeFinch) -> None:
    with pytest.raises(UsageError, match="needs the option webhook_secrets"):
        component(fake).webhook(delivery())


def asgi_scope(**changed: str) -> dict[str, Any]:
    headers = headers_of(BODY) | {"Content-Length": str(len(BODY))} | changed
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return http_scope(PATH, method="POST", headers=pairs)


def test_asgi_reads_a_delivery_in_pieces(finch: FinchConnect) -> None:
    app = FinchASGIMiddleware(Application(), finch)

    sent = call(app, asgi_scope(), receiving(BODY[:7], BODY[7:]))

    assert (sent.status, status_of(finch)) == (200, "reauth")


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Finch-Signature": "x"}, 401),
        ({"Finch-Timestamp": "1"}, 401),
        ({"Content-Length": str(1024 * 1024 + 1)}, 413),
        ({"Content-Length": "x"}, 411),
    ],
)
def test_asgi_reads_nothing_of_what_the_headers_rule_out(
    finch: FinchConnect, changed: dict[str, str], status: int
) -> None:
    sent = call(FinchASGIMiddleware(Application(), finch), asgi_scope(**changed), untouchable)

    assert sent.status == status


@every_framework
def test_no_view_reads_what_the_headers_rule_out(finch: FinchConnect, make: Maker) -> None:
    environ = delivery() | {"HTTP_FINCH_TIMESTAMP": "1", "CONTENT_LENGTH": "1000000"}
    environ["wsgi.input"] = io.BytesIO(BODY)

    assert finch.webhook(make(environ)).status_code == 401
    assert environ["wsgi.input"].tell() == 0 or make is MAKERS["django"]


def test_django_needs_neither_its_token_nor_a_login(fake: FakeFinch) -> None:
    from django.test import Client, override_settings
    from django.urls import resolve

    options = options_for(fake, "http://localhost/finch/callback", **RECEIVING)
    with override_settings(FINCH=options):
        response = Client(enforce_csrf_checks=True, SERVER_NAME="localhost").generic(
            "POST", PATH, BODY, content_type="application/json", headers=headers_of(BODY)
        )

        assert (response.status_code, status_of(django_component())) == (200, "reauth")
    assert resolve(PATH).func.login_required is False


def test_flask_receives_at_the_path(fake: FakeFinch) -> None:
    from flask import Flask

    app, storage = Flask(__name__), MemoryStorage()
    given = options_for(fake, "http://localhost/finch/callback", **RECEIVING, storage=storage)
    finch = Finch().init_app(app, **given, spool=None)

    response = app.test_client().post(PATH, data=BODY, headers=headers_of(BODY))

    assert (response.status_code, status_of(finch)) == (200, "reauth")
