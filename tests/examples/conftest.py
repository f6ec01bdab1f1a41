from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.examples.running import COMMANDS, Running, running, settings_of_an_application


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The file in which an example keeps its connections."""
    folder = tmp_path_factory.mktemp("examples")
    return lambda name: f"{folder}/{name}.db"


@pytest.fixture(scope="session")
def start(database: Callable[[str], str]) -> Iterator[Callable[[str], Running]]:
    """Starts each example at most once, and stops them all when the session ends."""
    started: dict[str, Running] = {}
    with ExitStack() as stack:

        def start(name: str) -> Running:
            if name not in started:
                settings = settings_of_an_application(f"sqlite:///{database(name)}")
                started[name] = stack.enter_context(running(name, **settings))
            return started[name]

        yield start


#: Of the others, each has the server and the views of one of these.
_BY_DEFAULT = ["flask_app", "fastapi_app", "django_project", "embedded"]
_LATER = [
    pytest.param(name, marks=pytest.mark.full) for name in COMMANDS if name not in _BY_DEFAULT
]


@pytest.fixture(params=[*_BY_DEFAULT, *_LATER])
def example(request: pytest.FixtureRequest, start: Callable[[str], Running]) -> Running:
    """Each example in turn; Acme connects in some tests, Globex in none."""
    return start(request.param)
