"""The README's table of settings is that of `Settings`, and its map has every package and no other."""

import re
from pathlib import Path

import pytest

from goalsvc.settings import Settings

ROOT = Path(__file__).parents[2]
VARIABLES = {f"GOALSVC_{name.upper()}" for name in Settings.model_fields}
#: What only `goalsvc dev` reads, past the settings.
FOR_DEVELOPMENT = {
    variable
    for path in (ROOT / "src" / "goalsvc" / "devstack").rglob("*.py")
    for variable in re.findall(r"GOALSVC_DEV_[A-Z0-9_]*[A-Z0-9]\b", path.read_text("utf-8"))
}


def rows() -> dict[str, list[str]]:
    """Of every line of a table that names one of our variables first: variable → its other cells."""
    found = {}
    for line in (ROOT / "README.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        variable = re.fullmatch(r"`(GOALSVC_[A-Z0-9_]+)`", cells[0])
        if line.startswith("|") and variable:
            found[variable[1]] = cells[1:]
    return found


class TestSettingsTable:
    def test_has_every_variable_and_no_other(self) -> None:
        assert set(rows()) == VARIABLES | FOR_DEVELOPMENT

    @pytest.mark.parametrize("variable", sorted(VARIABLES | FOR_DEVELOPMENT))
    def test_says_default_and_meaning(self, variable: str) -> None:
        default, meaning = rows()[variable]
        assert default
        assert meaning


class TestMap:
    def test_has_every_package_and_no_other(self) -> None:
        drawn = (ROOT / "README.md").read_text("utf-8").split("```\nsrc/goalsvc/\n")[1].split("```")[0]
        shown = set(re.findall(r"^  ([a-z]+)/ ", drawn, re.MULTILINE))
        assert shown == {path.parent.name for path in (ROOT / "src" / "goalsvc").glob("*/__init__.py")}
