"""Finch's signatures: the public test vector, the cases of Finch's SDKs, and the SDK itself."""

from __future__ import annotations

import base64
import json
import secrets
from datetime import UTC, datetime, timedelta

import finch
import pytest

from finch_middleware.finch.webhook import NotVerified, Signature, read_event
from finch_middleware.secret import Secret
from finch_middleware.testing.fake_finch.webhooks import WebhookSender, new_event_id

# Published in the tests of Finch's SDKs for Python, Node and Go.
SECRET = "5WbX5kEWLlfzsGNjH64I8lOOqUB6e8FH"
EVENT_ID = "msg_2Lh9KRb0pzN4LePd3XiA4v12Axj"
TIMESTAMP = "1676312382"
BODY = b'{"company_id":"720be419-0293-4d32-a707-32179b0827ab"}'
GOOD = "m7y0TV2C+hlHxU42wCieApTSTaA8/047OAplBqxIV/s="
OTHER = base64.b64encode(b"x" * 32).decode()
SIGNED_AT = datetime.fromtimestamp(int(TIMESTAMP), UTC)


def refusal(
    entries: str = f"v1,{GOOD}",
    *,
    event_id: str = EVENT_ID,
    timestamp: str = TIMESTAMP,
    body: bytes = BODY,
    secrets: tuple[str, ...] = (SECRET,),
    later: timedelta = timedelta(0),
) -> str | None:
    """Why the delivery is refused; None if it is accepted."""
    signature = Signature(event_id=event_id, timestamp=timestamp, entries=entries)
    try:
        signature.check(now=SIGNED_AT + later)
        signature.verify(body, secrets=[Secret(each) for each in secrets])
    except NotVerified as fault:
        return fault.reason
    return None


@pytest.mark.parametrize(
    "entries",
    [
        f"v1,{GOOD}",
        f"v1,{OTHER} v1,{GOOD}",
        f"v2,{OTHER} v1,{GOOD}",
        f"v1,{GOOD} v1,{OTHER}",
        f"v1,{OTHER},v1,{GOOD}",  # several lines, as a WSGI server joins them
        f"v1,{OTHER}, v1,{GOOD}",
        f"v1,a v1,{GOOD}",  # Finch's own SDK raises here
        f"v1,é v1 v1, ,,v1,v1 x v1,{GOOD}",
    ],
)
def test_one_good_entry_of_version_one_is_enough(entries: str) -> None:
    assert refusal(entries) is None


@pytest.mark.parametrize(
    "entries",
    ["", GOOD, f"v2,{GOOD}", f"v1,{OTHER}", "v1", "v1,", f"V1,{GOOD}", f"v1,{GOOD[:-1]}",
     f"v1,{GOOD.swapcase()}", f"v1;{GOOD}", f"v1 {GOOD}", f"xv1,{GOOD}", "v1,\x00", "v1,☃"],
)  # fmt: skip
def test_without_one_it_is_refused(entries: str) -> None:
    assert refusal(entries) in ("headers", "signature")


@pytest.mark.parametrize("way", [-1, 1])
@pytest.mark.parametrize(("seconds", "reason"), [(300, None), (301, "timestamp")])
def test_five_minutes_either_way_are_accepted(way: int, seconds: int, reason: str | None) -> None:
    assert refusal(later=timedelta(seconds=way * seconds)) == reason


@pytest.mark.parametrize(
    "timestamp", ["", "1676312382.0", "+1676312382", " 1676312382", "nan", "١٦٧٦٣١٢٣٨٢", "9" * 5000]
)
def test_a_timestamp_is_digits_only(timestamp: str) -> None:
    assert refusal(timestamp=timestamp) == "headers"


@pytest.mark.parametrize("event_id", ["", "a b", "msg.1", f"{EVENT_ID},{EVENT_ID}", "é", "m" * 129])
def test_an_event_id_is_one_plain_word(event_id: str) -> None:
    assert refusal(event_id=event_id) == "headers"


@pytest.mark.parametrize(
    "changed",
    [{"body": BODY + b" "}, {"event_id": EVENT_ID[:-1]}, {"timestamp": str(int(TIMESTAMP) + 1)},
     {"secrets": (OTHER,)}, {"secrets": (OTHER, SECRET[::-1])}],
)  # fmt: skip
def test_whatever_is_signed_counts(changed: dict[str, str]) -> None:
    assert refusal(**changed) == "signature"  # type: ignore[arg-type]  # one of its keywords


@pytest.mark.parametrize("secrets", [(SECRET, OTHER), (OTHER, SECRET)])
def test_during_a_rotation_either_secret_signs(secrets: tuple[str, ...]) -> None:
    assert refusal(secrets=secrets) is None


def test_what_the_fake_signs_is_accepted_here_and_by_finchs_own_sdk() -> None:
    keys = [base64.b64encode(secrets.token_bytes(24)).decode() for _ in range(2)]
    now = datetime.now(UTC)
    sender = WebhookSender(clock=lambda: now, record=lambda sent: None)
    sender.deliver_to("http://x", secrets=keys)
    sent = sender.signed(new_event_id(int(now.timestamp())), int(now.timestamp()), BODY)
    signature = Signature(
        event_id=sent["Finch-Event-Id"],
        timestamp=sent["Finch-Timestamp"],
        entries=sent["Finch-Signature"],
    )

    for key in keys:
        unwrapped = finch.Finch(access_token="t").webhooks.unwrap(BODY, headers=sent, secret=key)
        signature.check(now=now)
        signature.verify(BODY, secrets=[Secret(key)])
        read = read_event(signature.event_id, BODY, received_at=now)
        assert read is not None
        assert read.company_id == unwrapped.company_id  # type: ignore[union-attr]  # of every event
        assert read.occurred_at == now.replace(microsecond=0)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b'"x"', b"5", b"{", b"\xff{}", b'{"a": NaN}', b'{"a": 1e999}',
     b'{"a": 1, "a": 2}', b"[" * 100_000, b'{"a":' * 50 + b"1" + b"}" * 50, b"1" * 5000],
    ids=lambda body: body[:12],
)  # fmt: skip
def test_a_body_that_is_no_json_object_with_one_meaning_is_no_event(body: bytes) -> None:
    assert read_event(EVENT_ID, body, received_at=SIGNED_AT) is None


def test_members_in_another_form_than_documented_are_left_out() -> None:
    body = rb"""{"event_type": "account.updated", "connection_id": 5, "entity_id": "\ud800",
    "company_id": null, "account_id": ["x"], "data": {"status": {}, "list": [{"a": 1}]}}"""

    event = read_event("other-form", body, received_at=SIGNED_AT)

    assert event is not None
    assert (event.connection_id, event.entity_id, event.company_id) == (None, None, None)
    assert (event.account_id, event.status, event.occurred_at) == (None, None, None)
    assert event.data["list"][0]["a"] == 1
    with pytest.raises(TypeError):
        event.data["list"][0]["a"] = 2
    assert repr(event).count("list") == 0


@pytest.mark.parametrize("method", ["credential", {"type": "oauth", "supported_fields": {}}])
@pytest.mark.parametrize(
    ("word", "status"), [("reauth", "reauth"), ("error_reauth", "reauth"), ("new_word", "new_word")]
)
def test_the_status_is_read_in_every_documented_form(
    method: object, word: str, status: str
) -> None:
    fields = {"status": word, "authentication_method": method}
    body = {"event_type": "account.updated", "connection_id": "c", "entity_id": "e", "data": fields}

    event = read_event(EVENT_ID, json.dumps(body).encode(), received_at=SIGNED_AT)

    assert event is not None
    assert (event.connection_id, event.entity_id, event.status) == ("c", "e", status)


def test_only_account_updated_has_a_status() -> None:
    body = b'{"event_type": "test", "connection_id": "c", "data": {"status": "disconnected"}}'

    event = read_event(EVENT_ID, body, received_at=SIGNED_AT)

    assert event is not None
    assert (event.event_type, event.status) == ("test", None)
