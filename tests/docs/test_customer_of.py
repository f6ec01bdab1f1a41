"""The recipes of docs/customer_of.md, each behind the middleware and with its own framework."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
from itsdangerous import URLSafeSerializer
from werkzeug.http import dump_cookie, parse_cookie
from werkzeug.test import EnvironBuilder

from finch_middleware import CallbackRequest, FinchConnect, FinchMiddleware
from finch_middleware.testing.fake_finch import FakeFinch
from tests.docs.asking import asking
from tests.docs.snippets import page, section, snippets
from tests.site import options_for

PAGE = page("customer_of")
ORIGIN = "http://localhost:8000"

# WebOb, below Pyramid, still imports it.
pytestmark = pytest.mark.filterwarnings("ignore:'cgi' is deprecated:DeprecationWarning")

Names = dict[str, Any]


def recipes(heading: str) -> list[str]:
    """The Python under that heading of the page."""
    return [each.text for each in snippets(section(PAGE, heading), "python")]


# Applications that sign in whom /sign-in?as=... names, each with its framework's own session,
# and the other names that their recipe mentions.


def flask() -> Names:
    from flask import Flask, request, session

    app = Flask("flask")
    app.secret_key = "for tests"

    @app.get("/sign-in")
    def sign_in() -> str:
        session["customer_id"] = request.args["as"]
        return ""

    return {"app": app}


def pyramid() -> Names:
    from pyramid.config import Configurator  # type: ignore[import-untyped]  # Pyramid has no types
    from pyramid.response import Response  # type: ignore[import-untyped]
    from pyramid.session import SignedCookieSessionFactory  # type: ignore[import-untyped]

    def sign_in(request: Any) -> Any:
        request.session["customer_id"] = request.GET["as"]
        return Response()

    config = Configurator(session_factory=SignedCookieSessionFactory("for tests"))
    config.add_route("sign_in", "/sign-in")
    config.add_view(sign_in, route_name="sign_in")
    return {"app": config.make_wsgi_app()}


def bottle() -> Names:
    from bottle import Bottle, request, response  # type: ignore[import-untyped]  # no types

    def sign_in() -> str:
        response.set_cookie("customer_id", request.query["as"], secret="for tests")
        return ""

    app = Bottle()
    app.route("/sign-in", "GET", sign_in)
    return {"app": app, "COOKIE_SECRET": "for tests"}


def django() -> Names:
    from django.core.wsgi import get_wsgi_application

    from tests.adapters import django_site

    django_site.set_up()
    return {"app": get_wsgi_application()}


def falcon() -> Names:
    from falcon import App, Request, Response

    class SignIn:
        def on_get(self, req: Request, resp: Response) -> None:
            resp.set_cookie("session", f"session-of-{req.params['as']}", secure=False)

    app = App()
    app.add_route("/sign-in", SignIn())
    sessions = {"session-of-acme": "acme", "session-of-globex": "globex"}
    return {"app": app, "customer_of_session": sessions.get}


class SignedSessions:
    """The session middleware of the recipe: ``environ["session"]``, kept in a signed cookie."""

    def __init__(self, app: Any, *, key: bytes) -> None:
        self._app = app
        self._signer = URLSafeSerializer(key)

    def __call__(self, environ: Any, start_response: Any) -> Any:
        cookie = parse_cookie(environ).get("session")
        session = environ["session"] = self._signer.loads(cookie) if cookie else {}

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            cookie = dump_cookie("session", str(self._signer.dumps(session)))
            return start_response(status, [*headers, ("Set-Cookie", cookie)], *rest)

        return self._app(environ, start)


def wsgi() -> Names:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        environ["session"]["customer_id"] = environ["QUERY_STRING"].removeprefix("as=")
        start_response("200 OK", [])
        return []

    return {"app": app, "COOKIE_KEY": b"for tests", "SignedSessions": SignedSessions}


def starlette() -> Names:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    def sign_in(request: Request) -> Response:
        request.session["customer_id"] = request.query_params["as"]
        return Response()

    return {"app": Starlette(routes=[Route("/sign-in", sign_in)]), "COOKIE_SECRET": "for tests"}


SITES: dict[str, tuple[str, Callable[[], Names]]] = {
    "Flask": ("flask", flask),
    "Pyramid": ("pyramid", pyramid),
    "Bottle": ("bottle", bottle),
    "Falcon": ("falcon", falcon),
    "FastAPI and Starlette": ("starlette", starlette),
    "A session from a WSGI middleware": ("werkzeug", wsgi),
}


@pytest.fixture
def options(fake: FakeFinch) -> Names:
    return options_for(fake, f"{ORIGIN}/finch/callback")


@pytest.fixture(params=SITES)
def names(request: pytest.FixtureRequest, options: Names) -> Names:
    """What stands after the recipe has run: `customer_of`, `finch`, `application`."""
    module, site = SITES[request.param]
    pytest.importorskip(module)
    names = site()
    names |= {"FinchConnect": FinchConnect, "FinchMiddleware": FinchMiddleware, "options": options}
    recipe, *more = recipes(f"## {request.param}")
    wiring = [each.text for each in snippets(PAGE.split("\n## ")[0], "python")]
    for code in [recipe, *wiring, *(each for each in more if "application" in each)]:
        exec(code, names)
    return names


def returned(names: Names, fake: FakeFinch, *, signed_in: str | None) -> int:
    """The status of Acme's return from Finch Connect, in a browser of that login."""
    opened = names["finch"].begin(customer_id="acme", customer_name="Acme Inc.")
    set_cookie = opened.headers["Set-Cookie"]
    ask = asking(names["application"], origin=ORIGIN, set_cookie=set_cookie)
    if signed_in is not None:
        ask("GET", f"/sign-in?as={signed_in}")
    callback = urlsplit(fake.allow(opened.headers["Location"]))
    status, _ = ask("GET", f"{callback.path}?{callback.query}")
    return status


def test_the_signed_in_customers_return_is_stored(names: Names, fake: FakeFinch) -> None:
    status = returned(names, fake, signed_in="acme")

    assert status == 303
    assert len(names["finch"].connections.for_customer("acme")) == 1


@pytest.mark.parametrize("signed_in", ["globex", None], ids=["another customer", "signed out"])
def test_anybody_elses_return_is_refused_unspent(
    names: Names, fake: FakeFinch, signed_in: str | None
) -> None:
    status = returned(names, fake, signed_in=signed_in)

    assert status == 400
    assert fake.ledger.calls("token") == 0


def test_a_recipe_leaves_the_environ_as_it_was(names: Names) -> None:
    environ = EnvironBuilder(base_url=ORIGIN, headers=[("Cookie", "session=x")]).get_environ()
    environ |= {"session": {}, "asgi.scope": {"session": {}}}
    before = dict(environ)

    names["customer_of"](CallbackRequest.of(environ))

    assert environ == before


def test_a_urlconf_view_gets_djangos_session(options: Names, fake: FakeFinch) -> None:
    pytest.importorskip("django")
    site = django()
    from django.test import override_settings
    from django.urls import path

    from finch_middleware.adapters.django import finch
    from tests.adapters import django_site

    urlconf = ModuleType("urlconf")
    exec(recipes("## Django")[0], urlconf.__dict__)
    urlconf.__dict__["urlpatterns"] += [path("sign-in", django_site.sign_in)]

    with override_settings(FINCH=options, ROOT_URLCONF=urlconf):
        names = {"application": site["app"], "finch": finch()}
        statuses = [returned(names, fake, signed_in=who) for who in ("globex", None, "acme")]

    assert statuses == [400, 400, 303]


def test_every_section_of_the_page_is_run() -> None:
    sections = re.findall(r"^## (.*)$", PAGE, flags=re.MULTILINE)

    assert [each for each in sections if each != "Django"] == list(SITES)
