"""The texts of the pages: plain, complete, and replaceable one by one."""

from __future__ import annotations

import re
from typing import Any

import pytest

from finch_middleware.outcomes import (
    FAILED_REASONS,
    INVALID_REASONS,
)
from finch_middleware.web.texts import TEXTS, find_faults
from tests.sample_outcomes import (
    UNREACHABLE,
    UNTRUSTED,
    Page,
    browser,
    make_pages,
)


class TestTexts:
    def test_stand_for_every_outcome_and_reason_and_no_other(self) -> None:
        expected = {"page", "begin", "invitation", "invitation.connected", "products"}
        expected |= {"connected", "finishing", "finishing.spooled", "declined"}
        expected |= {f"invalid.{reason}" for reason in INVALID_REASONS}
        expected |= {f"failed.{reason}" for reason in FAILED_REASONS}

        assert set(TEXTS) == expected

    @pytest.mark.parametrize("name", sorted(TEXTS))
    def test_hold_no_jargon(self, name: str) -> None:
        words = set(re.findall(r"[a-z]+", " ".join(TEXTS[name].values()).lower()))

        jargon = {"code", "token", "ticket", "callback", "state", "cookie", "session", "error",
                  "request", "server", "invalid", "http", "storage", "database"}  # fmt: skip
        assert words.isdisjoint(jargon)

    @pytest.mark.parametrize(
        "name", sorted(name for name in TEXTS if name.startswith(("invalid", "failed", "declined")))
    )
    def test_say_whether_anything_was_connected_and_what_to_do(self, name: str) -> None:
        body = TEXTS[name]["body"]

        assert re.search(r"Nothing new was connected", body)
        assert re.search(r"[Pp]lease|Open the page|You can start", body)

    @pytest.mark.parametrize("reason", ["payment_required", "client_rejected"])
    def test_do_not_blame_the_person_for_what_operators_must_fix(self, reason: str) -> None:
        body = TEXTS[f"failed.{reason}"]["body"]

        assert "You did nothing wrong" in body
        assert "The team behind $application" in body

    def test_name_the_application(self) -> None:
        with_brand = Page(make_pages(brand="R&D $1").respond(UNREACHABLE, browser()))
        without = Page(make_pages().respond(UNREACHABLE, browser()))

        assert with_brand.texts[".quiet"] == "Back to R&D $1"
        assert without.texts[".quiet"] == "Back to the application"
        assert ".brand" not in without.texts

    def test_of_the_application_replace_ours_one_by_one(self) -> None:
        own = {
            "page": {
                "lang": "de",
                "application": "unserer Seite",
                "back": "Zurück zu $application",
            },
            "failed.unreachable": {"title": "Ohne $$", "action": "Nochmal"},
        }

        page = Page(make_pages(texts=own).respond(UNREACHABLE, browser()))
        other = Page(make_pages(texts=own).respond(UNTRUSTED, browser()))

        assert page.all("html") == [{"lang": "de"}]
        assert page.texts["h1"] == "Ohne $"
        assert page.texts[".body"] == TEXTS["failed.unreachable"]["body"]
        assert page.texts[".primary"] == "Nochmal"
        assert page.texts[".quiet"] == "Zurück zu unserer Seite"
        assert other.texts["h1"] == TEXTS["invalid.expired"]["title"]

    def test_that_cannot_work_are_all_reported(self) -> None:
        own: Any = {
            "failed.unreacheable": {"title": "x"},
            "declined": "x",
            "connected": {"action": "x"},
            "finishing": {"title": 1},
            "invalid.expired": {"title": "$brand", "body": "costs 5$", "action": "$application"},
        }

        faults = list(find_faults(own))

        assert [fault.split(";")[0] for fault in faults] == [
            "texts: there is no text 'failed.unreacheable'",
            "texts: 'declined' must be a mapping such as {'title': …, 'body': …}",
            "texts: connected.action is not shown anywhere",
            "texts: finishing.title must be a str",
            "texts: invalid.expired.title mentions $brand",
            "texts: invalid.expired.body contains a $ without a placeholder",
        ]
