from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest
from click.testing import CliRunner

from finch_middleware import FinchConnect
from finch_middleware.cli import main
from tests.cli.running import environ, run


def test_the_key_is_one_that_finch_connect_takes() -> None:
    result = run("keygen")

    finch = FinchConnect(
        client_id="c",
        client_secret="s",
        redirect_uri="https://app.test/finch/callback",
        products=["company"],
        storage="memory://",
        key=result.stdout.strip(),
    )
    assert result.returncode == 0
    assert finch.settings.callback_path == "/finch/callback"


def test_a_pipe_gets_the_key_alone() -> None:
    result = run("keygen", "--id", "k2")

    assert result.stdout.startswith("k2:")
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""


def test_no_two_keys_have_the_same_bytes_or_the_same_id() -> None:
    keys = [CliRunner().invoke(main, ["keygen"]).stdout.partition(":") for _ in range(20)]

    assert len({key_id for key_id, _, _ in keys}) == 20
    assert len({material for _, _, material in keys}) == 20


def test_a_terminal_also_gets_advice() -> None:
    terminal, other_end = pty.openpty()

    result = subprocess.run(
        [sys.executable, "-m", "finch_middleware.cli", "keygen"],
        stdout=other_end,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        env=environ(),
    )

    os.close(other_end)
    key = os.read(terminal, 1000).decode().strip()
    os.close(terminal)
    assert "FINCH_KEY" in result.stderr
    assert "FINCH_ACCEPTED_KEYS" in result.stderr
    assert key.partition(":")[2] not in result.stderr


@pytest.mark.parametrize("key_id", ["", "a b", "k:1", "k" * 33, "ключ"])
def test_an_id_that_no_key_can_have_is_refused(key_id: str) -> None:
    result = CliRunner().invoke(main, ["keygen", "--id", key_id])

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "1 to 32" in result.stderr
