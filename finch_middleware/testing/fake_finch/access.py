"""Who asks, with which token, and with which fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request

from finch_middleware.testing.fake_finch.fields import Field, check
from finch_middleware.testing.fake_finch.responses import (
    Refused,
    error_response,
    json_object,
    malformed,
)

if TYPE_CHECKING:
    from finch_middleware.testing.fake_finch.ledger import Ledger
    from finch_middleware.testing.fake_finch.records import IssuedCode
    from finch_middleware.testing.fake_finch.rules import Rules


@dataclass(kw_only=True, eq=False, repr=False)
class Access:
    """Checks what a request presents. Each method raises Refused with Finch's response."""

    rules: Rules
    ledger: Ledger

    def require_client(self, request: Request) -> None:
        """The application's credentials, by HTTP Basic."""
        given = request.authorization
        if given is None or given.type != "basic":
            raise Refused(error_response(401, name="invalid_client_error"))
        if not self.is_client(given.username or "", given.password or ""):
            raise Refused(error_response(401, name="invalid_client_error"))

    def is_client(self, client_id: str, client_secret: str) -> bool:
        return (client_id, client_secret) == (self.rules.client_id, self.rules.client_secret)

    def require_token(self, request: Request) -> tuple[str, IssuedCode]:
        given = request.authorization
        if given is None or given.type != "bearer" or not given.token:
            raise Refused(error_response(401, name="unauthorized_request_error"))
        granted = self.ledger.holder(given.token)
        if granted is None:
            raise Refused(error_response(401, name="invalid_token_error"))
        return given.token, granted

    def require_sandbox(self, request: Request) -> IssuedCode:
        _, granted = self.require_token(request)
        if not granted.sandbox:
            raise malformed("this is no sandbox connection")
        return granted

    def fields(self, request: Request, documented: Mapping[str, Field]) -> dict[str, Any]:
        """The body's fields; undocumented ones are noted in the ledger."""
        fields = json_object(request)
        for name in check(fields, against=documented):
            self.ledger.note(f"{request.path}: the field {name}")
        return fields
