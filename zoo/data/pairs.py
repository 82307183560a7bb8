"""Pairs of sentences in two languages: the corpora by name, and files of the user's own."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

from zoo.config.files import read_file
from zoo.data.corpora import CORPUS_BYTES, differs, read_text
from zoo.data.integrity import UNREADABLE, digest, gunzip, unxz
from zoo.errors import ZooError
from zoo.paths import EMBEDDED, data_root
from zoo.terminal import say

Pairs = tuple[list[str], list[str]]  # the sentences of the source and of the target language, equally many

MULTI30K = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/"
MULTI30K_FILES = {  # digests of the unzipped files
    "train.de": "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
    "train.en": "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
    "train.fr": "5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d",
    "val.de": "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
    "val.en": "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
    "val.fr": "5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc",
    "test_2016_flickr.de": "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
    "test_2016_flickr.en": "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
    "test_2016_flickr.fr": "cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6",
}
PARTS = {"train": "train", "val": "val", "test": "test_2016_flickr"}
KOREAN = "sha256:3988edfd32c892ccf4450772bc3a5906ebfcf3c8648f56012df204ddf27b8280"
TATOEBA = "https://www.manythings.org/anki/"  # its archives are renewed, so their digests are not known
TATOEBA_FILES = {"fr": "fra", "de": "deu"}  # besides Korean, which comes with the zoo


class Read(NamedTuple):
    """Sentences as they were read.

    Attributes:
        splits: the pairs of "train", "val" and "test", where the corpus defines these; else those of "all".
        digest: of the files, for those that are not verified against a published digest; else None.
    """

    splits: dict[str, Pairs]
    digest: str | None = None


def load(name: str, languages: Sequence[str], files: Sequence[str] | None = None, root: Path | None = None) -> Read:
    """The pairs of a corpus, which is downloaded on first use, or of files of the user's own.

    Args:
        name: "multi30k", "tatoeba" or "parallel_text".
        languages: the source and the target language.
        files: for parallel_text a file for each language, with a sentence in each line.
        root: the folder of the data; None for the default one.

    Raises:
        ZooError: the name or a language is unknown; a file is missing, altered or not UTF-8; the files have different
            numbers of lines; or the corpus cannot be downloaded.
    """
    if (name == "parallel_text") != (files is not None):
        raise ZooError(f"data={name}, data.files={files}: data=parallel_text needs data.files=[a.de,a.en], others none")
    if name == "parallel_text":
        return read_parallel(files or ())
    if name not in READERS:
        raise ZooError(f"data.name={name} is unknown; valid: {', '.join(READERS)}, parallel_text")
    return READERS[name](tuple(languages), root)


def read_multi30k(languages: Sequence[str], root: Path | None) -> Read:
    """Captions of Flickr30k in three languages (Elliott et al. 2016), with the test set of 2016."""
    check_languages("multi30k", languages, {("de", "en"), ("fr", "en"), ("de", "fr")})
    names = [f"{part}.{language}" for part in PARTS.values() for language in languages]
    folder = (root or data_root()) / "multi30k"
    if missing := [f"{name}.gz" for name in names if not (folder / f"{name}.gz").exists()]:
        fetch("Multi30k", MULTI30K, missing, folder)
    texts: dict[str, list[str]] = {}
    for name in names:
        path = folder / f"{name}.gz"
        try:
            content = gunzip(read_file(path, CORPUS_BYTES), CORPUS_BYTES)
        except UNREADABLE as error:
            raise ZooError(f"{path} cannot be read ({error}); delete it, and run again") from None
        if differs(content, f"sha256:{MULTI30K_FILES[name]}"):
            raise ZooError(f"{path} is truncated or altered (its sha256 is not Multi30k's); delete it, and run again")
        texts[name] = content.decode().splitlines()
    source, target = languages
    return Read({part: (texts[f"{file}.{source}"], texts[f"{file}.{target}"]) for part, file in PARTS.items()})


def read_tatoeba(languages: Sequence[str], root: Path | None) -> Read:
    """Sentences of Tatoeba with their English translations, as manythings.org selects them."""
    check_languages("tatoeba", languages, {("ko", "en"), *((other, "en") for other in TATOEBA_FILES)})
    other = next(language for language in languages if language != "en")
    if other == "ko":
        path = EMBEDDED / "tatoeba" / "kor.txt.xz"
        try:
            content = unxz(read_file(path, CORPUS_BYTES), CORPUS_BYTES)
        except UNREADABLE as error:
            raise ZooError(f"{path} cannot be read ({error}); install the zoo again") from None
        if differs(content, KOREAN):
            raise ZooError(f"{path} is truncated or altered (its sha256 is not known); install the zoo again")
        text, known = content.decode(), None
    else:
        stem = TATOEBA_FILES[other]
        path = (root or data_root()) / "tatoeba" / f"{stem}.txt"
        if not path.exists():
            raise ZooError(f"{path} is missing: put {stem}.txt from {TATOEBA}{stem}-eng.zip into {path.parent}")
        text = read_text(path)
        known = digest(text.encode())
    rows = [line.split("\t") for line in text.splitlines()]
    english, foreign = [row[0] for row in rows], [row[1] if len(row) > 1 else "" for row in rows]
    return Read({"all": whole((foreign, english) if languages[0] == other else (english, foreign))}, known)


def read_parallel(files: Sequence[str]) -> Read:
    """Two files of the user's own in UTF-8: line n of one is the translation of line n of the other."""
    if len(files) != 2:
        raise ZooError(f"data.files={list(files)} is not valid: give two files, the source and the target language's")
    texts = [read_text(Path(file).expanduser()) for file in files]
    lines = [[line.strip("\r") for line in text.removesuffix("\n").split("\n")] for text in texts]
    if len(lines[0]) != len(lines[1]):
        raise ZooError(
            f"{files[0]} has {len(lines[0]):,} lines and {files[1]} has {len(lines[1]):,}: line n of one must be the "
            f"translation of line n of the other; leave a line empty where there is none"
        )
    pairs = whole((lines[0], lines[1]))
    if left := len(lines[0]) - len(pairs[0]):
        say(f"note: {left:,} of {len(lines[0]):,} pairs of {', '.join(files)} have an empty side and are left out")
    if not pairs[0]:
        raise ZooError(f"{', '.join(files)}: every pair has an empty side; give lines that translate each other")
    return Read({"all": pairs}, digest("\0".join(texts).encode()))


READERS: dict[str, Callable[[Sequence[str], Path | None], Read]] = {"multi30k": read_multi30k, "tatoeba": read_tatoeba}


def fetch(title: str, place: str, files: Sequence[str], folder: Path) -> None:
    """Download files into a folder; an interrupted download goes on where it stopped. The caller verifies them.

    Raises:
        ZooError: the files cannot be downloaded or written; the message says where to put them by hand.
    """
    from zoo.remote.download import Unavailable, download_file, unreachable

    try:
        folder.mkdir(parents=True, exist_ok=True)
        if failure := unreachable(place + files[0]):
            raise Unavailable(failure)
        for file in files:
            download_file(place + file, folder / file, None, CORPUS_BYTES)
    except Unavailable as error:
        raise ZooError(
            f"{title} could not be fetched ({error}). Put {', '.join(files)} from {place} into {folder} and run again"
        ) from None
    except OSError as error:
        raise ZooError(
            f"{title} could not be written to {folder}: {error}; give another folder, as data.root="
        ) from None


def check_languages(name: str, languages: Sequence[str], valid: set[tuple[str, str]]) -> None:
    """Raise a ``ZooError`` unless a corpus has these two languages; either may be the source."""
    if tuple(languages) not in valid and tuple(reversed(languages)) not in valid:
        shown = ", ".join(f"[{a},{b}]" for a, b in sorted(valid))
        raise ZooError(f"data.languages=[{','.join(languages)}]: {name} has {shown}, in either direction")


def whole(pairs: Pairs) -> Pairs:
    """The pairs of which no side is empty."""
    kept = [(a.strip(), b.strip()) for a, b in zip(*pairs, strict=True) if a.strip() and b.strip()]
    return [a for a, _ in kept], [b for _, b in kept]


def split(pairs: Pairs, val: float, test: float, seed: int) -> dict[str, Pairs]:
    """Divide pairs into training, validation and test such that no sentence is in two parts.

    Corpora such as Tatoeba repeat sentences with several translations; a split of single pairs would leave half of the
    test's sentences in the training part. So groups of pairs that share a sentence, in either language, stay together.

    Args:
        val, test: the share of the pairs (below 1) or their number; a part may get a few more, to have whole groups.
        seed: seed of the order of the groups.

    Raises:
        ZooError: nothing is left for training.
    """
    group = groups(pairs)
    order = torch.randperm(max(group) + 1, generator=torch.Generator().manual_seed(seed)).tolist()
    members: dict[int, list[int]] = {}
    for i, number in enumerate(group):
        members.setdefault(number, []).append(i)
    n = len(group)
    sizes = {part: int(size if size >= 1 else size * n) for part, size in (("test", test), ("val", val))}
    taken: dict[str, list[int]] = {"test": [], "val": [], "train": []}
    for number in order:
        part = next((part for part, size in sizes.items() if len(taken[part]) < size), "train")
        taken[part] += members[number]
    if not taken["train"]:
        raise ZooError(f"data.val_size={val}, data.test_size={test} leave none of {n:,} pairs to train on; give fewer")
    source, target = pairs
    return {part: ([source[i] for i in sorted(at)], [target[i] for i in sorted(at)]) for part, at in taken.items()}


def groups(pairs: Pairs) -> list[int]:
    """For each pair the number of its group: pairs that share a sentence are in the same one."""
    parent: dict[tuple[int, str], tuple[int, str]] = {}

    def root(node: tuple[int, str]) -> tuple[int, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for source, target in zip(*pairs, strict=True):
        parent[root((0, source))] = root((1, target))
    numbers: dict[tuple[int, str], int] = {}
    return [numbers.setdefault(root((0, source)), len(numbers)) for source in pairs[0]]


@lru_cache(maxsize=4)
def parts(
    name: str,
    languages: tuple[str, ...],
    files: tuple[str, ...] | None,
    root: str | None,
    val_size: float | None,
    test_size: float | None,
    split_seed: int,
    stamps: tuple[tuple[int, int] | None, ...],
) -> tuple[dict[str, Pairs], str | None]:
    """The pairs by split, and the digest of unverified files; cached, ``stamps`` distinguishes versions of files."""
    found, known = load(name, languages, files, Path(root).expanduser() if root else None)
    if "train" in found:
        if val_size is not None or test_size is not None:
            raise ZooError(
                f"data.val_size={val_size}, data.test_size={test_size}: {name} has its own splits; null both"
            )
        return found, known
    if val_size is None or test_size is None or not test_size:
        raise ZooError(f"data.val_size={val_size}, data.test_size={test_size}: {name} needs both, as 300 or 0.1")
    return split(found["all"], val_size, test_size, split_seed), known
