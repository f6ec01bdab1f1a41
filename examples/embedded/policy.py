"""What the page of the embedded flow may load: a Content-Security-Policy to copy."""

from __future__ import annotations

import os
from urllib.parse import urljoin

from werkzeug.wrappers import Response

SDK_URL = os.environ.get("FINCH_SDK_URL", "https://prod-cdn.tryfinch.com/latest/connect.js")


def restrict(response: Response) -> Response:
    """Finch's script and ours, and Finch Connect in a frame or, by the form, in its place."""
    connect = os.environ.get("FINCH_CONNECT_ORIGIN") or "https://connect.tryfinch.com"
    response.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'self' {urljoin(SDK_URL, '/')}; connect-src 'self'; "
        f"frame-src {connect}; form-action 'self' {connect}; base-uri 'none'; "
        "style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
    )
    return response
