"""A real Prometheus with the alerts of deploy/, which looks every second and has short windows."""

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from goalsvc.devstack.ports import HOST, free_port
from goalsvc.devstack.waiting import holds_within

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "goalsvc.rules.yml"
#: What stands for the minutes and the hour of the rules; thresholds stay as they are.
WINDOW, LONG_WINDOW = "15s", "30s"


def quickened(rules: str) -> str:
    """The rules with short windows: a condition has to last a second, and rates are of the last seconds."""
    rules = re.sub(r"for: \d+m", "for: 1s", rules)
    rules = re.sub(r"\[\d+m\]", f"[{WINDOW}]", rules)
    return re.sub(r"\[\d+h\]", f"[{LONG_WINDOW}]", rules)


class Prometheus:
    """Asked over HTTP what it sees."""

    def __init__(self, url: str) -> None:
        self._url = url

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self._url}/-/ready", trust_env=False, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        answer = httpx.get(f"{self._url}/api/v1/alerts", trust_env=False, timeout=5).json()
        return {each["labels"]["alertname"] for each in answer["data"]["alerts"] if each["state"] == "firing"}

    def value(self, expression: str) -> float | None:
        """The value of an expression that has one; None where it has none."""
        params = {"query": expression}
        answer = httpx.get(f"{self._url}/api/v1/query", params=params, trust_env=False, timeout=5).json()
        found = answer["data"]["result"]
        return float(found[0]["value"][1]) if found else None


@contextmanager
def prometheus_over(ports: Sequence[int], directory: Path) -> Iterator[Prometheus]:
    """Runs it as a process of its own on 127.0.0.1, with its data in the directory, scraping these ports."""
    directory.mkdir()
    (directory / "rules.yml").write_text(quickened(RULES.read_text("utf-8")))
    targets = [f"{HOST}:{port}" for port in ports]
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "goalsvc", "static_configs": [{"targets": targets}]}],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    port = free_port(besides=ports)
    words = [
        "prometheus",
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={HOST}:{port}",
    ]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        server = Prometheus(f"http://{HOST}:{port}")
        assert holds_within(30, server.is_ready, every=0.1), (directory / "log").read_text()
        yield server
    finally:
        process.terminate()
        process.wait(20)
