"""Where a text comes from, and its training, validation and test parts."""

from pathlib import Path

from zoo.data import corpora
from zoo.errors import ZooError

Source = tuple[str | None, str | None, str | None]  # the name of a corpus, or else a file; and the folder of the data


def source(name: str | None, file: str | None, root: str | None) -> Source:
    """The source of a text, either a corpus or a file.

    Raises:
        ZooError: neither or both are given.
    """
    name = None if file is not None and name == "text_file" else name
    if name == "text_file" or (name is None) == (file is None):
        raise ZooError(f"data=text_file needs data.file=PATH; for a corpus, data.name is: {', '.join(corpora.CORPORA)}")
    return name, file, str(Path(root).expanduser()) if root else None


def parts(name: str | None, file: str | None, root: str | None, val_size: int | None) -> dict[str, str]:
    """The texts "train", "val" and "test"; see ``TextData``.

    Raises:
        ZooError: ``val_size`` is not valid for this text.
    """
    if file is not None:
        check_own_part(Path(file).name, val_size)
        text = corpora.read_text(Path(file).expanduser())
        tenth = len(text) // 10
        found = {"train": text[: len(text) - 2 * tenth], "test": text[len(text) - tenth :]}
        found["val"] = text[len(text) - 2 * tenth : len(text) - tenth]
        return found
    found = dict(corpora.load(str(name), Path(root) if root else None))
    if "val" not in found:
        train = found["train"]
        if val_size is None or val_size >= len(train):
            raise ZooError(f"data.val_size={val_size} is not valid: give 0 to {len(train) - 1} characters of {name}")
        found["train"], found["val"] = train[: len(train) - val_size], train[len(train) - val_size :]
    else:
        check_own_part(str(name), val_size)
    return found


def check_own_part(name: str, val_size: int | None) -> None:
    if val_size is not None:
        raise ZooError(f"data.val_size={val_size} is not valid: {name} has a validation part of its own; leave it null")


def stamp(file: str | None) -> tuple[int, int] | None:
    """The size and modification time of a file, which reveal a change of its content; None for a corpus, which is
    verified by its digest.
    """
    try:
        status = Path(file).expanduser().stat() if file else None
    except OSError:  # reported later, when the file is read
        return None
    return (status.st_size, status.st_mtime_ns) if status else None
