"""`compose.yaml` sets every variable, `deploy/` and `.env.example` name none that does not exist."""

import re
from pathlib import Path

import pytest
import yaml

from goalsvc.settings import Settings

ROOT = Path(__file__).parents[2]
VARIABLES = {f"GOALSVC_{name.upper()}" for name in Settings.model_fields}
COMPOSE = (ROOT / "compose.yaml").read_text("utf-8")
DEPLOYED = [path for path in sorted((ROOT / "deploy").rglob("*")) if path.suffix in (".yaml", ".service", ".md")]

_VARIABLE = re.compile(r"\bGOALSVC_[A-Z0-9_]+\b")
_INTERPOLATED = re.compile(r"\$\{([A-Z0-9_]+)")


def test_compose_sets_every_variable_and_no_other() -> None:
    environment = yaml.safe_load(COMPOSE)["x-goalsvc"]["environment"]
    assert {name for name in environment if name.startswith("GOALSVC_")} == VARIABLES


@pytest.mark.parametrize("path", DEPLOYED, ids=lambda path: path.name)
def test_what_is_deployed_names_variables_that_exist(path: Path) -> None:
    assert set(_VARIABLE.findall(path.read_text("utf-8"))) - VARIABLES == set()


def test_the_example_has_what_compose_asks_for_and_nothing_else() -> None:
    example = re.findall(r"^([A-Z0-9_]+)=", (ROOT / ".env.example").read_text("utf-8"), re.MULTILINE)
    demanded = set(re.findall(r"\$\{([A-Z0-9_]+):\?", COMPOSE))
    assert demanded <= set(example) <= set(_INTERPOLATED.findall(COMPOSE))
