"""`/examples` of `goalsvc dev`: small pages that join channels as a performer and a viewer, to be read and copied."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

_BESIDE_THE_SOURCE = Path(__file__).parents[3] / "examples"
_IN_THE_WHEEL = Path(__file__).parents[1] / "examples"


def serve_examples(app: FastAPI) -> None:
    """Serves the folder of examples, from the checkout or from the wheel."""
    directory = next(folder for folder in (_BESIDE_THE_SOURCE, _IN_THE_WHEEL) if folder.is_dir())
    app.mount("/examples", StaticFiles(directory=directory, html=True), name="examples")
