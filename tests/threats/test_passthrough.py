"""T28: every other request reaches the application unchanged."""

from __future__ import annotations

import http.client
import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from werkzeug.wrappers import Request, Response

from finch_middleware import FinchMiddleware
from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import CALLBACK, Site
from tests.threats.desk import component
from tests.threats.sizes import PASSED, UPLOAD
from tests.threats.wsgi import environ_of

_MEBIBYTE = 1024 * 1024


class _Untouchable:
    """A body that must not be read or closed."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def test_t28_another_path_is_forwarded_with_the_very_same_objects(fake: FakeFinch) -> None:
    seen: list[Any] = []
    result: Iterator[bytes] = iter([b"body"])

    def application(environ: Any, start_response: Any) -> Any:
        seen.extend([environ, start_response])
        return result

    environ = environ_of("/elsewhere", method="POST")
    environ["wsgi.input"] = body = object()
    before = dict(environ)

    def start_response(*given: Any) -> Any:
        raise AssertionError("called by nobody here")

    answered = FinchMiddleware(application, component(fake))(environ, start_response)

    assert answered is result
    assert (seen[0] is environ, seen[1] is start_response) == (True, True)
    assert environ == before
    assert environ["wsgi.input"] is body


def _varied(draw: random.Random) -> dict[str, Any]:
    """A request of any kind to any path but ours."""
    path = "/" + "".join(draw.choices("abc/.%é \\;?&=", k=draw.randrange(12)))
    environ = environ_of(
        path.encode().decode("latin-1"),
        method=draw.choice(["GET", "POST", "PUT", "HEAD", "OPTIONS", "PATCH"]),
        query="".join(draw.choices("abc=&%;+", k=draw.randrange(20))),
        body=draw.randbytes(draw.randrange(200)),
        script_name=draw.choice(["", "/a"]),
        headers={"Cookie": draw.choice(["", "finch-abcdefgh=x", "a=b"]), "X": "y"},
    )
    environ[draw.choice(["odd.key", "wsgi.file_wrapper"])] = object
    return environ


def _echo(environ: Any, start_response: Any) -> Any:
    """An application whose answer shows everything that it was given; some raise, some stream."""
    request = Request(environ)
    shown = f"{request.method} {request.full_path} {sorted(request.headers)}".encode()
    if b"a" in shown[:8]:
        raise LookupError("the application's own")
    write = start_response("200 OK", [("X-Shown", str(len(shown))), ("Set-Cookie", "a=b")])
    write(b"written;")
    return iter([shown, request.get_data(), b"", b"end"])


def _outcome(app: Any, environ: dict[str, Any]) -> tuple[Any, ...]:
    sent: list[Any] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        sent.append((status, list(headers), exc_info))
        return sent.append

    try:
        chunks = list(app(environ, start_response))
    except LookupError as error:
        return ("raised", str(error))
    return (*sent, chunks)


def test_t28_with_and_without_us_an_application_behaves_the_same(fake: FakeFinch) -> None:
    wrapped = FinchMiddleware(_echo, component(fake))
    kinds = set()

    for number in range(PASSED()):
        bare = _outcome(_echo, _varied(random.Random(number)))
        through = _outcome(wrapped, _varied(random.Random(number)))

        assert through == bare
        kinds.add(str(bare[0])[:6])
    assert len(kinds) == 2


def test_t28_an_upload_arrives_whole_over_http(fake: FakeFinch) -> None:
    received: list[int] = []

    def application(environ: Any, start_response: Any) -> Any:
        stream, total = Request(environ).stream, 0
        while chunk := stream.read(_MEBIBYTE):
            total += len(chunk)
        received.append(total)
        return Response("taken")(environ, start_response)

    size = UPLOAD() * _MEBIBYTE
    with Site(fake) as site:
        site.app = FinchMiddleware(application, site.finch)
        line = http.client.HTTPConnection(urlsplit(site.origin).netloc, timeout=60)
        blocks = (b"\0" * _MEBIBYTE for _ in range(UPLOAD()))
        line.request("POST", "/upload", body=blocks, headers={"Content-Length": str(size)})
        answer = line.getresponse().read()
        line.close()

    assert answer == b"taken"
    assert received == [size]


def test_t28_of_a_callback_no_byte_beyond_eight_kib_is_read(fake: FakeFinch) -> None:
    finch = component(fake)
    begun = finch.begin(customer_id="acme", customer_name="Acme Inc.")
    headers = {
        "Content-Type": "application/json",
        "Cookie": begun.headers["Set-Cookie"].partition(";")[0],
        "Sec-Fetch-Site": "same-origin",
    }
    environ = environ_of(CALLBACK, method="POST", headers=headers)
    environ["CONTENT_LENGTH"] = str(8 * 1024 + 1)
    environ["wsgi.input"] = _Untouchable()
    statuses: list[str] = []

    app: Any = FinchMiddleware(_echo, finch)
    app(environ, lambda status, *given: statuses.append(status))

    assert statuses == ["413 REQUEST ENTITY TOO LARGE"]
