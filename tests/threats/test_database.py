"""T22 to T25: who reads or writes the database, and what fills it."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from finch_middleware.crypto.keys import Key
from finch_middleware.crypto.vault import Vault
from finch_middleware.errors import CannotOpen
from finch_middleware.records import SealedToken, StoredConnection
from finch_middleware.secret import Secret
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.storage.protocol import Storage
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.canaries.harvest import files_of
from tests.canaries.spellings import hits
from tests.faulty_storage import FaultyStorage
from tests.site import KEY, Browser, MakeSite, Site
from tests.storages import every_storage
from tests.threats.desk import begun, component
from tests.threats.sizes import ROWS, STARTS, SWAPS

GARBAGE = Behaviour.garbage("html")


def _given(address: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


def _written(site: Site, url: object, folder: Path) -> bytes:
    """All that the storage holds: every row as text, and every file with its log."""
    if isinstance(url, str) and url.startswith("unix:"):
        return files_of(Path(url.removeprefix("unix://")).parent)
    if isinstance(url, str) and url.startswith("redis:"):
        pytest.skip("the files of somebody else's Redis cannot be read")
    if isinstance(url, MemoryStorage):
        rows = [each.as_row() for each in (*url._attempts.values(), *url._connections.values())]
        return repr(rows).encode()
    engine = create_engine(str(url), poolclass=NullPool)
    with engine.connect() as connection:
        rows = [
            tuple(bytes(each) if isinstance(each, memoryview) else each for each in row)
            for table in ("attempts", "connections")
            for row in connection.execute(text(f"SELECT * FROM finch_{table}"))
        ]
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return b"\n".join([repr(rows).encode(), *files])


@every_storage
@pytest.mark.parametrize(
    "behaviour",
    [Behaviour(), Behaviour.alter(customer_id="other"), GARBAGE],
    ids=["stored", "quarantined", "failed"],
)
def test_t22_a_dump_of_the_storage_holds_no_secret_in_any_spelling(
    fake: FakeFinch,
    site: Site,
    browser: Browser,
    storage_options: dict[str, Any],
    tmp_path: Path,
    behaviour: Behaviour,
) -> None:
    fake.script("token", behaviour)
    callback = fake.allow(browser.location("acme"))
    cookies = list(browser.cookies.values())

    browser.get(callback)

    written = _written(site, storage_options["storage"], tmp_path)
    [token] = fake.ledger.tokens
    given = _given(callback)
    named = {"token": token, "code": given["code"], "state": given["state"], "key": KEY[3:]}
    named |= {"client secret": fake.client_secret}
    named |= {f"cookie {number}": cookie for number, cookie in enumerate(cookies)}
    assert hits(written, named) == []
    assert behaviour.shape is GARBAGE.shape or re.search(rb"fm1\.k1\.", written)
    # The search would find what is there.
    assert hits(written + token.encode()[::-1], named) == [("token", "reversed")]


def _vault() -> Vault:
    key_id, _, material = KEY.partition(":")
    return Vault(client_id="client-1", key=Key(key_id=key_id, material=Secret(material)))


def _rows(vault: Vault, count: int) -> list[StoredConnection]:
    return [
        StoredConnection(
            connection_id=f"connection-{number}",
            customer_id=f"customer-{number}",
            client_id="client-1",
            provider_id="gusto",
            products=("company",),
            client_type="production",
            connection_type="provider",
            sealed=vault.seal_grant(
                Secret(json.dumps({"access_token": secrets.token_hex(8)})),
                connection_id=f"connection-{number}",
                customer_id=f"customer-{number}",
            ),
            obtained_at=datetime.now(UTC),
            attempt_id="attempt-1",
        )
        for number in range(count)
    ]


def _opens(vault: Vault, row: StoredConnection) -> bool:
    try:
        vault.open_grant(row)
    except CannotOpen:
        return False
    return True


def test_t23_no_flipped_bit_of_a_sealed_row_opens() -> None:
    vault = _vault()

    for row in _rows(vault, ROWS()):
        text = row.sealed.text.encode()
        for bit in range(len(text) * 8):
            changed = bytearray(text)
            changed[bit // 8] ^= 1 << bit % 8
            sealed = SealedToken(text=changed.decode("latin-1"))

            assert not _opens(vault, dataclasses.replace(row, sealed=sealed)), bit
        assert _opens(vault, row)


def test_t23_no_row_opens_in_the_place_of_another() -> None:
    vault = _vault()
    rows = _rows(vault, SWAPS())

    for row in rows:
        for other in rows:
            opened = _opens(vault, dataclasses.replace(row, sealed=other.sealed))

            assert opened == (row is other)


@pytest.mark.parametrize("column", ["connection_id", "customer_id"])
def test_t23_a_row_whose_names_were_changed_does_not_open(column: str) -> None:
    vault = _vault()
    [row] = _rows(vault, 1)
    changes: dict[str, Any] = {column: "another"}

    assert not _opens(vault, dataclasses.replace(row, **changes))


@every_storage
def test_t23_what_was_altered_or_moved_in_a_storage_does_not_open(
    fake: FakeFinch, site: Site
) -> None:
    for customer in ("acme", "globex"):
        browser = Browser(site)
        browser.get(fake.allow(browser.location(customer)))
    storage = site.finch.storage
    [mine], [theirs] = (storage.for_customer(each) for each in ("acme", "globex"))
    sealed, draw = mine.sealed.text, random.Random(23)
    altered = [_changed(sealed, at=draw.randrange(len(sealed))) for _ in range(40)]

    for wrong in [*altered, theirs.sealed.text]:
        put = dataclasses.replace(mine, sealed=SealedToken(text=wrong))
        assert storage.swap(storage.for_customer("acme")[0], put)
        [connection] = site.finch.connections.for_customer("acme")
        with pytest.raises(CannotOpen):
            connection.access_token.reveal()

    assert storage.swap(storage.for_customer("acme")[0], mine)
    [connection] = site.finch.connections.for_customer("acme")
    assert connection.access_token.reveal() in fake.ledger.tokens


def _changed(text: str, *, at: int) -> str:
    """*text* with another character of its alphabet at that place."""
    other = "A" if text[at] != "A" else "B"
    return text[:at] + other + text[at + 1 :]


def _odd_spellings(value: str) -> Sequence[str]:
    """What a careless collation, a trimmed column or a cut text would take for *value*."""
    return [
        value.swapcase(),
        value.upper() if value != value.upper() else value.lower(),
        value + " ",
        " " + value,
        value + "\x00",
        value + "\U0001f4a9",
        value[:-1],
        value + "=",
        value.replace(value[3], "é", 1),
    ]


@every_storage
def test_t24_no_storage_takes_an_odd_spelling_for_the_state_or_the_code(
    fake: FakeFinch, make_site: MakeSite
) -> None:
    site = make_site(require_state=True)
    browser = Browser(site)
    callback = fake.allow(browser.location("acme"))
    given = _given(callback)
    statuses = []

    for state in _odd_spellings(given["state"]):
        odd = f"?code={given['code']}&state={quote(state, safe='')}"
        statuses.append(browser.get(callback.partition("?")[0] + odd).status)
    calls = fake.ledger.calls("token")
    browser.get(callback)
    for code in _odd_spellings(given["code"]):
        odd = f"?code={quote(code, safe='')}&state={given['state']}"
        statuses.append(browser.get(callback.partition("?")[0] + odd).status)

    assert statuses == [400] * 18
    assert calls == 0
    assert fake.ledger.calls("token") == 1
    assert site.errors == []


@every_storage
def test_t24_customers_whose_names_a_collation_confuses_stay_apart(
    fake: FakeFinch, site: Site
) -> None:
    names = ["acme", "ACME", "acme%20", "acm%C3%A9", "%F0%9F%92%A9", "%F0%9F%92%A8"]
    names += ["%C3%A9", "O%27Brien%3B%20--", "a%25b_c"]

    for name in names:
        browser = Browser(site)
        assert browser.get(fake.allow(browser.location(name))).status == 303

    for name in names:
        [customer] = parse_qs(f"c={name}")["c"]
        [connection] = site.finch.connections.for_customer(customer)
        assert connection.customer_id == customer


#: Whatever changes a storage; the other methods read.
_WRITES = {"claim", "claim_and_read", "settle", "release", "delete", "swap", "swap_tokens"}
_WRITES |= {"forget", "receive", "record", "mark_delivered", "forget_events", "forget_history"}
_READS = {"check", "attempt", "unsettled", "quarantined", "get", "row", "for_customer", "scan"}
_READS |= {"for_customers", "event", "scan_tokens", "connections", "ended"}
#: What no request calls, and what is no method.
_OTHERS = {"create_tables", "describe", "close", "in_process"}


def test_t25_every_method_of_a_storage_writes_or_reads() -> None:
    methods = {name for name in vars(Storage) if not name.startswith("_")}

    assert methods == _WRITES | _READS | _OTHERS


@every_storage
def test_t25_beginning_writes_nothing_however_often(
    fake: FakeFinch, faulty: FaultyStorage, tmp_path: Path
) -> None:
    finch = component(fake, storage=faulty, spool=tmp_path / "spool")
    finch.recovery.prove_ready()  # once an hour begin forgets what is old; not counted here
    faulty.calls.clear()
    draw = random.Random(25)

    for _ in range(STARTS() if isinstance(faulty.real, MemoryStorage) else 50):
        begun(finch, fake, customer_id=f"customer-{draw.random()}")

    assert _WRITES.isdisjoint(faulty.calls)
    assert not faulty.scan(after=None, limit=1).rows
    assert fake.ledger.calls("token") == 0


@every_storage
def test_t25_no_refused_return_writes_anything(
    fake: FakeFinch, faulty_site: Site, faulty: FaultyStorage
) -> None:
    browser = Browser(faulty_site)
    callback = fake.allow(browser.location("acme"))
    faulty_site.finch.recovery.prove_ready()
    faulty.calls.clear()

    for _ in range(20):
        Browser(faulty_site).get(callback)
        browser.get(callback.replace("state=", "state=x"))
        browser.request("HEAD", callback)

    assert _WRITES.isdisjoint(faulty.calls)
