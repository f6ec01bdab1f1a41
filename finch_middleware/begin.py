"""What the application asks for when it opens Finch Connect, checked, and what Finch is asked."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from finch_middleware.config.options import FlowKind
from finch_middleware.config.settings import Settings
from finch_middleware.config.urls import check_return_to, origin_of
from finch_middleware.errors import FinchUnavailable, UsageError
from finch_middleware.finch.responses import ConnectSession
from finch_middleware.outcomes import SetCookie
from finch_middleware.secret import Secret

NAME_LIMIT = 255
# Finch: minutes_to_expire is 1 to 129600.
_LIFE_LIMIT = timedelta(minutes=129_600)
_MINUTE = timedelta(minutes=1)
_PLAIN_URL = re.compile(r"[!-\[\]-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """
    The arguments of `begin`.

    Attributes:
        expires_in: Life of the Connect session and of the ticket.
        when_connected: What to do with a customer whom Finch knows already.
        session: A session that the application created by itself.
    """

    customer_id: str
    customer_name: str
    return_to: str = "/"
    flow: FlowKind = "redirect"
    products: Sequence[str] | None = None
    customer_email: str | None = None
    provider: str | None = None
    manual: bool | None = None
    expires_in: timedelta = timedelta(hours=1)
    when_connected: Literal["reauthenticate", "raise"] = "reauthenticate"
    session: ConnectSession | None = None

    def checked(self, settings: Settings) -> Opening:
        """
        This opening, if it can be carried out.

        Raises:
            UsageError: One of its arguments is out of bounds; return_to must be a local path, and
                a session of the application's own must lead to Finch Connect.
        """
        name = self.customer_name
        if not (isinstance(name, str) and 1 <= len(name) <= NAME_LIMIT):
            raise UsageError(f"customer_name must have 1 to {NAME_LIMIT} characters")
        if self.flow not in ("redirect", "embedded"):
            raise UsageError("flow must be 'redirect' or 'embedded'")
        if self.when_connected not in ("reauthenticate", "raise"):
            raise UsageError("when_connected must be 'reauthenticate' or 'raise'")
        life = self.expires_in
        if not (isinstance(life, timedelta) and _MINUTE <= life <= _LIFE_LIMIT):
            raise UsageError("expires_in must be a timedelta of one minute to 90 days")
        check_return_to(self.return_to, spa_origins=settings.spa_origins)
        # The address opens the session, so it is not repeated.
        if self.session and not _connect_parts(self.session, settings.connect_origin):
            raise UsageError(f"the connect_url of session must lead to {settings.connect_origin}")
        return self

    def session_fields(self, settings: Settings) -> dict[str, object]:
        """The body of ``POST /connect/sessions``."""
        integration = {"provider": self.provider, "auth_method": None} if self.provider else None
        optional = {
            "customer_email": self.customer_email,
            "integration": integration,
            "manual": self.manual,
            "sandbox": settings.sandbox,
        }
        return {
            "customer_id": self.customer_id,
            "customer_name": self.customer_name,
            **self._common(settings),
            **{name: value for name, value in optional.items() if value is not None},
        }

    def reauthentication_fields(self, settings: Settings, connection_id: str) -> dict[str, object]:
        """The body of ``POST /connect/sessions/reauthenticate``."""
        return {"connection_id": connection_id, **self._common(settings)}

    def _common(self, settings: Settings) -> dict[str, object]:
        fields: dict[str, object] = {
            "products": list(self.products or settings.products),
            "minutes_to_expire": math.ceil(self.expires_in / _MINUTE),
        }
        # The embedded flow knows no redirect_uri, and Finch refuses its code where one is sent.
        return (
            {**fields, "redirect_uri": settings.redirect_uri} if self.flow == "redirect" else fields
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """
    Finch Connect, ready to be shown to the person.

    Attributes:
        location: Where the browser goes (redirect flow); None for Finch's SDK (embedded).
        state: For the SDK, which hands it back with the code.
    """

    session: ConnectSession
    location: str | None
    state: Secret
    cookies: tuple[SetCookie, ...]


def connect_location(session: ConnectSession, state: Secret, *, connect_origin: str) -> str:
    """
    The address that opens Connect in the browser, with our state on it.

    Raises:
        FinchUnavailable: The session leads elsewhere than to *connect_origin*.
    """
    parts = _connect_parts(session, connect_origin)
    if parts is None:
        raise FinchUnavailable("bad_response", request_id=session.request_id)
    query = f"{parts.query}&state={state.reveal()}".lstrip("&")
    return parts._replace(query=query, fragment="").geturl()


def _connect_parts(session: ConnectSession, connect_origin: str) -> SplitResult | None:
    """The parts of its address, if that leads to *connect_origin* as every reader reads it."""
    url = session.connect_url
    # What a browser and urlsplit could take for different hosts leads nowhere.
    if not isinstance(url, str) or not _PLAIN_URL.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # read here, because only reading it checks it
    except ValueError:
        return None
    return parts if "@" not in parts.netloc and origin_of(parts) == connect_origin else None
