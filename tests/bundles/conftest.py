"""A good bundle, and a laboratory that is given strange ones."""

import re
from pathlib import Path

import pytest

from tests.bundles.making import Files, take_apart
from tests.harness import TINY_MODEL, Genmed

MODEL_FILE = TINY_MODEL.rpartition(":")[0]


@pytest.fixture(scope="module")
def good(trained: Genmed, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A bundle as genmed writes it."""
    path = tmp_path_factory.mktemp("good") / "good.zip"
    result = trained("export", "latest", "--out", path)
    assert result.code == 0, result.err
    return path.read_bytes()


@pytest.fixture(scope="module")
def files(good: bytes, tmp_path_factory: pytest.TempPathFactory) -> Files:
    path = tmp_path_factory.mktemp("files") / "good.zip"
    path.write_bytes(good)
    return take_apart(path)


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


class Lab:
    """Where a bundle is verified: its folders are looked at before and after."""

    def __init__(self, genmed: Genmed, nih: Path, folder: Path) -> None:
        self.genmed, self.nih, self.place, self.temporary = genmed, nih, folder / "lab", folder / "temporary"
        self.place.mkdir()
        self.temporary.mkdir()

    def refuses(self, content: bytes, reason: str) -> None:
        """The bundle is refused in one line that names it and the reason; nothing is left of it anywhere."""
        err, code, out = self.verify(content)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        assert err.startswith(f"error: {self.place}/strange.zip: "), err
        assert re.search(reason, err), err
        assert str(self.temporary) not in err
        assert err.removesuffix("\n").isprintable()

    def verify(self, content: bytes) -> tuple[str, int, str]:
        """What stood on stderr, the exit code, and stdout, of `genmed verify` on a bundle of that content."""
        path = self.place / "strange.zip"
        path.write_bytes(content)
        before = snapshot(self.place.parent)
        arguments = ("--data-root", self.nih, "--model-file", MODEL_FILE)
        environ = {"TMPDIR": str(self.temporary)}
        command = self.genmed.start("verify", path, *arguments, cwd=self.place, **environ)
        result = command.wait()
        after = {name: content for name, content in snapshot(self.place.parent).items() if "/torchinductor" not in name}
        for name in after.keys() - before.keys():
            assert Path(name).name.startswith(("out-", "err-")), name
        assert before.items() <= after.items()
        return result.err, result.code, result.out


@pytest.fixture
def lab(genmed: Genmed, nih: Path, tmp_path: Path) -> Lab:
    return Lab(genmed, nih, tmp_path)
