"""Reading a data set's files: arrays of what lies in a folder, or None where it is not there.

An array's name is that of a tensor in ``zoo.data.sources.SPLITS``: images are uint8 (N, H, W, C), labels uint8 (N,).
"""

import gzip
import json
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import ZooError

FILES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}
Arrays = dict[str, np.ndarray]


def read_idx(folder: Path) -> Arrays | None:
    """MNIST's format: a header of sizes, then bytes; gzipped or not."""
    arrays: Arrays = {}
    for key in FILES:
        path = idx_file(folder, key)
        if not path.exists():
            return None
        try:
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            dimensions = content[3]
            shape = np.frombuffer(content, ">i4", dimensions, offset=4).tolist()
            values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
        except (OSError, EOFError, zlib.error, IndexError, ValueError) as error:
            raise ZooError(f"{path} is truncated or altered ({error}); replace it and run again") from None
        arrays[key] = values.copy() if dimensions == 1 else values[..., None].copy()  # (N,) or (N, H, W, 1)
    return arrays


def idx_file(folder: Path, key: str) -> Path:
    """The file of a tensor: gzipped, or else not."""
    zipped = folder / FILES[key]
    plain = zipped.with_suffix("")
    return plain if plain.exists() and not zipped.exists() else zipped


def read_cifar10(folder: Path) -> Arrays | None:
    """The official archive, or the package's sheets of one image a row."""
    if (folder / "data_batch_1.png").exists():
        train = np.concatenate([pixels(folder / f"data_batch_{i}.png") for i in range(1, 6)])
        arrays: Arrays = {"train_images": train, "test_images": pixels(folder / "test_batch.png")}
        for split in ("train", "test"):
            labels = json.loads((folder / f"{split}_lables.json").read_text())  # the package's own spelling
            arrays[f"{split}_labels"] = np.array(labels, np.uint8)
            arrays[f"{split}_images"] = arrays[f"{split}_images"].reshape(-1, 32, 32, 3)
        return arrays
    return read_cifar_archive(folder, "CIFAR10")


def read_cifar100(folder: Path) -> Arrays | None:
    return read_cifar_archive(folder, "CIFAR100")


def read_cifar_archive(folder: Path, kind: str) -> Arrays | None:
    """The official archive. Its pickles are read only after torchvision's md5 of the archive was found right."""
    from torchvision import datasets
    from torchvision.datasets.utils import check_md5

    dataset: Any = getattr(datasets, kind)
    archive = folder / dataset.filename
    if not archive.exists():
        return None
    if not check_md5(archive, dataset.tgz_md5):
        raise ZooError(f"{archive} is truncated or altered (md5 is not {dataset.tgz_md5}); replace it and run again")
    arrays: Arrays = {}
    with tarfile.open(archive) as tar:
        for split, files in (("train", dataset.train_list), ("test", dataset.test_list)):
            contents = [tar.extractfile(f"{dataset.base_folder}/{file}") for file, _ in files]
            parts: list[dict[str, Any]] = [pickle.load(c, encoding="latin1") for c in contents if c]
            images = np.concatenate([part["data"] for part in parts]).reshape(-1, 3, 32, 32)
            labels = [part["labels"] if "labels" in part else part["fine_labels"] for part in parts]
            arrays[f"{split}_images"] = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
            arrays[f"{split}_labels"] = np.concatenate(labels).astype(np.uint8)
    return arrays


def read_sheets(folder: Path) -> Arrays | None:
    """``data/cifar10_small``: a sheet a split, 100 images of 32×32 across, the classes one after the other."""
    arrays: Arrays = {}
    for split in ("train", "test"):
        path = folder / f"{split}.png"
        if not path.exists():
            return None
        sheet = pixels(path)
        rows, columns = sheet.shape[0] // 32, sheet.shape[1] // 32
        tiles = sheet[: rows * 32, : columns * 32].reshape(rows, 32, columns, 32, 3)
        tiles = tiles.swapaxes(1, 2).reshape(-1, 32, 32, 3)
        arrays[f"{split}_images"] = np.ascontiguousarray(tiles)
        arrays[f"{split}_labels"] = np.repeat(np.arange(10, dtype=np.uint8), len(tiles) // 10)
    return arrays


def pixels(path: Path) -> np.ndarray:
    """A PNG's pixels, uint8 (H, W, 3)."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ZooError(f"{path} is truncated or altered ({error}); replace it and run again") from None
