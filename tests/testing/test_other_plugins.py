"""The fixtures beside the pytest plugins that applications use, as the manual shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.snippets import page, snippets

pytest.importorskip("pytest_django", reason="pytest-django is not installed: the extra dev-full")
pytest.importorskip("pytest_asyncio", reason="pytest-asyncio is not installed: dev-full")
pytest.importorskip("xdist", reason="pytest-xdist is not installed: the extra dev-full")

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.full

SETTINGS = """
SECRET_KEY = "for tests"
ALLOWED_HOSTS = ["localhost", "testserver"]
ROOT_URLCONF = "project_urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INSTALLED_APPS = ["django.contrib.staticfiles", "finch_middleware.adapters.django.FinchConfig"]
STATIC_URL = "/static/"
USE_TZ = True
FINCH = {
    "redirect_uri": "https://app.example.com/finch/callback",
    "products": ["company"],
    "storage": "postgresql://nowhere.invalid/production",
    "spool": "/nowhere",
    "brand": "Acme Payroll",
}
"""
URLS = """
from django.http import HttpResponse
from django.urls import path

from finch_middleware.adapters.django import callback, finch, to_django


def connect(request):
    begun = finch().begin(request=request, customer_id="acme", customer_name="Acme Inc.")
    return to_django(begun)


def settings(request):
    return HttpResponse("connected" if finch().connections.for_customer("acme") else "nothing")


urlpatterns = [
    path("connect", connect),
    path("settings", settings),
    path("finch/callback", callback(finch)),
    path("", settings),
]
"""
SEVERAL = """
import pytest


@pytest.mark.parametrize("customer", ["acme", "globex", "initech", "umbrella"])
def test_each_has_a_fake_of_its_own(finch, fake_finch, customer):
    begun = finch.begin(customer_id=customer, customer_name=customer)
    assert begun.headers["Location"].startswith(fake_finch.connect_origin)
    assert fake_finch.ledger.calls("sessions") == 1
"""
INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"
ALL = ("-p", "no:cacheprovider", "-W", "error", "-n", "2")


def snippet(title: str) -> str:
    [found] = [each.text for each in snippets(page("testing")) if each.title == title]
    return found


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in {"pytest.ini": INI, **files}.items():
        (folder / name).write_text(text, encoding="utf-8")


def test_the_django_snippets_pass_with_pytest_django_and_xdist(pytester: pytest.Pytester) -> None:
    names = ("test_django_views.py", "test_django_live.py")
    files = {"project_settings.py": SETTINGS, "project_urls.py": URLS}
    write(pytester.path, files | {name: snippet(name) for name in names})

    result = pytester.runpytest_subprocess(*ALL, "--ds", "project_settings")

    result.assert_outcomes(passed=3)


def test_the_async_snippet_passes_with_pytest_asyncio_and_xdist(pytester: pytest.Pytester) -> None:
    write(pytester.path, {"test_async.py": snippet("test_async.py"), "test_several.py": SEVERAL})

    result = pytester.runpytest_subprocess(*ALL)

    result.assert_outcomes(passed=5)
