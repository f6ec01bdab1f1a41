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


def load_template(folder: Path | None) -> Template:
    """The template in *folder*, or else ours. Raises OSError or UnicodeDecodeError."""
    source = folder or resources.files("finch_middleware.web")
    return Template((source / "page.html").read_text(encoding="utf-8"))


def template_faults(folder: Path | None) -> list[str]:
    """What is wrong with the template in *folder*, one sentence each."""
    source = f"templates: {folder}/page.html"
    try:
        page = load_template(folder)
    except OSError:
        return [f"{source} cannot be read; pass a folder with a page.html"]
    except UnicodeDecodeError:
        return [f"{source} is not UTF-8; save it as UTF-8"]
    if not page.is_valid():
        return [f"{source} contains a $ without a placeholder; write $$ for a dollar sign"]
    names = sorted(load_template(None).get_identifiers())
    known, unknown = ", $".join(names), sorted(set(page.get_identifiers()) - set(names))
    return [f"{source} mentions ${name}; it may mention ${known}" for name in unknown]


def begin_form(label: str, *, action: str = "") -> str:
    """A button that begins a flow by a POST to *action*; empty: to the page's own address."""
    target = f' action="{escape(action)}"' if action else ""
    return f'<form method="post"{target}><button class="primary">{escape(label)}</button></form>'


def link(kind: str, label: str, href: str) -> str:
    return f'<a class="{kind}" href="{escape(href)}">{escape(label)}</a>'
