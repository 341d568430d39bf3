"""What operators are given is true: each metric that is named exists, each alert has its runbook and its test."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "goalsvc.rules.yml"
RUNBOOKS = ROOT / "docs" / "runbooks"

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


class TestRunbooks:
    def test_there_is_one_for_each_alert_and_no_other(self) -> None:
        names = {str(alert["alert"]) for alert in alerts()}
        assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == names

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
