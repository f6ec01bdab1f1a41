"""The options as the environment has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from finch_middleware.config.options import OPTIONS, options_from_env
from finch_middleware.config.settings import Settings
from finch_middleware.crypto.keys import new_key
from finch_middleware.storage.protocol import Storage
from tests.test_options import KEY, OLDER

ENVIRONMENT = {each.variable: name for name, each in OPTIONS.items() if each.variable}
EVERY_VARIABLE = {
    "FINCH_CLIENT_ID": ("client-9", "client-9"),
    "FINCH_CLIENT_SECRET": ("s", "s"),
    "FINCH_REDIRECT_URI": ("https://a.example/x/cb", "https://a.example/x/cb"),
    "FINCH_CALLBACK_PATH": ("/cb", "/cb"),
    "FINCH_PRODUCTS": (" company, directory  ssn\n", ["company", "directory", "ssn"]),
    "FINCH_SANDBOX": ("finch", "finch"),
    "FINCH_STORAGE_URL": ("memory://", "memory://"),
    "FINCH_KEY": (KEY, KEY),
    "FINCH_ACCEPTED_KEYS": (f"{OLDER},{new_key('k2')}", None),
    "FINCH_SPOOL": ("/var/spool/finch", "/var/spool/finch"),
    "FINCH_API_URL": ("http://localhost:1", "http://localhost:1"),
    "FINCH_CONNECT_ORIGIN": ("http://localhost:2", "http://localhost:2"),
}


def test_every_variable_of_the_environment_sets_its_option() -> None:
    options = dict(options_from_env({name: text for name, (text, _) in EVERY_VARIABLE.items()}))

    assert set(EVERY_VARIABLE) == set(ENVIRONMENT)
    assert [key[:3] for key in options.pop("accepted_keys")] == ["k0:", "k2:"]  # type: ignore[attr-defined]  # a list
    assert options == {
        ENVIRONMENT[name]: value for name, (_, value) in EVERY_VARIABLE.items() if value is not None
    }


def test_the_environment_alone_makes_settings() -> None:
    environ = {name: text for name, (text, _) in EVERY_VARIABLE.items()}

    made = Settings.of(options_from_env(environ), storage_protocol=Storage)

    assert made.client_id == "client-9"
    assert made.callback_path == "/cb"
    assert made.products == ("company", "directory", "ssn")
    assert made.spool == Path("/var/spool/finch")
    assert [key.key_id for key in (made.key, *made.accepted_keys)] == ["k1", "k0", "k2"]


def test_an_empty_variable_counts_as_not_set() -> None:
    assert options_from_env(dict.fromkeys(ENVIRONMENT, "")) == {}


def test_the_process_environment_is_read_where_none_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FINCH_CLIENT_ID", "from-the-process")
    monkeypatch.setenv("FINCH_UNKNOWN", "x")

    assert options_from_env() == {"client_id": "from-the-process"}


def test_the_word_none_does_without_a_spool() -> None:
    assert options_from_env({"FINCH_SPOOL": "none"}) == {"spool": None}
