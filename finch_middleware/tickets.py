"""
The flow's ticket: sealed into a cookie of this browser at begin, checked at finish.

It names the flow's customer, where the person is sent afterwards and how Connect was opened. None
of that is ever taken from the callback request, and nothing is written to storage.
"""

from __future__ import annotations

import base64
import dataclasses
import hmac
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from finch_middleware.config.customers import require_text
from finch_middleware.config.settings import FlowKind
from finch_middleware.crypto.vault import Vault
from finch_middleware.errors import CannotOpen, KeyUnavailable, UsageError
from finch_middleware.outcomes import SetCookie
from finch_middleware.secret import Secret

CUSTOMER_ID_LIMIT_BYTES = 255
TICKETS_IN_A_BROWSER = 5
#: What one ticket cookie takes at the most, name and all, and what all of them may take.
COOKIE_LIMIT_BYTES = 1024
COOKIES_LIMIT_BYTES = 4 * 1024
REPLAY_WINDOW = timedelta(minutes=10)
#: How far the clocks of two servers may differ before a ticket counts as expired.
SKEW = timedelta(seconds=60)
# The shortest sealed ticket: shorter values are not tickets. A header is bounded by
# the server, so this bounds how many are opened: about four hundred in 64 KiB, in a few ms.
_TICKET_LEAST_CHARACTERS = 150
_RANDOM_BYTES = 16
_OUR_NAME = re.compile(r"[A-Za-z0-9_-]{8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """
    One opened flow of one browser.

    Attributes:
        flow_id: Random; names the flow in this browser and, hashed, in storage.
        state: Random; goes through Finch and has to come back unchanged, where it comes back.
        kind: ``redirect`` or ``embedded``; decides whether redirect_uri is sent.
        spent: The flow has ended; the ticket only recognises a reload.
    """

    flow_id: str
    state: Secret = field(repr=False)
    customer_id: str
    return_to: str
    kind: FlowKind
    issued_at: datetime
    expires_at: datetime
    spent: bool = False


class Tickets:
    """Issues tickets and finds them again among a request's cookies."""

    def __init__(self, *, vault: Vault, secure: bool) -> None:
        self._vault = vault
        self._secure = secure
        self._prefix = "__Host-finch-" if secure else "finch-"

    def issue(
        self, *, customer_id: str, return_to: str, kind: FlowKind, at: datetime, life: timedelta
    ) -> Ticket:
        """
        A new ticket.

        Raises:
            UsageError: customer_id is not text of 1 to 255 bytes without control characters.
        """
        _check_customer_id(customer_id)
        return Ticket(
            flow_id=_random(),
            state=Secret(_random()),
            customer_id=customer_id,
            return_to=return_to,
            kind=kind,
            issued_at=at,
            expires_at=at + life,
        )

    def cookie(self, ticket: Ticket, *, at: datetime) -> SetCookie:
        """The cookie that keeps *ticket* in this browser until shortly after it expires."""
        # Otherwise a person who is late would read that the flow never began.
        ends = ticket.expires_at if ticket.spent else ticket.expires_at + REPLAY_WINDOW
        return SetCookie(
            name=self._prefix + ticket.flow_id[:8],
            value=Secret(self._vault.seal(_written(ticket), purpose="ticket")),
            max_age=max(1, int((ends - at).total_seconds())),
            secure=self._secure,
        )

    def spent(self, ticket: Ticket, *, at: datetime) -> SetCookie:
        """The cookie that recognises a reload of this ended flow for the replay window."""
        ended = dataclasses.replace(ticket, spent=True, expires_at=at + REPLAY_WINDOW)
        return self.cookie(ended, at=at)

    def found(self, cookies: Iterable[tuple[str, str]]) -> list[Ticket]:
        """
        The tickets among *cookies*, the newest five, expired ones too, the newest first.

        What does not open is ignored: another application of the site may set any name.

        Raises:
            KeyUnavailable: None opens, and one of them names a key that is unavailable now.
        """
        opened = [self._opened(value) for name, value in cookies if self._ours(name)]
        tickets = [each for each in opened if isinstance(each, Ticket)]
        away = [each for each in opened if isinstance(each, KeyUnavailable)]
        if away and not tickets:
            raise away[0]
        return _newest(tickets)

    def surplus(self, cookies: Iterable[tuple[str, str]], *, kept: int) -> list[SetCookie]:
        """
        Removals of our cookies, the oldest first, down to *kept* that leave room for one more.

        What does not open counts as the oldest: it may be the live ticket of another client_id
        of the same site, so it goes only where it takes the room of our own.
        """
        sizes: dict[str, int] = {}
        pairs = [(name, value) for name, value in cookies if self._ours(name)]
        for name, value in pairs:
            sizes[name] = sizes.get(name, 0) + len(name) + 1 + len(value)
        tickets = [each for _, value in pairs if isinstance(each := self._opened(value), Ticket)]
        opened = [self._prefix + ticket.flow_id[:8] for ticket in _newest(tickets)]
        removed, room = [], COOKIES_LIMIT_BYTES - COOKIE_LIMIT_BYTES
        present = [name for name in dict.fromkeys([*opened, *sizes]) if name in sizes]
        for place, name in enumerate(present):
            room -= sizes[name]
            if place >= kept or room < 0:
                removed.append(SetCookie(name=name, value=None, max_age=0, secure=self._secure))
        return removed

    def _ours(self, name: str) -> bool:
        return name.startswith(self._prefix) and bool(
            _OUR_NAME.fullmatch(name.removeprefix(self._prefix))
        )

    def _opened(self, value: str) -> Ticket | KeyUnavailable | None:
        """The ticket, or why it could not be opened; None if it is not a ticket of ours."""
        if len(value) < _TICKET_LEAST_CHARACTERS:
            return None
        try:
            return _read(self._vault.open(value, purpose="ticket"))
        except CannotOpen:
            return None
        except KeyUnavailable as fault:
            return fault


def _newest(tickets: Iterable[Ticket]) -> list[Ticket]:
    found: dict[str, Ticket] = {}
    for ticket in tickets:
        # A spent ticket outranks the copy of it that was not.
        if ticket.flow_id not in found or ticket.spent:
            found[ticket.flow_id] = ticket
    newest = sorted(found.values(), key=lambda t: (t.issued_at, t.flow_id), reverse=True)
    return newest[:TICKETS_IN_A_BROWSER]


def expired(ticket: Ticket, *, at: datetime) -> bool:
    """Whether it has expired, whatever server's clock is used."""
    return at > ticket.expires_at + SKEW


def with_state(tickets: Sequence[Ticket], state: Secret) -> Ticket | None:
    """The ticket of this state. Compares all of them, in constant time each."""
    given = state.reveal().encode()
    found = [t for t in tickets if hmac.compare_digest(t.state.reveal().encode(), given)]
    return found[0] if found else None


def _random() -> str:
    return base64.urlsafe_b64encode(os.urandom(_RANDOM_BYTES)).rstrip(b"=").decode()


def _check_customer_id(customer_id: str) -> None:
    require_text(customer_id=customer_id)
    if not 1 <= len(customer_id.encode()) <= CUSTOMER_ID_LIMIT_BYTES:
        raise UsageError("customer_id must be text of 1 to 255 bytes")
    if any(unicodedata.category(character) == "Cc" for character in customer_id):
        raise UsageError("customer_id must have no control characters")


def _written(ticket: Ticket) -> Secret:
    # No part can hold a NUL: ids are base64, return_to is a path, customer_id was checked.
    parts = (
        ticket.flow_id,
        ticket.state.reveal(),
        ticket.customer_id,
        ticket.return_to,
        ticket.kind,
        str(int(ticket.issued_at.timestamp() * 1_000_000)),
        str(int(ticket.expires_at.timestamp())),
        "spent" if ticket.spent else "live",
    )
    return Secret("\x00".join(parts))


def _read(sealed: Secret) -> Ticket:
    # Only our own vault opens it, so its form is what `_written` gave it.
    parts = sealed.reveal().split("\x00")
    flow_id, state, customer_id, return_to, kind, issued, expires, word = parts
    return Ticket(
        flow_id=flow_id,
        state=Secret(state),
        customer_id=customer_id,
        return_to=return_to,
        kind="embedded" if kind == "embedded" else "redirect",
        issued_at=datetime.fromtimestamp(int(issued) / 1_000_000, UTC),
        expires_at=datetime.fromtimestamp(int(expires), UTC),
        spent=word == "spent",
    )
