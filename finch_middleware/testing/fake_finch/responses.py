"""The form of Finch's responses."""

from __future__ import annotations

import json
from typing import Any

from werkzeug.wrappers import Request, Response

#: Finch's names for HTTP statuses, unless a call has a more specific one.
NAMES = {
    400: "bad_request",
    401: "invalid_client_error",
    402: "payment_required",
    403: "insufficient_scope_error",
    404: "not_found_error",
    405: "method_not_allowed",
    429: "rate_limit_exceeded_error",
    500: "server_error",
    502: "bad_gateway_error",
}


def json_response(fields: object, *, status: int = 200) -> Response:
    body = json.dumps(fields, default=str)
    return Response(body, status=status, content_type="application/json")


def error_response(
    status: int,
    *,
    name: str | None = None,
    message: str | None = None,
    finch_code: str | None = None,
    **more: object,
) -> Response:
    """Finch's error body: ``{code, name, message, finch_code?, …}``."""
    name = name or NAMES.get(status, "error")
    body: dict[str, object] = {"code": status, "name": name, "message": message or name}
    if finch_code is not None:
        body["finch_code"] = finch_code
    return json_response(body | more, status=status)


class Refused(Exception):
    """Finch refuses a request; the response states why."""

    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__(response.status)


def malformed(message: str, *, name: str = "bad_request") -> Refused:
    """The refusal of a request that does not follow the documentation."""
    code = "invalid_request" if name == "bad_request" else None
    return Refused(error_response(400, name=name, message=message, finch_code=code))


def authentication_error(finch_code: str) -> Refused:
    """The refusal where a person has to act at the provider."""
    name = "authentication_error"
    return Refused(error_response(401, name=name, finch_code=finch_code))


def json_object(request: Request) -> dict[str, Any]:
    """The JSON object in the body of a request, or Refused."""
    if request.mimetype != "application/json":
        raise malformed("Content-Type must be application/json")
    try:
        fields = json.loads(request.get_data())
    except (ValueError, RecursionError):
        raise malformed("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise malformed("the body is not an object")
    return fields
