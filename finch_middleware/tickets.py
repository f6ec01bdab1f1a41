"""
The flow's ticket: sealed into a cookie of this browser at begin, checked at finish.

It holds the flow's customer, where the person is sent afterwards and the redirect_uri that opened
Connect. None of that is ever taken from the callback request, and nothing is written to storage.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from finch_middleware.config.customers import require_text
from finch_middleware.config.settings import FlowKind
from finch_middleware.errors import CannotOpen, KeyUnavailable, UsageError
from finch_middleware.outcomes import SetCookie
from finch_middleware.secret import Secret

if TYPE_CHECKING:
    from finch_middleware.crypto.vault import Vault

CUSTOMER_ID_LIMIT_BYTES = 255
TICKETS_IN_A_BROWSER = 5
#: What all tickets may take of a request's Cookie header. uWSGI reads 4 KiB of a request's head
#: by default, and refuses every page of a browser that sends more.
COOKIES_LIMIT_BYTES = 2 * 1024
REPLAY_WINDOW = timedelta(minutes=10)
# The shortest sealed ticket: shorter values are not tickets. A header is bounded by
# the server, so this bounds how many are opened: about four hundred in 64 KiB, in a few ms.
_TICKET_LEAST_CHARACTERS = 100
_STATE_BYTES = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OUR_NAME = re.compile(r"[A-Za-z0-9_-]{8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """
    One opened flow of one browser.

    Attributes:
        flow_id: A hash of the flow's state. Names the flow in this browser and, hashed again, in
            storage.
        redirect_uri: The one that opened Connect, sent at the exchange; None in the embedded flow.
        spent: The flow has ended; the ticket only recognises a reload.
        invited: An invitation began it, so the person need not be signed in.
    """

    flow_id: str
    customer_id: str
    return_to: str
    redirect_uri: str | None
    issued_at: datetime
    expires_at: datetime
    spent: bool = False
    invited: bool = False

    @property
    def kind(self) -> FlowKind:
        """How Connect was opened."""
        return "embedded" if self.redirect_uri is None else "redirect"


class Tickets:
    """Seals tickets into cookies, and finds them again among those of a request."""

    def __init__(self, *, vault: Vault, secure: bool) -> None:
        self._vault = vault
        self._secure = secure
        self._prefix = "__Host-finch-" if secure else "finch-"

    def cookie(self, ticket: Ticket, *, at: datetime) -> SetCookie:
        """The cookie that keeps *ticket* in this browser until shortly after it expires."""
        # Otherwise a person who is late would read that the flow never began.
        ends = ticket.expires_at if ticket.spent else ticket.expires_at + REPLAY_WINDOW
        return SetCookie(
            name=self._prefix + ticket.flow_id[:8],
            value=Secret(self._vault.seal(_serialised(ticket), purpose="ticket")),
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
        tickets, unavailable = self._open_each(value for _, value in self._ours(cookies))
        if unavailable and not tickets:
            raise unavailable[0]
        return tickets

    def surplus(self, cookies: Iterable[tuple[str, str]], *, new: SetCookie) -> list[SetCookie]:
        """
        Removals of our oldest *cookies* that leave room for a *new* one.

        At most five cookies remain, and at most 2 KiB with what separates them: long customer ids
        and addresses leave room for fewer. The largest ticket takes less than 1.6 KiB.

        What does not open counts as the oldest: it may be the live ticket of another client_id
        of the same site, so it goes only where it takes the room of our own.
        """
        sizes: dict[str, int] = {}
        pairs = self._ours(cookies)
        for name, value in pairs:
            sizes[name] = sizes.get(name, 0) + _size(name, value)
        tickets, _ = self._open_each(value for _, value in pairs)
        opened = [self._prefix + ticket.flow_id[:8] for ticket in tickets]
        removed = []
        assert new.value is not None
        room = COOKIES_LIMIT_BYTES - _size(new.name, new.value.reveal())
        present = [name for name in dict.fromkeys([*opened, *sizes]) if name in sizes]
        for place, name in enumerate(present):
            room -= sizes[name]
            if place >= TICKETS_IN_A_BROWSER - 1 or room < 0:
                removed.append(SetCookie(name=name, value=None, max_age=0, secure=self._secure))
        return removed

    def _ours(self, cookies: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those of *cookies* that have the form of a ticket's."""
        return [
            (name, value)
            for name, value in cookies
            if name.startswith(self._prefix) and _OUR_NAME.fullmatch(name, len(self._prefix))
        ]

    def _open_each(self, values: Iterable[str]) -> tuple[list[Ticket], list[KeyUnavailable]]:
        """The newest five tickets, the newest first, and why others could not be opened."""
        found: dict[str, Ticket] = {}
        faults: list[KeyUnavailable] = []
        for value in values:
            if len(value) < _TICKET_LEAST_CHARACTERS:
                continue
            try:
                ticket = self._open(value)
            except CannotOpen:
                continue
            except KeyUnavailable as fault:
                faults.append(fault)
                continue
            # A spent ticket outranks the copy of it that was not.
            if ticket is not None and (ticket.flow_id not in found or ticket.spent):
                found[ticket.flow_id] = ticket
        newest = sorted(found.values(), key=lambda t: (t.issued_at, t.flow_id), reverse=True)
        return newest[:TICKETS_IN_A_BROWSER], faults

    def _open(self, value: str) -> Ticket | None:
        parts = self._vault.open(value, purpose="ticket").split("\x00")
        if len(parts) != 7:
            return None  # of another version of this library
        flow_id, customer_id, return_to, redirect_uri, issued, life, marks = parts
        issued_at = _EPOCH + timedelta(microseconds=int(issued, 16))
        return Ticket(
            flow_id=flow_id,
            customer_id=customer_id,
            return_to=return_to,
            redirect_uri=redirect_uri or None,
            issued_at=issued_at,
            expires_at=issued_at + timedelta(seconds=int(life, 16)),
            spent="s" in marks,
            invited="i" in marks,
        )


def new_state() -> Secret:
    """A flow's state: 22 random characters, which have to come back unchanged from Finch."""
    return Secret(base64.urlsafe_b64encode(os.urandom(_STATE_BYTES)).rstrip(b"=").decode())


def flow_id_of(state: str) -> str:
    """22 characters that name the flow of this state and do not show it."""
    digest = hashlib.sha256(state.encode()).digest()
    return base64.urlsafe_b64encode(digest[:_STATE_BYTES]).rstrip(b"=").decode()


def _size(name: str, value: str) -> int:
    """The bytes of a cookie in a request's head, with those that separate it from the next."""
    return len(f"{name}={value}; ")


def check_customer_id(customer_id: str) -> None:
    """Raise UsageError unless a ticket can hold it: text of 1 to 255 bytes, without controls."""
    require_text(customer_id=customer_id)
    if not 1 <= len(customer_id.encode()) <= CUSTOMER_ID_LIMIT_BYTES:
        raise UsageError("customer_id must be text of 1 to 255 bytes")
    if any(unicodedata.category(character) == "Cc" for character in customer_id):
        raise UsageError("customer_id must have no control characters")


def _serialised(ticket: Ticket) -> str:
    # Short, because every request of the browser carries it. No part can hold a NUL: the id is
    # base64, both addresses are visible ASCII, customer_id was checked.
    life = (ticket.expires_at - ticket.issued_at) // timedelta(seconds=1)
    parts = (
        ticket.flow_id,
        ticket.customer_id,
        ticket.return_to,
        ticket.redirect_uri or "",
        f"{(ticket.issued_at - _EPOCH) // timedelta(microseconds=1):x}",
        # As long for a spent ticket: a flow that ends takes no more room than it had.
        f"{life:06x}",
        ("s" if ticket.spent else "l") + "i" * ticket.invited,
    )
    return "\x00".join(parts)
