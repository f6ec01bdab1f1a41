"""The benchmarks about faults, at a small size: every promise that they measure holds."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from benchmarks import load, servers
from tests.required import absent
from tests.storage.servers import Missing

pytestmark = pytest.mark.full


@pytest.mark.usefixtures("usually_patient")
@pytest.mark.parametrize("storage", sorted(load.GOODBYES))
def test_a_database_that_stops_and_starts_loses_no_code_and_no_token(storage: str) -> None:
    try:
        figures = load.measured(storage, seconds=6, rate=10)
    except Missing as missing:
        absent(storage, str(missing))

    assert figures.faults == []
    assert figures.downs
    assert figures.ends["stored"] >= 50


@pytest.mark.parametrize("server", sorted(servers.SERVERS))
def test_a_real_server_keeps_everybody_apart(server: str) -> None:
    if find_spec(server) is None:
        absent("servers", f"{server} is not installed")

    figures = servers.measured(server, count=400)  # so many that the threads of a worker meet

    assert figures.faults == []
    assert figures.answers == {"303 finch=connected": 400}
