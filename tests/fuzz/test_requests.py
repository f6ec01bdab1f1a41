"""Hostile callback requests by the thousand: no error, no reflection, no call to Finch."""

from __future__ import annotations

import re
from typing import Any
from wsgiref.validate import validator

from finch_middleware import FinchMiddleware
from finch_middleware.testing.fake_finch import FakeFinch
from tests.fuzz.grammar import MARKER, Hostile, hostile
from tests.fuzz.seeds import seeded
from tests.site import CALLBACK
from tests.threats.desk import Held, begun, component
from tests.threats.sizes import FUZZ
from tests.threats.wsgi import Answered, call

_EXPECTED = {200, 204, 303, 400, 403, 405, 411, 413}
_VALIDATED_SHARE = 0.1
INVITE = "/invitation"
_REFLECTED = MARKER.encode()


class _Target:
    """A component that takes no code without its state, and tickets of both kinds of flow."""

    def __init__(self, fake: FakeFinch) -> None:
        self.fake = fake
        finch = component(fake, require_state=True)
        self.app = FinchMiddleware(_application, finch)
        self.validated: Any = validator(self.app)
        self.tickets: list[Held] = [
            begun(finch, fake, customer_id=f"customer-{number}", flow=flow)
            for number in range(4)
            for flow in ("redirect", "embedded")
        ]

    def check(self, request: Hostile, *, validate: bool) -> Answered:
        """The answer, which keeps every promise."""
        answer = call(self.validated if validate else self.app, dict(request.environ))
        if request.environ["PATH_INFO"] != CALLBACK:
            assert (answer.status, answer.body) == (404, b"the application")
            return answer
        prefetch = answer.status == 503 and _asks_early(request.environ)
        assert answer.status in _EXPECTED or prefetch, answer.status
        assert _REFLECTED not in answer.whole
        for name, value in answer.headers:
            assert re.fullmatch(r"[\x20-\x7e]*", name + value), name
        return answer


def _application(environ: object, start_response: Any) -> list[bytes]:
    """What gets every request but those to the callback."""
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"the application"]


def _asks_early(environ: dict[str, Any]) -> bool:
    names = ("HTTP_SEC_PURPOSE", "HTTP_PURPOSE", "HTTP_X_PURPOSE", "HTTP_X_MOZ")
    return any(name in environ for name in names)


def test_no_hostile_request_to_the_invite_path_raises_reflects_or_begins(fake: FakeFinch) -> None:
    draw = seeded()
    finch = component(fake, invite_path=INVITE)
    url = finch.invitation_url(customer_id="acme", customer_name=MARKER)
    sealed, app = url.partition("=")[2], FinchMiddleware(_application, finch)
    tickets, seen = [begun(finch, fake)], set[int]()

    for _ in range(FUZZ() // 10):
        environ = dict(hostile(draw, tickets).environ)
        at = draw.randrange(len(sealed))
        bent = sealed[:at] + draw.choice(["", "A", "%", "%00", ".", MARKER]) + sealed[at + 1 :]
        if bent != sealed and draw.random() < 0.5:
            environ["QUERY_STRING"] = f"invitation={bent}&{environ['QUERY_STRING']}"
        answer = call(app, {**environ, "PATH_INFO": INVITE})
        seen.add(answer.status)
        assert _REFLECTED not in answer.whole
        assert not answer.all("Set-Cookie")

    assert fake.ledger.requests == ()
    assert {400, 403} <= seen <= {204, 400, 403, 405}


def test_no_hostile_request_raises_reflects_or_calls_finch(fake: FakeFinch) -> None:
    target = _Target(fake)
    draw = seeded()
    seen: set[int] = set()

    for _ in range(FUZZ()):
        request = hostile(draw, target.tickets)
        validate = request.valid and draw.random() < _VALIDATED_SHARE
        seen.add(target.check(request, validate=validate).status)

    assert fake.ledger.requests == ()
    # The grammar reaches every way to end but the happy one; a short run may miss the rare 413.
    assert {*seen, 413} == {*_EXPECTED, 404, 503}
