"""T18 to T20: a hostile token endpoint, network or environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.odd_server import Line, OddServer, authority, raw_answer, stall
from tests.site import Browser, Site

_BEYOND_ONE_GIBIBYTE = 1024 * 1024 * 1024


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1:{port}/auth/token", "//127.0.0.1:{port}/x", "https://127.0.0.1:{port}/"],
)
def test_t18_a_redirect_of_the_token_endpoint_is_not_followed(
    fake: FakeFinch, site: Site, browser: Browser, status: int, target: str
) -> None:
    with OddServer(lambda line: None) as elsewhere:
        fake.script("token", Behaviour.redirect(target.format(port=elsewhere.port), status=status))
        answer = browser.get(fake.allow(browser.location("acme")))

    assert answer.status == 502
    assert (elsewhere.accepted, elsewhere.received_bytes) == (0, 0)
    assert fake.ledger.calls("token") == 1
    assert str(elsewhere.port) not in answer.text


@pytest.mark.parametrize("target", ["/auth/token", "/disconnect", "file:///etc/passwd", "", "?"])
def test_t18_a_redirect_to_the_same_host_or_to_a_file_is_not_followed(
    fake: FakeFinch, browser: Browser, target: str
) -> None:
    fake.script("token", Behaviour.redirect(target, status=307))

    answer = browser.get(fake.allow(browser.location("acme")))

    assert answer.status == 502
    assert fake.ledger.calls("token") == 1
    assert fake.ledger.calls("disconnect") == 0


def _after_request(behave: Callable[[Line], object]) -> Callable[[Line], None]:
    def act(line: Line) -> None:
        line.request()
        behave(line)
        line.wait()

    return act


_MEASURED = """
import re, sys
from pathlib import Path
from datetime import timedelta
from finch_middleware.errors import FinchFault
from finch_middleware.finch.client import FinchClient
from finch_middleware.secret import Secret

def peak_kib():
    # Not getrusage, whose peak is also that of the process that was forked before the exec.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def ask(url):
    client_id, secret = sys.argv[3:]
    api = FinchClient(client_id=client_id, client_secret=Secret(secret), api_url=url)
    try:
        api.exchange(Secret(sys.argv[2]), redirect_uri=None, within=timedelta(minutes=2))
    except FinchFault as fault:
        return fault.reason

ask(sys.argv[1] + "/warm")
before = peak_kib()
reason = ask(sys.argv[1])
print(reason, peak_kib() - before)
"""


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (Behaviour.huge(_BEYOND_ONE_GIBIBYTE), "too_large"),
        (Behaviour.huge(_BEYOND_ONE_GIBIBYTE, declared=False), "too_large"),
        (Behaviour.gzipped(padding_bytes=64 * 1024 * 1024), "encoded"),
    ],
    ids=["declared", "undeclared", "gzip bomb"],
)
def test_t19_a_gibibyte_of_body_costs_four_mebibytes_at_most(
    fake: FakeFinch, behaviour: Behaviour, reason: str
) -> None:
    code = fake.issue_code(customer_id="acme")
    fake.script("token", behaviour)

    told = subprocess.run(
        [sys.executable, "-c", _MEASURED, fake.api_url, code, fake.client_id, fake.client_secret],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()

    assert told[0] == reason
    assert int(told[1]) <= 4 * 1024


_IN_A_HOSTILE_ENVIRONMENT = """
import sys
from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import Browser, Site

with FakeFinch() as fake, Site(fake) as site:
    browser = Browser(site)
    answer = browser.get(fake.allow(browser.location("acme")))
    print(answer.status, fake.ledger.calls("sessions"), fake.ledger.calls("token"))
    sent = [each for each in fake.ledger.requests if each.header("Authorization")]
    print([each.endpoint for each in sent])
"""


def _hostile_environment(trap: OddServer, folder: Path) -> dict[str, str]:
    netrc = folder / "netrc"
    netrc.write_text("machine 127.0.0.1 login evil password evil\n")
    netrc.chmod(0o600)
    proxies = {
        f"{scheme}_{case}": trap.url for scheme in ("HTTP", "HTTPS", "ALL") for case in ("PROXY",)
    }
    return {
        **os.environ,
        **proxies,
        **{name.lower(): url for name, url in proxies.items()},
        "NO_PROXY": "",
        "no_proxy": "",
        "NETRC": str(netrc),
        "REQUESTS_CA_BUNDLE": str(authority().bundle),
        "CURL_CA_BUNDLE": str(authority().bundle),
        "SSL_CERT_FILE": str(authority().bundle),
        "SSL_CERT_DIR": str(folder),
        "SSLKEYLOGFILE": str(folder / "keys.log"),
    }


def test_t20_the_environment_changes_nothing_about_a_whole_flow(tmp_path: Path) -> None:
    with OddServer(stall) as trap:
        told = subprocess.run(
            [sys.executable, "-c", _IN_A_HOSTILE_ENVIRONMENT],
            env=_hostile_environment(trap, tmp_path),
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()

    assert told == ["303 1 1", "['sessions']"]
    assert trap.accepted == 0


_TRUSTING = """
import sys
from datetime import timedelta
from finch_middleware.errors import FinchFault
from finch_middleware.finch.client import FinchClient
from finch_middleware.secret import Secret

bundle = sys.argv[2] if len(sys.argv) > 2 else None
api = FinchClient(client_id="c", client_secret=Secret("s"), api_url=sys.argv[1], ca_bundle=bundle)
try:
    api.exchange(Secret("code-1"), redirect_uri=None, within=timedelta(minutes=2))
except FinchFault as fault:
    print(fault.reason)
"""


@pytest.mark.parametrize(
    ("configured", "reason", "requests"), [(False, "unreachable", 0), (True, "invalid_grant", 1)]
)
def test_t20_an_authority_counts_only_where_it_is_configured(
    tmp_path: Path, configured: bool, reason: str, requests: int
) -> None:
    refusal = raw_answer(b'{"name": "invalid_grant_error"}', status="400 Bad Request")
    answering = _after_request(lambda line: line.send(refusal))
    with OddServer(answering, tls=authority().server()) as server, OddServer(stall) as trap:
        bundle = [str(authority().bundle)] if configured else []
        environment = _hostile_environment(trap, tmp_path)
        told = subprocess.run(
            [sys.executable, "-c", _TRUSTING, server.url, *bundle],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    assert told == reason
    assert len(server.requests) == requests
    assert trap.accepted == 0
    # Where TLS was spoken, its keys were not written down.
    assert not (tmp_path / "keys.log").exists()
