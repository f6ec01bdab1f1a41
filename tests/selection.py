"""Which tests the default run leaves out: those with the mark `full`, and what gets that mark."""

from __future__ import annotations

from pathlib import Path

import pytest

_TESTS = Path(__file__).parent

#: Their tests need a browser or a real web server. The default run does not even import them.
FOLDERS = ("browser", "servers")
#: A test with a fixture of this name, or a parameter of this value, needs that engine.
_ENGINES = frozenset({"postgresql", "mysql", "redis", "redis_cluster", "cluster_of_two"})
#: A test with a fixture of this name needs strace, or a disk or server of its own.
_FIXTURES = frozenset({"worker", "small_disk", "proxy", "reached"})
#: The storage contract, which the default run checks on the PostgreSQL of the wheel as well.
CONTRACT_ON_SERVERS = "storage/test_servers.py"


def left_out(folder: Path, config: pytest.Config) -> bool:
    """Whether the tests of *folder* are not to be imported in this run."""
    default = "not full" in config.option.markexpr
    return default and folder in [_TESTS / name for name in FOLDERS]


def mark_full(item: pytest.Item) -> None:
    """Give *item* the mark `full` if it is not for the default run."""
    file = item.path.relative_to(_TESTS).as_posix()
    folder = file.partition("/")[0]
    storages = _ENGINES - {"postgresql"} if file == CONTRACT_ON_SERVERS else _ENGINES
    if folder in FOLDERS or (storages | _FIXTURES) & _needs(item):
        item.add_marker(pytest.mark.full)


def _needs(item: pytest.Item) -> set[str]:
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return {*getattr(item, "fixturenames", ()), *(p for p in parameters if isinstance(p, str))}
