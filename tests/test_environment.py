"""The options that come from environment variables."""

from __future__ import annotations

import pytest

from finch_middleware.config.options import OPTIONS
from finch_middleware.config.reading import options_from_env
from tests.test_options import KEY, OLDER, faults, key_of

VARIABLES = {option.variable: name for name, option in OPTIONS.items() if option.variable}
#: What each variable holds, and what the option is then.
ENVIRONMENT: dict[str, tuple[str, object]] = {
    "FINCH_CLIENT_ID": ("client-9", "client-9"),
    "FINCH_CLIENT_SECRET": ("s", "s"),
    "FINCH_REDIRECT_URI": ("https://a.example/x/cb", "https://a.example/x/cb"),
    "FINCH_CALLBACK_PATH": ("/cb", "/cb"),
    "FINCH_PRODUCTS": (" company, directory  ssn\n", ["company", "directory", "ssn"]),
    "FINCH_SANDBOX": ("finch", "finch"),
    "FINCH_STORAGE_URL": ("memory://", "memory://"),
    "FINCH_KEY": (KEY, KEY),
    "FINCH_ACCEPTED_KEYS": (f"{OLDER},\n{key_of(32)}", [OLDER, key_of(32)]),
    "FINCH_WEBHOOK_SECRETS": ("bm8=, b2s=", ["bm8=", "b2s="]),
    "FINCH_SPOOL": ("/var/spool/finch", "/var/spool/finch"),
    "FINCH_API_URL": ("http://localhost:1", "http://localhost:1"),
    "FINCH_CONNECT_ORIGIN": ("http://localhost:2", "http://localhost:2"),
}


def test_every_variable_of_the_environment_sets_its_option() -> None:
    options = options_from_env({name: text for name, (text, _) in ENVIRONMENT.items()})

    assert ENVIRONMENT.keys() == VARIABLES.keys()
    assert options == {VARIABLES[name]: value for name, (_, value) in ENVIRONMENT.items()}


@pytest.mark.parametrize(
    ("environ", "options"),
    [
        (dict.fromkeys(VARIABLES, ""), {}),
        ({"FINCH_SPOOL": "none"}, {"spool": None}),
        ({"FINCH_UNKNOWN": "x", "FINCH_CLIENT_ID": "id"}, {"client_id": "id"}),
        ({"FINCH_WEBHOOK_SECRET": "x"}, {}),
        (
            {"FINCH_CONECT_ORIGIN": "x", "FINCH_KEYS": "x"},
            {"FINCH_CONECT_ORIGIN": "", "FINCH_KEYS": ""},
        ),
        (
            {"FINCH_KEY": KEY, "FINCH_KEYS": "an application's own", "FINCH_PRODUCT": ""},
            {"key": KEY},
        ),
    ],
    ids=[
        "empty counts as not set",
        "none means no spool",
        "others are not read",
        "that of Finch's SDK is not taken for a misspelt one",
        "a misspelt one is handed on for the report, without its value",
        "unless the variable that it resembles is set too",
    ],
)
def test_the_environment_sets_nothing_else(environ: dict[str, str], options: object) -> None:
    assert options_from_env(environ) == options


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FINCH_CLIENT_ID", "from-the-process")

    assert options_from_env() == {"client_id": "from-the-process"}


def test_variables_that_are_set_but_not_read_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINCH_CLIENT_ID", "client-of-the-environment")
    monkeypatch.delenv("FINCH_KEY", raising=False)

    reported = faults(client_id=None, key=None)

    assert reported == (
        "client_id: missing; FINCH_CLIENT_ID is set, but only FinchConnect.from_env() reads it",
        "key: missing; make one with 'finch-middleware keygen', store it with your secrets, "
        "pass it, or set FINCH_KEY and call from_env()",
    )
