"""The products that Finch publishes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: As Finch publishes them for ``POST /connect/sessions``; `deduction` is an older `benefits`.
PRODUCTS = (
    *("benefits", "company", "deduction", "directory", "documents", "employment", "individual"),
    *("pay_statement", "payment", "plans", "plans_dependents", "plans_enrollments"),
    *("recordkeeping", "ssn"),
)


def fault_of_products(names: Iterable[str]) -> str | None:
    """What is wrong with the first product that Finch does not publish; None if all are known."""
    unknown = next((name for name in names if name not in PRODUCTS), None)
    if unknown is None:
        return None
    near = difflib.get_close_matches(unknown, PRODUCTS, n=1)
    fix = f"did you mean {near[0]!r}?" if near else f"use some of {', '.join(PRODUCTS)}"
    return f"Finch publishes no product {unknown!r}; {fix} (unknown_products=True accepts it)"
