"""The component's own duties: what it reports at construction, and how it is assembled."""

from __future__ import annotations

import traceback

import pytest

from finch_middleware import ConfigurationError, Connections, FinchConnect
from finch_middleware.storage.open import open_storage
from finch_middleware.storage.redis.storage import RedisStorage


def test_faults_of_settings_and_of_pages_are_reported_in_one_error() -> None:
    with pytest.raises(ConfigurationError) as caught:
        FinchConnect(client_id="c", texts={"no.such.page": {"title": "x"}})

    told = "\n".join(caught.value.faults)
    assert "client_secret" in told
    assert "no.such.page" in told


def test_a_redis_url_names_the_redis_storage() -> None:
    assert isinstance(open_storage("redis://127.0.0.1:1/0"), RedisStorage)
    assert isinstance(open_storage("rediss://127.0.0.1:1/0"), RedisStorage)
    assert isinstance(open_storage("unix:///run/redis.sock"), RedisStorage)


CANARY = "c4n4ry"


def _told_with_locals(error: BaseException) -> str:
    """What a reporting tool shows of our frames."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for frame in report.stack if "finch_middleware" in frame.filename]
    assert ours
    return repr([(frame.name, frame.locals) for frame in ours])


@pytest.mark.parametrize("kind", [FinchConnect, Connections])
def test_a_traceback_of_the_construction_shows_no_secret_of_the_environment(
    kind: type[FinchConnect] | type[Connections],
) -> None:
    environ = {"FINCH_CLIENT_SECRET": CANARY, "FINCH_KEY": f"k1:{CANARY}"}

    with pytest.raises(ConfigurationError) as caught:
        kind.from_env(environ, accepted_keys=[f"k0:{CANARY}"])

    assert CANARY not in _told_with_locals(caught.value)
    assert environ["FINCH_CLIENT_SECRET"] == CANARY


def test_a_traceback_of_the_storage_shows_no_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_storage(f"postgresql+psycopg://finch:{CANARY}@host:port/database")

    assert CANARY not in _told_with_locals(caught.value)
    assert caught.value.__context__ is None
