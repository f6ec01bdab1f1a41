"""What an application says of its login, understood."""

from __future__ import annotations

from typing import Any

import pytest

from finch_middleware import Customer
from finch_middleware.customers import customer_ids

ACME = Customer(id="acme", name="Acme Inc.", email="payroll@acme.example")


@pytest.mark.parametrize(
    ("answer", "ids"),
    [
        (None, set()),
        ("acme", {"acme"}),
        (4711, {"4711"}),
        (ACME, {"acme"}),
        (Customer(id=4711, name="Acme"), {"4711"}),  # type: ignore[arg-type]  # as applications do
        ([ACME, "globex", 12, None], {"acme", "globex", "12"}),
        ([], set()),
    ],
    ids=repr,
)
def test_one_customer_several_or_nobody_become_their_ids(answer: Any, ids: set[str]) -> None:
    assert customer_ids(answer) == ids
