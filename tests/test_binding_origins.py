"""Which pages may bring a code: the table of origins and methods (T1, T26)."""

from __future__ import annotations

import pytest

from finch_middleware.binding import Binding
from finch_middleware.config.options import FlowKind
from finch_middleware.errors import ReturnFault
from finch_middleware.testing.clock import Clock
from finch_middleware.web.request import CallbackParams, CallbackRequest
from tests.test_binding import (
    CODE,
    NAVIGATION,
    NO_CODE,
    ORIGIN,
    OWN_PAGE,
    a_ticket,
    binder,
    bound,
)

SITES = ["same-origin", "same-site", "cross-site", "none", None]
ORIGINS = [None, "null", ORIGIN, f"{ORIGIN}.evil", "http://app.example.com", "https://evil.example"]


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("kind", ["redirect", "embedded"])
@pytest.mark.parametrize("opened_by", ["begin", "application"])
def test_only_our_own_page_posts_and_ends_an_embedded_flow(
    clock: Clock, site: str | None, origin: str | None, method: str, kind: FlowKind, opened_by: str
) -> None:
    headers = {"Sec-Fetch-Site": site, "Origin": origin}
    request = CallbackRequest(method=method, headers={n: v for n, v in headers.items() if v})
    ticket = a_ticket(clock, kind=kind)
    by_ticket = opened_by == "begin"

    found = bound(
        clock,
        CallbackParams(code=CODE, flow_id=ticket.flow_id if by_ticket else None),
        [ticket],
        request=request,
        signed_in=None if by_ticket else frozenset({"acme"}),
        opened_by=opened_by,
        flow=kind,
    )

    ours = site == "same-origin" or (site is None and origin == ORIGIN)
    free = method == "GET" and kind == "redirect"
    assert (found == "cross_site") is not (ours or free)
    assert isinstance(found, Binding) is (ours or free)


@pytest.mark.parametrize(
    "returned", [CallbackParams(code=CODE), NO_CODE, CallbackParams(code=CODE, foreign_state=True)]
)
@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}])
def test_another_page_posts_nothing_with_or_without_a_state(
    clock: Clock, returned: CallbackParams, headers: dict[str, str]
) -> None:
    request = CallbackRequest(method="POST", headers=headers)

    assert bound(clock, returned, [a_ticket(clock)], request=request) == "cross_site"


@pytest.mark.parametrize(
    ("request_", "has_ticket", "opened_by", "reason"),
    [
        (NAVIGATION, True, "begin", None),
        (OWN_PAGE, True, "begin", None),
        (OWN_PAGE, False, "begin", "no_ticket"),
        (OWN_PAGE, False, "application", None),
        (CallbackRequest(method="POST"), True, "begin", "cross_site"),
        (CallbackRequest(method="POST"), False, "application", "cross_site"),
    ],
)
def test_what_no_body_could_bind_is_not_admitted(
    clock: Clock, request_: CallbackRequest, has_ticket: bool, opened_by: str, reason: str | None
) -> None:
    options = {"opened_by": opened_by, "customer_of": lambda request: "acme"}
    refused = None

    try:
        binder(clock, **options).admit(request_, tickets=[a_ticket(clock)] if has_ticket else [])
    except ReturnFault as fault:
        refused = fault.reason

    assert refused == reason


@pytest.mark.parametrize("mode", ["no-cors", "navigate", "cors", None])
def test_what_another_page_loads_as_an_image_ends_no_flow(clock: Clock, mode: str | None) -> None:
    ticket = a_ticket(clock)
    request = CallbackRequest(headers={"Sec-Fetch-Mode": mode} if mode else {})

    found = bound(
        clock, CallbackParams(code=CODE, flow_id=ticket.flow_id), [ticket], request=request
    )

    assert (found == "cross_site") is (mode == "no-cors")
    assert isinstance(found, Binding) is (mode != "no-cors")
