"""Every option by itself: what it takes, and what is said where it cannot work."""

from __future__ import annotations

import base64
import importlib.util
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finch_middleware.config.options import Options
from finch_middleware.config.readers import STORAGE_SCHEMES
from finch_middleware.config.settings import Settings
from finch_middleware.config.urls import is_loopback, origin_of
from finch_middleware.crypto.keys import new_key
from finch_middleware.errors import ConfigurationError
from finch_middleware.secret import Secret
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.storage.protocol import Storage
from tests.odd_server import authority

KEY, OLDER = new_key("k1"), new_key("k0")
COMPLETE: dict[str, Any] = {
    "client_id": "client-1",
    "client_secret": "secret-1",
    "redirect_uri": "https://app.example.com/finch/callback",
    "products": ["company", "directory"],
    "storage": "memory://",
    "key": KEY,
}


def settings(**changes: Any) -> Settings:
    return Settings.of(Options(**(COMPLETE | changes)), storage_protocol=Storage)  # type: ignore[typeddict-item]  # wrong ones too


def faults(**changes: Any) -> tuple[str, ...]:
    """What is said of the complete options with these *changes*; nothing where they work."""
    try:
        settings(**changes)
    except ConfigurationError as error:
        return error.faults
    return ()


def test_the_complete_options_work() -> None:
    assert faults() == ()


class MemoryLookalike(MemoryStorage):
    """A storage object that prints as a URL does."""

    def __str__(self) -> str:
        return "memory://"


class WithoutItsBase:
    """The methods of a storage, without the base class."""


for _name in Storage.__abstractmethods__:
    setattr(WithoutItsBase, _name, None)

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"client_id": ""}, "client_id: missing", "FINCH_CLIENT_ID"),
    ({"client_id": None}, "client_id: missing", "dashboard"),
    ({"client_id": "a b"}, "client_id: must be plain text", "without spaces"),
    ({"client_id": "a\n"}, "client_id: must be plain text", "without spaces"),
    ({"client_id": 5}, "client_id: must be plain text", "without spaces"),
    ({"client_secret": ""}, "client_secret: missing", "FINCH_CLIENT_SECRET"),
    ({"client_secret": Secret("")}, "client_secret: missing", "FINCH_CLIENT_SECRET"),
    ({"redirect_uri": None}, "redirect_uri: missing", "FINCH_REDIRECT_URI"),
    ({"redirect_uri": "http://app.example.com/finch/callback"}, "redirect_uri", "https://"),
    ({"redirect_uri": "http://127.0.0.2/finch/callback"}, "redirect_uri", "only localhost may"),
    (
        {"redirect_uri": "http://localhost.evil/finch/callback"},
        "redirect_uri",
        "only localhost may",
    ),
    ({"redirect_uri": "/finch/callback"}, "redirect_uri", "begins with https://"),
    ({"redirect_uri": "ftp://app.example.com/"}, "redirect_uri", "begins with https://"),
    ({"redirect_uri": "https:///finch/callback"}, "redirect_uri", "begins with https://"),
    ({"redirect_uri": "https://[app/finch"}, "redirect_uri", "is not a web address"),
    ({"redirect_uri": "https://app.example.com:port/"}, "redirect_uri", "is not a web address"),
    ({"redirect_uri": "https://u@app.example.com/"}, "redirect_uri", "no user name or password"),
    ({"redirect_uri": "https://u:p@app.example.com/"}, "redirect_uri", "no user name or password"),
    (
        {"redirect_uri": "https://app.example.com/é"},
        "redirect_uri: must be plain text",
        "without spaces",
    ),
    ({"redirect_uri": "https://app.example.com/#x"}, "redirect_uri", "drop the part from '#'"),
    ({"products": []}, "products: must be a list", "company"),
    ({"products": None}, "products: missing", "FINCH_PRODUCTS"),
    ({"products": 5}, "products: must be a list", "directory"),
    ({"products": "company"}, "products: must be a list", "directory"),
    ({"products": ["Company"]}, "products: must be a list", "directory"),
    ({"products": ["company", ""]}, "products: must be a list", "directory"),
    ({"products": ["company directory"]}, "products: must be a list", "directory"),
    ({"products": [None]}, "products: must be a list", "directory"),
    ({"storage": None}, "storage: missing", "FINCH_STORAGE_URL"),
    ({"storage": "oracle://h/d", "spool": None}, "unknown scheme 'oracle'", "sqlite"),
    ({"storage": "finch.db", "spool": None}, "storage: unknown scheme ''", "sqlite"),
    ({"storage": "postgresql://h/d", "spool": None}, "'postgresql'", "postgresql+psycopg://"),
    ({"storage": "mysql://h/d", "spool": None}, "'mysql'", "mysql+pymysql://"),
    ({"storage": "sqlite://", "spool": None}, "SQLite in memory", "memory://"),
    ({"storage": "sqlite:///:memory:", "spool": None}, "SQLite in memory", "memory://"),
    ({"storage": object(), "spool": None}, "a object lacks the methods check, claim", "pass a URL"),
    ({"storage": MemoryStorage, "spool": None}, "MemoryStorage is a class", "pass an object"),
    ({"storage": WithoutItsBase(), "spool": None}, "has another base class", "inherits from"),
    (
        {"storage": Path("finch.db"), "spool": None},
        "Path lacks the methods check, claim",
        "pass a URL",
    ),
    ({"storage": "postgresql+psycopg://h/d"}, "spool: missing; pass a folder", "FINCH_SPOOL=none"),
    ({"storage": "mysql+pymysql://h/d"}, "spool: missing; pass a folder", "spool=None"),
    ({"storage": MemoryStorage()}, "spool: missing; pass a folder", "spool=None"),
    ({"spool": ""}, "spool: must be the path", "None to use no spool"),
    ({"spool": 5}, "spool: must be the path", "None to use no spool"),
    ({"key": None}, "key: missing", "finch-middleware keygen"),
    ({"key": ""}, "key: missing", "FINCH_KEY"),
    ({"key": Secret("")}, "key: missing", "finch-middleware keygen"),
    ({"key": KEY[3:]}, "key: must have the form", "finch-middleware keygen"),
    ({"key": KEY + "\n"}, "key: must have the form", "32 random bytes"),
    ({"key": "k1:"}, "key: must have the form", "32 random bytes"),
    (
        {"key": "k1:" + base64.b64encode(bytes(31)).decode()},
        "key: must have the form",
        "32 random bytes",
    ),
    (
        {"key": "k1:" + base64.b64encode(bytes(33)).decode()},
        "key: must have the form",
        "32 random bytes",
    ),
    ({"key": "k1:" + "é" * 44}, "key: must have the form", "32 random bytes"),
    ({"key": "k.1:" + KEY[3:]}, "key: must have the form", "32 random bytes"),
    ({"key": "k" * 33 + KEY[2:]}, "key: must have the form", "32 random bytes"),
    ({"accepted_keys": ["k0:short"]}, "accepted_keys: must have the form", "keygen"),
    ({"accepted_keys": [KEY]}, "accepted_keys: two keys have the same id", "give each its own"),
    ({"accepted_keys": [OLDER, OLDER]}, "accepted_keys: two keys", "give each its own"),
    ({"accepted_keys": 5}, "accepted_keys: must have the form", "keygen"),
    ({"sandbox": "yes"}, "sandbox: must be one of", "'finch', 'provider'"),
    ({"flow": "popup"}, "flow: must be one of", "'redirect', 'embedded'"),
    ({"opened_by": "me"}, "opened_by: must be one of", "'begin', 'application'"),
    ({"callback_path": "finch/callback"}, "callback_path", "begins with '/'"),
    ({"callback_path": "/finch/callback?x"}, "callback_path", "without query or fragment"),
    ({"callback_path": "/finch/call back"}, "callback_path", "begins with '/'"),
    ({"callback_path": b"/finch"}, "callback_path", "begins with '/'"),
    ({"callback_path": "/other"}, "is not the end of redirect_uri's path", "path_rewritten=True"),
    ({"callback_path": "/call"}, "is not the end of redirect_uri's path", "path_rewritten=True"),
    ({"begin_path": "connect", "customer_of": print}, "begin_path", "begins with '/'"),
    ({"begin_path": "/connect?x", "customer_of": print}, "begin_path", "without query"),
    ({"begin_path": 5, "customer_of": print}, "begin_path", "begins with '/'"),
    ({"begin_path": "/connect"}, "begin_path: needs customer_of", "the signed-in customer"),
    (
        {"begin_path": "/finch/c%61llback", "customer_of": print},
        "begin_path: must not be",
        "of the callback",
    ),
    ({"spa_origins": "https://a.test"}, "spa_origins: must be a list", "app.example.com"),
    ({"spa_origins": 5}, "spa_origins: must be a list", "app.example.com"),
    ({"spa_origins": ["http://a.test"]}, "spa_origins: must begin with https://", "localhost"),
    ({"spa_origins": ["*"]}, "spa_origins: must be a full address", "https://"),
    ({"spa_origins": ["https://a.test/"]}, "spa_origins: each must be an origin", "without a path"),
    ({"spa_origins": ["https://a.test:443"]}, "spa_origins: each must be an origin", "browsers"),
    ({"spa_origins": ["https://A.test"]}, "spa_origins: each must be an origin", "browsers"),
    ({"return_to": "https://a.test/x"}, "return_to: must be a plain path", "'/settings'"),
    ({"return_to": "//evil.com"}, "return_to: must be a plain path", "'/settings'"),
    ({"return_to": None}, "return_to: must be text", ""),
    ({"return_to": "/" + "a" * 255}, "return_to: is over 255 bytes", ""),
    ({"customer_of": "acme"}, "customer_of: must be a function", ""),
    ({"render": 5}, "render: must be a function", ""),
    ({"on_connected": []}, "on_connected: must be a function", ""),
    ({"on_event": "x"}, "on_event: must be a function", ""),
    ({"clock": 5}, "clock: must be a function", "aware"),
    ({"clock": lambda: datetime(2026, 1, 1)}, "clock: must be a function", "datetime.now(UTC)"),  # noqa: DTZ001  # the very subject
    ({"clock": lambda: 1767225600.0}, "clock: must be a function", "datetime.now(UTC)"),
    ({"clock": lambda: 1 / 0}, "clock: must be a function", "datetime.now(UTC)"),
    ({"clock": lambda given: given}, "clock: must be a function", "datetime.now(UTC)"),
    ({"require_state": "no"}, "require_state: must be True or False", ""),
    ({"require_state": None}, "require_state: must be True or False", ""),
    ({"path_rewritten": 1}, "path_rewritten: must be True or False", ""),
    (
        {"path_rewritten": "yes", "callback_path": "/finch/callback"},
        "path_rewritten: must be True or False",
        "",
    ),
    ({"proxy": 7}, "proxy: must be", "http://host:port"),
    ({"proxy": ""}, "proxy: must be", "None"),
    ({"proxy": "proxy.example.com:3128"}, "proxy: must be", "http://host:port"),
    ({"proxy": "https://proxy.example.com:3128"}, "proxy: must be", "http://host:port"),
    ({"proxy": "http://proxy.example.com:port"}, "proxy: must be", "http://host:port"),
    ({"proxy": "http://proxy.example.com:3128\n"}, "proxy: must be", "http://host:port"),
    ({"ca_bundle": 7}, "ca_bundle: must be a file", "PEM"),
    ({"ca_bundle": ""}, "ca_bundle: must be a file", "None"),
    ({"ca_bundle": "/nowhere/ca.pem"}, "ca_bundle: must be a file", "PEM"),
    ({"ca_bundle": "/"}, "ca_bundle: must be a file", "PEM"),
    ({"ca_bundle": "a\0b"}, "ca_bundle: must be a file", "PEM"),
    ({"ca_bundle": __file__}, "ca_bundle: must be a file", "PEM"),
    ({"storage": MemoryLookalike()}, "spool: missing; pass a folder", "spool=None"),
    ({"exchange_deadline": timedelta(0)}, "exchange_deadline", "at most 20 seconds"),
    ({"exchange_deadline": timedelta(seconds=-1)}, "exchange_deadline", "at most 20 seconds"),
    ({"exchange_deadline": timedelta(seconds=20.001)}, "exchange_deadline", "at most 20 seconds"),
    ({"exchange_deadline": 12}, "exchange_deadline", "must be a timedelta"),
    ({"api_url": "http://api.example.com"}, "api_url", "https://"),
    ({"api_url": "https://u:p@api.example.com"}, "api_url", "no user name or password"),
    ({"api_url": "https://api.example.com\n"}, "api_url", "plain text"),
    ({"connect_origin": "connect.tryfinch.com"}, "connect_origin", "https://"),
    (
        {"connect_origin": "https://connect.example.com/authorize"},
        "connect_origin",
        "without a path",
    ),
    ({"connect_origin": "https://[x"}, "connect_origin", "not a web address"),
    ({"redirect_url": "x"}, "redirect_url: there is no such option", "docs/configuration.md"),
]


@pytest.mark.parametrize(
    ("changes", "fault", "mend"),
    WRONG,
    ids=[f"{next(iter(each[0]))}-{n}" for n, each in enumerate(WRONG)],
)
def test_what_cannot_work_is_told_with_its_mend(
    changes: dict[str, Any], fault: str, mend: str
) -> None:
    told = [each for each in faults(**changes) if fault in each]

    assert len(told) == 1
    assert mend in told[0]


CA_BUNDLE = str(authority().bundle)
RIGHT: list[tuple[dict[str, Any], str, object]] = [
    ({"client_secret": Secret("s")}, "client_secret", Secret("s")),
    ({"products": ("company",)}, "products", ("company",)),
    ({"products": iter(["company", "ssn"])}, "products", ("company", "ssn")),
    (
        {"products": ["employer:company", "pay_statement"]},
        "products",
        ("employer:company", "pay_statement"),
    ),
    ({"redirect_uri": "http://localhost:8000/finch/callback"}, "origin", "http://localhost:8000"),
    ({"redirect_uri": "http://127.0.0.1/cb"}, "callback_path", "/cb"),
    ({"redirect_uri": "http://[::1]:80/cb"}, "origin", "http://[::1]"),
    ({"redirect_uri": "HTTPS://App.Example.com:443/cb"}, "origin", "https://app.example.com"),
    ({"redirect_uri": "HTTPS://App.Example.com/cb"}, "redirect_uri", "HTTPS://App.Example.com/cb"),
    ({"redirect_uri": "HTTPS://app.example.com/cb"}, "secure", True),
    ({"redirect_uri": "http://localhost/cb"}, "secure", False),
    ({"redirect_uri": "https://app.example.com"}, "callback_path", "/"),
    ({"redirect_uri": "https://app.example.com/cb?x=1"}, "callback_path", "/cb"),
    ({"redirect_uri": "https://app.example.com/%C3%A9/a%20b"}, "callback_path", "/Ã©/a b"),
    ({"callback_path": "/callback"}, "callback_path", "/callback"),
    ({"callback_path": "/other", "path_rewritten": True}, "callback_path", "/other"),
    ({"redirect_uri": "https://a.example/%C3%A9", "callback_path": "/é"}, "callback_path", "/Ã©"),
    (
        {"redirect_uri": "https://a.example/%c3%a9", "callback_path": "/%C3%A9"},
        "callback_path",
        "/Ã©",
    ),
    (
        {"redirect_uri": "https://a.example/%E2%82%AC", "callback_path": "/€"},
        "callback_path",
        "/â\x82¬",
    ),
    ({"storage": "sqlite:///finch.db"}, "spool", Path("finch.db-spool").absolute()),
    ({"storage": "sqlite:////var/finch.db?timeout=1"}, "spool", Path("/var/finch.db-spool")),
    ({"storage": "sqlite:///finch.db", "spool": None}, "spool", None),
    ({"storage": "memory://"}, "spool", None),
    ({"storage": "memory://", "spool": "waiting"}, "spool", Path("waiting").absolute()),
    ({"spool": Path("/var/spool")}, "spool", Path("/var/spool")),
    ({"storage": "postgresql+psycopg://h/d", "spool": None}, "spool", None),
    ({"exchange_deadline": timedelta(seconds=20)}, "exchange_deadline", timedelta(seconds=20)),
    ({"api_url": "http://127.0.0.1:5000/"}, "api_url", "http://127.0.0.1:5000"),
    (
        {"connect_origin": "https://Connect.Example.com:443/"},
        "connect_origin",
        "https://connect.example.com",
    ),
    ({"require_state": True}, "require_state", True),
    ({"proxy": None, "ca_bundle": None}, "proxy", None),
    ({"proxy": "http://u:p@proxy:3128"}, "proxy", Secret("http://u:p@proxy:3128")),
    ({"proxy": Secret("http://[::1]:3128/")}, "proxy", Secret("http://[::1]:3128/")),
    ({"ca_bundle": CA_BUNDLE}, "ca_bundle", CA_BUNDLE),
    ({"ca_bundle": Path(CA_BUNDLE)}, "ca_bundle", CA_BUNDLE),
    ({"return_to": "/café"}, "return_to", "/caf%C3%A9"),
    ({"accepted_keys": None}, "accepted_keys", ()),
]


@pytest.mark.parametrize(
    ("changes", "name", "value"), RIGHT, ids=[str(n) for n in range(len(RIGHT))]
)
def test_what_works_is_read_as_it_is_meant(
    changes: dict[str, Any], name: str, value: object
) -> None:
    assert getattr(settings(**changes), name) == value


@pytest.mark.parametrize("scheme", [scheme for scheme, needed in STORAGE_SCHEMES.items() if needed])
def test_a_missing_driver_is_named_with_the_extra_that_brings_it(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, extra = STORAGE_SCHEMES[scheme] or ("", "")
    asked: list[str] = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: asked.append(name))

    told = faults(storage=f"{scheme}://host/db", spool=None)

    assert asked == [driver]
    assert len(told) == 1
    assert driver in told[0]
    assert f"pip install 'finch-middleware[{extra}]'" in told[0]


@pytest.mark.parametrize("spelling", ["standard", "url safe"])
def test_a_key_is_read_in_either_alphabet_of_base64(spelling: str) -> None:
    material = bytes(range(224, 256))
    encode = base64.b64encode if spelling == "standard" else base64.urlsafe_b64encode

    key = settings(key="main-key_1:" + encode(material).decode()).key

    assert key.key_id == "main-key_1"
    assert base64.b64decode(key.material.reveal()) == material


@pytest.mark.parametrize(
    "given",
    [OLDER, Secret(OLDER), [OLDER], (Secret(OLDER),)],
    ids=["text", "secret", "list", "tuple"],
)
def test_accepted_keys_may_be_one_or_several(given: object) -> None:
    (key,) = settings(accepted_keys=given).accepted_keys

    assert key.key_id == "k0"
    assert key.material == Secret(OLDER[3:])


def test_a_new_key_is_random_and_accepted() -> None:
    keys = {new_key("k7") for _ in range(100)}

    assert len(keys) == 100
    assert all(faults(key=key) == () for key in keys)


CANARY = "c4n4ryc4n4ry"
KEEPING = [
    {"client_secret": f"{CANARY} with a space"},
    {"key": f"k1:{CANARY}"},
    {"key": CANARY},
    {"key": f"{CANARY}:{KEY[3:]}"[:40]},
    {"accepted_keys": [f"k0:{CANARY}", CANARY]},
    {"storage": f"postgresql://user:{CANARY}@host/db"},
    {"storage": f"postgresql:/user:{CANARY}@host/db"},
    {"storage": f"user:{CANARY}@host"},
    {"storage": f"{CANARY}@host://db"},
    {"redirect_uri": f"https://user:{CANARY}@app.example.com/finch/callback"},
    {"api_url": f"https://{CANARY}@api.example.com"},
    {"api_url": f"{CANARY} {CANARY}"},
    {"connect_origin": f"https://x:{CANARY}@connect.example.com/x"},
    {"return_to": f"//{CANARY}"},
    {"sandbox": CANARY},
    {"exchange_deadline": CANARY},
    {"proxy": f"http://user:{CANARY}@proxy:port"},
    {"proxy": CANARY},
    {"ca_bundle": CANARY},
    {"products": CANARY},
]


@pytest.mark.parametrize("changes", KEEPING, ids=range(len(KEEPING)))
def test_no_fault_repeats_what_may_be_a_secret(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as error:
        settings(spool=None, **changes)

    assert CANARY not in str(error.value)
    assert CANARY not in repr(vars(error.value))
    assert error.value.__context__ is None


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.1", True), ("::1", True), (None, False), ("127.0.0.2", False)],
)
def test_only_this_machine_is_loopback(host: str | None, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@given(
    st.sampled_from(["https", "http"]),
    st.sampled_from(["a.example", "[::1]"]),
    st.integers(1, 65535),
)
def test_an_origin_names_the_port_only_where_a_browser_does(
    scheme: str, host: str, port: int
) -> None:
    usual = {"https": 443, "http": 80}[scheme]

    origin = origin_of(urlsplit(f"{scheme}://{host}:{port}/path?x"))

    assert origin == f"{scheme}://{host}" + ("" if port == usual else f":{port}")
