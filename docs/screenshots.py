"""
The pictures of the manual, taken anew: ``python docs/screenshots.py``.

A fake Finch, the page of the examples and the pages themselves, each shown in light and dark by a
Chromium without a window. CHROMIUM names the browser, where it is not `chromium` on the PATH.

Each picture contains the hash of the page that it shows. `tests/docs/test_diagrams.py` compares it
with the page of today.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import urllib.request
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from werkzeug.serving import WSGIRequestHandler, make_server
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
from finch_middleware.crypto.keys import new_key
from finch_middleware.records import Entity
from finch_middleware.testing import FakeFinch, add_connection

sys.path.append(str(Path(__file__).parents[1] / "examples"))  # the page that they share

from shared import settings_page

IMAGES = Path(__file__).parent / "images"
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
    with _served(pages) as address:
        for name, page in pages.items():
            for suffix, scheme in (("", 1), ("-dark", 0)):
                picture = IMAGES / f"{name}{suffix}.png"
                _take(f"{address}/{name}", scheme=scheme, into=picture)
                picture.write_bytes(_labelled(picture.read_bytes(), hash_of(page)))


def shown_pages() -> dict[str, Response]:
    """The pages that the manual shows, by the name of their picture."""
    with FakeFinch() as fake:
        return {**_of_a_flow(fake), **_of_the_library(fake)}


def hash_of(page: Response) -> str:
    """The SHA-256 of *page*, without what differs at each call."""
    text = _DIFFERENT.sub("", page.get_data(as_text=True))
    return hashlib.sha256(text.encode()).hexdigest()


def hash_in(picture: bytes) -> str:
    """The hash of the page that a picture shows; empty where it has none."""
    found = re.search(rb"tEXtpage\0([0-9a-f]{64})", picture)
    return found[1].decode() if found else ""


def _labelled(picture: bytes, page_hash: str) -> bytes:
    """The PNG with a text chunk before its last chunk, which is always 12 bytes."""
    chunk = b"tEXtpage\0" + page_hash.encode()
    framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return picture[:-12] + framed + picture[-12:]


def _finch(fake: FakeFinch) -> FinchConnect:
    return FinchConnect(
        client_id=fake.client_id,
        client_secret=fake.client_secret,
        redirect_uri=f"{ORIGIN}/finch/callback",
        products=["company", "directory"],
        storage="memory://",
        key=new_key("k1"),
        api_url=fake.api_url,
        connect_origin=fake.connect_origin,
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


@contextmanager
def _served(pages: Mapping[str, Response]) -> Iterator[str]:
    """The pages at addresses of this machine, each with its own policy and nothing else."""

    @Request.application
    def application(request: Request) -> Response:
        page = pages.get(request.path[1:], Response(status=404))
        policy = page.headers.get("Content-Security-Policy", "default-src 'unsafe-inline'")
        shown = Response(page.get_data(), mimetype="text/html")
        shown.headers["Content-Security-Policy"] = policy
        return shown

    server = make_server("127.0.0.1", 0, application, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        pass


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
