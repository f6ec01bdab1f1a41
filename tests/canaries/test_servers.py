"""T17 where a server holds the tokens: its log of statements, its journal, its driver's log."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.canaries.planted import SECRET
from tests.canaries.scenarios import ALL
from tests.canaries.scene import Scene, tell
from tests.canaries.spellings import hits
from tests.storage import servers
from tests.storages import emptied

pytestmark = pytest.mark.full

#: Every way in which a row of ours is written, and ends that a server hears of.
_SCENARIOS = (
    "exchange: connected",
    "exchange: another customer",
    "exchange: no connection",
    "exchange: invalid grant",
    "exchange: throttled",
    "exchange: server error",
    "return: stolen code",
    "return: declined",
    "storage: no settling",
    "spool: drained later",
    "hook: on_connected raises",
    "application: tampered row",
    "application: reads the token",
)
_KINDS: dict[str, Callable[[], Any]] = {
    "postgresql": functools.partial(servers.postgresql, logged=True),
    "mysql": functools.partial(servers.mysql, logged=True),
    "redis": servers.redis,
}


@pytest.fixture(scope="module", params=_KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    """A server that writes down whatever it is told."""
    for each in servers.served(request.param, _KINDS[request.param]):
        if not each.writes:
            pytest.skip("not our server to look into")
        yield each


@pytest.fixture
def scene(
    server: servers.Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Iterator[Scene]:
    emptied(server.url)
    with Scene(tmp_path, server=server, printed=lambda: "".join(capfd.readouterr())) as scene:
        yield scene
        scene.storage.real.close()  # type: ignore[attr-defined]  # every storage of a server has it


@pytest.mark.parametrize("name", _SCENARIOS)
def test_t17_no_secret_reaches_a_server_or_the_log_of_its_driver(name: str, scene: Scene) -> None:
    ALL[name](scene)

    assert scene.leaks() == []


def test_t17_what_a_server_writes_holds_what_it_received(scene: Scene) -> None:
    scene.codes.append(SECRET)
    scene.returned("acme")
    [row] = scene.storage.real.for_customer("acme")

    assert scene.server is not None
    tell(scene.server, SECRET)

    # The sealed token is there: so would be the token, had it been told.
    assert hits(scene.left()["server"], {"sealed": row.sealed.text})
    assert ("server", "code 0", "raw") in scene.leaks()
