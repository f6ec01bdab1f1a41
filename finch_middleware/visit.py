"""One callback request on its way: what the person is told about it and where they go on."""

from __future__ import annotations

import base64
import os
import time
from dataclasses import dataclass

from finch_middleware.outcomes import Failed, Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """
    A request to the callback.

    Attributes:
        reference: Random; on the person's page and in the log.
        began: On the monotonic clock.
    """

    reference: str
    return_to: str
    began: float

    @classmethod
    def now(cls, *, return_to: str) -> Visit:
        """The visit that begins at this moment."""
        return cls(reference=new_reference(), return_to=return_to, began=time.monotonic())

    @property
    def elapsed_ms(self) -> int:
        return int((time.monotonic() - self.began) * 1000)

    def invalid(self, reason: str) -> Invalid:
        return Invalid(reference=self.reference, return_to=self.return_to, reason=reason)

    def failed(self, reason: str, *, retry_after: int | None = None) -> Failed:
        return Failed(
            reference=self.reference,
            return_to=self.return_to,
            reason=reason,
            retry_after=retry_after,
        )


def new_reference() -> str:
    """Eight letters and digits that can be read out on the telephone: no 0, 1, 8, 9."""
    return base64.b32encode(os.urandom(5)).decode()
