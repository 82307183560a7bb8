"""A folder of the user's own images: its layouts, what is read, carved and kept, and fine-tuning from torchvision."""

import hashlib
import os
import re
import shlex
import shutil
import socket
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load, save_file

import zoo
from zoo.data import decoded, folder
from zoo.data.decoded import decode
from zoo.data.files import list_images
from zoo.data.folder import FolderData
from zoo.data.layout import class_names
from zoo.data.preprocess import Preprocess
from zoo.pretrained import hub, reading
from zoo.pretrained.evaluate import evaluate
from zoo.use.predict import predict_files

from .conftest import REPO
from .data_helpers import assert_fails

COLOURS = {"blue": (40, 40, 200), "green": (40, 200, 40), "red": (200, 40, 40)}
QUIET = ("logger=none", "callbacks.progress=null", "trainer.accelerator=cpu")
SMALL = ("data=image_folder", "data.root=my_photos", "data.image_size=32", "data.val_size=0.25")  # of the fixture's own
DOCS = (REPO / "docs" / "own_images.md").read_text(encoding="utf-8")


def make(root: Path, n: int = 8, seed: int = 0, classes=COLOURS) -> None:
    """Pictures of one colour and some noise in each class's folder, of several shapes and formats."""
    generator = np.random.default_rng(seed)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(n):
            noise = generator.integers(-30, 30, (40 + i, 60 - 3 * i, 3))
            suffix = ("jpg", "PNG", "jpeg", "bmp")[i % 4]
            Image.fromarray((noise + COLOURS.get(name, (90, 90, 90))).astype(np.uint8)).save(
                root / name / f"{i}.{suffix}"
            )


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "my_photos")
    return Path("my_photos")


def data_of(root: Path | str = "my_photos", **arguments) -> FolderData:
    data = FolderData(str(root), **{"num_classes": 3, "image_size": 32, **arguments})
    data.prepare_data()
    data.setup()
    return data


def rows(data: FolderData, split: str) -> set[bytes]:
    return {image.numpy().tobytes() for image in data.splits[split][0]}


# --- from the command line to a prediction --------------------------------------------------------------------------


@pytest.fixture(scope="session")
def weight_file(tmp_path_factory) -> Path:
    """As torchvision's file is, with random values, and a name that has the sha256 of these."""
    path = tmp_path_factory.mktemp("hub") / "resnet18.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path.rename(path.with_name(f"resnet18-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"))


@pytest.fixture
def cached(weight_file, tmp_path_factory, monkeypatch) -> Path:
    """The file in torch's cache, under the name that torchvision has for it."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("TORCH_HOME", str(home))
    weights = torchvision.models.ResNet18_Weights.DEFAULT
    monkeypatch.setattr(weights.value, "url", f"https://download.pytorch.org/models/{weight_file.name}")
    (home / "hub" / "checkpoints").mkdir(parents=True)
    return Path(shutil.copy(weight_file, home / "hub" / "checkpoints"))


def test_fine_tune_and_predict(run_train, photos, weight_file, tmp_path):
    code, output = run_train(
        "model=resnet18", *SMALL, *QUIET, f"init.weights={weight_file}", "init.skip=[head]", "init.whole_table=true",
        "init.freeze=[conv1,bn1,layer1]", "trainer.max_epochs=2", "data.batch_size=6",
    )  # fmt: skip
    assert code == 0, output
    assert re.search(r"head\.weight\W+skipped\W+from fc\.weight", output)
    assert (
        "12 training, 6 validation, 6 test images of 3 classes in my_photos (validation and test carved" not in output
    )
    assert "15 training, 6 validation, 3 test images of 3 classes in my_photos (validation and test carved" in output
    (checkpoint,) = tmp_path.glob("logs/resnet18_image_folder/*/checkpoints/best.ckpt")
    (example,) = tmp_path.glob("logs/resnet18_image_folder/*/example.*")
    model = zoo.load(checkpoint)
    theirs = torch.load(weight_file, weights_only=True)
    assert torch.equal(model.conv1.weight, theirs["conv1.weight"])
    assert not torch.equal(model.layer4[0].conv1.weight, theirs["layer4.0.conv1.weight"])
    assert model.classes == ["blue", "green", "red"]
    again = data_of(val_size=0.25)
    assert torch.equal(model.preprocess.read(example), again.splits["test"][0][:1])  # what the test saw
    shutil.rmtree(photos)  # the checkpoint is enough
    Image.new("RGB", (300, 200), COLOURS["red"]).save("photo.jpg")
    (result,), errors = predict_files(checkpoint, [Path("photo.jpg")])
    assert not errors
    assert {p["class"] for p in result["predictions"]} == set(COLOURS)


def test_learns_the_classes(run_train, photos, tmp_path):
    code, output = run_train(
        "model=linear",
        *SMALL,
        *QUIET,
        "trainer.max_epochs=10",
        "optimizer=adam",
        "scheduler=none",
        "optimizer.lr=0.001",
    )
    assert code == 0, output
    (checkpoint,) = tmp_path.glob("logs/linear_image_folder/*/checkpoints/best.ckpt")
    for name, colour in COLOURS.items():
        Image.new("RGB", (50, 90), colour).save("photo.png")
        (result,), _ = predict_files(checkpoint, [Path("photo.png")], top=1)
        assert result["predictions"][0]["class"] == name
    card, metrics, off = evaluate(checkpoint, root="my_photos")
    assert metrics["accuracy"] == card.metrics["accuracy"] == 1.0
    assert not off
    assert_fails(lambda: evaluate(checkpoint), "--root my_photos")


def test_resumes(run_train, photos, tmp_path):
    lean = ("model=linear", *SMALL, *QUIET, "test=false")
    assert run_train(*lean, "trainer.max_epochs=1")[0] == 0
    code, output = run_train("resume=last", "trainer.max_epochs=2")
    assert code == 1  # a path is not taken from a file
    assert output.strip().endswith("say it again: data.root=my_photos")
    code, output = run_train("resume=last", "trainer.max_epochs=2", "data.root=my_photos")
    assert code == 0, output
    (last,) = tmp_path.glob("logs/*/*/checkpoints/last.ckpt")
    assert torch.load(last, weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("line", [line for line in DOCS.splitlines() if line.startswith("python train.py")])
def test_commands_of_the_page(run_train, photos, weight_file, cached, line):
    shutil.copy(weight_file, "resnet18-f37072fd.pth")
    names = {"fc.weight": "classifier.weight", "fc.bias": "classifier.bias"}
    theirs = torch.load(weight_file, weights_only=True)
    torch.save({f"module.{names.get(name, name)}": tensor for name, tensor in theirs.items()}, "theirs.pth")
    code, output = run_train(
        "data.val_size=0.15",
        *shlex.split(line)[2:],
        "debug=fast",
        *QUIET[:2],
        "data.image_size=32",
        "data.batch_size=8",
    )
    assert code == 0, output


# --- layouts and splits ---------------------------------------------------------------------------------------------


def test_carved_parts_are_fixed_disjoint_and_whole(photos):
    first, again, other = data_of(), data_of(seed=7), data_of(split_seed=1)
    everything = {row for split in ("train", "val", "test") for row in rows(first, split)}
    assert len(everything) == 24
    assert [len(first.splits[split][1]) for split in ("train", "val", "test")] == [18, 3, 3]
    for split, n in (("train", 6), ("val", 1), ("test", 1)):
        assert rows(first, split) == rows(again, split)
        assert first.splits[split][1].bincount().tolist() == [n, n, n]
    assert rows(first, "test") != rows(other, "test")


def test_labels_are_those_of_the_folders(photos):
    """Blue is 0, green 1, red 2: the channel that is brightest says which."""
    for images, labels in data_of().splits.values():
        assert torch.equal(2 - images.float().mean((1, 2)).argmax(1), labels)


def test_an_image_more_leaves_the_others_where_they_are(photos):
    before = data_of(val_size=0.25, test_size=0.25)
    Image.new("RGB", (50, 50), COLOURS["red"]).save(photos / "red" / "new.png")
    after = data_of(val_size=0.25, test_size=0.25)
    moved = sum(len(rows(before, split) - rows(after, split)) for split in ("train", "val", "test"))
    assert moved <= 2


def test_folders_of_splits(tmp_path):
    """Each is taken as it is; what is not there is carved from the training images alone."""
    for seed, split in enumerate(("train", "validation", "test")):
        make(tmp_path / split, n=4, seed=seed)
    folders = {"train": "train", "val": "validation", "test": "test"}
    own = {split: decode_all(tmp_path / name) for split, name in folders.items()}
    data = data_of(tmp_path)
    assert {split: rows(data, split) for split in own} == own
    assert "carved" not in data.summary()
    data = data_of(tmp_path, val_size=0)
    assert rows(data, "train") == own["train"] | own["val"]
    assert rows(data, "test") == own["test"]
    assert data.val_dataloader() == []
    shutil.rmtree(tmp_path / "validation")
    data = data_of(tmp_path)
    assert rows(data, "test") == own["test"]
    assert rows(data, "train") | rows(data, "val") == own["train"]
    assert len(rows(data, "val")) == 3
    assert "(validation carved" in data.summary()


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Train", "Val", "Test"),
        ("training", "validation", "testing"),
        ("TRAIN", "dev", "TEST"),
        ("train", "Valid", "Testing"),
        ("train_images", "val_images", "test_images"),
        ("seg_train", "seg_val", "seg_test"),
        ("trainingSet", "validationSet", "testSet"),
        ("trainset", "valset", "testset"),
        ("1.Training", "2.Validation", "3.Test"),
        ("train2017", "val2017", "test2017"),
        ("asl_alphabet_train", "asl_alphabet_valid", "asl_alphabet_test"),
        ("training", "validation", "evaluation"),
        ("my-train-data", "valid", "TestImages"),
    ],
)
def test_folders_of_splits_by_other_names(tmp_path, train, val, test):
    names = {"train": train, "val": val, "test": test}
    for seed, name in enumerate(names.values()):
        make(tmp_path / name, n=4, seed=seed)
    assert class_names(tmp_path) == ["blue", "green", "red"]
    data = data_of(tmp_path)
    assert {split: rows(data, split) for split in names} == {s: decode_all(tmp_path / n) for s, n in names.items()}


def decode_all(part: Path) -> set[bytes]:
    preprocess = Preprocess(32, [0.5] * 3, [0.5] * 3, 37)
    images, _ = decode([p for p in part.rglob("*") if p.is_file()], preprocess)
    return {image.numpy().tobytes() for image in images}


def test_a_class_may_be_called_train(tmp_path):
    for name in ("car", "train"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / name / "1.png")
    assert class_names(tmp_path) == ["car", "train"]


@pytest.mark.parametrize(
    "names", [("bullet_train", "freight_train"), ("car", "train"), ("train_station", "test_tube", "x"), ("a", "devil")]
)
def test_classes_whose_names_speak_of_parts(tmp_path, names):
    for name in names:
        (tmp_path / name / ("day" if name.endswith("_train") else "")).mkdir(parents=True)
    assert class_names(tmp_path) == sorted(names)


def test_classes_that_look_the_same(photos, capsys):
    make(photos, classes={"r\u00e9d": 0})
    (photos / "blue").rename(photos / "re\u0301d")
    assert_fails(lambda: class_names(photos), "look the same, 're\\u0301d' and 'r\\xe9d'; put them into one")
    (photos / "r\u00e9d").rename(photos / "Red")
    data_of(num_classes=4)
    assert "note: Red and red are separate classes, although their names differ only in case" in capsys.readouterr().err


def test_labels_per_class(photos):
    assert data_of(labels_per_class=2).splits["train"][1].bincount().tolist() == [2, 2, 2]
    assert_fails(lambda: data_of(labels_per_class=9), "data.labels_per_class=9", "6 training images")


# --- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(300, 451), (640, 333), (257, 256), (31, 40), (224, 224)])
def test_scaled_and_cut_as_torchvision_does(size):
    from torchvision.transforms import v2

    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    expected = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])(Image.fromarray(pixels))
    read = Preprocess(224, [0.5] * 3, [0.5] * 3, 256).read(Image.fromarray(pixels))
    assert np.array_equal(read[0].numpy(), np.asarray(expected))


def test_any_mode_and_upright(tmp_path):
    """Grey, transparent, 16-bit and turned images come out as 3 channels, upright; other files are left aside."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    for i, mode in enumerate(("L", "RGBA", "P", "CMYK", "1")):
        Image.new("RGB", (40, 40), (200, 30, 30)).convert(mode).save(tmp_path / "a" / f"{i}.tiff")
    turned = Image.new("RGB", (40, 40), "black")
    turned.paste("white", (0, 0, 20, 40))  # left, which is above when it is turned clockwise
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(5):
        turned.save(tmp_path / "b" / f"{i}.jpg", exif=exif, quality=100)
    (tmp_path / "b" / "notes.txt").write_text("no image")
    (tmp_path / "b" / "._0.jpg").write_text("what macOS leaves")
    data = data_of(tmp_path, num_classes=2, resize=32)
    images = torch.cat([data.splits[split][0][data.splits[split][1] == 1] for split in data.splits]).float()
    assert images.shape == (5, 32, 32, 3)
    assert images[:, :14].mean() > 250
    assert images[:, 18:].mean() < 5
    grey = data_of(tmp_path, num_classes=2, in_channels=1, mean=[0.5], std=[0.5])
    assert grey.splits["train"][0].shape[1:] == (32, 32, 1)


def test_what_is_left_out_is_counted_and_named(photos, capsys):
    """In one line, by the reasons; hidden files are not, and linked folders are followed, once each."""
    for name in (
        "red/notes.txt",
        "red/a.heic",
        "blue/README",
        "blue/.hidden.txt",
        "labels.csv",
        "top.png",
        ".DS_Store",
    ):
        (photos / name).write_text("no image")
    (photos / "red" / "gone.png").symlink_to("nowhere")
    (photos / "more").mkdir()
    (photos / "red" / "0.jpg").rename(photos / "more" / "0.jpg")
    (photos / "more").rename(photos.parent / "elsewhere")
    (photos / "red" / "linked").symlink_to(photos.parent.resolve() / "elsewhere")
    (photos / "red" / "itself").symlink_to(photos.resolve() / "red")
    (photos / "red" / "again.png").symlink_to("1.PNG")
    data = data_of()
    assert sum(map(len, tensors(data))) == 24
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert line == (
        "my_photos: 8 files are left out; in no class's folder: 2 (labels.csv, top.png); "
        "not named as images are: 3 (blue/README, red/a.heic, red/notes.txt); links that lead nowhere: 1 "
        "(red/gone.png); there already by another name, or links to a folder that they lie in: 2 (red/itself, "
        "red/again.png)"
    )
    for name in ("red/a.heic", "blue/README", "labels.csv", "top.png", "red/gone.png", "red/itself", "red/again.png"):
        (photos / name).unlink()
    data_of()
    assert "my_photos: 1 file is left out; not named as images are: 1 (red/notes.txt)" in capsys.readouterr().err
    (photos / "red" / "notes.txt").unlink()
    data_of()
    assert "left out" not in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="has no pipes in folders")
def test_what_is_no_file_is_left_out_and_named(photos, capsys):
    """A pipe, a socket, a device and a link to itself, whatever their names say; nobody waits for them."""
    os.mkfifo(photos / "red" / "pipe.png")
    os.mkfifo(photos / "red" / "pipe")
    (photos / "red" / "device.jpg").symlink_to("/dev/zero")
    (photos / "red" / "loop.jpg").symlink_to("loop.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("my_photos/blue/socket.png")
        assert sum(map(len, tensors(data_of()))) == 24
    said = capsys.readouterr().err
    assert "my_photos: 5 files are left out; pipes, sockets or devices: 4 (blue/socket.png, red/device.jpg, red" in said
    assert "links that lead nowhere: 1 (red/loop.jpg)" in said


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("red/all", ".."),
        ("red/deep/all", "../.."),
        ("red/more", "../.."),
        ("red/0/1/2", "/"),
        ("red/all", "../../link"),
    ],
)
def test_links_to_folders_above_bring_no_images_of_other_classes(photos, place, target, capsys):
    """What is above a class's folder has the images of other classes in it."""
    expected = data_of()
    capsys.readouterr()
    (photos.parent / "link").symlink_to(photos.resolve())
    (photos / place).parent.mkdir(parents=True, exist_ok=True)
    (photos / place).symlink_to(target)
    assert same(expected, data_of())
    said = capsys.readouterr().err
    assert "my_photos: 1 file is left out; there already by another name, or links to a folder that they lie" in said
    assert said.rstrip().endswith(f"({place})")


def test_a_linked_class_does_not_bring_what_is_beside_it(photos, tmp_path):
    """The folder above it is above it where it really is, too."""
    (tmp_path / "pool").mkdir()
    (photos / "red").rename(tmp_path / "pool" / "red")
    shutil.copytree(photos / "blue", tmp_path / "pool" / "blue")
    (tmp_path / "pool" / "red" / "up").symlink_to("..")
    (photos / "red").symlink_to(tmp_path / "pool" / "red")
    assert sum(map(len, tensors(data_of()))) == 24


@pytest.mark.parametrize(
    ("place", "target", "words"),
    [
        ("red/more", "../blue", ("red/more/0.jpg is the same file as my_photos/blue/0.jpg", "has one class")),
        ("red/a.jpg", "../blue/0.jpg", ("red/a.jpg is the same file as my_photos/blue/0.jpg", "has one class")),
        ("rot", "red", ("rot/0.jpg is the same file as my_photos/red/0.jpg", "has one class")),
        ("rot", "..", ("my_photos/rot has no images in it",)),
        ("rot", ".", ("my_photos/rot has no images in it",)),
    ],
)
def test_one_file_has_one_class(photos, place, target, words):
    (photos / place).symlink_to(target)
    assert_fails(lambda: data_of(num_classes=len(class_names(photos))), *words)


@pytest.mark.parametrize(("place", "target"), [("val", "train"), ("test/red/x.jpg", "../../train/red/0.jpg")])
def test_one_file_is_in_one_part(tmp_path, place, target):
    """Else a model would be measured on what it was trained on."""
    make(tmp_path / "train")
    make(tmp_path / "test", seed=1)
    (tmp_path / place).symlink_to(target)
    assert_fails(lambda: data_of(tmp_path), "is the same file as", "an image is in one part")


def test_folders_that_systems_add_are_none(photos):
    """Synology's thumbnails are images, too."""
    expected = data_of()
    make(photos, classes={"__MACOSX": 0, "lost+found": 0})
    make(photos / "red", classes={"@eaDir": 0})
    assert class_names(photos) == ["blue", "green", "red"]
    assert same(expected, data_of())


def test_deep_folders_are_read_in_time(photos):
    """The time grew with the third power of the depth."""
    here = photos / "red"
    for _ in range(300):
        here = here / "d"
    here.mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(here / "a.png")
    links: list[str] = []
    real = os.path.realpath
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os.path, "realpath", lambda path: links.append(str(path)) or real(path))
        assert len(list_images(photos, ["blue", "green", "red"]).images["train"]) == 25
    assert len(links) < 100


def test_what_is_alike_in_several_parts_or_classes_is_told(tmp_path, capsys):
    """Copies and hard links too; a model would be measured on what it has seen."""
    for seed, part in enumerate(("train", "test")):
        make(tmp_path / part, seed=seed)
    data_of(tmp_path)
    assert "note" not in capsys.readouterr().err
    shutil.copy(tmp_path / "train" / "red" / "0.jpg", tmp_path / "test" / "red" / "x.jpg")
    os.link(tmp_path / "train" / "red" / "1.PNG", tmp_path / "train" / "blue" / "y.PNG")
    shutil.copy(tmp_path / "test" / "red" / "2.jpeg", tmp_path / "test" / "red" / "z.jpeg")  # which does no harm
    data_of(tmp_path, val_size=0)
    assert (
        "note: images with the same content are in several parts or classes: train/blue/y.PNG and train/red/1.PNG, "
        "train/red/0.jpg and test/red/x.jpg\n"
    ) in capsys.readouterr().err


def test_classes_that_a_part_does_not_have_are_told(tmp_path, capsys):
    make(tmp_path / "train")
    make(tmp_path / "test", seed=1, classes={"red": COLOURS["red"]})
    data_of(tmp_path)
    assert "note: there are no images of blue, green in test\n" in capsys.readouterr().err


# --- what is kept ---------------------------------------------------------------------------------------------------


def test_second_run_reads_no_image(photos, monkeypatch):
    first = data_of()
    reads: list[int] = []
    monkeypatch.setattr(
        decoded, "decode", lambda listed, preprocess: reads.append(len(listed)) or decode(listed, preprocess)
    )
    again = data_of(split_seed=0)
    assert reads == []
    assert all(torch.equal(first.splits[s][0], again.splits[s][0]) for s in first.splits)
    data_of(image_size=16)
    assert reads == [24]  # another size is another tensor
    data_of()
    assert reads == [24]
    picture = photos / "red" / "0.jpg"
    Image.new("RGB", (50, 50), "white").save(picture)
    os.utime(picture, ns=(1, 1))
    changed = data_of()
    assert reads == [24, 24]
    assert any((images == 255).all((1, 2, 3)).any() for images, _ in changed.splits.values())
    (photos / "red" / "1.PNG").unlink()
    assert sum(len(labels) for _, labels in data_of().splits.values()) == 23


# --- images that vanish or change -------------------------------------------------------------------------------------


def test_an_image_that_vanishes_after_it_was_listed(photos, monkeypatch):
    real = folder.list_images

    def list_and_remove(root: Path, classes):
        found = real(root, classes)
        (photos / "red" / "0.jpg").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(folder, "list_images", list_and_remove)
    assert_fails(data_of, "my_photos/red/0.jpg is gone since its folder was listed; run again")
    assert_fails(lambda: decode([photos / "red" / "0.jpg"], Preprocess(8, [0.5], [0.5])), "red/0.jpg: no such file")


@pytest.mark.parametrize("become", ["gone", "another", "a pipe", "a folder"])
def test_an_example_that_is_gone_or_another_at_the_end_of_a_run(photos, tmp_path, become):
    """What the test saw is written instead."""
    data = data_of()
    assert data.save_example(tmp_path).read_bytes() == data.example.read_bytes()
    data.example.unlink()
    if become == "another":
        Image.new("RGB", (9, 9)).save(data.example)
    elif become == "a pipe":
        os.mkfifo(data.example)
    elif become == "a folder":
        data.example.mkdir()
    written = data.save_example(tmp_path)
    assert written.name == "example.png"
    assert np.array_equal(np.asarray(Image.open(written)), data.splits["test"][0][0].numpy())


def repaint(root: Path) -> None:
    Image.new("RGB", (50, 50), "white").save(root / "red" / "0.jpg")


def touch(root: Path) -> None:
    for file in root.rglob("*.*"):
        os.utime(file, ns=(1, 1))


def swap(root: Path) -> None:
    (root / "red" / "0.jpg").rename(root / "red" / "x.jpg")
    (root / "red" / "4.jpg").rename(root / "red" / "0.jpg")
    (root / "red" / "x.jpg").rename(root / "red" / "4.jpg")


def many(root: Path) -> None:
    for file in (root / "red").glob("*.jpg"):
        file.rename(file.with_suffix(".jpe"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (touch, None),
        (repaint, "red/0.jpg has changed; restore the old data, or start anew from its weights: init.weights="),
        (lambda root: (root / "red" / "0.jpg").unlink(), "red/0.jpg is gone; restore"),
        (lambda root: (root / "red" / "2.jpeg").rename(root / "red" / "9.png"), "red/2.jpeg is gone, red/9.png is new"),
        (swap, "red/0.jpg has changed, red/4.jpg has changed; restore"),
        (many, "red/0.jpg is gone, red/4.jpg is gone, red/0.jpe is new (and 1 more)"),
    ],
)
def test_a_resumed_run_notices_images_that_changed(run_train, photos, change, said):
    """By what is in them, whatever the time of their change."""
    lean = ("model=linear", *SMALL, *QUIET, "test=false")
    assert run_train(*lean, "trainer.max_epochs=1")[0] == 0
    change(photos)
    code, output = run_train("resume=last", "trainer.max_epochs=2", "data.root=my_photos")
    if said is None:
        assert code == 0, output
    else:
        assert code == 1
        (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
        assert f"the data have changed: {said}" in line


def test_a_copy_of_the_folder_serves_a_resumed_run(run_train, photos):
    lean = ("model=linear", *SMALL, *QUIET, "test=false")
    assert run_train(*lean, "trainer.max_epochs=1")[0] == 0
    shutil.copytree(photos, "elsewhere")
    shutil.rmtree(photos)
    code, output = run_train("resume=last", "trainer.max_epochs=2", "data.root=elsewhere")
    assert code == 0, output


def test_each_writer_of_the_cache_has_a_file_of_its_own(photos, monkeypatch):
    """Threads, and processes of the same number on other hosts, which write the same at the same time."""
    import safetensors.torch

    names: list[Path] = []
    real = safetensors.torch.save_file

    def save_file(tensors, path, metadata):
        names.append(path)
        real(tensors, path, metadata=metadata)

    monkeypatch.setattr(safetensors.torch, "save_file", save_file)
    for _ in range(2):
        data_of()
        (kept,) = kept_files()
        kept.unlink()
    assert len(set(names)) == 2
    old, new = (kept.with_name(f".{kept.name}-{i}") for i in (1, 2))
    for left in (old, new):
        left.write_bytes(b"of a run that was killed")
    os.utime(old, ns=(1, 1))
    data_of()
    assert not old.exists()
    assert new.exists()  # it may still be written to


def kept_files() -> list[Path]:
    return [path for path in (Path(os.environ["XDG_CACHE_HOME"]) / "reference-zoo").rglob("*") if path.is_file()]


def tensors(data: FolderData) -> list[torch.Tensor]:
    return [images for images, _ in data.splits.values()]


def same(first: FolderData, second: FolderData) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second), strict=True))


def test_the_folder_is_the_users_own(photos):
    """Nothing is written into it: torchvision takes it after a run as before."""
    before = sorted(photos.rglob("*"))
    data_of()
    assert sorted(photos.rglob("*")) == before
    assert torchvision.datasets.ImageFolder(photos).classes == ["blue", "green", "red"]
    (kept,) = kept_files()
    assert kept.parent.parent.name == "image_folders"


def test_folders_of_the_same_name_are_kept_apart(tmp_path, monkeypatch):
    data: list[FolderData] = []
    for seed in (0, 1):
        make(tmp_path / str(seed) / "my_photos", seed=seed)
        monkeypatch.chdir(tmp_path / str(seed))
        data.append(data_of())
    assert not same(*data)
    assert len(kept_files()) == 2
    (tmp_path / "link").symlink_to(tmp_path / "0" / "my_photos")
    assert same(data_of(tmp_path / "link"), data[0])
    assert len(kept_files()) == 2  # a link to a folder is the folder


def test_a_damaged_or_impossible_cache_is_no_harm(photos):
    first = data_of()
    (kept,) = kept_files()
    kept.write_bytes(kept.read_bytes()[:1000])
    assert same(first, data_of())
    shutil.rmtree(kept.parent)
    kept.parent.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="the next run reads the images again"):
        again = data_of()
    assert same(first, again)


@pytest.mark.parametrize("at", [-1, -1000, 8, 12, 200])
def test_an_altered_tensor_is_read_again(photos, at):
    """A byte of it, or of what is noted of it: the images are read anew, and kept."""
    first = data_of()
    (kept,) = kept_files()
    content = bytearray(kept.read_bytes())
    images = load(bytes(content))["images"]
    content[at] ^= 1
    kept.write_bytes(content)
    assert same(first, data_of())
    assert torch.equal(load(kept.read_bytes())["images"], images)


def test_other_tensors_with_the_right_key_are_not_taken(photos):
    """Of another form, or without a hash, as other programs might leave them."""
    first = data_of()
    (kept,) = kept_files()
    with safe_open(kept, "pt") as file:
        noted, images, digests = file.metadata(), file.get_tensor("images"), file.get_tensor("digests")
    for tensor, metadata in (
        (255 - images, noted), (images[:5], noted), (images.float(), noted), (255 - images, {"key": noted["key"]}),
        (255 - images, None),
    ):  # fmt: skip
        save_file({"images": tensor.contiguous(), "digests": digests}, kept, metadata=metadata)
        assert same(first, data_of())


def test_a_run_is_not_hurt_by_what_happens_to_its_file(photos):
    """The tensor is not mapped: overwriting or cutting the file changes nothing, and kills nobody."""
    first = data_of()
    again = data_of()
    (kept,) = kept_files()
    kept.write_bytes(b"\0" * kept.stat().st_size)
    os.truncate(kept, 0)
    assert same(first, again)


def test_too_large_for_the_memory(photos, monkeypatch):
    monkeypatch.setattr(decoded, "total_memory", lambda: 24 * 32 * 32 * 3 * 2)
    data_of()
    monkeypatch.setattr(decoded, "total_memory", lambda: 24 * 32 * 32 * 3 * 2 - 1)
    assert_fails(data_of, "24 images of 32×32×3", "half of this machine's memory", "data.image_size")


# --- errors ---------------------------------------------------------------------------------------------------------


def loose(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()
    Image.new("RGB", (9, 9)).save(root / "1.png")


def only_one(root: Path) -> None:
    shutil.rmtree(root / "red")
    shutil.rmtree(root / "blue")


def damaged(root: Path) -> None:
    content = (root / "red" / "0.jpg").read_bytes()
    (root / "red" / "0.jpg").write_bytes(content[: len(content) // 2])
    (root / "blue" / "4.jpg").write_text("no image")


def few(root: Path) -> None:
    for file in list((root / "red").iterdir())[2:]:
        file.unlink()


def with_test(root: Path) -> None:
    """Folders of splits, where the test has a class that training has not."""
    (root / "train").mkdir()
    for name in COLOURS:
        (root / name).rename(root / "train" / name)
    shutil.copytree(root / "train" / "red", root / "test" / "reds")


def only_splits(root: Path) -> None:
    """Images without classes, in folders of splits."""
    shutil.rmtree(root / "green")
    (root / "red").rename(root / "train")
    (root / "blue").rename(root / "test")


def flat(*names: str):
    """Images without classes, in folders that are called as parts are."""

    def change(root: Path) -> None:
        for old, new in zip(COLOURS, names, strict=False):
            (root / old).rename(root / new)
        for old in list(COLOURS)[len(names) :]:
            shutil.rmtree(root / old)

    return change


def half_flat(root: Path) -> None:
    flat("seg_pred", "test_it", "train_it")(root)
    for name in COLOURS:
        make(root / "seg_train", classes={name: 0})
        make(root / "seg_test", classes={name: 0})


def alike(root: Path) -> None:
    for split in ("train", "Training"):
        for name in COLOURS:
            shutil.copytree(root / name, root / split / name)
    for name in COLOURS:
        shutil.rmtree(root / name)


def alone(root: Path) -> None:
    alike(root)
    shutil.rmtree(root / "train")
    (root / "Training").rename(root / "Testing")


def empty_test(root: Path) -> None:
    alike(root)
    shutil.rmtree(root / "Training")
    (root / "test").mkdir()


def train_and_more(root: Path) -> None:
    with_test(root)
    (root / "extra").mkdir()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (loose, ("my_photos has no folders in it", "my_photos/cat/1.jpg")),
        (only_one, ("one class only, green",)),
        (lambda root: (root / "empty").mkdir(), ("my_photos/empty has no images in it", "or remove the folder")),
        (damaged, ("my_photos/blue/4.jpg: not an image", "1 more: my_photos/red/0.jpg", "take it out of the folder")),
        (few, ("class red has too few images (2)", "test and val", "data.val_size")),
        (with_test, ("my_photos/test has classes that are not among the training images: reds",)),
        (train_and_more, ("my_photos has extra beside test, train", "valid: train, val, test", "remove the others")),
        (shutil.rmtree, ("data.root=my_photos: there is no such folder",)),
        (only_splits, ("train is taken for a part of the images", "no folders of classes")),
        (flat("train_images", "test_images"), ("train_images is taken for a part", "no folders of classes")),
        (flat("trainingSet", "testSet"), ("trainingSet is taken for a part", "no folders of classes")),
        (flat("Training", "evaluation"), ("my_photos/Training is taken for a part", "no folders of classes")),
        (
            flat("a_val", "a_test", "cat"),
            ("my_photos has a_val, a_test with images to measure on, but no folder train",),
        ),
        (flat("cat", "test", "train"), ("my_photos has cat beside test, train", "another name to what is a class")),
        (half_flat, ("my_photos has seg_train and train_it, which are both taken for its train images",)),
        (alike, ("my_photos has Training and train, which are both taken for its train images",)),
        (alone, ("my_photos has Testing with images to measure on, but no folder train beside it",)),
        (empty_test, ("my_photos/test is taken for a part of the images", "remove or rename it")),
    ],
)
def test_wrong_folders(photos, change, words):
    change(photos)
    assert_fails(lambda: data_of(num_classes=len(class_names(photos))), *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_classes": 5}, ("data.num_classes=5, but my_photos has 3 classes (blue, green, red)",)),
        ({"in_channels": 4, "mean": [0.5] * 4, "std": [0.5] * 4}, ("data.in_channels=4",)),
        ({"val_size": 100}, ("data.val_size=100", "a share of each class")),
        ({"test_size": 0}, ("data.test_size=0",)),
        ({"resize": 16}, ("data.resize=16", "data.image_size=32 or more")),
        ({"image_size": 0}, ("data.image_size=0",)),
    ],
)
def test_wrong_settings(photos, arguments, words):
    assert_fails(lambda: data_of(**arguments), *words)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), "error: which images? give their folder"),
        (("data.root=nowhere",), "error: data.root=nowhere: there is no such folder"),
        (("data.root=my_photos", "data.keep=[1]"), "nothing is named keep in data"),
    ],
)
def test_errors_on_the_command_line(run_train, photos, overrides, expected):
    code, output = run_train("data=image_folder", *overrides)
    assert code == 1
    assert expected in output
    assert len(output.splitlines()) == 1, output


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="root may read everything, and become another")
@pytest.mark.parametrize(
    ("place", "mode", "words"),
    [
        pytest.param(
            "my_photos", 0o300, "my_photos: the folder cannot be read: Permission denied", marks=pytest.mark.slow
        ),
        pytest.param(
            "my_photos/red",
            0o300,
            "my_photos/red: the folder cannot be read: Permission denied",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "my_photos/red", 0o600, "my_photos/red/0.jpg cannot be read: Permission denied", marks=pytest.mark.slow
        ),
        ("my_photos/red/0.jpg", 0o200, "my_photos/red/0.jpg: not an image that can be read (Permission denied)"),
    ],
)
def test_what_may_not_be_read_is_named(command, tmp_path, place, mode, words):
    make(tmp_path / "good")
    make(tmp_path / "my_photos")
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, 65534, 65534)
    (tmp_path / place).chmod(mode)
    code = f"""
import os
from zoo.data.folder import FolderData
from zoo.errors import ZooError
os.chdir({str(tmp_path)!r})
FolderData("good", 3, image_size=32).prepare_data()  # what is imported may lie where others may not look
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    FolderData("my_photos", 3, image_size=32).prepare_data()
except ZooError as error:
    print(error)
"""
    result = command("-c", code)
    assert result.stdout.startswith(words), result.stderr


# --- torchvision's weights ------------------------------------------------------------------------------------------


def test_torchvision_from_its_cache(weight_file, cached):
    theirs = torch.load(weight_file, weights_only=True)
    whole = zoo.create("resnet18", weights="torchvision:resnet18")
    assert torch.equal(whole.head.weight, theirs["fc.weight"])
    three = zoo.create("resnet18", weights="torchvision:resnet18", num_classes=3)
    assert three.head.weight.shape == (3, 512)
    assert torch.equal(three.layer4[1].conv2.weight, theirs["layer4.1.conv2.weight"])


@pytest.mark.parametrize("at", [-1, 1000, 0])
def test_a_damaged_file_in_torchs_cache(cached, at):
    """Torch compares the hash when it downloads, and never again."""
    content = bytearray(cached.read_bytes())
    content[at] ^= 1
    cached.write_bytes(content)
    begins = cached.stem.rpartition("-")[2]
    words = (str(cached), "is damaged: its sha256 begins with", f"not {begins}, as its name says; delete it")
    assert_fails(lambda: reading.read_weights("torchvision:resnet18"), *words)


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no route"), RuntimeError("invalid hash value"), TimeoutError("timed out")]
)
def test_torchvision_out_of_reach(tmp_path, monkeypatch, error):
    """What was tried, why it failed, and that a downloaded file will do."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    told = ("https://download.pytorch.org/models/resnet18-f37072fd.pth", "init.weights=PATH/resnet18-f37072fd.pth")
    monkeypatch.setattr(hub, "unreachable", lambda url: f"no answer from {url}")
    assert_fails(lambda: reading.read_weights("torchvision:resnet18"), "no answer", *told)
    monkeypatch.setattr(hub, "unreachable", lambda url: None)

    def get_state_dict(self, **arguments):
        assert arguments["check_hash"]
        assert arguments["weights_only"]
        raise error

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", get_state_dict)
    words = str(getattr(error, "reason", error))
    assert_fails(lambda: reading.read_weights("torchvision:resnet18"), words, *told)


def test_torchvision_does_not_know_it():
    assert_fails(lambda: reading.read_weights("torchvision:resnet19"), "did you mean resnet18?", "resnet152")
