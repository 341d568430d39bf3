"""`goalsvc dev reset`."""

from pathlib import Path

import pytest

from goalsvc.devstack.data_directory import DataDirectory

from .command_line import assert_one_sentence, run_cli


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = DataDirectory(tmp_path / "data")
    with data.held():
        data.ports_for(["mongod"])
    return data.path


@pytest.mark.parametrize("before", [True, False], ids=["of dev", "of reset"])
def test_the_data_is_removed(data: Path, before: bool) -> None:
    where = ("--data-dir", str(data))
    words = ("dev", *where, "reset", "--yes") if before else ("dev", "reset", *where, "--yes")
    assert run_cli(*words).out == f"removed {data}\n"
    assert not data.exists()


def test_it_asks_first(data: Path) -> None:
    refused = run_cli("dev", "reset", "--data-dir", str(data), stdin="n\n")
    assert refused.status == 1
    assert f"Remove the data of `goalsvc dev` in {data} (0 MB)?" in refused.out
    assert data.exists()
    assert run_cli("dev", "reset", "--data-dir", str(data), stdin="y\n").status == 0
    assert not data.exists()


def test_what_is_not_devs_is_refused(tmp_path: Path) -> None:
    assert_one_sentence(run_cli("dev", "reset", "--data-dir", str(tmp_path), "--yes"), "is not a data directory")
