"""Make data/spoken_digits_small/recordings.xz from the Free Spoken Digit Dataset (CC BY-SA 4.0).

Of each speaker and digit it takes recordings 0 to 9: 0 to 4 are the official test split, complete, and 5 to 9 are for
training. Nothing is changed in them.

    python data/make_spoken_digits.py [ROOT]

ROOT is the data root with the whole set, spoken_digits; without it, the default one.
"""

import lzma
import sys
from pathlib import Path

from zoo.data.speech_sources import as_differences, load_speech, packed_bytes
from zoo.paths import EMBEDDED

PER_DIGIT = 5  # training recordings of each speaker and digit; together with the test 10


def main() -> None:
    parts = load_speech("spoken_digits", Path(sys.argv[1]) if sys.argv[1:] else None)
    train, seen, chosen = parts["train"], {}, []
    # in the order of names, 10 comes before 5; any five recordings would do
    for i, who in enumerate(zip(train.texts, train.speakers, strict=True)):
        seen[who] = seen.get(who, 0) + 1
        if seen[who] <= PER_DIGIT:
            chosen.append(i)
    small = {"train": train.only(chosen), "test": parts["test"]}
    for part, own in small.items():
        print(part, len(own.texts), own.digest())
        own.samples = as_differences(own.samples)
    path = EMBEDDED / "spoken_digits_small" / "recordings.xz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(lzma.compress(packed_bytes(small), preset=9 | lzma.PRESET_EXTREME))
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
