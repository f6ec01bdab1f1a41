"""What an outcome and its attempt say of an exchange that failed or was kept."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from finch_middleware import (
    CallbackRequest,
    Connected,
    Failed,
    FinchConnect,
    Finishing,
    keeping,
)
from finch_middleware.records import Attempt
from finch_middleware.storage.memory import MemoryStorage
from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.story.oracle import code_key
from tests.story.troubled_storage import TroubledStorage
from tests.threats.desk import begun, component


def _finished(finch: FinchConnect, fake: FakeFinch, code: str) -> object:
    held = begun(finch, fake, return_to="/settings")
    query = f"code={code}&state={held.state}"
    return finch.finish(CallbackRequest(query_string=query, headers={"Cookie": held.cookie}))


def _attempt(finch: FinchConnect, fake: FakeFinch, code: str) -> Attempt | None:
    return finch.storage.attempt(code_key(fake, code))


def _code(fake: FakeFinch) -> str:
    return fake.issue_code(customer_id="acme", redirect_uri="http://localhost/finch/callback")


@pytest.mark.parametrize("status", [401, 402, 429])
def test_a_code_that_stays_good_leaves_no_attempt_but_the_way_back_and_finchs_id(
    fake: FakeFinch, status: int
) -> None:
    finch, code = component(fake), _code(fake)
    fake.script("token", Behaviour.error(status))

    failed = _finished(finch, fake, code)

    assert isinstance(failed, Failed)
    assert failed.return_to == "/settings"
    assert failed.request_id is not None
    assert _attempt(finch, fake, code) is None


@pytest.mark.parametrize(
    "behaviour",
    [Behaviour.error(400, name="invalid_grant_error"), Behaviour.error(500), Behaviour.error(404)],
    ids=["rejected", "server error", "not found"],
)
def test_a_code_that_is_spent_leaves_its_end_the_way_back_and_finchs_id(
    fake: FakeFinch, behaviour: Behaviour
) -> None:
    clock = Clock()
    finch, code = component(fake, clock=clock), _code(fake)
    clock.move(timedelta(minutes=3))
    fake.script("token", behaviour)

    failed = _finished(finch, fake, code)

    assert isinstance(failed, Failed)
    assert failed.return_to == "/settings"
    assert failed.request_id is not None
    attempt = _attempt(finch, fake, code)
    assert attempt is not None
    assert attempt.settled_at == clock()


@pytest.mark.parametrize("hook", [False, True], ids=["no hook", "a hook"])
def test_a_kept_token_has_its_instant_and_owes_nothing_once_the_hook_ran(
    fake: FakeFinch, hook: bool
) -> None:
    clock, told = Clock(), list[object]()
    options = {"on_connected": told.append} if hook else {}
    finch, code = component(fake, clock=clock, **options), _code(fake)  # type: ignore[typeddict-item]  # one of its options

    connected = _finished(finch, fake, code)

    assert isinstance(connected, Connected)
    assert (connected.return_to, connected.customer_id) == ("/settings", "acme")
    assert connected.request_id is not None
    attempt = _attempt(finch, fake, code)
    assert attempt is not None
    assert attempt.settled_at == clock()
    assert attempt.notified is True
    assert len(told) == hook


def test_a_spooled_token_keeps_finchs_id_at_once_and_on_a_reload(
    fake: FakeFinch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "SETTLE_PAUSES", (0.0, 0.0, 0.0))
    storage = TroubledStorage(MemoryStorage())
    finch, code = component(fake, storage=storage, spool=tmp_path / "spool"), _code(fake)
    held = begun(finch, fake, return_to="/settings")
    query = f"code={code}&state={held.state}"
    request = CallbackRequest(query_string=query, headers={"Cookie": held.cookie})
    storage.down("settle")

    first, again = finch.finish(request), finch.finish(request)

    assert isinstance(first, Finishing)
    assert isinstance(again, Finishing)
    assert (first.spooled, again.spooled) == (True, True)
    assert first.request_id == again.request_id
    assert first.request_id is not None
    assert first.return_to == again.return_to == "/settings"
