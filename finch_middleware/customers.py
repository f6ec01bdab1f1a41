"""The employers that a login may act for, as the application names them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


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
Customers = Customer | str | Collection[Customer | str] | None


def customer_ids(answer: Customers) -> frozenset[str]:
    """What `customer_of` answered, as a set: empty where nobody is signed in."""
    if answer is None:
        return frozenset()
    if isinstance(answer, (Customer, str, int)):  # an application's own ids are often numbers
        return frozenset([_id(answer)])
    return frozenset(_id(each) for each in answer if each is not None)


def _id(customer: Customer | str | int) -> str:
    return str(customer.id if isinstance(customer, Customer) else customer)
