"""What a run leaves for TensorBoard: read back from its event files as TensorBoard itself reads them."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

import zoo
from zoo.callbacks.charts import flat, varied_first
from zoo.callbacks.classes import first_kernels
from zoo.run import progress
from zoo.run.progress import Progress

SETTINGS = (
    "trainer.max_epochs=2", "trainer.log_every_n_steps=1", "data.batch_size=100", "callbacks.progress=null", "seed=2",
    "optimizer.lr=0.02",
)  # fmt: skip


def read(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run), size_guidance={"images": 0, "scalars": 0, "tensors": 0}).Reload()


def image(events: EventAccumulator, tag: str) -> Image.Image:
    return Image.open(io.BytesIO(events.Images(tag)[-1].encoded_image_string))


def hparams(events: EventAccumulator) -> dict[str, HParamsPluginData]:
    """What the tab HParams is made of."""
    try:
        contents = events.PluginTagToContent("hparams")
    except KeyError:
        return {}
    return {tag: HParamsPluginData.FromString(content) for tag, content in contents.items()}


@pytest.fixture
def run_folder(run_train, tmp_path) -> Callable[..., Path]:
    def call(*overrides: str) -> Path:
        code, output = run_train(*SETTINGS, *overrides)
        assert code == 0, output
        (run,) = tmp_path.glob("logs/*/*")
        return run

    return call


def test_everything_is_there(run_folder, tmp_path):
    run = run_folder()
    events = read(run)
    curve = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}

    assert [step for step, _ in curve["train/loss"]] == list(range(10))
    assert [step for step, _ in curve["val/accuracy"]] == [4, 9]
    assert curve.keys() >= {"train/accuracy", "val/loss", "lr-SGD", "weight_norm"}
    layers = {"conv1", "conv2", "fc.fc1", "fc.fc2", "head"}
    assert {tag.removeprefix("grad_norm/") for tag in curve if tag.startswith("grad_norm/")} == layers
    assert all(value > 0 for _, value in curve["grad_norm/conv1"])
    assert len(curve["test/accuracy"]) == 1  # noted once, at the run's last step
    assert curve["test/accuracy"][0][0] == 10

    assert events.Graph().node
    assert set(events.Tags()["images"]) == {"kernels/first_layer", "test/confusion_matrix", "test/worst_mistakes"}
    assert len(events.Images("kernels/first_layer")) == 2  # an epoch each
    assert image(events, "test/confusion_matrix").size == (700, 640)
    assert image(events, "test/worst_mistakes").width == 800

    layout = Layout()
    layout.ParseFromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for chart in layout.category[0].chart}
    assert charts == {"loss": ["train/loss", "val/loss"], "accuracy": ["train/accuracy", "val/accuracy"]}
    (norms,) = layout.category[1].chart  # one chart for all layers
    pattern = re.compile(norms.multiline.tag[0])
    assert {tag for tag in curve if pattern.fullmatch(tag)} == {f"grad_norm/{layer}" for layer in layers}

    projector = (run / "projector_config.pbtxt").read_text()
    assert "test_features" in projector
    (tensors,) = run.glob("*/test_features/tensors.tsv")
    rows = tensors.read_text().splitlines()
    assert (len(rows), len(rows[0].split("\t"))) == (200, 84)
    assert (tensors.parent / "metadata.tsv").read_text().splitlines()[:3] == ["0", "1", "2"]
    assert (tensors.parent / "sprite.png").exists()


def test_one_folder_is_one_run(run_folder, tmp_path):
    """Fit and test write an event file each; TensorBoard shows one run, and its HParams tab the test metrics."""
    run = run_folder("model.dropout=0.25")
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "logs"))
    multiplexer.Reload()
    assert list(multiplexer.Runs()) == [str(run.relative_to(tmp_path / "logs"))]

    noted = hparams(read(run))
    settings = noted["_hparams_/session_start_info"].session_start_info.hparams
    assert settings["model.dropout"].number_value == 0.25
    assert settings["optimizer.lr"].number_value == 0.02
    assert settings["model"].string_value == "LeNet5"
    assert settings["seed"].number_value == 2
    assert not [key for key in settings if "_target_" in key]
    metrics = {info.name.tag for info in noted["_hparams_/experiment"].experiment.metric_infos}
    of_test = {"test/loss", "test/accuracy", "test/f1", "test/calibration_error"}
    assert metrics == {*of_test, "val/loss", "val/accuracy"}
    assert noted["_hparams_/session_end_info"].session_end_info.status


SWITCHES = {
    "charts": lambda e, run: "custom_scalars__config__" in e.Tags()["tensors"],
    "norms": lambda e, run: any(tag.startswith("grad_norm/") for tag in e.Tags()["scalars"]),
    "learning_rate": lambda e, run: "lr-SGD" in e.Tags()["scalars"],
    "graph": lambda e, run: e.Tags()["graph"],
    "kernels": lambda e, run: "kernels/first_layer" in e.Tags()["images"],
    "confusion": lambda e, run: "test/confusion_matrix" in e.Tags()["images"],
    "mistakes": lambda e, run: "test/worst_mistakes" in e.Tags()["images"],
    "projector": lambda e, run: (run / "projector_config.pbtxt").exists(),
    "hparams": lambda e, run: hparams(e),
}


@pytest.mark.parametrize("off", [list(SWITCHES)[i::3] for i in range(3)], ids=" ".join)
def test_each_can_be_switched_off(run_folder, off):
    """What is off is not there, and the others are."""
    run = run_folder("trainer.max_epochs=1", "model=linear", *(f"callbacks.{name}=null" for name in off))
    events = read(run)
    assert {name for name, there in SWITCHES.items() if there(events, run)} == set(SWITCHES) - set(off)


def test_without_a_logger(run_folder):
    """All callbacks may stay on."""
    run = run_folder("logger=none")
    assert not list(run.glob("events*"))
    assert (run / "checkpoints" / "best.ckpt").exists()


def test_without_a_test_hparams_show_validation(run_folder):
    noted = hparams(read(run_folder("test=false", "model=linear")))
    metrics = {info.name.tag for info in noted["_hparams_/experiment"].experiment.metric_infos}
    assert metrics == {"val/loss", "val/accuracy"}


@pytest.mark.parametrize("model", ["mlp", "lenet5_1998"])
def test_other_models_and_colour(run_folder, model):
    """First kernels of linear layers are pictures too; the head that the projector hooks is there in every model."""
    size = ["model.hidden=[20]"] if model == "mlp" else []
    extra = ["data=cifar10"] if model != "lenet5_1998" else ["task/loss=map"]
    events = read(run_folder(f"model={model}", *size, *extra, "trainer.max_epochs=1"))
    kernels = image(events, "kernels/first_layer")
    assert kernels.width > kernels.height
    assert events.Graph().node


def test_kernels_are_the_weights():
    model = zoo.create("lenet5")
    assert torch.equal(first_kernels(model, 1, 28), model.conv1.weight)
    mlp = zoo.create("mlp", hidden=[5], in_channels=3, image_size=32)
    assert torch.equal(first_kernels(mlp, 3, 32), mlp.layers.fc1.weight.view(5, 3, 32, 32))
    assert first_kernels(torch.nn.ReLU(), 1, 28) is None
    deep = torch.nn.Conv2d(8, 4, 3)
    assert torch.equal(first_kernels(deep, 8, 28), deep.weight[:, :1])


def test_an_epoch_shorter_than_the_interval_has_a_point(run_folder):
    """5 batches an epoch, and values are logged at every 50th: each epoch logs its last."""
    events = read(run_folder("trainer.log_every_n_steps=50", "model=linear"))
    assert [e.step for e in events.Scalars("train/loss")] == [4, 9]


def test_what_the_command_gave_comes_first():
    config = {
        "seed": 3, "model": {"_target_": "a.Net", "width": 1}, "data": {"_target_": "a.Set"}, "task": {"_target_": "T"},
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}, "scheduler": None, "init": {"weights": None},
        "trainer": {"_target_": "b.Trainer", "max_epochs": 2},
        "card": {"command": "python train.py model=net optimizer.lr=0.10"},
    }  # fmt: skip
    found = varied_first(config)
    assert list(found)[:3] == ["model", "optimizer.lr", "seed"]
    assert (found["model"], found["optimizer.lr"], found["data"], found["model.width"]) == ("net", 0.1, "Set", 1)


def test_the_bars_loss_and_accuracy_are_of_the_same_batches(monkeypatch):
    """The mean loss of the epoch's batches up to the step at which the accuracy was logged."""
    trainer: Any = SimpleNamespace(max_epochs=1, num_training_batches=9)
    bar = Progress(every=1e9)
    bar._trainer = trainer
    monkeypatch.setattr(progress, "logs_now", lambda trainer: bar.batches == 2)
    monkeypatch.setattr(progress.RichProgressBar, "get_metrics", lambda *_: {"train/loss": 9.0, "train/accuracy": 0.5})
    bar.looked = float("inf")
    for i, loss in enumerate([4.0, 2.0, 7.0]):
        bar.on_train_batch_end(trainer, None, {"loss": torch.tensor(loss)}, None, i)  # type: ignore[arg-type]
    assert bar.get_metrics(trainer, None) == {"loss": 3.0, "acc": 0.5}  # type: ignore[arg-type]
    bar.on_train_batch_end(trainer, None, {"loss": torch.tensor(1.0)}, None, 0)  # type: ignore[arg-type]
    assert bar.get_metrics(trainer, None)["loss"] == 9.0  # type: ignore[arg-type]


def test_flat_settings():
    assert flat({"a": {"b": 1, "c": None}, "d": [1, 2], "e": True}) == {"a.b": 1, "d": "[1, 2]", "e": True}
