"""Shared fixtures: a small learnable data set in place of the real ones, and the training command in this process."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: workers' threads would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import gzip
import hashlib
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.summary.writer import event_file_writer

from tests.data_helpers import idx
from zoo.data import corpora, pairs, parallel, readers, sources, text

REPO = Path(__file__).parent.parent


# TensorBoard reads the event files of one second in the order of their names, which end in the number of the writer in
# this process: with as many digits for all, the order in which they were written
event_file_writer._global_uid = event_file_writer.AtomicCounter(10**6)

TOY = "to be or not to be, that is the question"


def toy(n: int, size: int = 28, channels: int = 1, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with a bright block whose place is the class: uint8 (n, size, size, channels) and labels of 10 classes."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 80, (n, size, size, channels), generator=generator, dtype=torch.uint8)
    labels = torch.arange(n) % 10
    for i, label in enumerate(labels.tolist()):
        row, column = divmod(label, 4)
        images[i, 4 + 6 * row : 8 + 6 * row, 3 + 6 * column : 7 + 6 * column] += 150
    return images, labels


def toy_set(name: str, root: Path | None = None) -> dict[str, torch.Tensor]:
    """600 + 200 toy images in place of any data set's."""
    shape = (32, 3) if name.startswith("cifar") else (28, 1)
    train, test = toy(600, *shape), toy(200, *shape, seed=1)
    return {"train_images": train[0], "train_labels": train[1], "test_images": test[0], "test_labels": test[1]}


def toy_text(name: str, root: Path | None = None) -> dict[str, str]:
    """Parts of a line in place of any corpus's."""
    words = [TOY[i : i + 9] for i in range(0, len(TOY) - 9)]
    texts = {"train": "\n".join(words * 40), "val": "\n".join(words * 4), "test": "\n".join(words[::-1] * 4)}
    if name != "tiny_shakespeare":
        return texts
    speech = {part: "ROMEO:\n" + "\n".join(words[:6]) + "\n\n" for part in ("train", "test")}  # for data.rename
    return {part: begin * 20 + texts[part] for part, begin in speech.items()}


def toy_pairs(name: str, languages: Any, files: Any = None, root: Path | None = None) -> pairs.Read:
    """Some words, and the same in reverse order, in place of any corpus's pairs."""
    words = sorted(set(TOY.replace(",", "").split()))
    source = [" ".join(words[i % k] for i in range(n, n + 2 + n % 4)) for n in range(40) for k in range(2, len(words))]
    target = [" ".join(reversed(line.split())) for line in source]
    if name != "multi30k":
        return pairs.Read({"all": (source, target)})
    return pairs.Read({part: (source[i::3], target[i::3]) for i, part in enumerate(("train", "val", "test"))})


def patch_toys(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let every data set and corpus hold toys."""
    put(sources, "load", toy_set)
    put(corpora, "load", toy_text)
    put(pairs, "load", toy_pairs)
    for cached in (text.known_tokenizer, pairs.parts, parallel.learned):
        cached.cache_clear()


def some(cases: Iterable[Any], *fast: Any) -> list[Any]:
    """Cases of a test of which the default tests have some, and the slow ones all."""
    return [pytest.param(case, marks=() if case in fast else pytest.mark.slow) for case in cases]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def toy_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every data set holds 600 + 200 toy images instead, and every corpus parts of a line."""
    patch_toys(monkeypatch.setattr)


@pytest.fixture
def run_train(monkeypatch, tmp_path, toy_data, capfd):
    """Call the training command in this process, in an empty folder; returns (exit code, its output)."""
    import lightning.pytorch.callbacks  # noqa: F401  before the working directory changes
    from hydra._internal.hydra import Hydra

    from zoo.train import main

    # Hydra composes the config a first time only to read hydra.mode, which no test of this kind sets: a third of a run
    monkeypatch.setattr(Hydra, "get_mode", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)

    def call(*overrides: str) -> tuple[int, str]:
        from zoo import train

        train.failures.clear()
        own = r"resume=|data=(shakespeare|ptb|wikitext2|text_file|multi30k)|=lstm_shakespeare|=seq2seq_"
        has_its_own = re.search(own, str(overrides))
        quick = [] if has_its_own else ["data.val_size=100"]
        monkeypatch.setattr(sys, "argv", ["train.py", *quick, *overrides])
        level, handlers = logging.root.level, logging.root.handlers[:]
        with pytest.raises(SystemExit) as exit_:
            main()
        logging.root.setLevel(level)  # Hydra's handlers write to what is captured in this test alone
        logging.root.handlers[:] = handlers
        out, err = capfd.readouterr()
        return int(exit_.value.code or 0), out + err

    return call


@pytest.fixture
def command():
    """Run a real command in a process of its own: (arguments) -> CompletedProcess."""

    def call(*arguments: str, **kwargs) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, cwd=kwargs.pop("cwd", REPO), **kwargs
        )

    return call


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A set "tiny" of 20 + 10 images in idx files, none of them anywhere yet; returns (data root, its files' content).

    Its fetchers are "first" and "second", which a test puts in place.
    """
    images, labels = (tensor.numpy() for tensor in toy(30))
    labels = labels.astype(np.uint8)
    arrays = {
        "train_images": images[:20], "train_labels": labels[:20],
        "test_images": images[20:], "test_labels": labels[20:],
    }  # fmt: skip
    known = {key: hashlib.sha256(array.tobytes()).hexdigest() for key, array in arrays.items()}
    monkeypatch.setitem(
        sources.SOURCES,
        "tiny",
        sources.Source(tuple("0123456789"), "read_idx", ("first", "second"), "its files", known),
    )
    content = {readers.FILES[key]: gzip.compress(idx(array.squeeze())) for key, array in arrays.items()}
    return tmp_path / "root", content


@pytest.fixture
def run(monkeypatch, capfd):
    """The command in this process: arguments -> (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        from zoo import cli

        monkeypatch.setattr(sys, "argv", ["zoo", *map(str, arguments)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return (int(stop.value.code or 0), *capfd.readouterr())

    return call


@pytest.fixture
def fails(run):
    """The command must print one line on stderr, nothing else, and return 1; returns the line."""

    def call(*arguments: object) -> str:
        code, out, err = run(*arguments)
        assert (code, out) == (1, "")
        assert re.fullmatch(r"error: [^\n]+\n", err), err
        return err

    return call
