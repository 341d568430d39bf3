"""The container image is made of files that reach its builder."""

from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
#: What the Dockerfile takes from the checkout.
COPIED = [
    source
    for line in (_ROOT / "Dockerfile").read_text("utf-8").splitlines()
    if line.startswith("COPY ") and "--from=" not in line
    for source in line.split()[1:-1]
]


@pytest.mark.parametrize("source", COPIED)
def test_what_the_dockerfile_copies_is_there_and_let_through(source: str) -> None:
    let_through = {line.strip() for line in (_ROOT / ".dockerignore").read_text("utf-8").splitlines()}
    assert (_ROOT / source).exists()
    assert f"!{source}" in let_through, f".dockerignore keeps {source} from the builder"
