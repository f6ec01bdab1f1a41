"""What ``manage.py check`` reports."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("django")

from django.core.checks import run_checks
from django.test import override_settings

from tests.adapters import django_site
from tests.adapters.django_site import ORIGIN
from tests.delivering import RECEIVING

django_site.set_up()


def messages(**settings: Any) -> list[str]:
    with override_settings(**settings):
        return [f"{message.id} {message.msg}" for message in run_checks()]


def test_correct_settings_pass_the_check(
    options: dict[str, Any], with_begin_path: dict[str, Any]
) -> None:
    assert messages(FINCH=options) == messages(FINCH=with_begin_path) == []


def test_every_fault_of_the_settings_is_a_separate_error(options: dict[str, Any]) -> None:
    found = messages(FINCH={**options, "redirect_uri": "http://app.example.com/x", "key": "k1:no"})

    assert len(found) == 2
    assert found[0].startswith("finch_middleware.E001 FINCH: redirect_uri: ")
    assert found[1].startswith("finch_middleware.E001 FINCH: key: ")


def test_variables_that_only_from_env_reads_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINCH_CLIENT_ID", "client")

    found = messages(FINCH={})

    said = "client_id: missing; FINCH_CLIENT_ID is set, but only FinchConnect.from_env() reads it"
    assert f"finch_middleware.E001 FINCH: {said}" in found


def test_a_missing_setting_is_an_error() -> None:
    found = messages()

    assert [message.split(":")[0] for message in found] == ["finch_middleware.E001 FINCH"]


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        (
            {"redirect_uri": f"{ORIGIN}/nowhere/%C3%A9"},
            "W001 '/nowhere/é', the path of redirect_uri, has no view; "
            "urlpatterns: path('nowhere/é', callback(finch))",
        ),
        (
            {"begin_path": "/other"},
            "W003 '/other', the begin_path, has no view; urlpatterns: path('other', begin(finch))",
        ),
        (
            {"invite_path": "/other"},
            "W004 '/other', the invite_path, has no view; "
            "urlpatterns: path('other', invite(finch))",
        ),
        (
            {**RECEIVING, "webhook_path": "/other"},
            "W005 '/other', the webhook_path, has no view; "
            "urlpatterns: path('other', webhook(finch))",
        ),
    ],
    ids=["callback", "begin", "invite", "webhook"],
)
def test_a_path_without_a_view_is_a_warning_that_shows_the_fix(
    options: dict[str, Any], changes: dict[str, str], warned: str
) -> None:
    with override_settings(FINCH={**options, "customer_of": print, **changes}):
        [found] = run_checks()

    assert f"{found.id} {found.msg}; {found.hint}" == f"finch_middleware.{warned}"


def test_settings_are_not_checked_where_finch_config_is_not_installed() -> None:
    script = """if True:
        import django
        from django.conf import settings
        settings.configure(INSTALLED_APPS=[])
        django.setup()
        from django.core.checks import run_checks
        import finch_middleware.adapters.django
        print([message.id for message in run_checks() if "finch" in message.id])
    """
    checked = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert checked.stdout.strip() == "[]", checked.stderr


def test_a_strict_session_is_a_warning(options: dict[str, Any]) -> None:
    found = messages(FINCH=options, SESSION_COOKIE_SAMESITE="Strict")

    assert [message.split()[0] for message in found] == ["finch_middleware.W002"]
