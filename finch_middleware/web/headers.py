"""Builds responses, with the headers that every response has."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping, Sequence

from werkzeug.datastructures import Headers
from werkzeug.http import dump_cookie

from finch_middleware.outcomes import Response, SetCookie
from finch_middleware.web.request import CallbackRequest

ALLOW = "GET, HEAD, POST, OPTIONS"


def protect(
    response: Response, *, nonce: str | None = None, form_action: str = "'none'"
) -> Response:
    """Forbid caching, framing, and everything but one style; return *response*."""
    style = "'none'" if nonce is None else f"'nonce-{nonce}'"
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Content-Security-Policy"] = (
        f"default-src 'none'; style-src {style}; base-uri 'none'; "
        f"form-action {form_action}; frame-ancestors 'none'"
    )
    return response


def redirect(location: str) -> Response:
    """A redirect to *location*."""
    # 303 makes the browser use GET, also after a callback by POST.
    response = protect(Response(status=303, mimetype="text/plain"))
    response.headers["Location"] = location
    return response


def json_response(content: Mapping[str, str | None], *, status: int = 200) -> Response:
    """A JSON response for a script."""
    return protect(Response(json.dumps(content), status=status, mimetype="application/json"))


def no_content() -> Response:
    """The response to OPTIONS."""
    response = protect(Response(status=204))
    del response.headers["Content-Type"]  # RFC 9110 section 8.3: it describes content
    response.headers["Allow"] = ALLOW
    return response


def with_cors(
    response: Response, request: CallbackRequest, *, spa_origins: Collection[str]
) -> Response:
    """Let pages of *spa_origins* read *response*, as the Fetch standard asks; return it."""
    if not spa_origins:
        return response
    response.vary.add("Origin")
    if request.from_page_of(spa_origins):
        response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Access-Control-Expose-Headers"] = "Retry-After"
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = "POST"
            response.headers["Access-Control-Allow-Headers"] = "Content-Type"
            response.headers["Access-Control-Max-Age"] = "600"
    return response


def with_cookies(response: Response, cookies: Sequence[SetCookie]) -> Response:
    """A copy of *response* that sets these cookies; a value of None deletes its cookie."""
    # An application may return one object to all visitors, but cookies belong to one of them.
    response = copy.copy(response)
    response.headers = Headers(response.headers)
    for cookie in cookies:
        header = dump_cookie(
            cookie.name,
            "" if cookie.value is None else cookie.value.reveal(),
            max_age=0 if cookie.value is None else cookie.max_age,
            path="/",
            secure=cookie.secure,
            httponly=True,
            samesite="Lax",
            sync_expires=False,  # Max-Age is enough, and the person's clock may be wrong
        )
        response.headers.add("Set-Cookie", header)
    return response
