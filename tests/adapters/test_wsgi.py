"""The middleware, called as a WSGI server calls it; `tests/story` has the flows themselves."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.handlers import SimpleHandler
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from werkzeug.test import run_wsgi_app

from finch_middleware import FinchConnect, FinchMiddleware
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


# T15: exactly one path, and none that looks like it.
BENT = [
    PATH.replace("/", slash)
    for slash in ("//", "\\", "%2f", "%2F", "／", "/./", "/x/../", ";/", "/;/")
]
HEADS = [
    "",
    "/",
    "//",
    "/.",
    "/..",
    "/x/..",
    "/x",
    "%2f",
    "/%2e",
    "\\",
    " ",
    "\t",
    "http://app.example.com",
]
TAILS = [
    "",
    "/",
    "//",
    "/.",
    "/..",
    "/x/..",
    ";",
    ";x",
    "?",
    "?code=x",
    "%3F",
    "%3Fcode=x",
    "#",
    "#x",
    "%23",
    "%00",
]
TAILS += [
    "\x00",
    "%20",
    " ",
    ".",
    "%2f",
    "%2F",
    "/index",
    ".html",
    "x",
    "%0a",
    "\n",
    "&",
    "+",
    "~",
    "%",
    "é",
    "\xff",
]
CASES = [
    PATH.upper(),
    PATH.title(),
    PATH.replace("f", "F"),
    PATH.replace("k", "K"),
    PATH.replace("k", "\u212a"),
]
VARIANTS = {head + PATH + tail for head, tail in itertools.product(HEADS, TAILS)} - {PATH}
VARIANTS |= {
    *BENT,
    *CASES,
    "",
    "/",
    "/finch",
    "/finch/",
    "/callback",
    "/finch/callbac",
    "/finch%2Fcallback",
}
VARIANTS |= {PATH.replace(letter, f"%{ord(letter):02x}", 1) for letter in "finchalbk"}


@pytest.mark.parametrize("script_name", ["", "/a", "/Ã©", "/finch", PATH])
def test_one_path_is_ours_and_no_other_spelling_of_it(script_name: str) -> None:
    assert len(VARIANTS) > 400
    assert is_ours(PATH, script_name=script_name)
    assert [path for path in sorted(VARIANTS) if is_ours(path, script_name=script_name)] == []


def test_a_request_without_a_path_is_the_applications() -> None:
    assert not is_ours(None)


@pytest.mark.parametrize("path", ["/caf%C3%A9/cb", "/%E2%82%AC", "/a%20b", "/%c3%a9"])
def test_an_encoded_path_is_matched_in_the_form_of_wsgi(path: str) -> None:
    finch = a_finch(path)
    received = unquote_to_bytes(path).decode("latin-1")

    assert is_ours(received, finch=finch)
    assert not is_ours(path, finch=finch)
    assert not is_ours(unquote_to_bytes(path).decode(), finch=finch) or received.isascii()


def test_a_mounted_application_matches_the_path_below_its_mount_point() -> None:
    finch = a_finch("/mounted/finch/callback", callback_path=PATH)

    assert is_ours(PATH, finch=finch, script_name="/mounted")
    assert not is_ours("/mounted" + PATH, finch=finch)


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE"]
)
def test_every_method_of_our_path_is_handled_here(method: str) -> None:
    app = Application()

    _, status, _ = run_wsgi_app(
        validator(FinchMiddleware(app, FINCH)),
        an_environ(PATH, REQUEST_METHOD=method, SERVER_PROTOCOL="HTTP/1.1"),
        buffered=True,
    )

    assert app.calls == []
    assert 200 <= int(status.split()[0]) < 500


# T28: every other request reaches the application unchanged.
def test_everything_else_is_forwarded_with_the_very_same_objects() -> None:
    body = [b"theirs"]
    app = Application(body)
    environ = an_environ("/theirs", QUERY_STRING="code=x&state=y", HTTP_COOKIE="finch-abcdefgh=x")
    before, identities = dict(environ), {name: id(value) for name, value in environ.items()}

    result = FinchMiddleware(app, FINCH)(environ, start)

    assert result is body
    assert app.calls == [(environ, start)]
    assert app.calls[0][0] is environ
    assert app.calls[0][1] is start
    assert environ == before
    assert list(environ) == list(before)
    assert {name: id(value) for name, value in environ.items()} == identities


class Upload(io.RawIOBase):
    """A hundred mebibytes, made as they are read."""

    def __init__(self) -> None:
        self.left = 100 * 1024 * 1024
        self.reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        size = self.left if size is None or size < 0 else min(size, self.left)
        self.left -= size
        return bytes(size)


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_nothing_is_read_of_an_upload_to_the_application(kind: str) -> None:
    upload = Upload()
    environ = an_environ(
        "/upload", REQUEST_METHOD="POST", CONTENT_TYPE=kind, CONTENT_LENGTH=str(upload.left)
    )
    environ["wsgi.input"] = upload
    left = upload.left

    FinchMiddleware(Application(), FINCH)(environ, start)
    forwarded = environ["wsgi.input"]
    _, status, _ = run_wsgi_app(validated(plain), environ, buffered=True)

    assert forwarded is upload
    assert status.startswith("200")
    assert (upload.reads, upload.left) == (0, left)


def test_an_upload_to_our_own_path_is_refused_unread() -> None:
    upload = Upload()
    environ = an_environ(
        PATH,
        REQUEST_METHOD="POST",
        CONTENT_TYPE="application/json",
        CONTENT_LENGTH=str(upload.left),
        HTTP_SEC_FETCH_SITE="same-origin",
    )
    environ["wsgi.input"] = upload

    _, status, _ = run_wsgi_app(validated(plain), environ, buffered=True)

    assert status.startswith("413")
    assert upload.reads == 0


class Closing:
    """A body that counts how often it is closed, and may fail then."""

    def __init__(self, *, fails: bool = False) -> None:
        self.closed = 0
        self.fails = fails

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"one", b"two"])

    def close(self) -> None:
        self.closed += 1
        if self.fails:
            raise RuntimeError("close")


@pytest.mark.parametrize("fails", [False, True])
def test_the_application_closes_its_own_body(fails: bool) -> None:
    body = Closing(fails=fails)

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return body

    result: Any = validated(app)(an_environ("/theirs"), start)
    sent = list(result)
    with pytest.raises(RuntimeError, match="close") if fails else nullcontext():
        result.close()

    assert sent == [b"one", b"two"]
    assert body.closed == 1


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


def test_an_error_of_the_application_passes_through_as_it_is() -> None:
    problem = RuntimeError("theirs")

    def app(environ: Environ, start_response: Any) -> Any:
        raise problem

    with pytest.raises(RuntimeError) as raised:
        FinchMiddleware(app, FINCH)(an_environ("/theirs"), start)
    assert raised.value is problem
