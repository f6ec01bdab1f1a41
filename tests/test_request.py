"""The callback request of every framework, read before and after us."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from werkzeug.test import EnvironBuilder

from finch_middleware.errors import ReturnFault, UsageError
from finch_middleware.tickets import flow_id_of
from finch_middleware.web.request import CallbackRequest, parse_callback
from tests.ids import steady

CODE = "6d1fd0f0-5a1e-4e2a-9a5f-0c3c1f1f7a10"
STATE = "abcdefghijklmnopqrstu_"
MEMBERS = {"code": CODE, "state": STATE}
QUERY = urlencode(MEMBERS)
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"

Environ = dict[str, Any]
#: From an environ to a framework's request.
Maker = Callable[[Environ], Any]


class Input(io.RawIOBase):
    """A server's wsgi.input: counts what is read and would block past its end."""

    def __init__(self, body: bytes = b"", *, at_once: int = 1 << 20) -> None:
        self._rest = body
        self._at_once = at_once
        self.given = 0

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None, "a server would wait for the end of the connection"
        assert size >= 0, "a server would wait for the end of the connection"
        chunk, self._rest = (
            self._rest[: min(size, self._at_once)],
            self._rest[min(size, self._at_once) :],
        )
        self.given += len(chunk)
        return chunk

    def readinto(self, buffer: Any) -> int:
        chunk = self.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def readable(self) -> bool:
        return True


class Broken(Input):
    """A wsgi.input whose connection is gone."""

    def read(self, size: int | None = -1) -> bytes:
        raise OSError("canary: connection reset")


def an_environ(
    body: bytes = b"", *, kind: str = "", query: str = "", method: str = "POST", **changes: Any
) -> Environ:
    environ: Environ = EnvironBuilder(path="/finch/callback", method=method).get_environ()
    environ |= {"QUERY_STRING": query, "CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(body))}
    environ |= {"wsgi.input": Input(body)} | changes
    # A server leaves out what was not sent.
    return {name: value for name, value in environ.items() if value is not None}


def form(**changes: Any) -> Environ:
    return an_environ(QUERY.encode(), kind=FORM, **changes)


def json_body(**changes: Any) -> Environ:
    return an_environ(json.dumps(MEMBERS).encode(), kind=JSON, **changes)


def query(**changes: Any) -> Environ:
    # A GET has neither length nor type.
    return an_environ(query=QUERY, method="GET", CONTENT_LENGTH=None, CONTENT_TYPE=None, **changes)


def made_by(module: str, name: str) -> Maker:
    return lambda environ: getattr(pytest.importorskip(module), name)(environ)


def flask(environ: Environ) -> Any:
    flask = pytest.importorskip("flask")
    return flask.Flask(__name__).request_context(environ).request


def bottle(environ: Environ) -> Any:
    bottle = pytest.importorskip("bottle")
    bottle.request.bind(environ)
    return bottle.request


def django(environ: Environ) -> Any:
    pytest.importorskip("django")
    from tests.adapters import django_site

    django_site.set_up()
    return made_by("django.core.handlers.wsgi", "WSGIRequest")(environ)


werkzeug = made_by("werkzeug.wrappers", "Request")
pyramid = made_by("pyramid.request", "Request")
webob = made_by("webob", "Request")
falcon = made_by("falcon", "Request")

MAKERS: dict[str, Maker] = {
    "environ": lambda environ: environ,
    "werkzeug": werkzeug,
    "flask": flask,
    "pyramid": pyramid,
    "webob": webob,
    "bottle": bottle,
    "falcon": falcon,
    "django": django,
}
every_framework = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)

#: What a framework's own code may have done with the body before us, by the body's kind.
READ: list[tuple[str, Maker, str, Callable[[Any], object]]] = [
    ("werkzeug form", werkzeug, "form", lambda request: request.form["code"]),
    ("werkzeug data", werkzeug, "form", lambda request: request.get_data()),
    ("werkzeug json", werkzeug, "json", lambda request: request.get_json()),
    ("flask form", flask, "form", lambda request: request.form["code"]),
    ("flask values", flask, "form", lambda request: request.values["code"]),
    ("flask json", flask, "json", lambda request: request.get_json()),
    ("flask json uncached", flask, "json", lambda request: request.get_data(cache=True)),
    ("pyramid POST", pyramid, "form", lambda request: request.POST["code"]),
    ("pyramid json", pyramid, "json", lambda request: request.json_body),
    ("webob POST", webob, "form", lambda request: request.POST["code"]),
    ("webob params", webob, "form", lambda request: request.params["code"]),
    ("webob json", webob, "json", lambda request: request.json),
    ("webob body file", webob, "json", lambda request: request.body_file_seekable.read()),
    ("bottle forms", bottle, "form", lambda request: request.forms["code"]),
    ("bottle params", bottle, "form", lambda request: request.params["code"]),
    ("bottle json", bottle, "json", lambda request: request.json),
    ("bottle body", bottle, "json", lambda request: request.body.read()),
    ("falcon form", falcon, "form", lambda request: request.get_media()["code"]),
    ("falcon json", falcon, "json", lambda request: request.get_media()["code"]),
    ("django POST", django, "form", lambda request: request.POST["code"]),
    ("django body", django, "form", lambda request: request.body),
    ("django json", django, "json", lambda request: json.loads(request.body)),
    ("django POST of a JSON", django, "json", lambda request: (request.body, request.POST)),
]

#: The same, where the framework has thrown the body away.
GONE: list[tuple[str, Maker, Callable[[Any], object]]] = [
    ("environ", MAKERS["environ"], lambda environ: environ["wsgi.input"].read(1 << 20)),
    ("werkzeug", werkzeug, lambda request: request.stream.read()),
    ("flask", flask, lambda request: request.stream.read()),
    ("falcon", falcon, lambda request: request.bounded_stream.read()),
    ("django", django, lambda request: request.read()),
]


def understood(request: object) -> tuple[str | None, str | None]:
    returned = parse_callback(CallbackRequest.of(request))
    return (
        returned.code.reveal() if returned.code else None,
        returned.flow_id,
    )


def refusal(request: object) -> str:
    """Why the body cannot be read."""
    with pytest.raises(ReturnFault) as fault:
        _ = CallbackRequest.of(request).body
    assert fault.value.__context__ is None, "a framework's error may hold the body"
    return fault.value.reason


@every_framework
@pytest.mark.parametrize("environ", [query, form, json_body])
def test_every_framework_brings_the_code(make: Maker, environ: Callable[[], Environ]) -> None:
    assert understood(make(environ())) == (CODE, flow_id_of(STATE))


@every_framework
@pytest.mark.parametrize("environ", [form, json_body])
def test_the_body_is_what_was_sent(make: Maker, environ: Callable[[], Environ]) -> None:
    sent = environ()["wsgi.input"].read(1 << 20)

    assert CallbackRequest.of(make(environ())).body == sent


@pytest.mark.parametrize(
    ("make", "kind", "read"), [each[1:] for each in READ], ids=[each[0] for each in READ]
)
def test_the_code_is_found_after_the_framework_has_read_the_body(
    make: Maker, kind: str, read: Callable[[Any], object]
) -> None:
    request = make(form() if kind == "form" else json_body())
    assert read(request)

    assert understood(request) == (CODE, flow_id_of(STATE))


@pytest.mark.parametrize(
    ("make", "kind", "read"),
    [each[1:] for each in READ if each[1] is not falcon],  # whose stream can be read once
    ids=[each[0] for each in READ if each[1] is not falcon],
)
def test_the_framework_can_read_the_body_after_us(
    make: Maker, kind: str, read: Callable[[Any], object]
) -> None:
    request = make(form() if kind == "form" else json_body())
    assert understood(request) == (CODE, flow_id_of(STATE))

    assert read(request)


@pytest.mark.parametrize(
    ("make", "drain"), [each[1:] for each in GONE], ids=[each[0] for each in GONE]
)
@pytest.mark.parametrize("environ", [form, json_body])
def test_a_body_that_is_gone_is_a_fault_and_not_an_empty_return(
    make: Maker, drain: Callable[[Any], object], environ: Callable[[], Environ]
) -> None:
    request = make(environ())
    assert drain(request)

    assert refusal(request) == "body"


@pytest.mark.parametrize(
    ("make", "parsed"),
    [*((make, None) for make in MAKERS.values()), (flask, "form"), (falcon, "media")],
    ids=[*MAKERS, "flask parsed", "falcon parsed"],
)
def test_a_repeated_parameter_is_refused_from_any_framework(
    make: Maker, parsed: str | None
) -> None:
    request = make(an_environ(f"code={CODE}&code={CODE[::-1]}".encode(), kind=FORM))
    if parsed is not None:
        assert getattr(request, parsed)
        assert CallbackRequest.of(request).body.count(b"code=") == 2

    with pytest.raises(ReturnFault) as fault:
        parse_callback(CallbackRequest.of(request))
    assert fault.value.reason == "malformed"


@every_framework
def test_a_request_keeps_its_environ_and_reads_nothing_of_its_body(make: Maker) -> None:
    environ = form()

    request = CallbackRequest.of(make(environ))
    _ = (
        request.from_script,
        request.same_origin("https://a"),
        list(request.cookies()),
    )

    assert request.environ is environ
    assert request.method == "POST"
    assert environ["wsgi.input"].given == 0


def test_a_callback_request_is_taken_as_it_is() -> None:
    request = CallbackRequest(method="POST", body=b"x")

    assert CallbackRequest.of(request) is request
    assert request.body == b"x"
    assert request.environ == {}


def test_a_starlette_request_is_read_except_its_body() -> None:
    requests = pytest.importorskip("starlette.requests")
    headers = [(b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"accept", b"text/html")]
    scope = {"type": "http", "method": "GET", "path": "/cb", "headers": headers}

    read = CallbackRequest.of(requests.Request({**scope, "query_string": QUERY.encode()}))

    assert (read.method, read.query_string) == ("GET", QUERY)
    assert list(read.cookies()) == [("a", "1"), ("b", "2")]
    assert parse_callback(read).code is not None
    with pytest.raises(UsageError, match="cannot read a HTTPConnection as a request"):
        CallbackRequest.of(requests.HTTPConnection({"type": "websocket", "headers": []}))


@pytest.mark.parametrize("odd", [None, "request", {}, {"PATH_INFO": "/"}, object(), 5], ids=steady)
def test_what_is_no_request_is_an_error_of_the_caller(odd: object) -> None:
    with pytest.raises(UsageError):
        CallbackRequest.of(odd)


def test_it_does_not_show_itself() -> None:
    request = CallbackRequest.of(form(query=QUERY, HTTP_COOKIE=CODE))

    assert CODE not in repr(request)
