"""Mutated files of every format are read or refused in one line: nothing else, in little memory, and soon.

``tests/fuzz.py`` makes and reads them, in a process of its own that a crash would end.
"""

import re
import resource

import pytest

pytest.importorskip("tokenizers")

FORMATS = (
    "card", "checkpoint", "legacy checkpoint", "safetensors", "tokenizer", "idx", "sheet", "gz", "xz", "zip", "text",
    "config", "pickled array",
)  # fmt: skip
ADDRESS_SPACE = 16 * 2**30  # bytes, torch's libraries included


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))


def fuzz(command, n: int, *formats: str) -> None:
    result = command("-m", "tests.fuzz", str(n), *formats, preexec_fn=limit_memory)
    assert result.returncode == 0, result.stderr
    tried = re.findall(rf"^(.+): {n} files, \d+ read, \d+ refused, 0 bad", result.stdout, re.MULTILINE)
    assert tried == list(formats)


def test_a_few_files_of_each_format(command):
    fuzz(command, 10, *FORMATS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_2000_files(command, kind):
    fuzz(command, 2000, kind)


def test_the_formats_are_all():
    from tests.fuzz import READ

    assert tuple(READ) == FORMATS
