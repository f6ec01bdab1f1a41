"""An application behind a real server, and a browser that visits it over HTTP."""

from __future__ import annotations

import http.client
import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Unpack
from urllib.parse import parse_qs, urlencode, urlsplit

from werkzeug.http import parse_cookie
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response

from finch_middleware import Event, FinchConnect, FinchMiddleware
from finch_middleware.config.options import Options
from finch_middleware.crypto.keys import new_key
from finch_middleware.errors import Unavailable
from finch_middleware.testing.fake_finch import FakeFinch
from finch_middleware.testing.fake_finch.wire import shut_down

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

CALLBACK = "/finch/callback"
KEY = new_key("k1")


class Quiet(WSGIRequestHandler):
    """Writes no access log."""

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


def options_for(fake: FakeFinch, redirect_uri: str, **changes: Any) -> dict[str, Any]:
    """The options of an application that talks to this fake, on memory."""
    return {
        "client_id": fake.client_id,
        "client_secret": fake.client_secret,
        "redirect_uri": redirect_uri,
        "products": ["company", "directory"],
        "storage": "memory://",
        "key": KEY,
        "api_url": fake.api_url,
        "connect_origin": fake.connect_origin,
        **changes,
    }


def environment_for(fake: FakeFinch, redirect_uri: str, **more: str) -> dict[str, str]:
    """The environment of an application that talks to this fake, with `FINCH_` and *more*."""
    return {
        "FINCH_CLIENT_ID": fake.client_id,
        "FINCH_CLIENT_SECRET": fake.client_secret,
        "FINCH_REDIRECT_URI": redirect_uri,
        "FINCH_API_URL": fake.api_url,
        "FINCH_CONNECT_ORIGIN": fake.connect_origin,
        **{f"FINCH_{name.upper()}": value for name, value in more.items()},
    }


class Site:
    """
    A little application with the middleware around it, on a free port of this machine.

    `POST /connect` begins with what `opening` holds, over the customer that the query names.

    Attributes:
        app: What the server calls; replace it to mount the application elsewhere.
        events: What `on_event` was told of returns.
        openings: What it was told of sessions that were opened: every flow has one.
        errors: What escaped from `app`.
        secrets: The cookies and states that browsers have seen.
    """

    def __init__(
        self, fake: FakeFinch, *, path: str = CALLBACK, **options: Unpack[Options]
    ) -> None:
        self.events: list[Event] = []
        self.openings: list[Event] = []
        self.errors: list[BaseException] = []
        self.opening: dict[str, Any] = {"return_to": "/settings"}
        self.seen_by_app: list[str] = []
        self.secrets: set[str] = set()
        self._server = make_server(
            "127.0.0.1", 0, self._serve, threaded=True, request_handler=Quiet
        )
        self.origin = f"http://localhost:{self._server.server_port}"
        # This server starts a thread for each request.
        given = options_for(fake, self.origin + path, on_event=self._report, waiting_duplicates=8)
        # A busy machine may be slow to open the gate at which a test holds an exchange.
        given["exchange_deadline"] = timedelta(seconds=20)
        given.update(options)
        try:
            self.finch = FinchConnect(**given)
        except BaseException:
            self._server.server_close()
            raise
        self.app: WSGIApplication = FinchMiddleware(self._application, self.finch)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Site:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        shut_down(self._server)
        self._thread.join()
        self._server.server_close()

    def _report(self, event: Event) -> None:
        opening = event.name.startswith("finch.session.")
        (self.openings if opening else self.events).append(event)

    def named(self, event: str) -> list[Event]:
        """The events of that name."""
        return [each for each in self.events if each.name == event]

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            return self.app(environ, start_response)
        except BaseException as error:
            self.errors.append(error)
            raise

    def _application(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        self.seen_by_app.append(request.path)
        if request.path != "/connect":
            return Response("the application")(environ, start_response)
        return self._begun(environ, customer_id=request.args["customer"])(environ, start_response)

    def _begun(self, environ: dict[str, Any], *, customer_id: str) -> Response:
        try:
            return self.finch.begin(
                customer_id=customer_id, customer_name="Acme Inc.", request=environ, **self.opening
            )
        except Unavailable as away:
            return away.response()


MakeSite = Callable[..., Site]


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def location(self) -> str:
        return self.headers["Location"] or ""


NAVIGATION = {
    "Accept": "text/html,application/xhtml+xml",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Site": "cross-site",
}
SAME_ORIGIN_FETCH = {
    "Accept": "application/json",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Site": "same-origin",
}


@dataclass
class Browser:
    """Visits one site and keeps its cookies; follows nothing by itself."""

    site: Site
    cookies: dict[str, str] = field(default_factory=dict)

    def begin(self, customer_id: str = "acme") -> Answer:
        """Press the application's connect button."""
        return self.request("POST", f"/connect?customer={customer_id}")

    def location(self, customer_id: str = "acme") -> str:
        """The address of Finch Connect that a new flow leads to."""
        answer = self.begin(customer_id)
        assert answer.status == 303, answer.text
        return answer.location

    def get(self, address: str, **headers: str) -> Answer:
        """Navigate to *address*, a path or the whole address of this site."""
        return self.request("GET", address, headers={**NAVIGATION, **headers})

    def embedded(self, customer_id: str = "acme") -> dict[str, str]:
        """What the page's script gets to open Finch's SDK with; `opening` says embedded."""
        answer = self.begin(customer_id)
        assert answer.status == 200, answer.text
        self.site.secrets.add(answer.json["state"])
        return dict(answer.json)

    def fetch(self, fields: Mapping[str, object], *, form: bool = False, **headers: str) -> Answer:
        """Post to the callback as the page's own script does."""
        kind = "application/x-www-form-urlencoded" if form else "application/json"
        body = urlencode(dict(fields)) if form else json.dumps(dict(fields))
        sent = {**SAME_ORIGIN_FETCH, "Origin": self.site.origin, "Content-Type": kind, **headers}
        return self.request("POST", CALLBACK, headers=sent, body=body.encode())

    def environ(self, address: str) -> dict[str, Any]:
        """The WSGI environ of a visit to *address*, for whoever asks the component itself."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return EnvironBuilder(path=address, headers={"Cookie": cookies}).get_environ()

    def request(
        self,
        method: str,
        address: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """One request with this browser's cookies; keeps those that are set."""
        parts = urlsplit(address)
        path = parts._replace(scheme="", netloc="").geturl()
        connection = http.client.HTTPConnection(urlsplit(self.site.origin).netloc, timeout=240)
        try:
            sent = dict(headers or {})
            if self.cookies:
                sent["Cookie"] = "; ".join(f"{name}={v}" for name, v in self.cookies.items())
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        finally:
            connection.close()
        self._keep(answer)
        return answer

    def _keep(self, answer: Answer) -> None:
        for header in answer.headers.get_all("Set-Cookie") or ():
            name, _, rest = header.partition("=")
            if "max-age=0" in rest.lower().replace(" ", ""):
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = parse_cookie(f"{name}={rest.partition(';')[0]}")[name]
                self.site.secrets.add(self.cookies[name])
        query = parse_qs(urlsplit(answer.location).query)
        self.site.secrets.update(query.get("state", ()))


def log_text(caplog_records: Iterable[logging.LogRecord]) -> str:
    """Everything that a handler could write of these records."""
    return "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog_records)
