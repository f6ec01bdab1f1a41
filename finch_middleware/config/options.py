"""
Every option of `FinchConnect`, declared once.

The row of an option in `Options` holds its name, the type that a type checker sees, its
environment variable, its default, what is reported when its value is wrong, and its text in the
manual, which `docs/options.py` writes.
"""

# Annotations are values here: OPTIONS is made of them. A quoted type is of a higher layer.

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

from finch_middleware.config import readers
from finch_middleware.config.customers import Customers
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


@dataclass(frozen=True, slots=True)
class Option:
    """
    What is known about an option besides its name, type and meaning.

    Attributes:
        read: Turns what was given, or the default, into the setting.
        required: Reported where it is missing: how to get it. Empty: it may be missing.
        variable: The environment variable that sets it, if there is one.
    """

    read: readers.Reader
    _: KW_ONLY
    required: str = ""
    variable: str | None = None
    default: object = None


class Options(TypedDict, total=False):
    """What `FinchConnect(...)` takes. A row may use the settings of the rows above it."""

    client_id: Annotated[
        str,
        Option(
            readers.text, variable="FINCH_CLIENT_ID", required="pass the one from Finch's dashboard"
        ),
    ]
    """From Finch's dashboard."""
    client_secret: Annotated[
        str | Secret,
        Option(
            readers.secret,
            variable="FINCH_CLIENT_SECRET",
            required="pass the one from Finch's dashboard",
        ),
    ]
    """From Finch's dashboard."""
    redirect_uri: Annotated[
        str,
        Option(
            readers.redirect_uri,
            variable="FINCH_REDIRECT_URI",
            required="pass the callback's address as a browser sees it",
        ),
    ]
    """
    The address of the callback as browsers see it, exactly as registered at Finch. It begins with
    `https://`; `http://` is allowed for localhost only.
    """
    products: Annotated[
        Sequence[str],
        Option(
            readers.products,
            variable="FINCH_PRODUCTS",
            required='pass a list such as ["company", "directory"]',
        ),
    ]
    """The Finch products that you ask for, such as `["company", "directory"]`."""
    storage: Annotated[
        object,
        Option(
            readers.storage,
            variable="FINCH_STORAGE_URL",
            required="pass a URL such as 'sqlite:///finch.db' or a storage object",
        ),
    ]
    """
    `memory://`, `sqlite:///finch.db`, `postgresql+psycopg://…`, `mysql+pymysql://…`, `redis://…`,
    or a [storage object](storage.md).
    """
    key: Annotated[
        str | Secret,
        Option(
            readers.key,
            variable="FINCH_KEY",
            required="make one with 'finch-middleware keygen', store it with your secrets, pass it",
        ),
    ]
    """The [key](keys.md) that encrypts. `finch-middleware keygen` makes one."""

    spool: Annotated[
        str | Path | None,
        Option(readers.spool, variable="FINCH_SPOOL", default=readers.BESIDE_THE_DATABASE),
    ]
    """
    The folder where an encrypted token waits while the storage is unavailable. The default for
    SQLite is a folder beside the database. With a server, pass one, or `None` to have no spool.
    """
    accepted_keys: Annotated[
        str | Secret | Sequence[str | Secret] | None,
        Option(readers.accepted_keys, variable="FINCH_ACCEPTED_KEYS", default=()),
    ]
    """Keys that only decrypt, used while you [change keys](keys.md)."""
    key_provider: Annotated[KeyProvider | None, Option(readers.key_provider)]
    """Unwraps the keys with a [key service](keys.md#a-key-service)."""
    history_retention: Annotated[
        timedelta, Option(readers.history_retention, default=timedelta(days=730))
    ]
    """How long [history](operations.md#history) is kept; a `timedelta`, two years by default."""

    sandbox: Annotated[
        Sandbox | None,
        Option(readers.one_of(None, "finch", "provider"), variable="FINCH_SANDBOX"),
    ]
    """`"finch"` or `"provider"`; production if not set."""
    unknown_products: Annotated[bool, Option(readers.flag, default=False)]
    """Accepts names in `products` that this version does not know."""
    callback_path: Annotated[
        str | None, Option(readers.callback_path, variable="FINCH_CALLBACK_PATH")
    ]
    """Needed only [under a prefix](deployment.md#under-a-prefix)."""
    path_rewritten: Annotated[bool, Option(readers.flag, default=False)]
    """`True` where a proxy changes the path: `redirect_uri` does not end with `callback_path`."""
    begin_path: Annotated[str | None, Option(readers.begin_path)]
    """
    The path of a [button without a view](flows.md#a-button-without-a-view). It needs `customer_of`.
    """
    invite_path: Annotated[str | None, Option(readers.invite_path)]
    """The path of the page that [invitations](invitations.md) lead to."""
    webhook_secrets: Annotated[
        str | Secret | Sequence[str | Secret] | None,
        Option(readers.webhook_secrets, variable="FINCH_WEBHOOK_SECRETS", default=()),
    ]
    """The secrets that sign [webhooks](webhooks.md), from Finch's dashboard."""
    webhook_path: Annotated[str | None, Option(readers.webhook_path)]
    """The path where Finch delivers [webhooks](webhooks.md). It needs `webhook_secrets`."""
    spa_origins: Annotated[Sequence[str], Option(readers.spa_origins, default=())]
    """
    Other origins of your site whose pages may use the callback, such as
    `["https://app.example.com"]`. Only these get CORS headers, and `return_to` may lead there.
    """
    return_to: Annotated[str, Option(readers.return_to, default="/")]
    """Where the person is sent if a flow names no other place; `/` by default."""
    require_state: Annotated[bool, Option(readers.flag, default=False)]
    """`True` refuses a redirect without its [state](flows.md#state); `False` by default."""
    opened_by: Annotated[OpenedBy, Option(readers.one_of("begin", "application"), default="begin")]
    """`"application"` where [you open Connect](flows.md#connect-that-you-open-yourself)."""
    flow: Annotated[FlowKind, Option(readers.one_of("redirect", "embedded"), default="redirect")]
    """With `opened_by="application"`, the flow that you open: `"redirect"` or `"embedded"`."""

    customer_of: Annotated[
        "Callable[[CallbackRequest], Customers] | None",
        Option(readers.function),
    ]
    """A function that returns the customer who is [signed in](customer_of.md)."""
    render: Annotated[
        "Callable[[Outcome, CallbackRequest], Response | None] | None", Option(readers.function)
    ]
    """Returns [your own response](pages_and_hooks.md#your-own-response) for an outcome."""
    on_connected: Annotated["Callable[[Connection], object] | None", Option(readers.function)]
    """Called at least once per [connection](pages_and_hooks.md#when-something-is-connected)."""
    on_webhook: Annotated["Callable[[WebhookEvent], object] | None", Option(readers.function)]
    """Called with each [webhook](webhooks.md#on_webhook) that Finch has signed."""
    on_status: Annotated["Callable[[StatusChange], object] | None", Option(readers.function)]
    """Called at least once per [change of status](pages_and_hooks.md#when-a-status-changes)."""
    on_disconnected: Annotated[
        "Callable[[EndedConnection], object] | None", Option(readers.function)
    ]
    """Called at least once per [ended connection](pages_and_hooks.md#when-a-status-changes)."""
    on_event: Annotated["Callable[[Event], object] | None", Option(readers.function)]
    """Called with each [event](pages_and_hooks.md#events)."""
    on_problem: Annotated["Callable[[Problem], object] | None", Option(readers.function)]
    """Called with each [problem](pages_and_hooks.md#problems) that a person has to act on."""
    brand: Annotated[str, Option(readers.brand, default="")]
    """The name of your application on the pages."""
    texts: Annotated[Mapping[str, Mapping[str, str]], Option(readers.texts, default={})]
    """Replaces [texts](pages_and_hooks.md#your-words) of the pages."""
    templates: Annotated[str | Path | None, Option(readers.templates)]
    """A folder with your own [`page.html`](pages_and_hooks.md#your-page)."""

    exchange_deadline: Annotated[
        timedelta,
        Option(readers.exchange_deadline, default=timedelta(seconds=12)),
    ]
    """The time for the exchange, all attempts included; a `timedelta`, 12 seconds by default."""
    waiting_duplicates: Annotated[int | None, Option(readers.limit)]
    """
    How many requests of a process may [wait](deployment.md#threads) for another request with the
    same code; by default at most a quarter of the server's threads.
    """
    proxy: Annotated[str | Secret | None, Option(readers.proxy)]
    """An `http://` proxy for requests to Finch; `HTTPS_PROXY` is ignored."""
    ca_bundle: Annotated[str | Path | None, Option(readers.ca_bundle)]
    """A file of certificate authorities for requests to Finch; `REQUESTS_CA_BUNDLE` is ignored."""
    api_url: Annotated[
        str, Option(readers.api_url, variable="FINCH_API_URL", default="https://api.tryfinch.com")
    ]
    """The address of Finch's API, or of a fake."""
    connect_origin: Annotated[
        str | None, Option(readers.connect_origin, variable="FINCH_CONNECT_ORIGIN")
    ]
    """
    The origin of Finch Connect, or of a fake. Without it, an `api_url` on this machine is used for
    both.
    """
    clock: Annotated[Callable[[], datetime] | None, Option(readers.clock)]
    """A function that returns the time, for tests."""


#: Every option by its name.
OPTIONS: dict[str, Option] = {
    name: hint.__metadata__[0] for name, hint in Options.__annotations__.items()
}
