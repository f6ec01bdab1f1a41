"""`on_connected`, called at least once for every stored connection."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass

from finch_middleware.attempts import Attempt
from finch_middleware.crypto.opened import Connection
from finch_middleware.crypto.vault import Vault
from finch_middleware.hooks.events import Events, called
from finch_middleware.storage.protocol import Storage


@dataclass(kw_only=True, eq=False, repr=False)
class ConnectedHook:
    """Runs the application's `on_connected` while it is pending, and records that it ran."""

    hook: Callable[[Connection], object] | None
    vault: Vault
    storage: Storage
    events: Events

    def run(self, attempt: Attempt) -> bool:
        """
        Call the hook if *attempt* has it pending. Whether it ran; one that raises stays pending.

        The hook gets the connection as it is stored now, which may have a newer token than the
        one that *attempt* obtained.
        """
        if self.hook is None or attempt.notified or attempt.connection_id is None:
            return False
        try:
            stored = self.storage.get(attempt.connection_id)
            if stored is not None:
                opened = functools.partial(self.vault.open_grant, stored)
                if not called(self.hook, Connection.of(stored, opened)):
                    self.events.of_attempt(
                        "finch.hook.failed", logging.ERROR, attempt, reason="on_connected"
                    )
                    return False
            self.storage.settle(dataclasses.replace(attempt, notified=True))
        except Exception as error:  # whatever a storage raises, the person is connected
            self.events.of_attempt(
                "finch.storage.unavailable", logging.ERROR, attempt, reason=type(error).__name__
            )
            return False
        # A connection that the application has removed meanwhile has nothing pending any more.
        return stored is not None
