"""What a file may not say, its user says: the commands that a stopped or refused run prints go on with it."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

from tests.conftest import REPO, some
from tests.plants import LEAN, train_here
from zoo.cli import app
from zoo.config.overrides import config_dirs, hydra_value
from zoo.errors import ZooError
from zoo.pretrained.reading import read_checkpoint
from zoo.run.control import StopAndResume
from zoo.run.guard import Interrupted
from zoo.run.states import safe_states

MINE = '''
import os
import signal
from pathlib import Path

from lightning import Callback


class Mine(Callback):
    """Keeps what it is given, and stops its first run by Ctrl-C, at once where it is asked to."""

    def __init__(self, texts=(), sizes=None, folder=None):
        self.given = texts, sizes, folder

    def on_train_batch_end(self, trainer, *_):
        if Path("stop").exists() and trainer.global_step == 2:
            Path("stop").unlink()
            os.kill(os.getpid(), signal.SIGINT)

    def on_train_end(self, *_):
        print("mine was given", *self.given)
'''
TEXT = "to be or not to be, that is the question\n" * 200
OWN = (
    "++callbacks.mine._target_=mine.Mine", "++callbacks.mine.texts=[a/b,it is]", "++callbacks.mine.sizes={a: 1}",
    "++callbacks.mine.folder=out",
)  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch, toy_data) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    yield tmp_path
    sys.modules.pop("mine", None)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            ("+trainer.reload_dataloaders_every_n_epochs=1", "+trainer.inference_mode=false"),
            "asks for trainer.reload_dataloaders_every_n_epochs=1 (an argument that no trainer's config here has), "
            "trainer.inference_mode=False (an argument that no trainer's config here has), which is not taken from a "
            "file; if you know it, say it again: ++trainer.reload_dataloaders_every_n_epochs=1 "
            "++trainer.inference_mode=false\n",
        ),
        (OWN, "asks for callbacks.mine._target_=mine.Mine (which no config here names), "),
    ],
)
def test_what_a_refused_run_proposes(here, capfd, said, words):
    """Also of an argument of the trainer that no config here has: it says so, and what to add."""
    assert train_here(*LEAN, "model=linear", *said, "hydra.run.dir=run") == 0, capfd.readouterr()
    first = capfd.readouterr().out.rpartition("mine was given")[2]
    assert train_here("resume=run", "trainer.max_epochs=2") == 1
    output = "".join(capfd.readouterr())
    assert words in output
    again = shlex.split(output.partition("say it again: ")[2])
    assert train_here("resume=run", "trainer.max_epochs=2", *again) == 0, capfd.readouterr()
    assert capfd.readouterr().out.rpartition("mine was given")[2] == first or said != OWN
    assert read_checkpoint(here / "run" / "checkpoints" / "last.ckpt")["epoch"] == 1


@pytest.mark.parametrize("way", some(["train.py", "zoo"], "train.py"))
def test_what_a_stopped_run_prints(here, way):
    """Copied into a shell, in the folder where the run was started, it goes on; whatever its user had to say."""
    text = here / "it's my text.txt"
    text.write_text(TEXT)
    (here / "my configs" / "model").mkdir(parents=True)
    (here / "my configs" / "model" / "little.yaml").write_text("defaults: [rnn]\nhidden: 4\n")
    (here / "stop").touch()
    start = [sys.executable, os.path.relpath(REPO / "train.py")] if way == "train.py" else [*ZOO, "train"]
    words = [
        "--config-dir=my configs", "model=little", "data=text_file", "task=language", "data.batch_size=5",
        f"data.file={hydra_value(text.name)}", "callbacks.progress=null", "test=false", "hydra.run.dir=my run",
        "+trainer.reload_dataloaders_every_n_epochs=1", "trainer.max_epochs=1", "trainer.limit_train_batches=3", *OWN,
    ]  # fmt: skip
    stopped = run([*start, *words])
    assert stopped.returncode == 130, stopped.stderr
    (line,) = (line for line in stopped.stderr.splitlines() if "to go on: " in line)
    assert line.startswith("stopped after update 2; to go on: ")
    copied = shlex.split(line.partition("to go on: ")[2])
    assert "++trainer.reload_dataloaders_every_n_epochs=1" in copied
    ended = run(copied)
    assert ended.returncode == 0, ended.stderr
    assert "mine was given ['a/b', 'it is'] {'a': 1} out" in ended.stdout
    assert read_checkpoint(here / "my run" / "checkpoints" / "last.ckpt")["global_step"] == 3


ZOO = [sys.executable, "-m", "zoo"]


def run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(REPO)})


def test_a_run_that_is_stopped_at_once(here, capfd):
    """It names its own checkpoint, which need not be the newest under logs/, or says that there is none."""
    callback = StopAndResume()
    callback.signal, callback.folder = signal.SIGINT, here / "run"
    with pytest.raises(Interrupted, match=r"^stopped at once; no checkpoint had been written$"):
        callback.note(signal.SIGINT, None)
    assert train_here(*LEAN, "model=linear", "hydra.run.dir=run") == 0, capfd.readouterr()
    with pytest.raises(Interrupted, match=r"resume=run/checkpoints/last\.ckpt$"):
        callback.note(signal.SIGINT, None)


@pytest.mark.parametrize(
    ("given", "found"),
    [([], []), (["-cd", "a b"], ["a b"]), (["--config-dir", "a"], ["a"]), (["x", "--config-dir=a=b"], ["a=b"])],
)
def test_the_folders_of_configs_on_a_command_line(given, found):
    assert config_dirs(["train.py", *given, "model=mlp"]) == found


# --- a card's paths ---------------------------------------------------------------------------------------------------


@pytest.fixture
def on_my_text(here, capfd) -> Path:
    """The checkpoint of a language model on a text of the user's own."""
    (here / "my.txt").write_text(TEXT)
    more = ("model=rnn", "model.hidden=4", "data=text_file", "task=language", "data.file=my.txt", "data.val_size=null")
    assert train_here(*LEAN, *more, "test=true", "hydra.run.dir=run") == 0, capfd.readouterr()
    capfd.readouterr()
    return here / "run" / "checkpoints" / "last.ckpt"


def call(*arguments: str) -> tuple[int, str]:
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output or str(result.exception)


def test_evaluate_on_a_text_that_its_user_knows(on_my_text):
    """The message of the refusal has the words; and another text may be said, whatever the file names."""
    code, output = call("evaluate", str(on_my_text))
    assert code == 1
    again = shlex.split(output.strip().partition("say so: ")[2])
    assert again == ["--trust", "data.file=my.txt"]
    code, output = call("evaluate", str(on_my_text), *again)
    assert code == 0, output
    assert "loss" in output
    content = read_checkpoint(on_my_text)
    content["card"]["data"]["file"] = "/etc/passwd"
    torch.save(content, on_my_text)
    Path("other.txt").write_text(TEXT)
    assert call("evaluate", str(on_my_text), *again)[0] == 0
    code, output = call("evaluate", str(on_my_text), "--trust", "data.file=none.txt")
    assert code == 1
    assert "none.txt" in output


def test_sample_of_a_text_that_its_user_knows(on_my_text):
    """Sampling opens no text, so it takes --trust and does without it."""
    code, output = call("sample", str(on_my_text), "--length", "9", "--prompt", "to")
    assert code == 0, output
    assert call("sample", str(on_my_text), "--length", "9", "--prompt", "to", "--trust", "data.file=my.txt") == (
        0,
        output,
    )
    content = read_checkpoint(on_my_text)
    content["card"]["model"]["weights"] = "/etc/passwd"
    torch.save(content, on_my_text)
    code, output = call("sample", str(on_my_text), "--length", "9")
    assert code == 1
    assert "path, model.weights=/etc/passwd" in output


# --- words in a callback's state --------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", ["pay me at x/y", "\x1b[2J", "..", "all is well", ["a"], {"a": 1}, None])
def test_the_message_of_early_stopping_is_not_taken(message):
    callback = EarlyStopping("val/loss")
    stored = {callback.state_key: {**callback.state_dict(), "stopping_reason_message": message, "wait_count": 2}}
    state = safe_states(stored, [callback])[callback.state_key]
    callback.load_state_dict(state)
    assert callback.wait_count == 2
    assert callback.stopping_reason_message is None


@pytest.mark.parametrize("text", ["a/b/c", "\x1b[2J", "\x9b2J", "\u202ea", "a\nb"])
def test_no_other_state_has_such_words(text):
    class Own(EarlyStopping.__mro__[1]):
        pass

    for state in ({"message": text}, {text: 1}, {"a": [text]}):
        with pytest.raises(ZooError):
            safe_states({Own().state_key: state}, [Own()])
