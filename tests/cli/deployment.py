"""A deployment as its operator sees it: settings in the environment, a database with rows."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from finch_middleware import FinchConnect
from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.cli import main
from finch_middleware.crypto.keys import new_key
from finch_middleware.records import StoredConnection
from finch_middleware.secret import Secret
from finch_middleware.testing.rows import add_connection
from finch_middleware.testing.sample_records import NOON, an_attempt

OLD, NEW = new_key("k0"), new_key("k1")
CANARY = "the-token-that-nobody-may-see"


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Settings with one pair of keys; `with_keys` is the same database after the next deploy."""

    folder: Path
    key: str = OLD
    accepted_keys: str = ""
    client_id: str = "client"

    @property
    def environ(self) -> dict[str, str]:
        return {
            "FINCH_CLIENT_ID": self.client_id,
            "FINCH_CLIENT_SECRET": "s3cret",
            "FINCH_REDIRECT_URI": "https://app.test/finch/callback",
            "FINCH_PRODUCTS": "company",
            "FINCH_STORAGE_URL": f"sqlite:///{self.folder}/finch.db",
            "FINCH_KEY": self.key,
            "FINCH_ACCEPTED_KEYS": self.accepted_keys,
        }

    @property
    def finch(self) -> FinchConnect:
        return FinchConnect.from_env(self.environ)

    def with_keys(self, key: str, *accepted_keys: str) -> Deployment:
        return dataclasses.replace(self, key=key, accepted_keys=" ".join(accepted_keys))

    def of_client(self, client_id: str) -> Deployment:
        return dataclasses.replace(self, client_id=client_id)

    def connect(self, *connection_ids: str, **changes: Any) -> None:
        """Store connections of acme, sealed with the present key."""
        for each in connection_ids:
            values = {"customer_id": "acme", "access_token": f"{CANARY}-{each}", **changes}
            add_connection(self.finch, connection_id=each, **values)

    def quarantine(self, code: str) -> Attempt:
        """Store an attempt whose token nobody could be given."""
        finch, attempt = self.finch, an_attempt(code, client_id=self.client_id)
        answer = Secret(json.dumps({"access_token": f"{CANARY}-{code}"}))
        sealed = finch.vault.seal_quarantined(answer, attempt_id=attempt.attempt_id)
        held = attempt.settled(AttemptState.QUARANTINED, at=datetime.now(UTC), sealed=sealed)
        finch.storage.settle(held)
        return held

    def spool(self, connection_id: str) -> StoredConnection:
        """Let the token of this stored connection wait in the spool as well."""
        finch: Any = self.finch
        stored: StoredConnection = finch.storage.get(connection_id)
        waiting = an_attempt("spooled", client_id=self.client_id)
        finch.spool.put(waiting.settled(AttemptState.STORED, at=NOON), stored)
        return stored

    def spoil(self, *connection_ids: str) -> None:
        """Alter the rows of these connections so that nobody can read them."""
        with closing(sqlite3.connect(self.folder / "finch.db")) as database, database:
            for each in connection_ids:
                database.execute(
                    "UPDATE finch_connections SET products = '[' WHERE connection_id = ?", (each,)
                )

    def interrupt(self, code: str) -> None:
        """Leave a claim behind whose owner is gone."""
        past = datetime.now(UTC) - timedelta(minutes=5)
        claimed = an_attempt(code, client_id=self.client_id, leased_until=past, claimed_at=past)
        self.finch.storage.claim(claimed)

    def tokens(self) -> set[str]:
        """Every token that opens with these keys."""
        found = self.finch.connections.for_customer("acme")
        return {each.access_token.reveal().removeprefix(f"{CANARY}-") for each in found}

    def keys_of(self) -> dict[str, str]:
        """Connection id: the key that its token is under."""
        rows = self.finch.storage.scan(after=None, limit=1000).rows
        return {each.connection_id: each.sealed.key_id for each in rows}

    def run(self, *arguments: str, answer: str | None = None) -> Result:
        """The command line in this process, with these settings; nothing it says is a token."""
        result = CliRunner(env=self.environ).invoke(main, [*arguments], input=answer)
        assert CANARY not in result.output
        return result
