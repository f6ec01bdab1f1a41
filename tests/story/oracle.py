"""What really happened, by Finch's own ledger and by the rows in the storage."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from werkzeug.wrappers import Response

from finch_middleware.attempts import Attempt
from finch_middleware.crypto.vault import KeyedHash
from finch_middleware.secret import Secret
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.faulty_storage import FaultyStorage
from tests.site import Answer, Site

#: Events that tell an operator of a token that nobody holds, or may hold.
REPORTS = frozenset(
    {
        "finch.exchange.ambiguous",
        "finch.exchange.bad_response",
        "finch.attempt.interrupted",
        "finch.token.lost",
    }
)


@dataclass(frozen=True, slots=True)
class Overheard:
    """Finch's answers as they left it, with the request ids that its support would ask for."""

    answers: list[Response] = field(default_factory=list)

    def of(self, behaviour: Behaviour) -> Behaviour:
        """The same behaviour, whose answers are kept here."""

        def shape(response: Response) -> Response:
            self.answers.append(behaviour.shape(response))
            return self.answers[-1]

        return dataclasses.replace(behaviour, shape=shape)

    @property
    def request_ids(self) -> list[str]:
        return [answer.headers["Finch-Request-Id"] for answer in self.answers]


def code_of(callback_url: str) -> str:
    """The code in the address that Finch sends the browser to."""
    return parse_qs(urlsplit(callback_url).query)["code"][0]


def state_of(address: str) -> str:
    """The state in an address of Finch Connect, or in one that it sends the browser to."""
    return parse_qs(urlsplit(address).query)["state"][0]


def exchanges(fake: FakeFinch) -> list[dict[str, Any]]:
    """The bodies of all requests to Finch's token endpoint, the oldest first."""
    return [json.loads(seen.body) for seen in fake.ledger.requests if seen.endpoint == "token"]


def code_hash(fake: FakeFinch, code: str) -> bytes:
    """The name of *code* in storage and spool."""
    secret = Secret(fake.client_secret)
    return KeyedHash(client_id=fake.client_id, client_secret=secret)("code", code)


def attempt_of(site: Site, fake: FakeFinch, code: str) -> Attempt | None:
    """The attempt that stands for *code*."""
    storage = site.finch.storage
    real = storage.real if isinstance(storage, FaultyStorage) else storage
    return real.attempt(code_hash(fake, code))


def tokens_of(site: Site, customer_id: str) -> list[str]:
    """The tokens that the application can read for a customer, the newest first."""
    found = site.finch.connections.for_customer(customer_id)
    return [connection.access_token.reveal() for connection in found]


def same(first: Answer, second: Answer) -> bool:
    """Whether a person saw the same twice."""
    return (first.status, first.location, first.body) == (
        second.status,
        second.location,
        second.body,
    )


def nothing_stored(site: Site) -> bool:
    """Whether no connection of any customer stands."""
    return not site.finch.storage.scan(after=None, limit=1).rows


def unaccounted(fake: FakeFinch, sites: list[Site], *, folder: Path) -> list[str]:
    """
    The connections whose token was minted and is neither kept nor reported.

    Kept is what the storage's attempt or a spool's file below *folder* holds.
    """
    reported = {e.reference for site in sites for e in site.events if e.name in REPORTS}
    minted = [issued for issued in fake.ledger.codes if issued.minted]
    return [
        issued.connection_id
        for issued in minted
        if not any(folder.rglob(f"{code_hash(fake, issued.code).hex()}.json"))
        and not any(_accounts(attempt_of(site, fake, issued.code), reported) for site in sites)
    ]


def _accounts(attempt: Attempt | None, reported: set[str | None]) -> bool:
    return attempt is not None and (attempt.state.holds_token or attempt.reference in reported)
