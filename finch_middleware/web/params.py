"""Reads the code, the state or the error of a callback request, strictly."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from finch_middleware.errors import ReturnFault
from finch_middleware.secret import Secret
from finch_middleware.tickets import flow_id_of
from finch_middleware.web.request import CallbackRequest

QUERY_LIMIT_BYTES = 4 * 1024
PARAMETERS_LIMIT = 20

# RFC 6749, appendix A.11, limits a code to visible ASCII; Finch's are UUIDs.
_CODE = re.compile(r"[\x21-\x7e]{1,512}")
#: The form of a ticket's state: 16 random bytes in base64url.
_STATE = re.compile(r"[A-Za-z0-9_-]{22}")
# A browser escapes control characters and 8-bit bytes; escaped controls are refused as well.
_FORM = re.compile(r"(?:[!-$&-~]|%(?:[2-689A-Fa-f][0-9A-Fa-f]|7[0-9A-Ea-e]))*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# In any of these headers, either word shows that no person has opened the page yet.
_PURPOSES = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
_EARLY = re.compile("prefetch|preview", re.IGNORECASE)
_ONCE = ("code", "state", "error")
_DECLINED = {None: "closed", "access_denied": "access_denied"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackParams:
    """
    The parameters of a callback request. None of them is trusted yet.

    Attributes:
        flow_id: Of the flow that the state names; None without a state of a ticket's form.
        foreign_state: There was a state, but not in the form of a ticket's state.
        declined: Why there is no code: ``access_denied``, ``closed`` or ``error``.
    """

    code: Secret | None = field(default=None, repr=False)
    flow_id: str | None = None
    foreign_state: bool = False
    declined: str = "closed"


def parse_callback(request: CallbackRequest) -> CallbackParams:
    """
    The parameters of *request*.

    Raises:
        ReturnFault: It cannot be a callback, or a parameter is repeated, contradictory or damaged.
    """
    if request.method not in ("GET", "POST"):
        raise ReturnFault("method")
    if any(_EARLY.search(request.headers.get(name, "")) for name in _PURPOSES):
        raise ReturnFault("prefetch")
    try:
        return _read_parameters(request)
    except ReturnFault as fault:
        reason = fault.reason
    # A new error, because the frames of the first one hold the parameters.
    raise ReturnFault(reason)


def _read_parameters(request: CallbackRequest) -> CallbackParams:
    pairs = _parse_form(request.query_string)
    if request.method == "POST":
        pairs += _parse_body(request)
    parameters = _unrepeated(pairs, once=_ONCE)
    code, state, error = map(parameters.get, _ONCE)
    if code is not None and (error is not None or not _CODE.fullmatch(code)):
        raise ReturnFault("malformed")
    ours = state is not None and _STATE.fullmatch(state) is not None
    return CallbackParams(
        # One of our words, because a page shows nothing of the request.
        declined=_DECLINED.get(error, "error"),
        code=Secret(code) if code is not None else None,
        flow_id=flow_id_of(state) if state is not None and ours else None,
        foreign_state=state is not None and not ours,
    )


def parse_query(request: CallbackRequest, *, once: str) -> dict[str, str]:
    """
    The parameters of the query, in which *once* is not repeated.

    Raises:
        ReturnFault: It is repeated, or the query is damaged.
    """
    return _unrepeated(_parse_form(request.query_string), once=(once,))


def _unrepeated(pairs: list[tuple[str, str]], *, once: tuple[str, ...]) -> dict[str, str]:
    names = [name for name, _ in pairs]
    if len(names) > PARAMETERS_LIMIT or any(names.count(name) > 1 for name in once):
        raise ReturnFault("malformed")
    return dict(pairs)


def _parse_body(request: CallbackRequest) -> list[tuple[str, str]]:
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return _parse_form(request.body.decode("latin-1"))
    if kind == "application/json":
        return _parse_json(request.body)
    if request.headers.get("Content-Length", "0") == "0" and not kind:
        return []
    raise ReturnFault("body")


def _parse_form(text: str) -> list[tuple[str, str]]:
    """Pairs of ``application/x-www-form-urlencoded``; only ``&`` separates."""
    if len(text) > QUERY_LIMIT_BYTES or not _FORM.fullmatch(text):
        raise ReturnFault("malformed")
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise ReturnFault("malformed") from None


def _parse_json(body: bytes) -> list[tuple[str, str]]:
    """The members of a JSON object. A null counts as absent: the SDK's ``state`` may be null."""
    try:
        members = json.loads(body.decode(), object_pairs_hook=_Members)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, _Members):
        raise ReturnFault("body")
    names = [name for name, _ in members]
    if any(names.count(name) > 1 for name in _ONCE):
        raise ReturnFault("malformed")
    return [(name, _check_text(name, value)) for name, value in members if value is not None]


class _Members(tuple[tuple[str, object], ...]):
    """All members of a JSON object; a dict would hide a repeated one."""

    __slots__ = ()


def _check_text(name: str, value: object) -> str:
    if name in _ONCE and not isinstance(value, str):
        raise ReturnFault("malformed")
    text = value if isinstance(value, str) else ""
    if _CONTROL.search(text):
        raise ReturnFault("malformed")
    return text
