"""``--app``: from a name to the application's component, or to what was found instead."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from finch_middleware import FinchConnect
from finch_middleware.cli import CommandError
from finch_middleware.cli.deployment import load_component

SHOP = """
from flask import Flask
from starlette.applications import Starlette
from werkzeug.middleware.proxy_fix import ProxyFix

from finch_middleware import FinchConnect, FinchMiddleware
from finch_middleware.adapters.asgi import FinchASGIMiddleware
from finch_middleware.crypto.keys import new_key

finch = FinchConnect(
    client_id="client", client_secret="s", redirect_uri="https://app.test/finch/callback",
    products=["company"], storage="memory://", key=new_key(),
)
app = Flask(__name__)
app.wsgi_app = ProxyFix(FinchMiddleware(app.wsgi_app, finch))
plain = Flask(__name__)
middleware = FinchMiddleware(plain, finch)
asgi = FinchASGIMiddleware(Starlette(), finch)
number = 5


def create_app(name="shop", **options):
    return app


def create_plain():
    return plain


def make(name):
    return finch


def broken():
    raise AttributeError("a mistake of the application")
"""


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("shop", None)


@pytest.mark.parametrize(
    "name", ["", ":finch", ":middleware", ":asgi", ":app", ":create_app", ":create_app()"]
)
def test_a_component_is_found_in_what_holds_or_makes_it(name: str) -> None:
    found = load_component(f"shop{name}")

    assert isinstance(found, FinchConnect)
    assert found is sys.modules["shop"].finch


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("plain", "is of type Flask around method, and has no FinchConnect; name a FinchConnect"),
        ("create_plain", "is of type Flask around method, and has no FinchConnect"),
        ("number", "is of type int, and has no FinchConnect"),
        ("make", "is of type function, and has no FinchConnect"),
        ("absent", "cannot be loaded: module 'shop' has no attribute 'absent'"),
    ],
)
def test_what_was_found_instead_is_named(name: str, said: str) -> None:
    with pytest.raises(CommandError) as caught:
        load_component(f"shop:{name}")

    assert str(caught.value).startswith(f"--app: shop:{name} {said}")
    assert "cannot be loaded" in said or str(caught.value).endswith(", such as shop:finch")


def test_a_mistake_of_the_application_keeps_its_traceback() -> None:
    with pytest.raises(AttributeError, match="a mistake of the application"):
        load_component("shop:broken")
