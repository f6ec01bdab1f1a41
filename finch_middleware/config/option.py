"""What is declared of one option."""

from __future__ import annotations

from dataclasses import dataclass

from finch_middleware.config.readers import Reader, function


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """
    What is known about an option besides its name and type.

    Attributes:
        meaning: Its text in the manual.
        read: Turns what was given, or the default, into the setting.
        must: Reported where `read` refuses a value without a sentence of its own.
        required: Reported where it is missing: how to get it. Empty: it may be missing.
        variable: The environment variable that sets it, if there is one.
        heading: The manual's heading above this option and those that follow.
    """

    meaning: str
    read: Reader
    must: str = ""
    required: str = ""
    variable: str | None = None
    default: object = None
    heading: str = ""


def function_option(meaning: str, *, heading: str = "") -> Option:
    return Option(heading=heading, read=function, must="must be a function", meaning=meaning)
