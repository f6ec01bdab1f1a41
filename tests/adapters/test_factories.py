"""Where the component of an application factory lives, with two applications in one process."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from finch_middleware import ConfigurationError, FinchConnect, UsageError
from finch_middleware.adapters.asgi import FinchASGIMiddleware, to_starlette
from finch_middleware.testing import FakeFinch
from tests.docs.asking import asking

pytest.importorskip("flask")
pytest.importorskip("fastapi")

from fastapi import FastAPI, Request
from flask import Flask, request, session

from finch_middleware.adapters.flask import Finch

finch = Finch()


def make_flask(options: dict[str, Any], **more: Any) -> Flask:
    app = Flask("factory")
    app.config.update(SECRET_KEY="for tests", FINCH=options)
    finch.init_app(app, customer_of=lambda request: session.get("customer"), **more)

    @app.post("/connect/<customer>")
    def connect(customer: str) -> Any:
        session["customer"] = customer
        return finch().begin(request=request, customer_id=customer, customer_name=customer)

    @app.post("/sign-out")
    def sign_out() -> str:
        session.clear()
        return "signed out"

    return app


def test_each_of_two_flask_applications_has_its_own_component(
    options: dict[str, Any], fake: FakeFinch
) -> None:
    first, second = make_flask(options), make_flask(options, brand="Second")
    browser = first.test_client()

    begun = browser.post("/connect/acme", base_url="http://localhost:8000")
    returned = browser.get(fake.allow(begun.location))

    assert returned.location.startswith("/?finch=connected")
    with first.app_context():
        assert len(finch().connections.for_customer("acme")) == 1
        assert finch().settings.brand == ""
    with second.app_context():
        assert finch().connections.for_customer("acme") == []
        assert finch().settings.brand == "Second"


def test_customer_of_sees_the_session_of_flask(options: dict[str, Any], fake: FakeFinch) -> None:
    browser = make_flask(options).test_client()
    begun = browser.post("/connect/acme", base_url="http://localhost:8000")
    browser.post("/sign-out", base_url="http://localhost:8000")

    returned = browser.get(fake.allow(begun.location))

    assert returned.status_code == 400
    assert "Please sign in again" in returned.text


def test_an_unavailable_finch_is_a_page_of_flask(options: dict[str, Any], fake: FakeFinch) -> None:
    fake.stop()

    begun = make_flask(options).test_client().post("/connect/acme")

    assert begun.status_code == 502
    assert "press the button again" in begun.text


def test_mistakes_with_the_extension_are_explained(options: dict[str, Any]) -> None:
    app = make_flask(options)

    with pytest.raises(UsageError, match="a second time"):
        finch.init_app(app)
    with pytest.raises(UsageError, match="call init_app"), Flask("other").app_context():
        finch()
    with pytest.raises(ConfigurationError, match="customer_of"):
        finch.init_app(Flask("third"), **options, customer_of="no function")  # type: ignore[arg-type]


def make_fastapi(options: dict[str, Any]) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        app.state.finch = FinchConnect(**options)
        yield

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(FinchASGIMiddleware, finch=lambda: app.state.finch)

    @app.post("/connect")
    def connect(request: Request) -> Any:
        component = request.app.state.finch
        begun = component.begin(request=request, customer_id="acme", customer_name="Acme Inc.")
        return to_starlette(begun)

    return app


async def start(app: FastAPI) -> None:
    async with app.router.lifespan_context(app):
        pass


def test_each_of_two_fastapi_applications_makes_its_component_in_its_lifespan(
    options: dict[str, Any], fake: FakeFinch
) -> None:
    first, second = make_fastapi(options), make_fastapi(options)
    for app in (first, second):
        asyncio.run(start(app))
    ask = asking(first, origin="http://localhost:8000")

    callback = urlsplit(fake.allow(ask("POST", "/connect")[1]))
    _, location = ask("GET", f"{callback.path}?{callback.query}")

    assert location.startswith("/?finch=connected")
    assert len(first.state.finch.connections.for_customer("acme")) == 1
    assert second.state.finch.connections.for_customer("acme") == []
