"""Classifiers with 8-bit weights."""

import json

import pytest

from zoo.errors import ZooError
from zoo.use.int8 import export_int8


def test_only_classifiers(tmp_path):
    pytest.importorskip("onnxscript")
    with pytest.raises(ZooError, match="int8 is for classifiers of images, and vae_mnist is none"):
        export_int8("vae_mnist", tmp_path / "small.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_classifier(tmp_path):
    """The file is a third as large, as accurate within one per cent, and keeps its metadata."""
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    made = export_int8("lenet5_mnist", tmp_path / "small.onnx", examples=500)
    assert made.examples == 500
    assert made.size == made.path.stat().st_size < made.float_size / 2
    assert made.float_accuracy > 0.97
    assert abs(made.accuracy - made.float_accuracy) < 0.01
    session = onnxruntime.InferenceSession(made.path, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    assert (about["name"], about["licence"], json.loads(about["mean"])) == ("lenet5_mnist", "MIT", [0.1307])
