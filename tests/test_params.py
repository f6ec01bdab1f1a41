"""The code, the state or the error of a callback, and what is refused."""

from __future__ import annotations

import json
import traceback
from typing import Any
from urllib.parse import quote

import pytest

from finch_middleware.errors import ReturnFault
from finch_middleware.tickets import flow_id_of
from finch_middleware.web.request import CallbackParams, CallbackRequest, parse_callback

CODE = "6d1fd0f0-5a1e-4e2a-9a5f-0c3c1f1f7a10"
STATE = "abcdefghijklmnopqrstu_"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


def got(query: str) -> CallbackRequest:
    return CallbackRequest(query_string=query)


def posted(body: bytes | str, *, kind: str = FORM, query: str = "") -> CallbackRequest:
    encoded = body.encode() if isinstance(body, str) else body
    headers = {"Content-Type": kind, "Content-Length": str(len(encoded))}
    return CallbackRequest(method="POST", query_string=query, headers=headers, body=encoded)


def carried(text: str, way: str) -> CallbackRequest:
    """A request that carries *text* in its query or in its form."""
    return got(text) if way == "query" else posted(text)


def reason(request: CallbackRequest) -> str | None:
    """Why it is refused; None if it is not. Any other error passes through."""
    try:
        parse_callback(request)
    except ReturnFault as fault:
        return fault.reason
    return None


def shown(returned: CallbackParams) -> tuple[str | None, str | None]:
    return returned.code.reveal() if returned.code else None, returned.flow_id


WITHOUT_STATE = [{"code": CODE}, {"code": CODE, "state": None}]
both_ways = pytest.mark.parametrize("way", ["query", "form"])


@pytest.mark.parametrize(
    "request_",
    [
        got(f"code={CODE}&state={STATE}"),
        got(f"state={STATE}&&x=1&code={CODE}&"),
        got(f"%63ode={quote(CODE)}&st%61te={STATE.replace('_', '%5F')}"),
        posted(f"code={CODE}&state={STATE}"),
        posted(f"code={CODE}", query=f"state={STATE}"),
        posted(f"code={CODE}&state={STATE}", kind=FORM + "; charset=UTF-8"),
        posted(f"code={CODE}&state={STATE}", kind=FORM.upper()),
        posted(json.dumps({"code": CODE, "state": STATE}), kind=JSON),
        posted(json.dumps({"code": CODE, "state": STATE}), kind="Application/JSON ; charset=utf-8"),
        posted(json.dumps({"code": CODE, "state": STATE, "idpRedirectUri": None}), kind=JSON),
        posted(json.dumps({"code": CODE, "state": STATE, "x": {"code": 1}, "y": [1]}), kind=JSON),
        posted("", query=f"code={CODE}&state={STATE}"),
        CallbackRequest(method="POST", query_string=f"code={CODE}&state={STATE}"),
    ],
    ids=range(13),
)
def test_a_code_and_a_state_are_found(request_: CallbackRequest) -> None:
    returned = parse_callback(request_)

    assert shown(returned) == (CODE, flow_id_of(STATE))
    assert not returned.foreign_state


@pytest.mark.parametrize(
    "request_",
    [got(f"code={CODE}"), *(posted(json.dumps(each), kind=JSON) for each in WITHOUT_STATE)],
    ids=["query", "absent in JSON", "null in JSON"],
)
def test_a_missing_state_is_absent_and_not_foreign(request_: CallbackRequest) -> None:
    returned = parse_callback(request_)

    assert shown(returned) == (CODE, None)
    assert not returned.foreign_state


FOREIGN = ["", "x", STATE[:-1], STATE + "a", STATE[:-1] + "%3D", "%C3%A9" * 11, "a" * 3000]


@pytest.mark.parametrize("state", FOREIGN, ids=len)
@both_ways
def test_a_state_of_another_shape_is_foreign(state: str, way: str) -> None:
    returned = parse_callback(carried(f"code={CODE}&state={state}", way))

    assert returned.foreign_state
    assert returned.flow_id is None


@pytest.mark.parametrize(
    ("query", "declined"),
    [
        ("error=access_denied", "access_denied"),
        ("error=access_denied&error_description=canary", "access_denied"),
        ("error=Access_denied", "error"),
        ("error=<script>".replace("<", "%3C").replace(">", "%3E"), "error"),
        ("error=", "error"),
        ("", "closed"),
        (f"state={STATE}", "closed"),
        ("Code=x&code[]=y&error_description=canary", "closed"),
    ],
)
def test_a_callback_without_a_code_has_one_of_three_reasons(query: str, declined: str) -> None:
    returned = parse_callback(got(query))

    assert returned.code is None
    assert returned.declined == declined


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Sec-Purpose", "prefetch"),
        ("Sec-Purpose", "prefetch;prerender"),
        ("Sec-Purpose", "prefetch;anonymous-client-ip"),
        ("Purpose", "prefetch"),
        ("Purpose", "Preview"),
        ("X-Purpose", "preview"),
        ("X-Moz", "prefetch"),
        ("x-moz", "PREFETCH"),
    ],
)
def test_a_prefetch_is_no_return(name: str, value: str, method: str) -> None:
    request = CallbackRequest(method=method, query_string=f"code={CODE}", headers={name: value})

    assert reason(request) == "prefetch"


@pytest.mark.parametrize("purpose", ["", "navigate", "fetch"])
def test_another_purpose_is_no_prefetch(purpose: str) -> None:
    headers = {"Sec-Purpose": purpose, "X-Moz": "other"}

    returned = parse_callback(CallbackRequest(query_string=f"code={CODE}", headers=headers))

    assert returned.code is not None


@pytest.mark.parametrize("name", ["code", "state", "error"])
@pytest.mark.parametrize("other", ["the same", "another", "empty"])
def test_a_repeated_parameter_is_refused_wherever_it_is(name: str, other: str) -> None:
    value = {"code": CODE, "state": STATE, "error": "access_denied"}[name]
    second = {"the same": value, "another": value[::-1], "empty": ""}[other]
    twice = f"{name}={value}&{name}={second}"
    escaped = "".join(f"%{ord(character):02x}" for character in name)

    refused = [
        got(twice),
        got(f"{name}={value}&x=1&{escaped}={second}"),
        got(f"{name}={second}&{name}={value}"),
        got(f"{name}={value}&{name}"),
        posted(twice),
        posted(f"{name}={value}", query=f"{name}={second}"),
        posted(json.dumps({name: second}), kind=JSON, query=f"{name}={value}"),
        posted(f'{{"{name}":"{value}","{name}":"{second}"}}', kind=JSON),
        posted(f'{{"{name}":null,"{name}":"{value}"}}', kind=JSON),
        posted(f'{{"{name}":"{value}","{name}":null}}', kind=JSON),
        posted(f'{{"{name}":"{value}","\\u{ord(name[0]):04x}{name[1:]}":"{second}"}}', kind=JSON),
    ]

    assert [reason(request) for request in refused] == ["malformed"] * len(refused)


@both_ways
def test_a_semicolon_separates_nothing(way: str) -> None:
    returned = parse_callback(carried(f"code={CODE};state={STATE};code=x", way))

    assert shown(returned) == (f"{CODE};state={STATE};code=x", None)


@both_ways
def test_twenty_parameters_are_taken_and_one_more_is_not(way: str) -> None:
    filler = "&".join(f"p{number}=1" for number in range(19))

    assert reason(carried(f"code={CODE}&{filler}", way)) is None
    assert reason(carried(f"code={CODE}&{filler}&q=1", way)) == "malformed"


def test_the_parameters_of_query_and_body_count_together() -> None:
    eleven = "&".join(f"p{number}=1" for number in range(11))

    assert reason(posted(eleven, query=eleven)) == "malformed"
    assert reason(posted(json.dumps({f"p{n}": n for n in range(21)}), kind=JSON)) == "malformed"


@both_ways
def test_four_kibibytes_are_taken_and_one_byte_more_is_not(way: str) -> None:
    fitting = f"code={CODE}&x=".ljust(4096, "a")

    assert reason(carried(fitting, way)) is None
    assert reason(carried(fitting + "a", way)) == "malformed"


ODD_ESCAPES = ["%", "%4", "%zz", "%u0041", "%%41", "%FF", "%C3", "%C0%AF", "%ED%A0%80"]
CONTROLS = ["%00", "%0A", "%0d", "%1F", "%7F", "%09"]
ODD_BYTES = ["é", "\x00", "\n", "\r\n", "\t", " ", "\x7f", "\xff"]


@pytest.mark.parametrize("odd", [*ODD_ESCAPES, *CONTROLS, *ODD_BYTES], ids=ascii)
@pytest.mark.parametrize("place", ["code={}", "x={}", "{}=x", "{}", "state={}"])
@both_ways
def test_odd_bytes_are_refused_wherever_they_are(odd: str, place: str, way: str) -> None:
    text = f"code={CODE}&" + place.format(odd) if "code" not in place else place.format(odd)

    assert reason(carried(text, way)) == "malformed"


@pytest.mark.parametrize("code", ["x", "a" * 512, "a%2Bb~!"])
@both_ways
def test_a_code_of_up_to_512_visible_characters_is_taken(code: str, way: str) -> None:
    assert reason(carried(f"code={code}", way)) is None


NO_CODES = [1, 1.5, True, [CODE], {"code": CODE}, "", "a\x00", "é", "\ud800", "a" * 513]
NO_OBJECTS = [b"", b"[]", b"null", b'"code"', b"1", b"NaN", b'[{"code":"x"}]', b'[["code","x"]]']
NO_JSON = [b"{", b"{}x", b"{'code': 1}", b"code=x", b'{"code":"\xff"}', b'\xef\xbb\xbf{"code":"x"}']
NO_JSON += [b"[" * 8192, b'{"a":' * 1600, b'{"a":' + b"9" * 5000 + b"}", '{"a":1}'.encode("utf-16")]
NOT_TEXT: list[Any] = [0, [], {}, True]
OTHER_TYPES = ["", "text/plain", "multipart/form-data; boundary=x", "application/jsonp", "x"]
OTHER_CODES = ["a" * 513, "", "a b", "a+b", "%20", "%C3%A9"]


def in_json(**members: Any) -> CallbackRequest:
    return posted(json.dumps(members), kind=JSON)


WAYS = ("query", "form")
MALFORMED = [carried(f"code={CODE}&error={e}", way) for e in ("x", "") for way in WAYS]
MALFORMED += [posted(f"code={CODE}", query="error=x"), in_json(code=CODE, error="x")]
MALFORMED += [posted(json.dumps({"code": CODE}), kind=JSON, query="error=x")]
MALFORMED += [carried(f"code={code}", way) for code in OTHER_CODES for way in WAYS]
MALFORMED += [in_json(code=code) for code in NO_CODES]
MALFORMED += [in_json(code=CODE, x=text) for text in ("a\x00", "a\n", "\x7f")]
MALFORMED += [in_json(**{name: x}) for name in ("state", "error") for x in NOT_TEXT]


@pytest.mark.parametrize("request_", MALFORMED, ids=range(len(MALFORMED)))
def test_a_code_beside_an_error_and_what_is_not_plain_text_is_refused(
    request_: CallbackRequest,
) -> None:
    assert reason(request_) == "malformed"


@pytest.mark.parametrize("body", [*NO_OBJECTS, *NO_JSON], ids=lambda body: ascii(body)[:24])
def test_a_body_that_is_not_a_json_object_is_refused(body: bytes) -> None:
    assert reason(posted(body, kind=JSON)) == "body"


@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_a_body_of_another_type_is_refused(kind: str) -> None:
    assert reason(posted(f"code={CODE}", kind=kind)) == "body"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "get", "COPY"])
def test_any_other_method_is_refused(method: str) -> None:
    assert reason(CallbackRequest(method=method, query_string=f"code={CODE}")) == "method"


CANARY = "c4n4ry"
SHAMED = [
    got(f"code={CANARY}&code={CANARY}"),
    got(f"code={CANARY}%FF"),
    got(f"code={CANARY}&error={CANARY}"),
    got(f"{CANARY}=%zz"),
    posted(f"code={CANARY}%C3"),
    posted(f'{{"code":"{CANARY}"', kind=JSON),
    posted(f'{{"code":["{CANARY}"]}}', kind=JSON),
    posted(f'{{"code":"{CANARY}","code":"{CANARY}"}}', kind=JSON),
    posted(f'{{"code":"{CANARY}\\u0000"}}', kind=JSON),
    posted(b'{"code":"' + CANARY.encode() + b'\xff"}', kind=JSON),
    posted(CANARY, kind=f"text/{CANARY}"),
]


@pytest.mark.parametrize("request_", SHAMED, ids=range(len(SHAMED)))
def test_a_fault_holds_nothing_of_the_input_not_even_in_its_frames(
    request_: CallbackRequest,
) -> None:
    with pytest.raises(ReturnFault) as refusal:
        parse_callback(request_)

    fault = refusal.value
    frames = traceback.TracebackException.from_exception(fault, capture_locals=True)
    assert CANARY not in "".join(frames.format())
    assert CANARY not in repr(vars(fault)) + repr(fault.args)
    # Python sets the context of an error that is raised behind an except block to nothing.
    assert fault.__context__ is None
    assert fault.__cause__ is None


def test_a_return_shows_neither_code_nor_state() -> None:
    text = repr(parse_callback(got(f"code={CODE}&state={STATE}")))

    assert CODE not in text
    assert STATE not in text
