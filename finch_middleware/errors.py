"""
Every error of this library.

The branch shows who is at fault, the class what went wrong, and the attributes the evidence.
No message contains a secret::

    FinchError
    ├── ApplicationFault          the code that calls this library
    │   ├── ConfigurationError    options that cannot work; .faults lists all of them
    │   ├── UsageError            an argument that is not allowed
    │   ├── UnknownConnection     this customer has no such connection
    │   └── AlreadyConnected      this customer is already connected; .connection_id
    ├── ReturnFault               a callback request that cannot be trusted; .reason
    ├── FinchFault                Finch's response, or the lack of one
    │   ├── FinchUnavailable      Finch provably did nothing; trying again is safe
    │   ├── FinchRefused          Finch reports that the request itself is wrong
    │   ├── CodeRejected          Finch rejected this code
    │   ├── ExchangeAmbiguous     Finch may have acted, but its response was lost
    │   └── BadResponse           a response that is not one of Finch's API
    ├── StorageFault              the application's database
    │   ├── StorageUnavailable    a read or write was not confirmed
    │   └── SchemaMismatch        its tables do not fit this version
    ├── SpoolUnavailable          the spool's folder is not writable
    ├── KeyUnavailable            the key provider did not unwrap a key
    └── CannotOpen                a sealed value that these keys do not open
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from finch_middleware.secret import Secret


class FinchError(Exception):
    """
    The root of the tree.

    Attributes:
        code: Stable, for programs; the message is for people.
        page_reason: The reason of the Invalid or Failed page that this error leads to; empty
            where it leads to no page.
        request_id: The response's Finch-Request-Id, which Finch's support asks for; None where
            Finch did not respond.
        make_page: Makes the person's page; set by `begin` where that has reported the error.
    """

    code = "finch_error"
    page_reason = ""
    request_id: str | None = None
    make_page: Callable[[], Response] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        # Task queues pickle errors, and pickle cannot call a constructor that needs keywords.
        left_out = ("make_page", "message")  # a function, and a Secret
        evidence = {name: value for name, value in vars(self).items() if name not in left_out}
        return type(self).__new__, (type(self), *self.args), evidence


class ApplicationFault(FinchError):
    """The code that calls this library is at fault."""

    code = "application_fault"


class ConfigurationError(ApplicationFault):
    """
    Options that cannot work.

    Attributes:
        faults: One sentence for each fault: what is wrong, and how to fix it.
    """

    code = "configuration"

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        head = "an option is wrong" if len(self.faults) == 1 else "several options are wrong"
        super().__init__(
            "\n  - ".join([f"finch_middleware cannot start because {head}:", *self.faults])
        )


class UsageError(ApplicationFault, ValueError):
    """An argument that this call does not accept."""

    code = "usage"


class UnknownConnection(ApplicationFault, LookupError):
    """This customer has no such connection; another customer's is unknown as well."""

    code = "unknown_connection"


class AlreadyConnected(ApplicationFault):
    """
    Finch already has a connection of this customer.

    Attributes:
        connection_id: That connection, or None where Finch did not name it.
    """

    code = "already_connected"
    page_reason = "client_rejected"

    def __init__(self, *, connection_id: str | None, request_id: str | None = None) -> None:
        self.connection_id = connection_id
        self.request_id = request_id
        super().__init__("this customer is already connected")


class ReturnFault(FinchError):
    """
    A callback request that cannot be trusted. Its code was not spent.

    Attributes:
        reason: One of the reasons of `Invalid`.
        attempt_id: The earlier attempt with the same code or flow, if that is why.
    """

    code = "return_fault"

    def __init__(self, reason: str, *, attempt_id: str | None = None) -> None:
        self.reason = self.page_reason = reason
        self.attempt_id = attempt_id
        super().__init__(f"this callback from Finch Connect cannot be trusted: {reason}")


class Unavailable(FinchError):
    """
    Something that `begin` needs is unavailable; `response()` explains that to the person.

    Attributes:
        retry_after: Seconds after which to try again, where that is known.
    """

    code = "unavailable"
    retry_after: int | None = None

    def response(self) -> Response:
        """
        A page (or JSON, for a script) that explains what to do now, with its status.

        `begin` makes it. An error of another call, such as a look-up in `connections`, has one
        sentence of plain text with status 503.
        """
        if self.make_page is not None:
            return self.make_page()
        from werkzeug.wrappers import Response

        headers = {"Cache-Control": "no-store", "Retry-After": str(self.retry_after or 5)}
        sentence = "This is not available at the moment. Please try again in a few seconds."
        return Response(sentence, status=503, headers=headers, mimetype="text/plain")


#: Reasons of a FinchFault that have a page of their own.
_OWN_PAGES = frozenset({"throttled", "payment_required", "client_rejected", "bad_response"})


class FinchFault(FinchError):
    """
    Finch's response, or the lack of one.

    Attributes:
        reason: What happened, one stable word.
        status: The HTTP status, or None where no response came.
        retry_after: Seconds after which Finch asks us to try again, where it names them.
    """

    code = "finch_fault"

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        self.reason = reason
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after
        if reason in _OWN_PAGES:
            self.page_reason = reason
        http = "no response" if status is None else f"HTTP {status}"
        super().__init__(f"Finch: {reason} ({http}, request id {request_id or 'none'})")


class FinchUnavailable(FinchFault, Unavailable):
    """Finch provably did nothing: no byte was sent, or Finch reported it. Trying again is safe."""

    code = "finch_unavailable"
    page_reason = "unreachable"


class FinchRefused(FinchFault):
    """
    Finch reports that the request itself is wrong: an unknown product, redirect_uri or customer.

    Attributes:
        name: Finch's name for it, such as ``bad_request``.
        finch_code: Finch's more precise word, such as ``invalid_request``; None without one.
        message: Finch's own sentence, cut to 300 printable characters. It may quote what was
            sent, so it is hidden until `reveal()`. None without one, and in another process.
        reference: That of the event in the log, if `FinchConnect.begin` raised the error.
    """

    code = "finch_refused"
    page_reason = "client_rejected"
    message: Secret | None = None
    reference = ""

    def __init__(
        self,
        reason: str,
        *,
        name: str,
        finch_code: str | None = None,
        message: Secret | None = None,
        advice: str = "",
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(reason, status=status, request_id=request_id)
        self.name = name
        self.finch_code = finch_code
        if message is not None:
            self.message = message
        # The advice is in our own words: what the developer should look at.
        words = f"{self} as {name}" + (f", {finch_code}" if finch_code else "")
        self.args = (f"{words}: {advice}" if advice else words,)


class CodeRejected(FinchFault):
    """Finch rejected this code: expired, used, or issued for another redirect_uri."""

    code = "code_rejected"
    page_reason = "code_rejected"


class ExchangeAmbiguous(FinchFault):
    """The request was sent and no usable response came: Finch may have issued a token."""

    code = "exchange_ambiguous"
    page_reason = "ambiguous"


class BadResponse(FinchFault):
    """A response that is not one of Finch's API: a redirect, HTML, too large, or malformed."""

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
        fix: How to fix it, where no waiting helps and that is known; otherwise empty.
        unwritten: True where it is certain that nothing was written.
    """

    code = "storage_unavailable"
    unwritten = False

    #: The fix, for the reasons where a reload does not help.
    _FIXES: ClassVar = {
        "denied": "check the user of the storage, its password and its rights to read, insert, "
        "update and delete",
        "own_transaction": "a transaction of this process holds the SQLite file; commit it or "
        "roll it back before you call begin or callback",
        "replaced": "the SQLite file was removed or replaced meanwhile",
        "unstorable": "the text is not valid, or the database and its connections do not use "
        "UTF-8 (in MySQL utf8mb4)",
    }

    def __init__(self, reason: str = "unavailable", *, fix: str = "") -> None:
        self.reason = reason
        self.fix = fix or self._FIXES.get(reason, "")
        message = f"the storage did not confirm a read or write: {reason}"
        super().__init__(f"{message}; {self.fix}" if self.fix else message)


class SchemaMismatch(StorageFault):
    """The tables are missing or too old for this version; the message states how to fix it."""

    code = "schema_mismatch"


class SpoolUnavailable(Unavailable):
    """
    The spool's folder is not writable, so a token would be lost if the storage is unavailable.

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
    The key provider did not unwrap a key, which cannot be used until it does.

    Attributes:
        key_id: That key.
        reason: The class of the provider's error; its text may contain a secret.
    """

    code = "key_unavailable"
    page_reason = "key_unavailable"

    def __init__(self, *, key_id: str, reason: str) -> None:
        self.key_id = key_id
        self.reason = reason
        super().__init__(f"the key provider did not unwrap the key {key_id}: {reason}")


class CannotOpen(FinchError):
    """
    A sealed value that does not open: changed, moved elsewhere, or sealed with an unknown key.

    Attributes:
        key_id: The key that its header names, or None if the header is unreadable.
    """

    code = "cannot_open"

    def __init__(self, *, key_id: str | None) -> None:
        self.key_id = key_id
        super().__init__("a sealed value does not open with the available keys")
