"""The page itself: safe, self-contained, accessible, and replaceable by the application."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from finch_middleware.outcomes import (
    Declined,
    Invalid,
    Outcome,
)
from finch_middleware.web.html import template_faults
from finch_middleware.web.texts import TEXTS
from tests.sample_outcomes import (
    RENDERED,
    UNTRUSTED,
    Page,
    browser,
    make_pages,
    named,
)

HOSTILE = "\"'><script src=//evil.test>&amp;${title}$nonce\N{SNOWMAN}"


class TestPage:
    @pytest.mark.parametrize("outcome", RENDERED, ids=named)
    def test_loads_nothing_and_runs_nothing(self, outcome: Outcome) -> None:
        response = make_pages(brand="Northwind").respond(outcome, browser())

        page = Page(response)
        html = response.get_data(as_text=True)
        loading = {"script", "link", "img", "iframe", "object", "embed", "form", "base", "svg"}
        assert {tag for tag, _ in page.elements}.isdisjoint(loading)
        assert not any(name in a for _, a in page.elements for name in ("src", "style", "onclick"))
        assert not re.search(r"//|url\(|@import", html)

    def test_style_is_let_in_by_a_nonce_that_is_never_used_twice(self) -> None:
        pages = make_pages()

        responses = [pages.respond(UNTRUSTED, browser()) for _ in range(3)]

        nonces = [Page(response).all("style")[0]["nonce"] for response in responses]
        assert len(set(nonces)) == 3
        for nonce, response in zip(nonces, responses, strict=True):
            assert f"style-src 'nonce-{nonce}';" in response.headers["Content-Security-Policy"]

    def test_is_made_for_phones_and_screen_readers(self) -> None:
        page = Page(make_pages().respond(UNTRUSTED, browser()))

        metas = {meta.get("name"): meta.get("content") for meta in page.all("meta")}
        assert page.all("html") == [{"lang": "en"}]
        assert metas["viewport"] == "width=device-width, initial-scale=1"
        assert len(page.all("main")) == len(page.all("h1")) == len(page.all("title")) == 1
        marks = [div for div in page.all("div") if div["class"] == "mark"]
        assert [mark["aria-hidden"] for mark in marks] == ["true"]
        assert ":focus-visible" in page.texts["style"]

    def test_shows_hostile_words_as_words(self) -> None:
        own = {"page": dict.fromkeys(TEXTS["page"], HOSTILE.replace("$", "$$"))}
        own["invalid.expired"] = dict.fromkeys(("title", "body"), HOSTILE.replace("$", "$$"))
        outcome = Invalid(reason="expired", reference=HOSTILE, return_to="/a?b='&lt;c=1")

        page = Page(make_pages(brand=HOSTILE, texts=own).respond(outcome, browser()))

        plain = Page(make_pages(brand="b").respond(outcome, browser()))
        assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
        shown = ("title", "h1", ".body", ".brand", "code", ".primary")
        assert [page.texts[where] for where in shown] == [HOSTILE] * len(shown)
        assert page.all("html") == [{"lang": HOSTILE}]
        assert page.links == [("primary", "/a?b='&lt;c=1")]

    def test_hostile_reference_is_encoded_in_an_address(self) -> None:
        outcome = Declined(reason="closed", reference="a&b=c#\r\né", return_to="/")

        response = make_pages().respond(outcome, browser())

        assert response.headers["Location"] == (
            "/?finch=declined&finch_ref=a%26b%3Dc%23%0D%0A%C3%A9"
        )

    @pytest.mark.parametrize("theme", ["light", "dark"])
    @pytest.mark.parametrize("outcome", ["", "invalid", "failed"])
    def test_every_text_contrasts_as_wcag_aa_asks(self, theme: str, outcome: str) -> None:
        colors = palette(theme, outcome)

        pairs = [("ink", "card"), ("soft", "card"), ("soft", "ground"), ("accent", "card"),
                 ("on-accent", "accent"), ("mark", "tint")]  # fmt: skip
        ratios = {pair: contrast(colors[pair[0]], colors[pair[1]]) for pair in pairs}
        assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}


def palette(theme: str, outcome: str) -> dict[str, str]:
    """The colors of the page, as the cascade leaves them."""
    style = Page(make_pages().respond(UNTRUSTED, browser())).texts["style"]
    dark = "".join(re.findall(r"@media \(prefers-color-scheme: dark\) \{(.*?)\n\}", style, re.S))
    light = re.sub(r"@media \(prefers-color-scheme: dark\) \{.*?\n\}", "", style, flags=re.S)
    colors: dict[str, str] = {}
    for sheet in (light, dark) if theme == "dark" else (light,):
        for selector in (":root", f"main.{outcome}") if outcome else (":root",):
            for block in re.findall(re.escape(selector) + r" \{(.*?)\}", sheet, re.S):
                colors.update(re.findall(r"--([\w-]+): #([0-9a-f]{6})", block))
    return colors


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio"."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    """WCAG 2.2, "relative luminance"."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class TestTemplates:
    def test_of_the_application_take_the_place_of_ours(self, tmp_path: Path) -> None:
        names = ["outcome", "title", "body", "brand", "lang", "reference", "reference_label",
                 "help", "nonce", "actions"]  # fmt: skip
        text = json.dumps({name: f"${name}" for name in names}).replace('\\"', "")
        (tmp_path / "page.html").write_text(f"<p>$$ $outcome|$reference|$brand</p><i>{text}</i>")

        response = make_pages(brand="é", templates=str(tmp_path)).respond(UNTRUSTED, browser())

        html = response.get_data(as_text=True)
        assert html.startswith("<p>$ invalid|7K3Q9XWD|é</p>")
        assert "$" not in html.removeprefix("<p>$")

    @pytest.mark.parametrize(
        ("content", "fault"),
        [
            (b"$title $code $user", ["mentions $code; it may", "mentions $user; it may"]),
            (b"costs 5$ only", ["contains a $ without a placeholder"]),
            (b"\xff", ["is not UTF-8"]),
            (None, ["page.html cannot be read"]),
        ],
        ids=["unknown", "stray", "encoding", "missing"],
    )
    def test_that_cannot_work_are_reported(
        self, tmp_path: Path, content: bytes | None, fault: list[str]
    ) -> None:
        if content is not None:
            (tmp_path / "page.html").write_bytes(content)

        faults = template_faults(tmp_path)

        for text, part in zip(faults, fault, strict=True):
            assert part in text
