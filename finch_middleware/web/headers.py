"""The bare building of answers: what all carry, whatever they say."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping, Sequence

from werkzeug.datastructures import Headers
from werkzeug.http import dump_cookie

from finch_middleware.outcomes import Response, SetCookie
from finch_middleware.web.request import CallbackRequest

ALLOW = "GET, HEAD, POST, OPTIONS"


def guarded(
    response: Response, *, nonce: str | None = None, form_action: str = "'none'"
) -> Response:
    """*response* itself: kept by no cache, framed by no page, and running nothing but one style."""
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
    """On to *location*."""
    # 303: a callback that was POSTed is not POSTed again to the application.
    response = guarded(Response(status=303, mimetype="text/plain"))
    response.headers["Location"] = location
    return response


def as_json(content: Mapping[str, str | None], *, status: int = 200) -> Response:
    """*content* for a script."""
    return guarded(Response(json.dumps(content), status=status, mimetype="application/json"))


def no_content() -> Response:
    """What OPTIONS gets."""
    response = guarded(Response(status=204))
    del response.headers["Content-Type"]  # RFC 9110 section 8.3: there is no content to describe
    response.headers["Allow"] = ALLOW
    return response


def with_cors(
    response: Response, request: CallbackRequest, *, spa_origins: Collection[str]
) -> Response:
    """*response* itself, for a page of one of *spa_origins* to read, as the Fetch standard says."""
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
    """A copy of *response* that sets these cookies; a value of None removes its cookie."""
    # An application may answer everybody with one object, and cookies are one visitor's.
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
            sync_expires=False,  # Max-Age alone: the person's clock may be wrong
        )
        response.headers.add("Set-Cookie", header)
    return response
