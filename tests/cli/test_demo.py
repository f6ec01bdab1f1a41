from __future__ import annotations

import re
import signal
import socket
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from finch_middleware.cli import main
from finch_middleware.cli.demo.tour import Browser, location
from finch_middleware.testing.fake_finch import FakeFinch
from tests.cli.running import Running, run, running

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_MASKED = r"[0-9a-f]{4}\.\.\. \(36 characters\)"

_PROMISED = [
    r'1\. Acme Inc\. clicks "Connect payroll" +POST /connect  \d+ ms',
    r"   ok  status +303",
    r"   ok  redirects to +http://127\.0\.0\.1:\d+/authorize",
    r"   ok  Finch opened a session for +demo-acme",
    r"       ticket, a cookie in this browser +finch-[\w-]{8}",
    r"   ok  its attributes +HttpOnly, Path=/, SameSite=Lax",
    r"   ok  stored connections +0",
    r"2\. Finch Connect asks, and the employer allows it +POST /authorize  \d+ ms",
    r"   ok  status of Finch's page +200",
    r"   ok  its title +Connect Acme Inc\.",
    r"   ok  redirects to +http://localhost:\d+/finch/callback",
    rf"       with a code +{_MASKED}",
    r"       and the state +yes",
    r"   ok  times Finch received this code +0",
    r"3\. The callback exchanges the code for a token +GET /finch/callback  \d+ ms",
    r"   ok  status +303",
    r"   ok  redirects to +http://localhost:\d+/\?finch=connected",
    r"   ok  that URL contains the code +no",
    r"   ok  times Finch received this code +1",
    r"   ok  tokens issued by Finch +1",
    r"   ok  message on the page +Your payroll is connected\.",
    r"4\. The database holds the token, encrypted",
    r"   ok  stored connections +1",
    rf"         connection_id +{_UUID}",
    r"         customer_id +demo-acme",
    r"         sealed +fm1\.demo\.[\w-]+\.\.\.",
    r"   ok  encrypted token starts with +fm1\.",
    r"       searched for plain text +finch\.db, .*finch\.db-wal, application\.log",
    r"   ok  connection id found +yes",
    r"   ok  code found +no",
    r"   ok  token found +no",
    r"   ok  encryption key found +no",
    r"   ok  client secret found +no",
    r"   ok  webhook secret found +no",
    r"5\. The application reads it with finch\.connections +GET /introspect  \d+ ms",
    rf"       access_token\.reveal\(\) +{_MASKED}",
    rf"   ok  token on the application's page +{_MASKED}",
    r"   ok  it is the token that Finch issued +yes",
    r"   ok  Finch accepts it, with status +200",
    r"6\. The same callback again: a reload or a double click +GET /finch/callback  \d+ ms",
    r"   ok  status +303",
    r"   ok  redirects to +http://localhost:\d+/\?finch=connected",
    r"   ok  same response as the first time +yes",
    r"   ok  times Finch received this code +1",
    r"   ok  tokens issued by Finch +1",
    r"   ok  stored connections +1",
    r"7\. A forged callback: another customer's code +GET /finch/callback  \d+ ms",
    rf"       unused code of Globex Corp\. +{_MASKED}",
    r"   ok  status in a browser without ticket +400",
    r"   ok  title of the page +This was not started in this browser",
    r"   ok  requests to Finch's token endpoint +0",
    r"   ok  times Finch received this code +0",
    r"   ok  stored connections +1",
    r"   ok  redirect in Globex Corp\.'s browser +http://localhost:\d+/\?finch=connected",
    r"8\. Globex Corp\. declines +GET /finch/callback  \d+ ms",
    r"   ok  status +303",
    r"   ok  redirects to +http://localhost:\d+/\?finch=declined",
    r"   ok  message on the page +Nothing new was connected\. You can start .+",
    r"   ok  requests to Finch's token endpoint +0",
    r"   ok  stored connections changed +no",
    r"9\. A webhook arrives: Acme Inc\. has to sign in again",
    r"   ok  status of a forged one +401",
    r"   ok  status of Finch's own +200",
    r"   ok  status on the page +reauth",
    r"10\. Acme Inc\. signs in again +GET /finch/callback  \d+ ms",
    r"   ok  status +303",
    r"   ok  redirects to +http://localhost:\d+/\?finch=connected",
    r"   ok  Finch was asked for that connection +yes",
    r"   ok  stored connections changed +no",
    r"   ok  the token is a new one +yes",
    r"   ok  status that Finch reports +connected",
    r"11\. Acme Inc\. disconnects +POST /disconnect  \d+ ms",
    r"   ok  status +303",
    r"   ok  redirects to +http://localhost:\d+/\?finch=disconnected",
    r"   ok  message on the page +Your payroll is disconnected\.",
    r"   ok  requests to Finch to end it +1",
    r"   ok  Finch accepts the token, with status +401",
    r"   ok  connections in finch\.connections +0",
    r"All 58 observations are as promised\. The demo took \d+\.\d seconds\.",
]


class Finished(NamedTuple):
    """One run: its status, what it printed, and what it left in its folder."""

    status: int
    output: str
    errors: str
    left: list[Path]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("demo")
    # Settings of this machine that the demo must ignore.
    settings = {"FINCH_STORAGE_URL": "oracle://production", "FINCH_KEY": "not a key"}
    result = run("demo", TMPDIR=str(folder), **settings)
    return Finished(result.returncode, result.stdout, result.stderr, list(folder.iterdir()))


def accepts_connections(address: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", urlsplit(address).port or 0)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_it_prints_every_observation_in_order_and_ends_with_status_zero(demo: Finished) -> None:
    lines = iter(demo.output.splitlines())

    missing = [
        line for line in _PROMISED if not any(re.fullmatch(line, printed) for printed in lines)
    ]

    assert missing == []
    assert len(re.findall("^   ok  ", demo.output, re.M)) == 58
    assert (demo.status, demo.errors) == (0, "")


def test_its_lines_are_plain_and_at_most_a_hundred_columns(demo: Finished) -> None:
    # The path of a temporary folder may be longer.
    lines = [line for line in demo.output.splitlines() if "/finch.db" not in line]

    assert max(map(len, lines)) <= 100
    assert all(line == line.rstrip() for line in lines)
    assert demo.output.isascii()
    assert "\x1b" not in demo.output


def test_its_output_holds_no_code_token_or_key_in_full(demo: Finished) -> None:
    # Codes and tokens are UUIDs, as these two ids are; keys are 32 bytes in base64.
    ids = re.findall(rf"(?:connection_id|entities) +\W*({_UUID})", demo.output)

    assert re.findall(_UUID, demo.output) == ids
    assert len(ids) == 2
    assert re.search(r"[A-Za-z0-9+/]{43}=", demo.output) is None
    assert "state=" not in demo.output
    assert "secret-of-client" not in demo.output


def test_it_leaves_no_file_and_no_server(demo: Finished) -> None:
    addresses = re.findall(r"http://[\w.]+:\d+", demo.output)

    assert demo.left == []
    assert len(set(addresses)) == 2
    assert not any(map(accepts_connections, addresses))


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        pytest.param(["--storage", "oracle://x"], ["unknown scheme"], id="unknown storage"),
        pytest.param(
            ["--storage", "sqlite:////no/such/x.db"], ["/no/such does not exist"], id="no folder"
        ),
        pytest.param(["--real"], ["FINCH_CLIENT_ID", "FINCH_CLIENT_SECRET"], id="no account"),
    ],
)
def test_what_cannot_start_is_one_text_and_status_two(
    arguments: list[str], texts: list[str], tmp_path: Path
) -> None:
    account = {"FINCH_CLIENT_ID": None, "FINCH_CLIENT_SECRET": None}

    result = CliRunner(env=account).invoke(main, ["demo", *arguments])

    assert result.exit_code == 2
    assert all(text in result.stderr for text in texts)
    assert list(tmp_path.glob("finch-demo-*")) == []


@pytest.mark.parametrize("arguments", [["--serve"], []])
def test_a_port_in_use_is_one_text_and_status_two(arguments: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(main, ["demo", *arguments, "--port", port])

    assert result.exit_code == 2
    assert "choose another port with --port" in result.stderr


def served(process: Running) -> str:
    return process.wait_for(r"Open (http://localhost:\d+) in a browser\. Press")


def test_serve_runs_until_a_signal_stops_it(tmp_path: Path) -> None:
    with running("demo", "--serve") as process, Browser() as browser:
        address = served(process)
        home = browser.open(address)

        status = process.ended_by(signal.SIGINT)

    assert home.status_code == 200
    assert status == 0
    assert not accepts_connections(address)
    assert list(tmp_path.glob("finch-demo-*")) == []
    assert "Traceback" not in process.output


@pytest.mark.full
@pytest.mark.parametrize("sandbox", ["", "none"])
def test_real_uses_the_finch_that_is_configured(
    fake: FakeFinch, tmp_path: Path, sandbox: str
) -> None:
    settings = {
        "FINCH_CLIENT_ID": fake.client_id,
        "FINCH_CLIENT_SECRET": fake.client_secret,
        "FINCH_API_URL": fake.api_url,
        "FINCH_CONNECT_ORIGIN": fake.connect_origin,
        "FINCH_REDIRECT_URI": "https://elsewhere.test/callback",
        "FINCH_CALLBACK_PATH": "/callback",
        "FINCH_SANDBOX": sandbox,
    }
    arguments = ["--real", "--port", "0", "--storage", f"sqlite:///{tmp_path}/x.db"]

    with running("demo", *arguments, **settings) as process, Browser() as browser:
        opened = browser.submit(browser.open(served(process)), "/connect")
        page = browser.open(location(opened))
        back = browser.submit(page, "/authorize", decision="allow", provider="gusto")
        finished = browser.open(location(back))
        status = process.ended_by(signal.SIGINT)

    session = fake.ledger.sessions[0]
    assert (finished.status_code, status) == (303, 0)
    assert session.sandbox is (sandbox == "")
    assert ("Finch bills them" in process.output) is (sandbox == "none")
    assert f"redirect URI is {session.redirect_uri}\n" in process.output
    assert "FINCH_KEY is not set" in process.output
    assert fake.client_secret not in process.output
    assert fake.ledger.tokens[0] not in process.output
