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


def test_correct_settings_pass_the_check(options: dict[str, Any]) -> None:
    found = messages(FINCH=options)

    assert found == []


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


def test_a_redirect_uri_without_a_view_is_a_warning(options: dict[str, Any]) -> None:
    found = messages(FINCH={**options, "redirect_uri": f"{ORIGIN}/nowhere/%C3%A9"})

    assert found == ["finch_middleware.W001 '/nowhere/é', the path of redirect_uri, has no view"]


def test_a_begin_path_without_a_view_is_a_warning_that_shows_the_fix(
    with_begin_path: dict[str, Any],
) -> None:
    with override_settings(FINCH={**with_begin_path, "begin_path": "/connect-payroll"}):
        [warning] = run_checks()

    assert warning.id == "finch_middleware.W003"
    assert warning.msg == "'/connect-payroll', the begin_path, has no view"
    assert warning.hint == "urlpatterns: path('connect-payroll', begin(finch))"


@pytest.mark.parametrize(("name", "number"), [("invite_path", "W004"), ("webhook_path", "W005")])
def test_any_other_path_without_a_view_is_a_warning(
    options: dict[str, Any], name: str, number: str
) -> None:
    found = messages(FINCH={**options, **RECEIVING, "webhook_path": None, name: "/other"})

    assert found == [f"finch_middleware.{number} '/other', the {name}, has no view"]


def test_a_begin_path_with_a_view_passes_the_check(
    with_begin_path: dict[str, Any],
) -> None:
    found = messages(FINCH=with_begin_path)

    assert found == []


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
