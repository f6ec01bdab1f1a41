"""Django: the project's own component, with a fake Finch in place of Finch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Unpack, cast

from django.conf import settings
from django.test import override_settings

from finch_middleware.adapters.django import finch
from finch_middleware.config.options import Options
from finch_middleware.connect import FinchConnect
from finch_middleware.testing.component import fake_options
from finch_middleware.testing.fake_finch import FakeFinch


@contextmanager
def use_fake_finch(fake: FakeFinch, **options: Unpack[Options]) -> Iterator[FinchConnect]:
    """
    Let the project use *fake*, a storage in memory and a new key, and yield its component.

    It is the component that ``finch()`` returns to the project's views until the end of the
    block. All else is as in ``settings.FINCH``; *options* replace or complete that, such as
    the ``redirect_uri`` of a live server.

    Raises:
        ConfigurationError: ``settings.FINCH`` is not complete, or *options* are wrong.
    """
    own = getattr(settings, "FINCH", {})
    with override_settings(FINCH=cast("Options", {**own, **fake_options(fake), **options})):
        yield finch()
