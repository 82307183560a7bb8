"""Translation without pairs: the noise, the aligned vectors, the adversary, and data in which no pair is seen."""

import pytest
import torch
from torch import nn

from zoo.data import pairs
from zoo.data.aligned import align, csls, whiten
from zoo.data.joint import END, PAD
from zoo.data.unpaired import UnpairedData, UnpairedLoader
from zoo.errors import ZooError
from zoo.models.seq2seq import Seq2Seq
from zoo.tasks.beam import greedy
from zoo.tasks.unsupervised import Reversed, Speaking, UnsupervisedTranslate, noisy


def sentences(n: int = 400, length: int = 12) -> torch.Tensor:
    """Rows of different lengths in which token 10 + i stands at place i."""
    torch.manual_seed(0)
    places = torch.arange(length).expand(n, -1)
    ends = torch.randint(1, length, (n, 1))
    return torch.where(places < ends, places + 10, torch.where(places == ends, END, PAD))


def test_without_noise_sentences_stay_as_they_are():
    assert torch.equal(noisy(sentences(), 0.0, 0), sentences())


def test_noise_drops_tokens_as_often_as_said_and_ends_each_sentence():
    x = sentences(4000)
    y = noisy(x, 0.25, 0)
    words, left = (x >= 10).sum(1), (y >= 10).sum(1)
    assert (left >= 1).all()
    long = words > 6
    assert left[long].sum() / words[long].sum() == pytest.approx(0.75, abs=0.01)
    assert ((y == END).sum(1) == 1).all()
    assert torch.equal(y.gather(1, left[:, None])[:, 0], torch.full_like(left, END))
    for row, after in zip(x[:200].tolist(), y[:200].tolist(), strict=True):
        kept = [token for token in after if token >= 10]
        assert kept == sorted(kept)  # nothing moved
        assert {*kept} <= {*row}


def test_noise_moves_no_token_by_more_than_said():
    x = sentences(4000)
    y = noisy(x, 0.0, 3)
    assert torch.equal(y.sort(1).values, x.sort(1).values)
    moved = (y - 10 - torch.arange(x.shape[1]))[y >= 10].abs()
    assert moved.max() == 3  # |σ(i) − i| ≤ k, section 2.3
    assert (moved > 0).float().mean() > 0.5


def test_a_sentence_of_one_token_keeps_it():
    assert noisy(torch.tensor([[7, END, PAD]]).expand(500, -1), 0.9, 3)[:, :2].tolist() == [[7, END]] * 500


def cipher(n: int = 6000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sentences of a language, others of a language that differs only in its words, and the dictionary.

    Half of the 80 tokens are written alike in both languages.
    """
    generator = torch.Generator().manual_seed(0)
    near = torch.rand(80, 80, generator=generator) ** 8 + 1e-3  # which token follows which
    near = near * torch.linspace(3, 0.3, 80)
    rows = torch.randint(80, (n, 1), generator=generator)
    for _ in range(11):
        rows = torch.cat([rows, torch.multinomial(near[rows[:, -1]], 1, generator=generator)], 1)
    dictionary = torch.arange(200)
    changed = torch.arange(80)[1::2]
    dictionary[10 + changed] = 100 + changed[torch.randperm(len(changed), generator=generator)]
    rows = rows + 10
    return rows[: n // 2], dictionary[rows[n // 2 :]], dictionary


def test_the_words_of_a_cipher_are_found_without_a_dictionary():
    first, second, dictionary = cipher()
    found = align(first, second, 200, 10, dim=40)
    unlike = torch.arange(11, 90, 2)
    assert (found.translation[0][unlike] == dictionary[unlike]).float().mean() >= 0.9
    assert (found.translation[1][dictionary[unlike]] == unlike).float().mean() >= 0.9
    assert found.translation[0][:10].tolist() == list(range(10))  # special tokens stay
    for vectors, rows in zip(found.vectors, (first, second), strict=True):
        lengths = vectors.norm(dim=1)
        present = torch.bincount(rows.flatten(), minlength=200) > 0
        assert torch.allclose(lengths[present], torch.ones(1), atol=1e-4)
        assert not lengths[~present].any()
    again = align(first, second, 200, 10, dim=40)
    assert torch.equal(again.vectors[0], found.vectors[0])


def test_languages_with_nothing_alike_are_told():
    first, second, _ = cipher(600)
    with pytest.raises(ZooError, match="the two languages write only 0 tokens alike, and 20 are needed"):
        align(first, second + 90, 300, 10, dim=20)


def test_similarity_is_local_scaled_and_whitening_whitens():
    torch.manual_seed(0)
    a, b = (nn.functional.normalize(torch.randn(n, 6)) for n in (15, 12))
    cosine = a @ b.T
    by_hand = torch.empty(15, 12)
    for i in range(15):
        for j in range(12):
            near_a, near_b = cosine[i].sort(descending=True).values[:10], cosine[:, j].sort(descending=True).values[:10]
            by_hand[i, j] = 2 * cosine[i, j] - near_a.mean() - near_b.mean()
    assert torch.allclose(csls(a, b), by_hand, atol=1e-6)
    white, colour = whiten(a)
    assert torch.allclose((a @ white).T @ (a @ white), torch.eye(6), atol=1e-5)
    assert torch.allclose(white @ colour, torch.eye(6), atol=1e-5)


@pytest.fixture
def data(toy_data: None) -> UnpairedData:
    made = UnpairedData("tatoeba", ["ko", "en"], 280, most=280, val_size=20, test_size=20, batch_size=8)
    made.setup()
    return made


def test_no_sentence_is_seen_with_its_translation(data: UnpairedData):
    found = pairs.parts("tatoeba", ("ko", "en"), None, None, 20, 20, 0, ())[0]
    for part in ("train", "val"):
        translations = dict(zip(*found[part], strict=True))
        first, second = data.texts[part]
        assert first
        assert second
        assert not {translations[sentence] for sentence in first} & {*second}
    assert data.texts["test"] == found["test"]
    assert data.splits["train"][0][:, 0].tolist() == [data.tokenizer.start("ko")] * len(data.splits["train"][0])


def test_an_epoch_has_each_sentence_of_the_smaller_language_once():
    rows = (torch.arange(1, 101)[:, None].expand(-1, 3), torch.arange(1, 151)[:, None].expand(-1, 3))
    batches = list(UnpairedLoader(rows, 8, True, seed=1))
    first, second = (torch.cat([batch[side][:, 0] for batch in batches]) for side in (0, 1))
    assert sorted(first.tolist()) == list(range(1, 101))
    assert len({*second.tolist()}) == len(second)


def test_the_adversary_learns_and_the_encoder_is_pushed_the_other_way():
    x = torch.randn(5, 3, requires_grad=True)
    (Reversed.apply(x) * 2.0).sum().backward()
    assert torch.equal(x.grad, torch.full((5, 3), -2.0))
    torch.manual_seed(0)
    task = UnsupervisedTranslate(Seq2Seq(30, hidden=8, dropout=0.0))
    rows = torch.randint(4, 30, (6, 5))
    memories = [task.read(rows), task.read(rows.flip(0) // 2 + 2)]
    loss = task.judged(memories)
    loss.backward()
    ours, theirs = task.judge[0].weight, task.model.embedding.weight  # type: ignore[union-attr]
    better = task.judged([task.read(rows), task.read(rows.flip(0) // 2 + 2)])
    assert better == loss
    with torch.no_grad():
        ours -= 0.01 * ours.grad
        assert task.judged(memories) < loss  # a step of the adversary
        ours += 0.01 * ours.grad
        theirs -= theirs.grad  # whose sign is turned
        assert task.judged([task.read(rows), task.read(rows.flip(0) // 2 + 2)]) > loss  # a step of the encoder


def test_a_model_that_speaks_a_language_writes_none_of_the_others_tokens():
    torch.manual_seed(0)
    model, used = Seq2Seq(40, hidden=8).eval(), torch.zeros(40, dtype=torch.bool)
    used[[END, 5, 6, 7, 30]] = True
    source = torch.cat([torch.randint(4, 40, (20, 6)), torch.full((20, 1), END)], 1)
    assert {*greedy(Speaking(model, used), source, 2).tokens.flatten().tolist()} <= {PAD, END, 5, 6, 7, 30}
    assert not {*greedy(model, source, 2).tokens.flatten().tolist()} <= {PAD, END, 5, 6, 7, 30}


def test_embeddings_begin_with_the_vectors_that_are_known():
    model = Seq2Seq(10, hidden=8)
    before, vectors = model.embedding.weight.clone(), torch.zeros(10, 6)
    vectors[3:6] = torch.randn(3, 6)
    model.embed(vectors)
    assert torch.equal(model.embedding.weight[3:6, :6], vectors[3:6])
    assert torch.equal(model.embedding.weight[[0, 1, 2, 6, 7, 8, 9]], before[[0, 1, 2, 6, 7, 8, 9]])


def test_wrong_weights_are_told():
    with pytest.raises(ZooError, match=r"task\.denoise=0, task\.back_translate=0: nothing is learned"):
        UnsupervisedTranslate(Seq2Seq(30, hidden=8), denoise=0, back_translate=0)
    with pytest.raises(ZooError, match="task=unsupervised_translate needs embed, read, write"):
        UnsupervisedTranslate(nn.Linear(2, 2))
