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
    told = run("keygen")

    finch = FinchConnect(
        client_id="c",
        client_secret="s",
        redirect_uri="https://app.test/finch/callback",
        products=["company"],
        storage="memory://",
        key=told.stdout.strip(),
    )
    assert told.returncode == 0
    assert finch.callback_path == "/finch/callback"


def test_a_pipe_gets_the_key_and_not_a_word_more() -> None:
    told = run("keygen", "--id", "k2")

    assert told.stdout.startswith("k2:")
    assert told.stdout.count("\n") == 1
    assert told.stderr == ""


def test_no_two_keys_are_the_same() -> None:
    keys = {CliRunner().invoke(main, ["keygen"]).stdout for _ in range(20)}

    assert len(keys) == 20


def test_a_person_at_a_terminal_is_told_what_to_do_with_it() -> None:
    terminal, other_end = pty.openpty()

    told = subprocess.run(
        [sys.executable, "-m", "finch_middleware", "keygen"],
        stdout=other_end,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        env=environ(),
    )

    os.close(other_end)
    key = os.read(terminal, 1000).decode().strip()
    os.close(terminal)
    assert "FINCH_KEY" in told.stderr
    assert "FINCH_ACCEPTED_KEYS" in told.stderr
    assert key.partition(":")[2] not in told.stderr


@pytest.mark.parametrize("key_id", ["", "a b", "k:1", "k" * 33, "ключ"])
def test_an_id_that_no_key_can_have_is_refused(key_id: str) -> None:
    told = CliRunner().invoke(main, ["keygen", "--id", key_id])

    assert told.exit_code == 2
    assert told.stdout == ""
    assert "1 to 32" in told.stderr
