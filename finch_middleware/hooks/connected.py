"""`on_connected`, called at least once for every stored connection."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable

from finch_middleware.attempts import Attempt
from finch_middleware.crypto.opened import Connection
from finch_middleware.crypto.vault import Vault
from finch_middleware.hooks.events import Events
from finch_middleware.storage.protocol import Storage


class ConnectedHook:
    """Runs the application's `on_connected` while it is pending, and records that it ran."""

    def __init__(
        self,
        hook: Callable[[Connection], object] | None,
        *,
        vault: Vault,
        storage: Storage,
        events: Events,
    ) -> None:
        self._hook = hook
        self._vault = vault
        self._storage = storage
        self._events = events

    def run(self, attempt: Attempt) -> bool:
        """
        Call the hook if *attempt* has it pending. Whether it ran; one that raises stays pending.

        The hook gets the connection as it is stored now, which may have a newer token than the
        one that *attempt* obtained.
        """
        if self._hook is None or attempt.notified or attempt.connection_id is None:
            return False
        try:
            stored = self._storage.get(attempt.connection_id)
            if stored is not None:
                self._hook(Connection.of(stored, functools.partial(self._vault.open_grant, stored)))
        except Exception:  # the application's own code; the person is connected all the same
            self._events.of_attempt(
                "finch.hook.failed", logging.ERROR, attempt, reason="on_connected"
            )
            return False
        # A connection that the application has removed meanwhile has nothing pending any more.
        return self._record(dataclasses.replace(attempt, notified=True)) and stored is not None

    def _record(self, done: Attempt) -> bool:
        try:
            self._storage.settle(done)
        except Exception as error:  # whatever a storage raises, the hook has run
            self._events.of_attempt(
                "finch.storage.unavailable", logging.ERROR, done, reason=type(error).__name__
            )
            return False
        return True
