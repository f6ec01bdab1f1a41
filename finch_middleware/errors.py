"""
Every error of this library.

The branch says who is at fault, the class says what went wrong, attributes hold the
evidence, and no message ever carries a secret::

    FinchError
    ├── ApplicationFault          the code that calls this library
    │   ├── ConfigurationError    settings that cannot work; .faults lists all of them
    │   ├── UsageError            an argument that no call may have
    │   └── AlreadyConnected      this customer has a connection; .connection_id
    ├── ReturnFault               the callback request: not a return that we can trust; .reason
    ├── FinchFault                Finch's answer, or the lack of one
    │   ├── FinchUnavailable      Finch provably did nothing; trying again is safe
    │   ├── FinchRefused          Finch says that the request itself is wrong
    │   ├── CodeRejected          Finch does not take this code (any more)
    │   ├── ExchangeAmbiguous     Finch may have acted, its answer was not seen
    │   └── BadResponse           something answered that does not speak Finch's API
    ├── StorageFault              the application's database
    │   ├── StorageUnavailable    nothing is known to have been written
    │   └── SchemaMismatch        its tables are not those that this version needs
    ├── SpoolUnavailable          the spool's folder cannot be written
    ├── KeyUnavailable            the key provider did not unwrap a key
    └── CannotOpen                a sealed value that these keys do not open here
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from werkzeug.wrappers import Response


class FinchError(Exception):
    """
    The root of the tree.

    Attributes:
        code: Stable, for programs; the message is for people.
        page_reason: The reason of the Invalid or Failed page that this error leads to; empty
            where it leads to no page.
        request_id: The response's Finch-Request-Id, which Finch's support asks for; None where
            Finch did not respond.
    """

    code = "finch_error"
    page_reason = ""
    request_id: str | None = None

    def __reduce__(self) -> tuple[object, ...]:
        # Task queues pickle errors; a constructor with keywords alone would not take one back.
        evidence = {name: value for name, value in vars(self).items() if name != "make_page"}
        return _restore, (type(self), self.args), evidence


class ApplicationFault(FinchError):
    """The code that calls this library is at fault."""

    code = "application_fault"


class ConfigurationError(ApplicationFault):
    """
    Settings that cannot work, all of them at once.

    Attributes:
        faults: One sentence each: what is wrong, then its mend.
    """

    code = "configuration"

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        head = "one setting is wrong" if len(self.faults) == 1 else "several settings are wrong"
        super().__init__("\n  - ".join([f"finch_middleware cannot start, {head}:", *self.faults]))


class UsageError(ApplicationFault, ValueError):
    """An argument that this call cannot take."""

    code = "usage"


class AlreadyConnected(ApplicationFault):
    """
    Finch has a connection of this customer already.

    Attributes:
        connection_id: That connection, or None where Finch did not name it.
    """

    code = "already_connected"
    page_reason = "client_rejected"

    def __init__(self, *, connection_id: str | None, request_id: str | None = None) -> None:
        self.connection_id = connection_id
        self.request_id = request_id
        super().__init__("this customer is connected already")


class ReturnFault(FinchError):
    """
    A callback request that is not a return that we can trust. Nothing was spent.

    Attributes:
        reason: One of the reasons of `Invalid`.
    """

    code = "return_fault"

    def __init__(self, reason: str) -> None:
        self.reason = self.page_reason = reason
        super().__init__(f"not a trustworthy return from Finch Connect: {reason}")


class Unavailable(FinchError):
    """
    Something that `begin` needs is unavailable; `response()` explains that to the person.

    Attributes:
        retry_after: Seconds after which to try again, where that is known.
        make_page: Makes the response; set by the component that raised the error.
    """

    code = "unavailable"
    retry_after: int | None = None
    make_page: Callable[[], Response] | None = None

    def response(self) -> Response:
        """
        A page (or JSON, for a script) that explains what to do now, with its status.

        Raises:
            LookupError: The error was raised below `FinchConnect`, which makes the pages.
        """
        if self.make_page is None:
            raise LookupError("only errors raised by FinchConnect have a response")
        return self.make_page()


class FinchFault(FinchError):
    """
    Finch's answer, or the lack of one.

    Attributes:
        reason: What happened, one stable word.
        status: The HTTP status, or None where no response came.
    """

    code = "finch_fault"

    def __init__(
        self, reason: str, *, status: int | None = None, request_id: str | None = None
    ) -> None:
        self.reason = reason
        self.status = status
        self.request_id = request_id
        answered = "no answer" if status is None else f"HTTP {status}"
        super().__init__(f"Finch: {reason} ({answered}, request id {request_id or 'none'})")


_FINCH_PAGES = frozenset({"throttled", "payment_required", "client_rejected", "bad_response"})


class FinchUnavailable(FinchFault, Unavailable):
    """
    Finch provably did nothing: no byte was sent, or it said so. Trying again is safe.

    Attributes:
        retry_after: Seconds after which Finch wants to be asked again, where it said so.
    """

    code = "finch_unavailable"

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(reason, status=status, request_id=request_id)
        self.retry_after = retry_after
        # A page describes these in its own words; whatever else happened, Finch was not reached.
        self.page_reason = reason if reason in _FINCH_PAGES else "unreachable"


class FinchRefused(FinchFault):
    """
    Finch says that the request itself is wrong: an unknown product, redirect_uri or customer.

    Attributes:
        name: Finch's name for it, such as ``bad_request``.
    """

    code = "finch_refused"
    page_reason = "client_rejected"

    def __init__(
        self, reason: str, *, name: str, status: int | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(reason, status=status, request_id=request_id)
        self.name = name
        self.args = (f"{self} as {name}",)


class CodeRejected(FinchFault):
    """Finch does not take this code: expired, used, or opened with another redirect_uri."""

    code = "code_rejected"
    page_reason = "code_rejected"


class ExchangeAmbiguous(FinchFault):
    """The request went out and no usable answer came: Finch may have minted a token."""

    code = "exchange_ambiguous"
    page_reason = "ambiguous"


class BadResponse(FinchFault):
    """An answer that is not Finch's API: a redirect, HTML, too large, of the wrong shape."""

    code = "bad_response"
    page_reason = "bad_response"


class StorageFault(FinchError):
    """The application's database."""

    code = "storage_fault"
    page_reason = "storage_unavailable"


class StorageUnavailable(StorageFault, Unavailable):
    """
    The storage did not confirm a read or a write.

    Attributes:
        reason: What happened, one stable word: ``unavailable``, ``busy``, ``full``, ``read_only``…
    """

    code = "storage_unavailable"

    def __init__(self, reason: str = "unavailable") -> None:
        self.reason = reason
        super().__init__(f"the storage did not confirm: {reason}")


class SchemaMismatch(StorageFault):
    """The tables are missing or older than this version needs; the message names the mend."""

    code = "schema_mismatch"


class SpoolUnavailable(Unavailable):
    """
    The spool's folder cannot be written: no token would survive an absent storage.

    Attributes:
        reason: ``unwritable``, ``not_private`` or ``none``: one stable word.
    """

    code = "spool_unavailable"
    page_reason = "spool_unavailable"

    def __init__(self, message: str, *, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


class KeyUnavailable(Unavailable):
    """
    The key provider did not unwrap a key: nothing can be sealed or opened with it now.

    Attributes:
        key_id: That key.
        reason: The name of what the provider raised; its text may hold a secret.
    """

    code = "key_unavailable"
    page_reason = "key_unavailable"

    def __init__(self, *, key_id: str, reason: str) -> None:
        self.key_id = key_id
        self.reason = reason
        super().__init__(f"the key provider did not unwrap the key {key_id}: {reason}")


class CannotOpen(FinchError):
    """
    A sealed value that does not open: altered, moved elsewhere, or sealed with an unknown key.

    Attributes:
        key_id: The key that it names, or None where it has no readable header.
    """

    code = "cannot_open"

    def __init__(self, *, key_id: str | None) -> None:
        self.key_id = key_id
        super().__init__("a sealed value does not open here with the available keys")


def raise_without_context(error: FinchError) -> NoReturn:
    """
    Raise *error* from an except block, without the exception that is being handled.

    That exception, its text and the locals of its frames may hold a secret; ``from None`` only
    hides it.
    """
    try:
        raise error
    finally:
        error.__context__ = None


def _restore(kind: type[FinchError], args: tuple[object, ...]) -> FinchError:
    """Rebuild a pickled error without calling its constructor."""
    error = kind.__new__(kind)
    error.args = args
    return error
