"""What is declared of one option."""

from __future__ import annotations

from dataclasses import dataclass

from finch_middleware.config.readers import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """
    What is known about an option besides its name and type.

    Attributes:
        meaning: Its text in the manual.
        read: Turns what was given, or the default, into the setting.
        required: Reported where it is missing: how to get it. Empty: it may be missing.
        variable: The environment variable that sets it, if there is one.
        heading: The manual's heading above this option and those that follow.
    """

    meaning: str
    read: Reader
    required: str = ""
    variable: str | None = None
    default: object = None
    heading: str = ""
