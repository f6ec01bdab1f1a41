"""
What RFC 6749 and RFC 9700 require of a client (MUST, SHOULD), and the test of each.

In our own words. Where no test can show it, or Finch leaves no way to do it, an argument
stands in place of the test. What they require of authorization servers alone is not here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """
    One requirement of a client.

    Attributes:
        tests: Names of tests, or their beginnings: ``test_t05`` is all of row 5.
        argument: Why it is met otherwise, or cannot be met at Finch.
    """

    section: str
    wants: str
    tests: tuple[str, ...] = ()
    argument: str = ""


def _r(section: str, wants: str, *tests: str, argument: str = "") -> Requirement:
    return Requirement(section=section, wants=wants, tests=tests, argument=argument)


_NO_PKCE = (
    "Finch has neither PKCE nor a nonce. Instead, the customer_id that comes back with the token "
    "must be the one that our server set when it created the session."
)
_ONE_SERVER = (
    "A FinchConnect has one authorization server, by configuration, and Finch sends no `iss`. "
    "The client_id in the ticket takes the place of the issuer."
)
_FINCHS_FORM = "Finch's form differs: JSON, without `grant_type`, as its documentation says."

REQUIREMENTS = (
    _r("6749 §4.1.1", "SHOULD send a `state` against CSRF", "test_t01", "test_a_state_is_128"),
    _r(
        "6749 §4.1.1",
        "`response_type` and `client_id` in the authorization request",
        argument="Our server opens Connect with its credentials.",
    ),
    _r("6749 §4.1.2", "MUST NOT use a code more than once", "test_t05", "test_t06", "test_t30"),
    _r("6749 §4.1.2", "MUST ignore unrecognized response parameters", "test_t31_no_flag"),
    _r(
        "6749 §4.1.2",
        "should not assume the size of a code",
        "test_t13",
        argument="Any 1 to 512 visible ASCII characters are a code; Finch's are UUIDs.",
    ),
    _r(
        "6749 §4.1.3",
        "`redirect_uri` MUST be identical in the authorization and the token request",
        "test_t31",
        "test_t14",
    ),
    _r("6749 §4.1.3", "MUST authenticate as a confidential client", "test_the_client_auth"),
    _r("6749 §4.1.3", "`grant_type=authorization_code`, form encoding", argument=_FINCHS_FORM),
    _r("6749 §10.1", "MUST keep client credentials confidential", "test_t17", "test_t18"),
    _r(
        "6749 §10.3",
        "MUST keep access tokens confidential in transit and storage",
        "test_t22",
        "test_t17",
        "test_a_token_never_reaches",
    ),
    _r("6749 §10.3", "MUST send tokens over TLS alone, to a verified server", "test_codes_secrets"),
    _r("6749 §10.3", "SHOULD ask for the least scope", "test_what_is_asked_for"),
    _r(
        "6749 §10.4",
        "MUST keep refresh tokens confidential",
        "test_t21_unknown_fields",
        argument="Finch has none. If one came, it would be sealed with the rest of the response.",
    ),
    _r("6749 §10.5", "SHOULD require TLS for its redirection endpoint", "test_codes_secrets"),
    _r(
        "6749 §10.7",
        "SHOULD minimize the password grant",
        argument="The library uses the code grant only.",
    ),
    _r("6749 §10.8", "MUST NOT send tokens or credentials in the clear", "test_codes_secrets"),
    _r("6749 §10.8", "SHOULD NOT put sensitive information into `state`", "test_a_state_is_128"),
    _r("6749 §10.9", "MUST validate the server's certificate", "test_t20_an_authority"),
    _r(
        "6749 §10.10",
        "Guessing MUST be less likely than 2⁻¹²⁸ (SHOULD: 2⁻¹⁶⁰)",
        "test_a_state_is_128",
        argument="The state has 128 bits and is not enough by itself: the sealed ticket of the "
        "same browser is needed as well.",
    ),
    _r("6749 §10.12", "MUST protect the redirection endpoint against CSRF", "test_t01", "test_t26"),
    _r("6749 §10.12", "SHOULD deliver the binding in `state`", "test_t01", "test_t31"),
    _r("6749 §10.12", "The binding value MUST not be guessable", "test_a_state_is_128"),
    _r(
        "6749 §10.12",
        "Only the browser and the client MUST reach the browser's authenticated state",
        "test_t08_the_cookie_of_a_flow",
        "test_t09",
    ),
    _r(
        "6749 §10.13",
        "Native clients SHOULD use an external browser",
        argument="This is a web client, and its own pages cannot be framed.",
    ),
    _r("6749 §10.14", "MUST sanitize and validate what it receives", "test_t13", "test_t24"),
    _r("6749 §10.15", "The redirection endpoint is no open redirector", "test_t10"),
    _r(
        "6749 §10.16",
        "MUST NOT take the implicit flow for a login",
        argument="There is no implicit flow, and a connection is not a login.",
    ),
    _r("9700 §2.1", "MUST NOT expose open redirectors", "test_t10"),
    _r(
        "9700 §2.1",
        "MUST prevent CSRF: one-time tokens in `state`, bound to the browser",
        "test_t01",
        argument="Finch does not document that its redirect returns the state. "
        "`require_state=True` and the embedded flow require it.",
    ),
    _r(
        "9700 §2.1",
        "With several authorization servers, a defense against mix-up is REQUIRED",
        "test_t04",
        argument=_ONE_SERVER,
    ),
    _r("9700 §2.1.1", "MUST prevent code injection", "test_t03", argument=_NO_PKCE),
    _r(
        "9700 §2.1.1",
        "What binds a code MUST be specific to the transaction and bound to the browser",
        "test_t01",
        "test_t03",
        argument="The ticket is both. The customer_id is specific to the employer, so two flows of "
        "one employer in one login can end each other; both end with that employer.",
    ),
    _r("9700 §2.1.1", "SHOULD use S256 with PKCE", argument=_NO_PKCE),
    _r("9700 §2.1.2", "SHOULD NOT use the implicit grant", "test_a_token_never_reaches"),
    _r("9700 §4.2.4", "Its pages SHOULD have no third-party resources or links", "test_t16"),
    _r("9700 §4.2.4", "A suitable Referrer-Policy", "test_t16"),
    _r("9700 §4.2.4", "SHOULD invalidate the `state` after its first use", "test_t01_a_code_with"),
    _r("9700 §4.4.2", "MUST bind the issuer to the browser", "test_t04", argument=_ONE_SERVER),
    _r(
        "9700 §4.4.2.1",
        "MUST compare `iss` and abort on a mismatch",
        argument=_ONE_SERVER,
    ),
    _r(
        "9700 §4.4.2.2",
        "MUST use a distinct redirection URI for each issuer, and check it",
        "test_t04",
        "test_t15",
        "test_a_session_that_leads",
        argument=_ONE_SERVER,
    ),
    _r("9700 §4.5.3", "Bind each code to this client, browser, transaction", "test_t03"),
    _r("9700 §4.5.3.2", "Use no token until the check has succeeded", "test_t03"),
    _r("9700 §4.7.1", "A random value in `state` links the return to the browser", "test_t01"),
    _r("9700 §4.7.1", "Without PKCE, `state` or `nonce` MUST be used", "test_t01", "test_t26"),
    _r(
        "9700 §4.7.1",
        "MUST protect what `state` carries against tampering and swapping",
        "test_a_state_is_128",
        "test_t09_a_tossed",
        "test_t31",
        argument="The state carries no data; the data of the flow is sealed in the ticket.",
    ),
    _r("9700 §4.11.1", "MUST NOT be an open redirector", "test_t10"),
    _r(
        "9700 §4.17.2",
        "MUST compare the origin of an in-browser message exactly",
        "test_t26",
        argument="The page's listener is Finch's SDK, which compares a prefix only. So a code "
        "from a page is not trusted: it needs this browser's ticket, its state and our own origin.",
    ),
    _r("9700 §4.17.2", "MUST prevent the injection of in-browser messages", "test_t26"),
    _r("9700 §4.17.2", "The same measures as with redirects", "test_t26", "test_t03", "test_t31"),
)
