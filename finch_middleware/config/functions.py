"""The options that are functions of the application: they decide, respond, or are informed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypedDict

from finch_middleware.config.customers import Customers
from finch_middleware.config.option import function_option
from finch_middleware.outcomes import Outcome, Response

if TYPE_CHECKING:
    from finch_middleware.crypto.opened import Connection
    from finch_middleware.finch.webhook import WebhookEvent
    from finch_middleware.hooks.events import Event, Problem
    from finch_middleware.hooks.status import EndedConnection, StatusChange
    from finch_middleware.web.request import CallbackRequest

#: What this module must not import when it runs: types of higher layers, or of longer chains.
LATER = dict.fromkeys(
    (
        *("CallbackRequest", "Connection", "EndedConnection", "Event", "Problem"),
        *("StatusChange", "WebhookEvent"),
    ),
    object,
)


class Functions(TypedDict, total=False):
    """A part of `finch_middleware.config.options.Options`."""

    customer_of: Annotated[
        Callable[[CallbackRequest], Customers] | None,
        function_option(
            "a function that returns the customer who is [signed in](customer_of.md).",
            heading="Your application",
        ),
    ]
    render: Annotated[
        Callable[[Outcome, CallbackRequest], Response | None] | None,
        function_option(
            "a function that returns [your own "
            "response](pages_and_hooks.md#your-own-response) for an outcome."
        ),
    ]
    on_connected: Annotated[
        Callable[[Connection], object] | None,
        function_option(
            "called at least once with each stored "
            "[connection](pages_and_hooks.md#when-something-is-connected)."
        ),
    ]
    on_webhook: Annotated[
        Callable[[WebhookEvent], object] | None,
        function_option(
            "called with each [webhook](webhooks.md#on_webhook) that Finch has signed."
        ),
    ]
    on_status: Annotated[
        Callable[[StatusChange], object] | None,
        function_option(
            "called at least once with each "
            "[change of a status](pages_and_hooks.md#when-a-status-changes)."
        ),
    ]
    on_disconnected: Annotated[
        Callable[[EndedConnection], object] | None,
        function_option(
            "called at least once with each connection that "
            "[has ended](pages_and_hooks.md#when-a-status-changes)."
        ),
    ]
    on_event: Annotated[
        Callable[[Event], object] | None,
        function_option("called with each [event](pages_and_hooks.md#events)."),
    ]
    on_problem: Annotated[
        Callable[[Problem], object] | None,
        function_option(
            "called with each [problem](pages_and_hooks.md#problems) that a person has to act on."
        ),
    ]
