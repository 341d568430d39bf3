"""`goalsvc audit`: what is wrong in the books, and the seals of closed days."""

from typing import Any

from goalsvc.commands.api import Api, Target
from goalsvc.commands.words import counted

#: An audit reads every transfer that was ever made.
_PATIENCE_SECONDS = 3600.0


async def audit_books(target: Target, *, seal: bool) -> dict[str, object]:
    """Returns the report of an audit; with `seal`, seals the closed days before. Raises CommandError."""
    async with Api.open(target, patience_seconds=_PATIENCE_SECONDS) as api:
        sealed = await api.post("/v1/reports/seals") if seal else []
        report: dict[str, object] = await api.get("/v1/reports/audit")
    return report | ({"sealed": [day["id"] for day in sealed]} if seal else {})


def told(report: dict[str, Any]) -> str:
    """Returns a report in lines: the figures, then each finding with the id of its document."""
    figures = [counted(report[f"{thing}s"], thing) for thing in ("account", "transfer", "earning")]
    figures.append(f"{counted(report['escrows_held'], 'escrow')} with tokens")
    figures.append(f"{counted(report['days_sealed'], 'day')} sealed")
    lines = [", ".join(figures)]
    if report.get("sealed"):
        lines.append(f"sealed now: {', '.join(report['sealed'])}")
    lines += [f"{finding['code']}  {finding['id']}\n    {finding['message']}" for finding in report["findings"]]
    if report["wrong"] > len(report["findings"]):
        lines.append(f"… and {report['wrong'] - len(report['findings'])} more")
    lines.append("nothing is wrong" if report["ok"] else counted(report["wrong"], "finding"))
    return "\n".join(lines)
