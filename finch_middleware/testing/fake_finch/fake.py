"""The fake that a test, the demo or a developer starts."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Self
from urllib.parse import parse_qs, urlsplit

from finch_middleware.testing.fake_finch.accounts import STATUSES, Account
from finch_middleware.testing.fake_finch.api import Api
from finch_middleware.testing.fake_finch.behaviour import Behaviour
from finch_middleware.testing.fake_finch.connect_page import PROVIDERS, Choice, ConnectPage
from finch_middleware.testing.fake_finch.dispatch import Dispatch
from finch_middleware.testing.fake_finch.ledger import Ledger
from finch_middleware.testing.fake_finch.rules import Rules, Unknowns
from finch_middleware.testing.fake_finch.webhooks import (
    Delivery,
    Receiver,
    WebhookSender,
    account_updated,
    event,
)
from finch_middleware.testing.fake_finch.wire import Handler, Server


class FakeFinch:
    """
    Finch's API and Finch Connect on 127.0.0.1, in background threads of this process.

    Use it as a context manager, or with `start` and `stop`. After a stop it may start again,
    on the same port and with the same ledger, as after an outage of Finch.

    Attributes:
        client_id, client_secret: The application's credentials.
        ledger: What the fake received, and what it issued.
    """

    def __init__(
        self,
        *,
        client_id: str = "client-fake",
        client_secret: str = "secret-of-client-fake",
        redirect_uris: Iterable[str] | None = None,
        echo_state: bool = True,
        unknowns: Unknowns = Unknowns(),  # noqa: B008  # immutable
        webhook_url: str | None = None,
        webhook_secrets: Sequence[str] = (),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """
        Args:
            redirect_uris: The registered ones; None accepts all that Finch would register:
                ``https://…``, ``http://localhost…`` and ``http://127.0.0.1…``.
            echo_state: Whether the redirect flow returns the state; Finch does not document it.
            unknowns: What else Finch does not document.
            webhook_url: Where events are delivered; None delivers none.
            webhook_secrets: Each signs every event: standard base64, as Finch's dashboard
                shows a secret.
            clock: For the expiry of codes and sessions; its time need not move.
            port: 0 chooses a free one.
            tls: The context of a server.
        """
        self.client_id = client_id
        self.client_secret = client_secret
        self.ledger = Ledger()
        self._clock = clock
        self._port = port
        self._tls = tls
        self._server: Server | None = None
        rules = Rules(
            client_id=client_id,
            client_secret=client_secret,
            redirect_uris=None if redirect_uris is None else frozenset(redirect_uris),
            echo_state=echo_state,
            unknowns=unknowns,
            clock=clock,
        )
        self._webhooks = WebhookSender(clock=clock, record=self.ledger.record_delivery)
        self._webhooks.deliver_to(webhook_url, secrets=webhook_secrets)
        self._page = ConnectPage(rules=rules, ledger=self.ledger)
        self._dispatch = self._make_dispatch(rules)

    def _make_dispatch(self, rules: Rules) -> Dispatch:
        api = Api(
            rules,
            ledger=self.ledger,
            connect_origin=lambda: self.connect_origin,
            changed=self._report_later,
        )
        return Dispatch(
            ledger=self.ledger,
            api=api,
            page=self._page,
            set_status=self.set_status,
            clock=self._clock,
        )

    def __repr__(self) -> str:
        return f"<FakeFinch on port {self._port}, {'running' if self._server else 'stopped'}>"

    @property
    def api_url(self) -> str:
        """The URL of Finch's API; it stays the same after the first start."""
        if not self._port:
            raise RuntimeError("the fake has no address before its first start")
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def connect_origin(self) -> str:
        """The origin of Finch Connect, which is the same server."""
        return self.api_url

    def start(self) -> Self:
        """
        Accept connections from now on.

        Raises:
            OSError: The port is taken.
        """
        if self._server is not None:
            raise RuntimeError("the fake is already running")
        handler = functools.partial(Handler, self._dispatch.respond)
        self._server = Server(handler, port=self._port, tls=self._tls).start()
        self._port = self._server.port
        return self

    def stop(self) -> None:
        """
        Stop at once. Waiting requests get no response; no thread or socket remains.

        Raises:
            RuntimeError: The fake itself failed; the cause is its error.
        """
        server, self._server = self._server, None
        if server is None:
            return
        try:
            server.stop()
        finally:
            self._webhooks.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def script(self, endpoint: str, *behaviours: Behaviour, times: int | None = 1) -> None:
        """
        Use these behaviours, in this order, for the next requests to *endpoint*.

        Endpoints are ``sessions``, ``reauthenticate``, ``token``, ``introspect``,
        ``disconnect``, ``disconnect_entity``, ``authorize``, the products ``company``,
        ``directory``, ``individual``, ``employment``, ``payment`` and ``pay_statement``, and
        ``sandbox_connections``, ``sandbox_accounts`` and ``sandbox_jobs``. Each behaviour is
        used *times* times, without limit if that is None; after the last one, responses are
        normal again.
        """
        self._dispatch.script(endpoint, behaviours, times=times)

    def unscript(self, endpoint: str | None = None) -> None:
        """Remove the rest of one endpoint's script, or of all scripts."""
        self._dispatch.unscript(endpoint)

    def allow(
        self, location: str, *, provider: str | None = None, entities: int | None = None
    ) -> str:
        """
        Consent as a person in a browser, and get the callback URL.

        *location* is the connect_url with the state appended. *provider* defaults to the
        session's own, and then to ``gusto``. *entities* is the number of entities that the
        person chooses: one by default; a re-authentication adds entities and removes none.
        """
        return self._go(location, Choice("allow", _known(provider), entities))

    def deny(self, location: str) -> str:
        """Refuse, and get the callback URL."""
        return self._go(location, Choice("deny"))

    def close(self, location: str) -> str:
        """Close the page, and get the callback URL."""
        return self._go(location, Choice("close"))

    def allow_embedded(
        self,
        session_id: str,
        *,
        state: str | None = None,
        provider: str | None = None,
        entities: int | None = None,
    ) -> dict[str, str]:
        """Consent in the embedded flow, and get the argument of the page's onSuccess."""
        visit = self._page.open(session_id, state=state)
        return self._page.decide(visit, Choice("allow", _known(provider), entities))

    def deliver_webhooks(self, receiver: Receiver | None, *, secrets: Sequence[str]) -> None:
        """
        Deliver all later events to *receiver*, signed with each of *secrets*.

        It is a URL, or a function that gets the body and the headers and returns the HTTP
        status, such as a framework's test client in a lambda. None ends the deliveries.

        Raises:
            ValueError: A secret is not base64, or there is none.
        """
        self._webhooks.deliver_to(receiver, secrets=secrets)

    def account(self, connection_id: str) -> Account:
        """The entities and the state of a connection."""
        return self.ledger.accounts.get(connection_id)

    def set_status(
        self,
        connection_id: str,
        status: str,
        *,
        entity: str | None = None,
        message: str | None = None,
    ) -> Delivery | None:
        """
        Change a connection's state, or that of the entity with the id *entity*.

        The event ``account.updated`` is delivered before this returns, if there is a
        receiver; otherwise this returns None.

        Raises:
            ValueError: Finch has no such status.
            KeyError: The connection has no such entity.
        """
        if status not in STATUSES:
            raise ValueError(f"no such status: {status}")
        account = self.ledger.accounts.set_status(
            connection_id, status, entity_id=entity, message=message
        )
        if not self._webhooks.active:
            return None
        return self._webhooks.send(account_updated(account, status, entity_id=entity))

    def send_webhook(
        self,
        *,
        connection_id: str,
        event_type: str = "account.updated",
        status: str | None = None,
        entity: str | None = None,
        data: Mapping[str, object] | None = None,
        repeat: int = 1,
        order: float = 0,
    ) -> Delivery:
        """
        Deliver an event, and change nothing at Finch.

        Args:
            connection_id: It may be one whose code was not exchanged yet.
            status: The word in ``account.updated``; by default the present one.
            entity: The id of the entity that the event is about.
            data: The event's data, for other event types.
            repeat: How often it is delivered, under the same event id.
            order: The event's own time, in seconds from now: -60 is an event of a minute
                ago that arrives late.

        Raises:
            RuntimeError: There is no receiver of webhooks.
        """
        account = self.account(connection_id)
        if event_type == "account.updated":
            now = account.entity(entity).status if entity else account.status
            sent = account_updated(account, status or now, entity_id=entity)
        else:
            sent = event(account, event_type, entity_id=entity, data=data)
        return self._webhooks.send(sent, repeat=repeat, seconds_from_now=order)

    def issue_code(
        self,
        *,
        customer_id: str,
        redirect_uri: str | None = None,
        customer_name: str | None = None,
        provider: str = "gusto",
        products: Sequence[str] = ("company", "directory"),
    ) -> str:
        """A code without a session, such as an attacker's; for the embedded flow by default."""
        issued = self.ledger.issue(
            customer_id=customer_id,
            customer_name=customer_name,
            provider_id=provider,
            products=tuple(products),
            redirect_uri=redirect_uri,
            issued_at=self._clock(),
        )
        return issued.code

    def _go(self, location: str, choice: Choice) -> str:
        if not location.startswith(f"{self.connect_origin}/authorize?"):
            raise ValueError("not an address of this fake's Connect page")
        query = parse_qs(urlsplit(location).query, keep_blank_values=True, strict_parsing=True)
        given = {name: values[0] for name, values in query.items()}
        visit = self._page.open(given.get("session", ""), state=given.get("state"))
        return self._page.way_back(visit, choice)

    def _report_later(self, connection_id: str, status: str, entity_id: str | None) -> None:
        # The caller waits for the API's response, and may be the server that receives the event.
        account = self.account(connection_id)
        self._webhooks.send_later(account_updated(account, status, entity_id=entity_id))


def _known(provider: str | None) -> str | None:
    if provider is not None and provider not in PROVIDERS:
        raise ValueError(f"no such provider: {provider}")
    return provider
