"""
The pictures of the manual, taken anew: ``python docs/screenshots.py``.

A fake Finch, the page of the examples and the pages themselves, each shown in light and dark by a
Chromium without a window. CHROMIUM names the browser, where it is not `chromium` on the PATH.

`screenshots.json` has the hash of each page that was shown. `tests/docs/test_diagrams.py` compares
it with the page of today.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from finch_middleware import (
    CallbackRequest,
    Customer,
    Failed,
    FinchConnect,
    Finishing,
    Invalid,
    Outcome,
)
from finch_middleware.cli.serving import listen, serve
from finch_middleware.records import Entity
from finch_middleware.testing import FakeFinch, add_connection, make_finch

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

sys.path.append(str(Path(__file__).parents[1] / "examples"))  # the page that they share

from shared import settings_page

IMAGES = Path(__file__).parent / "images"
HASHES = Path(__file__).parent / "screenshots.json"
ORIGIN = "http://localhost:5000"
_SIZE = (800, 680)
_SECONDS = 60
_CONNECTED = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)

#: Nonces, and the session and state of a flow.
_DIFFERENT = re.compile(r' nonce="[^"]*"|<input type="hidden"[^>]*>')
_REFERENCE, _HOME = "K7QDX2MA", "/settings"
_BROWSER = CallbackRequest(headers={"Sec-Fetch-Mode": "navigate"})


def main() -> None:
    """Take them all."""
    IMAGES.mkdir(exist_ok=True)
    pages = shown_pages()
    with listen(0) as listening, serve(_application(pages), listening):
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        for name in pages:
            for suffix, scheme in (("", 1), ("-dark", 0)):
                _take(f"{address}/{name}", scheme=scheme, into=IMAGES / f"{name}{suffix}.png")
    HASHES.write_text(json.dumps(hashes_of(pages), indent=2) + "\n", encoding="utf-8")


def shown_pages() -> dict[str, Response]:
    """The pages that the manual shows, by the name of their picture."""
    with FakeFinch() as fake:
        return {**_of_a_flow(fake), **_of_the_library(fake)}


def hashes_of(pages: Mapping[str, Response]) -> dict[str, str]:
    """The SHA-256 of each page, without what differs at each call."""
    texts = {name: _DIFFERENT.sub("", page.get_data(as_text=True)) for name, page in pages.items()}
    return {name: hashlib.sha256(texts[name].encode()).hexdigest() for name in sorted(texts)}


def _finch(fake: FakeFinch) -> FinchConnect:
    return make_finch(
        fake,
        redirect_uri=f"{ORIGIN}/finch/callback",
        begin_path="/connect/payroll",
        invite_path="/payroll/invitation",
        customer_of=lambda request: Customer(id="acme", name="Acme Inc."),
        brand="Acme Payroll",
    )


def _of_a_flow(fake: FakeFinch) -> dict[str, Response]:
    """Finch Connect as the fake shows it, and an application when it is done."""
    finch = _finch(fake)
    location = finch.begin(customer_id="acme", customer_name="Acme Inc.").headers["Location"]
    with urllib.request.urlopen(location, timeout=_SECONDS) as opened:
        connect = Response(opened.read(), mimetype="text/html")
    added = add_connection(finch, customer_id="acme", connection_id="c-1", obtained_at=_CONNECTED)
    connection = dataclasses.replace(
        added,
        entities=(Entity(id="e-1", name="Main"), Entity(id="e-2", name="West", status="reauth")),
    )
    acme = Customer(id="acme", name="Acme Inc.")
    application = settings_page(acme, connections=[connection], hint=None, csrf_token="")
    return {"fake_connect": connect, "application": Response(application)}


def _of_the_library(fake: FakeFinch) -> dict[str, Response]:
    """The pages that begin, and three that end."""
    finch = _finch(fake)
    outcomes: dict[str, Outcome] = {
        "finishing": Finishing(reference=_REFERENCE, return_to=_HOME, spooled=False),
        "invalid": Invalid(reference=_REFERENCE, return_to=_HOME, reason="no_ticket"),
        "failed": Failed(reference=_REFERENCE, return_to=_HOME, reason="unreachable"),
    }
    ended = {name: finch.respond(outcome, _BROWSER) for name, outcome in outcomes.items()}
    url = finch.invitation_url(customer_id="acme", customer_name="Acme Inc.")
    invited = finch.invite_page(CallbackRequest(query_string=url.partition("?")[2]))
    return {"begin": finch.begin_page(_BROWSER), "invitation": invited, **ended}


def _application(pages: Mapping[str, Response]) -> WSGIApplication:
    """The pages, each with its own policy and nothing else."""

    @Request.application
    def application(request: Request) -> Response:
        page = pages.get(request.path[1:], Response(status=404))
        policy = page.headers.get("Content-Security-Policy", "default-src 'unsafe-inline'")
        shown = Response(page.get_data(), mimetype="text/html")
        shown.headers["Content-Security-Policy"] = policy
        return shown

    return application


def _take(address: str, *, scheme: int, into: Path) -> None:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no chromium on the PATH: install it, or name one with CHROMIUM")
    width, height = _SIZE
    with tempfile.TemporaryDirectory() as profile:
        command = [chromium, "--headless", "--disable-gpu", "--hide-scrollbars", "--no-sandbox"]
        command += [f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        command += [f"--blink-settings=preferredColorScheme={scheme}"]
        command += [f"--screenshot={into}", address]
        subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)


if __name__ == "__main__":
    main()
