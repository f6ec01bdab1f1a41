"""
The HTML of a page: its template, links and buttons.

The template is a `string.Template` in UTF-8, called ``page.html``. docs/pages_and_hooks.md, "Your
page", states what its placeholders mean.
"""

from __future__ import annotations

from html import escape
from importlib import resources
from pathlib import Path
from string import Template

PLACEHOLDERS = frozenset(
    {"actions", "body", "brand", "help", "lang", "nonce", "outcome", "reference"}
    | {"reference_label", "title"}
)


def template_faults(folder: str | Path | None) -> list[str]:
    """What is wrong with the template in *folder*, one sentence each."""
    return load_template(folder)[1]


def load_template(folder: str | Path | None) -> tuple[Template, list[str]]:
    ours = resources.files("finch_middleware.web")
    source = (ours if folder is None else Path(folder)) / "page.html"
    try:
        page = Template(source.read_text(encoding="utf-8"))
    except OSError:
        return Template(""), [f"templates: {source} cannot be read; pass a folder with a page.html"]
    except UnicodeDecodeError:
        return Template(""), [f"templates: {source} is not UTF-8; save it as UTF-8"]
    if not page.is_valid():
        return page, [
            f"templates: {source} contains a $ without a placeholder; write $$ for a dollar sign"
        ]
    known = ", ".join(f"${name}" for name in sorted(PLACEHOLDERS))
    unknown = sorted(set(page.get_identifiers()) - PLACEHOLDERS)
    return page, [
        f"templates: {source} mentions ${name}; it may mention {known}" for name in unknown
    ]


def begin_form(label: str, *, action: str = "") -> str:
    """A button that begins a flow by a POST to *action*; empty: to the page's own address."""
    target = f' action="{escape(action)}"' if action else ""
    return f'<form method="post"{target}><button class="primary">{escape(label)}</button></form>'


def link(kind: str, label: str, href: str) -> str:
    return f'<a class="{kind}" href="{escape(href)}">{escape(label)}</a>'
