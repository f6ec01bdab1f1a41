"""How an example starts: by itself, or with the settings of a real Finch application."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.examples.running import COMMANDS, EXAMPLES, Running


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_runs_as_it_stands(name: str) -> None:
    for module in COMMANDS[name][1]:
        pytest.importorskip(module)

    with Running(name, alone=True) as example:
        browser = example.browser(signed_in="Acme Inc.")
        browser.press("Connect payroll")
        assert "A fake Finch Connect: nothing here is real." in browser.text
        browser.press("Allow")

        assert "Gusto" in browser.text
        assert example.fake.ledger.requests == ()


def test_a_real_client_id_starts_no_fake_and_wants_the_other_settings() -> None:
    settings = {**os.environ, "FINCH_CLIENT_ID": "5d0bf1c2", "PORT": "0"}

    ended = subprocess.run(
        [sys.executable, "wsgi_app.py"],
        cwd=EXAMPLES,
        env=settings,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert ended.returncode == 1
    for option in ("client_secret", "redirect_uri", "products", "storage", "key"):
        assert f"- {option}: " in ended.stderr
