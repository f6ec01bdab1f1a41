"""No fault of an option, and no repr, shows a secret."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from finch_middleware.errors import ConfigurationError
from tests.test_options import CANARY, KEY, OLDER, settings

SECRETIVE = [
    {"client_secret": f"{CANARY} with a space"},
    {"key": f"k1:{CANARY}"},
    {"key": CANARY},
    {"key": f"{CANARY}:{KEY[3:]}"[:40]},
    {"accepted_keys": [f"k0:{CANARY}", CANARY]},
    {"webhook_secrets": [f"{CANARY}!", CANARY]},
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


@pytest.mark.parametrize("changes", SECRETIVE, ids=range(len(SECRETIVE)))
def test_no_fault_repeats_what_may_be_a_secret(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as error:
        settings(spool=None, **changes)

    assert CANARY not in str(error.value)
    assert CANARY not in repr(vars(error.value))
    assert error.value.__context__ is None


def test_settings_show_no_secret_and_cannot_be_changed() -> None:
    made = settings(
        storage=f"postgresql+psycopg://user:{CANARY}@host/db",
        accepted_keys=[OLDER],
        proxy=f"http://user:{CANARY}@proxy:3128",
        webhook_secrets=[OLDER[3:]],
        spool=None,
    )

    shown = repr(made)

    assert "client-1" in shown
    assert all(secret not in shown for secret in (CANARY, KEY[3:], OLDER[3:], "secret-1"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.client_id = "other"  # type: ignore[misc]  # the very subject
