"""The middleware, called as a WSGI server calls it; `tests/story` has the flows themselves."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.handlers import SimpleHandler
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from werkzeug.test import run_wsgi_app

from finch_middleware import FinchConnect, FinchMiddleware, UsageError
from finch_middleware.adapters.asgi import FinchASGIMiddleware
from finch_middleware.crypto.keys import new_key
from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import Browser, Site
from tests.story.ways import allowed, connected, every_way

PATH = "/finch/callback"
Environ = dict[str, Any]


def a_finch(path: str = PATH, **options: Any) -> FinchConnect:
    return FinchConnect(
        client_id="client",
        client_secret="secret",
        redirect_uri=f"https://app.example.com{path}",
        products=["company"],
        storage="memory://",
        key=new_key("k1"),
        **options,
    )


FINCH = a_finch()


def an_environ(path: str | None = "/", **changes: Any) -> Environ:
    environ: Environ = {"PATH_INFO": path, "SCRIPT_NAME": "", "QUERY_STRING": "", **changes}
    setup_testing_defaults(environ)
    if path is None:
        del environ["PATH_INFO"]
    return environ


def start(
    status: str, headers: list[tuple[str, str]], exc_info: Any = None
) -> Callable[[bytes], object]:
    return lambda chunk: None


class Application:
    """Records what it was called with, and returns *body*."""

    def __init__(self, body: Any = ()) -> None:
        self.calls: list[tuple[Environ, Any]] = []
        self.body = body

    def __call__(self, environ: Environ, start_response: Any) -> Any:
        self.calls.append((environ, start_response))
        return self.body


def plain(environ: Environ, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"plain"]


def validated(app: Any) -> Any:
    """The middleware around *app*, with wsgiref's validator on both sides of it."""
    return validator(FinchMiddleware(validator(app), FINCH))


def is_ours(path: str | None, *, finch: FinchConnect = FINCH, script_name: str = "") -> bool:
    """Whether the middleware handles the request for *path*."""
    app = Application()
    FinchMiddleware(app, finch)(an_environ(path, SCRIPT_NAME=script_name), start)
    return not app.calls


# T15: the configured path, as a server passes it.


def test_a_request_without_a_path_is_the_applications() -> None:
    assert not is_ours(None)


@pytest.mark.parametrize("path", ["/caf%C3%A9/cb", "/%E2%82%AC", "/a%20b", "/%c3%a9"])
def test_an_encoded_path_is_matched_in_the_form_of_wsgi(path: str) -> None:
    finch = a_finch(path)
    received = unquote_to_bytes(path).decode("latin-1")

    assert is_ours(received, finch=finch)
    assert not is_ours(path, finch=finch)
    assert not is_ours(unquote_to_bytes(path).decode(), finch=finch) or received.isascii()


def generated(environ: Environ, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"gene"
    yield b"rated"


def written(environ: Environ, start_response: Any) -> Any:
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"written ")
    return [b"and returned"]


def failing(environ: Environ, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        raise ValueError("changed its mind")
    except ValueError as error:
        started = (type(error), error, error.__traceback__)
        start_response("500 Oh", [("Content-Type", "text/plain")], started)
    return [b"failing"]


def filed(environ: Environ, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](io.BytesIO(b"filed" * 5000))


def echoing(environ: Environ, start_response: Any) -> Any:
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    start_response(
        "200 OK", [("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    )
    return [b"echoing " + body]


STYLES = [plain, generated, written, failing, filed, echoing]


@pytest.mark.parametrize("app", STYLES, ids=lambda each: each.__name__)
def test_the_response_is_the_same_with_and_without_the_middleware(app: Any) -> None:
    def asked(wrapped: Any) -> bytes:
        environ = an_environ("/theirs", REQUEST_METHOD="POST", CONTENT_LENGTH="4")
        sent, errors = io.BytesIO(), io.StringIO()
        handler = SimpleHandler(io.BytesIO(b"echo"), sent, errors, environ)
        handler.http_version, handler.origin_server = "1.0", False
        handler.run(wrapped)
        assert errors.getvalue() == ""
        return sent.getvalue()

    without = asked(validator(app))
    around = asked(validated(app))

    assert around == without
    assert app.__name__[:4].encode() in around


@pytest.mark.parametrize(
    "query", ["", "code=x", "error=access_denied", "code=x&code=y", "code=%FF", "state=x"]
)
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_the_validator_accepts_our_responses(query: str, accept: str) -> None:
    environ = an_environ(PATH, QUERY_STRING=query, HTTP_ACCEPT=accept, SERVER_PROTOCOL="HTTP/1.1")

    chunks, status, _ = run_wsgi_app(validated(plain), environ, buffered=True)

    assert status.startswith("400")
    assert b"".join(chunks)


@every_way
def test_the_validator_accepts_an_accepted_return(
    fake: FakeFinch, site: Site, browser: Browser, flow: str
) -> None:
    comeback = allowed(fake, browser, flow=flow)
    strict = validator(FinchMiddleware(validator(plain), site.finch))
    # The validator objects to werkzeug's server in this one point.
    site.app = lambda environ, start: strict(
        {**environ, "REMOTE_PORT": str(environ["REMOTE_PORT"])}, start
    )

    responses = [comeback.brought_by(browser) for _ in range(2)]

    assert site.errors == []
    assert all(map(connected, responses))


def test_the_component_is_an_attribute_and_no_other_can_be_set() -> None:
    middleware = FinchMiddleware(Application(), FINCH)

    assert middleware.finch is FINCH
    with pytest.raises(AttributeError):
        middleware.extra = 1  # type: ignore[attr-defined]  # the very subject


@pytest.mark.parametrize("middleware", [FinchMiddleware, FinchASGIMiddleware])
@pytest.mark.parametrize(
    ("given", "found"),
    [
        ((FINCH, print), "found a FinchConnect and a builtin_function_or_method"),
        ((print, None), "found a builtin_function_or_method and a NoneType"),
        ((FINCH, FINCH), "found a FinchConnect and a FinchConnect"),
    ],
    ids=["wrong order", "no component", "no application"],
)
def test_wrong_arguments_are_named_at_construction(
    middleware: Any, given: tuple[Any, Any], found: str
) -> None:
    with pytest.raises(UsageError, match=found) as caught:
        middleware(*given)

    assert f"write {middleware.__name__}(app, finch)" in str(caught.value)
