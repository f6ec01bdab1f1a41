"""Every option: which values it takes, and what is reported otherwise."""

from __future__ import annotations

import base64
import dataclasses
import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from finch_middleware.config.options import OPTIONS, Options
from finch_middleware.config.readers import STORAGE_SCHEMES
from finch_middleware.config.reading import read_settings
from finch_middleware.config.settings import Settings
from finch_middleware.connect import CHECKS, FinchConnect
from finch_middleware.crypto.keys import Key, new_key
from finch_middleware.errors import ConfigurationError
from finch_middleware.secret import Secret
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.testing.clock import Clock
from finch_middleware.web.request import CallbackRequest, Visit
from tests.odd_server import authority

KEY, OLDER = new_key("k1"), new_key("k0")
CANARY = "c4n4ryc4n4ry"
COMPLETE: dict[str, Any] = {
    "client_id": "client-1",
    "client_secret": "secret-1",
    "redirect_uri": "https://app.example.com/finch/callback",
    "products": ["company", "directory"],
    "storage": "memory://",
    "key": KEY,
}
NO_SPOOL: dict[str, Any] = {"spool": None}
WEBHOOK_SECRET = "5WbX5kEWLlfzsGNjH64I8lOOqUB6e8FH"
WITH_WEBHOOKS: dict[str, Any] = {"webhook_secrets": WEBHOOK_SECRET}
WITH_LOGIN: dict[str, Any] = {"customer_of": print}


def read(options: dict[str, Any]) -> Settings:
    # A copy: what is read is emptied.
    return read_settings(cast("Options", {**options}), checks=CHECKS)


def settings(**changes: Any) -> Settings:
    return read(COMPLETE | changes)


def faults(**changes: Any) -> tuple[str, ...]:
    """What is reported about the complete options with these *changes*."""
    try:
        settings(**changes)
    except ConfigurationError as error:
        return error.faults
    return ()


class MemoryLookalike(MemoryStorage):
    """A storage object that prints as a URL does."""

    def __str__(self) -> str:
        return "memory://"


def key_of(size: int) -> str:
    return "k1:" + base64.b64encode(bytes(size)).decode()


NOT_A_PATH = "must be a path that begins with '/', without query"
NOT_AN_ORIGIN = "each must be an origin as browsers send it, without a path"
NOT_HTTPS = "must begin with https://; only localhost may use plain http"
NOT_FULL = "must be a full address that begins with https://"
PLAIN = "must be plain text without spaces"
NO_USER = "must contain no user name or password"
SHORT_KEY = "must have the form '<id>:<32 random bytes in base64>'; 'finch-middleware keygen'"
NO_DEADLINE = "must be a timedelta of at most 20 seconds"
NO_SPOOL_NAMED = "missing; pass a folder on a local disk"
A_LIST = "must be a list"
#: The functions of the application that are informed of something.
HOOKS = (
    *("on_connected", "on_webhook", "on_status", "on_disconnected"),
    *("on_event", "on_problem"),
)
CANNOT_CALL = "must be a function"

#: Option, the beginning of what is reported, values that are wrong, and what else is configured.
WRONG: list[tuple[str, str, list[Any], dict[str, Any]]] = [
    ("client_id", "missing; pass the one from Finch's dashboard, or set FINCH_CLIENT_ID",
     ["", None], {}),
    ("client_id", PLAIN, ["a b", "a\n", 5], {}),
    ("client_secret", "missing; pass the one from Finch's dashboard, or set FINCH_CLIENT_SECRET",
     ["", Secret("")], {}),
    ("redirect_uri", "missing; pass the callback's address", [None], {}),
    ("redirect_uri", NOT_HTTPS,
     ["http://app.example.com/cb", "http://127.0.0.2/cb", "http://localhost.evil/cb"], {}),
    ("redirect_uri", NOT_FULL, ["/finch/callback", "ftp://a.example/", "https:///callback"], {}),
    ("redirect_uri", "is not a web address", ["https://[app/finch", "https://a.test:port/"], {}),
    ("redirect_uri", NO_USER, ["https://u@a.example/", "https://u:p@a.example/"], {}),
    ("redirect_uri", PLAIN, ["https://app.example.com/é"], {}),
    ("redirect_uri", "must have no fragment; drop the part from '#'", ["https://a.example/#x"], {}),
    ("redirect_uri", "must have at most 512 characters",
     ["https://a.example/".ljust(513, "x")], {}),
    ("products", 'missing; pass a list such as ["company", "directory"], or set', [None], {}),
    ("products", "Finch publishes no product 'compnay'; did you mean 'company'?",
     [["compnay"]], {}),
    ("products", "Finch publishes no product 'weather'; use some of benefits,",
     [["company", "weather"]], {}),
    ("products", "must be a list of Finch's products, such as",
     [[], 5, "company", ["Company"], ["company", ""], ["company directory"], ["company", None],
      {"company": 1}], {}),
    ("storage", "missing; pass a URL such as 'sqlite:///finch.db' or a storage object, or set "
     "FINCH_STORAGE_URL", [None], {}),
    ("storage", "unknown scheme 'oracle'; use one of memory, sqlite", ["oracle://h/d"], NO_SPOOL),
    ("storage", "is not a URL; use one of memory, sqlite", ["finch.db"], NO_SPOOL),
    ("storage", "unknown scheme 'postgresql'; write postgresql+psycopg://",
     ["postgresql://h/d"], NO_SPOOL),
    ("storage", "unknown scheme 'mysql'; write mysql+pymysql://", ["mysql://h/d"], NO_SPOOL),
    ("storage", "SQLite in memory loses its data", ["sqlite://", "sqlite:///:memory:", "sqlite:///?timeout=1"],
     NO_SPOOL),
    ("storage", "must contain no NUL", ["sqlite:///\0", "sqlite:///\ud800"], NO_SPOOL),
    ("storage", "a object lacks the methods check, claim", [object()], NO_SPOOL),
    ("storage", "a PosixPath lacks the methods check, claim", [Path("finch.db")], NO_SPOOL),
    ("storage", "MemoryStorage is a class; pass an object of it", [MemoryStorage], NO_SPOOL),
    ("spool", "must be the path of a folder, or None to use no spool",
     ["", 5, "\0", Path("\0"), "/\ud800"], {}),
    ("spool", NO_SPOOL_NAMED, [...], {"storage": "postgresql+psycopg://h/d"}),
    ("spool", NO_SPOOL_NAMED, [...], {"storage": "mysql+pymysql://h/d"}),
    ("spool", NO_SPOOL_NAMED, [...], {"storage": MemoryStorage()}),
    ("spool", NO_SPOOL_NAMED, [...], {"storage": MemoryLookalike()}),
    ("key", "missing; make one with 'finch-middleware keygen'", [None, "", Secret("")], {}),
    ("key", SHORT_KEY, [KEY[3:], KEY + "\n", "k1:", key_of(31), key_of(33), "k1:" + "é" * 44], {}),
    ("key", SHORT_KEY, ["k.1:" + KEY[3:], "k" * 33 + KEY[2:]], {}),
    ("accepted_keys", SHORT_KEY, [["k0:short"], 5], {}),
    ("accepted_keys", "two keys have the same id; give each its own", [[KEY], [OLDER, OLDER]], {}),
    ("sandbox", "must be one of None, 'finch', 'provider'", ["yes"], {}),
    ("flow", "must be one of 'redirect', 'embedded'", ["popup"], {}),
    ("opened_by", "must be one of 'begin', 'application'", ["me"], {}),
    ("callback_path", NOT_A_PATH, ["finch/callback", "/callback?x", "/call back", b"/finch"], {}),
    ("callback_path", "'/other' is not the end of redirect_uri's path", ["/other"], {}),
    ("callback_path", "'/call' is not the end of redirect_uri's path", ["/call"], {}),
    ("begin_path", NOT_A_PATH, ["connect", "/connect?x", 5], WITH_LOGIN),
    ("begin_path", "needs customer_of, which returns the signed-in customer", ["/connect"], {}),
    ("begin_path", "must differ from callback_path", ["/finch/c%61llback"], WITH_LOGIN),
    ("invite_path", NOT_A_PATH, ["invite", "/invite?x", 5], {}),
    ("invite_path", "must differ from callback_path", ["/finch/c%61llback"], {}),
    ("invite_path", "cannot be used with path_rewritten", ["/invite"], {"path_rewritten": True}),
    ("invite_path", "cannot be used with opened_by", ["/invite"], {"opened_by": "application"}),
    ("webhook_secrets", "must be secrets from Finch's dashboard, each in standard base64",
     ["whsec_bm8=", "", [WEBHOOK_SECRET, ""], "bm8", "bm8=\n", "_-bm", "bm8=é", 5], {}),
    ("webhook_path", NOT_A_PATH, ["hook", "/hook?x", 5], WITH_WEBHOOKS),
    ("webhook_path", "needs webhook_secrets, from Finch's dashboard", ["/hook"], {}),
    ("webhook_path", "must differ from callback_path", ["/finch/callback"], WITH_WEBHOOKS),
    ("webhook_path", "must differ from begin_path", ["/hook"],
     {**WITH_WEBHOOKS, **WITH_LOGIN, "begin_path": "/h%6Fok"}),
    ("webhook_path", "must differ from invite_path", ["/hook"],
     {**WITH_WEBHOOKS, "invite_path": "/hook"}),
    ("invite_path", "must differ from begin_path", ["/begin"],
     {"begin_path": "/begin", **WITH_LOGIN}),
    ("spa_origins", A_LIST, ["https://a.test", 5], {}),
    ("spa_origins", NOT_HTTPS, [["http://a.test"]], {}),
    ("spa_origins", NOT_FULL, [["*"]], {}),
    ("spa_origins", NOT_AN_ORIGIN,
     [["https://a.test/"], ["https://a.test:443"], ["https://A.test"]], {}),
    ("return_to", "must be a plain path", ["https://a.test/x", "//evil.com"], {}),
    ("return_to", "must be text", [None], {}),
    ("return_to", "is over 255 bytes", ["/" + "a" * 255], {}),
    ("customer_of", CANNOT_CALL, ["acme"], {}),
    ("render", CANNOT_CALL, [5], {}),
    *((name, CANNOT_CALL, ["x"], {}) for name in HOOKS),
    ("clock", "must be a function that returns an aware datetime, as datetime.now(UTC) is",
     [5, lambda: datetime(2026, 1, 1), lambda: 1767225600.0, lambda: 1 / 0, lambda x: x], {}),  # noqa: DTZ001  # the very subject
    ("require_state", "must be True or False", ["no", None], {}),
    ("path_rewritten", "must be True or False", [1, "yes"], {}),
    ("proxy", "must be an address such as http://host:port, or None",
     [7, "", "p.example:3128", "https://p.example:3128", "http://p.example:port",
      "http://p.example:3128\n", "socks5://x", "http://", "http://x:99999", "http://x:0"], {}),
    ("ca_bundle", "must be a file of certificates in PEM form, or None",
     [7, "", "/nowhere/ca.pem", "/", "a\0b", __file__], {}),
    ("exchange_deadline", NO_DEADLINE,
     [timedelta(0), timedelta(seconds=-1), timedelta(seconds=20.001), 12], {}),
    ("waiting_duplicates", "must be a whole number, 0 or more", [-1, 1.0, "2", True], {}),
    ("api_url", NOT_HTTPS, ["http://api.example.com", "http://localhost.evil.example",
     "http://127.0.0.2"], {}),
    ("api_url", NOT_FULL, ["api.example.com", "ftp://localhost", "https://"], {}),
    ("api_url", "is not a web address", ["https://api.example.com:x"], {}),
    ("api_url", "must have neither a query nor a fragment",
     ["https://api.example.com?x=y", "https://api.example.com#x"], {}),
    ("api_url", NO_USER, ["https://u:p@api.example.com"], {}),
    ("api_url", PLAIN, ["https://api.example.com\n", "https://api.example.com/ x", ""], {}),
    ("connect_origin", NOT_FULL, ["connect.tryfinch.com"], {}),
    ("connect_origin", "must be scheme and host alone, without a path",
     ["https://connect.example.com/authorize"], {}),
    ("connect_origin", "is not a web address", ["https://[x"], {}),
    ("brand", "must be text", [None, 5, b"Acme", "\ud800"], {}),
    ("texts", "must be a dict of texts by their names", [5, None, [("begin", {})]], {}),
    ("texts", "begin.title must be a str", [{"begin": {"title": 5}}], {}),
    ("texts", "begin.title contains a NUL or a surrogate", [{"begin": {"title": "\ud800"}}], {}),
    ("templates", "must be the path of a folder with a page.html, or None",
     [5, "", [], True, "\0", Path("\0"), "\ud800"], {}),
    ("templates", "/nowhere/page.html cannot be read", ["/nowhere"], {}),
    ("redirect_url", "there is no such option; did you mean redirect_uri?", ["x"], {}),
    ("FINCH_CONECT_ORIGIN", "there is no such variable; did you mean FINCH_CONNECT_ORIGIN?",
     [""], {}),
    ("colour", "there is no such option; see docs/configuration.md", ["red"], {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "fault", "value", "besides"),
    [
        pytest.param(name, fault, value, besides, id=f"{name}-{row}-{n}")
        for row, (name, fault, values, besides) in enumerate(WRONG)
        for n, value in enumerate(values)
    ],
)
def test_a_wrong_value_is_reported_with_its_fix(
    name: str, fault: str, value: object, besides: dict[str, Any]
) -> None:
    changes = besides if value is ... else {**besides, name: value}

    (reported,) = faults(**changes)

    assert reported.startswith(f"{name}: {fault}")


CA_BUNDLE = str(authority().bundle)
CLOCK = Clock()
OLDER_KEY = Key(key_id="k0", material=Secret(OLDER[3:]))
#: What is configured, the setting, and its value.
RIGHT: list[tuple[dict[str, Any], str, object]] = [
    ({"client_secret": Secret("s")}, "client_secret", Secret("s")),
    ({"products": ("company",)}, "products", ("company",)),
    ({"products": iter(["company", "ssn"])}, "products", ("company", "ssn")),
    (
        {"products": ["employer:company", "ssn"], "unknown_products": True},
        "products",
        ("employer:company", "ssn"),
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
    ({"redirect_uri": "https://a.test/%C3%A9", "callback_path": "/é"}, "callback_path", "/Ã©"),
    ({"redirect_uri": "https://a.test/%c3%a9", "callback_path": "/%C3%A9"}, "callback_path", "/Ã©"),
    ({"redirect_uri": "https://a.co/%E2%82%AC", "callback_path": "/€"}, "callback_path", "/â\x82¬"),
    ({"storage": "sqlite:///finch.db"}, "spool", Path("finch.db-spool").absolute()),
    ({"storage": "sqlite:////var/finch.db?timeout=1"}, "spool", Path("/var/finch.db-spool")),
    ({"storage": "sqlite:///finch.db", "spool": None}, "spool", None),
    ({"storage": "memory://"}, "spool", None),
    ({"storage": "memory://", "spool": "waiting"}, "spool", Path("waiting").absolute()),
    ({"spool": Path("/var/spool")}, "spool", Path("/var/spool")),
    ({"storage": "postgresql+psycopg://h/d", "spool": None}, "spool", None),
    ({"exchange_deadline": timedelta(seconds=20)}, "exchange_deadline", timedelta(seconds=20)),
    ({"waiting_duplicates": 0}, "waiting_duplicates", 0),
    ({"api_url": "http://127.0.0.1:5000/"}, "api_url", "http://127.0.0.1:5000"),
    ({"connect_origin": "https://C.example:443/"}, "connect_origin", "https://c.example"),
    ({"api_url": "http://127.0.0.1:5000/api"}, "connect_origin", "http://127.0.0.1:5000"),
    ({"api_url": "https://eu.api.example"}, "connect_origin", "https://connect.tryfinch.com"),
    ({"require_state": True}, "require_state", True),
    ({"opened_by": "application"}, "opened_by", "application"),
    ({"flow": "embedded"}, "flow", "embedded"),
    ({"sandbox": "provider"}, "sandbox", "provider"),
    ({"proxy": None, "ca_bundle": None}, "proxy", None),
    ({"proxy": "http://u:p@proxy:3128"}, "proxy", Secret("http://u:p@proxy:3128")),
    ({"proxy": Secret("http://[::1]:3128/")}, "proxy", Secret("http://[::1]:3128/")),
    ({"ca_bundle": CA_BUNDLE}, "ca_bundle", CA_BUNDLE),
    ({"ca_bundle": Path(CA_BUNDLE)}, "ca_bundle", CA_BUNDLE),
    ({"return_to": "/café"}, "return_to", "/caf%C3%A9"),
    ({"accepted_keys": None}, "accepted_keys", ()),
    ({"clock": CLOCK}, "clock", CLOCK),
    *(({"accepted_keys": given}, "accepted_keys", (OLDER_KEY,))
      for given in (OLDER, Secret(OLDER), [OLDER], (Secret(OLDER),))),
    *(({name: print}, name, print) for name in ("customer_of", "render")),
    *(({name: print}, name, print) for name in HOOKS),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "name", "value"), RIGHT, ids=[f"{row[1]}-{n}" for n, row in enumerate(RIGHT)]
)
def test_a_right_value_is_its_setting(changes: dict[str, Any], name: str, value: object) -> None:
    assert getattr(settings(**changes), name) == value


def test_an_option_that_is_not_given_has_its_documented_default() -> None:
    made = settings()

    assert made.api_url == "https://api.tryfinch.com"
    assert made.connect_origin == "https://connect.tryfinch.com"
    assert made.exchange_deadline == timedelta(seconds=12)
    assert (made.return_to, made.flow, made.opened_by) == ("/", "redirect", "begin")
    assert (made.require_state, made.sandbox, made.spool) == (False, None, None)
    assert {getattr(made, name) for name in ("customer_of", "render", *HOOKS)} == {None}
    assert (made.proxy, made.ca_bundle, made.accepted_keys) == (None, None, ())
    assert made.waiting_duplicates is None
    assert made.callback_path == "/finch/callback"
    assert (made.begin_path, made.invite_path, made.spa_origins) == (None, None, ())
    assert (made.webhook_path, made.webhook_secrets) == (None, ())
    assert made.clock().tzinfo is UTC
    assert made.secure


@pytest.mark.parametrize("scheme", [scheme for scheme, needed in STORAGE_SCHEMES.items() if needed])
def test_a_missing_driver_is_named_with_the_extra_that_installs_it(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, extra = STORAGE_SCHEMES[scheme] or ("", "")
    asked: list[str] = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: asked.append(name))

    (reported,) = faults(storage=f"{scheme}://host/db", spool=None)

    assert asked == [driver]
    assert driver in reported
    assert f"pip install 'finch-middleware[{extra}]'" in reported


@pytest.mark.parametrize("spelling", ["standard", "url safe"])
def test_a_key_is_read_in_either_alphabet_of_base64(spelling: str) -> None:
    material = bytes(range(224, 256))
    encode = base64.b64encode if spelling == "standard" else base64.urlsafe_b64encode

    key = settings(key="main-key_1:" + encode(material).decode()).key

    assert key.key_id == "main-key_1"
    assert base64.b64decode(key.material.reveal()) == material


NINE = (None, True, 5, -1.5, "", "x y", b"bytes", object(), {"a": 1})
#: Where one of these is a right value: what it means, the manual or the option's type states.
ACCEPTED: dict[str, tuple[object, ...]] = {
    "spool": (None, "x y"),  # no spool; a relative folder
    **dict.fromkeys(("accepted_keys", "webhook_secrets"), (None,)),
    "waiting_duplicates": (None, 5),
    "brand": ("", "x y"),
    **dict.fromkeys(("path_rewritten", "require_state", "unknown_products"), (True,)),
    **dict.fromkeys(
        ("key_provider", "sandbox", "callback_path", "begin_path", "invite_path", "webhook_path",
         "customer_of",
         "render", *HOOKS, "templates", "proxy", "ca_bundle", "connect_origin", "clock"),
        (None,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_each_of_nine_values_is_refused_with_the_options_name_or_is_usable(name: str) -> None:
    base = {**COMPLETE, **WITH_LOGIN, **NO_SPOOL}
    accepted, refused = [], set[str]()
    for value in NINE:
        try:
            finch = FinchConnect(**cast("Options", {**base, name: value}))
        except ConfigurationError as error:
            refused.update(fault.partition(":")[0] for fault in error.faults)
            continue
        accepted.append(value)
        failed = Visit(return_to="/").failed("unreachable")
        assert finch.respond(failed, CallbackRequest()).status_code == 502

    assert (tuple(accepted), refused) == (ACCEPTED.get(name, ()), {name})


REQUIRED = {"client_id", "client_secret", "redirect_uri", "products", "storage", "key"}


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({}, REQUIRED),
        (
            {"redirect_uri": "http://app.example.com/", "flow": "x", "unknown": 1},
            REQUIRED | {"flow", "unknown"},
        ),
        ({**COMPLETE, "redirect_uri": "http://a.test/#x", "key": ""}, {"redirect_uri", "key"}),
    ],
    ids=["no option", "several", "two faults in one"],
)
def test_every_fault_is_reported_at_once(options: dict[str, Any], wrong: set[str]) -> None:
    with pytest.raises(ConfigurationError) as error:
        read(options)

    assert {fault.partition(":")[0] for fault in error.value.faults} == wrong


def test_every_option_becomes_a_setting() -> None:
    names = {field.name for field in dataclasses.fields(Settings)}

    assert names == OPTIONS.keys()
