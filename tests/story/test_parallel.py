"""Many identical callbacks at once: the code is presented once, and all get the same answer."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from finch_middleware import duplicates as repeats
from finch_middleware.config.readers import utc_now
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.site import CALLBACK, KEY, Answer, Browser, Site
from tests.story.oracle import attempt_of, tokens_of
from tests.story.ways import Comeback, allowed, connected, every_way

BROWSERS = 64
PROCESSES = 4


def ended(browser: Browser, comeback: Comeback) -> Answer:
    """What is shown in the end: what says that another is at work is asked once more."""
    answer = comeback.brought_by(browser)
    while answer.status == 202:
        threading.Event().wait(0.05)
        answer = comeback.brought_by(browser)
    return answer


def all_at_once(browsers: Sequence[Browser], comeback: Comeback) -> list[Answer]:
    """What each browser shows in the end, where all begin in the same moment."""
    barrier = threading.Barrier(len(browsers))

    def visit(browser: Browser) -> Answer:
        barrier.wait()
        return ended(browser, comeback)

    with ThreadPoolExecutor(len(browsers)) as pool:
        return list(pool.map(visit, browsers))


@every_way
def test_sixty_four_threads_present_a_code_once(
    fake: FakeFinch, site: Site, browser: Browser, flow: str
) -> None:
    comeback = allowed(fake, browser, flow=flow)
    fake.script("token", Behaviour.delay(0.2))

    answers = all_at_once([Browser(site, dict(browser.cookies)) for _ in range(BROWSERS)], comeback)

    assert fake.ledger.presented(comeback.code) == 1
    assert len({(each.status, each.location, each.body) for each in answers}) == 1
    assert connected(answers[0])
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    assert len(site.named("finch.connection.stored")) == 1


@pytest.mark.parametrize("flow", ["redirect", "embedded"])
def test_sixty_four_threads_fail_alike(
    fake: FakeFinch, site: Site, browser: Browser, flow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "WAIT_SECONDS", 0.1)
    comeback = allowed(fake, browser, flow=flow)
    fake.script("token", Behaviour.reset(processed=True).after(0.3))

    answers = all_at_once([Browser(site, dict(browser.cookies)) for _ in range(BROWSERS)], comeback)

    assert fake.ledger.presented(comeback.code) == 1
    assert {each.status for each in answers} == {502}
    [event] = site.named("finch.exchange.ambiguous")
    assert all(str(event.reference) in each.text for each in answers)


def test_sixty_four_browsers_over_four_processes_present_a_code_once(
    fake: FakeFinch,
    make_site: Callable[..., Site],
    storage_options: dict[str, Any],
    tmp_path: Path,
) -> None:
    if isinstance(storage_options["storage"], MemoryStorage):
        pytest.skip("memory belongs to one process")
    site = make_site(clock=utc_now)  # the time that all processes share
    browser = Browser(site)
    comeback = allowed(fake, browser, flow="redirect")
    fake.script("token", Behaviour.delay(0.2))

    with workers(fake, site, storage_options, log=tmp_path / "workers.log") as places:
        browsers = [
            Browser(places[number % PROCESSES], dict(browser.cookies)) for number in range(BROWSERS)
        ]
        answers = all_at_once(browsers, comeback)

    assert fake.ledger.presented(comeback.code) == 1
    assert {(each.status, each.location) for each in answers} == {(303, answers[0].location)}
    assert "finch=connected" in answers[0].location
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)
    told = (tmp_path / "workers.log").read_text()
    assert not [secret for secret in (*fake.ledger.tokens, comeback.code) if secret in told]


def test_flows_of_one_connection_that_end_at_once_leave_the_newest_token(
    fake: FakeFinch, make_site: Callable[..., Site]
) -> None:
    site = make_site(clock=utc_now)
    browser = Browser(site)
    comebacks = [allowed(fake, browser, flow="redirect") for _ in range(5)]
    barrier = threading.Barrier(len(comebacks))

    def visit(comeback: Comeback) -> Answer:
        own = Browser(site, dict(browser.cookies))
        barrier.wait()
        return ended(own, comeback)

    with ThreadPoolExecutor(len(comebacks)) as pool:
        answers = list(pool.map(visit, comebacks))

    assert all(map(connected, answers))
    attempts = [attempt_of(site, fake, each.code) for each in comebacks]
    newest = max((each for each in attempts if each), key=lambda each: str(each.settled_at))
    [connection] = site.finch.connections.for_customer("acme")
    assert connection.attempt_id == newest.attempt_id
    assert len(fake.ledger.tokens) == len(comebacks)


class _Place(Site):
    """Another process's address, as a browser needs it."""

    def __init__(self, origin: str, *, secrets: set[str]) -> None:
        self.origin = origin
        self.secrets = secrets


@contextmanager
def workers(
    fake: FakeFinch, site: Site, storage_options: dict[str, Any], *, log: Path
) -> Iterator[list[_Place]]:
    """Processes that share the storage of *site* and are its workers."""
    options = {
        "client_id": fake.client_id,
        "client_secret": fake.client_secret,
        "redirect_uri": site.origin + CALLBACK,
        "products": ["company", "directory"],
        "key": KEY,
        "api_url": fake.api_url,
        "connect_origin": fake.connect_origin,
        **{name: _plain(value) for name, value in storage_options.items()},
    }
    with ExitStack() as stack, log.open("w") as told:
        started = [stack.enter_context(_worker(options, told=told)) for _ in range(PROCESSES)]
        yield [
            _Place(f"http://127.0.0.1:{_port(process)}", secrets=site.secrets)
            for process in started
        ]


@contextmanager
def _worker(options: dict[str, Any], *, told: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.story.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=told,
        text=True,
    )
    with process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(options) + "\n")
        process.stdin.flush()
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait(timeout=60)


def _port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
