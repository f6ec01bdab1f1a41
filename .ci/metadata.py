"""
What a release adds to the metadata: project URLs, and a README whose links work on an index page.

FINCH_MIDDLEWARE_REPOSITORY holds the address of the repository as browsers open it. Without it,
as in development, the README stays as it is and there are no URLs.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s]+)\)")


class RepositoryMetadata(MetadataHookInterface):
    """Fills in `readme` and `urls`, which pyproject.toml declares as dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        repository = os.environ.get("FINCH_MIDDLEWARE_REPOSITORY", "").rstrip("/")
        metadata["urls"] = {}
        if repository:
            files = f"{repository}/blob/v{metadata['version']}"
            readme = _RELATIVE_LINK.sub(rf"]({files}/\1)", readme)
            metadata["urls"] = {
                "Source": repository,
                "Documentation": f"{files}/docs/index.md",
                "Changelog": f"{files}/CHANGELOG.md",
                "Issues": f"{repository}/issues",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": readme}
