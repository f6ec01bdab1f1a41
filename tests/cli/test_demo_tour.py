from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from werkzeug.wrappers import Response

from finch_middleware.cli import demo_app
from finch_middleware.cli.demo_browser import Deviation
from finch_middleware.cli.demo_report import Fact, Report, Step
from finch_middleware.cli.demo_tour import Tour
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from finch_middleware.web.texts import TEXTS
from tests.cli.conftest import KEY, Stage


class Told:
    """The lines that were printed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.report = Report(self.lines.append)

    @property
    def deviations(self) -> list[str]:
        return [line for line in self.lines if "NO  " in line]


@pytest.fixture
def told() -> Told:
    return Told()


def test_on_a_sound_application_everything_holds(stage: Stage, told: Told) -> None:
    Tour(stage.scene, tell=told.report.tell).run()

    assert told.deviations == []
    assert told.report.held >= 30


def test_no_line_holds_a_secret(stage: Stage, told: Told, fake: FakeFinch) -> None:
    Tour(stage.scene, tell=told.report.tell).run()

    said = "\n".join(told.lines)
    codes = [issued.code for issued in fake.ledger.codes]
    cookies = [seen.header("Cookie") for seen in fake.ledger.requests]
    secrets = [*codes, *fake.ledger.tokens, KEY.partition(":")[2], fake.client_secret]
    assert len(secrets) == 6
    assert [secret for secret in secrets if secret in said] == []
    assert cookies == [None] * len(cookies)


def test_an_exchange_that_fails_is_a_deviation(stage: Stage, told: Told, fake: FakeFinch) -> None:
    fake.script("token", Behaviour.error(500))

    with pytest.raises(Deviation, match="step 3: answer, the browser is sent to, tokens"):
        Tour(stage.scene, tell=told.report.tell).run()

    assert any("answer" in line and "502, but 303 is promised" in line for line in told.deviations)


def test_a_token_that_finch_did_not_mint_is_a_deviation(
    stage: Stage, told: Told, fake: FakeFinch
) -> None:
    fake.script("token", Behaviour.alter(access_token="another-token"))

    with pytest.raises(Deviation, match="step 5: it is the token that Finch minted, Finch accepts"):
        Tour(stage.scene, tell=told.report.tell).run()

    assert len(told.deviations) == 2


def test_a_finch_that_is_away_is_a_deviation_without_any_address(
    stage: Stage, told: Told, fake: FakeFinch
) -> None:
    fake.script("authorize", Behaviour.reset())

    with pytest.raises(Deviation, match=r"no answer .+: GET http://[\d.:]+/authorize$"):
        Tour(stage.scene, tell=told.report.tell).run()


@pytest.mark.parametrize(
    ("texts", "name", "step"),
    [
        (demo_app._BANNERS, "connected", "step 3: the application's page$"),
        (TEXTS["invalid.no_ticket"], "title", "step 7: the page says$"),
        (demo_app._BANNERS, "declined", "step 8: the application's page$"),
    ],
    ids=["connected", "refused", "declined"],
)
def test_a_page_that_says_something_else_is_a_deviation(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    told: Told,
    texts: dict[str, str],
    name: str,
    step: str,
) -> None:
    monkeypatch.setitem(texts, name, "Something else.")
    stage: Stage = request.getfixturevalue("stage")

    with pytest.raises(Deviation, match=step):
        Tour(stage.scene, tell=told.report.tell).run()

    assert len(told.deviations) == 1


def test_a_connect_page_of_another_employer_is_a_deviation(
    stage: Stage, told: Told, fake: FakeFinch
) -> None:
    def of_another(page: Response) -> Response:
        page.set_data(page.get_data(as_text=True).replace("Acme Inc.", "Hooli"))
        return page

    fake.script("authorize", Behaviour(shape=of_another))

    with pytest.raises(Deviation, match=r"step 2: it says$"):
        Tour(stage.scene, tell=told.report.tell).run()


@pytest.mark.parametrize("what", ["the code", "the token", "the encryption key"])
def test_a_secret_in_the_log_is_a_deviation(
    stage: Stage, told: Told, fake: FakeFinch, what: str
) -> None:
    def tell(step: Step) -> None:
        told.report.tell(step)
        if step.title.startswith("The browser comes back"):
            leaked = {
                "the code": fake.ledger.codes[0].code,
                "the token": fake.ledger.tokens[0],
                "the encryption key": KEY,
            }
            stage.log.write_text(f"oh: {leaked[what]}\n")

    with pytest.raises(Deviation, match=f"step 4: {what} is in them$"):
        Tour(stage.scene, tell=tell).run()

    assert len(told.deviations) == 1


def test_a_token_stored_in_clear_is_a_deviation(stage: Stage, told: Told, fake: FakeFinch) -> None:
    def tell(step: Step) -> None:
        told.report.tell(step)
        if step.title.startswith("The browser comes back"):
            with closing(sqlite3.connect(stage.database)) as connection, connection:
                connection.execute("UPDATE finch_connections SET status = ?", fake.ledger.tokens)

    with pytest.raises(Deviation, match="the token is in them"):
        Tour(stage.scene, tell=tell).run()


def test_a_row_that_a_refused_callback_leaves_is_a_deviation(stage: Stage, told: Told) -> None:
    def tell(step: Step) -> None:
        told.report.tell(step)
        if step.title.startswith("The same callback"):
            with closing(sqlite3.connect(stage.database)) as connection, connection:
                connection.execute(
                    "INSERT INTO finch_connections SELECT randomblob(32), customer_hash, "
                    "'another', customer_id, client_id, provider_id, products, client_type, "
                    "connection_type, status, sealed, obtained_at, attempt_id "
                    "FROM finch_connections"
                )

    with pytest.raises(Deviation, match="step 7: connections stored"):
        Tour(stage.scene, tell=tell).run()


def test_a_wrong_observation_is_a_clear_line_and_ends_the_report(told: Told) -> None:
    step = Step(
        "A step",
        facts=[
            Fact("tokens", seen=2, promised=1),
            Fact("calls", seen=1, promised=1),
            Fact("only told", seen="anything"),
        ],
    )

    with pytest.raises(Deviation, match=r"not as promised in step 1: tokens$"):
        told.report.tell(step)

    assert len(told.deviations) == 1
    assert "2, but 1 is promised" in told.deviations[0]
    assert len(told.lines) == 5
    assert told.report.held == 0


def test_only_promises_are_counted(told: Told) -> None:
    told.report.tell(
        Step(
            "A step", facts=[Fact("a", seen=1, promised=1), Fact("b", seen=None), Fact("c", seen=0)]
        )
    )

    assert told.report.held == 1


def test_a_long_observation_does_not_break_the_line(told: Told) -> None:
    told.report.tell(Step("A step", facts=[Fact("a", seen="x" * 500)]))

    assert max(map(len, told.lines)) == 100
