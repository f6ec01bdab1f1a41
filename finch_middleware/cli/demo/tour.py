"""The steps of the demo, observed by a browser, in the fake Finch's records and in the database."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import click
import requests

from finch_middleware import Connection, FinchConnect
from finch_middleware.cli.demo.app import ACME, EMPLOYERS, GLOBEX, WEBHOOK_PATH, masked
from finch_middleware.testing.fake_finch import FakeFinch

_PRESENTED = "times Finch received this code"
_EXCHANGES = "requests to Finch's token endpoint"
_STORED = "stored connections"
_WIDTH = 100
_LABEL_WIDTH = 38
_PATIENCE_SECONDS = 60


class DemoFailed(Exception):
    """Something did not happen as promised; the text states what was observed."""


class Browser(requests.Session):
    """Keeps cookies and follows no redirect."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # no proxy and no .netrc of this machine
        # What is not a navigation gets JSON from the library instead of a page.
        self.headers.update({"Accept": "text/html", "Sec-Fetch-Mode": "navigate"})

    def open(
        self, url: str, *, form: dict[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> requests.Response:
        """Open *url*, or submit *form* to it; raises DemoFailed if there is no response."""
        method = "GET" if form is None else "POST"
        try:
            return self.request(
                method, url, data=form, headers=headers, timeout=15, allow_redirects=False
            )
        except requests.RequestException as error:
            failure = f"No response ({type(error).__name__}): {method} {url.partition('?')[0]}"
        # Outside of the except block: the error may quote the URL, with the code in it.
        raise DemoFailed(failure)

    def submit(self, page: requests.Response, path: str, **fields: str) -> requests.Response:
        """Submit the form of *page* that leads to *path*, with *fields* filled in."""
        hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
        filled = {name: unescape(value) for name, value in hidden}
        url, origin = urljoin(page.url, path), urljoin(page.url, "/").rstrip("/")
        return self.open(url, form=filled | fields, headers={"Origin": origin})


@dataclass(slots=True, kw_only=True)
class Tour:
    """Goes through the whole flow and prints each observation as soon as it is made."""

    application: str
    finch: FinchConnect
    fake: FakeFinch
    settings: Mapping[str, str]
    log: Path
    held: int = 0
    _steps: int = 0
    _failed: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Take every step, or raise DemoFailed after the first that is not as promised."""
        with Browser() as acme, Browser() as globex, Browser() as stranger:
            link = self._allow(acme, self._open_connect(acme))
            first = self._finish(acme, link)
            self._inspect_database(link)
            self._use_token(acme, stranger)
            self._repeat_callback(acme, link, first=first)
            self._forge_callback(globex, stranger)
            self._decline(globex)
            self._receive_webhook(acme, stranger)
            self._sign_in_again(acme)
            self._disconnect(acme, stranger)

    def _open_connect(self, browser: Browser) -> requests.Response:
        opened = browser.submit(browser.open(self.application), "/connect")
        customers = ", ".join(session.customer_id for session in self.fake.ledger.sessions)
        ticket, *attributes = opened.headers.get("Set-Cookie", "none=").split("; ")
        lasting = ", ".join(sorted(each for each in attributes if "Max-Age" not in each))
        with self._step(f'{EMPLOYERS[ACME]} clicks "Connect payroll"', opened):
            self._check_redirect(opened, f"{self.fake.connect_origin}/authorize")
            self._check("Finch opened a session for", customers, ACME)
            self._show("ticket, a cookie in this browser", ticket.partition("=")[0])
            self._check("its attributes", lasting, "HttpOnly, Path=/, SameSite=Lax")
            self._check(_STORED, len(self._rows()), 0)
        return browser.open(location(opened))

    def _allow(self, browser: Browser, page: requests.Response) -> str:
        allowed = browser.submit(page, "/authorize", decision="allow", provider="gusto")
        link, code = location(allowed), parameter(location(allowed), "code")
        with self._step("Finch Connect asks, and the employer allows it", allowed):
            self._check("status of Finch's page", page.status_code, 200)
            self._check("its title", text_of(page, "h1"), f"Connect {EMPLOYERS[ACME]}")
            self._check("redirects to", _destination(allowed), f"{self.application}/finch/callback")
            self._show("with a code", masked(code))
            self._show("and the state", parameter(link, "state") != "")
            self._check(_PRESENTED, self.fake.ledger.presented(code), 0)
        return link

    def _finish(self, browser: Browser, link: str) -> requests.Response:
        finished, code = browser.open(link), parameter(link, "code")
        with self._step("The callback exchanges the code for a token", finished):
            self._check_redirect(finished, f"{self.application}/?finch=connected")
            self._check("that URL contains the code", code in location(finished), False)
            self._check_one_exchange(code)
            self._check_message(browser, finished, "Your payroll is connected.")
        return finished

    def _inspect_database(self, link: str) -> None:
        rows, searched = self._rows(), self._search()
        row, content = rows[0] if rows else {}, b"".join(searched.values())
        hidden = {
            "code": parameter(link, "code"),
            "token": self._token(),
            "encryption key": self.settings["FINCH_KEY"].partition(":")[2],
            "client secret": self.settings["FINCH_CLIENT_SECRET"],
            "webhook secret": self.settings["FINCH_WEBHOOK_SECRETS"],
        }
        with self._step("The database holds the token, encrypted"):
            self._check(_STORED, len(rows), 1)
            for name, value in row.items():
                self._show(f"  {name}", value.hex() if isinstance(value, bytes) else value)
            self._check("encrypted token starts with", str(row.get("sealed"))[:4], "fm1.")
            self._show("searched for plain text", ", ".join(searched))
            # Unless the search finds what is there, it proves nothing about the rest.
            known = str(row.get("connection_id"))
            self._check("connection id found", known.encode() in content, True)
            for name, secret in hidden.items():
                self._check(f"{name} found", secret.encode() in content, False)

    def _use_token(self, browser: Browser, stranger: Browser) -> None:
        token = self._token()
        shown = text_of(browser.open(self.application), "token")
        used = self._use(stranger, token)
        with self._step("The application reads it with finch.connections", used):
            self._show("access_token.reveal()", masked(token))
            self._check("token on the application's page", shown, masked(token))
            issued = self.fake.ledger.tokens == (token,)
            self._check("it is the token that Finch issued", issued, True)
            self._check("Finch accepts it, with status", used.status_code, 200)

    def _repeat_callback(self, browser: Browser, link: str, *, first: requests.Response) -> None:
        again = browser.open(link)
        same = (again.status_code, location(again)) == (first.status_code, location(first))
        with self._step("The same callback again: a reload or a double click", again):
            self._check_redirect(again, f"{self.application}/?finch=connected")
            self._check("same response as the first time", same, True)
            self._check_one_exchange(parameter(link, "code"))
            self._check(_STORED, len(self._rows()), 1)

    def _forge_callback(self, browser: Browser, stranger: Browser) -> None:
        browser.submit(browser.open(self.application), "/employer")
        link = self._decide(browser, "allow")
        code, before = parameter(link, "code"), self.fake.ledger.calls("token")
        refused = stranger.open(link)
        title = "This was not started in this browser"
        with self._step("A forged callback: another customer's code", refused):
            self._show(f"unused code of {EMPLOYERS[GLOBEX]}", masked(code))
            self._check("status in a browser without ticket", refused.status_code, 400)
            self._check("title of the page", text_of(refused, "h1"), title)
            self._check(_EXCHANGES, self.fake.ledger.calls("token") - before, 0)
            self._check(_PRESENTED, self.fake.ledger.presented(code), 0)
            self._check(_STORED, len(self._rows()), 1)
            # Unless the same link works there, the refusal could have any other cause.
            own, promised = _destination(browser.open(link)), f"{self.application}/?finch=connected"
            self._check(f"redirect in {EMPLOYERS[GLOBEX]}'s browser", own, promised)

    def _decline(self, browser: Browser) -> None:
        before, rows = self.fake.ledger.calls("token"), self._rows()
        declined = browser.open(self._decide(browser, "deny"))
        with self._step(f"{EMPLOYERS[GLOBEX]} declines", declined):
            self._check_redirect(declined, f"{self.application}/?finch=declined")
            promised = "Nothing new was connected. You can start again at any time."
            self._check_message(browser, declined, promised)
            self._check(_EXCHANGES, self.fake.ledger.calls("token") - before, 0)
            self._check("stored connections changed", rows != self._rows(), False)

    def _receive_webhook(self, browser: Browser, stranger: Browser) -> None:
        forged = stranger.open(f"{self.application}{WEBHOOK_PATH}", form={"status": "disconnected"})
        delivery = self.fake.set_status(self._connection().connection_id, "reauth")
        with self._step(f"A webhook arrives: {EMPLOYERS[ACME]} has to sign in again"):
            self._check("status of a forged one", forged.status_code, 401)
            self._check("status of Finch's own", delivery and delivery.statuses[0], 200)
            self._check("status on the page", self._status(browser, awaited="reauth"), "reauth")

    def _sign_in_again(self, browser: Browser) -> None:
        old, rows = self._connection(), len(self._rows())
        old_token, own = self._token(), {"connection_id": old.connection_id, "customer_id": ACME}
        finished = browser.open(self._decide(browser, "allow"))
        with self._step(f"{EMPLOYERS[ACME]} signs in again", finished):
            self._check_redirect(finished, f"{self.application}/?finch=connected")
            asked = self.fake.ledger.sessions[-1].connection_id
            self._check("Finch was asked for that connection", asked == old.connection_id, True)
            self._check("stored connections changed", rows != len(self._rows()), False)
            self._check("the token is a new one", self._token() != old_token, True)
            renewed = self.finch.connections.refresh(**own)
            self._check("status that Finch reports", renewed and renewed.status, "connected")

    def _disconnect(self, browser: Browser, stranger: Browser) -> None:
        token, before = self._token(), self.fake.ledger.calls("disconnect")
        ended = browser.submit(browser.open(self.application), "/disconnect")
        with self._step(f"{EMPLOYERS[ACME]} disconnects", ended):
            self._check_redirect(ended, f"{self.application}/?finch=disconnected")
            self._check_message(browser, ended, "Your payroll is disconnected.")
            calls = self.fake.ledger.calls("disconnect") - before
            self._check("requests to Finch to end it", calls, 1)
            used = self._use(stranger, token)
            self._check("Finch accepts the token, with status", used.status_code, 401)
            left = self.finch.connections.for_customer(ACME)
            self._check("connections in finch.connections", len(left), 0)

    def _decide(self, browser: Browser, decision: str) -> str:
        """The callback link after another visit to Connect."""
        page = browser.open(location(browser.submit(browser.open(self.application), "/connect")))
        return location(browser.submit(page, "/authorize", decision=decision, provider="gusto"))

    def _use(self, stranger: Browser, token: str) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}", "Finch-API-Version": "2020-09-17"}
        return stranger.open(f"{self.fake.api_url}/introspect", headers=headers)

    def _status(self, browser: Browser, *, awaited: str) -> str:
        """The status on the page, *awaited* or not: the application may have to ask Finch first."""
        latest = time.monotonic() + _PATIENCE_SECONDS
        while True:
            shown = text_of(browser.open(self.application), "status")
            if shown == awaited or time.monotonic() > latest:
                return shown
            time.sleep(0.05)

    def _connection(self) -> Connection:
        """The connection as the application's own code reads it."""
        connections = self.finch.connections.for_customer(ACME)
        if len(connections) != 1:
            raise DemoFailed(f"finch.connections has {len(connections)} connections instead of 1.")
        return connections[0]

    def _token(self) -> str:
        return self._connection().access_token.reveal()

    def _rows(self) -> list[dict[str, Any]]:
        """The connections of this run, column by column."""
        found = (row for name in EMPLOYERS for row in self.finch.storage.for_customer(name))
        return [row.as_row() for row in found if row.client_id == self.finch.settings.client_id]

    def _search(self) -> dict[str, bytes]:
        """By name, what is searched for secrets."""
        log = {self.log.name: self.log.read_bytes()}
        kind, _, path = self.settings["FINCH_STORAGE_URL"].partition(":///")
        if kind != "sqlite":
            return {"the columns above": repr(self._rows()).encode()} | log
        # SQLite keeps recent writes in files beside the database.
        database = Path(path.partition("?")[0])
        files = sorted(database.parent.glob(f"{database.name}*"))
        return {path.name: path.read_bytes() for path in files if path.is_file()} | log

    @contextmanager
    def _step(self, title: str, response: requests.Response | None = None) -> Iterator[None]:
        """Print a heading; at the end of the block, stop unless all in it was as promised."""
        self._steps += 1
        heading, timing = f"{self._steps}. {title}", ""
        if response is not None:
            place = f"{response.request.method} {response.request.path_url.partition('?')[0]}"
            timing = f"{place}  {response.elapsed.total_seconds() * 1000:.0f} ms"
        click.echo(f"\n{click.style(heading, bold=True)}{timing:>{_WIDTH - len(heading)}}".rstrip())
        yield
        if self._failed:
            raise DemoFailed(f"Not as promised in step {self._steps}: {', '.join(self._failed)}.")

    def _check(self, label: str, seen: object, promised: object) -> None:
        """Print an observation that must equal what is promised."""
        line = f"{label:<{_LABEL_WIDTH}} {_text(seen)}"
        if seen == promised:
            self.held += 1
            click.echo(f"   {click.style('ok', fg='green')}  {line}")
        else:
            self._failed.append(label)
            click.secho(f"   NO  {line} (promised: {_text(promised)})", fg="red", bold=True)

    def _show(self, label: str, seen: object) -> None:
        """Print an observation about which nothing is promised."""
        click.echo(f"       {label:<{_LABEL_WIDTH}} {_text(seen)}")

    def _check_redirect(self, response: requests.Response, promised: str) -> None:
        self._check("status", response.status_code, 303)
        self._check("redirects to", _destination(response), promised)

    def _check_one_exchange(self, code: str) -> None:
        self._check(_PRESENTED, self.fake.ledger.presented(code), 1)
        self._check("tokens issued by Finch", len(self.fake.ledger.tokens), 1)

    def _check_message(self, browser: Browser, response: requests.Response, promised: str) -> None:
        page = browser.open(location(response) or response.url)
        self._check("message on the page", text_of(page, "banner"), promised)


def location(response: requests.Response) -> str:
    """The absolute URL that *response* redirects to, or an empty string."""
    return urljoin(response.url, response.headers["Location"]) if response.is_redirect else ""


def text_of(page: requests.Response, name: str) -> str:
    """How the first element with this tag or class begins, or an empty string."""
    found = re.search(rf'<(?:{name}\b|\w+ class="{name}\b)[^>]*>([^<]*)', page.text)
    return unescape(found[1]).strip() if found else ""


def parameter(url: str, name: str) -> str:
    """A query parameter of *url*, or an empty string."""
    return parse_qs(urlsplit(url).query).get(name, [""])[0]


def _destination(response: requests.Response) -> str:
    """Where *response* redirects to, without codes and references."""
    place, hint = location(response).partition("?")[0], parameter(location(response), "finch")
    return f"{place}?finch={hint}" if hint else place


def _text(seen: object) -> str:
    text = {True: "yes", False: "no"}[seen] if isinstance(seen, bool) else str(seen)
    room = _WIDTH - _LABEL_WIDTH - 8
    return text if len(text) <= room else f"{text[: room - 3]}..."
