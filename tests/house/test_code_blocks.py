"""The code in the documents can be typed: shells, Python and node can read it, commands and addresses exist."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from goalsvc.app import create_app
from tests.house.test_commands import parsed
from tests.house.test_docs import DOCUMENTS, ROOT, short

NODE = shutil.which("node")
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w+)\n(?P<code>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_PLACEHOLDER = re.compile(r"<[a-z_ ]+>|\$\{?\w+\}?(?:/\w+)*|…")
_ADDRESS = re.compile(r"(?:\$api|\$GOALSVC_API_URL|\$API|127\.0\.0\.1:8000|localhost:8000)(/[\w/{}$.<>-]*)")
_TARGETS = frozenset(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
#: Addresses that the API serves and its document leaves out.
_PAGES = ("/docs", "/console", "/examples", "/notify/pusher", "/openapi.json")


@dataclass(frozen=True)
class Block:
    """A block of code in a document."""

    document: Path
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{short(self.document)}:{self.line}"


def blocks(language: str) -> list[Block]:
    """Every block of that language."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text("utf-8")
        for match in _BLOCK.finditer(text):
            if match["language"] == language:
                code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
                found.append(Block(document, text.count("\n", 0, match.start()) + 1, language, code))
    return found


SHELL = blocks("sh")


def commands_of(block: Block) -> Iterator[str]:
    """The commands of a block for a shell, each on one line, without what follows a pipe or a comment."""
    for line in block.code.replace("\\\n", " ").splitlines():
        for part in re.split(r"\s(?:\|\|?|&&|;)\s", re.sub(r"\s+#.*$", "", line)):
            yield part.strip()


def templates() -> list[re.Pattern[str]]:
    paths = [*create_app().openapi()["paths"], *_PAGES]
    return [re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path) + "/?") for path in paths]


def test_there_are_some() -> None:
    assert len(SHELL) > 30


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_shell_can_read_it(block: Block) -> None:
    code = re.sub(r"<[a-z_ ]+>", "placeholder", block.code)
    done = subprocess.run(["bash", "-n"], input=code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_its_commands_exist(block: Block) -> None:
    for command in commands_of(block):
        word, _, rest = command.removeprefix(".venv/bin/").partition(" ")
        if word == "goalsvc" and "--help" not in rest:
            words = re.sub(r"[<>]\S*", "", _PLACEHOLDER.sub("6b0b380a299d0d78ab2d4d70", rest))
            assert parsed(f"goalsvc {words}"), command
        elif word == "make":
            for target in (each for each in rest.split() if "=" not in each):
                assert target in _TARGETS, command


def test_addresses_are_served() -> None:
    known = templates()
    unknown = [
        f"{block}: {path}"
        for block in SHELL
        for path in _ADDRESS.findall(block.code)
        if path.strip("/") and not any(each.fullmatch(path.partition("?")[0].rstrip(".")) for each in known)
    ]
    assert not unknown


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_can_read_it(block: Block) -> None:
    compile(block.code, str(block), "exec")


@pytest.mark.skipif(NODE is None, reason="needs node")
@pytest.mark.parametrize("block", blocks("js"), ids=str)
def test_node_can_read_it(block: Block, tmp_path: Path) -> None:
    assert NODE is not None
    (tmp_path / "block.mjs").write_text(block.code)
    done = subprocess.run([NODE, "--check", str(tmp_path / "block.mjs")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
