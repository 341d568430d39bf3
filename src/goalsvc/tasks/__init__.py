"""The tasks: what workers do. `goalsvc.tasks.registry` lists every one."""

from typing import Any

from goalsvc.tasks.registry import ALL, sweep_promises

__all__ = ["ALL", "sweep_promises"]


def __getattr__(name: str) -> Any:
    """`arq goalsvc.tasks.WorkerSettings`: made when arq asks for it, so that importing tasks reads no environment."""
    if name == "WorkerSettings":
        from goalsvc.worker import worker_settings

        return worker_settings()
    raise AttributeError(name)
