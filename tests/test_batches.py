"""Splits, batches, augmentation and preprocessing."""

import io
import struct
import sys
import warnings
import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import toy
from tests.data_helpers import assert_fails, image_data, png, write
from zoo.data import sources
from zoo.data.augment import Augment, shift_and_flip, warp
from zoo.data.loader import BatchLoader
from zoo.data.preprocess import Preprocess
from zoo.errors import ZooError

# --- the split ------------------------------------------------------------------------------------------------------


def split(**arguments) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    data = image_data(**arguments)
    data.setup()
    return data.splits


def rows(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_split_is_fixed_disjoint_and_whole(toy_data):
    whole = sources.load("mnist")
    first, again, other = split(), split(seed=7), split(split_seed=1)
    assert torch.equal(first["val"][0], again["val"][0])  # the run's seed does not move it
    assert not torch.equal(first["val"][0], other["val"][0])
    assert len(first["val"][1]) == 100
    train, val = rows(first["train"][0]), rows(first["val"][0])
    assert not train & val
    assert train | val == rows(whole["train_images"])
    for part in (first, other):
        assert torch.equal(part["test"][0], whole["test_images"])
        assert not rows(part["test"][0]) & (train | val)


def test_labels_stay_with_their_images(toy_data):
    whole = sources.load("mnist")
    label = {
        image.numpy().tobytes(): y
        for image, y in zip(whole["train_images"], whole["train_labels"].tolist(), strict=True)
    }
    for images, labels in (split(labels_per_class=5)["train"], split()["val"]):
        assert [label[image.numpy().tobytes()] for image in images] == labels.tolist()


def test_train_on_all(toy_data):
    data = image_data(val_size=0)
    data.setup()
    assert len(data.splits["train"][1]) == 600
    assert data.val_dataloader() == []


def test_labels_per_class(toy_data):
    few, again, other = split(labels_per_class=5), split(labels_per_class=5), split(labels_per_class=5, seed=1)
    assert few["train"][1].bincount().tolist() == [5] * 10
    assert torch.equal(few["train"][0], again["train"][0])
    assert not torch.equal(few["train"][0], other["train"][0])
    assert torch.equal(few["val"][0], split()["val"][0])
    assert rows(few["train"][0]) <= rows(split()["train"][0])
    assert_fails(lambda: split(labels_per_class=61), "data.labels_per_class=61", "training images", "or less")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"val_size": 600}, ("data.val_size=600", "0 to 599")),
        ({"val_size": -1}, ("data.val_size=-1",)),
        ({"batch_size": 0}, ("data.batch_size=0", '"full"')),
        ({"batch_size": "all"}, ("data.batch_size=all", '"full"')),
        ({"eval_batch_size": 0}, ("data.eval_batch_size=0",)),
        ({"labels_per_class": 0}, ("data.labels_per_class=0", "null")),
        ({"mean": [0.1, 0.2]}, ("data.mean", "one per channel")),
        ({"num_classes": 11}, ("holds 10 classes of 28×28 images with 1 channel", "data.num_classes")),
        ({"image_size": 32}, ("data.image_size",)),
        ({"name": "mnits"}, ("mnits", "valid: mnist")),
    ],
)
def test_wrong_settings(toy_data, arguments, words):
    assert_fails(lambda: split(**arguments), *words)


def test_the_first_examples_alone(toy_data):
    """Of every split, in another object; and how many there are where they are fewer."""
    data = image_data(binarise="fixed", mean=[0.0], std=[1.0])
    data.setup()
    few, n = data.first(7)
    assert n == 7
    assert [len(x) for x, _ in few.test_dataloader()] == [7]
    assert torch.equal(few.sample(9, "test")[0], data.sample(7, "test")[0])
    assert few.sample(9)[0].shape[0] == 7
    assert len(data.splits["test"][0]) == 200
    assert data.first(10**9)[1] == 200


def test_full_batch(toy_data):
    data = image_data(batch_size="full")
    data.setup()
    (batch,) = data.train_dataloader()
    assert len(batch[1]) == 500


def test_batch_larger_than_the_split(toy_data):
    data = image_data(batch_size=9999)
    data.setup()
    assert [len(labels) for _, labels in data.train_dataloader()] == [500]


def test_only_training_batches_are_augmented(toy_data):
    data = image_data(augment=Augment(shift=5))
    data.setup()
    data.trainer = trainer(training=True)
    batch = data.splits["train"][0][:50], data.splits["train"][1][:50]
    plain = data.preprocess(batch[0])
    assert not torch.equal(data.on_after_batch_transfer(batch, 0)[0], plain)
    data.trainer = trainer(training=False)
    assert torch.equal(data.on_after_batch_transfer(batch, 0)[0], plain)


def test_example_can_be_read_again(toy_data, tmp_path):
    data = image_data(
        fit="resize"
    )  # toys are noise, in which a digit would be looked for; digits: tests/test_photos.py
    data.setup()
    path = data.save_example(tmp_path)
    assert torch.equal(data.preprocess.read(path), data.splits["test"][0][:1])


# --- batches --------------------------------------------------------------------------------------------------------


def numbered(n: int, batch_size: int, **arguments) -> BatchLoader:
    """A loader whose labels are the examples' numbers."""
    return BatchLoader((torch.arange(n).view(n, 1, 1, 1).to(torch.uint8), torch.arange(n)), batch_size, **arguments)


def labels(loader: BatchLoader) -> list[list[int]]:
    return [batch.tolist() for _, batch in loader]


def flat(batches: list[list[int]]) -> list[int]:
    return [example for batch in batches for example in batch]


def test_every_example_once_an_epoch():
    loader = numbered(23, 5, shuffle=True)
    first, second = labels(loader), labels(loader)
    for epoch in (first, second):
        assert [len(batch) for batch in epoch] == [5, 5, 5, 5, 3]
        assert sorted(flat(epoch)) == list(range(23))
    assert first != second
    assert len(loader) == 5


def test_images_go_with_their_labels():
    for images, batch in numbered(23, 5, shuffle=True):
        assert images.flatten().tolist() == batch.tolist()


def test_order_depends_on_seed_and_epoch_alone():
    loader = numbered(23, 5, shuffle=True, seed=3)
    epochs = [labels(loader), labels(loader)]
    torch.rand(7)
    again = numbered(23, 5, shuffle=True, seed=3)
    assert [labels(again), labels(again)] == epochs
    assert labels(numbered(23, 5, shuffle=True, seed=4)) != epochs[0]


@pytest.mark.parametrize("taken", [0, 1, 4, 5, 7, 10])
def test_goes_on_after_any_batch(taken):
    loader, whole = numbered(23, 5, shuffle=True), numbered(23, 5, shuffle=True)
    expected = labels(whole) + labels(whole) + labels(whole)
    seen: list[list[int]] = []
    while len(seen) < taken:
        for _, batch in loader:
            seen.append(batch.tolist())
            if len(seen) == taken:
                break
    rest = numbered(23, 5, shuffle=True)
    rest.load_state_dict(loader.state_dict())
    while len(seen) < 15:
        seen += labels(rest)
    assert seen == expected


def trainer(**settings) -> Any:
    """What a data module asks of a Trainer."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    defaults = {"world_size": 1, "global_rank": 0, "overfit_batches": 0, "limit_train_batches": 1.0}
    return SimpleNamespace(**{**defaults, "strategy": strategy, **settings})


def test_shortened_epochs():
    """A limit ends the epoch: the next one is a new order from its start, or the same with ``repeat``."""
    images, labels = torch.zeros(10, 1, 1, 1), torch.arange(10)
    loader = BatchLoader((images, labels), 2, shuffle=True)
    loader.limit = 2
    epochs = [torch.cat([y for _, y in loader]).tolist() for _ in range(3)]
    assert [len(epoch) for epoch in epochs] == [4, 4, 4]
    assert epochs[0] != epochs[1]
    assert loader.state_dict() == {"epoch": 3, "batch": 0}
    loader = BatchLoader((images, labels), 2, shuffle=True)
    loader.limit, loader.repeat = 1, True
    assert [y.tolist() for _, y in loader] == [y.tolist() for _, y in loader]


@pytest.mark.parametrize(("setting", "lengths"), [(2, [2, 2, 2]), (0.5, [2, 2, 2]), (1.0, [5, 5, 5])])
def test_limit_train_batches(toy_data, setting, lengths):
    """Every epoch of a shortened training is as long as the first."""
    data = image_data(val_size=100, batch_size=100)
    data.setup()
    data.trainer = trainer(limit_train_batches=setting)
    loader = data.train_dataloader()
    assert [len(list(loader)) for _ in range(3)] == lengths


def test_evaluation_is_in_order():
    assert flat(labels(numbered(23, 5))) == list(range(23))
    loader = numbered(23, 5)
    assert labels(loader) == labels(loader)


@pytest.mark.parametrize(("n", "batch_size", "world_size"), [(23, 4, 2), (24, 4, 2), (25, 8, 4), (100, 30, 3)])
def test_processes_share_each_batch(n, batch_size, world_size):
    """Together they take one process's batches; every batch is cut in equal shares, so gradients average rightly.

    A batch that would leave each process one example is joined to the one before (23 in batches of 4 by 2 processes).
    """
    alone = labels(numbered(n, batch_size, shuffle=True))
    ranks = [numbered(n, batch_size, shuffle=True, rank=r, world_size=world_size) for r in range(world_size)]
    shared = [labels(loader) for loader in ranks]
    if joined := (n - (n % batch_size) % world_size) % batch_size == world_size:
        alone[-2:] = [alone[-2] + alone[-1]]
    assert {len(loader) for loader in shared} == {len(alone)} or (n, joined) == (25, False)
    dropped = 0
    for i, batch in enumerate(alone):
        shares = [loader[i] for loader in shared if i < len(loader)]
        assert min(map(len, shares), default=2) > 1
        assert len({len(share) for share in shares}) <= 1
        assert set(flat(shares)) <= set(batch)
        dropped += len(batch) - sum(map(len, shares))
    assert dropped == (n % batch_size) % world_size


def cut(n: int, batch_size: int) -> list[int]:
    """Batches of this size, and one of the rest."""
    return [batch_size] * (n // batch_size) + ([n % batch_size] if n % batch_size else [])


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_no_training_batch_leaves_a_process_one_example(world_size):
    """It is joined to the batch before; all other sizes are cut as ever, in the same order."""
    joined = 0
    for n in range(world_size, 60):
        for share in (1, 2, 3, 8):
            size = share * world_size
            loader = numbered(n, size, shuffle=True, seed=2, rank=world_size - 1, world_size=world_size)
            epoch = labels(loader)
            sizes = [len(batch) for batch in epoch]
            before = [part // world_size for part in cut(n - n % size % world_size, size)]
            if before[-1] == 1 and share > 1 and len(before) > 1:
                joined += 1
                before[-2:] = [share + 1]
            assert sizes == before
            assert len(loader) == len(before)
            order = torch.randperm(n, generator=numbered(n, size, shuffle=True, seed=2).generator()).tolist()
            assert flat(epoch) == order[world_size - 1 :: world_size][: sum(sizes)]
    assert joined > 20


def test_evaluation_keeps_a_batch_of_one():
    assert [len(batch) for batch in labels(numbered(9, 4))] == [4, 4, 1]


def test_a_joined_batch_is_resumed_and_limited():
    whole = numbered(9, 4, shuffle=True)
    first, second = labels(whole), labels(whole)
    assert [len(batch) for batch in first + second] == [4, 5, 4, 5]
    part = numbered(9, 4, shuffle=True)
    next(iter(part))
    rest = numbered(9, 4, shuffle=True)
    rest.load_state_dict(part.state_dict())
    assert labels(rest) + labels(rest) == first[1:] + second
    limited = numbered(9, 4, shuffle=True)
    limited.limit = 1
    assert [len(batch) for batch in labels(limited)] == [4]


def test_nine_images_in_batches_of_four_meet_batch_norm(toy_data):
    """Of 9, 5 by 2 processes, and with few labels: batch normalisation has two examples at least."""
    norm = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(784))
    data = image_data(batch_size=4, labels_per_class=2)
    data.setup()
    data.splits["train"] = tuple(tensor[:9] for tensor in data.splits["train"])  # type: ignore[assignment]
    sizes = [len(norm(images.float())) for images, _ in data.train_dataloader()]
    assert sizes == [4, 5]
    data.trainer = trainer(world_size=2)
    data.splits["train"] = tuple(tensor[:6] for tensor in data.splits["train"])  # type: ignore[assignment]
    assert [len(norm(images.float())) for images, _ in data.train_dataloader()] == [3]


@pytest.mark.parametrize(
    ("arguments", "n", "world_size", "smallest"),
    [
        ({"batch_size": 1}, 9, 1, 1), ({"batch_size": 2}, 9, 1, 2), ({"batch_size": 2}, 9, 2, 1),
        ({"batch_size": 8}, 1, 1, 1), ({"batch_size": "full"}, 1, 1, 1), ({"batch_size": "full"}, 3, 2, 1),
        ({"batch_size": 8, "unlabelled": 1}, 9, 1, 1), ({"batch_size": 4}, 9, 1, 4),
    ],
)  # fmt: skip
def test_the_smallest_batch_is_what_batch_norm_meets(toy_data, arguments, n, world_size, smallest):
    data = image_data(**arguments)
    data.setup()
    data.splits["train"] = tuple(tensor[:n] for tensor in data.splits["train"])  # type: ignore[assignment]
    data.trainer = trainer(world_size=world_size)
    assert data.smallest_batch(world_size) == smallest
    if "unlabelled" not in arguments:
        assert min(len(images) for images, _ in data.train_dataloader()) == smallest


def test_batches_of_labelled_and_other_images_are_whole():
    from zoo.data.loader import MixedLoader

    loader = MixedLoader((torch.arange(4),), (torch.arange(9),), 2, 4)
    assert [(len(a), len(b)) for a, b in loader] == [(2, 4), (2, 4)]


def test_processes_evaluate_everything():
    """Once each, but for what does not fill a share each at the very end: no process may go without a batch."""
    for n, twice in ((23, 0), (21, 1)):
        shared = [labels(numbered(n, 4, rank=rank, world_size=2)) for rank in range(2)]
        assert len(shared[0]) == len(shared[1])
        everything = flat(shared[0] + shared[1])
        assert set(everything) == set(range(n))
        assert len(everything) == n + twice


def test_batch_that_processes_cannot_share(toy_data):
    data = image_data(batch_size=25)
    data.setup()
    data.trainer = trainer(world_size=2)
    assert_fails(data.train_dataloader, "data.batch_size=25", "multiple of the 2 processes")
    data.batch_size, data.splits["train"] = "full", tuple(t[:99] for t in data.splits["train"])  # type: ignore[assignment]
    assert [len(batch) for _, batch in data.train_dataloader()] == [49]


def test_a_batch_costs_the_same_number_of_calls_whatever_its_size():
    """No Python an example: gathering and normalising 4,096 images runs as many functions as 64."""

    def calls(n: int) -> int:
        images, classes = toy(10)
        loader = BatchLoader((images.repeat(410, 1, 1, 1), classes.repeat(410)), n, shuffle=True)
        augment, preprocess = Augment(shift=2, flip=True, rotate=5, zoom=0.1, colour=0.1), Preprocess(28, [0.1], [0.3])
        count = 0

        def profile(frame, event, argument):
            nonlocal count
            count += 1

        batches = iter(loader)
        sys.setprofile(profile)
        try:
            preprocess(augment(next(batches)[0]))
        finally:
            sys.setprofile(None)
        return count

    calls(64)
    assert calls(4096) == calls(64)


# --- augmentation ---------------------------------------------------------------------------------------------------


def same(n: int = 64, channels: int = 1) -> torch.Tensor:
    """One image of no symmetry, n times."""
    image = torch.randint(1, 256, (1, 12, 12, channels), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return image.repeat(n, 1, 1, 1)


@pytest.mark.parametrize(
    "augment", [Augment(shift=2), Augment(flip=True), Augment(rotate=20), Augment(zoom=0.3), Augment(2, True, 20, 0.3)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_has_its_own_draw(augment, channels):
    images = same(channels=channels)
    torch.manual_seed(0)
    first = augment(images)
    assert first.shape == images.shape
    assert first.dtype == torch.uint8
    assert len(rows(first)) > (1 if augment == Augment(flip=True) else 10)
    assert torch.equal(images, same(channels=channels))  # the data themselves are left alone
    torch.manual_seed(0)
    assert torch.equal(augment(images), first)
    assert not torch.equal(augment(images), first)


def test_off_is_the_identity():
    images = same(channels=3)
    assert Augment()(images) is images
    assert torch.equal(shift_and_flip(images, 0), images)
    assert torch.equal(warp(images, 0.0, 0.0, 0.0), images)


def test_elastic_moves_pixels_smoothly_by_about_as_much():
    """Of an image whose value is its column, the change is the displacement in x."""
    columns = torch.arange(0, 256, 4, dtype=torch.uint8).repeat(300, 64, 1)[..., None]  # (B, 64, 64, 1)
    torch.manual_seed(0)
    bent = warp(columns, 0.0, 0.0, elastic=1.5)
    moved = ((bent.float() - columns) / 4)[:, 8:-8, 8:-8, 0]  # away from the border, where zeros come in
    assert moved.std().item() == pytest.approx(1.5, rel=0.25)
    assert abs(moved.mean().item()) < 0.2
    assert moved.diff(dim=1).abs().max() < 1.5
    assert moved.std(0).min() > 0.5  # each image is bent in another way


def test_shift_moves_by_at_most_n_pixels_and_pads_zeros():
    """Every result is one of the 25 shifts by up to 2, and all of them occur."""
    images = same(1000)
    expected = {}
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            moved = np.zeros((12, 12, 1), np.uint8)
            source = images[0].numpy()
            moved[max(dy, 0) : 12 + min(dy, 0), max(dx, 0) : 12 + min(dx, 0)] = source[
                max(-dy, 0) : 12 + min(-dy, 0), max(-dx, 0) : 12 + min(-dx, 0)
            ]
            expected[moved.tobytes()] = (dy, dx)
    torch.manual_seed(0)
    assert rows(Augment(shift=2)(images)) == set(expected)


def test_flip_is_the_exact_mirror_of_about_half():
    images = same(1000, channels=3)
    torch.manual_seed(0)
    flipped = Augment(flip=True)(images)
    mirrored = (flipped == images.flip(2)).flatten(1).all(1)
    assert (mirrored | (flipped == images).flatten(1).all(1)).all()
    assert 400 < mirrored.sum() < 600


def test_rotation_stays_within_its_degrees():
    """A dot near the border goes round by up to 30 degrees to either side, no further."""
    images = torch.zeros(500, 41, 41, 1, dtype=torch.uint8)
    images[:, 19:22, 35:38] = 255  # right of the centre
    torch.manual_seed(0)
    turned = Augment(rotate=30)(images).squeeze(-1).float()
    at = torch.arange(41.0) - 20
    y, x = ((turned * axis).sum((1, 2)) / turned.sum((1, 2)) for axis in (at[:, None], at[None, :]))
    angle = torch.rad2deg(torch.atan2(y, x))
    assert 28 < angle.max() < 31
    assert -31 < angle.min() < -28
    assert abs(angle.mean()) < 2.5
    torch.testing.assert_close((x**2 + y**2).sqrt(), torch.full((500,), 16.0), atol=0.5, rtol=0)


def test_zoom_stays_within_its_factor():
    images = torch.zeros(500, 60, 60, 1, dtype=torch.uint8)
    images[:, 20:40, 20:40] = 255
    torch.manual_seed(0)
    factor = (Augment(zoom=0.2)(images).float().sum((1, 2, 3)) / images[0].float().sum()).sqrt()
    assert 0.79 < factor.min() < 0.82
    assert 1.18 < factor.max() < 1.21


@pytest.mark.parametrize("arguments", [{"shift": -1}, {"rotate": -5.0}, {"zoom": 1.0}, {"zoom": -0.1}])
def test_impossible_augmentation(arguments):
    assert_fails(lambda: Augment(**arguments), "data.augment", "not valid")


# --- preprocessing --------------------------------------------------------------------------------------------------

GREY, COLOUR = Preprocess(4, [0.5], [0.25]), Preprocess(4, [0.0, 0.5, 1.0], [1.0, 0.5, 0.25])


def test_known_values():
    images = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2, 1)
    torch.testing.assert_close(GREY(images), torch.tensor([[[[-2.0, 2.0]]]]))
    images = torch.tensor([[0, 0, 0], [255, 255, 255]], dtype=torch.uint8).view(1, 1, 2, 3)
    x = COLOUR(images)
    assert x.shape == (1, 3, 1, 2)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, torch.tensor([[[[0.0, 1.0]], [[-1.0, 1.0]], [[-4.0, 0.0]]]]))


def test_normalised_as_torchvision_does():
    from torchvision.transforms import functional as tv

    images = torch.randint(0, 256, (5, 8, 8, 3), dtype=torch.uint8)
    expected = tv.normalize(images.permute(0, 3, 1, 2) / 255, COLOUR.mean, COLOUR.std)
    torch.testing.assert_close(COLOUR(images), expected)
    assert COLOUR(images).is_contiguous(memory_format=torch.channels_last)


def test_input_is_left_alone():
    images = torch.full((1, 4, 4, 1), 0.7)
    GREY(images)
    GREY.normalised(images)
    assert (images == 0.7).all()


def test_config_makes_it_again():
    config = COLOUR.config()
    assert config.pop("_target_") == "zoo.data.preprocess.Preprocess"
    assert Preprocess(**config) == COLOUR
    assert COLOUR.random_input(2).shape == (2, 3, 4, 4)
    assert torch.equal(COLOUR.random_input(2), COLOUR.random_input(2))


RED = (200, 20, 40)
LUMA = round(0.299 * 200 + 0.587 * 20 + 0.114 * 40)


def picture(mode: str) -> Image.Image:
    """Uniform red (or the grey of it) in a mode of Pillow's."""
    if mode == "I;16":
        return Image.fromarray(np.full((4, 4), LUMA * 257, np.uint16))
    if mode == "I":
        return Image.fromarray(np.full((4, 4), LUMA * 257, np.int32))
    image = Image.new("RGB", (4, 4), RED)
    return image.quantize(8) if mode == "P" else image.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "CMYK", "I;16", "I"])
@pytest.mark.parametrize("preprocess", [GREY, COLOUR], ids=["grey", "colour"])
def test_reads_any_mode(tmp_path, mode, preprocess):
    path = tmp_path / ("image.tif" if mode in ("CMYK", "I") else "image.png")
    picture(mode).save(path)
    pixels = preprocess.read(path)
    assert pixels.shape == (1, 4, 4, preprocess.channels)
    assert pixels.dtype == torch.uint8
    has_colour = mode in ("RGB", "RGBA", "P", "CMYK") and preprocess is COLOUR
    expected = torch.tensor(RED if has_colour else [LUMA] * preprocess.channels)
    assert (pixels.int() - expected).abs().max() <= 1
    assert torch.equal(preprocess.read(Image.open(path)), pixels)
    assert torch.equal(preprocess.read(str(path)), pixels)


def test_reads_one_bit(tmp_path):
    image = Image.new("1", (4, 4))
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "image.png")
    pixels = GREY.read(tmp_path / "image.png")
    assert pixels[0, 0, 1, 0] == 255
    assert pixels.sum() == 255


def test_transparent_is_white(tmp_path):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((2, 1), (0, 0, 0, 255))
    image.save(tmp_path / "image.png")
    for preprocess in (GREY, COLOUR):
        pixels = preprocess.read(tmp_path / "image.png")
        assert (pixels[0, 1, 2] == 0).all()
        assert (pixels == 255).sum() == 15 * preprocess.channels


def test_resizes_and_inverts(tmp_path):
    image = Image.new("L", (80, 40))
    image.paste(255, (40, 0, 80, 40))
    image.save(tmp_path / "image.png")
    pixels = GREY.read(tmp_path / "image.png")
    assert (pixels[0, :, 0] < 30).all()
    assert (pixels[0, :, 3] > 225).all()
    assert torch.equal(GREY.read(tmp_path / "image.png", invert=True), 255 - pixels)
    same_size = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4))
    assert GREY.read(same_size).flatten().tolist() == list(range(16))


def test_photograph_is_turned_upright(tmp_path):
    """A camera held sideways notes so in EXIF and leaves the pixels as they are."""
    image = Image.new("L", (4, 4))
    image.paste(255, (0, 0, 4, 1))  # the top row, as the sensor saw it
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    image.save(tmp_path / "image.png", exif=exif)
    pixels = GREY.read(tmp_path / "image.png")[0, :, :, 0]
    assert (pixels[:, 3] == 255).all()
    assert pixels.sum() == 4 * 255


def bomb() -> bytes:
    """A PNG that says it has 60,000 × 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_unreadable_files_are_named(tmp_path):
    noise = png(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    files = {
        "cut.png": noise[: len(noise) // 2],
        "header.png": noise[:20],
        "text.png": b"this is no image",
        "empty.png": b"",
        "bomb.png": bomb(),
        "altered.png": noise[:60] + bytes(200) + noise[260:],
    }
    write(files, tmp_path)
    for file in files:
        words = "3,600 megapixels (60,000×60,000)" if file == "bomb.png" else "not an image that can be read"
        assert_fails(lambda file=file: GREY.read(tmp_path / file), str(tmp_path / file), words)
    assert_fails(lambda: GREY.read(tmp_path / "none.png"), f"{tmp_path / 'none.png'}: no such file")
    assert_fails(lambda: GREY.read(tmp_path), str(tmp_path), "not an image that can be read")


def test_damaged_bytes_give_one_error_or_pixels():
    """Whatever is wrong with a file, read() raises ZooError or returns an image of the right form."""
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF"):
        content = io.BytesIO()
        image.save(content, form)
        whole = np.frombuffer(content.getvalue(), np.uint8)
        for _ in range(40):
            damaged = whole.copy()
            damaged[random.integers(0, min(len(whole), 200), 3)] = random.integers(0, 256, 3)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    pixels = COLOUR.read(io.BytesIO(damaged.tobytes()))  # type: ignore[arg-type]  Pillow takes it
                except ZooError:
                    continue
            assert pixels.shape == (1, 4, 4, 3)
