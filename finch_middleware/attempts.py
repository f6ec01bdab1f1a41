"""Attempts to exchange a code: the one right to present it, and how that ended."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Any, TypedDict

from finch_middleware.errors import StorageUnavailable
from finch_middleware.outcomes import Connected, Failed, Finishing, Invalid, SetCookie
from finch_middleware.records import UNREADABLE, Row, SealedToken

#: How long a claim's owner may take; longer than any server lets a request run.
LEASE = timedelta(seconds=60)

#: How many codes may be presented for one flow. Finch does not document that its redirect brings
#: the state back, and without one any code may be the flow's.
CODES_PER_FLOW = 5

_HASH_BYTES = 32
_TEXTS = ("attempt_id", "client_id", "reference")
_INSTANTS = ("claimed_at", "leased_until", "settled_at")


class AttemptState(StrEnum):
    """
    The state of an attempt to exchange a code.

    Only in CLAIMED may the code be presented. STORED and QUARANTINED hold a token; FAILED and
    AMBIGUOUS do not, and after AMBIGUOUS Finch may have issued one that was not seen.
    """

    CLAIMED = "claimed"
    STORED = "stored"
    QUARANTINED = "quarantined"
    FAILED = "failed"
    AMBIGUOUS = "ambiguous"

    @property
    def holds_token(self) -> bool:
        return self in (AttemptState.STORED, AttemptState.QUARANTINED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """
    The one right to present a code to Finch, and how that ended.

    Attributes:
        attempt_id: Random; distinguishes our own claim from another's.
        code_hash: Keyed hash of the code, 32 bytes: the primary key.
        flow_hash: The code's place in its flow, one of `places`: the flow's own hash once it is
            certain that the code ends this flow. Unique where it is not None.
        bound_to: Keyed hashes of the flows (or customers) of the request. A later request
            repeats this one if it has any of them.
        customer_ids: The customers whose code it may be.
        reference: On the person's page and in the log.
        leased_until: Until then the claim's owner is working on it; later it was interrupted.
        customer_id, connection_id: Those of the token, once stored.
        return_to: Where the person is sent afterwards.
        reason: Why it failed, or why the token was quarantined.
        request_id: Finch-Request-Id of the exchange.
        sealed: The token of a quarantined attempt.
        notified: False while the application's `on_connected` is pending, or the report of an
            interruption or of an ambiguous end.
    """

    attempt_id: str
    code_hash: bytes
    flow_hash: bytes | None = None
    bound_to: tuple[bytes, ...] = ()
    client_id: str
    customer_ids: tuple[str, ...]
    state: AttemptState = AttemptState.CLAIMED
    reference: str
    claimed_at: datetime
    leased_until: datetime
    settled_at: datetime | None = None
    customer_id: str | None = None
    connection_id: str | None = None
    return_to: str | None = None
    reason: str | None = None
    request_id: str | None = None
    sealed: SealedToken | None = None
    notified: bool = True

    def settled(self, state: AttemptState, *, at: datetime, **changes: Any) -> Attempt:
        """This attempt, ended."""
        return dataclasses.replace(self, state=state, settled_at=at, **changes)

    def repeats(self, hashes: tuple[bytes, ...]) -> bool:
        """Whether a request with these *hashes* comes from the same flow or customer."""
        return not set(hashes).isdisjoint(self.bound_to)

    def replaces(self, current: Attempt) -> bool:
        """
        Whether it may be written over the *current* attempt of the same code.

        An attempt with a token is always written; an end without one only over a claim, so that a
        late "failed" never hides what another process already knows.
        """
        if self.attempt_id != current.attempt_id:
            return False
        if current.state is AttemptState.STORED and self.state is AttemptState.QUARANTINED:
            # An operator completed it; a copy that was read before must not undo that.
            return False
        if current.state is self.state and self.notified and not current.notified:
            return True
        return current.state is AttemptState.CLAIMED or self.state.holds_token

    @property
    def pending(self) -> bool:
        """Whether it has no end yet, or its end has not been reported."""
        if self.state is AttemptState.CLAIMED:
            return True
        return not self.notified and self.state is not AttemptState.QUARANTINED

    def forgettable(self, *, settled_before: datetime) -> bool:
        """Whether it ended before that instant and nothing of it is pending."""
        if self.settled_at is None or not self.notified:
            return False
        if self.state in (AttemptState.CLAIMED, AttemptState.QUARANTINED):
            return False
        return self.settled_at < settled_before

    def as_row(self) -> Row:
        """The record as plain columns; instants are in UTC."""
        row: dict[str, Any] = dict(zip(_COLUMNS, _values(self), strict=True))
        row |= {name: at.astimezone(UTC) for name in _INSTANTS if (at := row[name])}
        row["bound_to"] = b"".join(self.bound_to)
        row["customer_ids"] = json.dumps(self.customer_ids, ensure_ascii=False)
        row["state"] = self.state.value
        row["sealed"] = self.sealed.text if self.sealed else None
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Attempt:
        """
        The record that `as_row` described. An instant without a time zone is in UTC.

        Raises:
            StorageUnavailable: ``unreadable``: a later version wrote it, or it was altered.
        """
        with suppress(*UNREADABLE):
            values = {name: row[name] for name in _COLUMNS}
            # Raises unless each is a text that can be encoded.
            "".join(values[name] for name in _TEXTS).encode()
            bound_to = bytes(row["bound_to"])
            values["code_hash"] = bytes(row["code_hash"])
            values["flow_hash"] = None if row["flow_hash"] is None else bytes(row["flow_hash"])
            values["bound_to"] = tuple(
                bound_to[i : i + _HASH_BYTES] for i in range(0, len(bound_to), _HASH_BYTES)
            )
            values["customer_ids"] = tuple(json.loads(row["customer_ids"]))
            values["state"] = AttemptState(row["state"])
            values["sealed"] = SealedToken(text=row["sealed"]) if row["sealed"] else None
            values["notified"] = bool(row["notified"])
            for name in _INSTANTS:
                if (at := row[name]) is not None:
                    values[name] = at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
            return cls(**values)
        # Not inside an except block: the error beneath quotes the row.
        raise StorageUnavailable("unreadable")


#: Read once, because `fields` searches the class at each call.
_COLUMNS = tuple(each.name for each in dataclasses.fields(Attempt))
_values = attrgetter(*_COLUMNS)


class End(TypedDict):
    """What changes in an attempt once its customer is known: it is bound to one flow alone."""

    flow_hash: bytes | None
    bound_to: tuple[bytes, ...]
    return_to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """
    A claimed attempt, with what its exchange needs.

    Attributes:
        redirect_uri: The one that opened Connect; None in the embedded flow.
        ends: For each customer whose code it may be.
    """

    attempt: Attempt
    redirect_uri: str | None
    ends: Mapping[str, End]


def places(flow_hash: bytes) -> tuple[bytes, ...]:
    """
    What a flow's codes can have as their `flow_hash`, in the order in which they are taken.

    A claim takes a free one, so a flow has at most five codes, whatever number of processes
    claim at once. The flow's own hash is the last, because a code with the flow's state, and the
    code that ends the flow, need it.
    """
    numbered = range(1, CODES_PER_FLOW)
    return (*(hashlib.sha256(flow_hash + bytes([n])).digest() for n in numbered), flow_hash)


def outcome_of(
    attempt: Attempt, *, spooled: bool = False, cookies: Sequence[SetCookie] = ()
) -> Connected | Finishing | Invalid | Failed:
    """
    What the person who brought the code is shown; the only place where that is decided.

    The first response, a duplicate's, a reload's and that of a spooled token all come from here,
    so each equals the first. *spooled*: its token waits in the spool.
    """
    common: dict[str, Any] = {
        "reference": attempt.reference,
        "return_to": attempt.return_to or "/",
        "request_id": attempt.request_id,
        "cookies": tuple(cookies),
    }
    match attempt.state:
        case AttemptState.CLAIMED:
            return Finishing(**common, spooled=False)
        case AttemptState.QUARANTINED:
            return Invalid(**common, reason="customer_unconfirmed")
        case AttemptState.STORED if spooled:
            return Finishing(**common, spooled=True)
        case AttemptState.STORED:
            return Connected(
                **common,
                connection_id=attempt.connection_id or "",
                customer_id=attempt.customer_id or "",
            )
    return Failed(**common, reason=attempt.reason or "ambiguous")
