"""The tree of errors: evidence, messages, pages, and what a pickle keeps."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import cast

import pytest

from finch_middleware import errors
from finch_middleware.errors import (
    AlreadyConnected,
    BadResponse,
    CannotOpen,
    CodeRejected,
    ConfigurationError,
    ExchangeAmbiguous,
    FinchError,
    FinchRefused,
    FinchUnavailable,
    KeyUnavailable,
    ReturnFault,
    SchemaMismatch,
    SpoolUnavailable,
    StorageUnavailable,
    UsageError,
)
from finch_middleware.outcomes import FAILED_REASONS, INVALID_REASONS, Response

CLASSES = [
    cast("type[FinchError]", each)
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if each.__module__ == errors.__name__
]


@pytest.mark.parametrize("error", CLASSES, ids=lambda each: each.__name__)
def test_every_error_is_one_of_the_tree_with_a_code_and_a_docstring(error: type) -> None:
    assert issubclass(error, FinchError)
    assert error.__dict__["code"]
    assert inspect.getdoc(error)


def test_no_two_errors_have_the_same_code() -> None:
    codes = [each.code for each in CLASSES]

    assert len(set(codes)) == len(codes)


def test_the_tree_at_the_top_draws_every_error_in_its_place() -> None:
    drawn: dict[str, str] = {}
    branch: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        text = line.lstrip(" │├└─")
        if text.partition(" ")[0] not in errors.__dict__:
            continue
        depth, name = len(line) - len(text), text.partition(" ")[0]
        branch = [(d, n) for d, n in branch if d < depth]
        drawn[name] = branch[-1][1] if branch else "Exception"
        branch.append((depth, name))

    apart = {"Unavailable"}  # a duty that three of them share, no branch of its own
    for each in CLASSES:
        if each.__name__ not in apart:
            assert drawn[each.__name__] in {base.__name__ for base in each.__mro__[1:]}


@pytest.mark.parametrize("faults", [["a: wrong"], ["a: wrong", "b: missing"]], ids=len)
def test_a_configuration_error_lists_every_fault(faults: list[str]) -> None:
    error = ConfigurationError(faults)

    assert error.faults == tuple(faults)
    assert all(f"\n  - {fault}" in str(error) for fault in faults)
    assert ("several" in str(error)) is (len(faults) > 1)


def test_a_usage_error_is_a_value_error() -> None:
    assert issubclass(UsageError, ValueError)


#: An error, its evidence, and the words that an operator needs.
ERRORS: list[tuple[FinchError, dict[str, object], list[str]]] = [
    (AlreadyConnected(connection_id="c-1", request_id="r-1"), {"connection_id": "c-1"}, []),
    (ConfigurationError(["one", "two"]), {"faults": ("one", "two")}, ["one", "two"]),
    (ReturnFault("malformed"), {"reason": "malformed"}, []),
    (
        FinchUnavailable("throttled", status=429, request_id="r-1", retry_after=3),
        {"reason": "throttled", "status": 429, "request_id": "r-1", "retry_after": 3},
        [],
    ),
    (FinchUnavailable("unreachable"), {}, ["unreachable", "no response", "request id none"]),
    (
        FinchRefused("refused", name="bad_request", status=400),
        {"reason": "refused", "name": "bad_request", "status": 400, "request_id": None},
        [],
    ),
    (CodeRejected("invalid_grant", status=400), {"reason": "invalid_grant", "status": 400}, []),
    (ExchangeAmbiguous("timeout"), {"reason": "timeout", "status": None}, []),
    (
        BadResponse("not_json", status=502, request_id="r-9"),
        {"request_id": "r-9"},
        ["not_json", "HTTP 502", "r-9"],
    ),
    (StorageUnavailable("read_only"), {"reason": "read_only"}, ["read_only"]),
    (SchemaMismatch("run finch-middleware create-tables"), {}, ["create-tables"]),
    (CannotOpen(key_id="k1"), {"key_id": "k1"}, []),
    (CannotOpen(key_id=None), {"key_id": None}, []),
]


@pytest.mark.parametrize(
    ("error", "evidence", "words"), ERRORS, ids=[type(each[0]).__name__ for each in ERRORS]
)
def test_an_error_has_its_evidence_and_keeps_it_in_a_task_queue(
    error: FinchError, evidence: dict[str, object], words: list[str]
) -> None:
    assert {name: getattr(error, name) for name in evidence} == evidence
    assert all(word in str(error) for word in words)

    again = pickle.loads(pickle.dumps(error))

    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


@pytest.mark.parametrize(
    "make",
    [
        lambda: FinchUnavailable("unreachable"),
        lambda: StorageUnavailable("busy"),
        lambda: SpoolUnavailable("full", reason="unwritable"),
    ],
    ids=["finch", "storage", "spool"],
)
def test_an_unavailable_has_the_page_that_the_component_made_in_this_process(
    make: Callable[[], errors.Unavailable],
) -> None:
    error, page = make(), Response("later", status=503)
    plain = error.response()
    assert (plain.status_code, plain.mimetype) == (503, "text/plain")
    assert plain.headers["Retry-After"] == str(error.retry_after or 5)

    error.make_page = lambda: page

    assert error.response() is page
    assert pickle.loads(pickle.dumps(error)).make_page is None


PAGES = {
    "invalid": (ReturnFault("expired"), "expired"),
    "connected already": (AlreadyConnected(connection_id="c-1"), "client_rejected"),
    "unreachable": (FinchUnavailable("unreachable"), "unreachable"),
    "timeout": (FinchUnavailable("timeout"), "unreachable"),
    "throttled": (FinchUnavailable("throttled"), "throttled"),
    "payment": (FinchUnavailable("payment_required"), "payment_required"),
    "refused": (FinchRefused("refused", name="bad_request"), "client_rejected"),
    "code": (CodeRejected("invalid_grant"), "code_rejected"),
    "ambiguous": (ExchangeAmbiguous("timeout"), "ambiguous"),
    "bad response": (BadResponse("not_json"), "bad_response"),
    "storage": (StorageUnavailable("busy"), "storage_unavailable"),
    "tables": (SchemaMismatch("run create-tables"), "storage_unavailable"),
    "spool": (SpoolUnavailable("full", reason="unwritable"), "spool_unavailable"),
    "key": (KeyUnavailable(key_id="k1", reason="TimeoutError"), "key_unavailable"),
}


@pytest.mark.parametrize(("error", "reason"), PAGES.values(), ids=PAGES)
def test_an_error_names_the_page_that_it_leads_to(error: FinchError, reason: str) -> None:
    assert error.page_reason == reason
    assert reason in {**INVALID_REASONS, **FAILED_REASONS}
