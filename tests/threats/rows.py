"""The threats T1 to T46: who does what, and what then happens. The tests have the numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """
    One threat.

    Attributes:
        number: The tests of row 5 are called ``test_t05_…``.
        does: What happens instead.
    """

    number: int
    threat: str
    does: str

    @property
    def also(self) -> tuple[str, ...]:
        """Tests elsewhere that show it, too."""
        return _ALSO.get(self.number, ())


_ALSO = {
    2: (
        "test_a_start_from_another_site_is_refused",
        "test_a_start_with_the_token_of_another_session_is_refused",
    ),
    5: ("test_sixty_four_requests_at_once_get_the_same_failure",),
}

ROWS = tuple(
    Row(number, threat, does)
    for number, (threat, does) in enumerate(
        (
            (
                "A victim's browser arrives at the callback with the attacker's code (login CSRF).",
                "The callback requires a ticket of this browser or the signed-in customer, and "
                "a state that comes back must be that ticket's. Without a state, the customer "
                "that Finch names decides: a foreign code never ends the victim's flow, but "
                "takes one of its five places (T32). `require_state=True` refuses such returns.",
            ),
            (
                "An attacker makes the victim's browser begin a flow.",
                "The callback begins nothing, and `begin` is called behind the application's "
                "login and CSRF protection. At `begin_path`, a GET shows a button, and a POST "
                "must come from our page or from `spa_origins`. A flow that was begun by force "
                "accepts no code but the victim's own.",
            ),
            (
                "The thief of a code completes it in a session of their own, with a valid state.",
                "Finch's response must name the customer of the ticket (compared as text; null "
                "is accepted only for a connection that this customer has already). Otherwise the "
                "token is quarantined and reported at CRITICAL. "
                "`/disconnect` is never called.",
            ),
            (
                "Two clients are mixed up: sandbox and production, or two tenants.",
                "The client id is bound into every ticket and hash, so nothing of one client "
                "means anything to another.",
            ),
            (
                "The same return arrives many times at once.",
                "One atomic claim is committed before the exchange. The others wait and get "
                "the same response, or a page that reloads itself.",
            ),
            (
                "A reload after success shows an error.",
                "For ten minutes the same browser gets the same response, without a call to Finch.",
            ),
            (
                "A prefetch, link preview, HEAD or OPTIONS uses up the code.",
                "HEAD gets an empty response, OPTIONS gets Allow, and a prefetch gets 503, all "
                "before any claim.",
            ),
            (
                "Flows in several tabs of one browser disturb each other.",
                "Each flow has its own cookie. The newest five work in any order, as far as they "
                "fit 2 KiB (T35).",
            ),
            (
                "Injected or repeated cookies, and malformed neighbours in the Cookie header.",
                "Cookies have the `__Host-` prefix. Every cookie of our name is tried, and "
                "only one that the key opens counts.",
            ),
            (
                "An open redirect through `return_to`.",
                "A strict grammar admits only paths of the application and pages of "
                "`spa_origins`, at begin and again at use. The place is sealed in the ticket "
                "and never read from the callback.",
            ),
            (
                "Header injection, or two parsers that disagree.",
                "Our headers hold only visible ASCII of a checked grammar.",
            ),
            (
                "Script or text injected through `error_description`.",
                "Nothing from a request is ever shown. Pages have fixed texts and the policy "
                "`default-src 'none'`.",
            ),
            (
                "Repeated or contradictory parameters.",
                "They get 400 before any lookup: `code`, `state` and `error` once each, no "
                "code with an error, at most 20 parameters and 4 KiB, strict UTF-8, no control "
                "characters.",
            ),
            (
                "A forged Host or X-Forwarded-* header changes `redirect_uri` or the way back.",
                "No such header is read. `redirect_uri` is configuration, and the way back is "
                "a path.",
            ),
            (
                "Variants of the callback path are treated as the path, or the path is missed.",
                "PATH_INFO must be exactly equal.",
            ),
            (
                "The code leaks through Referer, history or cache.",
                "Success and decline redirect to an address without code and state. Every "
                "response says `no-store` and `no-referrer` and loads nothing from elsewhere. "
                "A page whose button starts again says `strict-origin`, which names our origin "
                "but no path or query.",
            ),
            (
                "Secrets appear in logs, tracebacks, error reports, pickles or database errors.",
                "Secrets are values that hide themselves. Errors keep no request, response or "
                "cause that holds one. A filter cleans access logs.",
            ),
            (
                "The token endpoint redirects, so that the client secret is sent elsewhere.",
                "Redirects are not followed; the target receives no byte.",
            ),
            (
                "The token endpoint drips, stalls, floods or sends a compression bomb.",
                "One absolute deadline covers connect, TLS, request and response. A body over "
                "64 KiB or a compressed one is refused unread.",
            ),
            (
                "The environment redirects our requests: proxies, `.netrc`, CA files, key log.",
                "None of it is read, and verification cannot be turned off.",
            ),
            (
                "Hostile JSON from the token endpoint.",
                "The parser refuses repeated names, a depth over 16, numbers that are not "
                "finite and tokens that are not visible ASCII. Unknown fields are kept, "
                "sealed.",
            ),
            (
                "Somebody reads the database or a backup.",
                "Finch's response is sealed with AES-256-GCM. Codes and flows are keyed "
                "hashes; states and cookies are not stored.",
            ),
            (
                "Somebody changes or swaps ciphertext.",
                "Key id, purpose, client, customer and connection are bound into it. A changed "
                "or moved value raises a typed error.",
            ),
            (
                "A database's collation, trimming or encoding takes one value for another.",
                "The database compares 32-byte hashes only. Odd spellings are refused before "
                "they reach it.",
            ),
            (
                "Somebody uses the begin view to fill the storage.",
                "Begin writes nothing, and neither does a return that is not bound to a customer.",
            ),
            (
                "A forged message or a cross-site fetch delivers a code in the embedded flow.",
                "It needs ticket and state, and our own origin (`Sec-Fetch-Site: same-origin`, "
                "or exactly our Origin) or one of `spa_origins`. Only these get CORS headers; "
                "there are none by default.",
            ),
            (
                "The duration of a comparison reveals a state or a key.",
                "Secrets are compared with `compare_digest` or by the cipher only.",
            ),
            (
                "The middleware disturbs the application's own requests.",
                "Other paths receive the very same objects. Nothing is wrapped, added or read.",
            ),
            (
                "Processes share sockets, locks or random state after a fork.",
                "Connections, pools and TLS contexts belong to one process id and are made "
                "anew after a fork, also where the server runs none of Python's hooks (uWSGI).",
            ),
            (
                "A worker is killed during a callback.",
                "The claim was committed before the exchange. Every token is stored, spooled "
                "or quarantined, or its attempt is reported once as interrupted.",
            ),
            (
                "The client chooses the kind of flow, and with it what is sent to Finch.",
                "The kind and `redirect_uri` come from the ticket only, or from the configuration "
                "where a login takes the ticket's place.",
            ),
            (
                "One ticket is used to present any number of invented codes without a state.",
                "A flow has five places for codes, and a claim takes one in the statement that "
                "the database decides. The sixth code gets 400, without a call to Finch or a "
                "row. A code with the flow's state has one place only.",
            ),
            (
                "A gateway responds 503 after Finch issued a token; the same code, sent again, "
                "makes Finch revoke it.",
                "Once a byte of the code has left, only a 429 is retried. The attempt is "
                "ambiguous, reported, and its code is never presented again.",
            ),
            (
                "A deployment changes `redirect_uri` while people are at Finch Connect.",
                "The ticket holds the one that opened Connect, and the exchange sends that one.",
            ),
            (
                "Tickets fill the head of each request, so that a server refuses the whole site.",
                "All tickets of a browser take at most 2 KiB; the oldest are removed first.",
            ),
            (
                "Another host of the domain plants the ticket of its own flow, also behind a "
                "comma that a server takes for a second Cookie field.",
                "`__Host-` keeps such a cookie away, and a comma separates nothing. With "
                "`customer_of` the ticket must be the signed-in customer's, so a planted one is "
                "refused, and only then is a ticket behind a comma accepted.",
            ),
            (
                "Two re-authentications of one connection end at the same moment.",
                "Both succeed, and one token is stored whole: that of the last response. Finch's "
                "response does not state which of them is the newer one.",
            ),
            (
                "A storage accepts `begin`, and then refuses every callback: a right is missing, "
                "or a key of another application has the name of ours.",
                "`check` writes, reads back and removes a record once per process, with every "
                "command that a callback needs. What fails there is an error at `begin`.",
            ),
            (
                "A storage carries out the first half of a write.",
                "A write is whole or not done: a transaction in SQL, and in Redis a script that "
                "first runs each command in a form that changes nothing.",
            ),
            (
                "A token that waited in the spool brings a disconnected connection back, or a "
                "disconnection removes what a re-authentication has just renewed.",
                "A disconnected connection leaves a tombstone that no earlier token replaces, "
                "and only the row that was read is removed.",
            ),
            (
                "A worker is killed before it has named the file of a spooled token.",
                "The file is drained like the others. Of many processes that drain, one reports "
                "the token.",
            ),
            (
                "Clients hold back half of a body, so that the threads of the server wait for it.",
                "A POST without a ticket, or of a foreign page, is refused before its body is "
                "read. Any other body has three seconds, and its declared length is judged first.",
            ),
            (
                "One person's reloads of a return take every thread while Finch is slow.",
                "By default at most a quarter of the server's threads wait for another request. "
                "All others get the page that reloads itself at once.",
            ),
            (
                "A role, server or `Engine` sets a date style, SQL mode or character set under "
                "which a row cannot be read back.",
                "Each transaction sets what matters. `check` reads back every column type, with "
                "text that a wrong setting changes, and an encoding other than UTF-8 is refused.",
            ),
            (
                "The SQLite file is removed or replaced under a running server.",
                "The open file is compared with the path before each use and after each commit. "
                "A commit into the old file is not confirmed.",
            ),
            (
                "Sessions end overnight, a primary is demoted, or a server sends rubbish.",
                "Where nothing but BEGIN was sent, a new session is tried once. A refusal as "
                "read only closes all idle sessions. Any error of a driver is a "
                "`StorageUnavailable`, and its session is closed.",
            ),
        ),
        start=1,
    )
)
