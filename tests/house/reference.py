"""Writes `docs/reference/` and `docs/llms.txt` from the code: `make reference`, or `python -m tests.house.reference`.

Everything in it is read from where it holds: the settings, the command line, the catalogues of events and errors, the metrics
that the modules declare, and the navigation of the site.
"""

import importlib
import json
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.main
import yaml
from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from typer.core import TyperArgument, TyperCommand, TyperGroup

import goalsvc
from goalsvc.api.error_catalogue import CATALOGUE
from goalsvc.cli import app
from goalsvc.domain.events import EVENT_TYPES, TELLING_OF_TRANSFERS
from goalsvc.settings import Settings
from goalsvc.tasks.census import CensusFigures
from tests.support.markdown import table_of

DOCS = Path(__file__).parents[2] / "docs"
MKDOCS = DOCS.parent / "mkdocs.yml"
_WRITTEN = "<!-- Written by `make reference`; tests/house/test_reference.py holds it to the code. -->"


def render() -> dict[str, str]:
    """Every generated document, by its path below `docs/`. Those that `llms.txt` is made from come before it."""
    pages = {f"reference/{name}.md": _page(*write()) for name, write in _PAGES.items()}
    return {**pages, "llms.txt": _llms_txt(pages)}


def _page(title: str, text: str, parts: Iterable[str]) -> str:
    return "\n".join([f"# {title}", "", _WRITTEN, "", text, "", *parts]).rstrip() + "\n"


# -- settings ---------------------------------------------------------------------------------------------------------


def _settings() -> tuple[str, str, Iterable[str]]:
    rows = [
        [f"`GOALSVC_{name.upper()}`", _default(field), _bounds(field), _sentence(field.description or "")]
        for name, field in Settings.model_fields.items()
    ]
    text = (
        "All settings are environment variables, read by each process at its start. AWS's own variables (`AWS_ACCESS_KEY_ID`, "
        "…) give the credentials for the bucket, OpenTelemetry's own (`OTEL_…`) switch spans on, and "
        "`GOALSVC_DEV_MONGOD_CACHE_GB` (0.25) bounds the cache of `goalsvc dev`'s MongoDB. `goalsvc doctor` says what is "
        "missing or wrong."
    )
    return "Settings", text, table_of(["variable", "default", "limits", "meaning"], rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None:
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{json.dumps(value) if isinstance(value, dict | list) else value}`" if value != "" else "empty"


def _bounds(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [(signs[sign], getattr(rule, sign)) for rule in field.metadata for sign in signs if hasattr(rule, sign)]
    return ", ".join(f"{sign} {value}" for sign, value in found) or "–"


# -- commands ---------------------------------------------------------------------------------------------------------

Command = TyperCommand | TyperGroup


def _commands() -> tuple[str, str, Iterable[str]]:
    text = (
        "Commands that speak to the API find it by `--api-url` or `GOALSVC_API_URL`, and use `GOALSVC_API_KEY`, "
        "`GOALSVC_PUSHER_KEY` and `GOALSVC_PUSHER_SECRET`; what is unset is as `goalsvc dev` has it. The exit status is 0, 1 "
        "for what went wrong, and 2 for words that the command does not know."
    )
    return "Commands", text, _command("goalsvc", typer.main.get_group(app))


def _command(name: str, command: Any) -> Iterator[str]:
    """The sections of a command and of those below it."""
    yield f"## `{name}`\n"
    yield f"{_one_line(command.help)}\n"
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    rows = [
        [_spelling(parameter), _one_line(getattr(parameter, "help", None)), _given(parameter)]
        for parameter in shown
        if parameter.name not in ("install_completion", "show_completion")
    ]
    if rows:
        yield from table_of(["", "meaning", "default"], rows)
    examples = [line for line in (command.epilog or "").splitlines() if line.startswith("goalsvc")]
    yield "\n".join(["```sh", *examples, "```", ""])
    if isinstance(command, TyperGroup):
        for word, inner in command.commands.items():
            yield from _command(f"{name} {word}", inner)


def _spelling(parameter: Any) -> str:
    if isinstance(parameter, TyperArgument):
        word = (parameter.metavar or parameter.name or "").upper()
        return f"`{word}`" if parameter.required else f"`[{word}]`"
    return ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))


def _given(parameter: Any) -> str:
    if parameter.required:
        return "required"
    default = parameter.default
    if default is None or default is False or default == "" or callable(default):
        return "–"
    return f"`{default}`"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


# -- events, errors, metrics ------------------------------------------------------------------------------------------


def _events() -> tuple[str, str, Iterable[str]]:
    text = (
        "What the platform's backend is told, by `GET /v1/events` and by outgoing webhooks. Each event has `id`, `type`, "
        "`created_at`, `sequence`, `goal_id`, `session_id`, `user_ids`, `data` and `cause`; `data` of a goal's event has the "
        "whole goal. *Transfer*: `data.transfer` is a transfer; each transfer has exactly one such event (in "
        "`deposit.reversed` it is the deposit, which `deposit.created` told). `/asyncapi.json` has "
        "the schemas, and the notices that clients receive through Pusher."
    )
    rows = [[f"`{name}`", told, "yes" if name in TELLING_OF_TRANSFERS else "–"] for name, told in EVENT_TYPES.items()]
    return "Events", text, table_of(["type", "when", "transfer"], rows)


def _errors() -> tuple[str, str, Iterable[str]]:
    text = (
        "Every error is `application/problem+json` (RFC 9457). Its `code` is stable, its `type` leads to `/errors/{code}`, and "
        "its `request_id` finds it in logs and traces."
    )
    rows = [[f"`{code}`", str(one.status), one.meaning, one.remedy] for code, one in sorted(CATALOGUE.items())]
    return "Errors", text, table_of(["code", "status", "meaning", "what to do"], rows)


def _metrics() -> tuple[str, str, Iterable[str]]:
    text = (
        "For Prometheus, at `GET /metrics` of the API and, with `GOALSVC_WORKER_PORT`, of a worker. A histogram has the series "
        "`_bucket`, `_count` and `_sum`. `deploy/` has rules, a dashboard and a runbook for each alert. "
        "†: a figure of the whole service, counted every 15 s and shown by the worker that counted it last; "
        "what an audit found only once there was one."
    )
    described = {
        name: (metric._type, metric._labelnames, metric._documentation) for name, metric in declared_metrics().items()
    }
    counted = {one.name: (one.type, one._labelnames, f"{one.documentation} †") for one in CensusFigures().describe()}
    rows = [
        [f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels) or "–", meaning]
        for name, (kind, labels, meaning) in sorted({**described, **counted}.items())
    ]
    return "Metrics", text, table_of(["metric", "type", "labels", "meaning"], rows)


def declared_metrics() -> Mapping[str, Any]:
    """The metrics that goalsvc's modules declare, by the name under which they are shown."""
    found: dict[str, Any] = {}
    for module in pkgutil.walk_packages(goalsvc.__path__, "goalsvc."):
        if module.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, MetricWrapperBase):
                ending = "_total" if value._type == "counter" else ""
                found[f"{value._name}{ending}"] = value
    return found


_PAGES: Mapping[str, Callable[[], tuple[str, str, Iterable[str]]]] = {
    "settings": _settings,
    "commands": _commands,
    "events": _events,
    "errors": _errors,
    "metrics": _metrics,
}


# -- llms.txt ---------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads `mkdocs.yml`, whose tags for Python names mean nothing here."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def navigation() -> list[tuple[str, str, str]]:
    """The pages of the site in their order: (section, title, path below `docs/`)."""
    nav = yaml.load(MKDOCS.read_text("utf-8"), _Loader)["nav"]
    pages: list[tuple[str, str, str]] = []
    for entry in nav:
        for title, target in entry.items():
            if isinstance(target, str):
                pages.append(("Docs", title, target))
            else:
                pages += [(title, name, path) for one in target for name, path in one.items()]
    return pages


def address_of(path: str) -> str:
    """Where the site serves the page, relative to its root."""
    return re.sub(r"(^|(?<=/))(index|README)/$", "", f"{path.removesuffix('.md')}/") or "./"


def _llms_txt(pages: Mapping[str, str]) -> str:
    """The index of the site for language models (https://llmstxt.org)."""
    site = yaml.load(MKDOCS.read_text("utf-8"), _Loader)
    sections: dict[str, list[str]] = {}
    for section, title, path in navigation():
        text = pages.get(path) or (DOCS / path).read_text("utf-8")
        sections.setdefault(section, []).append(f"- [{title}]({address_of(path)}): {_first_sentence(text)}")
    lines = [f"# {site['site_name']}", "", f"> {site['site_description']}"]
    for section, entries in sections.items():
        lines += ["", f"## {section}", "", *entries]
    return "\n".join(lines) + "\n"


def _first_sentence(markdown: str) -> str:
    """The first sentence of a page's first paragraph, without markup of links."""
    paragraphs = (" ".join(one.split()) for one in re.split(r"\n\s*\n", markdown))
    text = next((one for one in paragraphs if one and not re.match(r"#|<!--|```|\||- |>|\d+\. ", one)), "")
    return _sentence(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).partition(". ")[0])


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text.rstrip(':')}."


def main() -> None:
    """Writes all of it anew."""
    (DOCS / "reference").mkdir(exist_ok=True)
    for path, text in render().items():
        (DOCS / path).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
