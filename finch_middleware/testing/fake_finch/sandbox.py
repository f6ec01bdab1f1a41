"""The endpoints with which an application makes and changes sandbox connections."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from werkzeug.wrappers import Request, Response

from finch_middleware.testing.fake_finch.fields import (
    PRODUCTS,
    SANDBOX_ACCOUNT_FIELDS,
    SANDBOX_CONNECTION_FIELDS,
    SANDBOX_STATUS_FIELDS,
)
from finch_middleware.testing.fake_finch.records import IssuedCode
from finch_middleware.testing.fake_finch.responses import json_object, json_response, malformed

if TYPE_CHECKING:
    from finch_middleware.testing.fake_finch.access import Access
    from finch_middleware.testing.fake_finch.ledger import Ledger


@dataclass(kw_only=True, eq=False, repr=False)
class Sandbox:
    """Responds to the paths below ``/sandbox``."""

    access: Access
    ledger: Ledger
    clock: Callable[[], datetime]
    changed: Callable[[str, str, str | None], None]

    def connect(self, request: Request) -> Response:
        self.access.require_client(request)
        return self._connected(self.access.fields(request, SANDBOX_CONNECTION_FIELDS))

    def connect_account(self, request: Request) -> Response:
        """One more connection, of a company that has one already."""
        self.access.require_client(request)
        fields = self.access.fields(request, SANDBOX_ACCOUNT_FIELDS)
        return self._connected(fields, company_id=fields["company_id"])

    def set_status(self, request: Request) -> Response:
        granted = self.access.require_sandbox(request)
        status = self.access.fields(request, SANDBOX_STATUS_FIELDS)["connection_status"]
        self.ledger.accounts.set_status(granted.connection_id, status)
        self.changed(granted.connection_id, status, None)
        return json_response(self._facts(granted))

    def start_job(self, request: Request) -> Response:
        """Accept a job; the fake's data needs none."""
        self.access.require_sandbox(request)
        if json_object(request).get("type") != "data_sync_all":
            raise malformed("type: data_sync_all")
        job_id = str(uuid.uuid4())
        return json_response(
            {
                "job_id": job_id,
                "job_url": urljoin(request.url_root, f"/jobs/automated/{job_id}"),
                "allowed_refreshes": 10,
                "remaining_refreshes": 9,
            }
        )

    def _connected(self, fields: Mapping[str, Any], **known: str) -> Response:
        issued = self.ledger.issue(
            customer_id=str(uuid.uuid4()),
            provider_id=fields["provider_id"],
            products=tuple(fields.get("products", sorted(PRODUCTS))),
            sandbox=True,
            issued_at=self.clock(),
        )
        token = self.ledger.mint(issued.code, at=self.clock())
        facts = self._facts(issued, fields.get("authentication_type", "credential"))
        return json_response(
            {"access_token": token, "token_type": "bearer"} | facts | known, status=201
        )

    def _facts(self, granted: IssuedCode, method: str = "credential") -> dict[str, Any]:
        facts = self.ledger.facts(granted)
        named = ("connection_id", "account_id", "company_id", "provider_id", "products")
        return {name: facts[name] for name in named} | {
            "authentication_type": method,
            "entity_id": facts["entity_ids"][0],
        }
