"""Text: tokenizers, streams, corpora, and what a language model's task measures."""

import json
import os
import random
import re
import shutil
import subprocess
import time
from typing import Any

import pytest
import torch

from tests.data_helpers import assert_fails
from zoo.config.build import build
from zoo.data import corpora, tokens
from zoo.data.speakers import MadeUpNames
from zoo.data.streams import Evaluation, StreamLoader
from zoo.data.text import TextData
from zoo.data.tokens import BPE, Bytes, Characters, Words
from zoo.errors import ZooError

KOREAN = "나랏〮말〯ᄊᆞ미〮 中듀ᇰ國귁〮에〮달아〮, 漢字와로 서르 ᄉᆞᄆᆞᆺ디〮 아니〮ᄒᆞᆯᄊᆡ〮\n이런 젼ᄎᆞ로 어린 百姓이 😀\n"
LINES = "the cat sat\non the mat\nthe end\n" * 30


@pytest.mark.parametrize("level", ["char", "byte", "word", "bpe"])
@pytest.mark.parametrize("text", [LINES, KOREAN, "", "e\u0301\n"], ids=["english", "korean", "empty", "combining"])
def test_text_comes_back(level, text):
    """From tokens, and from a tokenizer that was built of its config; words lose nothing but the kind of space."""
    tokenizer = tokens.fit(level, text or "a b\n")
    encoded = tokenizer.encode(text)
    assert encoded.dtype == torch.int64
    again = build(tokenizer.config(), "preprocess")
    assert torch.equal(again.encode(text), encoded)
    assert list(again.vocabulary) == list(tokenizer.vocabulary)
    decoded = again.decode(encoded.tolist())
    if level == "word":
        assert decoded.split() == text.split()
        assert decoded.count("\n") == text.count("\n")
    else:
        assert decoded == text
    assert len(tokenizer.random_input(3)) == 3


def test_character_vocabulary_is_sorted_and_small_on_demand():
    tokenizer = Characters.fit("banana")
    assert tokenizer.vocabulary == [tokens.UNKNOWN, "a", "b", "n"]
    assert tokenizer.encode("nab").tolist() == [3, 1, 2]
    assert Characters.fit("banana", 3).vocabulary == [tokens.UNKNOWN, "a", "n"]
    assert Characters("zay").encode("yaz").tolist() == [3, 2, 1]  # whatever the order it was given in


@pytest.mark.parametrize("level", ["char", "byte", "word", "bpe"])
def test_what_was_not_in_training_does_not_crash(level):
    """It is the unknown token, or its bytes."""
    tokenizer = tokens.fit(level, "the cat\n" * 3)
    encoded = tokenizer.encode("the 개 😀\n")
    assert encoded.min() >= 0
    assert encoded.max() < len(tokenizer.vocabulary)
    if level in ("char", "word"):
        assert tokenizer.unknown == 0
        assert (encoded == 0).sum() == 2
    else:
        assert tokenizer.decode(encoded.tolist()) == "the 개 😀\n"


def test_words_are_penn_treebanks():
    """<unk> of the file is the unknown word, every line ends in <eos>, and the most frequent words are kept."""
    tokenizer = Words.fit(" no it was n't <unk> \n it was \n", 4)
    assert tokenizer.vocabulary == ["<unk>", "<eos>", "it", "was"]
    assert tokenizer.encode(" no it was <unk> \n it \n").tolist() == [0, 2, 3, 0, 1, 2, 1]


def test_bytes():
    assert Bytes().encode("é").tolist() == [0xC3, 0xA9]
    assert len(Bytes().vocabulary) == 256


def test_bpe_merges_what_is_frequent():
    tokenizer = BPE.fit(LINES, 280)
    assert len(tokenizer.vocabulary) <= 280
    assert len(tokenizer.encode(LINES)) < len(LINES) / 2
    assert b"the" in tokenizer.vocabulary


@pytest.mark.parametrize(("level", "size"), [("char", 1), ("word", 2), ("bpe", 255), ("letters", None)])
def test_impossible_vocabularies(level, size):
    with pytest.raises(ZooError, match="is not valid"):
        tokens.fit(level, LINES, size)


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "streams", "seq_len"), [(1000, 4, 16), (1000, 7, 10), (37, 3, 10), (120, 1, 119)])
def test_streams_read_on(n, streams, seq_len):
    """Each batch begins where the one before ended, y is x a step later, and no token comes twice."""
    loader = StreamLoader(torch.arange(n), streams, seq_len)
    for _ in range(3):
        batches = list(loader)
        assert len(batches) == len(loader)
        x, y = (torch.cat(parts, 1) for parts in zip(*batches, strict=True))
        assert torch.equal(y, x + 1)
        assert torch.equal(x, x[:, :1] + torch.arange(x.shape[1]))
        assert len(x.unique()) == x.numel() > n - 2 * seq_len - streams
        assert torch.equal(x[1:, 0], y[:-1, -1])  # a stream ends where the next begins


def test_epochs_begin_at_different_places_and_can_be_resumed():
    def loader():
        return StreamLoader(torch.arange(1000), 4, 16, seed=3)

    whole = loader()
    epochs = [list(whole) for _ in range(3)]
    assert len({int(epoch[0][0][0, 0]) for epoch in epochs}) > 1
    part = loader()
    list(part)
    iterator = iter(part)
    for _ in range(5):
        next(iterator)
    again = loader()
    again.load_state_dict(part.state_dict())
    rest = list(again)
    assert len(rest) == len(epochs[1]) - 5
    assert torch.equal(rest[0][0], epochs[1][5][0])


def test_processes_share_the_streams():
    tokens_ = torch.arange(1000)
    whole = list(StreamLoader(tokens_, 4, 16))
    for rank in (0, 1):
        part = list(StreamLoader(tokens_, 4, 16, rank=rank, world_size=2))
        for (x, _), (mine, _) in zip(whole, part, strict=True):
            assert torch.equal(mine, x[rank::2])


@pytest.mark.parametrize("n", [2, 3, 10, 17, 100, 1000])
@pytest.mark.parametrize(("streams", "context"), [(1, 0), (4, 0), (4, 8), (16, 30)])
def test_evaluation_predicts_every_token_once(n, streams, context):
    """All but the first, and each after at least ``context`` tokens, or all that there are."""
    x, y = (torch.cat(parts, 1) for parts in zip(*Evaluation(torch.arange(n), streams, 7, context), strict=True))
    asked = y != -100
    assert sorted(y[asked].tolist()) == list(range(1, n))
    assert torch.equal(y[asked], x[asked] + 1)
    before = torch.arange(x.shape[1]).expand_as(x)[asked] + 1  # tokens that the state has read
    assert (before >= torch.minimum(y[asked], torch.tensor(context + 1))).all()


# --- corpora ----------------------------------------------------------------------------------------------------------


def test_shakespeare_is_embedded():
    """Whole plays are held out, and none of them is in the training text."""
    parts = corpora.load("shakespeare")
    assert {part: len(text) for part, text in parts.items()} == {"train": 4_471_582, "val": 214_661, "test": 371_080}
    for line, part in {"\nMACBETH, General": "test", "\nPROSPERO": "val", "HAMLET, PRINCE OF DENMARK": "train"}.items():
        assert [name for name, text in parts.items() if line in text] == [part]


def test_bad_bytes_are_named(tmp_path):
    path = tmp_path / "korean.txt"
    path.write_bytes("가나다".encode() + "라".encode("cp949"))
    with pytest.raises(ZooError, match=r"korean.txt is not UTF-8: byte 0xb6 at offset 9"):
        corpora.read_text(path)
    path.write_bytes(b"\xef\xbb\xbfabc")
    assert corpora.read_text(path) == "abc"


@pytest.mark.parametrize("text", [KOREAN, "Où est le café ? Là-bas, à côté.\n" * 3, "to be or not to be\n" * 5])
@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "cp949", "cp1252"]
)
def test_the_advice_for_other_encodings_works(tmp_path, text, encoding):
    """The command in the message, run as it stands, gives the text in UTF-8."""
    path = tmp_path / "my text (1).txt"
    try:
        path.write_bytes(text.encode(encoding))
        if path.read_bytes() == text.encode():
            pytest.skip("the same bytes as in UTF-8")
    except UnicodeEncodeError:
        pytest.skip("the encoding does not have these characters")
    message = assert_fails(lambda: corpora.read_text(path), str(path), "UTF-8", "iconv -f ")
    command = re.search(r"(iconv -f \S+ -t UTF-8 .* > \S.*'|tr -d .*')", message)
    assert command is not None
    if shutil.which("iconv"):
        subprocess.run(command[0], shell=True, check=True)
        (new,) = (p for p in tmp_path.iterdir() if p != path)
        assert corpora.read_text(new) == text


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf", b" " * 999, "\u3000\n\t\r\n".encode() * 99])
def test_a_text_of_spaces_is_none(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    assert_fails(lambda: corpora.read_text(tmp_path / "a.txt"), "a.txt has nothing but spaces and line ends in it")


@pytest.mark.parametrize("kind", [float, lambda number: bool(number) if number < 2 else number])
def test_numbers_of_tokens_are_whole_numbers(kind):
    content = json.loads(BPE.fit(LINES, 260).content)
    content["model"]["vocab"] = {name: kind(number) for name, number in content["model"]["vocab"].items()}
    assert_fails(lambda: BPE(json.dumps(content)), "the tokenizer is damaged")


@pytest.mark.parametrize(
    "part",
    [
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "(x+x+)+y"}, "content": "z" * 1000}},
        {"added_tokens": [{"id": 300, "content": "the", "special": True}]},
    ],
)
def test_of_a_tokenizers_file_the_vocabulary_and_merges_alone_count(part):
    """No pattern that goes back without end, and no special tokens."""
    plain = BPE.fit(LINES, 280)
    other = BPE(json.dumps({**json.loads(plain.content), **part}))
    text = LINES + "a" * 5000 + "x" * 5000
    assert torch.equal(other.encode(text), plain.encode(text))


def test_bpe_of_words_of_any_length():
    """As DNA in one line, or spaces: the library's time grows with the square of a word's length. Others stay whole."""
    dna = "".join(random.Random(0).choices("ACGT", k=300_000))
    start = time.process_time()
    for text in (dna, "x" * 300_000, " " * 300_000, f"{dna}\n\n{dna}\0 {dna}"):
        tokenizer = BPE.fit(text, 300)
        assert tokenizer.decode(tokenizer.encode(text).tolist()) == text
    assert time.process_time() - start < 100
    assert tokens.pieces("to be\n" + "x" * 1001 + " y\n\n") == ["to be\n", "x" * 1000, "x y\n", "\n"]
    assert tokens.pieces(KOREAN) == KOREAN.splitlines(keepends=True)


def test_a_text_that_was_cut_short(tmp_path):
    """It is UTF-8, and would become letters of another language by a conversion."""
    path = tmp_path / "a b.txt"
    path.write_bytes(KOREAN.encode()[:-2])
    message = assert_fails(lambda: corpora.read_text(path), "ends in the middle of a character", "head -c ")
    subprocess.run(message.partition("leave the last bytes out: ")[2], shell=True, check=True)
    assert KOREAN.startswith(corpora.read_text(tmp_path / "a b.txt.clean"))


@pytest.mark.parametrize("mark", corpora.OTHER_FILES)
def test_what_is_no_text_is_named(tmp_path, mark):
    (tmp_path / "a.txt").write_bytes(mark + b" text" * 99 + b"\0")
    assert_fails(lambda: corpora.read_text(tmp_path / "a.txt"), f"a.txt is {corpora.OTHER_FILES[mark]}, no text")


def test_nul_bytes_are_named(tmp_path):
    path = tmp_path / "a b.txt"
    path.write_bytes(b"to be or not to be\n" * 9 + b"\0" + b"that is the question\n" * 9)
    message = assert_fails(lambda: corpora.read_text(path), "a NUL byte at offset 171", "tr -d ")
    subprocess.run(message.partition("take them out: ")[2], shell=True, check=True)
    assert corpora.read_text(tmp_path / "a b.txt.clean").count("question") == 9


def test_a_text_that_changes_while_it_is_read(tmp_path):
    """Its vocabulary would not be that of the text trained on; and the next run of a sweep has the new one's."""
    path = tmp_path / "a.txt"
    path.write_text(LINES)
    arguments: dict[str, Any] = {"file": str(path), "batch_size": 2, "seq_len": 8}
    data = TextData(None, vocab_size=len(set(LINES)) + 1, **arguments)
    path.write_text(LINES + "zyx" * 30)
    assert_fails(data.setup, str(path), "has changed since this run began to read it")
    again = TextData(None, vocab_size=len(set(LINES)) + 1, **arguments)
    path.write_text("zyx" * 30 + LINES)
    os.utime(path, ns=(1, 1))
    now = TextData(None, vocab_size=len(set(LINES)) + 4, **arguments)
    now.setup()
    assert "z" in now.tokenizer.vocabulary
    assert "z" not in again.tokenizer.vocabulary


def test_a_resumed_run_notices_a_text_that_changed(run_train, tmp_path):
    """Of the same characters too; not where it lies."""
    lean = ("model=lstm", "task=language", "model.hidden=8", "model.embedding=8", "trainer.max_epochs=1")
    (tmp_path / "a.txt").write_text(LINES * 9)
    settings = ("data.batch_size=2", "data.seq_len=32", "trainer.limit_train_batches=2", "test=false")
    quiet = ("logger=none", "callbacks.progress=null", "trainer.accelerator=cpu")
    code, output = run_train("data=text_file", "data.file=a.txt", *lean, *settings, *quiet)
    assert code == 0, output
    (tmp_path / "b.txt").write_text(LINES * 9)
    (tmp_path / "a.txt").write_text(LINES[::-1] * 9)
    code, output = run_train("resume=last", "++data.file=a.txt", "trainer.max_epochs=2")
    assert code == 1
    assert "the data have changed: data.file has changed; restore the old data, or start anew" in output
    code, output = run_train("resume=last", "++data.file=b.txt", "trainer.max_epochs=2")
    assert code == 0, output


def test_a_text_that_memory_does_not_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "total_memory", lambda: 24_000)
    (tmp_path / "a.txt").write_text("a" * 1001)
    assert_fails(lambda: corpora.read_text(tmp_path / "a.txt"), "a.txt has 0.0 MB, more than", "this machine's memory")


def text_data(tmp_path, text=KOREAN * 40, **arguments):
    path = tmp_path / "mine.txt"
    path.write_text(text)
    level = arguments.setdefault("level", "char")
    size = len(tokens.fit(level, text[: len(text) - 2 * (len(text) // 10)], arguments.get("most")).vocabulary)
    data = TextData(None, size, file=str(path), **arguments)
    data.setup()
    return data


@pytest.mark.parametrize("level", ["char", "byte", "word", "bpe"])
def test_a_text_of_your_own(tmp_path, level):
    """Its parts are the text, in order, broken at characters; the vocabulary is the training part's."""
    data = text_data(tmp_path, level=level, batch_size=2, seq_len=8)
    assert data.texts["train"] + data.texts["val"] + data.texts["test"] == KOREAN * 40
    assert len(data.texts["test"]) == len(KOREAN * 40) // 10
    x, y = data.sample(3)
    assert torch.equal(x[:, 1:], y[:, :-1])
    assert "mine" in data.summary()


@pytest.mark.parametrize("level", ["char", "byte", "word", "bpe"])
def test_the_first_characters_alone(tmp_path, level):
    """Of the test part, and one more before them to predict from; the text itself stays as it was."""
    data = text_data(tmp_path, level=level)
    text, whole = data.texts["test"], data.splits["test"]
    few, n = data.first(20)
    assert n == 20
    assert few.texts["test"] == text[:21]
    assert few.units("test")["tokens"] == sum(int((y != -100).sum()) for _, y in few.test_dataloader())
    assert torch.equal(few.tokenizer.encode(text[:21]), few.splits["test"])
    assert data.texts["test"] is text
    assert data.splits["test"] is whole
    assert data.first(10**9)[1] == len(text) - 1


def test_windows_are_drawn_in_another_order_each_epoch(tmp_path):
    data = text_data(tmp_path, batch_size=4, seq_len=8, windows="shuffled")
    loader = data.train_dataloader()
    first, second = ([data.on_after_batch_transfer(b, 0) for b in loader] for _ in range(2))
    assert not torch.equal(first[0][0], second[0][0])
    for x, y in first:
        assert torch.equal(x[:, 1:], y[:, :-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seq_len": 0}, "data.seq_len=0"),
        ({"windows": "random"}, "streams or shuffled"),
        ({"eval_context": -1}, "give 0 or more"),
        ({"batch_size": 5000}, "too few"),
    ],
)
def test_impossible_settings(tmp_path, arguments, message):
    with pytest.raises(ZooError, match=message):
        text_data(tmp_path, **arguments).train_dataloader()


def test_name_or_file():
    with pytest.raises(ZooError, match=r"data.file=PATH"):
        TextData(None, 10)
    with pytest.raises(ZooError, match=r"data.file=PATH"):
        TextData("text_file", 10)
    with pytest.raises(ZooError, match="is unknown; valid: shakespeare"):
        TextData("hamlet", 10)


# --- names made up ----------------------------------------------------------------------------------------------------

PLAY = "KING ROMEO:\nO Romeo, Romeo! the king.\n\nJULIET:\nGood Romeo's horse.\n\nFirst Citizen:\nJuliet?\n\n"
PLAY += "MALVOLIO:\nNo.\n\nOLIVIA:\nYes.\n\nFERDINAND:\nNo.\n\n"


def spoken(names: MadeUpNames, seed: int) -> list[str]:
    """The pieces of PLAY, once each, with other names."""
    text = names.tokenizer.decode(names.draw(torch.Generator().manual_seed(seed)).tolist())
    return [text[i : i + len(PLAY)] for i in range(0, len(text), len(PLAY))]


def test_names_are_made_up_the_same_throughout_a_piece():
    names = MadeUpNames(PLAY * 3, Characters.fit(PLAY + PLAY.lower()), share=1.0, pieces=3)
    assert names.names == ["FERDINAND", "JULIET", "MALVOLIO", "OLIVIA", "ROMEO"]  # and not KING, which is a word too
    pieces = spoken(names, 1)
    for piece in pieces:
        headings = re.findall(r"([A-Z]{3,}):", piece)
        other = dict(zip(("ROMEO", "JULIET", "MALVOLIO", "OLIVIA", "FERDINAND"), headings, strict=True))
        other |= {old.capitalize(): new.capitalize() for old, new in other.items()}
        assert piece == re.sub("|".join(other), lambda match, other=other: other[match[0]], PLAY)
    assert len({*pieces, PLAY}) == 4
    assert spoken(names, 1) == pieces != spoken(names, 2)
    kept = MadeUpNames(PLAY * 100, Characters.fit(PLAY), share=0.3, pieces=100)
    unchanged = sum("ROMEO:" in piece for piece in spoken(kept, 1))
    assert 55 < unchanged < 85  # 70 on average


def test_headings_of_other_editions():
    """FIRST CITIZEN. is one too, and Exeunt. is not."""
    play = (
        re.sub(r"^([A-Za-z ]+):$", lambda match: f"{match[1].upper()}.", PLAY, flags=re.MULTILINE)
        + "Exeunt.\n\nACT III.\n"
    )
    names = MadeUpNames(play, Characters.fit(play), share=1.0, pieces=1)
    assert names.names == ["CITIZEN", "FERDINAND", "FIRST", "JULIET", "MALVOLIO", "OLIVIA", "ROMEO"]
    assert "ROMEO." not in names.tokenizer.decode(names.draw(torch.Generator().manual_seed(1)).tolist())


def test_training_reads_other_names_each_epoch_and_evaluation_never(tmp_path):
    (tmp_path / "play.txt").write_text(PLAY * 40)
    arguments = {"file": str(tmp_path / "play.txt"), "batch_size": 2, "seq_len": 16}
    arguments["vocab_size"] = len(Characters.fit(PLAY).vocabulary)
    plain, renamed = TextData(None, **arguments), TextData(None, **arguments, rename=1.0)
    for data in (plain, renamed):
        data.setup("test")  # as a trainer that tests before it fits
    loader, other = renamed.train_dataloader(), plain.train_dataloader()
    first, second = [x for x, _ in loader], [x for x, _ in loader]
    assert len(first) == len(list(other))
    read = renamed.tokenizer.decode(torch.cat(first, 1)[0].tolist())
    assert "First Citizen:" in read
    assert len(set(re.findall(r"([A-Z]{6}):", read)) - {"JULIET", "OLIVIA"}) >= 1
    assert not torch.equal(first[0], second[0])
    again = renamed.train_dataloader()
    again.load_state_dict({"epoch": 1, "batch": 2})
    assert all(torch.equal(x, y) for (x, _), y in zip(again, second[2:], strict=True))
    pairs = zip(renamed.test_dataloader(), plain.test_dataloader(), strict=True)
    assert all(torch.equal(x, y) for (x, _), (y, _) in pairs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rename": 1.5}, r"data\.rename=1\.5 is not valid"),
        ({"rename": 0.5, "windows": "shuffled"}, "needs data.windows=streams"),
        ({"rename": 0.5, "level": "byte", "vocab_size": 256}, "set data.level=char, and data.tokenizer=null"),
        ({"rename": 0.5, "text": LINES}, "lines 0 do, with 0 names in capitals; set data.rename=0"),
        ({"rename": 0.5, "text": "ROMEO:\n" + "Yes.\n" * 200}, "of 6,433 lines 32 do, with 1 names in capitals"),
    ],
)
def test_names_that_cannot_be_made_up(tmp_path, arguments, message):
    text = arguments.pop("text", PLAY) * 40
    (tmp_path / "play.txt").write_text(text)
    arguments = {"vocab_size": len(Characters.fit(text).vocabulary), **arguments}

    def begin() -> None:
        data = TextData(None, file=str(tmp_path / "play.txt"), batch_size=2, seq_len=16, **arguments)
        data.setup()
        data.train_dataloader()

    with pytest.raises(ZooError, match=message):
        begin()
