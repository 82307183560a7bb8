"""Makes the pictures and texts of the pages of the shipped weights: docs/weights/NAME.png or NAME.txt.

python docs/make_pictures.py                 # all weights; minutes on a CPU, most of them for pixelcnn_mnist
python docs/make_pictures.py lenet5_mnist    # only these
"""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont
from weight_pages import kind

from zoo.config.build import build
from zoo.pretrained.card import Card, read_shipped
from zoo.pretrained.evaluate import data_of
from zoo.pretrained.loading import load
from zoo.use.pictures import draw, pixels
from zoo.use.sample import encoded_prompt, sample, text_of
from zoo.use.translate import translate

FOLDER = Path(__file__).resolve().parent / "weights"
EXAMPLES = 2000  # test images among which the mistakes are looked for
COLUMNS, EDGE, GAP = 10, 56, 4  # of a picture: images in a row, their size and distance in pixels


def test_images(card: Card) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """The data of a card and its first test images, as the model takes them, (N, C, H, W), with their labels, (N,).

    For CIFAR-10 these are the 1,000 test images that are embedded in the zoo, so that nothing has to be fetched.
    """
    small = {"name": "cifar10_small"} if card.data["name"] == "cifar10" else {}
    all_labels = {"labels_per_class": None, "unlabelled": 0, "val_size": 0}
    data = build({**card.data, **{key: all_labels[key] for key in all_labels if key in card.data}, **small}, "data", ())
    data.prepare_data()
    data.setup("test")
    return data, *data.sample(EXAMPLES, "test")


@torch.inference_mode()
def mistakes(model: Any, card: Card) -> Image.Image:
    """The test images whose wrong class got the highest probability."""
    _, x, y = test_images(card)
    p = torch.cat([model(part).softmax(1) for part in x.split(200)])
    chance, found = p.max(1)
    wrong = (found != y).nonzero().flatten()
    worst = wrong[chance[wrong].argsort(descending=True)][:COLUMNS]
    names = [str(name) for name in card.classes]
    labels = [f"{names[y[i]]} →\n{names[found[i]]}" for i in worst.tolist()]
    return sheet(pixels(x[worst], model.preprocess), labels)


@torch.inference_mode()
def reconstructions(model: Any, card: Card) -> Image.Image:
    """The first test images, and their reconstructions below."""
    x = test_images(card)[1][:COLUMNS]
    back = model.decode(model.encode(x))
    return sheet(torch.cat([pixels(x, model.preprocess), pixels(back, model.preprocess)]))


def text(model: Any) -> str:
    """What ``zoo sample NAME --seed 1 --length 600`` writes."""
    tokenizer = model.preprocess
    unknown = [] if tokenizer.unknown is None else [tokenizer.unknown]
    tokens = sample(model, encoded_prompt(tokenizer, ""), 600, temperature=0.8, forbidden=unknown, seed=1)
    return "".join(text_of(tokenizer, tokens))


def translations(model: Any, card: Card) -> str:
    """The first test sentences, what ``zoo translate`` makes of them, and their references, a line each."""
    sentences, references = (side[:COLUMNS] for side in data_of(model, card).texts["test"])
    found = translate(model, sentences)
    return "\n\n".join("\n".join(lines) for lines in zip(sentences, found, references, strict=True))


def sheet(images: torch.Tensor, labels: list[str] | None = None) -> Image.Image:
    """Images (N, C, H, W), with pixels in [0, 1], row after row, each with a text of two lines below it."""
    below = 30 if labels else 0
    rows = -(-len(images) // COLUMNS)
    mode, paper = ("RGB", (255, 255, 255)) if images.shape[1] == 3 else ("L", 255)
    page = Image.new(mode, (COLUMNS * (EDGE + GAP) - GAP, rows * (EDGE + GAP + below) - GAP), paper)
    font, pen = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", 9), ImageDraw.Draw(page)
    for i, image in enumerate(images.mul(255).round().byte()):
        left, top = i % COLUMNS * (EDGE + GAP), i // COLUMNS * (EDGE + GAP + below)
        array = image.permute(1, 2, 0).squeeze(2).numpy()
        page.paste(Image.fromarray(array).resize((EDGE, EDGE), Image.Resampling.NEAREST), (left, top))
        if labels:
            pen.multiline_text((left, top + EDGE + 1), labels[i], fill=0 if mode == "L" else (0, 0, 0), font=font)
    return page


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Names of shipped weights; all by default.")] = None,
) -> None:
    """Make the picture or the text of each shipped weight."""
    cards, errors = read_shipped()
    for error in errors:
        print(error)
    FOLDER.mkdir(exist_ok=True)
    for card in cards:
        if names and card.name not in names:
            continue
        model, what = load(card.name), kind(card)
        if what == "translates":
            (FOLDER / f"{card.name}.txt").write_text(translations(model, card), encoding="utf-8")
        elif what == "writes":
            (FOLDER / f"{card.name}.txt").write_text(text(model), encoding="utf-8")
        else:
            page = (
                mistakes(model, card) if what == "classifies"
                else reconstructions(model, card) if what == "encodes"
                else sheet(draw(model, 50, seed=1))
            )  # fmt: skip
            page = page.quantize(64 if page.mode == "RGB" else 32)  # so that no file has more than 40 KB
            page.save(FOLDER / f"{card.name}.png", optimize=True)
        print(card.name)


if __name__ == "__main__":
    typer.run(main)
