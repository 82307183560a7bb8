"""Pictures as people take them: digits and garments found, cut out and centred; what is odd about them; --show."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.config import formats
from zoo.data import makers, sources
from zoo.data.components import labelled
from zoo.data.garments import BUSY
from zoo.data.ink import greatest, is_light, lines
from zoo.data.preprocess import Preprocess
from zoo.pretrained.card import Card, shipped
from zoo.pretrained.typical import Typical

from .data_helpers import assert_fails
from .photos import KINDS, drawn, paper, pasted, photo

DIGITS = Preprocess(28, [0.1307], [0.3081], fit="digits")
GARMENT = Preprocess(28, [0.286], [0.353], fit="garment")
PER_KIND = 4
CLASSIFIERS = [
    name for name, path in shipped().items()
    if (card := Card.read(path)).data.get("name") in formats.FITS and "classify" in card.task["_target_"].lower()
]  # fmt: skip


@pytest.fixture(scope="module")
def lenet():
    return zoo.load("lenet5_mnist")


def page(*digits: int, seed: int = 0) -> Image.Image:
    """A sheet with these digits, side by side."""
    rng = np.random.default_rng(seed)
    sheet = paper(200, 120 * len(digits) + 80, rng)
    for i, digit in enumerate(digits):
        sheet = pasted(sheet, drawn(digit, 100, 0.1, rng), 60 + 120 * i, 50, np.full(3, 0.1))
    return Image.fromarray((sheet * 255).astype(np.uint8))


def test_photographs_of_digits(lenet):
    """68 pictures of 17 kinds, without any option; nearly all are right, and few are warned about."""
    pictures = [photo(kind, 1000 + i) for kind in KINDS for i in range(PER_KIND)]
    seen = [lenet.preprocess.see(picture) for picture, _ in pictures]
    with torch.inference_mode():
        found = lenet(lenet.preprocess(torch.cat([one.pixels for one in seen]))).argmax(1)
    wanted = torch.tensor([digit for _, digit in pictures])
    assert len(pictures) >= 60
    assert (found == wanted).float().mean() >= 0.95
    assert sum(bool(one.warnings) for one in seen) <= 0.05 * len(seen)


def test_makers_rule():
    """The longer side has 20 pixels, the aspect ratio is kept, and the centre of mass is the image's centre."""
    sheet = np.full((300, 400), 240, np.uint8)
    sheet[40:240, 50:130] = 30  # 200 high, 80 wide
    (image,) = DIGITS.read(Image.fromarray(sheet)).squeeze(-1).numpy()
    rows, columns = np.flatnonzero(image.max(1) > 128), np.flatnonzero(image.max(0) > 128)
    assert len(rows) == 20
    assert len(columns) == 8
    assert abs(rows.mean() - 13.5) <= 0.5
    assert abs(columns.mean() - 13.5) <= 0.5
    assert image[0, 0] == 0
    assert image.max() == 255


@pytest.mark.parametrize("swapped", [False, True], ids=["as it is", "dark on light"])
def test_official_images_are_left_alone(tmp_path, swapped):
    """Saved as PNG and read back they are the test's own tensor, so every figure stays; none is warned about."""
    images = sources.load("mnist")["test_images"][::25]
    for i, image in enumerate(images):
        pixels = image.squeeze(-1).numpy()
        Image.fromarray(255 - pixels if swapped else pixels).save(tmp_path / "one.png")
        seen = DIGITS.see(tmp_path / "one.png")
        assert torch.equal(seen.pixels[0], image), i
        assert not seen.warnings


def test_a_small_image_that_is_not_made_by_the_rule():
    """28 × 28 already, but the digit is in a corner: it is moved to the centre."""
    image = sources.load("mnist")["test_images"][0].squeeze(-1).numpy()
    moved = np.roll(image, (-4, -5), (0, 1))
    again = DIGITS.read(Image.fromarray(moved))[0].squeeze(-1).numpy().astype(float)
    assert not np.array_equal(again, moved)
    centre = [again.sum(1) @ np.arange(28) / again.sum(), again.sum(0) @ np.arange(28) / again.sum()]
    np.testing.assert_allclose(centre, 13.5, atol=0.6)


def test_polarity_of_shapes():
    light = np.zeros((60, 60), np.float32)
    light[10:50, 28:34] = 1
    assert is_light(light)
    assert not is_light(1 - light)
    full = np.zeros((60, 60), np.float32)  # a thick 0 in a tight crop
    full[4:56, 6:54] = 1
    full[16:44, 18:42] = 0
    assert is_light(full)


def test_invert_says_that_the_object_is_dark():
    """It overrides what the picture shows; then the ground becomes the object."""
    picture, _ = photo("chalk", 3)
    assert not torch.equal(DIGITS.read(picture), DIGITS.read(picture, invert=True))
    ink, _ = photo("ink", 3)
    assert torch.equal(DIGITS.read(ink), DIGITS.read(ink, invert=True))


def test_lines_are_found_and_strokes_stay():
    mask = np.zeros((100, 120), bool)
    mask[48:50] = True
    mask[10:90, 60:66] = True  # a stroke across the line
    found = lines(mask)
    assert found[48:50, :55].all()
    assert not found[:, 60:66].any()
    mask = np.zeros((100, 120), bool)
    mask[48:50, 20:100] = True  # a dash that does not reach the edges
    assert not lines(mask).any()


def test_parts_and_windows():
    mask = np.zeros((6, 7), bool)
    mask[0, 0] = mask[1, 1] = mask[0, 2] = True  # a V: touching at corners
    mask[4, :] = mask[5, 6] = True
    expected = np.zeros((6, 7), int)
    expected[mask] = 2
    expected[:2][mask[:2]] = 1
    np.testing.assert_array_equal(labelled(mask), expected)
    values = np.random.default_rng(0).random((9, 11))
    slow = [[values[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].max() for x in range(11)] for y in range(9)]
    np.testing.assert_array_equal(greatest(values, 2), slow)


@pytest.mark.parametrize("digit", [4, 5])
def test_a_digit_in_two_parts_is_one(digit):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        ink = drawn(digit, 200, 0.08, rng, gap=True)
        sheet = pasted(paper(300, 300, rng), ink, 80, 50, np.full(3, 0.1))
        seen = DIGITS.see(Image.fromarray((sheet * 255).astype(np.uint8)))
        assert not seen.warnings
        rows = np.flatnonzero(seen.pixels[0].numpy().max((1, 2)) > 128)
        assert np.ptp(rows) + 1 >= 18  # the whole height, not one part


def test_what_is_odd_about_a_picture():
    assert not DIGITS.see(page(3)).warnings
    assert DIGITS.see(page(3, 1, 4, 1, 5)).warnings == (makers.SEVERAL,)
    assert DIGITS.see(page(4, 2)).warnings == (makers.SEVERAL,)
    rng = np.random.default_rng(0)
    empty = Image.fromarray((paper(300, 400, rng) * 255).astype(np.uint8))
    for nothing in (empty, Image.new("L", (28, 28)), Image.new("RGB", (500, 300), "white"), Image.new("L", (1, 1))):
        assert DIGITS.see(nothing).warnings == (makers.NOTHING,)
    noise = Image.fromarray(rng.integers(0, 256, (200, 200), dtype=np.uint8))
    assert DIGITS.see(noise).warnings


# --- garments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ground", [255, 0], ids=["on white", "on black"])
def test_garments_by_their_makers_rule(ground):
    """Trimmed, the longest edge 28 pixels, the ground black, whatever it was."""
    sheet = np.full((400, 300), ground, np.uint8)
    sheet[100:300, 60:160] = 128
    seen = GARMENT.see(Image.fromarray(sheet))
    image = seen.pixels[0].squeeze(-1).numpy()
    assert not seen.warnings
    assert (image[:, 7:21] > 100).all()
    assert (image[:, :6] == 0).all()
    assert (image[:, 22:] == 0).all()


def test_small_garments_are_left_alone():
    image = np.zeros((28, 28), np.uint8)
    image[:, 4:24] = np.arange(20) * 12
    assert np.array_equal(GARMENT.read(Image.fromarray(image)).squeeze().numpy(), image)
    assert np.array_equal(GARMENT.read(Image.fromarray(255 - image)).squeeze().numpy(), image)


def test_a_garment_that_is_none():
    assert GARMENT.see(Image.new("L", (200, 200), 200)).warnings == (makers.NOTHING,)
    photograph = sources.load("cifar10_small")["test_images"][0].numpy()
    assert BUSY in GARMENT.see(Image.fromarray(photograph)).warnings


# --- which rule -------------------------------------------------------------------------------------------------------


def test_the_data_set_says_which_rule():
    from .data_helpers import image_data

    assert image_data().card()["preprocess"]["fit"] == "digits"
    assert image_data(fit="resize").preprocess.fit == "resize"
    assert image_data(name="fashion_mnist").preprocess.fit == "garment"
    three = {"in_channels": 3, "image_size": 32, "mean": [0.5] * 3, "std": [0.2] * 3}
    assert image_data(name="cifar10", **three).preprocess.fit == "resize"


@pytest.mark.parametrize(("name", "fit"), [("mnist", "digits"), ("fashion_mnist", "garment"), ("cifar10", "resize")])
def test_an_older_card_gets_the_rule_of_its_data(name, fit):
    config = {key: value for key, value in DIGITS.config().items() if key != "fit"}
    card = {"data": {"name": name}, "preprocess": config}
    assert formats.current_card(card, "here")["preprocess"]["fit"] == fit
    assert formats.current_card({**card, "preprocess": DIGITS.config()}, "here")["preprocess"]["fit"] == "digits"


def test_a_rule_that_is_none():
    bad: Any = "os.system"
    assert_fails(lambda: Preprocess(28, [0.1], [0.3], fit=bad), "fit=os.system", "resize, digits, garment")
    assert_fails(lambda: Preprocess(28, [0.1] * 3, [0.3] * 3, fit="digits"), "fit=digits is for grey images")


# --- far from the training data ---------------------------------------------------------------------------------------


def test_typical_by_hand():
    """Two classes on a line: the distance is in standard deviations."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4000) % 2
    logits = torch.tensor([[4.0, 0.0], [0.0, 4.0]])[labels] + torch.randn(4000, 2, generator=generator)
    typical = Typical.measured(logits, labels)
    distances = typical.distances(torch.tensor([[4.0, 0.0], [0.0, 4.0], [7.0, 4.0]]))
    torch.testing.assert_close(distances, torch.tensor([0.0, 0.0, 5.0]).double(), atol=0.2, rtol=0)
    assert typical.far(logits).float().mean() < 0.01
    assert typical.far(torch.tensor([[4.0, 0.0], [9.0, 9.0], [-3.0, -3.0]])).tolist() == [False, True, True]
    assert Typical.of(json.loads(json.dumps(typical.config())), 2, "here") == typical


@pytest.mark.parametrize(
    "change",
    [{"means": [[1.0]]}, {"precision": "x"}, {"distance": float("nan")}, {"energy": "x"}, {"more": 1}, {"means": None}],
)
def test_a_card_whose_typical_is_none(change):
    values = {"means": [[1.0, 0.0]] * 2, "precision": [[1.0, 0.0]] * 2, "distance": 1.0, "energy": 1.0}
    assert Typical.of(values, 2, "here").distance == 1
    assert_fails(lambda: Typical.of({**values, **change}, 2, "here"), "here is not a card: typical needs")


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_shipped_classifiers_know_what_is_typical(name):
    card = Card.read(shipped()[name])
    assert Typical.of(card.typical, len(card.classes), name)
    assert json.loads(shipped()[name].read_text())["preprocess"]["fit"] == formats.FITS[card.data["name"]]


def test_few_official_images_are_warned_about_and_other_things_are(lenet):
    typical = Typical.of(lenet.card.typical, 10, "lenet5_mnist")
    images = sources.load("mnist")["test_images"][:2000]
    with torch.inference_mode():
        assert typical.far(lenet(lenet.preprocess(images))).float().mean() <= 0.01
        others = [Image.fromarray(one.numpy()) for one in sources.load("cifar10_small")["test_images"][:60]]
        seen = [DIGITS.see(picture) for picture in others]
        far = typical.far(lenet(lenet.preprocess(torch.cat([one.pixels for one in seen]))))
    warned = [bool(one.warnings) or bool(unlike) for one, unlike in zip(seen, far, strict=True)]
    assert sum(warned) >= 0.9 * len(warned)


# --- zoo predict ------------------------------------------------------------------------------------------------------


@pytest.fixture
def cli(capfd, monkeypatch, tmp_path):
    from zoo.cli import main

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["zoo", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfd.readouterr()
        return int(end.value.code or 0), out, err

    monkeypatch.chdir(tmp_path)
    return call


def test_predict_shows_and_warns(cli):
    photo("shadow", 5)[0].save("one.jpg")
    page(3, 1, 4).save("many.png")
    wanted = [str(photo("shadow", 5)[1])]
    code, out, err = cli("predict", "lenet5_mnist", "one.jpg", "many.png", "--json", "--show", "out/sheet.png")
    one, many = json.loads(out)
    assert code == 0
    assert [one["predictions"][0]["class"], one["warnings"]] == [*wanted, []]
    assert many["warnings"][0] == makers.SEVERAL
    assert err.startswith(f"warning: many.png: {makers.SEVERAL}\n")
    assert "one.jpg" not in err
    with Image.open("out/sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("L"))
    seen = DIGITS.read("one.jpg").squeeze().numpy()
    enlarged = np.asarray(Image.fromarray(seen).resize((160, 160), Image.Resampling.NEAREST))
    assert np.array_equal(pixels[8:168, 8 + 168 : 8 + 168 + 160], enlarged)  # the first row: given | seen
    assert len(pixels) == 2 * 176


@pytest.mark.parametrize("name", ["out.txt", "out", "."])
def test_show_needs_the_name_of_a_picture(cli, name):
    page(3).save("one.png")
    code, out, err = cli("predict", "lenet5_mnist", "one.png", "--show", name)
    assert code == 1
    assert err.startswith(f"error: --show {name}: ")
    assert not out
    assert sorted(path.name for path in Path().iterdir()) == ["one.png"]


# --- as a transform= --------------------------------------------------------------------------------------------------


def test_preprocess_takes_pictures_of_all_kinds():
    image = sources.load("mnist")["test_images"][7]  # (28, 28, 1)
    expected = DIGITS(image[None])
    flat, picture = image.squeeze(-1), Image.fromarray(image.squeeze(-1).numpy())
    whole = (picture, flat, flat.numpy(), image, image.numpy(), flat[None])
    for one in (*whole, flat / 255, image / 255, flat[None] / 255, (flat / 255).numpy(), (flat / 255).double()):
        assert DIGITS(one).shape == (1, 28, 28)
        torch.testing.assert_close(DIGITS(one), expected[0])
    for batch in (image[None], flat[None, None], image[None] / 255, flat[None, None] / 255, image[None].numpy()):
        torch.testing.assert_close(DIGITS(batch), expected)


def test_preprocess_fits_pictures_of_other_sizes():
    picture, _ = photo("ink", 2)
    expected = DIGITS(DIGITS.read(picture))[0]
    pixels = np.asarray(picture)
    with pytest.raises(zoo.errors.ZooError):  # three channels for a grey model
        DIGITS(pixels)
    grey = picture.convert("L")
    torch.testing.assert_close(DIGITS(np.asarray(grey)), DIGITS(DIGITS.read(grey))[0])
    assert DIGITS(picture).shape == expected.shape
    torch.testing.assert_close(DIGITS(picture), expected)


def test_preprocess_of_colour():
    colour = Preprocess(8, [0.5, 0.4, 0.3], [0.2] * 3)
    pixels = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    chw = pixels.permute(0, 3, 1, 2)
    for batch in (pixels, pixels.numpy(), chw, chw.float() / 255, pixels / 255):
        torch.testing.assert_close(colour(batch), colour.normalised(pixels))
    assert colour(Image.new("RGBA", (30, 20))).shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (torch.full((28, 28), 7.0), "numbers from 7 to 7"),
        (torch.full((28, 28), -0.1), "numbers from -0.1"),
        (torch.full((28, 28), float("nan")), "numbers from nan"),
        (torch.zeros(28, 28, dtype=torch.int64), "int64 (28, 28)"),
        (np.zeros((28, 28), np.int32), "int32 (28, 28)"),
        (np.zeros((28, 28), bool), "bool (28, 28)"),
        (torch.zeros(3, 28, 28), "takes 1 channels"),
        (torch.zeros(1, 1, 1, 28, 28), "takes 1 channels"),
        (torch.zeros(28), "takes 1 channels"),
        (torch.zeros(0, 28, 28, 1), "there are no pixels"),
        ("digit.png", "'digit.png' is a path and no picture: preprocess.read('digit.png') reads the file"),
        ([[0, 1]], "a list is no picture"),
    ],
)  # fmt: skip
def test_preprocess_refuses_in_a_line(bad, words):
    assert_fails(lambda: DIGITS(bad), words)
