"""The employers that a login may act for, as the application names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from finch_middleware.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """
    One employer, with what Finch is told about it. From the login, never from the request.

    Attributes:
        id: The application's own id, 1 to 255 bytes.
        name: Shown on Finch's page.
        email: For Finch's own mail, or None.
    """

    id: str
    name: str
    email: str | None = None


#: What `customer_of` may answer: one customer, all that this login manages, or nobody.
Customers = Customer | str | int | Iterable[Customer | str | int] | None

# Iterable too, but of their letters, bytes or keys: never of customers.
_ONE = (str, int, Customer)
_NEVER_SEVERAL = (bytes, bytearray, memoryview, Mapping)


def customer_ids(answer: Customers) -> frozenset[str]:
    """
    What `customer_of` answered, as a set: empty where nobody is signed in.

    None, an empty text and an empty collection are nobody. Numbers become their digits.

    Raises:
        UsageError: It is, or holds, something else than ids and Customers.
    """
    if answer is None:
        return frozenset()
    if isinstance(answer, _ONE):
        answer = (answer,)
    if isinstance(answer, _NEVER_SEVERAL) or not isinstance(answer, Iterable):
        raise _refusal(answer)
    ids = frozenset(_id(each) for each in answer if each is not None)
    return ids - {""}


def _id(customer: Customer | str | int) -> str:
    given = customer.id if isinstance(customer, Customer) else customer
    # True is an int to Python, and "this login is fine" is no customer.
    if isinstance(given, bool) or not isinstance(given, (str, int)):
        raise _refusal(given)
    return str(given)


def _refusal(given: object) -> UsageError:
    return UsageError(
        "a signed-in customer is text, an int, a Customer or a collection of those, "
        f"not a {type(given).__name__}; pass str(id)"
    )
