"""A worker that is ended, and a spool that holds what the storage never takes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import FakeFinch
from tests.faulty_storage import FaultyStorage
from tests.left_behind import left_behind, standing
from tests.site import Site


@pytest.fixture
def site(faulty_site: Site) -> Site:
    return faulty_site


def test_a_report_is_not_lost_with_the_sweep_that_was_to_make_it(
    fake: FakeFinch, site: Site, faulty: FaultyStorage, clock: Clock
) -> None:
    code = left_behind(fake, site, faulty)
    clock.move(timedelta(seconds=61))
    faulty.after("settle", _die)
    with pytest.raises(SystemExit):
        site.finch.recovery.sweep()
    unreported = list(site.events)

    early = site.finch.recovery.sweep()
    clock.move(timedelta(seconds=61))
    late = [site.finch.recovery.sweep() for _ in range(2)]

    assert (unreported, early.interrupted) == ([], ())
    assert [len(each.interrupted) for each in late] == [1, 0]
    assert [event.name for event in site.events] == ["finch.attempt.interrupted"]
    assert standing(site, fake, code).notified


def test_a_report_that_could_not_be_noted_is_made_again(
    fake: FakeFinch, site: Site, faulty: FaultyStorage, clock: Clock
) -> None:
    left_behind(fake, site, faulty)
    clock.move(timedelta(seconds=61))
    faulty.before("settle", lambda: faulty.down("settle", times=1))

    site.finch.recovery.sweep()
    clock.move(timedelta(seconds=61))
    again, after = site.finch.recovery.sweep(), site.finch.recovery.sweep()

    assert (len(again.interrupted), len(after.interrupted)) == (1, 0)
    assert len(site.named("finch.attempt.interrupted")) == 2


def _die() -> None:
    raise SystemExit
