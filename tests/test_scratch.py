"""Working directories go with their process, however it ends."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from goalsvc.scratch import remove_abandoned, working_directory

#: Makes a directory with a file in it, says where, and waits for its death.
_WORKS = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from goalsvc.scratch import working_directory
with working_directory("clip") as directory:
    (directory / "segment.ts").write_bytes(b"x" * 1000)
    print(directory, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_it_is_gone_when_left() -> None:
    with working_directory("clip") as directory:
        assert directory.name.startswith("goalsvc-clip-")
        assert directory.is_dir()
    assert not directory.exists()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_uses_is_not(tmp_path: Path) -> None:
    words = [sys.executable, "-c", _WORKS, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        directory = Path(process.stdout.readline().strip())
        with working_directory("metrics") as own:
            assert remove_abandoned() == 0
            assert directory.is_dir()
            process.kill()
            process.wait()
            assert remove_abandoned() == 1
            assert not directory.exists()
            assert own.is_dir()


def test_other_directories_are_left_alone(tmp_path: Path) -> None:
    for name in ("goalsvc-clip-being-made", "goalsvc-else", "other"):
        (tmp_path / name).mkdir()
    assert remove_abandoned() == 0
    assert len(list(tmp_path.iterdir())) == 3


def test_a_purpose_that_no_process_would_remove_is_refused() -> None:
    with pytest.raises(ValueError, match="no process would remove"), working_directory("else"):
        pass
