from __future__ import annotations

import dataclasses
from datetime import UTC, timedelta
from typing import Any

import pytest

from finch_middleware.config.options import OPTIONS, Options
from finch_middleware.config.settings import Settings
from finch_middleware.crypto.keys import new_key
from finch_middleware.errors import ConfigurationError
from finch_middleware.secret import Secret
from finch_middleware.storage.protocol import Storage
from finch_middleware.testing.clock import Clock
from tests.odd_server import authority

CANARY = "c4n4ryc4n4ry"
KEY = new_key("k1")
COMPLETE = Options(
    client_id="client-1",
    client_secret=CANARY,
    redirect_uri="https://app.example.com/finch/callback",
    products=["company"],
    storage="memory://",
    key=KEY,
)


def settings(options: Options) -> Settings:
    return Settings.of(options, storage_protocol=Storage)


def test_what_is_not_given_has_its_documented_default() -> None:
    made = settings(COMPLETE)

    assert made.api_url == "https://api.tryfinch.com"
    assert made.connect_origin == "https://connect.tryfinch.com"
    assert made.exchange_deadline == timedelta(seconds=12)
    assert (made.return_to, made.flow, made.opened_by) == ("/", "redirect", "begin")
    assert (made.require_state, made.sandbox, made.spool) == (False, None, None)
    assert (made.customer_of, made.render, made.on_connected, made.on_event) == (None,) * 4
    assert (made.proxy, made.ca_bundle, made.accepted_keys) == (None, None, ())
    assert made.callback_path == "/finch/callback"
    assert made.begin_path is None
    assert made.spa_origins == ()
    assert made.secure


def test_the_clock_runs_in_utc_or_is_the_one_that_was_given() -> None:
    clock = Clock()

    assert settings(COMPLETE).clock().tzinfo is UTC
    assert settings({**COMPLETE, "clock": clock}).clock is clock


def test_functions_and_flags_are_kept_as_given() -> None:
    def hook(*given: Any) -> None: ...

    made = settings(
        {
            **COMPLETE,
            "customer_of": hook,
            "render": hook,
            "on_connected": hook,
            "on_event": hook,
            "require_state": True,
            "opened_by": "application",
            "flow": "embedded",
            "sandbox": "provider",
            "proxy": "http://proxy:3128",
            "ca_bundle": str(authority().bundle),
        }
    )

    assert {made.customer_of, made.render, made.on_connected, made.on_event} == {hook}
    assert (made.require_state, made.opened_by, made.flow) == (True, "application", "embedded")
    assert (made.sandbox, made.proxy) == ("provider", Secret("http://proxy:3128"))
    assert made.ca_bundle == str(authority().bundle)


def test_everything_that_is_wrong_is_reported_at_once() -> None:
    with pytest.raises(ConfigurationError) as error:
        settings({"redirect_uri": "http://app.example.com/", "flow": "x", "unknown": 1})  # type: ignore[typeddict-item]  # wrong

    named = [fault.partition(":")[0] for fault in error.value.faults]
    assert sorted(named) == [
        "client_id",
        "client_secret",
        "flow",
        "key",
        "products",
        "redirect_uri",
        "storage",
        "unknown",
    ]


def test_no_option_at_all_is_reported_and_nothing_else_happens() -> None:
    with pytest.raises(ConfigurationError) as error:
        settings({})

    named = {fault.partition(":")[0] for fault in error.value.faults}
    assert named == {"client_id", "client_secret", "redirect_uri", "products", "storage", "key"}


def test_settings_show_no_secret() -> None:
    options: Options = {
        **COMPLETE,
        "storage": f"postgresql+psycopg://user:{CANARY}@host/db",
        "accepted_keys": [new_key("k0")],
        "proxy": f"http://user:{CANARY}@proxy:3128",
        "spool": None,
    }

    shown = repr(settings(options))

    assert "client-1" in shown
    assert CANARY not in shown
    assert KEY[3:] not in shown


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings(COMPLETE).client_id = "other"  # type: ignore[misc]  # the very subject


def test_every_option_becomes_a_setting_or_is_read_by_the_pages() -> None:
    names = {field.name for field in dataclasses.fields(Settings)}

    assert names == {name for name, option in OPTIONS.items() if option.read}
    assert OPTIONS.keys() - names == {"brand", "texts", "templates"}
