"""What a person or a script gets when a callback ends."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import example, given, strategies as st

from finch_middleware.outcomes import (
    Connected,
    Failed,
    Finishing,
    Invalid,
    Outcome,
    Repeated,
    Retry,
)
from finch_middleware.web.pages import At
from finch_middleware.web.request import CallbackRequest
from tests.sample_outcomes import (
    COMMON,
    CONNECTED,
    COOKIE,
    DECLINED,
    EVERY,
    FAILED,
    IN_PROGRESS,
    INVALID,
    RENDERED,
    SPOOLED,
    UNREACHABLE,
    UNTRUSTED,
    Page,
    browser,
    make_pages,
    named,
    script,
)

NEEDS_OPERATORS = ("payment_required", "client_rejected")
PAGES_THAT_BEGIN = make_pages(
    begin_path="/app/connect", customer_of=print, connect_origin="https://connect.test"
)


def begins_anew(outcome: Outcome, *, sent_by_form: bool = False) -> bool:
    """Whether starting again helps, and needs nothing of the application first."""
    ended = outcome.first if isinstance(outcome, Repeated) else outcome
    if getattr(ended, "reason", "") in ("signed_out", "other_customer"):
        return False
    if isinstance(ended, Finishing) or getattr(ended, "reason", "") in NEEDS_OPERATORS:
        return False
    return ended.retry is Retry.RESTART or (sent_by_form and ended.retry is Retry.RELOAD)


class TestBrowser:
    @pytest.mark.parametrize(
        ("outcome", "word"),
        [
            (CONNECTED, "connected"),
            (SPOOLED, "finishing"),
            (DECLINED, "declined"),
            (Repeated(first=CONNECTED), "connected"),
        ],
        ids=named,
    )
    def test_continues_to_return_to_with_the_outcome_and_the_reference(
        self, outcome: Outcome, word: str
    ) -> None:
        response = make_pages().respond(outcome, browser())

        assert response.status_code == 303
        assert response.headers["Location"] == (
            f"/settings?tab=payroll&finch={word}&finch_ref=7K3Q9XWD#finch"
        )

    @pytest.mark.parametrize(
        ("return_to", "expected"),
        [
            ("/", "/?finch=connected&finch_ref=r"),
            ("/a?", "/a?finch=connected&finch_ref=r"),
            ("/a#b?c", "/a?finch=connected&finch_ref=r#b?c"),
            ("/a?x=%2f+%20&&y&x=", "/a?x=%2f+%20&&y&x=&finch=connected&finch_ref=r"),
            ("/a?finch=x&b=1&finch_ref=y&finch", "/a?b=1&finch=connected&finch_ref=r"),
            ("/a?%66inch=x&finch_referrer=z", "/a?finch_referrer=z&finch=connected&finch_ref=r"),
        ],
    )
    def test_hint_replaces_an_older_one_and_leaves_all_else_as_it_was(
        self, return_to: str, expected: str
    ) -> None:
        outcome = Connected(connection_id="c", customer_id="a", reference="r", return_to=return_to)

        response = make_pages().respond(outcome, browser())

        assert response.headers["Location"] == expected

    @pytest.mark.parametrize(
        "return_to",
        ["", "settings", "//evil.test", "/\\evil.test", "https://evil.test/", "/a\r\nX: y",
         "/a b", "/\x00", "/\x7f", "/é", "/\ud800", "/%0d%0aX:y", "/%2fevil.test"],
    )  # fmt: skip
    def test_a_return_to_that_is_no_local_path_becomes_the_root(self, return_to: str) -> None:
        common: dict[str, Any] = {"reference": "r", "return_to": return_to}
        connected = Connected(connection_id="c", customer_id="a", **common)
        invalid = Invalid(reason="expired", **common)

        sent_on = make_pages().respond(connected, browser())
        page = Page(make_pages().respond(invalid, browser()))
        shown = make_pages().respond(invalid, script()).get_json()

        assert sent_on.headers["Location"] == "/?finch=connected&finch_ref=r"
        assert page.links == [("primary", "/")]
        assert shown["return_to"] == "/"

    @given(return_to=st.text() | st.text("/?#&=%finch_ref;\\\r\n").map("/".__add__))
    @example("/?a=1&finch=2&&b")
    def test_no_return_to_reaches_a_header_as_more_than_a_local_path(self, return_to: str) -> None:
        outcome = Connected(connection_id="c", customer_id="a", reference="r", return_to=return_to)

        response = make_pages().respond(outcome, browser())

        assert re.fullmatch(r"[\x21-\x7e]+", response.headers["Location"])
        location = urlsplit(response.headers["Location"])
        assert (location.scheme, location.netloc) == ("", "")
        assert location.path.startswith("/")
        assert parse_qsl(location.query)[-2:] == [("finch", "connected"), ("finch_ref", "r")]

    @given(st.lists(st.from_regex(r"([a-z=+;?/]|%[0-9a-f]{2}){0,8}", fullmatch=True), max_size=6))
    def test_hint_leaves_every_other_parameter_in_place_byte_for_byte(
        self, parameters: list[str]
    ) -> None:
        return_to = f"/a?{'&'.join(parameters)}#f"
        outcome = Connected(connection_id="c", customer_id="a", reference="r", return_to=return_to)

        response = make_pages().respond(outcome, browser())

        before = return_to.removesuffix("#f")
        joint = "" if before == "/a?" else "&"
        assert response.headers["Location"] == f"{before}{joint}finch=connected&finch_ref=r#f"

    @pytest.mark.parametrize("outcome", RENDERED, ids=named)
    def test_stays_with_the_status_and_reads_what_happened(self, outcome: Outcome) -> None:
        response = make_pages(brand="Northwind").respond(outcome, browser())

        page = Page(response)
        ended = outcome.first if isinstance(outcome, Repeated) else outcome
        assert response.status_code == ended.status
        assert response.mimetype == "text/html"
        assert "Location" not in response.headers
        assert page.texts["h1"]
        assert page.texts["title"] == page.texts["h1"]
        assert "$" not in page.texts[".body"]
        assert page.texts["code"] == "7K3Q9XWD"
        assert page.texts[".brand"] == "Northwind"

    @pytest.mark.parametrize("outcome", RENDERED, ids=named)
    def test_finds_one_clear_action_first(self, outcome: Outcome) -> None:
        page = Page(make_pages().respond(outcome, browser()))

        ended = outcome.first if isinstance(outcome, Repeated) else outcome
        home, again = "/settings?tab=payroll#finch", ""
        if isinstance(ended, Finishing):
            expected = [("quiet", again)]
        elif ended.retry is not Retry.RELOAD:
            expected = [("primary", home)]
        elif getattr(ended, "reason", "") in NEEDS_OPERATORS:
            expected = [("primary", home), ("quiet", again)]
        else:
            expected = [("primary", again), ("quiet", home)]
        assert page.links == expected

    @pytest.mark.parametrize("outcome", RENDERED, ids=named)
    def test_starts_again_with_a_button_where_there_is_a_begin_path(self, outcome: Outcome) -> None:
        page = Page(PAGES_THAT_BEGIN.respond(outcome, browser()))

        plain = Page(make_pages().respond(outcome, browser()))
        if begins_anew(outcome):
            assert page.all("form") == [{"method": "post", "action": "/app/connect"}]
            assert page.all("button") == [{"class": "primary"}]
            assert page.texts[".primary"] == "Start again"
            assert plain.texts[".primary"] == "Back to the application"
            assert page.links == [("quiet", "/settings?tab=payroll#finch")]
            assert page.texts[".quiet"] == "Back to the application"
        else:
            assert (page.all("form"), page.links) == ([], plain.links)

    @pytest.mark.parametrize("method", ["POST", "GET"])
    @pytest.mark.parametrize("outcome", RENDERED, ids=named)
    def test_is_offered_no_reload_of_what_a_form_has_sent(
        self, outcome: Outcome, method: str
    ) -> None:
        # Without its request, a failure of `begin` cannot know that a form was sent.
        request = browser(method)
        at: At = "begin" if method == "GET" else "callback"

        response = make_pages().respond(outcome, request, at=at)
        with_form = Page(PAGES_THAT_BEGIN.respond(outcome, request, at=at))

        page = Page(response)
        ended = outcome.first if isinstance(outcome, Repeated) else outcome
        anew = begins_anew(outcome, sent_by_form=True)
        assert page.links == [("primary", "/settings?tab=payroll#finch")]
        assert "Refresh" not in response.headers
        assert ("press the button again." in page.texts[".body"]) is (
            anew and ended.retry is Retry.RELOAD
        )
        assert bool(with_form.all("form")) is anew
        assert "press the button" not in with_form.texts[".body"]

    def test_sees_the_page_refresh_itself_while_another_request_is_at_work(self) -> None:
        response = make_pages().respond(IN_PROGRESS, browser())

        assert response.status_code == 202
        assert response.headers["Refresh"] == "2"

    @pytest.mark.parametrize("outcome", [*INVALID, *FAILED], ids=named)
    def test_sees_no_other_page_refresh_itself(self, outcome: Outcome) -> None:
        response = make_pages().respond(outcome, browser())

        assert "Refresh" not in response.headers


class TestScript:
    @pytest.mark.parametrize("outcome", EVERY, ids=named)
    def test_gets_the_outcome_as_json_with_its_status(self, outcome: Outcome) -> None:
        response = make_pages().respond(outcome, script())

        ended = outcome.first if isinstance(outcome, Repeated) else outcome
        shown = response.get_json()
        assert response.status_code == ended.status
        assert response.mimetype == "application/json"
        assert shown["outcome"] == type(ended).__name__.lower()
        assert shown["reference"] == "7K3Q9XWD"
        assert shown["retry"] == ended.retry
        assert shown["return_to"] == "/settings?tab=payroll#finch"
        assert shown["message"].endswith(".")
        assert "$" not in shown["message"]
        assert shown.get("connection_id") == getattr(ended, "connection_id", None)
        assert ("connection_id" in shown) == isinstance(ended, Connected)
        reason = getattr(ended, "reason", None) if isinstance(ended, Invalid | Failed) else None
        assert shown.get("reason") == reason

    def test_reads_title_and_text_as_sentences(self) -> None:
        own = {"failed.unreachable": {"title": "Oh dear!", "body": "Wait."}}

        plain = make_pages().respond(CONNECTED, script()).get_json()["message"]
        exclaimed = make_pages(texts=own).respond(UNREACHABLE, script()).get_json()["message"]

        assert plain.startswith("Your payroll is connected. You can")
        assert exclaimed == "Oh dear! Wait."

    @pytest.mark.parametrize("first", [CONNECTED, UNTRUSTED, UNREACHABLE], ids=named)
    def test_gets_the_same_answer_to_a_repeat_as_to_the_first(
        self, first: Connected | Invalid | Failed
    ) -> None:
        answer = make_pages().respond(first, script())
        repeated = make_pages().respond(Repeated(first=first, cookies=(COOKIE,)), script())

        assert repeated.get_data() == answer.get_data()
        assert repeated.status == answer.status
        assert repeated.headers.getlist("Set-Cookie") != []


class TestMethods:
    REFUSED = Invalid(reason="method", **COMMON)
    ALLOW = "GET, HEAD, POST, OPTIONS"

    def test_head_is_answered_with_nothing(self) -> None:
        response = make_pages().respond(self.REFUSED, browser("HEAD"))

        assert (response.status_code, response.get_data()) == (200, b"")

    def test_options_names_the_methods(self) -> None:
        response = make_pages().respond(self.REFUSED, browser("OPTIONS"))

        assert (response.status_code, response.get_data()) == (204, b"")
        assert response.headers["Allow"] == self.ALLOW

    @pytest.mark.parametrize("mode", ["navigate", "cors"])
    def test_any_other_is_refused_with_the_allowed_methods(self, mode: str) -> None:
        request = browser("PUT", **{"Sec-Fetch-Mode": mode})

        response = make_pages().respond(self.REFUSED, request)

        assert response.status_code == 405
        assert response.headers["Allow"] == self.ALLOW

    def test_head_of_another_outcome_is_not_taken_for_success(self) -> None:
        response = make_pages().respond(Invalid(reason="prefetch", **COMMON), browser("HEAD"))

        assert response.status_code == 503


class TestWaiting:
    @pytest.mark.parametrize("request_", [browser(), script()], ids=["browser", "script"])
    @pytest.mark.parametrize("outcome", [*INVALID, *FAILED], ids=named)
    def test_what_is_unavailable_for_a_while_has_a_retry_after(
        self, outcome: Invalid | Failed, request_: CallbackRequest
    ) -> None:
        response = make_pages().respond(outcome, request_)

        assert response.headers.get("Retry-After") == ("5" if outcome.status == 503 else None)

    @pytest.mark.parametrize(("seconds", "said"), [(0, "0"), (42, "42"), (-1, "0")])
    def test_an_outcome_that_knows_how_long_has_that_retry_after(
        self, seconds: int, said: str
    ) -> None:
        outcome = Failed(reason="unreachable", retry_after=seconds, **COMMON)

        response = make_pages().respond(outcome, browser())

        assert response.headers["Retry-After"] == said
