"""What Finch saw, as its own book tells it, and how the demo reads addresses."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from finch_middleware.cli.demo_browser import Answer, Browser, Deviation


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """
    The fake Finch's ledger at one moment: the oracle of the demo.

    Attributes:
        customers: Of each Connect session, the oldest first.
        tokens: The SHA-256 of each token that was minted, in hex.
        exchanges: How many requests came to the token endpoint.
    """

    customers: tuple[str, ...]
    tokens: tuple[str, ...]
    exchanges: int
    _presented: dict[str, int]

    @classmethod
    def of(cls, finch: str) -> Self:
        """
        The book of the fake at that address, as it stands now.

        Raises:
            Deviation: It has none.
        """
        answer = Browser().get(f"{finch}/_fake/ledger")
        try:
            told: dict[str, Any] = json.loads(answer.text)
            return cls(
                customers=tuple(session["customer_id"] for session in told["sessions"]),
                tokens=tuple(told["tokens"]),
                exchanges=told["calls"].get("token", 0),
                _presented={code["code"]: code["presented"] for code in told["codes"]},
            )
        except (ValueError, LookupError, TypeError):
            pass
        # Outside of the except block: the error beneath holds the book, codes included.
        raise Deviation("the fake Finch does not show its book")

    def presented(self, code: str) -> int:
        """How often this code came to the token endpoint."""
        return self._presented.get(code, 0)


def fingerprint(token: str) -> str:
    """The SHA-256 of a token, as the book has it."""
    return hashlib.sha256(token.encode()).hexdigest()


def place(url: str) -> str:
    """An address without its query."""
    return url.partition("?")[0]


def parameter(url: str, name: str) -> str:
    """A parameter of an address, empty where it is missing."""
    return parse_qs(urlsplit(url).query).get(name, [""])[0]


def code_of(link: str) -> str:
    """
    The code that a callback link brings.

    Raises:
        Deviation: It brings none.
    """
    code = parameter(link, "code")
    if not code:
        raise Deviation(f"there is no code in what came back to {place(link)}")
    return code


def hinted(answer: Answer) -> str:
    """Where the callback sends the browser, and with which hint; its reference left out."""
    if "location" not in answer.headers:
        return "nowhere"
    return f"{place(answer.location)}?finch={parameter(answer.location, 'finch')}"


def ticket_of(answer: Answer) -> tuple[str, str]:
    """Name and attributes of the ticket's cookie; its value is nobody's business."""
    for line in answer.set_cookies:
        pair, *attributes = [part.strip() for part in line.split(";")]
        name = pair.partition("=")[0]
        if name.startswith("finch-"):
            lasting = [each for each in attributes if not each.startswith("Max-Age")]
            return name, ", ".join(sorted(lasting))
    return "none", "none"
