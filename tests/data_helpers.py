"""What the tests of data share: files of the sets' formats, and fetchers to put in place."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.data import fetch
from zoo.data.images import ImageData
from zoo.errors import ZooError


def assert_fails(call, *words: str) -> str:
    """The call raises a ZooError of one line that has these words in it."""
    with pytest.raises(ZooError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


def write(content: dict[str, bytes], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in content.items():
        (folder / file).write_bytes(data)


def fetchers(monkeypatch, first, second) -> None:
    monkeypatch.setattr(fetch, "first", first, raising=False)
    monkeypatch.setattr(fetch, "second", second, raising=False)


def out_of_reach(folder: Path) -> None:
    raise fetch.Unavailable("host.example: no answer")


def png(image: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "png")
    return content.getvalue()


def image_data(**arguments) -> ImageData:
    defaults = {"name": "mnist", "num_classes": 10, "in_channels": 1, "image_size": 28, "mean": [0.1], "std": [0.3]}
    return ImageData(**{**defaults, "val_size": 100, **arguments})
