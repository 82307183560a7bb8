"""The sets: what they hold, and their one prepared form."""

import gzip
import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.conftest import toy
from tests.data_helpers import assert_fails, fetchers, image_data, out_of_reach, write
from zoo import paths
from zoo.data import readers, sources
from zoo.errors import ZooError

MNIST = paths.EMBEDDED / "mnist"


# --- the sets -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A data root of its own in which both embedded sets get prepared."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("mnist", "cifar10_small"):
        sources.load(name, folder)
    return folder


def test_mnist_is_the_canonical_one():
    begins = {
        "train_images": "ba891046",
        "train_labels": "65a50cbb",
        "test_images": "0fa7898d",
        "test_labels": "ff7bcfd4",
    }
    for key, begin in begins.items():
        content = gzip.decompress((MNIST / readers.FILES[key]).read_bytes())
        assert hashlib.sha256(content).hexdigest().startswith(begin)


def test_data_readme_has_the_hashes():
    text = (paths.EMBEDDED / "README.md").read_text()
    for file in readers.FILES.values():
        content = gzip.decompress((MNIST / file).read_bytes())
        assert f"| `{file.removesuffix('.gz')}` | `{hashlib.sha256(content).hexdigest()}` |" in text


@pytest.mark.parametrize(
    ("name", "train", "test", "shape"),
    [("mnist", 60_000, 10_000, (28, 28, 1)), ("cifar10_small", 5_000, 1_000, (32, 32, 3))],
)
def test_embedded_sets(root, name, train, test, shape):
    data = sources.load(name, root)
    for split, n in (("train", train), ("test", test)):
        images, labels = data[f"{split}_images"], data[f"{split}_labels"]
        assert images.shape == (n, *shape)
        assert images.dtype == torch.uint8
        assert labels.shape == (n,)
        assert labels.dtype == torch.int64
        assert labels.unique().tolist() == list(range(10))
    if name == "mnist":
        assert data["train_labels"][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    else:
        assert (data["train_labels"].bincount() == 500).all()
        assert (data["test_labels"].bincount() == 100).all()


def test_class_names():
    assert sources.classes("mnist") == tuple("0123456789")
    assert sources.classes("cifar10") == sources.classes("cifar10_small")
    assert sources.classes("cifar10")[3] == "cat"
    assert sources.classes("fashion_mnist")[9] == "Ankle boot"
    assert len(set(sources.classes("cifar100"))) == 100
    assert list(sources.classes("cifar100")) == sorted(sources.classes("cifar100"))
    assert_fails(lambda: sources.classes("mnits"), "mnits", "valid: mnist, fashion_mnist")


def fetched(name: str) -> dict[str, torch.Tensor]:
    try:
        return sources.load(name)
    except ZooError as error:
        if "could not be fetched" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.mark.slow
def test_cifar10_facts(root):
    """Known channel means; and cifar10_small is the first 500 + 100 of each class, without loss."""
    cifar10, small = fetched("cifar10"), sources.load("cifar10_small", root)
    means = cifar10["train_images"].double().mean((0, 1, 2))
    torch.testing.assert_close(means, torch.tensor([125.30691805, 122.95039414, 113.86538318]).double())
    for split, n in (("train", 500), ("test", 100)):
        labels = cifar10[f"{split}_labels"]
        first = torch.cat([(labels == c).nonzero()[:n, 0] for c in range(10)])
        assert torch.equal(cifar10[f"{split}_images"][first], small[f"{split}_images"])
        assert torch.equal(labels[first], small[f"{split}_labels"])


@pytest.mark.slow
def test_fashion_mnist_facts():
    data = fetched("fashion_mnist")
    assert data["train_images"].shape == (60_000, 28, 28, 1)
    assert (data["train_labels"].bincount() == 6_000).all()
    assert data["train_labels"][:5].tolist() == [9, 0, 0, 3, 0]


@pytest.mark.slow
def test_normalisation_in_the_configs():
    """Every data config's mean and std are the training split's own, to four digits as the field writes them."""
    from omegaconf import OmegaConf

    for name in ("mnist", "fashion_mnist", "cifar10"):
        config: Any = OmegaConf.load(paths.CONFIGS / "data" / f"{name}.yaml")
        pixels = fetched(name)["train_images"].flatten(0, 2).double() / 255
        torch.testing.assert_close(pixels.mean(0), torch.tensor(config["mean"]).double(), atol=1e-4, rtol=0)
        torch.testing.assert_close(pixels.std(0), torch.tensor(config["std"]).double(), atol=1e-4, rtol=0)


# --- the prepared form ----------------------------------------------------------------------------------------------


def test_own_files_are_prepared_once(tiny):
    root, content = tiny
    write(content, root / "tiny")
    data = sources.load("tiny", root)
    assert data["train_images"].shape == (20, 28, 28, 1)
    assert os.listdir(root / "prepared") == ["tiny.safetensors"]
    before = (root / "prepared" / "tiny.safetensors").stat().st_mtime_ns
    shutil.rmtree(root / "tiny")
    assert torch.equal(sources.load("tiny", root)["train_images"], data["train_images"])
    assert (root / "prepared" / "tiny.safetensors").stat().st_mtime_ns == before


def test_files_need_not_be_gzipped(tiny):
    root, content = tiny
    write({file.removesuffix(".gz"): gzip.decompress(data) for file, data in content.items()}, root / "tiny")
    assert len(sources.load("tiny", root)["test_labels"]) == 10
    (root / "prepared" / "tiny.safetensors").unlink()
    with (root / "tiny" / "t10k-labels-idx1-ubyte").open("r+b") as file:
        file.seek(12)
        file.write(b"\x09")
    assert_fails(lambda: sources.load("tiny", root), "t10k-labels-idx1-ubyte is truncated or altered")


def test_prepared_can_be_read_by_others(tiny):
    """On a shared data root the set is not its first user's alone."""
    root, content = tiny
    write(content, root / "tiny")
    sources.load("tiny", root)
    assert (root / "prepared" / "tiny.safetensors").stat().st_mode & 0o777 == 0o644


def test_whole_training_split_is_not_copied(monkeypatch):
    held = {
        "train_images": toy(40)[0],
        "train_labels": toy(40)[1],
        "test_images": toy(10)[0],
        "test_labels": toy(10)[1],
    }
    monkeypatch.setattr(sources, "load", lambda name, root=None: held)
    data = image_data(val_size=0)
    data.setup()
    assert data.splits["train"][0] is held["train_images"]


def test_writing_to_a_tensor_leaves_the_file_alone(root):
    data = sources.load("mnist", root)
    data["train_images"][0] = 255
    assert sources.load("mnist", root)["train_images"][0].float().mean() < 100


@pytest.mark.parametrize("change", ["overwritten", "truncated"])
def test_file_changed_mid_run(tiny, change):
    """A run goes on with the bytes that were verified; the next one says that they are others now."""
    root, content = tiny
    write(content, root / "tiny")
    data = sources.load("tiny", root)
    before = {key: tensor.clone() for key, tensor in data.items()}
    path = root / "prepared" / "tiny.safetensors"
    with path.open("r+b") as file:  # in place, as a mapping would see it
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 999)
        assert all(torch.equal(tensor, before[key]) for key, tensor in data.items())  # before a mapping would end it
        if change == "truncated":
            file.truncate(100)
    assert all(torch.equal(tensor, before[key]) for key, tensor in data.items())
    assert_fails(lambda: sources.load("tiny", root), str(path), "delete it, and the next run makes it again")


@pytest.mark.parametrize(
    ("old", "new"), [(b"[20,28,28,1]", b"[20,28,28]  "), (b"[20,28,28,1]", b"[10,56,28,1]"), (b'"U8"', b'"I8"')]
)
def test_header_that_gives_the_same_bytes_another_form(tiny, old, new):
    """The hash is of the bytes alone."""
    root, content = tiny
    write(content, root / "tiny")
    sources.load("tiny", root)
    path = root / "prepared" / "tiny.safetensors"
    path.write_bytes(path.read_bytes().replace(old, new))
    assert_fails(lambda: sources.load("tiny", root), str(path), "is truncated or altered", "delete it")


def test_folder_deleted_mid_run(tiny):
    """What was read stays; and the next run makes the set again, or says what is missing."""
    root, content = tiny
    write(content, root / "tiny")
    data = sources.load("tiny", root)
    total = data["train_images"].sum()
    shutil.rmtree(root)
    assert data["train_images"].sum() == total
    write(content, root / "tiny")
    assert sources.load("tiny", root)["train_images"].sum() == total


@pytest.mark.parametrize("damage", ["truncated", "altered", "header", "empty"])
def test_damaged_prepared_file_is_named(tiny, damage):
    root, content = tiny
    write(content, root / "tiny")
    sources.load("tiny", root)
    path = root / "prepared" / "tiny.safetensors"
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes({
        "truncated": whole[:-100], "altered": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "header": b"\xff" * 20 + whole[20:], "empty": b"",
    }[damage])  # fmt: skip
    assert_fails(lambda: sources.load("tiny", root), str(path), "delete it, and the next run makes it again")
    path.unlink()
    sources.load("tiny", root)


@pytest.mark.parametrize("file", list(readers.FILES.values()))
@pytest.mark.parametrize("damage", ["truncated", "short", "altered", "foreign"])
def test_damaged_idx_file_is_named(tiny, file, damage):
    root, content = tiny
    raw = gzip.decompress(content[file])
    damaged = {
        "truncated": content[file][:-20],
        "short": gzip.compress(raw[:-1]),
        "altered": gzip.compress(raw[:-1] + bytes([raw[-1] ^ 1])),
        "foreign": b"<html>not found</html>",
    }[damage]
    write(content | {file: damaged}, root / "tiny")
    assert_fails(lambda: sources.load("tiny", root), str(root / "tiny" / file), "truncated or altered", "run again")
    assert os.listdir(root / "prepared") == []


def test_damaged_sheet_is_named(tmp_path):
    folder = tmp_path / "cifar10_small"
    shutil.copytree(paths.EMBEDDED / "cifar10_small", folder)
    test = (folder / "test.png").read_bytes()
    for content in (test[: len(test) // 2], b"", b"text"):
        (folder / "test.png").write_bytes(content)
        assert_fails(lambda: sources.load("cifar10_small", tmp_path), str(folder / "test.png"), "truncated or altered")
    Image.new("RGB", (3200, 320)).save(folder / "test.png")
    assert_fails(lambda: sources.load("cifar10_small", tmp_path), str(folder / "test.png"), "truncated or altered")
    Image.new("RGB", (10, 10)).save(folder / "test.png")
    assert_fails(lambda: sources.load("cifar10_small", tmp_path), str(folder))


def test_unwritable_root(tiny, tmp_path):
    """A file where the folder should be: not even root can write there."""
    _, _ = tiny
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        assert_fails(
            lambda root=root: sources.load("tiny", root), "tiny could not be prepared in", str(root), "ZOO_DATA"
        )


def test_full_disk(tiny, monkeypatch):
    """Nothing half-written is left, and the message says where it was."""
    import safetensors.torch
    from safetensors import SafetensorError

    def save_file(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    root, content = tiny
    write(content, root / "tiny")
    monkeypatch.setattr(safetensors.torch, "save_file", save_file)
    assert_fails(lambda: sources.load("tiny", root), "tiny could not be prepared in", "No space left", "ZOO_DATA")
    assert os.listdir(root / "prepared") == []


def test_interrupted_preparation_leaves_nothing(tiny, monkeypatch):
    def interrupted(folder: Path) -> None:
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    root, _ = tiny
    fetchers(monkeypatch, interrupted, out_of_reach)
    with pytest.raises(KeyboardInterrupt):
        sources.load("tiny", root)
    assert os.listdir(root / "prepared") == []


def test_what_a_killed_run_left_is_removed_after_a_day(tiny):
    root, content = tiny
    write(content, root / "tiny")
    for left, hours in ((".tiny-old", 25), (".tiny-new", 1)):
        (root / "prepared" / left).mkdir(parents=True)
        then = time.time() - hours * 3600
        os.utime(root / "prepared" / left, (then, then))
    sources.load("tiny", root)
    assert sorted(os.listdir(root / "prepared")) == [".tiny-new", "tiny.safetensors"]


def test_data_root(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    assert paths.data_root() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ZOO_DATA", "~/sets")
    assert paths.data_root() == tmp_path / "sets"
    monkeypatch.delenv("ZOO_DATA")
    assert paths.data_root() == paths.PACKAGE.parent / "data"
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "site-packages" / "zoo")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert paths.data_root() == tmp_path / ".cache" / "reference-zoo"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert paths.data_root() == tmp_path / "cache" / "reference-zoo"
