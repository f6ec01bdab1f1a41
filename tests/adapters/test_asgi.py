"""The ASGI middleware: its own paths, every other scope unchanged, and its WSGI environ."""

from __future__ import annotations

import asyncio
import json
from contextvars import ContextVar
from typing import Any

import pytest
from werkzeug.wrappers import Response

from finch_middleware import Customer, FinchConnect
from finch_middleware.adapters import asgi
from finch_middleware.adapters.asgi import FinchASGIMiddleware, to_starlette
from finch_middleware.errors import UsageError
from finch_middleware.testing import FakeFinch
from finch_middleware.web.scope import environ_of
from tests.threats.desk import component


class Sent(list[Any]):
    """The messages that an application sent, read as one response."""

    async def __call__(self, message: Any) -> None:
        self.append(message)

    @property
    def status(self) -> int:
        return int(self[0]["status"])

    def header(self, name: bytes) -> bytes:
        return dict(self[0]["headers"])[name]  # type: ignore[no-any-return]  # ASGI's are untyped

    @property
    def json(self) -> Any:
        return json.loads(self[1]["body"])


class Application:
    """An ASGI application that records the objects that it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls.append((scope, receive, send))


def http_scope(path: str, **changes: Any) -> dict[str, Any]:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
        "scheme": "http",
    }
    return {**scope, **changes}


def receiving(*pieces: bytes) -> Any:
    messages = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, start=1)
    ] or [{"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    return receive


async def untouchable() -> Any:
    raise AssertionError("read")


def call(app: Any, scope: Any, receive: Any) -> Sent:
    sent = Sent()
    asyncio.run(app(scope, receive, sent))
    return sent


PRESSED = http_scope("/connect", method="POST", headers=[(b"sec-fetch-site", b"same-origin")])


@pytest.mark.parametrize(
    "scope",
    [
        http_scope("/"),
        http_scope("/finch/callback/"),
        http_scope("/FINCH/callback"),
        http_scope("/finch/callback", type="websocket"),
        {"type": "lifespan"},
        http_scope("/\udc80"),
        http_scope("/connect/\ud83d"),
    ],
    ids=[
        "another path",
        "a slash more",
        "another case",
        "a websocket",
        "the lifespan",
        "a byte that is not UTF-8",
        "half a surrogate pair",
    ],
)
def test_another_request_is_forwarded_with_the_very_same_objects(
    finch: FinchConnect, scope: dict[str, Any]
) -> None:
    app, receive, sent, before = Application(), receiving(), Sent(), dict(scope)

    asyncio.run(FinchASGIMiddleware(app, finch)(scope, receive, sent))

    [(seen_scope, seen_receive, seen_send)] = app.calls
    assert seen_scope is scope
    assert seen_receive is receive
    assert seen_send is sent
    assert scope == before


@pytest.mark.parametrize(
    ("path", "root_path"),
    [
        ("/finch/callback", ""),
        ("/mounted/finch/callback", "/mounted"),
        ("/finch/callback", "/mounted"),
    ],
    ids=["at the root", "mounted, path as specified", "mounted, path of older servers"],
)
def test_a_redirect_return_is_handled_below_any_mount_point(
    finch: FinchConnect, fake_finch: FakeFinch, path: str, root_path: str
) -> None:
    begun = finch.begin(customer_id="acme", customer_name="Acme Inc.", return_to="/settings")
    query = fake_finch.allow(begun.headers["Location"]).partition("?")[2]
    cookie = begun.headers["Set-Cookie"].partition(";")[0]
    headers = [(b"cookie", b"theme=dark"), (b"cookie", cookie.encode())]
    scope = http_scope(path, root_path=root_path, query_string=query.encode(), headers=headers)

    sent = call(FinchASGIMiddleware(Application(), finch), scope, receiving(b""))

    assert sent.status == 303
    assert sent.header(b"location").startswith(b"/settings?finch=connected")
    [connection] = finch.connections.for_customer("acme")
    assert connection.access_token.reveal() in fake_finch.ledger.tokens


def test_a_mount_point_that_is_not_utf8_is_handled_as_any_other(finch: FinchConnect) -> None:
    scope = http_scope("/\udc80/finch/callback", root_path="/\udc80")

    sent = call(FinchASGIMiddleware(Application(), finch), scope, receiving(b""))

    assert sent.status == 400


def test_a_header_with_an_underscore_is_never_taken_for_one_of_a_proxy() -> None:
    forged, given = (b"x_remote_user", b"globex"), (b"x-remote-user", b"acme")

    forged_alone = environ_of(http_scope("/", headers=[forged, (b"content_length", b"7")]))
    beside_the_proxys = environ_of(http_scope("/", headers=[forged, given, forged]))

    assert [name for name in forged_alone if "REMOTE" in name or "LENGTH" in name] == []
    assert beside_the_proxys["HTTP_X_REMOTE_USER"] == "acme"


@pytest.mark.parametrize("option", ["begin_path", "invite_path"])
def test_the_begin_path_and_the_invite_path_are_handled_too(
    fake_finch: FakeFinch, option: str
) -> None:
    acme = Customer(id="acme", name="Acme Inc.")
    options: dict[str, Any] = {option: "/connect", "customer_of": lambda request: acme}
    finch, scope = component(fake_finch, **options), PRESSED
    if option == "invite_path":
        url = finch.invitation_url(customer_id="acme", customer_name="Acme Inc.")
        scope = {**PRESSED, "query_string": url.partition("?")[2].encode()}

    sent = call(FinchASGIMiddleware(Application(), finch), scope, receiving(b""))

    assert sent.status == 303
    assert sent.header(b"location").startswith(fake_finch.connect_origin.encode())


def test_a_script_may_post_its_code_in_several_chunks(
    finch: FinchConnect, fake_finch: FakeFinch
) -> None:
    begun = finch.begin(customer_id="acme", customer_name="Acme Inc.", flow="embedded")
    opened = json.loads(begun.get_data())
    fields = fake_finch.allow_embedded(opened["session_id"], state=opened["state"])
    body = json.dumps(fields).encode()
    scope = http_scope(
        "/finch/callback",
        method="POST",
        headers=[
            (b"cookie", begun.headers["Set-Cookie"].partition(";")[0].encode()),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"sec-fetch-site", b"same-origin"),
        ],
    )

    sent = call(FinchASGIMiddleware(Application(), finch), scope, receiving(body[:7], body[7:]))

    assert sent.status == 200
    assert sent.json["outcome"] == "connected"
    assert fake_finch.ledger.presented(fields["code"]) == 1


def posting(finch: FinchConnect, declared: bytes | None) -> dict[str, Any]:
    """The page's own script posts a body of that length, in the browser that began."""
    begun = finch.begin(customer_id="acme", customer_name="Acme Inc.")
    headers = [
        (b"cookie", begun.headers["Set-Cookie"].partition(";")[0].encode()),
        (b"content-type", b"application/json"),
        (b"sec-fetch-site", b"same-origin"),
    ]
    headers += [(b"content-length", declared)] if declared is not None else []
    return http_scope("/finch/callback", method="POST", headers=headers)


async def stalled() -> Any:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    "receive",
    [receiving(), receiving(b'{"code": "'), stalled],
    ids=["disconnected", "ended early", "stalled"],
)
def test_an_incomplete_body_is_refused_and_the_code_stays_unspent(
    finch: FinchConnect, fake_finch: FakeFinch, receive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "BODY_SECONDS", 0.05)

    sent = call(FinchASGIMiddleware(Application(), finch), posting(finch, b"40"), receive)

    assert (sent.status, sent.json["reason"]) == (400, "body")
    assert fake_finch.ledger.calls("token") == 0


@pytest.mark.parametrize(
    ("declared", "status"), [(b"65536", 413), (b"9" * 20, 413), (b"-1", 411), (None, 411)]
)
def test_a_body_is_refused_by_its_declared_length_and_not_read(
    finch: FinchConnect, declared: bytes | None, status: int
) -> None:
    sent = call(FinchASGIMiddleware(Application(), finch), posting(finch, declared), untouchable)

    assert sent.status == status


@pytest.mark.parametrize("path", ["/finch/callback", "/connect"])
def test_the_body_of_a_get_is_not_read(fake_finch: FakeFinch, path: str) -> None:
    finch = component(fake_finch, begin_path="/connect", customer_of=lambda request: None)
    scope = http_scope(path, headers=[(b"content-length", b"40")])

    assert call(FinchASGIMiddleware(Application(), finch), scope, untouchable).status < 500


def test_customer_of_can_read_contextvars_of_the_application(
    fake_finch: FakeFinch,
) -> None:
    name: ContextVar[str] = ContextVar("name")
    finch = component(
        fake_finch,
        begin_path="/connect",
        customer_of=lambda request: Customer(id="acme", name=name.get()),
    )
    name.set("Acme Inc.")

    sent = call(FinchASGIMiddleware(Application(), finch), PRESSED, receiving(b""))

    assert sent.status == 303


def test_a_response_of_the_render_option_is_closed_after_it_was_read(fake_finch: FakeFinch) -> None:
    steps: list[str] = []

    def render(*of: object) -> Response:
        response = Response(steps.append(piece) or piece for piece in ("a", "b"))
        response.call_on_close(lambda: steps.append("closed"))
        return response

    finch = component(fake_finch, render=render)

    sent = call(
        FinchASGIMiddleware(Application(), finch), http_scope("/finch/callback"), receiving(b"")
    )

    assert sent[1]["body"] == b"ab"
    assert steps == ["a", "b", "closed"]


def test_a_response_converted_for_starlette_is_closed_after_it_was_read() -> None:
    pytest.importorskip("starlette")
    closed: list[bool] = []
    response = Response("body")
    response.call_on_close(lambda: closed.append(True))

    converted = to_starlette(response)

    assert bytes(converted.body) == b"body"
    assert closed == [True]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_starlette_view_begins_with_its_request_and_keeps_every_cookie(
    finch: FinchConnect, fake_finch: FakeFinch, way: str
) -> None:
    pytest.importorskip("starlette")
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.routing import Route

    def connect(request: Request) -> Any:
        return to_starlette(finch.begin(request=request, **acme))

    async def connect_async(request: Request) -> Any:
        return to_starlette(await run_in_threadpool(finch.begin, request=request, **acme))

    acme = {"customer_id": "acme", "customer_name": "Acme Inc."}
    held = [finch.begin(**acme).headers["Set-Cookie"].partition(";")[0] for _ in range(5)]
    scope = http_scope("/connect", headers=[(b"cookie", "; ".join(held).encode())])
    view = connect if way == "sync" else connect_async

    sent = call(Starlette(routes=[Route("/connect", view)]), scope, receiving(b""))

    # One more than a browser may keep: the oldest is dropped, the new one set.
    cookies = [value for name, value in sent[0]["headers"] if name == b"set-cookie"]
    assert [cookie.startswith(held[0].partition("=")[0].encode()) for cookie in cookies] == [
        True,
        False,
    ]
    assert sent.status == 303
    assert sent.header(b"location").startswith(fake_finch.connect_origin.encode())


def test_a_session_middleware_in_the_wrong_order_is_explained(fake_finch: FakeFinch) -> None:
    pytest.importorskip("itsdangerous")
    from starlette.applications import Starlette
    from starlette.middleware.sessions import SessionMiddleware

    finch = component(
        fake_finch,
        begin_path="/connect",
        customer_of=lambda request: request.environ["asgi.scope"]["session"]["customer_id"],
    )
    app = Starlette()
    app.add_middleware(SessionMiddleware, secret_key="secret")
    app.add_middleware(FinchASGIMiddleware, finch=finch)
    headers = [(b"origin", b"http://localhost")]

    with pytest.raises(KeyError, match="session") as caught:
        call(app, http_scope("/connect", method="POST", headers=headers), receiving(b""))

    assert "add it after FinchASGIMiddleware" in caught.value.__notes__[0]


def test_the_body_of_an_asgi_request_belongs_to_the_middleware(finch: FinchConnect) -> None:
    scope = posting(finch, b"7")

    with pytest.raises(UsageError, match="add FinchASGIMiddleware"):
        finch.callback(environ_of(scope))
