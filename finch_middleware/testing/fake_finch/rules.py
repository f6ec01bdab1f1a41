"""An application's settings at Finch, and what Finch does not document."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknowns:
    """
    What Finch does not document; an application should work with either value.

    Attributes:
        old_token: Whether a connection's older tokens work after a re-authentication.
        connected_customer: Whether a new session is refused for a customer with any connection,
            or only with one at the same provider.
        refusal_names_connection: Whether that refusal has ``context.connection_id``.
        reauthenticated_customer: Whether the token's response to a re-authentication repeats
            the ``customer_id`` or has null there.
        reauth: Whether ``/introspect`` and ``/disconnect`` work while a person has to sign in
            again, or are refused as a data call is.
        disconnect_sends: Which ``account.updated`` follow a ``/disconnect``: none, one for the
            connection, or one for each entity.
    """

    old_token: Literal["lives", "dies"] = "lives"
    connected_customer: Literal["refused", "refused per provider"] = "refused"
    refusal_names_connection: bool = True
    reauthenticated_customer: Literal["named", "null"] = "named"
    reauth: Literal["works", "refused"] = "works"
    disconnect_sends: Literal["nothing", "one", "one per entity"] = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """An application's settings at Finch, and the behaviour that Finch does not document."""

    client_id: str
    client_secret: str
    redirect_uris: frozenset[str] | None
    echo_state: bool
    unknowns: Unknowns
    clock: Callable[[], datetime]

    def permits(self, redirect_uri: object) -> bool:
        """Whether it is registered, or could be; see `FakeFinch`."""
        if not isinstance(redirect_uri, str):
            return False
        if self.redirect_uris is not None:
            return redirect_uri in self.redirect_uris
        if not re.fullmatch(r"[!-~]+", redirect_uri) or "#" in redirect_uri:
            return False
        parts = urlsplit(redirect_uri)
        return (parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1")) or (
            parts.scheme == "https" and bool(parts.hostname)
        )
