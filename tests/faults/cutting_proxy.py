"""A proxy in front of PostgreSQL that cuts the line at a COMMIT."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.storage.on_servers.relay import Relay

_COMMIT = b"COMMIT\x00"
_WRITES, _READS = b"BEGIN ISOLATION", b"BEGIN READ ONLY"


class CuttingProxy(Relay):
    """
    A relay that can cut a line.

    Attributes:
        cut: Whether it has cut the line that it was told to.
    """

    def __init__(self, url: str) -> None:
        self._forwarded: bool | None = None
        self.cut = False
        super().__init__(url, chance=random.Random())

    def cut_at_commit(self, *, forwarded: bool) -> None:
        """Cut the line at a writer's next COMMIT: once it is done, or before the server knows."""
        self.cut = False
        self._forwarded = forwarded

    def passing(self) -> Callable[[bytes, bool], bytes]:
        writing = cut = False

        def passed(sent: bytes, answer: bool) -> bytes:
            nonlocal writing, cut
            if answer:
                if cut:
                    raise ConnectionError
                return sent
            writing = (writing or _WRITES in sent) and _READS not in sent
            if writing and _COMMIT in sent and self._forwarded is not None:
                forwarded, self._forwarded = self._forwarded, None
                self.cut = cut = True
                if not forwarded:
                    raise ConnectionError
            return sent

        return passed
