"""Calibration, cards of a user's own model, and the summary of copied weights."""

import pytest
import torch
from rich.console import Console
from torch.nn.functional import cross_entropy

import zoo
from zoo.errors import ZooError
from zoo.pretrained.reading import architecture
from zoo.pretrained.transfer import Mismatch, Row, copy_weights
from zoo.run.report import copied, misfits, weight_table
from zoo.use.calibrate import bins_of, calibrate, calibration_error, fit_temperature, logits_of
from zoo.use.int8 import classifier_data


def test_the_temperature_undoes_a_known_scale():
    """Labels drawn from softmax(logits) are calibrated; logits three times as large need the temperature 3."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20000, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    temperature = fit_temperature(3 * logits, labels)
    assert temperature == pytest.approx(3, rel=0.05)
    assert calibration_error(3 * logits, labels) > 0.1
    assert calibration_error(3 * logits / temperature, labels) < 0.02


def test_the_bins_give_the_calibration_error():
    logits = 2 * torch.randn(3000, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(3000) % 4
    confidence, accuracy, counts = bins_of(logits, labels)
    assert counts.sum() == 3000
    error = ((confidence - accuracy).abs() * counts).sum() / 3000
    assert float(error) == pytest.approx(calibration_error(logits, labels), abs=1e-5)


def test_a_shipped_classifier(tmp_path):
    """No validation split is left for this model, so no temperature is fitted."""
    found = calibrate("linear_mnist", tmp_path / "diagram.png", examples=1000)
    assert (tmp_path / "diagram.png").read_bytes().startswith(b"\x89PNG")
    assert found.counts.sum() == 1000
    assert found.temperature is None
    assert found.scaled_error is found.scaled_loss is None


def test_the_temperature_comes_from_the_validation_split(tmp_path):
    """It is the one that the validation split gives, whatever the test split is; it changes the loss as it says."""
    model = zoo.load("lenet5_mnist")
    data = classifier_data(model, None, (), "calibration")
    images, labels = data.splits["val"]
    expected = fit_temperature(logits_of(model, images), labels)
    found = calibrate("lenet5_mnist", tmp_path / "diagram.png", examples=300)
    assert found.temperature == pytest.approx(expected, rel=1e-4)
    logits = logits_of(model, data.splits["test"][0][:300])
    right = data.splits["test"][1][:300]
    assert found.loss == pytest.approx(float(cross_entropy(logits, right)), abs=1e-6)
    assert found.scaled_loss == pytest.approx(float(cross_entropy(logits / expected, right)), abs=1e-5)


def test_a_model_that_is_no_classifier(tmp_path):
    with pytest.raises(ZooError, match="calibration is for classifiers of images, and vae_mnist is none"):
        calibrate("vae_mnist", tmp_path / "diagram.png")


def test_another_architecture_is_called_so():
    weights = zoo.create("resnet20", num_classes=10).state_dict()
    with pytest.raises(Mismatch, match="another architecture") as error:
        copy_weights(zoo.create("lenet5"), weights)
    assert "init.skip" not in str(error.value)
    with pytest.raises(Mismatch, match=r"init\.skip=\[head\]"):
        copy_weights(zoo.create("resnet20", num_classes=7), weights)


def test_another_architecture_is_named_by_the_card():
    model = zoo.create("lenet5")
    weights = zoo.load("resnet20_cifar10").state_dict()
    with pytest.raises(ZooError, match=r"another architecture.*their card says that they are of model=resnet20$"):
        copied(lambda: copy_weights(model, weights), "resnet20_cifar10")
    with pytest.raises(ZooError, match=r"does not fit lenet5: .*their card says that they are of model=resnet20$"):
        zoo.create("lenet5", weights="resnet20_cifar10")
    said = architecture("gru_tiny_shakespeare")
    assert said.startswith("their card says that they are of model=gru, with other values of ")
    assert said.endswith(": see zoo info gru_tiny_shakespeare")


def test_the_tensors_that_do_not_fit_are_shown():
    weights = zoo.create("resnet20", num_classes=10).state_dict()
    with pytest.raises(Mismatch) as error:
        copy_weights(zoo.create("resnet20", num_classes=7), weights)
    table = misfits(error.value.rows)
    assert list(table.columns[0].cells) == ["head.weight", "head.bias"]
    assert table.title == "2 tensors that do not fit"
    many = misfits([Row(f"stage.{i}.weight", "missing") for i in range(40)])
    assert (many.row_count, many.title) == (20, "the first 20 of 40 tensors that do not fit")


def test_a_long_table_is_a_summary():
    rows = [Row(f"stage.{i}.weight", "copied") for i in range(40)] + [Row("head.weight", "skipped")]
    for whole, lines in ((False, 2), (True, 41)):
        table = weight_table(rows, {"stage.0.weight"}, whole)
        assert table.row_count == lines
    console = Console(width=100)
    with console.capture() as shown:
        console.print(weight_table(rows, {"stage.0.weight"}, False))
    assert "1 frozen" in shown.get()
    assert "init.whole_table=true" in shown.get()
