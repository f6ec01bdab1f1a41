from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import FakeFinch
from tests import selection
from tests.internals import (
    hasty,
    impatient,
    kept_long,
    patient,
    remembers_one,
    short_wait,
    usually_patient,
)
from tests.site import Browser, MakeSite, Site
from tests.storages import server_of, storage_options
from tests.waiting import wait_for_questions

__all__ = ["hasty", "impatient", "kept_long", "patient", "remembers_one", "server_of"]
__all__ += ["short_wait", "storage_options", "usually_patient"]

# A busy machine takes longer for an example, and to make one, than Hypothesis allows by default.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

# A database waits for its disk at every commit, for most of a test's time; memory responds at once.
_MEMORY = Path("/dev/shm")
_NEEDED_BYTES = 2 << 30
if (
    "TMPDIR" not in os.environ
    and _MEMORY.is_dir()
    and shutil.disk_usage(_MEMORY).free > _NEEDED_BYTES
    and not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC
):
    os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)

# A shell starts what runs in the background without SIGINT, and children would inherit that;
# tests send it to them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if selection.left_out(collection_path, config) else None


# First, because pytest's own part of this hook then leaves out what is marked.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        selection.mark_full(item)


def pytest_collection_finish() -> None:
    # A collection then looks at what tests make, and not at the many objects from before them.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_is_asked_any_more() -> Iterator[None]:
    """What a test leaves to be asked of Finch is over before the next test, and so are its logs."""
    yield
    wait_for_questions()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def echo_state() -> bool:
    """Whether Finch's redirect brings the state back; parametrize it to see both."""
    return True


@pytest.fixture
def fake(echo_state: bool) -> Iterator[FakeFinch]:
    with FakeFinch(echo_state=echo_state) as fake:
        yield fake


@pytest.fixture
def sites() -> list[Site]:
    """Every site of this test."""
    return []


@pytest.fixture
def make_site(
    fake: FakeFinch, storage_options: dict[str, Any], clock: Clock, sites: list[Site]
) -> Iterator[Callable[..., Site]]:
    """Opens sites on the storage in turn; they share it, as workers of one deployment do."""
    with ExitStack() as stack:

        def make(**options: Any) -> Site:
            given = {"clock": clock, **storage_options, **options}
            sites.append(stack.enter_context(Site(fake, **given)))
            return sites[-1]

        yield make


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site()


@pytest.fixture
def browser(site: Site) -> Browser:
    return Browser(site)
