"""Finch's data about an employer, for the products and the entity that a token covers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from typing import Any

from werkzeug.wrappers import Request, Response

from finch_middleware.testing.fake_finch.accounts import Account
from finch_middleware.testing.fake_finch.employers import Employer, Fields, employer_of
from finch_middleware.testing.fake_finch.records import IssuedCode
from finch_middleware.testing.fake_finch.responses import (
    NAMES,
    Refused,
    authentication_error,
    error_response,
    json_object,
    json_response,
    malformed,
)

#: Of states in which a call gets no data. `error_permissions` has no documented response.
_CODES_OF_STATUS = {
    "reauth": "reauthenticate_user",
    "error_no_account_setup": "account_setup_required",
}
_SYNCING = ("pending", "processing")


def data_response(
    call: str, request: Request, *, granted: IssuedCode, account: Account
) -> Response:
    """The response to one data call, a key of `CALLS`, or Refused."""
    if call not in granted.products:
        raise Refused(error_response(403, message=f"the token does not cover {call}"))
    employer = _employer(request, account)
    return json_response(CALLS[call](request, employer))


def _employer(request: Request, account: Account) -> Employer:
    # Finch's SDK writes `entity_ids[]`.
    named = request.args.getlist("entity_ids[]") + request.args.getlist("entity_ids")
    known = account.entity_ids
    if len(named) > 1 or (not named and len(known) > 1):
        message = "entity_ids: name exactly one entity of this connection"
        raise malformed(message, name="invalid_request_error")
    chosen = named[0] if named else next(iter(known), "")
    if chosen not in known:
        raise malformed("entity_ids: no such entity", name="invalid_request_error")
    for status in (account.status, account.entity(chosen).status):
        if status in _SYNCING:
            # The first data is not there yet; Finch documents this for pay statements.
            fields = {"code": 202, "name": "accepted", "finch_code": "data_sync_in_progress"}
            again = fields | {"message": "Please check back later."}
            raise Refused(json_response(again, status=202))
        if code := _CODES_OF_STATUS.get(status):
            raise authentication_error(code)
    return employer_of(chosen)


def _directory(request: Request, employer: Employer) -> Fields:
    listed = [person.listed for person in employer.people.values()]
    offset, limit = _page(request.args, count=len(listed))
    return {
        "paging": {"count": len(listed), "offset": offset},
        "individuals": listed[offset : offset + limit],
    }


def _person(record: str, request: Request, employer: Employer) -> Fields:
    return _batch(request, "individual_id", lambda key, _: getattr(employer.people[key], record))


def _payment(request: Request, employer: Employer) -> list[Fields]:
    first, last = (_day(request, name) for name in ("start_date", "end_date"))
    payments = (payroll.payment for payroll in employer.payments.values())
    return [each for each in payments if first <= date.fromisoformat(each["pay_date"]) <= last]


def _pay_statement(request: Request, employer: Employer) -> Fields:
    def statements(payment_id: str, asked: Mapping[str, Any]) -> Fields:
        found = employer.payments[payment_id].statements
        offset, limit = _page(asked, count=len(found))
        return {
            "paging": {"count": len(found), "offset": offset},
            "pay_statements": found[offset : offset + limit],
        }

    return _batch(request, "payment_id", statements)


#: The product of a call, and what responds to it.
CALLS: Mapping[str, Callable[[Request, Employer], object]] = {
    "company": lambda _, employer: employer.company,
    "directory": _directory,
    "individual": partial(_person, "individual"),
    "employment": partial(_person, "employment"),
    "payment": _payment,
    "pay_statement": _pay_statement,
}


def _batch(
    request: Request, key: str, respond: Callable[[str, Mapping[str, Any]], Fields]
) -> Fields:
    """A response for each of the body's requests, each with a status of its own."""
    asked = json_object(request).get("requests")
    if not isinstance(asked, list) or not asked:
        raise malformed("requests: a list of one or more objects")
    responses = []
    for each in asked:
        if not isinstance(each, dict) or not isinstance(each.get(key), str):
            raise malformed(f"{key}: a string")
        try:
            found: Fields = {"code": 200, "body": respond(each[key], each)}
        except KeyError:
            body = {"code": 404, "name": NAMES[404], "message": f"no such {key}"}
            found = {"code": 404, "body": body}
        responses.append({key: each[key], **found})
    return {"responses": responses}


def _page(given: Mapping[str, Any], *, count: int) -> tuple[int, int]:
    try:
        offset, limit = int(given.get("offset", 0)), int(given.get("limit", count))
    except (TypeError, ValueError):
        raise malformed("offset and limit: whole numbers") from None
    if offset < 0 or limit < 0:
        raise malformed("offset and limit: not below 0")
    return offset, limit


def _day(request: Request, name: str) -> date:
    try:
        return date.fromisoformat(request.args.get(name, ""))
    except ValueError:
        raise malformed(f"{name}: a date, YYYY-MM-DD", name="invalid_request_error") from None
