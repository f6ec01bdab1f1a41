"""The customer ids in what an application returns as its login."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any
from uuid import UUID

import pytest

from finch_middleware import Customer, UsageError
from finch_middleware.config.customers import customer_ids
from tests.ids import steady

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
        (["globex", ""], {"globex"}),
        ((each for each in ("acme", 12)), {"acme", "12"}),
        ({4711: "a key"}.keys(), {"4711"}),
        (0, {"0"}),
        ("", set()),
        ([], set()),
        ((), set()),
        ([None, ""], set()),
    ],
    ids=steady,
)
def test_one_customer_several_or_none_become_their_ids(answer: Any, ids: set[str]) -> None:
    assert customer_ids(answer) == ids


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (False, "bool"),
        (True, "bool"),
        (1.5, "float"),
        (b"12", "bytes"),
        (bytearray(b"12"), "bytearray"),
        (memoryview(b"12"), "memoryview"),
        ({"id": "acme"}, "dict"),
        (OrderedDict(id="acme"), "OrderedDict"),
        (UUID(int=7), "UUID"),
        (object(), "object"),
        (["acme", False], "bool"),
        (["acme", ["globex"]], "list"),
        ([UUID(int=7)], "UUID"),
        (Customer(id=True, name="Acme"), "bool"),  # type: ignore[arg-type]  # hostile on purpose
        (Customer(id=None, name="Acme"), "NoneType"),  # type: ignore[arg-type]  # hostile on purpose
    ],
    ids=steady,
)
def test_what_is_no_id_is_refused_by_the_name_of_its_type(answer: Any, kind: str) -> None:
    with pytest.raises(UsageError, match=rf"not a {kind}\b"):
        customer_ids(answer)


def test_a_refusal_does_not_repeat_what_was_answered() -> None:
    with pytest.raises(UsageError) as refusal:
        customer_ids({"id": "canary"})

    assert "canary" not in str(refusal.value)
