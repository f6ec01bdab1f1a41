from __future__ import annotations

import re
import shlex
import signal
import socket
import urllib.request
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner

from finch_middleware import FinchConnect
from finch_middleware.cli import main
from finch_middleware.cli.demo.tour import Browser, location, text_of
from finch_middleware.crypto.keys import new_key
from tests.cli.running import running

_READY = r"Press (Ctrl-C) to stop"


def printed_variables(output: str) -> dict[str, str]:
    """What a shell makes of the lines, pasted as they are."""
    words = [shlex.split(line, comments=True) for line in output.splitlines()]
    return dict(line[1].split("=", 1) for line in words if line[:1] == ["export"])


def begun(variables: dict[str, str]) -> str:
    """Where an application with these variables sends the browser."""
    finch = FinchConnect.from_env(
        variables,
        redirect_uri="http://localhost/finch/callback",
        products=["company"],
        storage="memory://",
        key=new_key("k1"),
    )
    opened = finch.begin(customer_id="acme", customer_name="Acme Inc.")
    return opened.headers["Location"]


def test_an_application_with_the_printed_variables_reaches_its_connect_page() -> None:
    secrets = [
        "--webhook-url",
        "http://127.0.0.1:1",
        "--webhook-secret=YQ==",
        "--webhook-secret=Yg==",
    ]
    with running("fake-finch", "--port", "0", *secrets) as this:
        this.wait_for(_READY)
        variables = printed_variables(this.output)

        with Browser() as browser:
            page = browser.open(begun(variables))

    assert variables["FINCH_WEBHOOK_SECRETS"] == "YQ==,Yg=="
    assert text_of(page, "h1") == "Connect Acme Inc."


@pytest.mark.parametrize(("option", "echoed"), [("--echo-state", True), ("--no-echo-state", False)])
def test_the_state_is_returned_only_with_the_option(option: str, echoed: bool) -> None:
    with running("fake-finch", "--port", "0", option) as this, Browser() as browser:
        this.wait_for(_READY)
        page = browser.open(begun(printed_variables(this.output)))

        back = browser.submit(page, "/authorize", decision="allow", provider="gusto")

    query = parse_qs(urlsplit(location(back)).query)
    assert "code" in query
    assert ("state" in query) is echoed


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it(stop: signal.Signals) -> None:
    with running("fake-finch", "--port", "0") as this:
        this.wait_for(_READY)
        address = printed_variables(this.output)["FINCH_API_URL"]
        urllib.request.urlopen(f"{address}/_fake/ledger").close()

        # Its port is free then, so another program may listen there at once.
        status = this.ended_by(stop)

    assert status == 0
    assert not re.search("Traceback|Aborted", this.output)


def test_a_port_in_use_is_one_text() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        result = CliRunner().invoke(main, ["fake-finch", "--port", str(port)])

    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: port {port} cannot be used")
    assert "--port" in result.stderr


@pytest.mark.parametrize("given", [[], ["--webhook-secret", "no base64!"]])
def test_a_webhook_address_needs_a_usable_secret(given: list[str]) -> None:
    result = CliRunner().invoke(main, ["fake-finch", "--webhook-url", "http://127.0.0.1:1", *given])

    assert result.exit_code == 2
    assert "--webhook-secret" in result.output
    assert "no base64!" not in result.output
