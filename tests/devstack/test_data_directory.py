"""What is remembered from one run to the next."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from goalsvc.devstack.data_directory import DataDirectory, DataDirectoryError
from goalsvc.devstack.ports import HOST
from goalsvc.devstack.process import birth_of


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True) as process:
        yield process
        process.kill()


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDirectory]:
    data = DataDirectory(tmp_path / "data")
    with data.held():
        yield data


class TestPorts:
    def test_are_the_same_next_time(self, data: DataDirectory) -> None:
        first = data.ports_for(["a", "b"])
        assert data.ports_for(["b", "a"]) == first
        assert len(set(first.values())) == 2

    def test_are_others_when_they_are_taken_or_wanted_for_something_else(self, data: DataDirectory) -> None:
        first = data.ports_for(["a", "b"])
        with socket.create_server((HOST, first["a"])):
            second = data.ports_for(["a", "b"], besides=[first["b"]])
        assert second["a"] != first["a"]
        assert second["b"] != first["b"]

    def test_are_chosen_anew_when_the_memory_cannot_be_read(self, data: DataDirectory) -> None:
        (data.path / "ports.json").write_text("{")
        assert set(data.ports_for(["a"])) == {"a"}


class TestWhatWasLeftBehind:
    def test_is_ended(self, data: DataDirectory, sleeper: subprocess.Popen[bytes]) -> None:
        data.remember_running({"mongod": sleeper.pid})
        assert data.end_what_was_left_behind() == ["mongod"]
        assert sleeper.wait(5) == -signal.SIGKILL
        assert data.end_what_was_left_behind() == []

    def test_is_not_what_has_got_the_same_id_since(self, data: DataDirectory, sleeper: subprocess.Popen[bytes]) -> None:
        remembered = {"mongod": {"pid": sleeper.pid, "birth": "another boot/1"}}
        (data.path / "running.json").write_text(json.dumps(remembered))
        assert data.end_what_was_left_behind() == []
        assert birth_of(sleeper.pid)


class TestHeld:
    def test_is_refused_to_a_second_one(self, data: DataDirectory) -> None:
        with pytest.raises(DataDirectoryError, match="another `goalsvc dev`"), DataDirectory(data.path).held():
            pass

    def test_can_be_had_after_the_first_has_left(self, tmp_path: Path) -> None:
        for _ in range(2):
            with DataDirectory(tmp_path).held():
                assert (tmp_path / "logs").is_dir()

    def test_is_kept_out_of_version_control_where_it_was_made_here(self, data: DataDirectory) -> None:
        assert (data.path / ".gitignore").read_text() == "*\n"

    def test_says_so_when_there_cannot_be_a_directory(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with (
            pytest.raises(DataDirectoryError, match="cannot be used"),
            DataDirectory(tmp_path / "file" / "data").held(),
        ):
            pass


@pytest.fixture
def of_dev(tmp_path: Path) -> Path:
    """A directory as a `goalsvc dev` leaves it."""
    data = DataDirectory(tmp_path / "data")
    with data.held():
        data.ports_for(["a"])
        (data.path / "mongod").mkdir()
        (data.path / "mongod" / "file").write_bytes(b"x" * 1000)
    return data.path


class TestRemoval:
    def test_takes_all_of_it(self, of_dev: Path) -> None:
        sizes: list[int] = []
        assert DataDirectory(of_dev).remove(sizes.append) == []
        assert not of_dev.exists()
        assert sizes[0] >= 1000

    def test_leaves_what_is_not_devs(self, of_dev: Path) -> None:
        (of_dev / "notes.txt").write_text("mine")
        assert DataDirectory(of_dev).remove(lambda _size: None) == ["notes.txt"]
        assert [path.name for path in of_dev.iterdir()] == ["notes.txt"]

    def test_is_refused_while_a_dev_runs_on_it(self, of_dev: Path) -> None:
        with DataDirectory(of_dev).held(), pytest.raises(DataDirectoryError, match="another `goalsvc dev`"):
            DataDirectory(of_dev).remove(lambda _size: None)
        assert (of_dev / "mongod" / "file").exists()

    def test_is_refused_of_another_directory(self, tmp_path: Path) -> None:
        (tmp_path / "mongod").mkdir()
        with pytest.raises(DataDirectoryError, match="is not a data directory of `goalsvc dev`"):
            DataDirectory(tmp_path).remove(lambda _size: None)
        with pytest.raises(DataDirectoryError, match="there is no directory"):
            DataDirectory(tmp_path / "none").remove(lambda _size: None)
        assert (tmp_path / "mongod").exists()
