"""
Clients that call Finch with a stored token: Finch's own SDK, and any client of requests or httpx.

The SDK is an extra (``finch-middleware[sdk]``), imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from finch_middleware.config.urls import origin_of
from finch_middleware.errors import UsageError
from finch_middleware.finch.client import API_VERSION

if TYPE_CHECKING:
    import finch
    import httpx

# The calls that name an entity are those for the employer's data.
_DATA = "/employer/"
# A redirect, or a proxy of the environment, would get the token.
_HTTP: dict[str, Any] = {"follow_redirects": False, "trust_env": False}


class FinchAuth:
    """
    The ``auth=`` of `requests` and `httpx`: adds the token to requests to Finch, and to no other.

    The token is opened for each request and kept nowhere.
    """

    def __init__(self, reveal: Callable[[], str], *, api_url: str) -> None:
        self._reveal = reveal
        self._origin = origin_of(urlsplit(api_url))

    def __call__(self, request: Any) -> Any:
        """
        The request, with its two headers.

        Raises:
            UsageError: The request goes elsewhere than to Finch's API.
            CannotOpen, KeyUnavailable: As `AccessToken.reveal`.
        """
        if origin_of(urlsplit(str(request.url))) != self._origin:
            raise UsageError(f"a connection's token may be sent to {self._origin} only")
        request.headers["Authorization"] = f"Bearer {self._reveal()}"
        request.headers["Finch-API-Version"] = API_VERSION
        return request


def sdk_client(
    token: str, *, api_url: str, entity_id: str | None, on_reauth: Callable[[], None]
) -> finch.Finch:
    """
    Finch's SDK with the token, which follows no redirect.

    *on_reauth* is called when Finch responds that a person has to sign in again.
    """
    import finch

    def respond(response: httpx.Response) -> None:
        if response.status_code == 401:
            response.read()
            if _needs_login(response):
                on_reauth()

    def name_entity(request: httpx.Request) -> None:
        _name_entity(request, entity_id)

    hooks: dict[str, list[Callable[..., Any]]] = {"request": [name_entity], "response": [respond]}
    http = finch.DefaultHttpxClient(base_url=api_url, event_hooks=hooks, **_HTTP)
    return finch.Finch(access_token=token, base_url=api_url, http_client=http)


def async_sdk_client(
    token: str, *, api_url: str, entity_id: str | None, on_reauth: Callable[[], None]
) -> finch.AsyncFinch:
    """The same for ``await``; *on_reauth* is called in a thread."""
    import asyncio

    import finch

    async def respond(response: httpx.Response) -> None:
        if response.status_code == 401:
            await response.aread()
            if _needs_login(response):
                await asyncio.to_thread(on_reauth)

    async def name_entity(request: httpx.Request) -> None:
        _name_entity(request, entity_id)

    hooks: dict[str, list[Callable[..., Any]]] = {"request": [name_entity], "response": [respond]}
    http = finch.DefaultAsyncHttpxClient(base_url=api_url, event_hooks=hooks, **_HTTP)
    return finch.AsyncFinch(access_token=token, base_url=api_url, http_client=http)


def _name_entity(request: httpx.Request, entity_id: str | None) -> None:
    named = any(name.startswith("entity_ids") for name in request.url.params)
    if entity_id is not None and _DATA in request.url.path and not named:
        request.url = request.url.copy_add_param("entity_ids[]", entity_id)


def _needs_login(response: httpx.Response) -> bool:
    try:
        fields = response.json()
    except ValueError:
        return False
    return isinstance(fields, dict) and fields.get("finch_code") == "reauthenticate_user"
