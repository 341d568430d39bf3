"""What operators are given is true: each metric that is named exists, each alert has its runbook and its test."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.routing import APIRoute

from goalsvc.commands.preflight import _COMMANDS
from goalsvc.console import pages as console
from goalsvc.tasks.census import CensusFigures
from tests.drills.rights import granted_to_redis

from .reference import declared_metrics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "goalsvc.rules.yml"
RUNBOOKS = ROOT / "docs" / "runbooks"

#: What people are given to read or to run; the endings of texts.
TEXTS = sorted(
    path
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*"), *DEPLOY.rglob("*")]
    if path.suffix in (".md", ".txt", ".yml", ".yaml", ".json", ".service") and "goalsvc_" in path.read_text("utf-8")
)
_METRIC = re.compile(r"\bgoalsvc_[a-z0-9_]+\b")
_SUFFIX = re.compile(r"_(bucket|count|sum)$")


def declared() -> set[str]:
    """The metrics that the source declares."""
    sources = (ROOT / "src" / "goalsvc").rglob("*.py")
    return {name for path in sources for name in re.findall(r'"(goalsvc_[a-z0-9_]+)"', path.read_text("utf-8"))}


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def named_in(text: str) -> set[str]:
    return {_SUFFIX.sub("", name) if _SUFFIX.sub("", name) in declared() else name for name in _METRIC.findall(text)}


class TestMetrics:
    @pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
    def test_of_each_alert_exist(self, alert: dict[str, Any]) -> None:
        assert named_in(alert["expr"]) - declared() == set()

    def test_of_the_dashboard_exist(self) -> None:
        panels = json.loads((DEPLOY / "grafana" / "goalsvc.json").read_text("utf-8"))["panels"]
        expressions = [target["expr"] for panel in panels for target in panel.get("targets", [])]
        assert expressions
        assert named_in("\n".join(expressions)) - declared() == set()


@pytest.fixture(scope="module")
def known() -> set[str]:
    return {*declared_metrics(), *(figure.name for figure in CensusFigures().describe())}


class TestMetricsThatAreNamed:
    """Wherever a metric is named, a process shows it: it is in the registry, or in the census."""

    @pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
    def test_exist(self, path: Path, known: set[str]) -> None:
        wrong = set()
        for line in path.read_text("utf-8").splitlines():
            names = set(_METRIC.findall(line))
            for name in names:
                begins = "grep" in line and any(one.startswith(name) for one in known)
                if name not in known and _SUFFIX.sub("", name) not in known and not begins:
                    wrong.add(name)
        assert wrong == set()

    def test_are_all_in_the_reference(self, known: set[str]) -> None:
        text = (ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8")
        assert set(re.findall(r"^\| `(goalsvc_\w+)`", text, re.MULTILINE)) == known


class TestAnswersToWebhooks:
    """The metric of webhooks: what rules and dashboard ask for is counted somewhere."""

    def test_that_are_asked_for_are_counted(self) -> None:
        asked = RULES.read_text("utf-8") + (DEPLOY / "grafana" / "goalsvc.json").read_text("utf-8").replace("\\", "")
        wanted = re.findall(r'goalsvc_webhooks_total\{answer!?=~?"([a-z_|]+)"', asked)
        assert wanted
        source = (ROOT / "src" / "goalsvc" / "api" / "webhook.py").read_text("utf-8")
        counted = set(re.findall(r'WEBHOOKS\.labels\("(\w+)"\)', source))
        counted |= set(re.findall(r'WebError\(4\d\d, "(\w+)"', source))  # by `WEBHOOKS.labels(error.code)`
        assert {value for values in wanted for value in values.split("|")} <= counted


class TestRightsInRedis:
    """What a script of ours calls, the listed rights contain, and a start asks for it."""

    @pytest.fixture
    def called(self) -> set[str]:
        sources = [path for kind in ("*.py", "*.lua") for path in (ROOT / "src" / "goalsvc").rglob(kind)]
        return {
            name.lower()
            for path in sources
            for name in re.findall(r"redis\.p?call\(['\"](\w+)", path.read_text("utf-8"))
        }

    def test_are_listed(self, called: set[str]) -> None:
        listed = {rule.removeprefix("+") for rule in granted_to_redis() if rule.startswith("+")}
        assert called
        assert called - listed == set()

    def test_are_asked_for_at_the_start(self, called: set[str]) -> None:
        assert called - {command[0] for command in _COMMANDS} == set()


class TestRunbooks:
    def test_there_is_one_for_each_alert_and_no_other(self) -> None:
        names = {str(alert["alert"]) for alert in alerts()}
        assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == names

    @pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
    def test_it_names_pages_of_the_console(self, alert: dict[str, Any]) -> None:
        text = (RUNBOOKS / f"{alert['alert']}.md").read_text("utf-8")
        diagnosis = text.partition("## Diagnosis")[2].partition("\n## ")[0]
        pages = re.findall(r"`(/console[/a-z-]*)", diagnosis)
        routes = (route for router in console.ROUTERS for route in router.routes if isinstance(route, APIRoute))
        paths = {route.path.partition("{")[0].rstrip("/") for route in routes}
        assert pages
        assert {page.rstrip("/") for page in pages} <= paths

    @pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
    def test_the_alert_leads_to_it(self, alert: dict[str, Any]) -> None:
        assert alert["annotations"]["runbook_url"].endswith(f"/{alert['alert']}/")
        text = (RUNBOOKS / f"{alert['alert']}.md").read_text("utf-8")
        assert re.findall(r"^## (\w+)", text, re.MULTILINE) == ["Meaning", "Impact", "Diagnosis", "Mitigation"]


class TestRules:
    @pytest.mark.skipif(
        shutil.which("promtool") is None, reason="promtool (Debian's package prometheus) is not installed"
    )
    def test_pass_their_tests(self) -> None:
        command = ["promtool", "test", "rules", str(RULES.with_name("goalsvc.rules.test.yml"))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_each_alert_has_one(self) -> None:
        text = RULES.with_name("goalsvc.rules.test.yml").read_text("utf-8")
        assert {str(alert["alert"]) for alert in alerts()} <= set(re.findall(r"^  - name: (\w+)$", text, re.MULTILINE))


class TestManifests:
    @pytest.mark.parametrize("name", ["api", "worker", "network"])
    def test_are_valid(self, name: str) -> None:
        import kubernetes_validate

        for manifest in yaml.safe_load_all((DEPLOY / "kubernetes" / "base" / f"{name}.yaml").read_text("utf-8")):
            kubernetes_validate.validate(manifest, "1.30", strict=True)
