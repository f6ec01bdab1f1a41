from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.examples.running import COMMANDS, Running


@pytest.fixture(scope="session")
def start() -> Iterator[Callable[[str], Running]]:
    """Starts examples, each once: there is one Acme in them, who connects, and one Globex."""
    started: dict[str, Running] = {}
    with ExitStack() as stack:

        def start(name: str) -> Running:
            if name not in started:
                started[name] = stack.enter_context(Running(name))
            return started[name]

        yield start


@pytest.fixture(params=COMMANDS)
def example(request: pytest.FixtureRequest, start: Callable[[str], Running]) -> Running:
    """Every example in turn."""
    for module in COMMANDS[request.param][1]:
        pytest.importorskip(module)
    return start(request.param)
