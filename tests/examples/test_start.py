"""How an example starts: by itself, or with the settings of a real Finch application."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from finch_middleware.crypto.keys import new_key
from finch_middleware.testing.fake_finch import FakeFinch
from tests.examples.running import COMMANDS, EXAMPLES, Running
from tests.processes import free_port

CONNECT = "https://connect.tryfinch.com"


def real_settings(database: Path, *, port: int) -> dict[str, str]:
    """What the environment of an application says; `Running` adds where its Finch is."""
    fake = FakeFinch()
    return {
        "FINCH_CLIENT_ID": fake.client_id,
        "FINCH_CLIENT_SECRET": fake.client_secret,
        "FINCH_REDIRECT_URI": f"http://localhost:{port}/finch/callback",
        "FINCH_PRODUCTS": "company, directory",
        "FINCH_STORAGE_URL": f"sqlite:///{database}",
        "FINCH_KEY": new_key("real"),
        "PORT": str(port),
    }


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


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.full
def test_an_example_runs_with_the_settings_of_an_application(name: str, tmp_path: Path) -> None:
    for module in COMMANDS[name][1]:
        pytest.importorskip(module)
    settings = real_settings(tmp_path / "finch.db", port=free_port())

    with Running(name, **settings) as example:
        browser = example.browser(signed_in="Acme Inc.")
        browser.press("Connect payroll")
        browser.press("Allow")

        assert "Gusto" in browser.text
        assert example.fake.ledger.calls("token") == 1
    assert (tmp_path / "finch.db").exists()


def test_the_embedded_page_lets_in_finch_connect_and_its_script(tmp_path: Path) -> None:
    pytest.importorskip("flask")
    settings = real_settings(tmp_path / "finch.db", port=free_port())

    with Running("embedded", **settings, FINCH_CONNECT_ORIGIN="") as example:
        page = example.browser(signed_in="Acme Inc.").response

    policy = page.headers["Content-Security-Policy"]
    assert f"frame-src {CONNECT};" in policy
    assert f"form-action 'self' {CONNECT};" in policy
    assert "script-src 'self' https://prod-cdn.tryfinch.com/;" in policy


@pytest.mark.parametrize(
    ("name", "path"), [("embedded", "/"), ("django_project", "/embedded")], ids=["Flask", "Django"]
)
def test_an_embedded_page_has_its_form_and_scripts(name: str, path: str) -> None:
    for module in COMMANDS[name][1]:
        pytest.importorskip(module)

    with Running(name, alone=True) as example:
        browser = example.browser(signed_in="Acme Inc.")
        page = browser.open(path).text
        script = browser.open("/connect.js")

    assert '<form method="post" action="/connect">' in page
    assert '<script src="/connect.js" data-callback="/finch/callback" defer></script>' in page
    assert script.content == (EXAMPLES / "embedded" / "connect.js").read_bytes()
    assert "javascript" in script.headers["Content-Type"]


#: What the README says to a server: the folder, and the application.
SERVED = {
    **{name: (".", f"{name}:create_app()") for name in COMMANDS if name.endswith("_app")},
    "flask_middleware": (".", "flask_middleware:create_app()"),
    "django_project": ("django_project", "django.core.wsgi:get_wsgi_application()"),
    "embedded": ("embedded", "app:create_app()"),
}


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.full
def test_a_server_of_ones_own_loads_an_example(name: str, tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    for module in COMMANDS[name][1]:
        pytest.importorskip(module)
    folder, application = SERVED[name]
    own = {"PYTHONPATH": str(EXAMPLES), "DJANGO_SETTINGS_MODULE": "payroll.settings"}
    settings = real_settings(tmp_path / "finch.db", port=8000)

    loaded = subprocess.run(
        [sys.executable, "-m", "gunicorn", "--check-config", "--chdir", folder, application],
        cwd=EXAMPLES,
        env={**os.environ, **own, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert loaded.returncode == 0, loaded.stderr


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
