"""The demo's story, told from the outside: by a browser, Finch's own book, and the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from finch_middleware.cli.demo_app import EMPLOYERS, masked
from finch_middleware.cli.demo_book import (
    Book,
    code_of,
    fingerprint,
    hinted,
    parameter,
    place,
    ticket_of,
)
from finch_middleware.cli.demo_browser import Answer, Browser, Deviation
from finch_middleware.cli.demo_processes import CALLBACK_PATH
from finch_middleware.cli.demo_report import Fact, Step
from finch_middleware.cli.demo_traces import Row, Traces, shortened
from finch_middleware.connections import Connections

ACME, GLOBEX = EMPLOYERS

_SHOWN = "times Finch was shown the code"
_ROWS = "connections stored"
_CALLBACK = f"GET {CALLBACK_PATH}"

# What people read, in so many words: taken from the pages themselves they would promise nothing.
_CONNECTED = "Your payroll is connected."
_REFUSED = "This was not started in this browser"
_DECLINED = "Nothing was connected. You can start again whenever you like."


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """
    Where the story happens, and what it is observed through.

    Attributes:
        application, finch: The addresses of the two servers.
        connections: What the application's own code asks.
        secrets: By name: what no file may hold, beyond the code and the token.
    """

    application: str
    finch: str
    connections: Connections
    traces: Traces
    secrets: Mapping[str, str]


class Tour:
    """Goes through the whole flow, and tells each step once it was observed."""

    def __init__(self, scene: Scene, *, tell: Callable[[Step], None]) -> None:
        self._scene = scene
        self._tell = tell

    def run(self) -> None:
        """
        From the first click to the last refusal.

        Raises:
            Deviation: Something is not as promised; the rest is not told.
        """
        acme, globex = Browser(), Browser()
        opened = self._opens_connect(acme)
        link = self._allows(acme, opened)
        first = self._comes_back(acme, link)
        self._is_stored(link)
        self._is_used(acme)
        self._comes_back_again(acme, link, first=first)
        self._is_forged(globex)
        self._is_declined(globex)

    def _opens_connect(self, browser: Browser) -> Answer:
        home = browser.get(self._home)
        opened = browser.submit(home.form("/connect"))
        customers = self._book().customers
        name, attributes = ticket_of(opened)
        where = place(opened.headers.get("location", "nowhere"))
        facts = [
            Fact("answer", seen=opened.status, promised=303),
            Fact("the browser is sent to", seen=where, promised=f"{self._scene.finch}/authorize"),
            Fact("Connect sessions at Finch, for", seen=", ".join(customers), promised=ACME),
            Fact("ticket in this browser, a cookie", seen=name),
            Fact("its attributes", seen=attributes, promised="HttpOnly, Path=/, SameSite=Lax"),
            Fact(_ROWS, seen=len(self._rows()), promised=0),
        ]
        title = f'{EMPLOYERS[ACME]} presses "Connect payroll"'
        self._tell(Step(title, measured=_measured("POST /connect", opened), facts=facts))
        return opened

    def _allows(self, browser: Browser, opened: Answer) -> str:
        page = browser.get(opened.location)
        allowed = browser.submit(page.form("/authorize"), decision="allow")
        link = allowed.location
        code = code_of(link)
        facts = [
            Fact("Finch Connect", seen=page.status, promised=200),
            Fact("it says", seen=page.marked("h1"), promised=f"Connect {EMPLOYERS[ACME]}"),
            Fact("the browser is sent back to", seen=place(link), promised=self._callback),
            Fact("with a code", seen=masked(code)),
            Fact("and the state", seen=_yes(parameter(link, "state"))),
            Fact(_SHOWN, seen=self._book().presented(code), promised=0),
        ]
        title = "Finch Connect asks, the employer allows"
        self._tell(Step(title, measured=_measured("POST /authorize", allowed), facts=facts))
        return link

    def _comes_back(self, browser: Browser, link: str) -> Answer:
        answer = browser.get(link)
        book = self._book()
        facts = [
            *self._sent_on(answer, hint="connected"),
            Fact("code in that address", seen=_yes(_leaks(answer, link)), promised="no"),
            Fact(_SHOWN, seen=book.presented(code_of(link)), promised=1),
            Fact("tokens that Finch minted", seen=len(book.tokens), promised=1),
            self._told(browser, answer, promised=_CONNECTED),
        ]
        title = "The browser comes back, the code becomes a token"
        self._tell(Step(title, measured=_measured(_CALLBACK, answer), facts=facts))
        return answer

    def _is_stored(self, link: str) -> None:
        rows = self._rows()
        traces = self._scene.traces
        row = rows[0] if rows else {}
        hidden = {"the code": code_of(link), "the token": self._token(), **self._scene.secrets}
        known = str(row.get("connection_id"))
        facts = [
            Fact(_ROWS, seen=len(rows), promised=1),
            *(Fact(f"  {name}", seen=shortened(value)) for name, value in row.items()),
            Fact("the token is sealed", seen=str(row.get("sealed"))[:4], promised="fm1."),
            Fact("searched", seen=", ".join(traces.searched)),
            # What is there must be found, or the search proves nothing.
            Fact("the connection id is in them", seen=_yes(traces.hold(known)), promised="yes"),
            *(
                Fact(f"{name} is in them", seen=_yes(traces.hold(secret)), promised="no")
                for name, secret in hidden.items()
            ),
        ]
        self._tell(Step("What the database holds", facts=facts))

    def _is_used(self, browser: Browser) -> None:
        token = self._token()
        shown = browser.get(self._home).marked("token")
        answer = Browser().get(f"{self._scene.finch}/introspect", bearer=token)
        minted = " ".join(self._book().tokens)
        facts = [
            Fact("access_token.reveal()", seen=masked(token)),
            Fact("the application's page shows", seen=shown, promised=masked(token)),
            Fact(
                "it is the token that Finch minted",
                seen=_yes(fingerprint(token) == minted),
                promised="yes",
            ),
            Fact("Finch accepts it", seen=answer.status, promised=200),
        ]
        title = "What the application gets from finch.connections"
        self._tell(Step(title, measured=_measured("GET /introspect", answer), facts=facts))

    def _comes_back_again(self, browser: Browser, link: str, *, first: Answer) -> None:
        answer = browser.get(link)
        book = self._book()
        alike = [(each.status, each.headers.get("location")) for each in (first, answer)]
        facts = [
            *self._sent_on(answer, hint="connected"),
            Fact("answered as the first time", seen=_yes(alike[0] == alike[1]), promised="yes"),
            Fact(_SHOWN, seen=book.presented(code_of(link)), promised=1),
            Fact("tokens that Finch minted", seen=len(book.tokens), promised=1),
            Fact(_ROWS, seen=len(self._rows()), promised=1),
        ]
        title = "The same callback once more: a reload, a double click"
        self._tell(Step(title, measured=_measured(_CALLBACK, answer), facts=facts))

    def _is_forged(self, browser: Browser) -> None:
        browser.submit(browser.get(self._home).form("/employer"))
        link = self._decided(browser, decision="allow")
        before, refused, after = self._book(), Browser().get(link), self._book()
        rows = self._rows()
        own = hinted(browser.get(link))
        facts = [
            Fact(f"a code of {EMPLOYERS[GLOBEX]}, unused", seen=masked(code_of(link))),
            Fact("answer to a browser without ticket", seen=refused.status, promised=400),
            Fact("the page says", seen=refused.marked("h1"), promised=_REFUSED),
            Fact("calls at Finch", seen=after.exchanges - before.exchanges, promised=0),
            Fact(_SHOWN, seen=after.presented(code_of(link)), promised=0),
            Fact(_ROWS, seen=len(rows), promised=1),
            # Without this, the refusal could have any other cause.
            Fact("the same link in its own browser", seen=own, promised=self._hinted("connected")),
        ]
        title = "A forged callback: somebody else's code, in a stranger's browser"
        self._tell(Step(title, measured=_measured(_CALLBACK, refused), facts=facts))

    def _is_declined(self, browser: Browser) -> None:
        before, rows = self._book(), self._rows()
        answer = browser.get(self._decided(browser, decision="deny"))
        calls = self._book().exchanges - before.exchanges
        facts = [
            *self._sent_on(answer, hint="declined"),
            self._told(browser, answer, promised=_DECLINED),
            Fact("calls at Finch", seen=calls, promised=0),
            Fact("rows changed", seen=_yes(rows != self._rows()), promised="no"),
        ]
        title = f"{EMPLOYERS[GLOBEX]} says no"
        self._tell(Step(title, measured=_measured(_CALLBACK, answer), facts=facts))

    @property
    def _home(self) -> str:
        return f"{self._scene.application}/"

    def _hinted(self, hint: str) -> str:
        return f"{self._home}?finch={hint}"

    @property
    def _callback(self) -> str:
        return self._scene.application + CALLBACK_PATH

    def _book(self) -> Book:
        return Book.of(self._scene.finch)

    def _rows(self) -> list[Row]:
        return self._scene.traces.rows()

    def _token(self) -> str:
        """The token as the application's own code gets it."""
        connections = self._scene.connections.for_customer(ACME)
        if len(connections) != 1:
            raise Deviation(f"finch.connections has {len(connections)} connections, not one")
        return connections[0].access_token.reveal()

    def _sent_on(self, answer: Answer, *, hint: str) -> list[Fact]:
        return [
            Fact("answer", seen=answer.status, promised=303),
            Fact("the browser is sent to", seen=hinted(answer), promised=self._hinted(hint)),
        ]

    def _told(self, browser: Browser, answer: Answer, *, promised: str) -> Fact:
        """What the person reads in the end."""
        page = browser.get(answer.location) if "location" in answer.headers else answer
        seen = page.marked("banner").partition(" Reference")[0] or page.marked("h1")
        return Fact("the application's page", seen=seen, promised=promised)

    def _decided(self, browser: Browser, *, decision: str) -> str:
        """The callback link that comes of one more visit to Connect."""
        opened = browser.submit(browser.get(self._home).form("/connect"))
        page = browser.get(opened.location)
        return browser.submit(page.form("/authorize"), decision=decision).location


def _measured(request: str, answer: Answer) -> str:
    return f"{request}  {answer.milliseconds:.0f} ms"


def _yes(fact: object) -> str:
    return "yes" if fact else "no"


def _leaks(answer: Answer, link: str) -> bool:
    return code_of(link) in answer.headers.get("location", "")
