"""How a callback can end: the closed set of Outcomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from werkzeug.wrappers import Response as Response

from finch_middleware.secret import Secret


class Retry(StrEnum):
    """What the person can do: nothing, load the same address again, or start a new flow."""

    NONE = "none"
    RELOAD = "reload"
    RESTART = "restart"


#: Reason of an Invalid: the HTTP status of its page, and what helps.
INVALID_REASONS: dict[str, tuple[int, Retry]] = {
    "malformed": (400, Retry.RESTART),
    "method": (405, Retry.NONE),
    "prefetch": (503, Retry.RELOAD),
    "length_required": (411, Retry.RELOAD),
    "too_large": (413, Retry.RELOAD),
    "body": (400, Retry.RELOAD),
    "cross_site": (403, Retry.RESTART),
    "unsolicited": (400, Retry.NONE),
    "no_ticket": (400, Retry.RESTART),
    "no_state": (400, Retry.RESTART),
    "state_mismatch": (400, Retry.RESTART),
    "expired": (400, Retry.RESTART),
    "signed_out": (400, Retry.RESTART),
    "other_customer": (400, Retry.RESTART),
    "already_used": (400, Retry.RESTART),
    "code_mismatch": (400, Retry.RESTART),
    "customer_unconfirmed": (403, Retry.RESTART),
    "invitation_unreadable": (400, Retry.NONE),
    "invitation_expired": (410, Retry.NONE),
    "invitation_used": (410, Retry.NONE),
}

#: Reason of a Failed: the HTTP status of its page, and what helps.
FAILED_REASONS: dict[str, tuple[int, Retry]] = {
    "storage_unavailable": (503, Retry.RELOAD),
    "spool_unavailable": (503, Retry.RELOAD),
    "key_unavailable": (503, Retry.RELOAD),
    "unreachable": (502, Retry.RELOAD),
    "throttled": (503, Retry.RELOAD),
    "payment_required": (503, Retry.RELOAD),
    "client_rejected": (500, Retry.RELOAD),
    "code_rejected": (400, Retry.RESTART),
    "bad_response": (502, Retry.RESTART),
    "ambiguous": (502, Retry.RESTART),
    "interrupted": (502, Retry.RESTART),
    "token_lost": (500, Retry.RESTART),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCookie:
    """A cookie that the response sets, or removes where its value is None."""

    name: str
    value: Secret | None
    max_age: int
    secure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """
    What every Outcome but Repeated carries.

    Attributes:
        reference: Shown to the person and written to the log; a hint to find the line by.
        return_to: Where the person is sent: a local path, or a page of one of `spa_origins`.
        cookies: What the response has to set, whoever makes it.
        request_id: Finch-Request-Id of the exchange, if any: for the log, and for Finch's
            support. No page shows it.
    """

    reference: str
    return_to: str
    request_id: str | None = field(default=None, compare=False)
    cookies: tuple[SetCookie, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected(Ending):
    """The token is stored, encrypted and durable."""

    connection_id: str
    customer_id: str

    status = 200
    retry = Retry.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Finishing(Ending):
    """
    Not stored yet, but nothing is lost.

    Attributes:
        spooled: The token waits in the spool for the storage. Otherwise another request
            is exchanging the same code, and a reload gets its outcome.
    """

    spooled: bool

    status = 202

    @property
    def retry(self) -> Retry:
        return Retry.NONE if self.spooled else Retry.RELOAD


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined(Ending):
    """
    The employer ended Finch Connect without connecting.

    Attributes:
        reason: ``access_denied``, ``closed`` or ``error``; never text from the request.
    """

    reason: str

    status = 200
    retry = Retry.RESTART


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalid(Ending):
    """A callback that cannot be trusted. The reason is a key of INVALID_REASONS."""

    reason: str

    def __post_init__(self) -> None:
        INVALID_REASONS[self.reason]

    @property
    def status(self) -> int:
        return INVALID_REASONS[self.reason][0]

    @property
    def retry(self) -> Retry:
        return INVALID_REASONS[self.reason][1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Ending):
    """
    Finch or the storage failed. The reason is a key of FAILED_REASONS.

    Attributes:
        retry_after: Seconds to wait before a reload, where waiting helps.
    """

    reason: str
    retry_after: int | None = None

    def __post_init__(self) -> None:
        FAILED_REASONS[self.reason]

    @property
    def status(self) -> int:
        return FAILED_REASONS[self.reason][0]

    @property
    def retry(self) -> Retry:
        return FAILED_REASONS[self.reason][1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """A reload or duplicate of a finished request. The response equals the first one."""

    first: Connected | Invalid | Failed
    cookies: tuple[SetCookie, ...] = field(default=(), repr=False, compare=False)

    @property
    def reference(self) -> str:
        return self.first.reference

    @property
    def return_to(self) -> str:
        return self.first.return_to


Outcome = Connected | Repeated | Finishing | Declined | Invalid | Failed
