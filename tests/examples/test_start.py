"""How an example starts: with a fake Finch, with an application's settings, on any server."""

from __future__ import annotations

import importlib
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from finch_middleware import FinchConnect
from finch_middleware.testing.fake_finch import FakeFinch
from tests.examples.running import EXAMPLES, Running, running, settings_of_an_application


@pytest.fixture
def stand_in_for_finch(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], str]:
    """The function of that name, in an environment without FINCH_… variables."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if "FINCH_" not in k})
    function: Callable[[int], str] = importlib.import_module("shared").stand_in_for_finch
    return function


def test_an_example_runs_without_settings() -> None:
    with running("flask_app") as example:
        browser = example.browser(signed_in="Acme Inc.")
        browser.press("Connect payroll")
        assert "A fake Finch Connect: nothing here is real." in browser.text
        browser.press("Allow")

        assert "Gusto" in browser.text
        assert example.fake.ledger.requests == ()


def test_the_finch_of_an_api_url_is_used(
    stand_in_for_finch: Callable[[int], str], fake: FakeFinch
) -> None:
    os.environ["FINCH_API_URL"] = fake.api_url

    address = stand_in_for_finch(8000)

    FinchConnect.from_env().begin(customer_id="acme", customer_name="Acme Inc.")
    assert address == "http://localhost:8000"
    assert fake.ledger.sessions[-1].redirect_uri == f"{address}/finch/callback"


def test_the_settings_of_an_application_are_left_alone(
    stand_in_for_finch: Callable[[int], str],
) -> None:
    os.environ["FINCH_CLIENT_ID"] = "5d0bf1c2"
    before = dict(os.environ)

    stand_in_for_finch(8000)

    assert os.environ == before


def test_an_example_with_a_client_id_names_every_missing_setting() -> None:
    ended = subprocess.run(
        [sys.executable, "wsgi_app.py"],
        cwd=EXAMPLES,
        env={**os.environ, "FINCH_CLIENT_ID": "5d0bf1c2", "PORT": "0"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 1
    for option in ("client_secret", "redirect_uri", "products", "storage", "key"):
        assert f"- {option}: " in ended.stderr


def test_the_embedded_page_allows_finch_connect_and_its_script(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("flask")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(os, "environ", settings_of_an_application("memory://"))
    app: Any = runpy.run_path(str(EXAMPLES / "embedded/app.py"))["create_app"]()

    policy = app.test_client().get("/").headers["Content-Security-Policy"]

    assert "frame-src https://connect.tryfinch.com;" in policy
    assert "form-action 'self' https://connect.tryfinch.com;" in policy
    assert "script-src 'self' https://prod-cdn.tryfinch.com/;" in policy


@pytest.mark.parametrize(
    ("name", "path"), [("embedded", "/"), ("django_project", "/embedded")], ids=["Flask", "Django"]
)
def test_an_embedded_page_has_its_form_and_scripts(
    start: Callable[[str], Running], name: str, path: str
) -> None:
    browser = start(name).browser(signed_in="Globex Ltd.")
    page = browser.open(path).text
    script = browser.open("/connect.js")

    assert '<form method="post" action="/connect">' in page
    assert '<script src="https://prod-cdn.tryfinch.com/latest/connect.js" defer></script>' in page
    assert '<script src="/connect.js" data-callback="/finch/callback" defer></script>' in page
    assert script.content == (EXAMPLES / "embedded" / "connect.js").read_bytes()
    assert "javascript" in script.headers["Content-Type"]


#: Imports each application as gunicorn does, from the folders that the README names.
LOADING = """
import sys
from gunicorn.util import import_app

sys.path[:0] = [".", "django_project", "embedded"]
for name in ("flask_app", "flask_middleware", "wsgi_app", "pyramid_app", "bottle_app",
             "falcon_app", "fastapi_app", "app"):
    assert callable(import_app(f"{name}:create_app()")), name
assert callable(import_app("django.core.wsgi:get_wsgi_application()"))
"""


@pytest.mark.full
def test_any_server_can_load_the_examples() -> None:
    for module in ("gunicorn", "django", "pyramid", "falcon", "bottle", "fastapi"):
        pytest.importorskip(module)
    settings = settings_of_an_application("memory://")

    loaded = subprocess.run(
        [sys.executable, "-c", LOADING],
        cwd=EXAMPLES,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "payroll.settings", **settings},
        capture_output=True,
        text=True,
        check=False,
    )

    assert loaded.returncode == 0, loaded.stderr
