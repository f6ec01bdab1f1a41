from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from finch_middleware.cli import demo_processes
from finch_middleware.cli.demo_browser import Browser
from finch_middleware.cli.demo_processes import ServerProcess
from finch_middleware.testing.fake_finch import FakeFinch
from tests.cli.running import PATIENCE_SECONDS, Running, environ, run, running

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

_PROMISED = [
    r'1\. Acme Inc\. presses "Connect payroll" +POST /connect  \d+ ms',
    r"   ok  answer +303",
    r"   ok  the browser is sent to +http://127\.0\.0\.1:\d+/authorize",
    r"   ok  Connect sessions at Finch, for +demo-acme",
    r"       ticket in this browser, a cookie +finch-[\w-]{8}",
    r"   ok  its attributes +HttpOnly, Path=/, SameSite=Lax",
    r"   ok  connections stored +0",
    r"2\. Finch Connect asks, the employer allows +POST /authorize  \d+ ms",
    r"   ok  it says +Connect Acme Inc\.",
    r"   ok  the browser is sent back to +http://localhost:\d+/finch/callback",
    r"       with a code +[0-9a-f]{4}\.\.\. \(36 characters\)",
    r"   ok  times Finch was shown the code +0",
    r"3\. The browser comes back, the code becomes a token +GET /finch/callback  \d+ ms",
    r"   ok  the browser is sent to +http://localhost:\d+/\?finch=connected",
    r"   ok  code in that address +no",
    r"   ok  times Finch was shown the code +1",
    r"   ok  tokens that Finch minted +1",
    r"   ok  the application's page +Your payroll is connected\.",
    r"4\. What the database holds",
    rf"         connection_id +{_UUID}",
    r"         customer_id +demo-acme",
    r"         sealed +fm1\.demo\.[\w-]{15}\.\.\. \(\d+ characters\)",
    r"       searched +finch\.db, finch\.db-wal, application\.log",
    r"   ok  the connection id is in them +yes",
    r"   ok  the code is in them +no",
    r"   ok  the token is in them +no",
    r"   ok  the encryption key is in them +no",
    r"   ok  the client secret is in them +no",
    r"5\. What the application gets from finch\.connections +GET /introspect  \d+ ms",
    r"       access_token\.reveal\(\) +[0-9a-f]{4}\.\.\. \(36 characters\)",
    r"   ok  it is the token that Finch minted +yes",
    r"   ok  Finch accepts it +200",
    r"6\. The same callback once more: a reload, a double click +GET /finch/callback  \d+ ms",
    r"   ok  answered as the first time +yes",
    r"   ok  times Finch was shown the code +1",
    r"7\. A forged callback: .+ +GET /finch/callback  \d+ ms",
    r"   ok  answer to a browser without ticket +400",
    r"   ok  the page says +This was not started in this browser",
    r"   ok  calls at Finch +0",
    r"   ok  the same link in its own browser +http://localhost:\d+/\?finch=connected",
    r"8\. Globex Corp\. says no +GET /finch/callback  \d+ ms",
    r"   ok  the browser is sent to +http://localhost:\d+/\?finch=declined",
    r"   ok  the application's page +Nothing was connected\. You can start .+",
    r"   ok  rows changed +no",
    r"All \d\d observations are as promised\. \d\.\d seconds in all\.",
    r"   the row    gone with its database; `finch-middleware demo --keep` leaves them for a look",
    r"   by hand    finch-middleware demo --serve",
    r"   your own   README\.md .+",
]


class Ended(NamedTuple):
    """One run: what it printed, what it cost with its servers, what it left in its folder."""

    status: int
    output: str
    errors: str
    processor_seconds: float
    left: list[Path]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    folder = tmp_path_factory.mktemp("demo")
    before = os.times()
    # A setting of this machine that the demo must leave alone.
    told = run(
        "demo",
        TMPDIR=str(folder),
        FINCH_STORAGE_URL="oracle://production",
        FINCH_KEY="none of the demo's business",
    )
    after = os.times()
    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    return Ended(told.returncode, told.stdout, told.stderr, spent, list(folder.iterdir()))


def up(address: str) -> bool:
    """Whether anything listens there."""
    try:
        socket.create_connection(("127.0.0.1", urlsplit(address).port or 0)).close()
    except ConnectionRefusedError:
        return False
    return True


def wait_until_down(*addresses: str) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while any(map(up, addresses)):
        if time.monotonic() > until:
            raise TimeoutError("a server is still up")
        time.sleep(0.02)


def addresses_of(output: str) -> list[str]:
    return re.findall(r"^   (?:fake Finch|application) +(http://\S+)", output, re.M)


def test_it_ends_well_and_prints_every_promised_line_in_order(
    demo: Ended,
) -> None:
    left = iter(demo.output.splitlines())

    missing = [
        line for line in _PROMISED if not any(re.fullmatch(line, printed) for printed in left)
    ]

    assert missing == []
    assert (demo.status, demo.errors) == (0, "")


def test_it_takes_less_than_five_seconds_of_a_processor(
    demo: Ended,
) -> None:
    # Not of the clock: a machine that is busy otherwise would make that a lottery.
    assert 0.1 < demo.processor_seconds < 5


def test_its_lines_are_plain_and_at_most_a_hundred_columns(
    demo: Ended,
) -> None:
    # A temporary folder's own path may be longer.
    lines = [line for line in demo.output.splitlines() if "/finch.db" not in line]

    assert max(map(len, lines)) <= 100
    assert all(line == line.rstrip() for line in lines)
    assert demo.output.isascii()
    assert "\x1b" not in demo.output


def test_its_output_holds_no_code_token_or_key_in_full(
    demo: Ended,
) -> None:
    # Codes and tokens are UUIDs, as connection ids are; keys are 32 bytes in base64.
    connection = re.findall(rf"connection_id +({_UUID})", demo.output)

    assert re.findall(_UUID, demo.output) == connection
    assert len(connection) == 1
    assert re.search(r"[A-Za-z0-9+/]{43}=", demo.output) is None
    assert "state=" not in demo.output


def test_its_servers_are_gone_when_it_ends(demo: Ended) -> None:
    addresses = addresses_of(demo.output)

    assert len(addresses) == 2
    assert not any(map(up, addresses))


def test_it_leaves_nothing_behind(demo: Ended) -> None:
    assert demo.left == []


@pytest.mark.full
def test_kept_it_leaves_the_row_where_it_says() -> None:
    told = run("demo", "--keep")

    [database] = re.findall(r"the row +(\S+), in finch_connections", told.stdout)
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT customer_id FROM finch_connections").fetchall()
    assert told.returncode == 0
    assert sorted(rows) == [("demo-acme",), ("demo-globex",)]


@pytest.mark.full
def test_a_run_that_ends_badly_leaves_the_log_where_it_says() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = run("demo", "--port", str(taken.getsockname()[1]))

    [log] = re.findall(r"The application's log: (\S+)", told.stdout)
    assert told.returncode == 1
    assert Path(log).is_file()


@pytest.mark.full
def test_the_row_stays_where_it_says(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/mine.db"

    first, second = run("demo", "--storage", url), run("demo", "--storage", url)

    assert (first.returncode, second.returncode) == (0, 0)
    assert f"{tmp_path}/mine.db, in finch_connections" in second.stdout
    assert (tmp_path / "mine.db").stat().st_size > 0
    assert list(tmp_path.glob("finch-demo-*")) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--storage", "memory://"], "--serve", id="memory"),
        pytest.param(["--storage", "oracle://x"], "unknown scheme", id="unknown storage"),
        pytest.param(["--storage", "sqlite:////no/such/x.db"], "did not confirm", id="no folder"),
        pytest.param(["--sandbox", "finch"], "--real", id="sandbox of a fake"),
        pytest.param(["--real", "--keep"], "--keep goes without --real", id="real, kept"),
        pytest.param(["--real"], "FINCH_CLIENT_ID and FINCH_CLIENT_SECRET", id="real, unknown"),
    ],
)
def test_what_cannot_be_done_is_one_text_and_status_two(arguments: list[str], said: str) -> None:
    told = run("demo", *arguments)

    assert told.returncode == 2
    assert said in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.full
def test_a_port_that_is_taken_is_told_and_nothing_stays_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = run("demo", "--serve", "--port", str(taken.getsockname()[1]))

    assert told.returncode == 2
    assert "choose another with --port" in told.stderr
    assert "Traceback" not in told.stderr


def served(this: Running) -> str:
    return this.wait_for(r"Open (http://localhost:\d+) in a browser")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.full
def test_served_it_stays_up_until_it_is_told_to_stop(stop: signal.Signals, tmp_path: Path) -> None:
    with running("demo", "--serve") as this:
        home = Browser().get(served(this))
        addresses = addresses_of(this.output)

        status = this.ended_by(stop)

    assert home.status == 200
    assert len(addresses) == 2
    assert not any(map(up, addresses))
    assert list(tmp_path.glob("finch-demo-*")) == []
    assert status == 0
    assert "Traceback" not in this.output


@pytest.mark.full
def test_a_killed_demo_leaves_no_server_behind() -> None:
    with running("demo", "--serve") as this:
        served(this)
        addresses = addresses_of(this.output)
        before = list(map(up, addresses))

        this.ended_by(signal.SIGKILL)
        wait_until_down(*addresses)

    assert before == [True, True]


@pytest.mark.full
def test_a_server_that_dies_is_told() -> None:
    with running("demo", "--serve") as this:
        served(this)
        process_id = int(this.wait_for(r"fake Finch .+ process (\d+)"))

        os.kill(process_id, signal.SIGKILL)
        status = this.process.wait(PATIENCE_SECONDS)

    assert status == 2
    assert "has ended by itself" in this.output


def test_a_server_that_does_not_end_by_itself_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_processes, "_STOP_SECONDS", 0.1)
    client = {"FINCH_CLIENT_ID": "client", "FINCH_CLIENT_SECRET": "secret"}
    server = ServerProcess("finch", environ=environ(**client))
    os.kill(server.process_id, signal.SIGSTOP)

    server.stop()

    assert not server.up
    assert not up(server.address)


@pytest.mark.full
def test_real_goes_through_the_finch_that_is_configured(fake: FakeFinch, tmp_path: Path) -> None:
    settings = {
        "FINCH_CLIENT_ID": fake.client_id,
        "FINCH_CLIENT_SECRET": fake.client_secret,
        "FINCH_API_URL": fake.api_url,
        "FINCH_CONNECT_ORIGIN": fake.connect_origin,
        "FINCH_REDIRECT_URI": "https://elsewhere.test/callback",
    }
    browser = Browser()
    with running(
        "demo", "--real", "--port", "0", "--storage", f"sqlite:///{tmp_path}/x.db", **settings
    ) as this:
        home = browser.get(served(this))
        page = browser.get(browser.submit(home.form("/connect")).location)
        back = browser.submit(page.form("/authorize"), decision="allow").location
        answer = browser.get(back)
        status = this.ended_by(signal.SIGINT)

    session = fake.ledger.sessions[0]
    assert answer.status == 303
    assert session.sandbox is True
    assert f"redirect URI   {session.redirect_uri} " in this.output
    assert "set FINCH_KEY" in this.output
    assert fake.client_secret not in this.output
    assert fake.ledger.tokens[0] not in this.output
    assert status == 0


@pytest.mark.full
def test_real_without_sandbox_says_that_it_costs(fake: FakeFinch, tmp_path: Path) -> None:
    settings = {
        "FINCH_CLIENT_ID": fake.client_id,
        "FINCH_CLIENT_SECRET": fake.client_secret,
        "FINCH_API_URL": fake.api_url,
        "FINCH_CONNECT_ORIGIN": fake.connect_origin,
    }
    url = f"sqlite:///{tmp_path}/x.db"
    browser = Browser()
    with running(
        "demo", "--real", "--sandbox", "none", "--port", "0", "--storage", url, **settings
    ) as this:
        home = browser.get(served(this))
        browser.submit(home.form("/connect"))

    assert fake.ledger.sessions[0].sandbox is False
    assert "connections are real, and Finch bills" in this.output
