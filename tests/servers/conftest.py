"""Servers that start at their first test, and end after the last test of this folder."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.required import absent
from tests.servers.running import Absent, Reached, running


@pytest.fixture(scope="package")
def started() -> Iterator[Callable[..., Reached]]:
    """Starts the server of a name, with these settings, unless it runs already."""
    with ExitStack() as stack:

        @functools.cache
        def start(name: str, **settings: Any) -> Reached:
            try:
                return stack.enter_context(running(name, **settings))
            except Absent as missing:
                absent("servers", str(missing))

        yield start


@pytest.fixture
def reached(started: Callable[..., Reached], name: str) -> Reached:
    """The server that the test's parameter *name* names."""
    return started(name)
