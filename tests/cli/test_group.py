from __future__ import annotations

import importlib
import json
import platform
import re
import subprocess
import sys
from importlib import metadata

import click
import pytest
from click.testing import CliRunner

from finch_middleware import __version__
from finch_middleware.cli import COMMANDS, main
from finch_middleware.errors import FinchError, StorageUnavailable
from tests.cli.running import environ, run


def test_help_lists_every_command_with_its_line() -> None:
    result = run("--help")

    listed = re.findall(r"^  ([a-z-]+)  +(\S.*)$", result.stdout.partition("Commands:")[2], re.M)
    assert result.returncode == 0
    assert dict(listed) == COMMANDS


def test_the_module_and_the_console_script_are_the_same_program() -> None:
    by_script = subprocess.run(
        ["finch-middleware", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env=environ(PATH=f"{sys.prefix}/bin"),
    )

    by_module = run("--version")

    assert by_module.stdout == by_script.stdout
    first, python, *others = by_module.stdout.splitlines()
    assert first == f"finch-middleware {__version__}"
    assert python.startswith(f"Python {platform.python_version()} on ")
    shown = {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in others}
    core = ("werkzeug", "requests", "urllib3", "cryptography", "sqlalchemy", "click")
    assert {name: metadata.version(name) for name in core}.items() <= shown.items()


@pytest.mark.full
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_commands_and_options(shell: str) -> None:
    source = run(_FINCH_MIDDLEWARE_COMPLETE=f"{shell}_source")
    words = {"COMP_WORDS": "finch-middleware rotate-keys --c", "COMP_CWORD": "2"}

    completed = run(_FINCH_MIDDLEWARE_COMPLETE=f"{shell}_complete", **words)
    commands = run(
        _FINCH_MIDDLEWARE_COMPLETE=f"{shell}_complete",
        COMP_WORDS="finch-middleware ",
        COMP_CWORD="1",
    )

    assert "_FINCH_MIDDLEWARE_COMPLETE" in source.stdout
    assert "--check" in completed.stdout
    assert all(name in commands.stdout for name in COMMANDS)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import json, sys; from finch_middleware.cli import main; "
        "main(['--help'], standalone_mode=False); print(json.dumps(sorted(sys.modules)))"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ()
    )

    loaded = {name.partition(".")[0] for name in json.loads(result.stdout.splitlines()[-1])}
    assert "click" in loaded
    assert loaded.isdisjoint({"werkzeug", "requests", "sqlalchemy", "cryptography"})


@pytest.mark.parametrize("name", COMMANDS)
def test_each_row_of_the_table_is_a_command_with_help(name: str) -> None:
    module = importlib.import_module(f"finch_middleware.cli.{name.replace('-', '_')}")

    result = CliRunner().invoke(main, [name, "--help"])

    assert isinstance(module.command, click.Command)
    assert result.exit_code == 0
    assert f"main {name} " in result.stdout


def test_an_unknown_command_is_refused_by_name() -> None:
    result = CliRunner().invoke(main, ["frobnicate"])

    assert result.exit_code == 2
    assert "No such command 'frobnicate'" in result.stderr


@pytest.mark.parametrize("error", [FinchError("one text"), StorageUnavailable("busy")])
def test_an_error_of_the_library_is_one_text_and_status_two(
    monkeypatch: pytest.MonkeyPatch, error: FinchError
) -> None:
    def fail() -> None:
        raise error

    module = importlib.import_module("finch_middleware.cli.keygen")
    monkeypatch.setattr(module, "command", click.Command("keygen", callback=fail))

    result = CliRunner().invoke(main, ["keygen"])

    assert result.exit_code == 2
    assert result.stderr == f"Error: {error}\n"
    assert result.stdout == ""


def test_no_colour_leaves_this_program_where_no_color_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = importlib.import_module("finch_middleware.cli.keygen")
    red = click.Command("keygen", callback=lambda: click.secho("red", fg="red"))
    monkeypatch.setattr(module, "command", red)

    plain = CliRunner(env={"NO_COLOR": "1"}).invoke(main, ["keygen"], color=True)
    coloured = CliRunner(env={"NO_COLOR": None}).invoke(main, ["keygen"], color=True)

    assert plain.stdout == "red\n"
    assert coloured.stdout != "red\n"
