"""Calibration, cards of a user's own model, and the summary of copied weights."""

import pytest
import torch
from rich.console import Console

import zoo
from zoo.errors import ZooError
from zoo.pretrained.transfer import Mismatch, Row, copy_weights
from zoo.run.report import weight_table
from zoo.use.calibrate import bins_of, calibrate, calibration_error, fit_temperature


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
