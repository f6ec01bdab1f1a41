"""The threats T1 to T31: who does what, and what then happens. The tests carry the numbers."""

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
    5: (
        "test_sixty_four_threads_present_a_code_once",
        "test_sixty_four_threads_fail_alike",
        "test_sixty_four_browsers_over_four_processes_present_a_code_once",
    ),
}

ROWS = tuple(
    Row(number, threat, does)
    for number, (threat, does) in enumerate(
        (
            (
                "A victim's browser lands on the callback with the attacker's code (login CSRF).",
                "A ticket of this browser and this client, or the signed-in customer, is required; "
                "a state that comes back must be that ticket's. Without a state the customer "
                "that Finch names decides, and a foreign code never spends the victim's flow. "
                "`require_state=True` refuses returns without one.",
            ),
            (
                "An attacker makes the victim's browser begin a flow.",
                "The callback begins nothing. `begin` is called by the application's own view, "
                "behind its login and CSRF protection; where `begin_path` is configured, a GET "
                "shows a button and a POST must come from our own page or an origin of "
                "`spa_origins`. A flow begun by force takes no code but the victim's own.",
            ),
            (
                "The thief of a code completes it in his own session with his own good state.",
                "The ticket names the customer, and Finch's answer must name the same one "
                "(number and text compare as text, null equals nothing). Otherwise the token is "
                "sealed in quarantine, reported at CRITICAL, and nobody gets it; `/disconnect` "
                "is never called.",
            ),
            (
                "Two clients are mixed up: sandbox and production, or two tenants.",
                "The client_id is in the ticket's associated data and in every hash; a cookie or "
                "a return of one client means nothing to another.",
            ),
            (
                "The same return arrives many times at once.",
                "One atomic claim, committed before the exchange; the others wait for its "
                "answer and get the same one, or a page that refreshes itself.",
            ),
            (
                "A reload after success shows an error.",
                "For ten minutes the same browser gets the same answer without a call.",
            ),
            (
                "A prefetch, link preview, HEAD or OPTIONS consumes the code.",
                "HEAD is answered empty, OPTIONS with Allow, a prefetch with 503, all before any "
                "claim; the flow stays usable.",
            ),
            (
                "Several tabs: flows of one browser disturb each other.",
                "One cookie a flow; the newest five work in every order; 1 KiB each, 4 KiB in all.",
            ),
            (
                "Cookie tossing, doubled names, hostile neighbours in the Cookie header.",
                "`__Host-` prefix; every cookie of our name is tried, and only one that the key "
                "opens counts; a broken neighbour costs nothing.",
            ),
            (
                "An open redirect through `return_to`.",
                "Only a path of the application, by a strict grammar at begin and again at use; "
                "sealed in the ticket, never read from the callback.",
            ),
            (
                "Header injection, or two parsers that differ.",
                "Answers hold only visible ASCII of a validated grammar in their headers.",
            ),
            (
                "Script or text injected through `error_description`.",
                "Nothing of a request is ever shown: fixed texts, a policy of "
                "`default-src 'none'`, JSON for scripts.",
            ),
            (
                "Doubled or contradictory parameters.",
                "400 before anything is looked up: `code`, `state` and `error` once each, no code "
                "with an error, at most 20 parameters and 4 KiB, strict UTF-8, no controls.",
            ),
            (
                "Host or X-Forwarded-* poisons `redirect_uri` or the way back.",
                "`redirect_uri` is configuration and the way back a path; no such header is read.",
            ),
            (
                "Spellings of the path reach the callback, or pass it by.",
                "Exact equality of PATH_INFO; everything else is the application's, untouched.",
            ),
            (
                "The code leaks by Referer, history or cache.",
                "303 to a clean address on success and on a decline; `no-store`, `no-referrer` "
                "and nothing loaded from elsewhere in every answer. A failure's page with the "
                "button that starts again says `strict-origin`: its form has to name our origin, "
                "and never names a path or query.",
            ),
            (
                "Secrets in logs, tracebacks, error reports, pickles, database errors.",
                "Secrets are values that do not show themselves; errors keep no request, answer "
                "or cause that holds one; a filter cleans access logs.",
            ),
            (
                "A redirect of the token endpoint re-sends the client secret.",
                "No redirect is followed; the target sees no byte.",
            ),
            (
                "A token endpoint that drips, stalls, floods or sends a bomb.",
                "One absolute deadline over connect, TLS, request and answer; a body over 64 KiB "
                "or compressed is refused unread.",
            ),
            (
                "The environment redirects us: proxies, `.netrc`, CA files, key log.",
                "None of it is read; `proxy` and `ca_bundle` are explicit, and there is no way "
                "not to verify.",
            ),
            (
                "Hostile JSON from the token endpoint.",
                "One meaning or none: no doubled names, depth of 16, finite numbers, a token of "
                "visible ASCII; unknown fields are kept, sealed.",
            ),
            (
                "Somebody reads the database or a backup.",
                "AES-256-GCM for Finch's answer, keyed hashes for codes and flows; states and "
                "cookies are not there at all.",
            ),
            (
                "Somebody changes or swaps ciphertext.",
                "Key id, purpose, client, customer and connection are bound in; what was altered "
                "or moved does not open, with a typed error.",
            ),
            (
                "A database's collation, trimming or encoding takes one value for another.",
                "What decides is a hash of 32 bytes; odd spellings are refused before storage.",
            ),
            (
                "The begin view is used to fill the storage.",
                "Begin writes nothing; a return that is not bound writes nothing.",
            ),
            (
                "A forged message or cross-site fetch hands over a code in the embedded flow.",
                "Ticket and state as ever, and the request must come from our own origin: "
                "`Sec-Fetch-Site: same-origin`, or exactly our Origin, or one of `spa_origins`, "
                "to which alone CORS headers are sent; there are none by default.",
            ),
            (
                "The time of a comparison tells a state or a key.",
                "Secrets meet `compare_digest` and the cipher alone.",
            ),
            (
                "The middleware disturbs the application's own requests.",
                "Other paths get the very same objects; nothing is wrapped, added or read.",
            ),
            (
                "A fork shares sockets, locks or random state.",
                "Connections, pools and TLS contexts belong to one process id and are made anew "
                "after a fork.",
            ),
            (
                "A worker is killed in the middle.",
                "The claim was committed before the exchange: every token is stored, spooled, "
                "quarantined, or its attempt is reported as interrupted, once.",
            ),
            (
                "The client chooses the flow kind and so what is sent to Finch.",
                "Kind and `redirect_uri` come from the ticket and the configuration; flags of a "
                "request change no byte.",
            ),
        ),
        start=1,
    )
)
