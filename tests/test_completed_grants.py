"""A malformed grant, completed by what Finch's introspection states."""

from __future__ import annotations

import json

import pytest

from finch_middleware.finch.responses import completed_grant
from finch_middleware.secret import Secret
from tests.asking import (
    GRANT,
    TOKEN,
)
from tests.test_finch_answers import ODD_IDS

INTROSPECTION: dict[str, object] = {
    "id": "i-1",
    "connection_id": "c-introspected",
    "customer_id": "acme",
    "provider_id": "gusto",
    "products": ["company"],
    "client_type": "production",
    "connection_type": "provider",
    "username": "not of a grant",
}


@pytest.mark.parametrize(
    "odd",
    [
        *ODD_IDS,
        {"token_type": "mac"},
        {"token_type": 7},
        {"provider_id": 7},
        {"products": {"company": 1}},
        {"client_type": []},
        {"connection_type": 1.5},
        {"connection_id": None, "customer_id": None, "products": None},
    ],
    ids=str,
)
def test_a_malformed_grant_is_completed_by_an_introspection(odd: dict[str, object]) -> None:
    document = Secret(json.dumps({**GRANT, **odd, "of_tomorrow": [1, None]}))

    grant = completed_grant(document, INTROSPECTION)

    assert grant is not None
    assert (grant.connection_id, grant.customer_id) == ("c-introspected", "acme")
    assert (grant.provider_id, grant.products) == ("gusto", ("company",))
    kept = json.loads(grant.document.reveal())
    assert (kept["access_token"], kept["of_tomorrow"]) == (TOKEN, [1, None])
    assert (kept["token_type"], kept["client_type"]) == ("bearer", "production")
    assert "username" not in kept


def test_a_field_missing_from_the_introspection_stays_as_it_was() -> None:
    document = Secret(json.dumps({**GRANT, "customer_id": None}))

    grant = completed_grant(document, {"customer_id": 4711, "provider_id": None})

    assert grant is not None
    assert (grant.connection_id, grant.customer_id) == (GRANT["connection_id"], "4711")
    assert grant.provider_id == "gusto"


@pytest.mark.parametrize(
    ("odd", "introspection"),
    [
        ({"connection_id": None}, {"connection_id": None}),
        ({"connection_id": 7}, {"connection_id": 8}),
        ({"provider_id": 7}, {"provider_id": None}),
        ({}, {"products": "company"}),
        ({}, {"client_type": 5}),
    ],
    ids=str,
)
def test_a_grant_that_is_still_malformed_has_no_connection(
    odd: dict[str, object], introspection: dict[str, object]
) -> None:
    grant = completed_grant(
        Secret(json.dumps({**GRANT, **odd})), {**INTROSPECTION, **introspection}
    )

    assert grant is not None
    assert grant.connection_id is None


@pytest.mark.parametrize("customer_id", [12.0, True, [], "a\0"])
def test_a_malformed_customer_of_an_introspection_is_none(customer_id: object) -> None:
    introspection = {**INTROSPECTION, "customer_id": customer_id}

    grant = completed_grant(Secret(json.dumps(GRANT)), introspection)

    assert grant is not None
    assert grant.customer_id is None
