"""
Thousands of callbacks through real WSGI servers: ``python -m benchmarks.servers``.

gunicorn with its application preloaded and forked, waitress, granian; each behind many browsers
at once. Every person has a customer, a code and a token of their own: in the end each customer
has that one connection, Finch was asked once a code, and no worker holds more files than before.
"""

from __future__ import annotations

import argparse
import http.client
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from werkzeug.wrappers import Request, Response

from finch_middleware import FinchConnect, FinchMiddleware
from finch_middleware.crypto.keys import new_key
from finch_middleware.storage.sql import dialects
from finch_middleware.testing.fake_finch import FakeFinch
from tests.processes import free_port

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_HERE = Path(__file__).resolve().parent.parent
_BROWSERS = 32
_PATIENCE_SECONDS = 240
# What a worker may open beyond what it held half-way: two connections to SQLite, of two files and
# a log each, because its threads do not all meet in the first half.
_FILES_MORE = 6

#: Server: its command line behind the interpreter's folder; {port} is filled in.
SERVERS = {
    "gunicorn": (
        "gunicorn --preload --workers 4 --threads 8 --bind 127.0.0.1:{port} --log-level critical "
        "benchmarks.servers:application()"
    ),
    "waitress": (
        "waitress-serve --listen=127.0.0.1:{port} --threads=8 --call benchmarks.servers:application"
    ),
    "granian": (
        "granian --interface wsgi --factory --workers 2 --blocking-threads 8 --no-log "
        "--host 127.0.0.1 --port {port} benchmarks.servers:application"
    ),
}


# -- what the servers serve ------------------------------------------------------------------


def application() -> WSGIApplication:
    """An application whose every visitor is the customer that the query names."""
    logging.disable(logging.CRITICAL)  # a server's own warnings, too
    # A machine that is busy with something else is no fault.
    dialects.PATIENCE_SECONDS = _PATIENCE_SECONDS
    finch = FinchConnect.from_env()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        answer = Response("the application")
        if request.path == "/connect":
            customer_id = request.args["customer"]
            answer = finch.begin(
                customer_id=customer_id,
                customer_name="Acme",
                request=request,
                return_to=f"/of/{customer_id}",
            )
        return answer(environ, start_response)

    return FinchMiddleware(app, finch)


# -- the browsers ----------------------------------------------------------------------------


@dataclass
class Figures:
    """What a run saw; `faults` is empty where every promise was kept."""

    server: str
    seconds: float = 0
    callbacks: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    files: list[list[int]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The figures, for people."""
        answers = ", ".join(f"{word} {n}" for word, n in self.answers.most_common())
        files = " → ".join(" ".join(map(str, counts)) for counts in self.files)
        return [
            f"{self.server}: {self.callbacks} callbacks in {self.seconds:.1f} s",
            f"  answers: {answers}",
            f"  open files of its processes, by quarters: {files}",
            f"  faults: {len(self.faults)}",
            *(f"    {fault}" for fault in self.faults[:20]),
        ]


class Browser:
    """One person's: its cookies, and nobody else's."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cookies: dict[str, str] = {}

    def request(self, method: str, path: str) -> tuple[int, str]:
        """Status and Location of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        sent = {"Cookie": cookies, "Sec-Fetch-Mode": "navigate", "Host": "localhost"}
        try:
            connection.request(method, path, headers=sent)
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
        for header in answer.headers.get_all("Set-Cookie") or ():
            name, _, rest = header.partition("=")
            self._cookies[name] = rest.partition(";")[0]
        return answer.status, answer.headers["Location"] or ""


class Run:
    """Callbacks through one server."""

    def __init__(self, server: str, *, fake: FakeFinch, port: int, finch: FinchConnect) -> None:
        self.figures = Figures(server)
        self._fake = fake
        self._port = port
        self._finch = finch

    def callbacks(self, numbers: Sequence[int]) -> None:
        """One person for each number, many at once."""
        with ThreadPoolExecutor(_BROWSERS) as pool:
            for fault in pool.map(self._connect, numbers):
                if fault:
                    self.figures.faults.append(fault)
        self.figures.callbacks += len(numbers)

    def account(self) -> None:
        """Hold what stands against Finch's own ledger."""
        for issued in self._fake.ledger.codes:
            found = self._finch.connections.for_customer(issued.customer_id)
            held = [(each.connection_id, each.access_token.reveal()) for each in found]
            if held != [(issued.connection_id, token) for token in issued.minted]:
                self.figures.faults.append(f"{issued.customer_id} has not exactly its connection")
            if issued.presented != 1:
                self.figures.faults.append(f"a code was presented {issued.presented} times")
        if self.holds_more():
            self.figures.faults.append("a worker holds more files than half-way")

    def holds_more(self) -> bool:
        """Whether a process holds more files than half-way, or there is another process."""
        files = self.figures.files
        halfway, end = files[len(files) // 2 - 1], files[-1]
        return len(files) > 2 and (
            len(halfway) != len(end)
            or any(after > before + _FILES_MORE for before, after in zip(halfway, end, strict=True))
        )

    def _connect(self, number: int) -> str | None:
        """What was wrong with this person's way, or None."""
        customer_id = f"{self.figures.server}-{number}"
        browser = Browser(self._port)
        status, location = browser.request("POST", f"/connect?customer={customer_id}")
        if status != 303:
            return f"begin answered {status}"
        callback = urlsplit(self._fake.allow(location))
        status, location = browser.request("GET", f"{callback.path}?{callback.query}")
        self.figures.answers[
            f"{status} {location.partition('&finch_ref=')[0].partition('?')[2]}"
        ] += 1
        if status != 303 or not location.startswith(f"/of/{customer_id}?finch=connected"):
            return f"the callback answered {status}"
        return None


def measured(server: str, *, count: int, quarters: int = 4) -> Figures:
    """The figures of one run."""
    with FakeFinch() as fake, tempfile.TemporaryDirectory(prefix="finch-servers-") as folder:
        port = free_port()
        environ = _environ(fake, folder=folder, port=port)
        run = Run(server, fake=fake, port=port, finch=FinchConnect.from_env(environ))
        with _serving(server, port=port, environ=environ) as pid:
            began = time.monotonic()
            for quarter in range(quarters):
                run.callbacks(range(quarter * count // quarters, (quarter + 1) * count // quarters))
                run.figures.files.append(_files(pid))
            # A server closes what a browser has closed a little later.
            until = time.monotonic() + _PATIENCE_SECONDS
            while run.holds_more() and time.monotonic() < until:
                time.sleep(0.05)
                run.figures.files[-1] = _files(pid)
            run.figures.seconds = time.monotonic() - began
        run.account()
    return run.figures


def _environ(fake: FakeFinch, *, folder: str, port: int) -> dict[str, str]:
    return {
        **os.environ,
        "FINCH_CLIENT_ID": fake.client_id,
        "FINCH_CLIENT_SECRET": fake.client_secret,
        "FINCH_REDIRECT_URI": f"http://localhost:{port}/finch/callback",
        "FINCH_PRODUCTS": "company",
        "FINCH_STORAGE_URL": f"sqlite:///{folder}/finch.db",
        "FINCH_KEY": new_key("k1"),
        "FINCH_API_URL": fake.api_url,
        "FINCH_CONNECT_ORIGIN": fake.connect_origin,
    }


@contextmanager
def _serving(server: str, *, port: int, environ: dict[str, str]) -> Iterator[int]:
    """The server, listening; its process id."""
    program, *given = SERVERS[server].format(port=port).split()
    command = [str(Path(sys.executable).parent / program), *given]
    with subprocess.Popen(command, env=environ, cwd=_HERE, stdout=subprocess.DEVNULL) as process:
        try:
            _await(port, process)
            yield process.pid
        finally:
            process.terminate()
            process.wait(_PATIENCE_SECONDS)


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            Browser(port).request("GET", "/")
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the server does not answer")


def _files(pid: int) -> list[int]:
    """How many files each process of the server has open."""
    return [len(os.listdir(f"/proc/{each}/fd")) for each in _family(pid)]


def _family(pid: int) -> list[int]:
    """That process and all that it started, itself and through others."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # a thread that has ended
            for child in (task / "children").read_text().split():
                found += _family(int(child))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--server", choices=sorted(SERVERS), action="append")
    parser.add_argument("--count", type=int, default=2000, help="callbacks a server")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    faults = 0
    for server in given.server or SERVERS:
        figures = measured(server, count=given.count)
        print("\n".join(figures.lines()), flush=True)
        faults += len(figures.faults)
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
