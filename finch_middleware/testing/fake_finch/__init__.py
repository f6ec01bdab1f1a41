"""
A fake Finch server, which follows Finch's documentation or misbehaves as scripted.

It imports nothing of the library under test: a fake that shares the client's code would
share its mistakes.
"""

from finch_middleware.testing.fake_finch.accounts import Account, Entity
from finch_middleware.testing.fake_finch.behaviour import Behaviour
from finch_middleware.testing.fake_finch.fake import FakeFinch
from finch_middleware.testing.fake_finch.ledger import Ledger
from finch_middleware.testing.fake_finch.records import IssuedCode, OpenedSession, SeenRequest
from finch_middleware.testing.fake_finch.rules import Unknowns
from finch_middleware.testing.fake_finch.webhooks import Delivery

__all__ = [
    "Account",
    "Behaviour",
    "Delivery",
    "Entity",
    "FakeFinch",
    "IssuedCode",
    "Ledger",
    "OpenedSession",
    "SeenRequest",
    "Unknowns",
]
