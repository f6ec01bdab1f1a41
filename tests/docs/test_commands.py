"""The commands that the documents name exist, with their options; those that can are run."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from finch_middleware import FinchConnect
from finch_middleware.cli import COMMANDS, main
from finch_middleware.testing import add_connection
from tests.docs.snippets import DOCUMENTS, ROOT, page, section, snippets
from tests.examples.browser import Browser
from tests.processes import answers, end_with_parent, free_port

BIN = Path(sys.executable).parent
#: What a shell or the machine brings.
_OF_THE_MACHINE = {".", "eval", "export", "python3", "python"}
_OURS = re.compile(r"finch-middleware((?: +(?!\|)[^\s`|>)']+)*)")


def shell_lines() -> list[tuple[str, str]]:
    """Document and line of everything that a reader may type."""
    return [
        (path.name, line.removeprefix("$ "))
        for path in DOCUMENTS
        for each in snippets(path.read_text(encoding="utf-8"), "sh", "console")
        for line in each.text.splitlines()
    ]


def programs(line: str) -> Iterator[list[str]]:
    """Each program of a line and its arguments, without the variables before it."""
    for part in re.split(r"&&|\|", line):
        words = shlex.split(part, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words:
            yield words


def ours() -> list[tuple[str, list[str]]]:
    """Document and arguments of every ``finch-middleware …``, in snippets and in sentences."""
    found = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        spans = re.findall(r"`([^`\n]+)`", text) + [each.text for each in snippets(text)]
        for span in spans:
            found += [(path.name, arguments.split()) for arguments in _OURS.findall(span)]
    return found


def unknown(arguments: Sequence[str]) -> str | None:
    """The first word of *arguments* that is neither a command nor an option of one."""
    of_the_group = {name for each in main.params for name in each.opts}
    if not arguments or arguments[0] in {"COMMAND", *of_the_group}:
        return None
    if arguments[0] not in COMMANDS:
        return arguments[0]
    module = importlib.import_module(f"finch_middleware.cli.{arguments[0].replace('-', '_')}")
    command: click.Command = module.command
    rest = list(arguments[1:])
    if isinstance(command, click.Group) and rest:
        name = rest.pop(0)
        if name not in command.commands:
            return name
        command = command.commands[name]
    options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    return next((a for a in rest if a.startswith("--") and a not in {*options, "--help"}), None)


def test_every_command_that_is_named_exists_with_its_options() -> None:
    named = ours()

    assert [(name, a) for name, a in named if unknown(a) is not None] == []
    assert {a[0] for _, a in named if a} >= set(COMMANDS)


def test_a_command_or_option_that_does_not_exist_would_be_found() -> None:
    assert unknown(["rotate-keys", "--check"]) is None
    assert unknown(["rotate-keys", "--chekc"]) == "--chekc"
    assert unknown(["connections", "lists"]) == "lists"
    assert unknown(["rotate"]) == "rotate"


@pytest.mark.full
def test_every_program_that_is_to_be_typed_is_there() -> None:
    missing = [
        (name, words[0])
        for name, line in shell_lines()
        for words in programs(line)
        if words[0] not in _OF_THE_MACHINE
        and not (BIN / Path(words[0]).name).exists()
        and not (ROOT / words[0]).exists()
    ]

    assert missing == []


def test_every_module_extra_and_folder_that_is_to_be_typed_is_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    missing = []
    for name, line in shell_lines():
        for words in programs(line):
            python = Path(words[0]).name.startswith("python")
            module = words[words.index("-m") + 1] if python and "-m" in words else None
            if module is not None and find_spec(module) is None:
                missing.append((name, module))
            named = re.findall(r"\.\[([\w-]+)\]", line)
            missing += [(name, extra) for extra in named if extra not in extras]
            paths = [
                word for word in words[1:] if re.match(r"(tests|examples|finch_middleware)\b", word)
            ]
            missing += [(name, path) for path in paths if not (ROOT / path).exists()]

    assert missing == []


# -- those that can are run -------------------------------------------------------------------


def environment(**more: str) -> dict[str, str]:
    """Ours, with the programs of this environment first, as in an activated shell."""
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **more}


@contextmanager
def typed(lines: str, *, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A shell in *folder* that runs *lines*, until the `with` block ends."""
    process = subprocess.Popen(
        ["bash", "-ec", lines],
        cwd=folder,
        env=environment(PYTHONUNBUFFERED="1"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )
    with process:
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def printed(process: subprocess.Popen[str], beginning: str, *, count: int) -> list[str]:
    """The first *count* lines of *process* that begin so."""
    assert process.stdout is not None
    found: list[str] = []
    for line in process.stdout:
        found += [line.strip()] if line.startswith(beginning) else []
        if len(found) == count:
            break
    return found


def test_the_commands_of_the_page_make_the_first_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("FINCH_")]:
        monkeypatch.delenv(name)
    text = section(page("first_connection"), "## An application of your own")
    [payroll] = [each for each in snippets(text) if each.title]
    first_shell, second_shell = snippets(text, "sh")
    (tmp_path / payroll.title).write_text(payroll.text, encoding="utf-8")
    port = free_port()

    with typed(f"{first_shell.text.splitlines()[-1]} --port 0", folder=tmp_path) as finch:
        exports = "\n".join(printed(finch, "export", count=4))
        with typed(
            f"{exports}\n{second_shell.text.replace('5000', str(port))}", folder=tmp_path
        ) as app:
            assert answers(port, app)
            browser = Browser(f"http://localhost:{port}")
            browser.press("Connect payroll")
            browser.press("Allow")

    assert browser.response.url.startswith(f"http://localhost:{port}/?finch=connected&finch_ref=")
    assert "gusto: company, directory" in browser.text


@pytest.mark.full
@pytest.mark.usefixtures("configured")
def test_the_commands_for_connections_do_what_the_manual_states(tmp_path: Path) -> None:
    finch = FinchConnect.from_env()
    added = add_connection(finch, customer_id="acme")
    [block] = snippets(section(page("operations"), "### connections"), "sh")

    answered = subprocess.run(
        ["bash", "-ec", block.text.replace("5c8a3b0e-…", added.connection_id)],
        cwd=tmp_path,
        env=environment(),
        input="y\n",
        check=True,
        capture_output=True,
        text=True,
    )

    assert answered.stdout.count(added.connection_id) >= 2
    assert added.connection_id in (tmp_path / "connections.jsonl").read_text(encoding="utf-8")
    assert finch.connections.for_customer("acme") == []
