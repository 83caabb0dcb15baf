"""The documentation as a site: it builds without a warning, has every page, and fetches nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

NAVIGATION = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
FETCHED = r"<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>"
STYLED = r"(?:@import|url\()\s*[\"']?(?:https?:)?//"
"""What makes a browser fetch something from elsewhere: in a page, and in a style."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. A link, an anchor or a page that is missing is a warning, and so an error."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_navigation_has_a_part_for_each_question() -> None:
    parts = [name for entry in NAVIGATION for name in entry]
    assert parts[:5] == ["Home", "Start", "Data", "Methods", "Results"]
    assert parts[5:] == ["Cluster", "Formats", "Troubleshooting", "Reference"]


def test_every_page_is_built_with_its_tables(site: Path) -> None:
    for page in (ROOT / "docs").glob("*.md"):
        tables = re.findall(r"^\|[-|: ]+\|$", page.read_text(), re.MULTILINE)
        assert (site / f"{page.stem}.html").read_text().count("<table") == len(tables), page.name
    assert (site / "gallery.png").is_file() and (site / "config.schema.json").is_file()


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = {path.name: re.findall(FETCHED, path.read_text()) for path in site.glob("*.html")}
    assert pages and not {name: found for name, found in pages.items() if found}
    styles = [path for path in site.rglob("*.css") if path.stat().st_size]
    assert styles and not [path.name for path in styles if re.search(STYLED, path.read_text())]
