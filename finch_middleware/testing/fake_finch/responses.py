"""The form of Finch's responses."""

from __future__ import annotations

import json

from werkzeug.wrappers import Response

#: Finch's names for HTTP statuses, unless a call has a more specific one.
NAMES = {
    400: "bad_request",
    401: "invalid_client_error",
    402: "payment_required",
    404: "not_found_error",
    405: "method_not_allowed",
    429: "rate_limit_exceeded_error",
    500: "server_error",
    502: "bad_gateway_error",
}


def json_response(fields: object, *, status: int = 200) -> Response:
    """*fields* as JSON."""
    return Response(json.dumps(fields), status=status, content_type="application/json")


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
