"""T5, T22 and T24 once more, on the database servers that a deployment shares."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.canaries.harvest import files_of
from tests.canaries.scene import query_of
from tests.canaries.spellings import hits
from tests.site import CALLBACK, KEY, Browser, Site
from tests.storage import servers

pytestmark = pytest.mark.full

_DUPLICATES = 64


@pytest.fixture(scope="module", params=["postgresql", "mysql", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    yield from servers.served(request.param, getattr(servers, request.param))


@pytest.fixture
def prefix() -> str:
    return f"threats_{os.urandom(4).hex()}_"


@pytest.fixture
def storage_options(server: servers.Server, prefix: str) -> dict[str, Any]:
    """A storage on that server, empty."""
    storage: Any
    if server.url.startswith(("redis", "unix")):
        from finch_middleware.storage.redis.storage import RedisStorage

        storage = RedisStorage(server.url, prefix=f"{{{prefix}}}:")
    else:
        storage = SQLAlchemyStorage(server.url, table_prefix=prefix)
        storage.create_tables()
    return {"storage": storage, "spool": None}


def _dump(server: servers.Server, prefix: str) -> bytes:
    """Every column of every row; of a Redis of our own every file."""
    if server.url.startswith("unix:"):
        return files_of(Path(server.url.removeprefix("unix://")).parent)
    if server.url.startswith("redis:"):
        pytest.skip("the files of somebody else's Redis cannot be read")
    engine = create_engine(server.url, poolclass=NullPool)
    with engine.connect() as connection:
        rows = [
            tuple(bytes(each) if isinstance(each, memoryview) else each for each in row)
            for table in ("attempts", "connections")
            for row in connection.execute(text(f"SELECT * FROM {prefix}{table}"))
        ]
    return repr(rows).encode()


@pytest.mark.parametrize(
    "behaviour",
    [Behaviour.normal(), Behaviour.alter(customer_id="other")],
    ids=["stored", "quarantined"],
)
def test_t22_a_dump_of_a_server_holds_no_secret_in_any_spelling(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    server: servers.Server,
    prefix: str,
    behaviour: Behaviour,
) -> None:
    fake.script("token", behaviour)
    callback = fake.allow(browser.location("acme"))

    browser.get(callback)

    dump = _dump(server, prefix)
    known = {"token": fake.ledger.tokens[0], "key": KEY.partition(":")[2], **query_of(callback)}
    known |= {"client secret": fake.client_secret, **browser.cookies}
    assert hits(dump, known) == []
    assert re.search(rb"fm1\.k1\.", dump)


def test_t05_sixty_four_identical_requests_on_a_server_make_one_call(
    fake: FakeFinch, make_site: Callable[..., Site]
) -> None:
    first = make_site()
    sites = [first, make_site(redirect_uri=first.origin + CALLBACK)]
    browser = Browser(first)
    callback = fake.allow(browser.location("acme"))
    barrier = threading.Barrier(_DUPLICATES)
    fake.script("token", Behaviour.delay(0.2))

    def visit(number: int) -> str:
        # Cookies know no port: both sites are workers of one deployment to them.
        duplicate = Browser(sites[number % 2], cookies=dict(browser.cookies))
        barrier.wait()
        answer = duplicate.get(callback)
        while answer.status == 202:
            answer = duplicate.get(callback)
        return f"{answer.status} {answer.location}"

    with ThreadPoolExecutor(_DUPLICATES) as pool:
        answers = set(pool.map(visit, range(_DUPLICATES)))

    assert fake.ledger.presented(query_of(callback)["code"]) == 1
    [answer] = answers
    assert answer.startswith("303 /settings?finch=connected&")


def test_t24_no_server_takes_an_odd_spelling_for_a_code_or_a_customer(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location("acme"))
    given = query_of(callback)
    assert browser.get(callback).status == 303

    odd = [given["code"].upper(), given["code"] + "%20", given["code"] + "%00"]
    statuses = [
        browser.get(f"{callback.partition('?')[0]}?code={code}&state={given['state']}").status
        for code in odd
    ]
    others = [site.finch.connections.for_customer(each) for each in ("ACME", "acme ", "acmé")]

    assert statuses == [400] * 3
    assert others == [[], [], []]
    assert fake.ledger.calls("token") == 1
    assert len(site.finch.connections.for_customer("acme")) == 1


def test_t24_no_server_takes_an_odd_spelling_for_a_state(
    fake: FakeFinch, site: Site, browser: Browser
) -> None:
    callback = fake.allow(browser.location("acme"))
    path, given = callback.partition("?")[0], query_of(callback)
    state = given["state"]
    odd = [state.swapcase(), state + " ", " " + state, state + "\x00", state + "\U0001f4a9"]
    odd += [state[:-1], state + "=", state.replace(state[3], "é", 1)]

    statuses = [
        browser.get(f"{path}?code={given['code']}&state={quote(each, safe='')}").status
        for each in odd
    ]
    calls = fake.ledger.calls("token")
    honest = browser.get(callback)

    assert statuses == [400] * len(odd)
    assert calls == 0
    assert honest.status == 303


@pytest.mark.parametrize("customer", ["ACME", "acme ", "é", "\U0001f4a9", "O'Brien; --", "a%b_c"])
def test_t24_odd_names_of_customers_stay_apart_on_a_server(
    fake: FakeFinch, site: Site, customer: str
) -> None:
    for each in ("acme", customer):
        visitor = Browser(site)
        answer = visitor.get(fake.allow(visitor.location(quote(each, safe=""))))
        assert answer.status == 303

    for each in ("acme", customer):
        [connection] = site.finch.connections.for_customer(each)
        assert connection.customer_id == each
