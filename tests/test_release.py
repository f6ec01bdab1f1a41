"""A release: what the script of the checklist builds from a tag, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

from finch_middleware import __version__

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://git.example/finch-middleware"
SIGNER = "Ann Example <ann@example.com>"

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a repository has tags"),
]


def git(*arguments: str, at: Path) -> None:
    identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=at, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A clone of this repository whose changelog has a section for this version."""
    clone = tmp_path / "clone"
    git("clone", "--quiet", str(ROOT), str(clone), at=tmp_path)
    changelog = clone / "CHANGELOG.md"
    changelog.write_text(
        changelog.read_text().replace("[Unreleased]", f"[{__version__}] - 2026-11-27", 1)
    )
    git("commit", "--quiet", "--all", "--message", "Release", at=clone)
    return clone


def release(repository: Path, tag: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [repository / ".ci" / "release", tag, SIGNER, folder],
        env={**os.environ, "FINCH_MIDDLEWARE_REPOSITORY": REPOSITORY, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )


def test_a_tag_becomes_a_wheel_with_urls_an_sbom_and_a_signed_checklist(
    repository: Path, tmp_path: Path
) -> None:
    tag, built = f"v{__version__}", tmp_path / "built"
    git("tag", tag, at=repository)

    result = release(repository, tag, built)

    assert result.returncode == 0, result.stdout + result.stderr
    checklist = (built / "CHECKLIST.md").read_text()
    assert checklist.count("- [x] ") == 6
    assert checklist.endswith(f"Signed-off-by: {SIGNER}\n")
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=built, check=True)
    sbom = json.loads((built / "sbom.cdx.json").read_text())
    listed = {each["name"].lower() for each in sbom["components"]}
    assert {"finch-middleware", "cryptography", "sqlalchemy", "requests"} <= listed
    [wheel] = built.glob("*.whl")
    text = zipfile.ZipFile(wheel).read(f"finch_middleware-{__version__}.dist-info/METADATA")
    metadata = HeaderParser().parsestr(text.decode())
    assert f"Source, {REPOSITORY}" in (metadata.get_all("Project-URL") or [])
    links = re.findall(r"\]\(([^)]+)\)", metadata.get_payload())
    assert f"{REPOSITORY}/blob/{tag}/docs/security.md" in links
    assert [link for link in links if not link.startswith("https://")] == []


@pytest.mark.parametrize(
    ("tag", "reason"),
    [("v9.9.9", "there is no tag v9.9.9"), ("v0.0.0", "has another version than 0.0.0")],
)
def test_what_is_not_the_tagged_version_is_refused(
    repository: Path, tmp_path: Path, tag: str, reason: str
) -> None:
    git("tag", "v0.0.0", at=repository)

    result = release(repository, tag, tmp_path / "built")

    assert result.returncode == 1
    assert result.stderr.startswith("refused: ")
    assert reason in result.stderr
    assert not (tmp_path / "built").exists()
