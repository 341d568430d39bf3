"""The tasks: what workers do. `goalsvc.tasks.registry` lists every one."""

from importlib import import_module

from goalsvc.tasks.registry import ALL, sweep_promises

__all__ = ["ALL", "sweep_promises"]


def __getattr__(name: str) -> object:
    """Returns `WorkerSettings` for `arq goalsvc.tasks.WorkerSettings`, when arq asks for it: importing reads no environment.

    The worker is above the tasks, so it is named as arq names things, not imported.
    """
    if name == "WorkerSettings":
        return import_module("goalsvc.worker").worker_settings()
    raise AttributeError(name)
