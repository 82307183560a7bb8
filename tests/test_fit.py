"""``zoo.fit`` is the command as a function: the same run bit for bit, and nothing of it is left in the process."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import zoo
from tests.test_resume import assert_same
from zoo.pretrained.reading import read_checkpoint

QUICK = {
    "data.val_size": 100,
    "data.batch_size": 100,
    "trainer.max_epochs": 2,
    "trainer.log_every_n_steps": 2,
    "callbacks.graph": None,
    "callbacks.projector": None,
    "callbacks.confusion": None,
    "callbacks.mistakes": None,
    "callbacks.kernels": None,
    "callbacks.progress": None,
}
MLP = {"model": "mlp", "model.hidden": [16], "model.dropout": 0.3, "data.augment.shift": 2}
WORDS = [
    f"{key}={'null' if value is None else value}"
    for key, value in {**MLP, "callbacks": "[default,ema]", "seed": 3, **QUICK}.items()
]


@pytest.fixture
def here(monkeypatch, tmp_path, toy_data):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fit(**settings):
    return zoo.fit(**MLP, callbacks=["default", "ema"], seed=3, **{**QUICK, **settings})


def test_it_is_the_command(run_train, here):
    code, output = run_train("name=by_command", *WORDS)
    assert code == 0, output
    (command,) = here.glob("logs/by_command/*")
    runs = [fit(name="by_command"), fit(name="by_command")]  # and works twice in a process
    for run in runs:
        for name in ("last", "best"):
            a, b = (read_checkpoint(folder / "checkpoints" / f"{name}.ckpt") for folder in (command, run.folder))
            for key in ("state_dict", "optimizer_states", "lr_schedulers", "averaging_state", "random", "global_step"):
                assert_same(a[key], b[key], key)
            assert_same(a["card"]["metrics"], b["card"]["metrics"], "metrics")
        metrics = json.loads((command / "metrics.json").read_text())
        assert json.loads((run.folder / "metrics.json").read_text()) == metrics
        assert {f"test/{name}" for name in run.metrics} == {name for name in metrics if name.startswith("test/")}
        assert all(metrics[f"test/{name}"] == value for name, value in run.metrics.items())
        for name in ("config.yaml", "overrides.yaml"):
            assert (run.folder / ".hydra" / name).is_file()
    assert runs[0].folder != runs[1].folder


def test_what_it_returns(here):
    run = fit()
    assert run.folder.is_dir()
    assert run.checkpoint is not None
    assert run.checkpoint.is_relative_to(run.folder)
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy"} < set(run.history[0])
    assert repr(run.history).splitlines()[0].split()[:2] == ["epoch", "train/accuracy"]
    assert run.history._repr_html_().count("<tr>") == 3
    again = zoo.load(run.checkpoint)
    image = torch.zeros(2, 28, 28, 1, dtype=torch.uint8)
    assert run.model is not None
    assert not run.model.training
    with torch.no_grad():
        torch.testing.assert_close(run.model(run.model.preprocess(image)), again(again.preprocess(image)))
    assert run.model.classes == again.classes


def test_without_a_test_it_gives_the_metrics_of_the_validation(here):
    run = fit(test=False)
    assert run.metrics["accuracy"] == max(row["val/accuracy"] for row in run.history)  # of the best weights


def test_it_goes_on_as_an_unbroken_run(here):
    whole = fit(**{"trainer.max_epochs": 3, "scheduler": "none"})
    part = fit(**{"trainer.max_epochs": 2, "scheduler": "none"})
    run = zoo.fit(resume=part.folder, **{"trainer.max_epochs": 3})
    assert run.folder == part.folder
    assert run.metrics == whole.metrics
    assert run.history[-1] == whole.history[-1]


def test_a_hydra_application_keeps_its_state(here, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "config.yaml").write_text("x: 1\n")
    with initialize_config_dir(str(tmp_path / "app"), version_base="1.3"):
        HydraConfig.instance().set_config(compose("config", return_hydra_config=True))
        before = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
        fit()
        with pytest.raises(zoo.ZooError):
            fit(**{"model.dropuot": 1})
        assert (GlobalHydra.instance().hydra, HydraConfig.instance().cfg) == before
        assert compose("config").x == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model.dropuot": 1}, "did you mean model.dropout"),
        ({"model": "lenet6"}, "did you mean lenet5"),
        ({"model.dropout": 7}, "0 to 1 is expected"),
        ({"model": object()}, "object is no setting"),
        ({"model.hidden": [object()]}, "object is no setting"),
        ({"resume": Path("nowhere")}, "there is no such checkpoint"),
    ],
)
def test_wrong_settings(here, settings, message):
    with pytest.raises(zoo.ZooError, match=message) as error:
        zoo.fit(**settings)
    assert "\n" not in str(error.value)
    assert not Path("logs").exists()


def test_a_model_is_no_experiment(here):
    with pytest.raises(zoo.ZooError, match=r"zoo\.fit\(model='mlp'\)"):
        zoo.fit("mlp")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (["a b", 1], "['a b',1]"),
        ({"conv*": 0.1}, "{conv*:0.1}"),
        (Path("my photos/[v2]"), "'my photos/[v2]'"),
        (None, "null"),
        (True, "true"),
        (1e-5, "1e-05"),
    ],
)
def test_values_are_written_for_hydra(value, written):
    from zoo.run.fit import value_of

    assert value_of("key", value) == written


def test_a_model_in_configs(here):
    (here / "configs" / "model").mkdir(parents=True)
    (here / "configs" / "model" / "small.yaml").write_text("_target_: mine_in_fit.Small\nsize: 784\n")
    (here / "mine_in_fit.py").write_text(
        "from torch import nn\n\n\nclass Small(nn.Module):\n    def __init__(self, size):\n        super().__init__()\n"
        "        self.head = nn.Linear(size, 10)\n\n    def forward(self, x):\n        return self.head(x.flatten(1))\n"
    )
    run = zoo.fit(model="small", **QUICK)
    assert type(run.model).__name__ == "Small"
    assert run.metrics["accuracy"] > 0.2


def test_ctrl_c(here):
    def interrupt(self, trainer, module):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoo.run.history.Record.on_train_epoch_start", interrupt)
        with pytest.raises(KeyboardInterrupt, match="resume="):
            fit()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_in_a_notebook(tmp_path):
    """A cell shows the bar as text, and the history as a table."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    settings = {**QUICK, "trainer.limit_train_batches": 5, "trainer.limit_test_batches": 1}
    del settings["callbacks.progress"]
    cells = [f"import zoo\nrun = zoo.fit('lenet5_mnist', **{settings!r})", "run.history", "run.metrics['accuracy']"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = json.dumps(book.cells[0].outputs)
    assert "epoch 2/2" in shown
    assert "ipywidgets" not in shown
    assert "<table>" in json.dumps(book.cells[1].outputs)
