"""Servers that start at their first test, and end after the last test of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.required import absent
from tests.servers.running import Absent, Reached, running


@pytest.fixture(scope="package")
def started() -> Iterator[Callable[[str], Reached]]:
    """Starts the server of a name, unless it runs already."""
    servers: dict[str, Reached] = {}
    with ExitStack() as stack:

        def start(name: str) -> Reached:
            if name not in servers:
                try:
                    servers[name] = stack.enter_context(running(name))
                except Absent as missing:
                    absent("servers", str(missing))
            return servers[name]

        yield start


@pytest.fixture
def reached(started: Callable[[str], Reached], name: str) -> Reached:
    """The server that the test's parameter *name* names."""
    return started(name)
