"""`docs/reference/` and `docs/llms.txt` are what the code says, and the site leads to them."""

import re

import pytest

from .reference import DOCS, address_of, navigation, render

WRITTEN = render()


@pytest.mark.parametrize("path", WRITTEN)
def test_is_current(path: str) -> None:
    assert (DOCS / path).read_text("utf-8") == WRITTEN[path], "run `make reference`"


def test_nothing_else_is_among_the_generated_documents() -> None:
    assert {f"reference/{path.name}" for path in (DOCS / "reference").iterdir()} == set(WRITTEN) - {"llms.txt"}


def test_the_site_leads_to_every_one() -> None:
    assert set(WRITTEN) - {"llms.txt"} <= {path for _, _, path in navigation()}


def test_the_index_leads_to_pages_that_are_there() -> None:
    pages = {address_of(path): path for _, _, path in navigation()}
    linked = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): .+\.$", (DOCS / "llms.txt").read_text("utf-8"), re.MULTILINE)
    assert sorted(linked) == sorted(pages)
    assert [path for path in pages.values() if not (DOCS / path).is_file()] == []


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("index.md", "./"),
        ("concepts.md", "concepts/"),
        ("howto/README.md", "howto/"),
        ("tutorials/backend.md", "tutorials/backend/"),
    ],
)
def test_addresses_are_those_of_the_site(path: str, address: str) -> None:
    assert address_of(path) == address
