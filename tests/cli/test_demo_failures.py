"""Every observation of the demo fails when what it observes is not as promised."""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from werkzeug.datastructures import Headers
from werkzeug.wrappers import Response

from finch_middleware import Connections, FinchConnect, FinchMiddleware
from finch_middleware.cli import demo, main
from finch_middleware.cli.demo import app, tour
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch, Ledger
from finch_middleware.web.texts import TEXTS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

KEY = "A" * 43 + "="


@dataclass
class Stage:
    """One run of the demo in this process, in which a test causes one fault."""

    monkeypatch: pytest.MonkeyPatch
    folder: Path
    fakes: list[FakeFinch] = field(default_factory=list)

    def run(self, *arguments: str) -> Result:
        given = arguments or ("--storage", f"sqlite:///{self.folder}/mine.db")
        level = logging.root.level
        with self.monkeypatch.context() as patch:
            # The demo configures logging for its whole process.
            patch.setattr(logging.root, "handlers", [])
            result = CliRunner().invoke(main, ["demo", *given])
            for handler in logging.root.handlers:
                handler.close()
        logging.root.setLevel(level)
        return result

    def script(self, endpoint: str, *behaviours: Behaviour) -> None:
        """Let the fake Finch misbehave."""
        stage = self

        class ScriptedFinch(FakeFinch):
            def __init__(self, **options: Any) -> None:
                super().__init__(**options)
                self.script(endpoint, *behaviours)
                stage.fakes.append(self)

        self.monkeypatch.setattr(demo, "FakeFinch", ScriptedFinch)

    def change_callback(
        self, number: int, change: Callable[[str, Headers], tuple[str, Headers]]
    ) -> None:
        """Let the application change its response to the callback of this number."""
        seen: list[str] = []

        def changed(inner: WSGIApplication, finch: FinchConnect) -> WSGIApplication:
            middleware = FinchMiddleware(inner, finch)

            def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
                if environ["PATH_INFO"] != finch.settings.callback_path:
                    return middleware(environ, start_response)
                seen.append(environ["QUERY_STRING"])
                response = Response.from_app(middleware, environ)
                if len(seen) == number:
                    response.status, response.headers = change(response.status, response.headers)
                return response(environ, start_response)

            return respond

        self.monkeypatch.setattr(demo, "FinchMiddleware", changed)

    def before(self, step: str, cause: Callable[[], object]) -> None:
        """Call *cause* before this step of the tour."""
        method = getattr(tour.Tour, step)

        def with_cause(*args: Any, **options: Any) -> Any:
            cause()
            return method(*args, **options)

        self.monkeypatch.setattr(tour.Tour, step, with_cause)

    def execute(self, statement: str) -> None:
        with closing(sqlite3.connect(self.folder / "mine.db")) as connection, connection:
            connection.execute(statement)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    return Stage(monkeypatch, tmp_path)


def show_another_connect_page(page: Response) -> Response:
    page.status_code = 500
    page.set_data(page.get_data(as_text=True).replace("Acme Inc.", "Hooli"))
    return page


def put_the_code_into_the_redirect(stage: Stage) -> None:
    def leak(status: str, headers: Headers) -> tuple[str, Headers]:
        headers["Location"] += f"&code={stage.fakes[0].ledger.codes[0].code}"
        return status, headers

    stage.script("token")
    stage.change_callback(1, leak)


def log_every_secret(stage: Stage) -> None:
    def log() -> None:
        fake = stage.fakes[0]
        secrets = (fake.ledger.codes[0].code, *fake.ledger.tokens, KEY, fake.client_secret)
        logging.warning("secrets: %s", secrets)

    stage.script("token")
    stage.monkeypatch.setattr(demo, "new_key", lambda key_id: f"{key_id}:{KEY}")
    stage.before("_inspect_database", log)


def store_the_token_in_clear(stage: Stage) -> None:
    def store() -> None:
        stage.execute(f"UPDATE finch_connections SET status = '{stage.fakes[0].ledger.tokens[0]}'")

    stage.script("token")
    stage.before("_inspect_database", store)


def answer_a_reload_otherwise(stage: Stage) -> None:
    def otherwise(status: str, headers: Headers) -> tuple[str, Headers]:
        headers["Location"] += "&again=yes"
        return status, headers

    stage.change_callback(2, otherwise)


def call_finch_for_a_forged_callback(stage: Stage) -> None:
    counts = iter(range(100))
    stage.monkeypatch.setattr(Ledger, "calls", lambda self, endpoint: next(counts))


def store_another_row(stage: Stage) -> None:
    columns = (
        "customer_hash, customer_id, client_id, provider_id, products, client_type, "
        "connection_type, status, status_message, synced_at, checked_at, heard_at, undecided_at, "
        "entities, sealed, obtained_at, attempt_id, history"
    )
    insert = (
        f"INSERT INTO finch_connections (connection_hash, connection_id, {columns}) "
        f"SELECT randomblob(32), 'another', {columns} FROM finch_connections"
    )
    stage.before("_forge_callback", lambda: stage.execute(insert))


def change_a_row_when_declined(stage: Stage) -> None:
    def change(status: str, headers: Headers) -> tuple[str, Headers]:
        stage.execute("UPDATE finch_connections SET status = 'changed'")
        return status, headers

    stage.change_callback(5, change)


def sign_with_another_secret(stage: Stage) -> None:
    deliver = FakeFinch.deliver_webhooks
    stage.monkeypatch.setattr(
        FakeFinch, "deliver_webhooks", lambda self, url, **_: deliver(self, url, secrets=["YQ=="])
    )
    stage.monkeypatch.setattr(tour, "_PATIENCE_SECONDS", 0)


def report_another_status(stage: Stage) -> None:
    status = Behaviour.alter(connection_status={"status": "reauth"})
    stage.script("token")
    stage.before("_sign_in_again", lambda: stage.fakes[0].script("introspect", status, times=None))


#: The fault, how a stage causes it, the step that notices it, and the observations that fail.
FAULTS: dict[str, tuple[Callable[[Stage], object], int, list[str]]] = {
    "no session": (
        lambda stage: stage.script("sessions", Behaviour.error(400)),
        1,
        ["status", "redirects to", "Finch opened a session for", "its attributes"],
    ),
    "another page": (
        lambda stage: stage.script("authorize", Behaviour(shape=show_another_connect_page)),
        2,
        ["status of Finch's page", "its title"],
    ),
    "presented early": (
        lambda stage: stage.monkeypatch.setattr(Ledger, "presented", lambda self, code: 1),
        2,
        ["times Finch received this code"],
    ),
    "no exchange": (
        lambda stage: stage.script("token", Behaviour.error(500)),
        3,
        ["status", "redirects to", "tokens issued by Finch", "message on the page"],
    ),
    "code in the redirect": (put_the_code_into_the_redirect, 3, ["that URL contains the code"]),
    "secrets in the log": (
        log_every_secret,
        4,
        [
            *("code found", "token found", "encryption key found"),
            *("client secret found", "webhook secret found"),
        ],
    ),
    "token in clear": (store_the_token_in_clear, 4, ["token found"]),
    "no rows": (
        lambda stage: stage.monkeypatch.setattr(tour.Tour, "_rows", lambda self: []),
        4,
        ["stored connections", "encrypted token starts with", "connection id found"],
    ),
    "another token": (
        lambda stage: stage.script("token", Behaviour.alter(access_token="another-token")),
        5,
        ["it is the token that Finch issued", "Finch accepts it, with status"],
    ),
    "another token shown": (
        lambda stage: stage.monkeypatch.setattr(app, "masked", lambda secret: "another"),
        5,
        ["token on the application's page"],
    ),
    "another reload": (answer_a_reload_otherwise, 6, ["same response as the first time"]),
    "forgery accepted": (
        lambda stage: stage.change_callback(3, lambda _, headers: ("200 OK", headers)),
        7,
        ["status in a browser without ticket"],
    ),
    "another refusal": (
        lambda stage: stage.monkeypatch.setitem(TEXTS["invalid.no_ticket"], "title", "Else"),
        7,
        ["title of the page"],
    ),
    "another row": (store_another_row, 7, ["stored connections"]),
    "Finch called": (
        call_finch_for_a_forged_callback,
        7,
        ["requests to Finch's token endpoint"],
    ),
    "own browser refused": (
        lambda stage: stage.change_callback(4, lambda *_: ("400 Bad Request", Headers())),
        7,
        ["redirect in Globex Corp.'s browser"],
    ),
    "another message": (
        lambda stage: stage.monkeypatch.setitem(app.BANNERS, "declined", "Something else"),
        8,
        ["message on the page"],
    ),
    "changed when declined": (change_a_row_when_declined, 8, ["stored connections changed"]),
    "no webhook path": (
        lambda stage: stage.monkeypatch.setattr(tour, "WEBHOOK_PATH", "/elsewhere"),
        9,
        ["status of a forged one"],
    ),
    "another secret": (
        sign_with_another_secret,
        9,
        ["status of Finch's own", "status on the page"],
    ),
    "another session": (
        lambda stage: stage.before(
            "_sign_in_again",
            lambda: stage.monkeypatch.setattr(
                Ledger, "sessions", (SimpleNamespace(connection_id="?"),)
            ),
        ),
        10,
        ["Finch was asked for that connection"],
    ),
    "the old token": (
        lambda stage: stage.before(
            "_sign_in_again",
            lambda: stage.monkeypatch.setattr(tour.Tour, "_token", lambda self: "token"),
        ),
        10,
        ["the token is a new one"],
    ),
    "still in need": (report_another_status, 10, ["status that Finch reports"]),
    "not disconnected": (
        lambda stage: stage.monkeypatch.setattr(
            Connections, "disconnect", lambda *_, **ids: "ended"
        ),
        11,
        [
            *("requests to Finch to end it", "Finch accepts the token, with status"),
            "connections in finch.connections",
        ],
    ),
}


@pytest.mark.parametrize(("cause", "step", "labels"), FAULTS.values(), ids=FAULTS)
def test_an_observation_that_is_not_as_promised_ends_the_demo_with_status_one(
    stage: Stage, cause: Callable[[Stage], object], step: int, labels: list[str]
) -> None:
    cause(stage)

    result = stage.run()

    assert result.exit_code == 1, result.output
    assert re.findall(r"^   NO  (.{38}) ", result.output, re.M) == [f"{x:<38}" for x in labels]
    assert f"The demo stopped. Not as promised in step {step}: {', '.join(labels)}.\n" in (
        result.output
    )
    assert "observations are as promised" not in result.output


def test_every_observation_is_among_those_that_failed(stage: Stage) -> None:
    result = stage.run()

    observed = re.findall(r"^   ok  (.{38}) ", result.output, re.M)
    assert len(observed) == 58
    assert {x.rstrip() for x in observed} == {
        label for *_, labels in FAULTS.values() for label in labels
    }


def test_a_storage_without_a_file_is_searched_by_its_columns(stage: Stage) -> None:
    result = stage.run("--storage", "memory://")

    assert result.exit_code == 0
    assert "searched for plain text                the columns above, application.log\n" in (
        result.output
    )


def test_a_finch_that_is_unavailable_fails_without_the_query_of_its_url(stage: Stage) -> None:
    stage.script("authorize", Behaviour.reset())

    result = stage.run()

    assert result.exit_code == 1
    assert re.search(
        r"No response \(ConnectionError\): GET http://[\d.:]+/authorize$", result.output, re.M
    )
    assert "finch.session.opened" in result.stderr.partition("The log of the application:\n")[2]


def test_a_connection_that_is_missing_fails(stage: Stage) -> None:
    stage.before("_inspect_database", lambda: stage.execute("DELETE FROM finch_connections"))

    result = stage.run()

    assert result.exit_code == 1
    assert "finch.connections has 0 connections instead of 1." in result.output


def test_a_named_database_is_kept_and_may_be_used_again(stage: Stage) -> None:
    runs = [stage.run(), stage.run()]

    assert [result.exit_code for result in runs] == [0, 0]
    assert (stage.folder / "mine.db").stat().st_size > 0
    assert list(stage.folder.glob("finch-demo-*")) == []
