"""Reading the files of data sets: each reader returns the arrays from a folder, or None if the files are not there.

The arrays are named as the tensors in ``zoo.data.sources.SPLITS``; images are uint8 (N, H, W, C), labels uint8 (N,).
"""

import io
import json
import pickle
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from zoo.config.files import MB, read_file
from zoo.data.integrity import UNREADABLE, digest, gunzip
from zoo.errors import ZooError

FILES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}
Arrays = dict[str, np.ndarray]

# Limits that are checked before reading: the size of the largest file, with some room for archives and sheets.
IDX_BYTES = 16 + 60_000 * 28 * 28  # MNIST's and Fashion-MNIST's training images
ARCHIVE_BYTES = 200 * MB  # CIFAR-100's archive has 169 MB, CIFAR-10's 170, and the largest file in them 156
SHEET_BYTES, SHEET_PIXELS = 100 * MB, 20 * 10**6  # a sheet of the package has 10 million pixels
LABELS_BYTES = 2 * MB


def read_idx(folder: Path) -> Arrays | None:
    """Read files in MNIST's format, a header of sizes followed by bytes, gzipped or not."""
    arrays: Arrays = {}
    for key in FILES:
        path = idx_file(folder, key)
        if not path.exists():
            return None
        try:
            content = read_file(path, IDX_BYTES)
            content = gunzip(content, IDX_BYTES) if path.suffix == ".gz" else content
            dimensions = content[3]
            shape = np.frombuffer(content, ">i4", dimensions, offset=4).tolist()
            values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
            if dimensions not in (1, 3):
                raise ValueError(f"it has {dimensions} dimensions")
        except UNREADABLE as error:
            raise ZooError(f"{path} is truncated or altered ({error}); replace it and run again") from None
        arrays[key] = values.copy() if dimensions == 1 else values[..., None].copy()  # (N,) or (N, H, W, 1)
    return arrays


def idx_file(folder: Path, key: str) -> Path:
    """The file of a tensor: the one that is not gzipped only if the gzipped one is missing."""
    zipped = folder / FILES[key]
    plain = zipped.with_suffix("")
    return plain if plain.exists() and not zipped.exists() else zipped


def read_cifar10(folder: Path) -> Arrays | None:
    """Read the official archive, or the package's PNG sheets with one image per row."""
    if (folder / "data_batch_1.png").exists():
        train = np.concatenate([pixels(folder / f"data_batch_{i}.png") for i in range(1, 6)])
        arrays: Arrays = {"train_images": train, "test_images": pixels(folder / "test_batch.png")}
        for split in ("train", "test"):
            labels = json.loads(read_file(folder / f"{split}_lables.json", LABELS_BYTES))  # the package's own spelling
            arrays[f"{split}_labels"] = np.array(labels, np.uint8)
            arrays[f"{split}_images"] = arrays[f"{split}_images"].reshape(-1, 32, 32, 3)
        return arrays
    return read_cifar_archive(folder, "CIFAR10")


def read_cifar100(folder: Path) -> Arrays | None:
    return read_cifar_archive(folder, "CIFAR100")


def read_cifar_archive(folder: Path, kind: str) -> Arrays | None:
    """Read the official archive once, so that the bytes with torchvision's md5 are those that are unpacked."""
    from torchvision import datasets

    dataset: Any = getattr(datasets, kind)
    archive = folder / dataset.filename
    if not archive.exists():
        return None
    content = read_file(archive, ARCHIVE_BYTES)
    if digest(content, "md5") != dataset.tgz_md5:
        raise ZooError(f"{archive} is truncated or altered (md5 is not {dataset.tgz_md5}); replace it and run again")
    arrays: Arrays = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for split, files in (("train", dataset.train_list), ("test", dataset.test_list)):
            parts = [arrays_of(member(tar, f"{dataset.base_folder}/{file}")) for file, _ in files]
            images = np.concatenate([part["data"] for part in parts]).reshape(-1, 3, 32, 32)
            labels = [part["labels"] if "labels" in part else part["fine_labels"] for part in parts]
            arrays[f"{split}_images"] = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
            arrays[f"{split}_labels"] = np.concatenate(labels).astype(np.uint8)
    return arrays


def member(tar: tarfile.TarFile, name: str) -> bytes:
    """The content of a regular file in an archive."""
    found = tar.getmember(name)
    file = tar.extractfile(found) if found.isreg() and found.size <= ARCHIVE_BYTES else None
    if file is None:
        raise ValueError(f"{name} in it is no regular file of at most {ARCHIVE_BYTES / MB:,.0f} MB")
    return file.read()


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler for arrays, numbers, strings and containers, which refuses anything else that a pickle may name."""

    ALLOWED = frozenset(
        {"numpy.ndarray", "numpy.dtype", "numpy.core.multiarray._reconstruct", "numpy.core.numeric._frombuffer",
         "_codecs.encode"}
    )  # fmt: skip

    def find_class(self, module_name: str, global_name: str) -> Any:
        if f"{module_name.replace('numpy._core', 'numpy.core')}.{global_name}" not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}, which no array needs")
        new = hasattr(np, "_core")  # numpy 2 has moved these functions there
        return super().find_class(module_name.replace("numpy.core", "numpy._core") if new else module_name, global_name)


def arrays_of(content: bytes) -> dict[str, Any]:
    """Unpickle one file of CIFAR: pixels in "data" as an array, labels as a list."""
    return ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()


def read_sheets(folder: Path) -> Arrays | None:
    """Read ``data/cifar10_small``: one PNG sheet per split, 100 images of 32×32 per row, sorted by class."""
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            image = Image.open(io.BytesIO(read_file(path, SHEET_BYTES)), formats=["PNG"])
        with image:
            if image.width * image.height > SHEET_PIXELS:
                raise ValueError(f"it has {image.width}×{image.height} pixels")
            image.load()
            return np.array(image.convert("RGB"))
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise ZooError(f"{path} is truncated or altered ({error}); replace it and run again") from None
