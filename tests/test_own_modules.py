"""Modules of the user's own in the current folder: those that were named are found, and no file there stands in."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import REPO
from tests.data_helpers import assert_fails
from zoo.config import own
from zoo.config.foreign import check_trusted
from zoo.config.own import OwnModules, allow_said, is_installed, may_be_proposed

# What torch, Lightning, Hydra and TensorBoard try to import where it may be absent, and some of what is there.
DECOYS = (
    "dill", "pynvml", "torch_xla", "triton", "optree", "IPython", "ipywidgets", "pandas", "boto3", "fire",
    "jsonargparse",
    "deepspeed", "bitsandbytes", "transformer_engine", "torch_tensorrt", "expecttest", "sympy_plots", "mlflow",
    "tensorflow",
    "json", "random", "typing_extensions", "yaml", "tests",
)  # fmt: skip
LAYERS = "from torch import nn\n\n\nclass Wide(nn.Linear):\n    pass\n"
MODEL = """
import dataclasses

from my_layers import Wide
from torch import nn


class Mine(nn.Sequential):
    def __init__(self, num_classes: int = 10):
        super().__init__(nn.Flatten(), Wide(784, num_classes))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A current folder with decoys, which tell that they have run, and with a module of the user's own."""
    for name in DECOYS:
        (tmp_path / f"{name}.py").write_text("open(__file__ + '.ran', 'w').close()\n")
    (tmp_path / "my_layers.py").write_text(LAYERS)
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "configs" / "model").mkdir(parents=True)
    (tmp_path / "configs" / "model" / "mine.yaml").write_text("_target_: my_model.Mine\nnum_classes: 10\n")
    Image.new("L", (28, 28)).save(tmp_path / "digit.png")
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    return tmp_path


QUICK = ("debug=fast", "data.val_size=100", "trainer.accelerator=cpu", "hydra.run.dir=run")


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "zoo", "predict", "lenet5_mnist", "digit.png"],
        pytest.param(["-m", "zoo.train", "model=mine", *QUICK], marks=pytest.mark.slow),
        pytest.param([str(REPO / "train.py"), "++model._target_=my_model.Mine", *QUICK], marks=pytest.mark.slow),
        pytest.param(["-m", "zoo", "train", "model=mine", *QUICK], marks=pytest.mark.slow),
        pytest.param(
            ["-m", "zoo", "train", "model=mine", *QUICK, "trainer=ddp", "trainer.devices=2"], marks=pytest.mark.slow
        ),
    ],
    ids=lambda arguments: " ".join(arguments[:3]),
)
def test_no_file_of_the_current_folder_runs(command, folder, arguments):
    """However the command is called; a module that a config or the command line names is found, with its neighbour."""
    if arguments[0].endswith("train.py"):
        arguments = [arguments[0], "model=mine", *arguments[1:]]
    result = command(*arguments, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert [path.name for path in folder.glob("*.ran")] == []
    assert "digit.png" in result.stdout or (folder / "run" / "checkpoints").exists() or "lenet5_mnist" in result.stdout


@pytest.fixture
def finder(folder, monkeypatch) -> OwnModules:
    """A finder of its own in the folder, after which nothing is left imported."""
    finder = OwnModules()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(own, "own_modules", finder)
    monkeypatch.setattr(sys, "meta_path", [*(f for f in sys.meta_path if not isinstance(f, OwnModules))])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    yield finder
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_only_named_modules_are_found(finder, folder):
    allow_said([], [folder / "configs"])
    assert finder.names == {"my_model"}
    for name in ("my_layers", "dill", "torch_xla"):  # a neighbour too, as long as none has asked for it
        with pytest.raises(ModuleNotFoundError):
            __import__(name)
    assert __import__("my_model").Mine
    assert finder.found == {"my_model", "my_layers"}
    with pytest.raises(ModuleNotFoundError):
        __import__("dill")
    assert not list(folder.glob("*.ran"))


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["model._target_=a.B"], {"a"}),
        (["++callbacks.x._target_=a.b.C", "seed=1"], {"a"}),
        (["+model={_target_: a.B, x: {_target_: c.D}}"], {"a", "c"}),
        (["++model={'_target_':'a.B'}"], {"a"}),
        (["model=a", "name=target_"], set()),
    ],
)
def test_what_the_command_line_names(finder, arguments, names):
    allow_said(arguments, [])
    assert finder.names == names


def test_an_installed_module_comes_first(finder, folder):
    """A name that is allowed is looked for here last: no file here hides an installed package."""
    own.allow(["yaml.Loader", "json.load"])
    for name in ("yaml", "json"):
        assert Path(str(__import__(name).__file__)).parent != folder


def test_a_folder_that_is_gone(finder, folder, monkeypatch):
    own.allow(["gone.Model"])
    monkeypatch.setattr("os.getcwd", lambda: (_ for _ in ()).throw(FileNotFoundError(2, "gone")))
    with pytest.raises(ModuleNotFoundError):
        __import__("gone")


# --- what an error proposes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "os.system", "shutil.rmtree", "subprocess.run", "builtins.eval", "posix.system", "numpy.load", "torch.hub.load",
        "lightning.Trainer", "zoo.publish.publish", "hydra.utils.call", "tests_of.os.system", "my_model.os.system",
        "my_model.torch.hub.load", "yaml.unsafe_load", "json.load", "PIL.Image.open", "os", "", ".", "a b.C", "a;b.C",
    ],
)  # fmt: skip
def test_no_library_is_proposed_to_be_trusted(finder, target):
    """The advice would be the attack: --trust os."""
    assert not may_be_proposed(target)
    said = assert_fails(lambda: check_trusted(target), "so it is not run")
    assert "--trust" not in said


def test_a_module_of_ones_own_is_proposed(finder):
    assert_fails(lambda: check_trusted("my_model.Mine"), "asks for my_model.Mine", "--trust my_model")
    assert_fails(lambda: check_trusted("nobody_has.parts.Model"), "--trust nobody_has.parts")
    assert "my_model" not in sys.modules
    assert not is_installed("my_model")
    assert all(map(is_installed, ("os", "torch", "zoo", "yaml.x")))
