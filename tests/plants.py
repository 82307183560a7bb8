"""What the tests of security share: real checkpoints, hostile values for any place in them, and a watched folder."""

import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import patch_toys
from zoo.pretrained.reading import read_checkpoint

LEAN = (
    "trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "optimizer.lr=0.01",
    "trainer.limit_test_batches=1", "callbacks.progress=null", "data.val_size=100", "test=false",
)  # fmt: skip
# The runs whose checkpoints are planted; between them they have all callbacks.
KINDS = {
    "default": ("model=linear",),
    "averaged": ("model=linear", "callbacks=[default,ema,early_stopping]"),
    "text": ("model=rnn", "data=tiny_shakespeare", "task=language", "model.hidden=4"),
    "generator": (
        "model=vae", "model.hidden=[8]", "model.latent=2", "task=variational", "data.mean=[0.0]", "data.std=[1.0]",
    ),
}  # fmt: skip
EVIL = 'import os\n\nos.mkdir(os.path.join(os.environ["VICTIM"], "imported"))\n\n\nclass Model:\n    pass\n'


def train_here(*overrides: str) -> int:
    """The training command in this process and folder; its exit code. The caller has put toys in place."""
    from zoo import train

    train.failures.clear()
    arguments, level, handlers = sys.argv, logging.root.level, logging.root.handlers[:]
    sys.argv = ["train.py", *overrides]
    try:
        train.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = arguments
        logging.root.setLevel(level)
        logging.root.handlers[:] = handlers
    raise AssertionError("the command has not said how it ended")


def make_runs(folder: Path, kinds: Sequence[str] = tuple(KINDS)) -> dict[str, Path]:
    """A finished run of each kind in a folder; returns the runs' folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch_toys(patch.setattr)
        patch.chdir(folder)
        for kind in kinds:
            assert train_here(*LEAN, *KINDS[kind], f"hydra.run.dir={kind}") == 0
    return {kind: folder / kind for kind in kinds}


class Watched:
    """A folder with a run in it, which may be written to, and with what a stranger is after, which may not.

    The working directory is beside the run; ``$VICTIM`` and ``~`` are folders in there too.
    """

    def __init__(self, folder: Path, run: Path):
        self.folder, self.run = folder, folder / "run"
        self.here, self.victim, self.home = folder / "here", folder / "outside" / "victim", folder / "outside" / "home"
        for path in (self.here, self.victim / "deeper", self.home):
            path.mkdir(parents=True)
        (self.victim / "deeper" / "keep.ckpt").write_text("keep")
        (self.victim / "best.ckpt").write_text("keep")
        (self.here / "evil.py").write_text(EVIL)
        self.source = run
        self.renew()
        self.before = self.tree()

    def renew(self) -> None:
        """Put the run as it was at first in its place."""
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.source, self.run)
        (self.run / "metrics.json").unlink(missing_ok=True)

    def enter(self, patch: pytest.MonkeyPatch) -> None:
        patch.chdir(self.here)
        patch.setenv("VICTIM", str(self.victim))
        patch.setenv("HOME", str(self.home))

    def tree(self) -> dict[str, bytes | None]:
        """All that is there, but for the run."""
        found = (path for path in self.folder.rglob("*") if not path.is_relative_to(self.run))
        return {str(p.relative_to(self.folder)): p.read_bytes() if p.is_file() else None for p in found}

    def check(self, what: Any) -> None:
        """Nothing outside of the run was written or removed, and nothing that a file names was imported."""
        assert self.tree() == self.before, what
        assert not {"evil", "this"} & set(sys.modules), what

    def content(self, name: str = "last") -> dict[str, Any]:
        return read_checkpoint(self.run / "checkpoints" / f"{name}.ckpt")

    def write(self, content: dict[str, Any], name: str = "last") -> Path:
        path = self.run / "checkpoints" / f"{name}.ckpt"
        torch.save(content, path)
        return path

    # --- hostile values

    def texts(self) -> list[str]:
        """Texts that lead to another place, or that make something."""
        return [
            str(self.victim),
            "../outside/victim",
            f"{self.run}/checkpoints{'/..' * 30}{self.victim}",
            "$VICTIM/made",
            "~/made",
            "..",
            f"{self.victim}/deeper/keep.ckpt",
            "\x00/../made",
            "..\\made",
            f"file://{self.victim}/made",
            "${oc.env:VICTIM}/made",
            f"${{oc.create:{{_target_:os.mkdir,path:'{self.victim}/made'}}}}",
        ]

    def nodes(self) -> list[Any]:
        """Configs of something that writes, removes or imports, if it is made."""
        made = str(self.victim / "made")
        return [
            {"_target_": "os.mkdir", "path": made},
            {"_target_": "os.mkdir", "_args_": [made]},
            [{"_target_": "os.system", "command": f"touch {made}"}],
            {"_target_": "shutil.rmtree", "path": str(self.victim)},
            {"_target_": "evil.Model"},
            {"_target_": "this.s"},
            {"_target_": "zoo.run.checkpoint.shutil.rmtree", "path": str(self.victim)},
            {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": made, "name": "x"},
            {"_target_": "lightning.pytorch.callbacks.OnExceptionCheckpoint", "dirpath": made},
        ]


TARGETS = (
    "os.system", "os.mkdir", "shutil.rmtree", "builtins.eval", "evil.Model", "this.s", "evil", "os", "",
    "zoo.run.checkpoint.shutil.rmtree", "zoo.run.atomic.save_atomically", "zoo.publish.publish",
    "zoo.models.lenet.torch.load", "torch.hub.load", "torch.nn.modules.module.torch.load", "hydra.utils.instantiate",
    "hydra.utils.call", "pathlib.Path", "lightning.pytorch.loggers.CSVLogger", "zoo.data.fetch.download",
    "lightning.pytorch.callbacks.OnExceptionCheckpoint", "../evil", "evil..Model", "os.system\x1b[2J",
)  # fmt: skip


def leaves(node: Any, at: tuple = ()) -> Iterator[tuple]:
    """The places of all values that are neither mappings nor lists."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    if not isinstance(node, (dict, list, tuple)):
        yield at
    for key, value in pairs:
        yield from leaves(value, (*at, key))


def mappings(node: Any, at: tuple = ()) -> Iterator[tuple]:
    """The places of all mappings."""
    if isinstance(node, dict):
        yield at
        for key, value in node.items():
            yield from mappings(value, (*at, key))


def plant(content: Any, at: tuple, value: Any) -> Any:
    """A copy with a value at a place; one with the place's parent alone copied would share nodes with the original."""
    content = deepcopy(content)
    put(content, at, value)
    return content


def put(content: Any, at: tuple, value: Any) -> None:
    for key in at[:-1]:
        content = content[key]
    content[at[-1]] = value


def dotted(at: tuple) -> str:
    return ".".join(map(str, at))
