"""What is logged, with any set of loggers: TensorBoard, CSV, Weights & Biases, MLflow."""

import csv
import importlib.util
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from zoo.callbacks.picture import canvas_of
from zoo.cli.checking import has
from zoo.pretrained.reading import read_checkpoint

from .test_tensorboard import read

SETTINGS = (
    "trainer.max_epochs=2", "trainer.log_every_n_steps=1", "data.batch_size=100", "callbacks.progress=null",
    "model=linear", "optimizer.lr=0.02",
)  # fmt: skip


def rows(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))


def test_several_loggers_have_the_same_curves(run_train, tmp_path):
    code, output = run_train(*SETTINGS, "logger=[csv,tensorboard]")
    assert code == 0, output
    (run,) = tmp_path.glob("logs/*/*")
    events = read(run)
    for tag in events.Tags()["scalars"]:
        written = [(int(row["step"]), float(row[tag])) for row in rows(run) if row.get(tag)]
        assert [step for step, _ in written] == [e.step for e in events.Scalars(tag)], tag
        assert [value for _, value in written] == pytest.approx([e.value for e in events.Scalars(tag)], rel=1e-5), tag
    assert "watch        " in output
    assert "curves       logs/" in output
    assert not (run / "pictures").exists()  # TensorBoard takes them


def test_pictures_are_files_where_no_logger_takes_them(run_train, tmp_path):
    code, output = run_train(*SETTINGS, "logger=csv")
    assert code == 0, output
    (run,) = tmp_path.glob("logs/*/*")
    names = {path.name for path in (run / "pictures").glob("*.png")}
    names.discard("test-worst_mistakes-10.png")  # there may be no mistakes
    assert names == {"kernels-first_layer-4.png", "kernels-first_layer-9.png", "test-confusion_matrix-10.png"}
    assert "tensorboard" not in output  # the last lines fit the logger
    assert "pictures     logs/" in output
    assert not list(run.glob("events*"))


class Weights(WandbLogger):
    """Weights & Biases without its library: keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def log_image(self, key, images, step=None, **kwargs):
        self.given.append((key, images, step))


class Flow(MLFlowLogger):
    """MLflow without its library."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    @property
    def experiment(self) -> Any:
        return SimpleNamespace(log_artifact=lambda *given: self.given.append(given))

    @property
    def run_id(self) -> str:
        return "run 1"


def test_loggers_that_take_pictures_get_them(tmp_path):
    """Weights & Biases gets images under their tags, MLflow files; TensorBoard beside them gets its own."""
    weights, flow, board = Weights(), Flow(), TensorBoardLogger(tmp_path, name="", version="")
    trainer: Any = SimpleNamespace(loggers=[weights, flow, board], is_global_zero=True, default_root_dir=tmp_path)
    canvas: Any = canvas_of(trainer)
    canvas.add_image("latent/traversal", torch.rand(3, 5, 4), 7)
    figure = Figure()
    canvas.add_figure("map", figure, 7, close=False)
    canvas.add_text("samples", "To be", 8)
    board.experiment.close()
    files = [tmp_path / "pictures" / name for name in ("latent-traversal-7.png", "map-7.png", "samples-8.txt")]
    assert all(file.stat().st_size for file in files)
    assert weights.given == [("latent/traversal", [str(files[0])], 7), ("map", [str(files[1])], 7)]
    assert flow.given == [("run 1", str(file), "pictures") for file in files]
    events = read(tmp_path)
    assert sorted(events.Tags()["images"]) == ["latent/traversal", "map"]
    assert "samples/text_summary" in events.Tags()["tensors"]


def test_a_resumed_run_goes_on_with_its_rows(run_train, tmp_path):
    """The CSV file equals that of a run that was not stopped."""
    settings = (*SETTINGS, "logger=csv", "scheduler=none")
    assert run_train(*settings, "hydra.run.dir=whole")[0] == 0
    assert run_train(*settings, "hydra.run.dir=broken", "trainer.max_epochs=1")[0] == 0
    assert any(row["test/loss"] for row in rows(Path("broken")))  # which comes later in the whole run
    code, output = run_train("resume=broken", "trainer.max_epochs=2")
    assert code == 0, output
    assert Path("broken/metrics.csv").read_text() == Path("whole/metrics.csv").read_text()


def test_a_run_resumed_within_an_epoch_doubles_no_row(run_train, tmp_path):
    """Rows after the checkpoint are removed and written again: the file is that of the unbroken run, bit for bit."""
    within = ("++callbacks.within._target_=lightning.pytorch.callbacks.ModelCheckpoint",)
    within += ("++callbacks.within.every_n_train_steps=7", "++callbacks.within.filename=within")
    within += ("++callbacks.within.dirpath=run/checkpoints",)
    code, output = run_train(*SETTINGS, "logger=csv", "hydra.run.dir=run", *within)
    assert code == 0, output
    before = Path("run/metrics.csv").read_text()
    assert read_checkpoint(Path("run/checkpoints/within.ckpt"))["global_step"] == 7  # epochs have 5 updates
    code, output = run_train("resume=run/checkpoints/within.ckpt", "++callbacks.within.filename=within")
    assert code == 0, output
    assert Path("run/metrics.csv").read_text() == before
    epochs = {int(row["step"]): row["epoch"] for row in rows(Path("run")) if row["epoch"]}
    assert {epochs[0], epochs[4]} == {"1"}  # as on the console, the first epoch is 1
    assert {epochs[5], epochs[9], epochs[10]} == {"2"}


@pytest.mark.parametrize(("name", "module"), [("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_logger_that_is_not_installed(run_train, monkeypatch, name, module):
    """One line says how to install it."""
    if importlib.util.find_spec(module):
        pytest.skip(f"{module} is installed")
    code, output = run_train(*SETTINGS, f"logger=[csv,{name}]")
    assert code == 1
    assert f"error: logger={name}: it needs an extra: pip install 'reference-zoo[{name}]'" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_wandb_offline(run_train, tmp_path):
    pytest.importorskip("wandb")
    code, output = run_train(*SETTINGS, "logger=[csv,wandb]", "logger.wandb.offline=true", "hydra.run.dir=run")
    assert code == 0, output
    assert list(tmp_path.glob("run/wandb/offline-run-*/files/media/images/kernels/first_layer_*.png"))
    # a file does not choose where things are sent; the command that is proposed says it
    code, output = run_train("resume=run", "trainer.max_epochs=3")
    assert code == 1
    assert "a logger that writes outside of the run's folder" in output
    again = shlex.split(output[output.index("say it again: ") :].partition(": ")[2].splitlines()[0])
    code, output = run_train("resume=run", "trainer.max_epochs=3", *again)
    assert code == 0, output
    ids = {path.name.rpartition("-")[2] for path in tmp_path.glob("run/wandb/offline-run-*")}
    assert len(ids) == 1  # the same run goes on
    code, output = run_train(*SETTINGS, "-m", "seed=0,1", "logger=wandb", "logger.wandb.offline=true")
    assert code == 0, output
    assert len({path.name for path in tmp_path.glob("logs/**/wandb/offline-run-*")}) == 2  # a run each


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of its own dependencies
def test_mlflow_in_a_file(run_train, tmp_path):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    store = "file:mlruns" if importlib.util.find_spec("sqlalchemy") is None else "sqlite:///mlflow.db"
    code, output = run_train(*SETTINGS, "logger=mlflow", f"logger.mlflow.tracking_uri={store}")
    assert code == 0, output
    client = MlflowClient(store)
    found: Any = client.get_experiment_by_name("zoo")
    (run,) = client.search_runs([found.experiment_id])
    assert 0 < run.data.metrics["test/accuracy"] <= 1
    taken = {artifact.path for artifact in client.list_artifacts(run.info.run_id, "pictures")}
    assert "pictures/kernels-first_layer-4.png" in taken
    assert f"mlflow ui --backend-store-uri {store}" in output


def test_a_profiler_prints(run_train, caplog):
    code, output = run_train(*SETTINGS, "trainer.max_epochs=1", "test=false", "logger=none", "trainer.profiler=simple")
    assert code == 0, output
    assert "Profiler Report" in caplog.text  # Lightning's handler prints it on stderr
    assert "run_training_epoch" in caplog.text


def test_optuna_that_is_not_installed(run_train):
    if has("hydra_plugins.hydra_optuna_sweeper"):
        pytest.skip("it is installed")
    code, output = run_train(*SETTINGS, "-m", "hydra/sweeper=optuna", "optimizer.lr=interval(0.01,0.1)")
    assert code == 1
    assert "error: hydra/sweeper=optuna: it needs an extra: pip install 'reference-zoo[optuna]'" in output


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of the plugin
def test_optuna_chooses_by_validation(run_train, tmp_path):
    """The best of its runs is the one with the highest validation accuracy, whatever the test says."""
    if not has("hydra_plugins.hydra_optuna_sweeper"):
        pytest.skip("hydra-optuna-sweeper is not installed")
    code, output = run_train(
        *SETTINGS, "trainer.max_epochs=1", "logger=none", "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=4",
        "hydra.sweeper.sampler.seed=0", "optimizer.lr=tag(log,interval(0.00001,1))",
    )  # fmt: skip
    assert code == 0, output
    (table,) = tmp_path.glob("logs/*/sweep-*/sweep.csv")
    found = list(csv.DictReader(table.read_text().splitlines()))
    best = OmegaConf.load(table.parent / "optimization_results.yaml")
    assert len(found) == 4
    assert best.best_value == pytest.approx(max(float(row["val/accuracy"]) for row in found), abs=1e-4)


def test_an_older_checkpoints_logger(run_train, tmp_path):
    """It had a single one, without a name."""
    from zoo.config.formats import with_named_loggers

    assert run_train(*SETTINGS, "hydra.run.dir=run")[0] == 0
    config = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["config"]
    old = {**config, "logger": config["logger"]["tensorboard"]}
    assert with_named_loggers(old) == config == with_named_loggers(config)
