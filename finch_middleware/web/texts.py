"""What a person reads on a page: plain words for people who run a payroll."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import Template

from finch_middleware.config.products import PRODUCTS
from finch_middleware.config.urls import SENDABLE

Texts = Mapping[str, Mapping[str, str]]


def _text(title: str, body: str, *, action: str = "") -> dict[str, str]:
    """A page's words; without *action* its button has the standard label of `page`."""
    return {"title": title, "body": body, "action": action}


_FINCH = "Finch, the service that connects your payroll,"
# "New", because an older connection may exist: of this customer, or of this very link.
_NOT_CONNECTED = "Nothing new was connected."
_CHECK_FIRST = (
    f"{_NOT_CONNECTED} If your payroll shows as connected in $application, you are done. "
    "If not, please start again."
)
_SIGN_IN_AGAIN = (
    "Nothing new was connected in $application. Please start again. "
    "You may have to sign in to your payroll again."
)

_UNREADABLE = _text(
    "Something went wrong",
    f"We could not read the response from your payroll. {_NOT_CONNECTED} Please try again.",
)

_CANNOT_SAVE = _text(
    "We cannot save your connection right now",
    "New connections cannot be saved in $application at the moment, so we stopped. "
    f"{_NOT_CONNECTED} Please wait a moment, then try again.",
)

#: Every text by its name, which is the outcome and its reason.
TEXTS: dict[str, dict[str, str]] = {
    # What all pages share.
    "page": {
        "lang": "en",
        "application": "the application",
        "reference": "Reference",
        "help": "Please mention it when you ask for help.",
        "again": "Try again",
        "restart": "Start again",
        "back": "Back to $application",
        "press": "To do so, go back to $application and press the button again.",
    },
    "begin": _text(
        "Connect your payroll",
        "You will sign in to your payroll at Finch, the service that connects it, "
        "and then return to $application.",
        action="Continue to Finch",
    ),
    "invitation": _text(
        "Connect the payroll of $customer",
        "You are invited to connect the payroll of $customer to $application, which asks for this "
        "information: $products. You will sign in to your payroll at Finch, the service that "
        "connects it. If you did not expect this invitation, please close this page.",
        action="Continue to Finch",
    ),
    # Where an invited person arrives in the end.
    "invitation.connected": _text(
        "The payroll is connected",
        "Thank you. $application is now connected to the payroll. You can close this page.",
    ),
    "products": PRODUCTS,
    # The next three are never a page: the browser is sent to the application, and a script shows
    # the message.
    "connected": {
        "title": "Your payroll is connected",
        "body": "You can continue in $application.",
    },
    "finishing.spooled": {
        "title": "Your payroll is almost connected",
        "body": "We are completing the last step. The connection will then appear in $application. "
        "You do not need to do anything.",
    },
    "declined": {
        "title": "The connection was not completed",
        "body": "It was canceled, or something went wrong. "
        f"{_NOT_CONNECTED} You can start again at any time.",
    },
    "finishing": _text(
        "Almost done",
        "Your payroll is being connected. This usually takes a few seconds. "
        "Please keep this page open.",
        action="Check again",
    ),
    "invalid.malformed": _text(
        "This link is incomplete",
        "The address that brought you here is incomplete or was changed. "
        f"{_NOT_CONNECTED} Please start again from $application.",
    ),
    "invalid.method": _UNREADABLE,
    "invalid.prefetch": _text(
        "Open this page again to continue",
        "Your browser loaded this page in advance. Nothing new was connected yet. "
        "Open the page again to finish connecting your payroll.",
        action="Open this page again",
    ),
    "invalid.length_required": _UNREADABLE,
    "invalid.too_large": _UNREADABLE,
    "invalid.body": _UNREADABLE,
    "invalid.cross_site": _text(
        "We stopped this for your safety",
        "A different website sent you here. "
        f"{_NOT_CONNECTED} Please start again from $application.",
    ),
    "invalid.unsolicited": _text(
        "There is nothing to finish here",
        f"No payroll connection is in progress in this browser. {_CHECK_FIRST}",
    ),
    "invalid.no_ticket": _text(
        "This was not started in this browser",
        "You may have started the connection on another device, in another browser, "
        f"or too long ago. {_CHECK_FIRST} Please stay in the same browser until the end.",
    ),
    "invalid.no_state": _text(
        "We could not verify this connection",
        "We could not confirm that you started this connection. "
        f"{_NOT_CONNECTED} Please start again from $application.",
    ),
    "invalid.state_mismatch": _text(
        "This belongs to a different connection",
        "The response does not match the connection that was started in this browser, "
        f"so we stopped for your safety. {_CHECK_FIRST}",
    ),
    "invalid.expired": _text(
        "This took too long",
        "For your safety, the time to finish a connection is limited, and it has run out. "
        f"{_CHECK_FIRST}",
    ),
    "invalid.signed_out": _text(
        "Please sign in again",
        "You are not signed in to $application, so we do not know which company "
        f"this payroll belongs to. {_NOT_CONNECTED} Please sign in, then start again.",
        action="Sign in",
    ),
    "invalid.other_customer": _text(
        "You are signed in to a different company",
        f"This connection was started for another company. {_NOT_CONNECTED} "
        "Please switch to the right company in $application, then start again.",
    ),
    "invalid.already_used": _text(
        "This link was already used",
        f"Each link works only once. {_CHECK_FIRST}",
    ),
    "invalid.code_mismatch": _text(
        "We already received a response",
        "We received a different response for this connection earlier, "
        f"so we did not accept this one. {_CHECK_FIRST}",
    ),
    "invalid.invitation_unreadable": _text(
        "This invitation cannot be opened",
        f"The link is incomplete, or it is no longer valid. {_NOT_CONNECTED} Please open the link "
        "in your invitation again, or ask the person who sent it for a new one.",
    ),
    "invalid.invitation_expired": _text(
        "This invitation has expired",
        f"For your safety, an invitation is valid for a limited time. {_NOT_CONNECTED} "
        "Please ask the person who sent it for a new one.",
    ),
    "invalid.invitation_used": _text(
        "This invitation was already used",
        "The payroll was connected after this invitation was sent, or the connection that it was "
        f"for has ended. {_NOT_CONNECTED} If you still have to connect a payroll, please ask the "
        "person who sent it for a new one.",
    ),
    "invalid.customer_unconfirmed": _text(
        "This may be another company’s payroll",
        "We could not confirm that this payroll belongs to the company "
        f"that started this connection. {_NOT_CONNECTED} "
        "Please start again and sign in to the payroll of that company.",
    ),
    "failed.storage_unavailable": _CANNOT_SAVE,
    "failed.spool_unavailable": _CANNOT_SAVE,
    "failed.key_unavailable": _CANNOT_SAVE,
    "failed.unreachable": _text(
        "We could not reach Finch",
        f"{_FINCH} cannot be reached right now. "
        f"{_NOT_CONNECTED} Please wait a moment, then try again.",
    ),
    "failed.throttled": _text(
        "Finch is very busy right now",
        f"{_FINCH} asked us to wait. {_NOT_CONNECTED} Please wait a minute, then try again.",
    ),
    "failed.payment_required": _text(
        "New connections are paused",
        "You did nothing wrong. The team behind $application has to resolve an issue with Finch, "
        f"the service that connects your payroll. {_NOT_CONNECTED} "
        "Please let them know, and try again later.",
    ),
    "failed.client_rejected": _text(
        "Connections are not set up yet",
        "You did nothing wrong. The team behind $application has to correct its setup with Finch, "
        f"the service that connects your payroll. {_NOT_CONNECTED} "
        "Please let them know, and try again later.",
    ),
    "failed.code_rejected": _text(
        "This link has expired or was already used",
        f"Each link works only once and for a short time. {_CHECK_FIRST}",
    ),
    "failed.bad_response": _text(
        "We did not understand the response",
        f"{_FINCH} sent a response that we could not read. "
        "Nothing new was connected in $application. Please start again.",
    ),
    "failed.ambiguous": _text(
        "We did not get a complete response",
        f"{_FINCH} did not finish responding. {_SIGN_IN_AGAIN}",
    ),
    "failed.interrupted": _text(
        "The connection was interrupted",
        f"We had to stop before your connection was finished. {_SIGN_IN_AGAIN}",
    ),
    "failed.token_lost": _text(
        "The connection could not be saved",
        f"You approved the connection, but the last step failed on our side. {_SIGN_IN_AGAIN}",
    ),
}


def find_faults(own: Texts) -> Iterator[str]:
    """What is wrong with an application's own texts, one sentence each."""
    for name, fields in own.items():
        if name not in TEXTS:
            yield f"texts: there is no text {name!r}; see finch_middleware.web.texts.TEXTS"
        elif not isinstance(fields, Mapping):
            yield f"texts: {name!r} must be a mapping such as {{'title': …, 'body': …}}"
        else:
            for part, text in fields.items():
                if fault := _find_fault(text, name=name, known=part in TEXTS[name]):
                    yield f"texts: {name}.{part} {fault}"


def _find_fault(text: object, *, name: str, known: bool) -> str | None:
    if not known:
        return "is not shown anywhere; see finch_middleware.web.texts.TEXTS"
    if not isinstance(text, str):
        return "must be a str"
    if not SENDABLE.fullmatch(text):
        return "contains a NUL or a surrogate, which a page cannot show"
    template = Template(text)
    if not template.is_valid():
        return "contains a $ without a placeholder; write $$ for a dollar sign"
    allowed = {"application", "customer", "products"} if name == "invitation" else {"application"}
    if unknown := sorted(set(template.get_identifiers()) - allowed):
        return f"mentions ${unknown[0]}; it may mention ${', $'.join(sorted(allowed))}"
    return None


def resolve_texts(own: Texts, *, brand: str) -> dict[str, dict[str, str]]:
    """All texts, with those of *own* in place of the standard ones and $application filled in."""
    merged = {name: {**fields, **own.get(name, {})} for name, fields in TEXTS.items()}
    application = brand or Template(merged["page"]["application"]).safe_substitute()
    return {
        # Its customer and products are known later.
        name: dict(fields) if name == "invitation" else filled(fields, application=application)
        for name, fields in merged.items()
    }


def filled(text: Mapping[str, str], **values: str) -> dict[str, str]:
    """*text* with these values of its placeholders."""
    return {part: Template(words).substitute(values) for part, words in text.items()}
