"""The command line: every mistake is one clear line and exit code 1; Hydra's own flags and completion work."""

import os
import re
import subprocess
import sys
import time
from itertools import zip_longest
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from zoo.config.checks import check_config, check_node, locate
from zoo.errors import ZooError
from zoo.paths import CONFIGS
from zoo.run.known import Known
from zoo.run.resolvers import register_resolvers

MISTAKES = {
    # keys
    "model.dropuot=0.5": "nothing is named dropuot in model; did you mean model.dropout? valid: activation, batch_norm",
    "modle=mlp": "modle: no such key; did you mean model? valid: callbacks, card",
    "optimizer.betas=[0.9,0.99]": "nothing is named betas in optimizer; valid: dampening, lr, momentum",
    "task.lr_scale.conv1=0.1": "to add it: +task.lr_scale.conv1=",
    "+model.foo=3": "model.foo: LeNet5 has no such argument; valid: activation",
    "+optimizer.momentun=0.5": "SGD has no such argument; did you mean optimizer.momentum?",
    "+foo=3": "foo: no such key; valid:",
    "+init.skpi=[head]": "init.skpi: no such key; did you mean init.skip?",
    # choices
    "model=mpl": "no model is named 'mpl'; did you mean mlp? valid: alexnet, ",
    "model=": "no model is named ''; valid: alexnet",
    "optimizer=Adam": "did you mean adam?",
    "experiment=nope": "no experiment is named 'nope'; valid: ",
    "task/loss=nope": "no task/loss is named 'nope'; valid: cross_entropy, map",
    "callbacks=[default,nope]": "no callback is named 'nope'; valid: default, early_stopping, ema, lookahead",
    "callbacks=default,ema": "a list needs brackets, 'callbacks=[default,ema]'",
    "optimizer=null": "it takes the name of a choice; valid: adadelta",
    "scheduler=null": "for nothing, scheduler=none",
    "~model": "model=null is not valid: it takes a choice: alexnet",
    "callbacks.mistakes=off": "to switch it off, callbacks.mistakes=null",
    "select=worst": "best or last is expected",
    # types
    "trainer.max_epochs=ten": "trainer.max_epochs=ten is not valid: a whole number or null is expected",
    "optimizer.lr=fast": "optimizer.lr=fast is not valid: a number is expected, not 'fast' (str)",
    "optimizer.lr=null": "a number is expected, not null",
    "optimizer.nesterov=1": "true or false is expected",
    "model.hidden=5": "a list: a whole number each is expected",
    "model.hidden=[a]": "a list: a whole number each is expected",
    "task.lr_scale=3": "a mapping or null is expected",
    "test=maybe": "true or false is expected",
    "init.skip=head": "give a list, 'init.skip=[head]'",
    "seed=abc": "a whole number is expected",
    "name=": "a run needs a name",
    # ranges
    "model.dropout=1.5": "model.dropout=1.5 is not valid: 0 to 1 is expected",
    "optimizer.lr=-0.1": "optimizer.lr=-0.1 is not valid: at least 0 is expected",
    "optimizer.lr=nan": "at least 0 is expected",
    "model.hidden=[-3]": "at least 1 is expected",
    "seed=-1": "0 to 4294967295 is expected",
    "trainer.max_epochs=-5": "at least -1 is expected",
    "task.loss.label_smoothing=2": "0 to 1 is expected",
    "data.batch_size=0": 'give a positive number, or "full"',
    "data.val_size=600": "give 0 to 599",
    "model.activation=rleu": "valid: sigmoid, tanh, relu",
    # syntax
    "model": "model: not understood; write key=value",
    "=3": "=3: not understood; write key=value",
    "model.hidden=[10": "model.hidden=[10: not understood; write key=value, and quote lists",
    "model.hidden=${nope}": "'nope' not found",
    "model._target_=nope.Net": "there is no such class or function",
    # what does not fit together
    "model.image_size=64": "does not fit data=mnist, inputs of 1×28×28: ",
    "model.num_classes=5": "set model.num_classes=10, which is the default",
    "data.num_classes=5": "data=mnist holds 10 classes of 28×28 images",
    "init.freeze=[nope]": "nothing fits 'nope'; layers: conv1",
    "init.weights=nope": "no shipped weight or file is named 'nope'",
    "optimizer=sparseadam": "is for sparse gradients, and no layer of this model gives any",
    "optimizer=muon": "Muon only supports 2D parameters",
    "trainer=gpu": "trainer: ",
    "trainer.accelerator=tpu": "trainer: ",
    "resume=nope.ckpt": "there is no such checkpoint; give a file, a run's folder, or last",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_mistake_is_one_line(run_train, override):
    if override == "trainer=gpu" and torch.cuda.is_available():
        pytest.skip("there is one")
    code, output = run_train(override, "callbacks.progress=null")
    lines = [line for line in output.splitlines() if "writing to" not in line]
    assert code == 1
    assert len(lines) == 1, output
    assert lines[0].startswith("error: ")
    assert MISTAKES[override] in output
    assert "Traceback" not in output
    assert "ZOO_TRACEBACK" not in output
    assert "writing to" in output or not Path("logs").exists()  # no folder is left of a run that never began


def test_a_folder_that_was_there_stays(run_train):
    """Only what the failed command made is removed, and never a file of another origin."""
    for folder in ("empty", "above", "full"):
        Path(folder).mkdir()
    Path("full/notes.txt").write_text("mine")
    for folder in ("empty", "above/run", "full"):
        assert run_train("optimizer.lr=abc", f"hydra.run.dir={folder}")[0] == 1
    assert Path("full/notes.txt").read_text() == "mine"
    assert [path.is_dir() for path in map(Path, ("empty", "above", "above/run"))] == [True, True, False]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("optimizer=adam", "optimizer.betas=[0.9]"), "a list of 2 values is expected, not [0.9]"),
        (("scheduler=multistep", "scheduler.milestones=5"), "scheduler.milestones=5 is not valid: a list"),
        (("scheduler=step", "scheduler.step_size=0"), "at least 1 is expected"),
        (("scheduler=plateau", "data.val_size=0"), "watch the validation: set data.val_size"),
        (("data=cifar10", "model.in_channels=1"), "does not fit data=cifar10, inputs of 3×32×32"),
        (("trainer.max_epochs=-1",), "needs the run's length: set trainer.max_epochs or trainer.max_steps"),
        (("trainer.gradient_clip_val=1", "trainer.gradient_clip_algorithm=foo"), "Allowed algorithms"),
        (("init.freeze=[conv1,conv2,fc,head]",), "nothing is left to train"),
    ],
)
def test_mistakes_of_several(run_train, overrides, expected):
    code, output = run_train(*overrides, "callbacks.progress=null")
    assert code == 1
    assert expected in output
    assert "Traceback" not in output


def test_traceback_on_demand(run_train, monkeypatch):
    """An error nobody foresaw says how to see its traceback; ZOO_TRACEBACK=1 shows any."""
    monkeypatch.setattr("zoo.run.report.start", lambda *_: 1 / 0)
    code, output = run_train("model=linear")
    assert code == 1
    assert "error: ZeroDivisionError: division by zero\n(the traceback: ZOO_TRACEBACK=1 " in output
    monkeypatch.setenv("ZOO_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        run_train("model=linear")


def test_unwritable_folder(run_train):
    code, output = run_train("hydra.run.dir=/proc/nope")
    assert code == 1
    assert "error: /proc/nope: No such file or directory" in output


def test_null_is_no_list(run_train):
    """Where a list is asked for, null is told in a line."""
    code, output = run_train("model=mlp", "model.hidden=null")
    assert code == 1
    assert "TypeError" not in output
    assert "model.hidden" in output


def test_a_base_is_no_choice(run_train, command):
    """What configs share is neither a choice of the command line nor in its help."""
    assert "base" not in command("train.py", "--help").stdout
    assert "image_data" not in command("train.py", "--help", "data").stdout
    assert run_train("base=image_data")[0] == 1
    assert "no data is named 'image_data'" in run_train("data=image_data")[1]


def test_a_stored_config_is_compared_with_bases_too():
    """A checkpoint's config has the keys of a base and of the file that names it."""
    (mnist,) = (node for node in Known([CONFIGS]).templates("data") if node.get("name") == "mnist")
    assert mnist["_target_"] == "zoo.data.images.ImageData"
    assert mnist["augment"]["border"] == "zero"
    assert mnist["val_size"] == 5000


def names(group: str) -> list[str]:
    return [f"{group}={file.stem}" for file in sorted((CONFIGS / group).glob("*.yaml"))]


def rounds() -> list[list[str]]:
    """Every choice of every group, as many together as go together: the nth of each; models with data they read."""
    apart = ("base", "experiment", "callbacks", "model", "data", "task", "loss")
    groups = [path for path in CONFIGS.glob("*/**") if path.is_dir() and path.name not in apart]
    zipped = zip_longest(*(names(str(group.relative_to(CONFIGS))) for group in groups))
    together = [[choice for choice in choices_ if choice] for choices_ in zipped]
    sequences = {f"model={name}" for name in ("rnn", "gru", "lstm")}
    fitting = {
        **dict.fromkeys(sequences, "data=adding"), "model=conv_lstm": "data=spoken_digits_small",
        "model=glac": "data=digit_stories",
    }  # fmt: skip
    together += [[model, fitting.get(model, "data=cifar10")] for model in names("model") if model != "model=seq2seq"]
    readers = {
        "mlp": ("data=cifar", "data=mnist", "data=fashion", "data=image"),
        "conv_lstm": ("data=an4", "data=spoken", "data=audio"),
        "seq2seq": ("data=multi30k", "data=tatoeba", "data=parallel", "data=unpaired"),
        "glac": ("data=digit_stories", "data=picture_stories", "data=small_stories"),
    }
    for data in names("data"):
        fits = next((model for model, kinds in readers.items() if data.startswith(kinds)), "gru")
        together.append([data, f"model={fits}", *(["task=translate"] if fits == "seq2seq" else [])])
    return [*together, *([choice] for choice in [*names("task"), *names("task/loss")])]


@pytest.mark.parametrize("together", [*rounds(), ["callbacks=[default,early_stopping,ema,lookahead]"]], ids=" ".join)
def test_every_config_composes(together, tmp_path, toy_data):
    """Each group's files give configs whose targets exist and take those arguments."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine.txt").write_text("a text of my own\n" * 9)
    for name in ("a.wav", "b.wav"):  # only their names are read when a config is composed
        (tmp_path / name).touch()
    (tmp_path / "transcripts.tsv").write_text("a.wav\tone\nb.wav\ttwo\n")
    needs = {
        "data=audio_folder": f"data.root={tmp_path}",
        "data=image_folder": f"data.root={tmp_path}",
        "data=picture_stories": "data.name=small_stories",
        "data=tatoeba": "data.val_size=20 data.test_size=20",  # there are 240 toy pairs
        "data=text_file": f"data.file={tmp_path}/mine.txt",
        "data=tiny_shakespeare": "data.val_size=100",  # of a shorter text
    }
    together = [*together, *(more for choice in together if choice in needs for more in needs[choice].split())]
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", [*together, "name=test"], return_hydra_config=True)
    cfg.hydra.runtime.output_dir = "logs"
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    check_config(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[arg-type]


def test_every_torch_optimizer_has_a_config():
    targets = {
        line.partition("torch.optim.")[2].strip()
        for path in (CONFIGS / "optimizer").glob("*.yaml")
        for line in path.read_text().splitlines()
        if line.startswith("_target_")
    }
    classes = {
        name
        for name, thing in vars(torch.optim).items()
        if isinstance(thing, type) and issubclass(thing, torch.optim.Optimizer) and thing is not torch.optim.Optimizer
    }
    assert targets == classes


def test_users_own_class(tmp_path, monkeypatch):
    """A class in the user's own module is checked like the zoo's; a missing dependency is named."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_nets.py").write_text("class Net:\n    def __init__(self, width: int = 3, **others): ...\n")
    (tmp_path / "my_needy.py").write_text("import not_installed_here\n")
    check_node({"_target_": "my_nets.Net", "width": 5, "anything": 1}, "model")
    with pytest.raises(ZooError, match=r"model.width=x is not valid: a whole number is expected"):
        check_node({"_target_": "my_nets.Net", "width": "x"}, "model")
    with pytest.raises(ZooError, match="it needs the module not_installed_here; install it"):
        locate("my_needy.Net", "model")


def test_users_own_configs(run_train, tmp_path):
    """A folder configs/ where the command is called adds choices."""
    (tmp_path / "configs" / "model").mkdir(parents=True)
    (tmp_path / "configs" / "model" / "mine.yaml").write_text(
        "_target_: zoo.models.mlp.MLP\nnum_classes: ${data.num_classes}\nhidden: [7]\n"
    )
    code, output = run_train("model=mine", "debug=fast", "logger=none", "test=false", "callbacks.progress=null")
    assert code == 0, output
    assert re.search(r"mine_mnist( \(.*\))?: 5,575 trained parameters", output)


def test_a_range_stands_with_its_argument(monkeypatch, tmp_path):
    """A class of one's own says by itself what it takes, whatever the zoo's arguments of that name are."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_ranges.py").write_text(
        "from zoo.arguments import Positive, Probability\n\n\n"
        "class Base:\n    def __init__(self, rate: Probability = 0.5): ...\n\n\n"
        "class Net(Base):\n    def __init__(self, depth: int = 3, widths: list[Positive] | None = None): ...\n"
    )
    check_node({"_target_": "my_ranges.Net", "depth": 0, "widths": [1, 2]}, "model")
    check_node({"_target_": "my_ranges.Net", "depth": -5, "widths": None}, "model")
    with pytest.raises(ZooError, match=r"^model\.widths=\[1,0\] is not valid: at least 1 is expected$"):
        check_node({"_target_": "my_ranges.Net", "widths": [1, 0]}, "model")
    with pytest.raises(ZooError, match=r"^model\.rate=1\.5 is not valid: 0 to 1 is expected$"):
        check_node({"_target_": "my_ranges.Base", "rate": 1.5}, "model")


def test_shared_arguments_are_checked_by_the_base_class():
    """``**shared: Inherited`` takes what the base class takes, and nothing else."""
    node = {"_target_": "zoo.tasks.classify.Classify", "num_classes": 10, "l1": 0.1}
    check_node(node, "task")
    with pytest.raises(ZooError, match=r"task\.l3: Classify has no such argument; valid: .*l1, l2,"):
        check_node({**node, "l3": 0.1}, "task")
    with pytest.raises(ZooError, match=r"task\.l1=-1 is not valid: at least 0 is expected"):
        check_node({**node, "l1": -1}, "task")
    with pytest.raises(ZooError, match=r"^task\.lr_scale\.head=-1 is not valid"):
        check_node({**node, "lr_scale": {"head": -1}}, "task")


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        (("--cfg", "job"), "max_epochs: 10"),
        (("--cfg", "job", "--package", "optimizer"), "lr: 0.05"),
        (("--info", "config"), "max_epochs: 10"),
        (("--info", "defaults"), "optimizer/sgd"),
    ],
    ids=" ".join,
)
def test_hydras_flags(run_train, flag, expected):
    code, output = run_train(*flag)
    assert (code, expected in output) == (0, True), output


def test_help_lists_the_choices_without_torch(command):
    start = time.perf_counter()
    shown = command("-X", "importtime", "train.py", "--help")
    assert shown.returncode == 0
    assert f"the network ({len(names('model'))} choices)" in shown.stdout
    assert "train.py resume=last" in shown.stdout
    assert " torch\n" not in shown.stderr
    assert time.perf_counter() - start < 10  # about half a second on an idle machine


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("model=", "model=alexnet model=alexnet_2012 "),
        ("optimizer=ada", "optimizer=adadelta optimizer=adafactor optimizer=adagrad"),
        ("model.drop", "model.dropout="),
        ("trainer=c", "trainer=cpu"),
    ],
)
def test_completion(typed, expected):
    line = f"zoo-train {typed}"
    environment = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    tool = Path(sys.executable).parent / "zoo-train"
    done = subprocess.run(
        [tool, "--shell-completion", "query=bash"], env=environment, capture_output=True, text=True, check=True
    )
    assert " ".join(done.stdout.split()).startswith(expected)
    assert done.stderr == ""
