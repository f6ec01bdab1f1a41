"""The component without a server between, and tickets as a browser would hold them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Unpack
from urllib.parse import parse_qs, urlsplit

from finch_middleware import ConnectSession, FinchConnect
from finch_middleware.config.options import FlowKind, Options
from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import CALLBACK, options_for
from tests.threats.wsgi import Answered, call, environ_of

ORIGIN = "http://localhost"


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a browser holds after begin: the ticket's cookie, and the state that goes round."""

    name: str
    value: str
    state: str

    @property
    def cookie(self) -> str:
        return f"{self.name}={self.value}"


def component(fake: FakeFinch, **options: Unpack[Options]) -> FinchConnect:
    """A component of this fake, on memory."""
    given = options_for(fake, ORIGIN + CALLBACK)
    given.update(options)
    return FinchConnect(**given)


def begun(
    finch: FinchConnect,
    fake: FakeFinch,
    *,
    customer_id: str = "acme",
    flow: FlowKind = "redirect",
    **opening: Any,
) -> Held:
    """A flow that was begun with a session of the application's own: Finch is not asked."""
    session = ConnectSession("session-1", f"{fake.connect_origin}/authorize?session=session-1")
    response = finch.begin(
        customer_id=customer_id, customer_name="Acme", flow=flow, session=session, **opening
    )
    name, _, rest = response.headers["Set-Cookie"].partition("=")
    if flow == "embedded":
        state = json.loads(response.get_data())["state"]
    else:
        [state] = parse_qs(urlsplit(response.headers["Location"]).query)["state"]
    return Held(name=name, value=rest.partition(";")[0], state=state)


def returned(
    app: Any, query: str, *, cookie: str | None = None, script_name: str = "", **headers: str
) -> Answered:
    """The answer to a GET of the callback."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if cookie is not None:
        sent["Cookie"] = cookie
    return call(app, environ_of(CALLBACK, query=query, headers=sent, script_name=script_name))
