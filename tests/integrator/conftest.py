"""A `goalsvc dev` for the tests in here, and the client made for this version of the interface."""

import importlib.util
from pathlib import Path
from types import ModuleType

from goalsvc.app import create_app
from tests.cli.conftest import own_dev, stack

__all__ = ["own_dev", "stack"]  # the `goalsvc dev` that the tests of the command line have too

CLIENT = Path(__file__).parents[2] / "clients" / "python"


def generator() -> ModuleType:
    """The program that makes the client's operations and models."""
    spec = importlib.util.spec_from_file_location("generate", CLIENT / "generate.py")
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The tests import the client: it must be there, and that of this document, before they are collected.
generator().ensure(create_app().openapi())
