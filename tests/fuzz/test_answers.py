"""T21: a hundred thousand responses of a token endpoint that is broken or hostile."""

from __future__ import annotations

import json
import secrets
from collections import Counter

from finch_middleware import FinchConnect, FinchMiddleware
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.fuzz.answers import honest, hostile_body, token_in, token_of
from tests.fuzz.seeds import seeded
from tests.threats.desk import begun, component, returned
from tests.threats.sizes import ANSWERS
from tests.threats.wsgi import Answered

#: Stored; quarantined; not what Finch answers. Nothing else may happen.
_STATUSES = {303, 403, 502}
_A_COMPONENTS_LIFE = 50


class _Desk:
    """Callbacks whose code the token endpoint answers with a body of the test's."""

    def __init__(self, fake: FakeFinch) -> None:
        self.fake = fake
        self.finch: FinchConnect = component(fake)
        self.app = FinchMiddleware(_nothing, self.finch)

    def returned(self, customer_id: str, body: bytes) -> Answered:
        """The answer to a return whose exchange is answered with *body*."""
        held = begun(self.finch, self.fake, customer_id=customer_id)
        self.fake.script("token", Behaviour.response(body))
        code = secrets.token_hex(16)
        answer = returned(self.app, f"code={code}&state={held.state}", cookie=held.cookie)
        assert self.fake.ledger.presented(code) == 1
        return answer

    def tokens(self, customer_id: str) -> list[str]:
        """What is stored for that customer."""
        found = self.finch.connections.for_customer(customer_id)
        return [connection.access_token.reveal() for connection in found]

    def connected(self, customer_id: str) -> list[str]:
        """The ids of that customer's connections."""
        found = self.finch.connections.for_customer(customer_id)
        return [connection.connection_id for connection in found]

    def quarantined(self) -> list[str]:
        """The tokens that nobody was given, and that an operator can still complete."""
        held = self.finch.recovery.quarantined()
        answers = map(self.finch.vault.open_grant, held)
        return [json.loads(each.reveal())["access_token"] for each in answers]


def _nothing(environ: object, start_response: object) -> list[bytes]:
    raise AssertionError("not the application's")


def _new(now: list[str], before: list[str]) -> list[str]:
    return list((Counter(now) - Counter(before)).elements())


def test_t21_no_hostile_answer_raises_or_is_stored(fake: FakeFinch) -> None:
    draw = seeded()
    desk, ended = _Desk(fake), Counter[int]()

    for number in range(ANSWERS()):
        if number % _A_COMPONENTS_LIFE == 0:
            desk = _Desk(fake)
        customer_id = "acme" if number % 2 else "4711"
        token = secrets.token_hex(16)
        answer = honest(customer_id, token=token, connection_id=f"c-{number}")
        body = hostile_body(draw, answer)
        before, held = desk.tokens(customer_id), desk.quarantined()
        connected = desk.connected(customer_id)
        got = desk.returned(customer_id, body)
        stored = desk.tokens(customer_id)

        ended[got.status] += 1
        brought = token_in(body)
        assert (got.status == 502) == (brought is None)
        assert (got.status == 403) <= (brought in _new(desk.quarantined(), held))
        assert token.encode() not in got.whole
        own = token_of(body, customer_id=customer_id, connected=connected)
        assert (got.status == 303) <= (own in stored)
        assert (stored != before) <= (got.status == 303)
    assert set(ended) == _STATUSES


def test_t21_unknown_fields_are_kept_and_sealed(fake: FakeFinch) -> None:
    desk = _Desk(fake)
    new = {"employer": {"name": "Acme", "sizes": [1, 2.5, None]}, "expires_in": 10**20}
    answer = honest("acme", token="t-1", connection_id="c-1") | new

    got = desk.returned("acme", json.dumps(answer).encode())

    assert got.status == 303
    [connection] = desk.finch.connections.for_customer("acme")
    assert connection.details() == {k: v for k, v in answer.items() if k != "access_token"}
    [row] = desk.finch.storage.for_customer("acme")
    assert "employer" not in repr(row.as_row())


def test_t21_an_answer_without_connection_id_is_quarantined(fake: FakeFinch) -> None:
    desk = _Desk(fake)
    answer = honest("acme", token="t-1", connection_id="")

    got = desk.returned("acme", json.dumps(answer).encode())

    assert got.status == 403
    assert desk.tokens("acme") == []
    [kept] = desk.finch.storage.quarantined()
    assert kept.sealed is not None
