"""GLAC Net against the published equations, stories as data, the sampling rule, and what the measures say."""

import json
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from zoo.contracts import Story
from zoo.data import albums
from zoo.data.digit_stories import DIGITS, PLACES, DigitStories
from zoo.data.picture_stories import PictureStories, sizes
from zoo.data.stories import windows
from zoo.data.story_words import STOP, UNKNOWN, StoryReader, cut, pieces, vocabulary
from zoo.errors import ZooError
from zoo.models.efficientnet_lite import EfficientNetLite0, SameConv
from zoo.models.glac import GLAC
from zoo.tasks.story import Paired, Tell, bag_loss, contrast, of_another_book
from zoo.use.signature import signature
from zoo.use.tell import tell, write_page

SIZES = {"num_classes": 13, "in_features": 6, "width": 8, "hidden": 7, "embedding": 5}


def made(**arguments):
    torch.manual_seed(0)
    model = GLAC(**SIZES, **arguments)
    for norm in (model.encoder.norm, model.encoder.norm_out):  # statistics that differ from the initial ones
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    return model.eval()


def story():
    """Two stories of three pages with 3, 1, 2 and 2, 3, 1 words, of which the first of each page is STOP."""
    generator = torch.Generator().manual_seed(1)
    lengths = ((3, 1, 2), (2, 3, 1))
    page = torch.tensor([[i for i, n in enumerate(row) for _ in range(n)] for row in lengths])
    words = torch.randint(2, 13, page.shape, generator=generator)
    for row, own in zip(words, lengths, strict=True):
        row[[0, own[0], own[0] + own[1]]] = STOP
    return Story(torch.randn(2, 3, 6, generator=generator), words, page), lengths


@torch.no_grad()
def published(model, x, lengths, cascade=True):
    """The published network, sentence by sentence, in its own form: the logits of all words of each story."""
    e = model.encoder
    local = e.norm(F.linear(x.pictures.reshape(-1, 6), e.project.weight, e.project.bias)).view(2, 3, -1)
    around, _ = e.lstm(local)
    glocal = e.join(torch.cat((local, around), 2))
    glocal = e.norm_out(glocal.view(6, -1)).view(2, 3, -1)
    seen = F.relu(model.to_decoder(glocal))
    found = []
    for b, own in enumerate(lengths):
        h = c = torch.zeros(2, 1, 7)
        start, rows = 0, []
        for i, n in enumerate(own):
            words = model.embed(x.words[b, start : start + n])
            inputs = torch.cat((seen[b, i].expand(n, -1), words), 1)
            out, (h, c) = model.decoder(inputs[None], (h, c))
            if not cascade:
                h = c = torch.zeros(2, 1, 7)
            rows.append(model.head(out[0]))
            start += n
        found.append(torch.cat(rows))
    return torch.stack(found)


@pytest.mark.parametrize("cascade", [True, False])
def test_outputs_are_those_of_the_published_network(cascade):
    model = made(cascade=cascade)
    x, lengths = story()
    torch.testing.assert_close(model(x), published(model, x, lengths, cascade), atol=1e-6, rtol=1e-5)


def test_sizes_and_initial_weights_are_the_published_ones():
    with torch.device("meta"):
        model = GLAC(1000, 2048)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes["encoder.project.weight"] == (1024, 2048)
    assert shapes["encoder.join.weight"] == (2048, 3072)
    assert shapes["to_decoder.weight"] == (1024, 2048)
    assert shapes["decoder.weight_ih_l0"] == (4096, 256 + 1024)
    assert model.encoder.lstm.num_layers == model.decoder.num_layers == 2
    small = GLAC(300, 6, hidden=50)
    assert abs(small.head.weight.std() - 0.02) < 1e-3
    assert small.head.bias.abs().max() == 0


def test_steps_give_the_logits_of_the_whole():
    model, (x, _) = made(), story()
    glances, state, found = model.glances(x.pictures), None, []
    for t in range(x.words.shape[1]):
        at = glances[torch.arange(2), x.page[:, t]]
        logits, state = model.step(x.words[:, t], at, state)
        found.append(logits)
    torch.testing.assert_close(torch.stack(found, 1), model(x), atol=1e-6, rtol=1e-5)


def influence(model, page, picture):
    """Whether the first story's words of a page depend on a picture."""
    x, _ = story()
    pictures = x.pictures.clone().requires_grad_()
    model(x._replace(pictures=pictures))[0][x.page[0] == page].sum().backward()
    return bool(pictures.grad[0, picture].abs().sum() > 0)


def test_each_part_lets_through_what_it_is_for():
    assert influence(made(), 0, 2)  # through the global LSTM, a later picture
    assert not influence(made(with_global=False), 0, 2)
    assert influence(made(with_global=False), 2, 0)  # through the cascade
    assert not influence(made(with_global=False, cascade=False), 2, 0)
    model = made(with_local=False)
    glances = model.glances(story()[0].pictures)
    torch.testing.assert_close(glances[:, 0], glances[:, 2])
    with pytest.raises(ZooError, match="one of them has to see"):
        made(with_local=False, with_global=False)


def test_word_dropout_hides_words_in_training_only():
    model, (x, _) = made(word_dropout=1.0, dropout=0.0, input_dropout=0.0), story()
    other = x._replace(words=torch.where(x.words == STOP, STOP, 2))
    assert not torch.equal(model(x), model(other))
    hidden = x._replace(words=torch.where(x.words == STOP, STOP, UNKNOWN))
    model.train()
    for norm in (model.encoder.norm, model.encoder.norm_out):
        norm.eval()
    assert torch.equal(model(x), model(other))
    assert torch.equal(model(x), model(hidden))


def test_efficientnet_pads_as_tensorflow():
    conv = SameConv(1, 1, 3, stride=2)
    nn.init.ones_(conv.weight)
    assert conv(torch.ones(1, 1, 4, 4))[0, 0].tolist() == [[9, 6], [6, 4]]  # the odd pixel is at the right and below
    assert conv(torch.ones(1, 1, 5, 5)).shape[2:] == (3, 3)
    model = EfficientNetLite0().eval()
    assert model.blocks(model.stem(torch.zeros(1, 3, 64, 64))).shape == (1, 320, 2, 2)


# --- words and windows ------------------------------------------------------------------------------------------------


def test_words():
    said = pieces("“Where’s my dog?” said  Anna-Lena.\nIt ran!")
    assert said == ["where's", "my", "dog", "?", "said", "anna-lena", ".", "it", "ran", "!"]
    assert cut(said, 7) == said[:7]
    assert cut(said, 6) == said[:4]
    assert cut(said, 2) == said[:2]
    assert vocabulary([["b", "a", "a"], ["b", "c"]], 2) == "a b"
    reader = StoryReader("i ran . dog", "lenet5")
    assert reader.encode(["dog", "cat", "."]) == [5, UNKNOWN, 4]
    assert reader.decode([5, 3, 4, 3, 2, 4, STOP, STOP]) == "Dog ran. Ran I."
    assert StoryReader(**{k: v for k, v in reader.config().items() if k != "_target_"}).known == reader.known


@pytest.mark.parametrize(("words", "features"), [("", "lenet5"), ("a a", "lenet5"), ("a", "vgg")])
def test_a_damaged_reader(words, features):
    with pytest.raises(ZooError, match="damaged"):
        StoryReader(words, features)


def test_windows_count_each_page_once():
    pages, counted, book = windows([7, 2, 3], 3, first=10, book=4, overlap=False)
    assert pages.tolist() == [[10, 11, 12], [13, 14, 15], [14, 15, 16], [19, 20, 21]]
    assert sorted(pages[counted].tolist()) == [*range(10, 17), 19, 20, 21]
    assert book.tolist() == [4, 4, 4, 6]
    assert windows([7, 2, 3], 3, 0, 0, overlap=True)[0][:, 0].tolist() == [0, 1, 2, 3, 4, 9]


@pytest.fixture
def digits(toy_data):
    data = DigitStories(19, 84, train_size=40, val_size=12, test_size=12, batch_size=8)
    data.setup()
    return data


def test_digit_stories_need_all_three(digits):
    batch, known = digits.told(12, "test"), digits.reader.known
    words = batch.texts
    names = [[known[int(page[PLACES["picture"]])] for page in row] for row in words]
    largest = [[known[int(page[PLACES["sequence"]])] for page in row] for row in words]
    who = [[known[int(page[PLACES["before"]])] for page in row] for row in words]
    for row, most, turns in zip(names, largest, who, strict=True):
        assert set(most) == {max(row, key=DIGITS.index)}
        assert all(a != b for a, b in pairwise(turns))
    assert len({row[0] for row in who}) == 2
    assert digits.reader.decode(words[0, 0].tolist()).endswith(
        f" sees {names[0][0]} of {largest[0][0]}, says {who[0][0]}."
    )


def test_a_batch_has_the_next_words(digits):
    batch = digits.told(3, "train")
    x, targets = batch.story, batch.targets
    assert x.words.shape == (3, 50)
    assert (x.words[:, ::10] == STOP).all()
    assert (x.page[0].bincount() == 10).all()
    moved = targets.view(3, 5, 10)
    assert (moved[..., -1] == STOP).all()
    assert torch.equal(moved[..., :-1], batch.texts)
    assert torch.equal(x.words.view(3, 5, 10)[..., 1:], batch.texts)


def test_sizes_of_other_data(toy_data):
    with pytest.raises(ZooError, match="19 and 84; leave them as they are"):
        DigitStories(20, 84)


# --- albums -----------------------------------------------------------------------------------------------------------


def album(root, books):
    """Books of (title, [(colour, text), …]) as stories.json with pictures of one colour."""
    listed = []
    for title, pages in books:
        for colour, _ in pages:
            Image.new("RGB", (8, 8), (colour, 0, 0)).save(root / f"{colour}.png")
        listed.append({"title": title, "pages": [{"image": f"{c}.png", "text": text} for c, text in pages]})
    (root / "stories.json").write_text(json.dumps(listed))
    return root


def test_books_that_share_pictures_or_texts_stay_together(tmp_path):
    long = "The dog ran home to the old red house."
    books = [(f"b{i}", [(i, f"Number {i} is alone here with its own {i}.")]) for i in range(20)]
    books += [("same picture", [(3, "Another text.")]), ("same text", [(200, long)]), ("twice", [(201, long.upper())])]
    found = albums.books(album(tmp_path, books), "album")
    parts = albums.split(found, {"val": 0.2, "test": 0.2}, 0)
    place = {book.title: part for part, own in parts.items() for book in own}
    assert len(place) == 23
    assert all(4 <= len(parts[part]) <= 6 for part in ("val", "test"))
    assert place["b3"] == place["same picture"]
    assert place["same text"] == place["twice"]


def test_albums_of_the_users_own(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name / "1.png")
        (tmp_path / name / "1.txt").write_text(f"Text of {name}.")
    found = [(b.title, b.pages[0][1]) for b in albums.books(tmp_path, "album")]
    assert found == [
        ("a", "Text of a."),
        ("b", "Text of b."),
    ]


def test_vist(tmp_path):
    (tmp_path / "images").mkdir()
    for part in albums.PARTS:
        said = [
            [{"photo_flickr_id": f"{part}{i}", "story_id": "1", "worker_arranged_photo_order": i, "text": f"Page {i}."}]
            for i in (1, 0)
        ]
        (tmp_path / f"{part}.story-in-sequence.json").write_text(json.dumps({"annotations": said}))
        for i in range(2) if part != "val" else ():
            Image.new("L", (4, 4)).save(tmp_path / "images" / f"{part}{i}.jpg")
    parts = albums.split(albums.books(tmp_path, "vist"), {}, 0)
    assert [text for _, text in parts["train"][0].pages] == ["Page 0.", "Page 1."]
    assert (len(parts["train"]), len(parts["val"]), len(parts["test"])) == (1, 0, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no stories; give data.root=FOLDER"),
        ("[", "damaged"),
        ('[{"title": "a", "pages": [{"image": "../x.png", "text": "b"}]}]', "not in the folder"),
        ('[{"pages": []}]', "damaged"),
    ],
)
def test_albums_that_cannot_be_read(tmp_path, content, message):
    if content is not None:
        (tmp_path / "stories.json").write_text(content)
    with pytest.raises(ZooError, match=message):
        albums.books(tmp_path, "album")


def test_the_embedded_stories_need_no_network_for_their_features():
    place = {"root": None, "val_size": 0.1, "test_size": 0.15, "split_seed": 0, "longest": 40, "at_least": 1}
    size = sizes(_parent_={"name": "small_stories", **place})
    data = PictureStories("small_stories", size, 1280, at_least=1)
    data.setup()
    x, targets = data.sample(2)
    assert x.shape == (2, 5, 1280)
    assert x.pictures.std() > 0.1
    assert "my dog" in data.reader.decode(data.told(1, "train").texts[0, 0].tolist())
    assert int(targets.max()) < size


# --- the task ---------------------------------------------------------------------------------------------------------


def test_the_interval_is_over_books():
    measure = Paired()
    measure.update(torch.tensor([1.0, 3.0, 2.0]), torch.tensor([2, 2, 4]), torch.tensor([5, 5, 9]))
    value, half = measure.compute()
    assert value == pytest.approx(6 / 8)
    residuals = [4 - 0.75 * 4, 2 - 0.75 * 4]
    assert half == pytest.approx(1.96 * (2 / 1 * sum(r * r for r in residuals)) ** 0.5 / 8)


def test_wrong_pictures_are_of_another_book():
    other, found = of_another_book(torch.tensor([1, 1, 2, 3]))
    assert other.tolist() == [2, 2, 3, 0]
    assert found.all()
    assert not of_another_book(torch.tensor([4, 4]))[1].any()


def test_a_page_that_comes_twice_is_no_wrong_answer():
    scores = torch.tensor([[5.0, 5.0, 0.0], [5.0, 5.0, 0.0], [0.0, 0.0, 5.0]])
    assert contrast(scores, torch.tensor([7, 7, 8])) < 0.01 < contrast(scores, torch.tensor([6, 7, 8]))


def test_bags_count_words_and_not_ends():
    texts = torch.tensor([[[3, 3, STOP]]])
    logits = torch.full((1, 1, 5), -20.0)
    assert bag_loss(logits, texts) == pytest.approx(20, abs=1e-3)
    logits[..., 3] = 20
    assert bag_loss(logits, texts) < 1e-3


def test_objectives_that_the_model_does_not_have():
    with pytest.raises(ZooError, match="task=story needs"):
        Tell(nn.Linear(2, 2), 2)


# --- telling ----------------------------------------------------------------------------------------------------------

READER = StoryReader("dog cat . ran a", "lenet5")


class Rigged(nn.Module):
    """Wants to say one word again and again, or to end at once."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def glances(self, pictures):
        return pictures

    def step(self, words, glances, state):
        state = (torch.zeros(1, len(words), 1),) if state is None else state
        return self.logits.expand(len(words), -1).clone(), (state[0] + 1,)


def said(logits, **options):
    return tell(Rigged(logits), READER, torch.zeros(3, 2, 4), **options)


def test_a_text_ends_only_after_a_mark_and_has_no_unknown_words():
    told = said([9.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert UNKNOWN not in told
    for tokens in told.flatten(0, 1).tolist():
        assert tokens[tokens.index(STOP) - 1] == READER.numbers["."]


def test_words_that_were_said_become_rarer():
    logits = [-99.0, -99.0, 4.0, 3.0, -99.0, 2.0, -99.0]  # e⁴ dogs for e³ cats: after one dog, six times fewer
    assert READER.decode(said(logits, most=3)[0, 0].tolist()).split()[:2] == ["Dog", "cat"]
    free = [-99.0, -99.0, 1.0, -99.0, -99.0, -99.0, 4.0]  # "a" may recur
    assert READER.decode(said(free, most=3)[0, 0].tolist()) == "A a a"


def test_the_same_seed_tells_the_same_story():
    logits = [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert torch.equal(said(logits, seed=3), said(logits, seed=3))
    assert not torch.equal(said(logits, seed=3), said(logits, seed=4))


def test_a_page_is_written_whole_and_harmless(tmp_path):
    Image.new("RGB", (900, 30)).save(tmp_path / "a.png")
    write_page([tmp_path / "a.png"], ["<b>5 & 6"], tmp_path / "s.html")
    page = (tmp_path / "s.html").read_text()
    assert "&lt;b&gt;5 &amp; 6" in page
    assert "data:image/jpeg;base64," in page


def test_a_run(run_train, tmp_path):
    small = ("data.train_size=48", "data.val_size=12", "data.test_size=12", "data.batch_size=16", "model.hidden=8")
    code, output = run_train(
        "experiment=digit_stories", *small, "model.width=8", "model.meaning=8", "task.matching=1", "task.page_words=1",
        "trainer.max_epochs=1", "trainer.accelerator=cpu", "callbacks.progress=null", "hydra.run.dir=run",
    )  # fmt: skip
    assert code == 0, output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"test/gain_low", "test/matching", "test/perplexity_wrong", "test/perplexity_none"} <= set(metrics)


def test_a_model_of_stories_is_not_exported():
    with pytest.raises(ZooError, match="use it with zoo tell"):
        signature(made())
