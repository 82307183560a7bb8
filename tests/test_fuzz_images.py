"""Mutated images of every format are read or refused in one line: nothing else, in bounded memory, and soon.

``tests/fuzz_images.py`` makes and reads them, in a process of its own that a crash would end.
"""

import re

import pytest

pytest.importorskip("tokenizers")  # of which the other formats' module has need

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")


def fuzz(command, n: int, *formats: str) -> None:
    result = command("-m", "tests.fuzz_images", str(n), *formats)
    assert result.returncode == 0, result.stdout + result.stderr
    tried = re.findall(rf"^(.+): {n} files, \d+ read, \d+ refused, 0 bad", result.stdout, re.MULTILINE)
    assert tried == list(formats)


def test_a_few_files_of_each_format(command):
    fuzz(command, 8, *FORMATS)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_2000_files(command, form):
    fuzz(command, 2000, form)


def test_the_formats_are_all():
    from tests.fuzz_images import GOOD
    from zoo.data.image_file import FORMATS as READ

    assert tuple(GOOD) == tuple(READ) == FORMATS
