"""
Every option of `FinchConnect`, declared once.

The row of an option in `Options` holds its name, the type that a type checker sees, its
environment variable, its default, what is reported when its value is wrong, and its text in the
manual, which `docs/options.py` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict, get_type_hints

from finch_middleware.config import readers
from finch_middleware.config.customers import Customers
from finch_middleware.config.option import Option
from finch_middleware.config.settings import FlowKind, OpenedBy, Sandbox
from finch_middleware.crypto.keys import KeyProvider
from finch_middleware.outcomes import Outcome, Response
from finch_middleware.secret import Secret

if TYPE_CHECKING:
    from finch_middleware.crypto.opened import Connection
    from finch_middleware.finch.webhook import WebhookEvent
    from finch_middleware.hooks.events import Event, Problem
    from finch_middleware.hooks.status import EndedConnection, StatusChange
    from finch_middleware.web.request import CallbackRequest


#: What this module must not import when it runs: types of higher layers, or of longer chains.
_LATER = dict.fromkeys(
    (
        *("CallbackRequest", "Connection", "EndedConnection", "Event", "Problem"),
        *("StatusChange", "WebhookEvent"),
    ),
    object,
)


class Options(TypedDict, total=False):
    """What `FinchConnect(...)` takes. A row may use the settings of the rows above it."""

    client_id: Annotated[
        str,
        Option(
            heading="Required",
            variable="FINCH_CLIENT_ID",
            required="pass the one from Finch's dashboard",
            read=readers.text,
            meaning="from Finch's dashboard.",
        ),
    ]
    client_secret: Annotated[
        str | Secret,
        Option(
            variable="FINCH_CLIENT_SECRET",
            required="pass the one from Finch's dashboard",
            read=readers.secret,
            meaning="from Finch's dashboard.",
        ),
    ]
    redirect_uri: Annotated[
        str,
        Option(
            variable="FINCH_REDIRECT_URI",
            required="pass the callback's address as a browser sees it",
            read=readers.redirect_uri,
            meaning="the address of the callback as browsers see it, exactly as registered at "
            "Finch. It begins with `https://`; `http://` is allowed for localhost only.",
        ),
    ]
    products: Annotated[
        Sequence[str],
        Option(
            variable="FINCH_PRODUCTS",
            required='pass a list such as ["company", "directory"]',
            read=readers.products,
            meaning='the Finch products that you ask for, such as `["company", "directory"]`.',
        ),
    ]
    storage: Annotated[
        object,
        Option(
            variable="FINCH_STORAGE_URL",
            required="pass a URL such as 'sqlite:///finch.db' or a storage object",
            read=readers.storage,
            meaning="`memory://`, `sqlite:///finch.db`, `postgresql+psycopg://…`, "
            "`mysql+pymysql://…`, `redis://…`, or a [storage object](storage.md).",
        ),
    ]
    key: Annotated[
        str | Secret,
        Option(
            variable="FINCH_KEY",
            required="make one with 'finch-middleware keygen', store it with your secrets, pass it",
            read=readers.key,
            meaning="the [key](keys.md) that encrypts. `finch-middleware keygen` makes one.",
        ),
    ]
    spool: Annotated[
        str | Path | None,
        Option(
            heading="Keys and storage",
            variable="FINCH_SPOOL",
            default=readers.BESIDE_THE_DATABASE,
            read=readers.spool,
            meaning="the folder where an encrypted token waits while the storage is unavailable. "
            "The default for SQLite is a folder beside the database. With a server, pass one, or "
            "`None` to have no spool.",
        ),
    ]
    accepted_keys: Annotated[
        str | Secret | Sequence[str | Secret] | None,
        Option(
            variable="FINCH_ACCEPTED_KEYS",
            default=(),
            read=readers.accepted_keys,
            meaning="keys that only decrypt, used while you [change keys](keys.md).",
        ),
    ]
    key_provider: Annotated[
        KeyProvider | None,
        Option(
            read=readers.key_provider,
            meaning="unwraps the keys with a [key service](keys.md#a-key-service).",
        ),
    ]
    history_retention: Annotated[
        timedelta,
        Option(
            default=timedelta(days=730),
            read=readers.history_retention,
            meaning="how long entries of a connection's [history](operations.md#history) are kept;"
            " a `timedelta`, two years by default.",
        ),
    ]
    sandbox: Annotated[
        Sandbox | None,
        Option(
            heading="Paths and flows",
            variable="FINCH_SANDBOX",
            read=readers.one_of(None, "finch", "provider"),
            meaning='`"finch"` or `"provider"`; production if not set.',
        ),
    ]
    unknown_products: Annotated[
        bool,
        Option(
            read=readers.flag,
            default=False,
            meaning="accepts names in `products` that this version does not know.",
        ),
    ]
    callback_path: Annotated[
        str | None,
        Option(
            variable="FINCH_CALLBACK_PATH",
            read=readers.callback_path,
            meaning="needed only [under a prefix](deployment.md#under-a-prefix).",
        ),
    ]
    path_rewritten: Annotated[
        bool,
        Option(
            default=False,
            read=readers.flag,
            meaning="`True` where a proxy changes the path, so that `redirect_uri` does not end"
            " with `callback_path`.",
        ),
    ]
    begin_path: Annotated[
        str | None,
        Option(
            read=readers.begin_path,
            meaning="the path of a [button without a view](flows.md#a-button-without-a-view). "
            "It needs `customer_of`.",
        ),
    ]
    invite_path: Annotated[
        str | None,
        Option(
            read=readers.invite_path,
            meaning="the path of the page that [invitations](invitations.md) lead to.",
        ),
    ]
    webhook_secrets: Annotated[
        str | Secret | Sequence[str | Secret] | None,
        Option(
            variable="FINCH_WEBHOOK_SECRETS",
            default=(),
            read=readers.webhook_secrets,
            meaning="the secrets that sign [webhooks](webhooks.md), from Finch's dashboard. While "
            "you replace one, pass both.",
        ),
    ]
    webhook_path: Annotated[
        str | None,
        Option(
            read=readers.webhook_path,
            meaning="the path where Finch delivers [webhooks](webhooks.md). "
            "It needs `webhook_secrets`.",
        ),
    ]
    spa_origins: Annotated[
        Sequence[str],
        Option(
            default=(),
            read=readers.spa_origins,
            meaning="other origins of your site whose pages may use the callback, such as "
            '`["https://app.example.com"]`. Only these get CORS headers, and '
            "`return_to` may lead there.",
        ),
    ]
    return_to: Annotated[
        str,
        Option(
            default="/",
            read=readers.return_to,
            meaning="where the person is sent if a flow names no other place; `/` by default.",
        ),
    ]
    require_state: Annotated[
        bool,
        Option(
            default=False,
            read=readers.flag,
            meaning="`True` refuses a redirect without its [state](flows.md#state); `False` by "
            "default.",
        ),
    ]
    opened_by: Annotated[
        OpenedBy,
        Option(
            default="begin",
            read=readers.one_of("begin", "application"),
            meaning='`"application"` where Connect is [opened without '
            "`begin`](flows.md#connect-that-you-open-yourself).",
        ),
    ]
    flow: Annotated[
        FlowKind,
        Option(
            default="redirect",
            read=readers.one_of("redirect", "embedded"),
            meaning='with `opened_by="application"`, the flow that the application opens: '
            '`"redirect"` or `"embedded"`.',
        ),
    ]
    customer_of: Annotated[
        Callable[[CallbackRequest], Customers] | None,
        Option(
            heading="Your application",
            read=readers.function,
            meaning="a function that returns the customer who is [signed in](customer_of.md).",
        ),
    ]
    render: Annotated[
        Callable[[Outcome, CallbackRequest], Response | None] | None,
        Option(
            read=readers.function,
            meaning="a function that returns "
            "[your own response](pages_and_hooks.md#your-own-response) for an outcome.",
        ),
    ]
    on_connected: Annotated[
        Callable[[Connection], object] | None,
        Option(
            read=readers.function,
            meaning="called at least once with each stored "
            "[connection](pages_and_hooks.md#when-something-is-connected).",
        ),
    ]
    on_webhook: Annotated[
        Callable[[WebhookEvent], object] | None,
        Option(
            read=readers.function,
            meaning="called with each [webhook](webhooks.md#on_webhook) that Finch has signed.",
        ),
    ]
    on_status: Annotated[
        Callable[[StatusChange], object] | None,
        Option(
            read=readers.function,
            meaning="called at least once with each "
            "[change of a status](pages_and_hooks.md#when-a-status-changes).",
        ),
    ]
    on_disconnected: Annotated[
        Callable[[EndedConnection], object] | None,
        Option(
            read=readers.function,
            meaning="called at least once with each connection that "
            "[has ended](pages_and_hooks.md#when-a-status-changes).",
        ),
    ]
    on_event: Annotated[
        Callable[[Event], object] | None,
        Option(
            read=readers.function, meaning="called with each [event](pages_and_hooks.md#events)."
        ),
    ]
    on_problem: Annotated[
        Callable[[Problem], object] | None,
        Option(
            read=readers.function,
            meaning="called with each [problem](pages_and_hooks.md#problems) that a person has to "
            "act on.",
        ),
    ]
    brand: Annotated[
        str,
        Option(
            default="",
            read=readers.brand,
            meaning="the name of your application on the pages.",
        ),
    ]
    texts: Annotated[
        Mapping[str, Mapping[str, str]],
        Option(
            default={},
            read=readers.texts,
            meaning="replaces [texts](pages_and_hooks.md#your-words) of the pages.",
        ),
    ]
    templates: Annotated[
        str | Path | None,
        Option(
            read=readers.templates,
            meaning="a folder with your own [`page.html`](pages_and_hooks.md#your-page).",
        ),
    ]
    exchange_deadline: Annotated[
        timedelta,
        Option(
            heading="The connection to Finch",
            default=timedelta(seconds=12),
            read=readers.exchange_deadline,
            meaning="the time for the exchange, all attempts included; a `timedelta`, 12 "
            "seconds by default.",
        ),
    ]
    waiting_duplicates: Annotated[
        int | None,
        Option(
            read=readers.limit,
            meaning="how many requests of a process may [wait](deployment.md#threads) for another"
            " request with the same code; by default at most a quarter of the server's threads.",
        ),
    ]
    proxy: Annotated[
        str | Secret | None,
        Option(
            read=readers.proxy,
            meaning="an `http://` proxy for requests to Finch; `HTTPS_PROXY` is ignored.",
        ),
    ]
    ca_bundle: Annotated[
        str | Path | None,
        Option(
            read=readers.ca_bundle,
            meaning="a file of certificate authorities for requests to Finch; "
            "`REQUESTS_CA_BUNDLE` is ignored.",
        ),
    ]
    api_url: Annotated[
        str,
        Option(
            variable="FINCH_API_URL",
            default="https://api.tryfinch.com",
            read=readers.api_url,
            meaning="the address of Finch's API, or of a fake.",
        ),
    ]
    connect_origin: Annotated[
        str | None,
        Option(
            variable="FINCH_CONNECT_ORIGIN",
            read=readers.connect_origin,
            meaning="the origin of Finch Connect, or of a fake. Without it, an `api_url` on this "
            "machine is used for both.",
        ),
    ]
    clock: Annotated[
        Callable[[], datetime] | None,
        Option(
            read=readers.clock,
            meaning="a function that returns the time, for tests.",
        ),
    ]


#: Every option by its name.
OPTIONS: dict[str, Option] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(Options, localns=_LATER, include_extras=True).items()
}
