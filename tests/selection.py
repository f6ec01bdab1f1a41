"""Which tests the default run leaves out: those with the mark `full`, and what gets it."""

from __future__ import annotations

from pathlib import Path

import pytest

_TESTS = Path(__file__).parent

#: Their tests need a browser, a web server, strace or a disk of their own. The default run does
#: not even import them.
FOLDERS = ("browser", "faults", "servers")
#: A test with a fixture of this name, or a parameter of this value, needs that engine.
_ENGINES = frozenset({"postgresql", "mysql", "redis", "redis_cluster"})
#: Here the storage decides what happens, so the PostgreSQL of the wheel is in the default run.
_WITH_POSTGRESQL = ("storage",)


def left_out(folder: Path, config: pytest.Config) -> bool:
    """Whether the tests of *folder* are not to be imported in this run."""
    default = "not full" in config.option.markexpr
    return default and folder in [_TESTS / name for name in FOLDERS]


def mark_full(item: pytest.Item) -> None:
    """Give *item* the mark `full` if the `dev` extra is not enough for it."""
    folder = item.path.relative_to(_TESTS).parts[0]
    engines = _ENGINES - ({"postgresql"} if folder in _WITH_POSTGRESQL else set())
    if folder in FOLDERS or engines & _needs(item):
        item.add_marker(pytest.mark.full)


def _needs(item: pytest.Item) -> set[str]:
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return {*getattr(item, "fixturenames", ()), *(p for p in parameters if isinstance(p, str))}
