"""The documents lead nowhere that is not there: files, anchors and links that they name exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
HOWTOS = sorted((ROOT / "docs" / "howto").glob("add-*.md"))

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_PATH = re.compile(r"`((?:src|tests|docs|bench|examples|deploy)/[\w./-]+)`")
_IDENTIFIER = re.compile(r"`@?(?!null`)([A-Za-z_]\w+[A-Za-z0-9])(?:\(|=|`)")
_ANCHOR = re.compile(r'<a id="([\w-]+)"></a>')
_CITATION = re.compile(r"docs/specification\.md(?:`)?(?: \(|)#([\w-]+)")


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def headings(document: Path) -> set[str]:
    """The anchors of a document: those that it sets itself and those that its headings make."""
    text = document.read_text("utf-8")
    made = {
        re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    return made | set(_ANCHOR.findall(text))


@pytest.mark.parametrize("document", DOCUMENTS, ids=short)
class TestEveryDocument:
    def test_links_to_what_is_there(self, document: Path) -> None:
        missing = []
        for target in _LINK.findall(document.read_text("utf-8")):
            if "://" in target or target.startswith("mailto:"):
                continue
            path, _, anchor = target.partition("#")
            linked = (document.parent / path).resolve() if path else document
            if not linked.exists() or (anchor and linked.suffix == ".md" and anchor not in headings(linked)):
                missing.append(target)
        assert not missing


@pytest.mark.parametrize("howto", HOWTOS, ids=short)
class TestEveryHowto:
    def test_has_five_steps(self, howto: Path) -> None:
        assert re.findall(r"^(\d)\. ", howto.read_text("utf-8"), re.MULTILINE) == ["1", "2", "3", "4", "5"]

    def test_names_files_that_are_there(self, howto: Path) -> None:
        named = [name.rstrip("/") for name in _PATH.findall(howto.read_text("utf-8"))]
        assert named
        assert [name for name in named if not (ROOT / name).exists()] == []

    def test_names_what_is_in_these_files(self, howto: Path) -> None:
        missing = []
        for step in re.split(r"^\d\. ", howto.read_text("utf-8"), flags=re.MULTILINE)[1:]:
            files = [ROOT / name for name in _PATH.findall(step)]
            texts = [
                path.read_text("utf-8") for file in files for path in ([file] if file.is_file() else file.glob("*.py"))
            ]
            names = _IDENTIFIER.findall(step) if texts else []
            missing += [name for name in names if not any(re.search(rf"\b{name}\b", text) for text in texts)]
        assert missing == []


def test_each_of_ten_changes_has_its_page() -> None:
    changes = [
        "receiver",
        "reason",
        "task",
        "goal-field",
        "notice",
        "setting",
        "operation",
        "metric",
        "goal-kind",
        "fake",
    ]
    assert {howto.stem.removeprefix("add-").removeprefix("a-").removeprefix("an-") for howto in HOWTOS} == set(changes)


class TestCitations:
    def test_of_the_specification_name_an_anchor_that_is_there(self) -> None:
        anchors = headings(ROOT / "docs" / "specification.md")
        sources = [path for room in ("src", "tests", "bench", "docs") for path in (ROOT / room).rglob("*.[pm][yd]")]
        cited = {anchor for path in sources for anchor in _CITATION.findall(path.read_text("utf-8"))}
        assert cited - anchors == set()
