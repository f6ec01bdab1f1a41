"""The products that Finch publishes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: As Finch publishes them for ``POST /connect/sessions``, and in words for a person.
PRODUCTS = {
    "benefits": "benefits and deductions",
    "company": "company details",
    "deduction": "benefits and deductions",  # an older name of benefits
    "directory": "the list of employees",
    "documents": "tax documents",
    "employment": "jobs and pay rates",
    "individual": "personal details of employees",
    "payment": "payroll totals",
    "pay_statement": "pay statements of employees",
    "plans": "retirement plans",
    "plans_dependents": "dependents in retirement plans",
    "plans_enrollments": "enrollments in retirement plans",
    "recordkeeping": "records of retirement plans",
    "ssn": "social security numbers",
}


def fault_of_products(names: Iterable[str]) -> str | None:
    """What is wrong with the first product that Finch does not publish; None if all are known."""
    unknown = next((name for name in names if name not in PRODUCTS), None)
    if unknown is None:
        return None
    near = difflib.get_close_matches(unknown, PRODUCTS, n=1)
    fix = f"did you mean {near[0]!r}?" if near else f"use some of {', '.join(PRODUCTS)}"
    return f"Finch publishes no product {unknown!r}; {fix} (unknown_products=True accepts it)"
