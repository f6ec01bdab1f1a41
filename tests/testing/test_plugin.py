"""The fixtures and rows that an application's own tests use."""

from __future__ import annotations

import pytest

from finch_middleware import FinchConnect
from finch_middleware.testing import FakeFinch, add_connection


def test_the_finch_fixture_speaks_to_the_fake_one(
    finch: FinchConnect, fake_finch: FakeFinch
) -> None:
    response = finch.begin(customer_id="acme", customer_name="Acme Inc.")

    assert response.headers["Location"].startswith(fake_finch.connect_origin)
    assert fake_finch.ledger.calls("sessions") == 1


def test_an_added_connection_reads_back_like_a_real_one(finch: FinchConnect) -> None:
    added = add_connection(
        finch, customer_id="acme", access_token="token-of-a-test", entity_ids=["e-1"]
    )

    [connection] = finch.connections.for_customer("acme")
    assert connection.connection_id == added.connection_id
    assert connection.access_token.reveal() == "token-of-a-test"
    assert connection.entity_ids == ("e-1",)
    assert finch.connections.for_customer("other") == []


def test_a_name_that_testing_does_not_have_is_an_attribute_error() -> None:
    import finch_middleware.testing

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = finch_middleware.testing.nothing
