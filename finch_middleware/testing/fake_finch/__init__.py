"""
A Finch of one's own: a server that behaves as Finch's documentation says, or as badly as told.

::

    with FakeFinch() as fake:
        finch = FinchConnect(api_url=fake.api_url, connect_origin=fake.connect_origin, ...)
        ...
        callback_url = fake.allow(location)          # what the browser would do
        fake.script("token", Behaviour.reset(processed=True))
        assert fake.ledger.presented(code) == 1      # the oracle

It imports nothing of the library that it helps to test: a fake built from the client
repeats its mistakes.
"""

from finch_middleware.testing.fake_finch.behaviour import Behaviour
from finch_middleware.testing.fake_finch.fake import FakeFinch
from finch_middleware.testing.fake_finch.ledger import Ledger
from finch_middleware.testing.fake_finch.records import IssuedCode, OpenedSession, SeenRequest

__all__ = ["Behaviour", "FakeFinch", "IssuedCode", "Ledger", "OpenedSession", "SeenRequest"]
