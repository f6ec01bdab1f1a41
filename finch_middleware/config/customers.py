"""The customers that a signed-in person may act for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from finch_middleware.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """
    One employer, as Finch is to know it. Take it from the login, never from the request.

    Attributes:
        id: The application's own id, 1 to 255 bytes.
        name: Shown on Finch's page.
        email: The address that Finch may write to, or None.
    """

    id: str
    name: str
    email: str | None = None


def require_text(**ids: object) -> None:
    """Raise UsageError unless each of *ids* is text that a storage can look up."""
    for name, given in ids.items():
        if not isinstance(given, str):
            raise UsageError(f"{name} must be text, not {type(given).__name__}: pass str(id)")
        if any("\ud800" <= character <= "\udfff" for character in given):
            raise UsageError(f"{name} contains an unpaired surrogate, which cannot be stored")


#: What `customer_of` may return: one customer, all that this person manages, or None.
Customers = Customer | str | int | Iterable[Customer | str | int] | None

# These are iterable as well, but not as collections of customers.
_NO_COLLECTION = (str, bytes, bytearray, memoryview, Mapping)


def signed_in_customer(customer_of: Callable[[Any], Customers], request: object) -> Customers:
    """What the option `customer_of` returns; a session that it did not find is explained."""
    try:
        return customer_of(request)
    except (LookupError, AssertionError, AttributeError) as error:
        if "session" in str(error).lower():
            error.add_note(
                "finch_middleware: customer_of found no session. The middleware of the session "
                "must wrap ours: with add_middleware, add it after FinchASGIMiddleware."
            )
        raise


def customer_ids(returned: Customers) -> frozenset[str]:
    """
    The ids of the customers that `customer_of` returned; a UsageError for anything else.

    None, an empty text and an empty collection mean that the person is signed out.
    """
    alone = isinstance(returned, _NO_COLLECTION) or not isinstance(returned, Iterable)
    several: Any = (returned,) if alone else returned
    return frozenset(_id(each) for each in several if each is not None) - {""}


def _id(customer: Customer | str | int) -> str:
    given = customer.id if isinstance(customer, Customer) else customer
    # True is an int in Python, but not a customer's id.
    if isinstance(given, bool) or not isinstance(given, (str, int)):
        raise UsageError(
            "a signed-in customer is text, an int, a Customer or a collection of those, "
            f"not a {type(given).__name__}; pass str(id)"
        )
    require_text(customer_id=str(given))
    return str(given)
