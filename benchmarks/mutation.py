"""
How many small faults the tests would notice: mutation testing of what guards a token.

    python -m benchmarks.mutation               every part, a quarter of an hour on two processors
    python -m benchmarks.mutation vault tickets these alone
    python -m benchmarks.mutation --show vault  with the difference that each survivor makes

mutmut changes one operator, constant, argument or text at a time, and each part is held by the
smallest set of tests that guards it. It works on a copy in a temporary folder, so nobody's
working tree is touched. Ends with 1 where a part is under 95 %.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
LEAST_KILLED = 0.95
#: A mutant that hangs, or ends the interpreter, is noticed as well.
NOTICED = ("killed", "timeout", "segfault")

_COPIED = ("finch_middleware", "tests", "pyproject.toml")
_CONFIGURATION = """\
[mutmut]
source_paths=finch_middleware
only_mutate=finch_middleware/{file}
pytest_add_cli_args_test_selection=
    {tests}
pytest_add_cli_args=
    -p
    no:randomly
    -p
    no:cacheprovider
    -o
    timeout=30
    -m
    full or not full
    -k
    {selection}
track_dependencies=false
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """
    What is mutated, and by which tests it is held.

    Attributes:
        functions: The names of functions to mutate; empty: all of the file.
        selection: Which of the tests, as ``pytest -k`` reads it.
    """

    file: str
    tests: tuple[str, ...]
    functions: tuple[str, ...] = ()
    selection: str = "test"


_STORY = (
    "tests/test_callback.py",
    "tests/story/test_redirect.py",
    "tests/story/test_begin.py",
    "tests/story/test_declined.py",
    "tests/story/test_repeats.py",
    "tests/story/test_login.py",
    "tests/threats/test_duplicates.py",
    "tests/faults/test_claim.py",
    "tests/faults/test_exchange.py",
    "tests/story/test_hooks.py",
)
# One storage is enough to follow the story, and memory is the quickest.
_MEMORY_ALONE = "not sqlite and not postgresql and not mysql and not redis"

PARTS = {
    "tickets": Part(
        file="tickets.py",
        tests=(
            "tests/test_tickets.py",
            "tests/test_ticket_cookies.py",
            "tests/test_ticket_keys.py",
        ),
    ),
    "vault": Part(
        file="crypto/vault.py",
        tests=(
            "tests/test_vault.py",
            "tests/test_vault_grants.py",
            "tests/test_vault_provider.py",
            "tests/threats/test_database.py",
        ),
        selection="test_vault or t23_no or t23_a_row",
    ),
    "webhook": Part(file="finch/webhook.py", tests=("tests/test_webhook_signature.py",)),
    "urls": Part(
        file="config/urls.py",
        tests=(
            "tests/test_return_to.py",
            "tests/test_addresses.py",
            "tests/test_options.py",
            "tests/test_begin.py",
            "tests/test_transport_trust.py",
            "tests/story/test_begin.py",
            "tests/story/test_spa_origins.py",
        ),
        # Not `warn_of_prefix`: under mutmut, its warning names another frame.
        functions=(
            *("is_loopback", "origin_of", "_split", "fault_of_address", "usable_proxy"),
            *("wsgi_path", "browser_path", "check_return_to", "_misleads", "safe_return_to"),
            *("around_parameters", "parts_at"),
        ),
        # An iterator among the products is used up by the first of several runs.
        selection=f"{_MEMORY_ALONE} and not products",
    ),
    "binding": Part(
        file="binding.py",
        tests=(
            "tests/test_binding.py",
            "tests/test_binding_origins.py",
            # How states and expiry are compared.
            "tests/test_tickets.py",
            "tests/test_exchange.py",
        ),
    ),
    "invitations": Part(
        file="invitations.py",
        tests=("tests/story/test_invitations.py", "tests/threats/test_invitations.py"),
        selection=_MEMORY_ALONE,
    ),
    "callback": Part(
        file="callback.py",
        tests=(
            *_STORY,
            "tests/story/test_clocks.py",
            "tests/story/test_spa_origins.py",
            "tests/test_request_body.py",
            "tests/threats/test_invitations.py",
        ),
        selection=_MEMORY_ALONE,
    ),
    "exchange": Part(
        file="exchange.py",
        tests=(
            "tests/test_exchange.py",
            "tests/test_exchange_saving.py",
            "tests/story/test_ended_workers.py",
            "tests/faults/test_persist.py",
        ),
        selection=_MEMORY_ALONE,
    ),
    "events": Part(
        file="hooks/events.py",
        tests=("tests/test_events.py", "tests/story/test_hooks.py"),
        selection=_MEMORY_ALONE,
    ),
    "status": Part(
        file="hooks/status.py",
        tests=(
            "tests/story/test_status_hooks.py",
            "tests/story/test_afterwards.py",
            "tests/story/test_disconnect.py",
        ),
        selection=_MEMORY_ALONE,
    ),
    "history": Part(
        file="storage/history.py",
        tests=(
            "tests/test_history.py",
            "tests/storage/test_events.py",
            "tests/storage/test_precedence.py",
            "tests/story/test_status_hooks.py",
        ),
        selection=_MEMORY_ALONE,
    ),
    "connected": Part(
        file="hooks/connected.py",
        tests=("tests/test_connected_hook.py", "tests/story/test_hooks.py"),
        selection=_MEMORY_ALONE,
    ),
    # The race for a claim is in this file too, and the whole story runs through it.
    "duplicates": Part(
        file="duplicates.py",
        tests=(
            "tests/test_duplicates.py",
            "tests/test_claim_race.py",
            "tests/story/test_waiting.py",
            *_STORY,
        ),
        selection=_MEMORY_ALONE,
    ),
    "spool": Part(
        file="storage/spool.py",
        tests=(
            "tests/test_spool.py",
            "tests/test_spool_drain.py",
            "tests/test_spool_processes.py",
            "tests/test_spool_room.py",
            "tests/story/test_ended_workers.py",
            "tests/faults/test_persist.py",
        ),
        selection=_MEMORY_ALONE,
    ),
    "precedence": Part(
        file="attempts.py",
        tests=("tests/storage/test_precedence.py", "tests/storage/test_memory.py"),
        functions=("replaces", "pending", "forgettable"),
    ),
    "memory": Part(
        file="storage/memory.py",
        tests=("tests/storage/test_memory.py",),
        functions=("claim", "settle", "release", "_flow_holder", "_keep_newest"),
    ),
    "sql": Part(
        file="storage/sql/storage.py",
        tests=(
            "tests/storage/test_sqlalchemy.py",
            "tests/storage/test_plans.py",
            "tests/storage/test_sqlite.py",
            "tests/storage/test_sqlite_file.py",
        ),
        functions=("claim", "claim_and_read", "_claim", "_holder", "_current"),
        selection="claim or flow or code or busy",
    ),
    "queue": Part(
        file="storage/sql/write_queue.py",
        tests=("tests/storage/test_write_queue.py",),
        functions=("result", "wait", "wake_first", "write", "_take", "_let_go", "_add", "_wake"),
    ),
    "redis": Part(
        file="storage/redis/storage.py",
        tests=("tests/storage/on_redis/test_redis.py",),
        functions=("claim", "_current"),
        selection="claim or flow or code or plan",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """mutmut's word for each mutant of a part."""

    words: dict[str, str]

    @property
    def killed(self) -> int:
        return sum(word in NOTICED for word in self.words.values())

    @property
    def survivors(self) -> list[str]:
        return [name for name, word in self.words.items() if word not in NOTICED]

    @property
    def enough(self) -> bool:
        return bool(self.words) and self.killed / len(self.words) >= LEAST_KILLED


def main() -> int:
    """0 where every part that was asked for has enough killed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutation")
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--show", action="store_true", help="what each survivor changes")
    asked = parser.parse_args()
    unknown = [name for name in asked.parts if name not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}")
    enough = [_measured(name, show=asked.show) for name in asked.parts or PARTS]
    return 0 if all(enough) else 1


def _measured(name: str, *, show: bool) -> bool:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        verdicts = _verdicts(PARTS[name], folder=folder)
        counts = dict(Counter(verdicts.words.values()))
        share = verdicts.killed / max(1, len(verdicts.words))
        print(f"{name:12}{len(verdicts.words):5} mutants, {share:6.1%} killed  {counts}")
        for survivor in verdicts.survivors:
            shown = _mutmut("show", survivor, folder=folder).stdout if show else ""
            print(f"    {survivor}\n{shown}", end="", flush=True)
    return verdicts.enough


def _verdicts(part: Part, *, folder: Path) -> Verdicts:
    for name in _COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    tests = "\n    ".join(part.tests)
    (folder / "setup.cfg").write_text(
        _CONFIGURATION.format(file=part.file, tests=tests, selection=part.selection)
    )
    patterns = [f"*[ǁ_]{name}__mutmut_*" for name in part.functions]
    run = _mutmut("run", "--max-children", str(os.cpu_count() or 1), *patterns, folder=folder)
    if run.returncode:
        sys.exit(run.stdout + run.stderr)
    return Verdicts(words=dict(_results(part, folder=folder)))


def _results(part: Part, *, folder: Path) -> Iterator[tuple[str, str]]:
    module = part.file.removesuffix(".py").replace("/", ".")
    for line in _mutmut("results", "--all", "true", folder=folder).stdout.splitlines():
        name, _, word = line.strip().rpartition(": ")
        if name.startswith(f"finch_middleware.{module}.") and word != "not checked":
            yield name, word


def _mutmut(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mutmut", *arguments]
    # Nothing of the copy is compiled for good: a stale file would hide a mutant.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
