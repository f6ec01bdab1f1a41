"""What the URL of a database holds beside what SQLAlchemy reads."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from finch_middleware.errors import ConfigurationError

_OPTION = "accept_data_loss"


def parsed(url: str | URL) -> tuple[URL, bool]:
    """
    The URL as SQLAlchemy reads it, and whether ``accept_data_loss`` is on in it.

    Raises:
        ConfigurationError: It cannot be parsed, or the option is neither true nor false.
    """
    with suppress(ArgumentError, ValueError):
        address = make_url(url)
        accepted = address.query.get(_OPTION, "false")
        if accepted not in ("true", "false"):
            raise ConfigurationError([f"{_OPTION} in the storage URL must be true or false."])
        return address.difference_update_query([_OPTION]), accepted == "true"
    # SQLAlchemy's own message repeats the URL, password included.
    raise ConfigurationError(
        ["The storage URL cannot be parsed: write dialect+driver://user:password@host/database."]
    )
