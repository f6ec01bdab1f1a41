"""What a person reads when a callback ends: plain words for people who run a payroll."""

from __future__ import annotations

from collections.abc import Mapping
from string import Template

Texts = Mapping[str, Mapping[str, str]]

#: What a text may mention: the application by its brand, or as `page.application` calls it.
_PLACEHOLDERS = frozenset({"application"})


def _text(title: str, body: str, *, action: str = "") -> dict[str, str]:
    """A page's words. Without *action* its button says what `page` has for what helps."""
    return {"title": title, "body": body, "action": action}


_UNREADABLE = _text(
    "That did not arrive in one piece",
    "What came back from your payroll could not be read. "
    "Nothing was connected, and nothing is lost. Please try again.",
)

_CANNOT_SAVE = _text(
    "We cannot save anything right now",
    "New connections cannot be saved in $application at the moment, so we went no further. "
    "Nothing was connected yet, and nothing is lost. Please wait a moment, then try again.",
)

_PAGE = {
    "lang": "en",
    "application": "the application",
    "reference": "Reference",
    "help": "If you ask for help, please mention it.",
    "again": "Try again",
    "restart": "Start again",
    "back": "Back to $application",
}

_BEGIN = _text(
    "Connect your payroll",
    "You will go on to Finch, the service that connects payrolls, and sign in to yours there. "
    "Then you come back to $application.",
    action="Go on to Finch",
)

#: Never a page: the browser goes on to the application, and a script shows the message.
_GOING_ON = {
    "connected": {
        "title": "Your payroll is connected",
        "body": "There is nothing more to do: you can go on in $application.",
    },
    "finishing.spooled": {
        "title": "Your payroll agreed, and we are finishing up",
        "body": "It will show up in $application as soon as the last step is done. "
        "There is nothing you need to do.",
    },
    "declined": {
        "title": "Your payroll was not connected",
        "body": "You left before the connection was complete, or it could not be made. "
        "Nothing was connected. You can start again whenever you like.",
    },
}

_FINISHING = {
    "finishing": _text(
        "Almost there",
        "Your payroll is being connected. This usually takes a few seconds; "
        "please keep this page open.",
        action="Check again now",
    ),
}

_INVALID = {
    "malformed": _text(
        "This link is not complete",
        "The address that brought you here is incomplete, or was changed on its way. "
        "Nothing was connected. Please start again from $application.",
    ),
    "method": _UNREADABLE,
    "prefetch": _text(
        "Ready when you are",
        "Your browser opened this page ahead of time, so nothing has happened yet. "
        "Nothing was connected so far, and nothing is lost. "
        "Open the page once more to finish connecting your payroll.",
        action="Open this page again",
    ),
    "length_required": _UNREADABLE,
    "too_large": _UNREADABLE,
    "body": _UNREADABLE,
    "cross_site": _text(
        "We stopped this to be safe",
        "You were sent here by a different website. "
        "Nothing was connected. Please start again from $application.",
    ),
    "unsolicited": _text(
        "There is nothing to finish here",
        "No payroll connection is under way in this browser, so nothing was connected. "
        "If you would like to connect your payroll, please begin in $application.",
    ),
    "no_ticket": _text(
        "This was not started in this browser",
        "The connection may have been started on another device or in another browser, "
        "or a while ago. Nothing was connected. "
        "Please start again, and stay in the same browser until the end.",
    ),
    "no_state": _text(
        "We cannot tell what this belongs to",
        "We could not make sure that it was you who started this connection. "
        "Nothing was connected. Please start again from $application.",
    ),
    "state_mismatch": _text(
        "This belongs to a different connection",
        "What came back is not part of the connection that was started in this browser, "
        "so we stopped to be safe. Nothing was connected. Please start again.",
    ),
    "expired": _text(
        "That took a little too long",
        "For your safety, a connection has to be finished within a limited time, "
        "and that time has passed. Nothing was connected. Please start again.",
    ),
    "signed_out": _text(
        "Please sign in once more",
        "You are no longer signed in to $application, so we cannot tell which company "
        "this payroll belongs to. Nothing was connected. Please sign in, then start again.",
    ),
    "other_customer": _text(
        "You are signed in for another company",
        "This connection was started for a company that you are not signed in for now. "
        "Nothing was connected. Please switch to the right company in $application, "
        "then start again.",
    ),
    "already_used": _text(
        "This link was used already",
        "Each link works only once, so nothing new was connected. "
        "If your payroll shows as connected in $application, all is well. "
        "If it does not, please start again.",
    ),
    "code_mismatch": _text(
        "We have an answer already",
        "A different answer came back earlier for the connection that you started, "
        "so we did not accept this one. Nothing new was connected. "
        "If your payroll shows as connected in $application, all is well. "
        "If it does not, please start again.",
    ),
    "customer_unconfirmed": _text(
        "This is not the right company’s payroll",
        "We could not confirm that the payroll you signed in to is the one of the company "
        "that started this connection, so we did not take it over. "
        "Nothing was connected here. Please start again with the payroll of that company.",
    ),
}

_FAILED = {
    "storage_unavailable": _CANNOT_SAVE,
    "spool_unavailable": _CANNOT_SAVE,
    "key_unavailable": _CANNOT_SAVE,
    "unreachable": _text(
        "We could not get through",
        "Finch, the service that connects payrolls, cannot be reached right now. "
        "Nothing was connected yet, and nothing is lost. Please wait a moment, then try again.",
    ),
    "throttled": _text(
        "It is very busy right now",
        "Finch, the service that connects payrolls, asks us to wait a moment. "
        "Nothing was connected yet, and nothing is lost. Please wait a minute, then try again.",
    ),
    "payment_required": _text(
        "New connections are paused",
        "You did nothing wrong: the people who run $application have to settle something "
        "with Finch, the service that connects payrolls. "
        "Nothing was connected. Please let them know, and try again later.",
    ),
    "client_rejected": _text(
        "Connections are not set up yet",
        "You did nothing wrong: the people who run $application have to correct how it works "
        "with Finch, the service that connects payrolls. "
        "Nothing was connected. Please let them know, and try again later.",
    ),
    "code_rejected": _text(
        "This link was used already or has expired",
        "Each link works only once and for a short time, so nothing new was connected. "
        "If your payroll shows as connected in $application, all is well. "
        "If it does not, please start again.",
    ),
    "bad_response": _text(
        "We did not understand the answer",
        "Finch, the service that connects payrolls, answered in a way that we do not know. "
        "Nothing was connected in $application. Please start again.",
    ),
    "ambiguous": _text(
        "We got no clear answer",
        "Finch, the service that connects payrolls, did not finish answering. "
        "Nothing was connected in $application. Please start again; "
        "you may have to sign in to your payroll once more.",
    ),
    "interrupted": _text(
        "We were interrupted",
        "Something on our side stopped before your connection was finished. "
        "Nothing was connected in $application. Please start again; "
        "you may have to sign in to your payroll once more.",
    ),
    "token_lost": _text(
        "The connection could not be saved",
        "Your payroll agreed, but something went wrong on our side at the last step. "
        "Nothing was connected in $application. Please start again; "
        "you may have to sign in to your payroll once more.",
    ),
}

#: Every text by its name: the outcome, and behind a dot its reason. `page` has what all share.
TEXTS: dict[str, dict[str, str]] = {
    "page": _PAGE,
    "begin": _BEGIN,
    **_GOING_ON,
    **_FINISHING,
    **{f"invalid.{reason}": text for reason, text in _INVALID.items()},
    **{f"failed.{reason}": text for reason, text in _FAILED.items()},
}


def faults_of(own: Texts) -> list[str]:
    """What is wrong with an application's own texts, one sentence each; empty where all is well."""
    faults: list[str] = []
    for name, fields in own.items():
        if name not in TEXTS:
            faults.append(f"texts: there is no text {name!r}; see finch_middleware.web.texts.TEXTS")
        elif not isinstance(fields, Mapping):
            faults.append(f"texts: {name!r} needs a mapping such as {{'title': …, 'body': …}}")
        else:
            faults += [
                f"texts: {name}.{part} {fault}"
                for part, text in fields.items()
                if (fault := _fault_of(text, known=part in TEXTS[name]))
            ]
    return faults


def _fault_of(text: object, *, known: bool) -> str | None:
    if not known:
        return "is not shown anywhere; see finch_middleware.web.texts.TEXTS"
    if not isinstance(text, str):
        return "is not a text; give a str"
    template = Template(text)
    if not template.is_valid():
        return "has a $ that begins no placeholder; write $$ for a dollar sign"
    if unknown := sorted(set(template.get_identifiers()) - _PLACEHOLDERS):
        return f"mentions ${unknown[0]}, which is unknown; a text may mention $application"
    return None


def resolved(own: Texts, *, brand: str) -> dict[str, dict[str, str]]:
    """Every text, the application's *own* in place of ours, with $application filled in."""
    merged = {name: {**fields, **own.get(name, {})} for name, fields in TEXTS.items()}
    application = brand or Template(merged["page"]["application"]).safe_substitute()
    return {
        name: {
            part: Template(text).substitute(application=application)
            for part, text in fields.items()
        }
        for name, fields in merged.items()
    }
