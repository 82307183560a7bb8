"""Translation: the equations of encoder and attention, the search, the pairs of sentences, and the commands."""

import gzip
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import zoo
from tests.conftest import some
from zoo.config.foreign import check_foreign, with_known
from zoo.data import pairs
from zoo.data.joint import END, PAD, JointTokens
from zoo.data.parallel import PairLoader, ParallelData
from zoo.errors import ZooError
from zoo.models.seq2seq import Additive, Multiplicative, Seq2Seq
from zoo.tasks.beam import beam_search, greedy, limits, score
from zoo.tasks.translate import Translate, scores

KINDS = ("additive", "multiplicative", "none")
START = 2  # the token of the target language


def small(vocabulary: int = 9, attention: str = "additive", seed: int = 0, **settings) -> Seq2Seq:
    torch.manual_seed(seed)
    return Seq2Seq(vocabulary, **{"hidden": 8, "embedding": 6, "attention": attention, **settings}).eval()


def sentences(*lengths: int, vocabulary: int = 9, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(START, vocabulary, (len(lengths), max(lengths)), generator=generator)
    for row, length in zip(rows, lengths, strict=True):
        row[length:] = PAD
    return rows


# --- the model --------------------------------------------------------------------------------------------------------


def test_the_first_layer_is_torchs_bidirectional_lstm_over_packed_sentences():
    model, source = small(depth=1), sentences(7, 3, 1, 5)
    theirs = nn.LSTM(6, 4, batch_first=True, bidirectional=True)
    for layer, suffix in ((model.forwards, ""), (model.backwards, "_reverse")):
        for name, p in layer.named_parameters():
            getattr(theirs, name + suffix).data.copy_(p)
    lengths = (source != PAD).sum(1)
    packed = pack_padded_sequence(model.embedding(source), lengths, batch_first=True, enforce_sorted=False)
    out, (h, _) = theirs(packed)
    memory, mask = model.read(source), source != PAD
    torch.testing.assert_close(memory.states[mask], pad_packed_sequence(out, batch_first=True)[0][mask])
    torch.testing.assert_close(memory.summary, torch.cat([h[0], h[1]], -1))


def test_additive_attention_is_bahdanaus_equation():
    torch.manual_seed(0)
    attention, query, states = Additive(5), torch.randn(2, 3, 5), torch.randn(2, 4, 5)
    found = attention(query, attention.key(states))
    w, u, v, b = (attention.query.weight, attention.key.weight, attention.score.weight[0], attention.query.bias)
    for n, t, s in itertools.product(range(2), range(3), range(4)):
        torch.testing.assert_close(found[n, t, s], v @ torch.tanh(w @ query[n, t] + b + u @ states[n, s]))


def test_multiplicative_attention_is_luongs_equation():
    torch.manual_seed(0)
    attention, query, states = Multiplicative(5), torch.randn(2, 3, 5), torch.randn(2, 4, 5)
    found = attention(query, attention.key(states))
    for n, t, s in itertools.product(range(2), range(3), range(4)):
        torch.testing.assert_close(found[n, t, s], query[n, t] @ attention.key.weight @ states[n, s])


@pytest.mark.parametrize("attention", KINDS)
def test_the_context_is_the_mean_of_the_states_with_the_softmax_of_the_scores(attention):
    model, source = small(attention=attention), sentences(6, 2)
    memory, query = model.read(source), torch.randn(2, 3, 8)
    context, weights = model.look(query, memory)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3))
    assert (weights[1, :, 2:] == 0).all()
    if attention == "none":
        torch.testing.assert_close(context, memory.summary[:, None].expand(-1, 3, -1))
    else:
        alone = model.attention(query[1:], memory.keys[1:, :2]).softmax(-1)
        torch.testing.assert_close(context[1:], alone @ memory.states[1:, :2])


@pytest.mark.parametrize("attention", KINDS)
def test_padding_never_changes_a_result(attention):
    """Neither the states, nor the logits, nor the translations of a sentence depend on the others of its batch."""
    model, source, target = small(attention=attention), sentences(9, 4, 1), sentences(8, 3, 5, seed=2)
    together = model.write(target, model.read(source)).logits
    for i, (n, t) in enumerate(((9, 8), (4, 3), (1, 5))):
        alone = model.write(target[i : i + 1, :t], model.read(source[i : i + 1, :n])).logits
        torch.testing.assert_close(together[i : i + 1, :t], alone)
    for search in (lambda x: greedy(model, x, START), lambda x: beam_search(model, x, START, 3, beta=0.2)):
        whole = search(source)
        for i, n in enumerate((9, 4, 1)):
            alone = search(source[i : i + 1, :n])
            length = alone.tokens.shape[1]
            assert whole.tokens[i, :length].tolist() == alone.tokens[0].tolist()
            assert (whole.tokens[i, length:] == PAD).all()
            torch.testing.assert_close(whole.scores[i : i + 1], alone.scores)


@pytest.mark.parametrize("attention", KINDS)
def test_token_by_token_is_as_all_at_once(attention):
    model, memory = small(attention=attention), None
    source, target = sentences(5, 3), sentences(6, 6, seed=3)
    memory = model.read(source)
    whole, state, parts = model.write(target, memory), None, []
    for t in range(6):
        out = model.write(target[:, t : t + 1], memory, state)
        state = out.state
        parts.append(out.logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole.logits)


@pytest.mark.parametrize("attention", KINDS)
def test_the_decoder_does_not_see_later_tokens(attention):
    model, source, target = small(attention=attention), sentences(5), sentences(6, seed=3)
    before = model.write(target, model.read(source)).logits
    target[0, 4] = 3 if target[0, 4] != 3 else 4
    after = model.write(target, model.read(source)).logits
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_embedding_and_output_share_a_matrix():
    model = small()
    assert sum(p.shape == (9, 6) for p in model.parameters()) == 1
    model(torch.stack([sentences(4), sentences(4, seed=2)], 1)).sum().backward()
    assert model.embedding.weight.grad.abs().sum() > 0


def test_residual_layers_add_their_input():
    model = small()
    for layer in (*model.encoder, *model.decoder):
        for p in layer.parameters():
            nn.init.zeros_(p)  # such a layer gives 0, so what remains is its input
    shallow = small(depth=1)
    own = {name: p.shape for name, p in shallow.state_dict().items()}
    shallow.load_state_dict({k: v for k, v in model.state_dict().items() if own.get(k) == v.shape}, strict=False)
    source = sentences(5, 3)
    torch.testing.assert_close(model.read(source).states, shallow.read(source).states)
    model.residual = False
    assert (model.read(source).states == 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"hidden": 7}, r"model\.hidden=7 is not valid: give an even number"), ({"attention": "dot"}, "dot is unknown")],
)
def test_model_errors(settings, message):
    with pytest.raises(ZooError, match=message):
        Seq2Seq(9, **settings)


@pytest.mark.parametrize("attention", some(["multiplicative", "additive"], "multiplicative"))
def test_reversing_is_learned(attention):
    """The attention must find the place of each token from the end."""
    torch.manual_seed(0)
    model = Seq2Seq(10, hidden=48, depth=1, attention=attention, dropout=0.0)
    optimizer, generator = torch.optim.Adam(model.parameters(), 0.01), torch.Generator().manual_seed(0)

    def examples(n, length):
        x = torch.randint(3, 10, (n, length), generator=generator)
        ends = torch.full((n, 1), END)
        return torch.cat([x, ends], 1), torch.cat([torch.full((n, 1), START), x.flip(1), ends], 1)

    for _ in range(160):
        source, target = examples(48, int(torch.randint(3, 7, (), generator=generator)))
        logits = model.write(target[:, :-1], model.read(source)).logits
        loss = F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    source, target = examples(100, 6)
    found = greedy(model.eval(), source, START).tokens
    found = F.pad(found, (0, max(0, 7 - found.shape[1])))[:, :7]
    assert (found == target[:, 1:]).all(1).float().mean() > 0.8


# --- the search -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_one_is_greedy(attention, seed):
    model, source = small(attention=attention, seed=seed), sentences(6, 2, 4, seed=seed)
    model.head.bias.data[END] = 1.0  # so that some sentences end early
    one, other = beam_search(model, source, START, beam=1, alpha=0.0), greedy(model, source, START)
    assert one.tokens.tolist() == other.tokens.tolist()
    torch.testing.assert_close(one.scores, other.scores)


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (1.0, 0.0), (0.6, 0.3)])
def test_a_wide_beam_finds_the_best_of_all_translations(monkeypatch, alpha, beta):
    """All sequences over a vocabulary of three tokens and the end, up to a length of 3, by brute force."""
    monkeypatch.setattr("zoo.tasks.beam.limits", lambda source: torch.full((len(source),), 3))
    model, source = small(5, seed=5), sentences(4, 2, vocabulary=5)
    torch.nn.init.normal_(model.head.bias, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = beam_search(model, source, START, beam=40, alpha=alpha, beta=beta)
        for i, row in enumerate(source):
            best, kept = -math.inf, None
            kind = [t for t in range(5) if t not in (PAD, END)]
            every = [list(words) for n in range(3) for words in itertools.product(kind, repeat=n)]
            for words in every:
                given, wanted = torch.tensor([[START, *words]]), [*words, END]
                x = row[None, : int((row != PAD).sum())]
                out = model.write(given, model.read(x))
                logits = out.logits[0].clone()
                logp, total = logits.log_softmax(-1), torch.tensor(0.0)
                for t, token in enumerate(wanted):
                    total = total + logp[t, token]
                value = score(total, len(wanted), out.attention[0].sum(0), torch.ones(x.shape[1]).bool(), alpha, beta)
                if value > best:
                    best, kept = float(value), wanted
            tokens = [t for t in found.tokens[i].tolist() if t != PAD]
            assert tokens == kept
            assert float(found.scores[i]) == pytest.approx(best, rel=1e-4)


def test_the_score_is_equation_14():
    coverage, mask = torch.tensor([0.5, 1.5, 0.25, 0.0]), torch.tensor([True, True, True, False])
    wanted = -6.0 / ((5 + 7) / 6) ** 0.65 + 0.2 * (math.log(0.5) + math.log(1.0) + math.log(0.25))
    found = score(torch.tensor(-6.0), 7, coverage, mask, 0.65, 0.2)
    assert float(found) == pytest.approx(wanted, rel=1e-6)
    assert float(score(torch.tensor(-6.0), 7, coverage, mask, 0.0, 0.0)) == -6.0


def test_a_wider_beam_is_not_less_probable_than_greedy_and_lengths_are_limited():
    model, source = small(seed=3), sentences(8, 5, 3, 1)
    model.head.bias.data[END] = -9.0  # it never wants to end
    with torch.no_grad():
        for beam in (1, 4):
            found = beam_search(model, source, START, beam, alpha=0.0)
            assert ((found.tokens != PAD).sum(1) <= limits(source)).all()
            assert (found.tokens == END).any(1).all()
    assert limits(source).tolist() == [26, 20, 16, 12]


# --- pairs of sentences -----------------------------------------------------------------------------------------------


PAIRS = (["a b", "c", "a b", "d", "e", "f g", "h"], ["A", "B", "C", "B", "E", "F", "G"])


def test_pairs_that_share_a_sentence_stay_together():
    assert pairs.groups(PAIRS) == [0, 1, 0, 1, 2, 3, 4]
    for seed in range(5):
        parts = pairs.split(PAIRS, 1, 0.2, seed)
        assert sorted(a + b for part in parts.values() for a, b in zip(*part, strict=True)) == sorted(
            a + b for a, b in zip(*PAIRS, strict=True)
        )
        for side in range(2):
            for one, other in itertools.combinations(parts.values(), 2):
                assert not {*one[side]} & {*other[side]}
    with pytest.raises(ZooError, match="leave none of 7 pairs to train on"):
        pairs.split(PAIRS, 5, 5, 0)


def test_the_embedded_pairs_are_whole_and_no_test_sentence_is_trained_on():
    found = pairs.load("tatoeba", ["ko", "en"]).splits["all"]
    assert len(found[0]) == len(found[1]) == 3798
    assert (found[0][0], found[1][0]) == ("가.", "Go.")
    parts = pairs.split(found, 300, 400, 0)
    assert {part: len(rows[0]) for part, rows in parts.items()} == {"test": 400, "val": 300, "train": 3098}
    for side in range(2):
        assert not {*parts["train"][side]} & {*parts["test"][side]}
    assert pairs.load("tatoeba", ["en", "ko"]).splits["all"] == (found[1], found[0])


@pytest.mark.parametrize("text", ["A dog runs.", "  톰은 학생이야. ", "Zwei Männer, 3 Hunde!", "emoji 🐕 x", "a"])
def test_tokens_give_the_sentence_back(text):
    tokens = JointTokens.fit([["A dog runs.", "Tom"], ["톰은 학생이야.", "개"]], ["en", "ko"], 300)
    (row,) = tokens.encode([text])
    assert row[-1] == END
    assert min(row[:-1]) >= tokens.first == 4
    assert tokens.decode([tokens.start("ko"), *row, PAD, PAD]) == text.strip()
    again = zoo.config.build.build(tokens.config(), "preprocess")
    assert again.encode([text]) == [row]
    assert again.vocabulary == tokens.vocabulary
    assert tokens.padded_targets(["Tom", "개"], "ko")[:, 0].tolist() == [tokens.target] * 2 == [3, 3]


def test_token_errors():
    with pytest.raises(ZooError, match=r"data\.most=200 is not valid: two languages need 260 tokens or more"):
        JointTokens.fit([["a"], ["b"]], ["x", "y"], 200)
    with pytest.raises(ZooError, match=r"data\.languages=\['x', 'x'\] is not valid"):
        JointTokens.fit([["a"], ["b"]], ["x", "x"], 300)


def test_batches_have_each_pair_once_and_little_padding():
    lengths = torch.randint(1, 30, (1000,), generator=torch.Generator().manual_seed(0))
    source = torch.arange(1, 31).expand(1000, -1) * (torch.arange(30) < lengths[:, None])
    target = torch.cat([torch.arange(1000)[:, None] + 1, source], 1)
    loader = PairLoader((source, target), 32, True, seed=3)
    batches = list(loader)
    assert sorted(t for _, y in batches for t in y[:, 0].tolist()) == list(range(1, 1001))
    assert all(int((y != PAD).sum(1).max()) == y.shape[1] for _, y in batches)
    padding = sum(int((y == PAD).sum()) for _, y in batches) / sum(y.numel() for _, y in batches)
    assert padding < 0.08
    assert [y[:, 0].tolist() for _, y in loader] != [y[:, 0].tolist() for _, y in batches]
    shares = [list(PairLoader((source, target), 32, True, 3, rank, 2)) for rank in range(2)]
    assert all(a.shape == b.shape for one, two in zip(*shares, strict=True) for a, b in zip(one, two, strict=True))


def files(folder, first: str, second: str) -> list[str]:
    for name, text in (("a.de", first), ("a.en", second)):
        (folder / name).write_text(text, encoding="utf-8")
    return [str(folder / "a.de"), str(folder / "a.en")]


def test_files_of_the_users_own(tmp_path, capsys):
    found = pairs.load("parallel_text", ["de", "en"], files(tmp_path, "eins\n\ndrei\r\nvier\n", "one\ntwo\nthree\n\n"))
    assert found.splits == {"all": (["eins", "drei"], ["one", "three"])}
    assert "note: 2 of 4 pairs" in capsys.readouterr().err
    changed = pairs.load("parallel_text", ["de", "en"], files(tmp_path, "eins\n", "uno\n"))
    assert changed.digest != found.digest


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("eins\nzwei\n", "one\n", r"a\.de has 2 lines and .*a\.en has 1: line n of one must be the translation"),
        ("eins\n\n", "\ntwo\n", "every pair has an empty side"),
        ("", "one\n", r"a\.de is empty"),
    ],
)
def test_errors_of_files(tmp_path, first, second, message):
    with pytest.raises(ZooError, match=message):
        pairs.load("parallel_text", ["de", "en"], files(tmp_path, first, second))


def test_an_encoding_is_told(tmp_path):
    names = files(tmp_path, "a\n", "one\n")
    (tmp_path / "a.de").write_bytes("grün und müde\n".encode("latin-1"))
    with pytest.raises(ZooError, match=r"a\.de is not UTF-8: byte 0xfc at offset 2 .*iconv -f"):
        pairs.load("parallel_text", ["de", "en"], names)


def test_errors_of_corpora(tmp_path):
    with pytest.raises(ZooError, match=r"data\.languages=\[ko,en\]: multi30k has \[de,en\], \[de,fr\], \[fr,en\]"):
        pairs.load("multi30k", ["ko", "en"])
    with pytest.raises(ZooError, match="wmt is unknown; valid: multi30k, tatoeba, parallel_text"):
        pairs.load("wmt", ["de", "en"])
    with pytest.raises(ZooError, match=r"data=parallel_text needs data\.files=\[a\.de,a\.en\]"):
        pairs.load("parallel_text", ["de", "en"])
    with pytest.raises(ZooError, match=r"fra\.txt is missing: put fra\.txt from https://www\.manythings\.org/anki/"):
        pairs.load("tatoeba", ["fr", "en"], root=tmp_path)
    (tmp_path / "tatoeba").mkdir()
    (tmp_path / "tatoeba" / "fra.txt").write_text("Go.\tVa !\tcredit\nHi.\tSalut !\n", encoding="utf-8")
    found = pairs.load("tatoeba", ["fr", "en"], root=tmp_path)
    assert found.splits["all"] == (["Va !", "Salut !"], ["Go.", "Hi."])
    assert found.digest


def test_multi30k_is_verified(tmp_path, monkeypatch):
    folder = tmp_path / "multi30k"
    folder.mkdir()
    known = {}
    for part, language in itertools.product(pairs.PARTS.values(), ("de", "en")):
        text = f"{part} {language}\n"
        (folder / f"{part}.{language}.gz").write_bytes(gzip.compress(text.encode()))
        known[f"{part}.{language}"] = pairs.digest(text.encode())
    monkeypatch.setattr(pairs, "MULTI30K_FILES", known)
    found = pairs.load("multi30k", ["en", "de"], root=tmp_path).splits
    assert found["test"] == (["test_2016_flickr en"], ["test_2016_flickr de"])
    (folder / "val.de.gz").write_bytes(gzip.compress(b"other\n"))
    with pytest.raises(ZooError, match=r"val\.de\.gz is truncated or altered .*delete it"):
        pairs.load("multi30k", ["de", "en"], root=tmp_path)
    monkeypatch.setattr("zoo.remote.download.unreachable", lambda url: "no network here")
    (folder / "val.de.gz").unlink()
    with pytest.raises(
        ZooError, match=r"no network here\)\. Put val\.de\.gz from https://raw.*multi30k/dataset.* into"
    ):
        pairs.load("multi30k", ["de", "en"], root=tmp_path)


# --- the task ---------------------------------------------------------------------------------------------------------


def test_the_loss_is_per_token_and_ignores_padding():
    model, task = small(), None
    task = Translate(model, label_smoothing=0.0, bleu=False)
    task.log_training = lambda **values: None
    source, target = sentences(5, 3), sentences(6, 4, seed=4)
    found = task.training_loss((source, target), 0)
    logp = model.write(target[:, :-1], model.read(source)).logits.log_softmax(-1)
    nats = [-logp[i, t, target[i, t + 1]] for i, n in ((0, 5), (1, 3)) for t in range(n)]
    torch.testing.assert_close(found, torch.stack(nats).mean())
    wide = F.pad(source, (0, 3)), F.pad(target, (0, 2))
    torch.testing.assert_close(task.training_loss(wide, 0), found)
    with torch.no_grad():
        task.measure((source, target), "val")
    assert float(task.measures["loss"].compute()) == pytest.approx(found.item(), rel=1e-5)


def test_the_task_needs_a_model_that_translates():
    with pytest.raises(ZooError, match="task=translate needs read, write, which Linear does not have"):
        Translate(nn.Linear(2, 2))


def test_scores_are_sacrebleus():
    pytest.importorskip("sacrebleu")
    references = ["The dog runs over the wet grass.", "Two men are cooking in a small kitchen."]
    found = scores(["the dog runs over the wet grass.", "Two men cook in a small kitchen."], references)
    assert 0 < found["bleu"][0] < found["bleu_lower"][0] < 100
    assert "case:mixed" in found["bleu"][1]
    assert "case:lc" in found["bleu_lower"][1]
    assert "tok:13a" in found["bleu"][1]
    perfect = scores(references, references)
    assert [round(value, 6) for value, _ in perfect.values()] == [100.0, 100.0, 100.0]


SETTINGS = ["data=tatoeba", "data.val_size=20", "data.test_size=20", "data.most=280", "data.batch_size=16",
            "model=seq2seq", "model.hidden=24", "task=translate", "optimizer=adam", "optimizer.lr=0.02",
            "scheduler=none", "callbacks.progress=null", "trainer.accelerator=cpu", "trainer.max_epochs=1",
            "hydra.run.dir=run"]  # fmt: skip


def test_from_the_command_to_a_translation(run_train, run, fails, tmp_path):
    """Train, measure again, translate a sentence, a file and a picture; and what is refused."""
    without = ("task.bleu=false", "task.monitor=val/loss", "task.mode=min")
    code, out = run_train(*SETTINGS, *without)
    assert code == 0, out
    assert "tatoeba ko-en: " in out
    assert "zoo translate run" in out or "translate run/checkpoints/best.ckpt" in out
    path = "run/checkpoints/best.ckpt"
    tags = EventAccumulator("run").Reload().Tags()
    assert "attention" in tags["images"]
    assert "translations/text_summary" in tags["tensors"]
    card = zoo.load(path).card
    assert {"loss", "perplexity", "accuracy"} == set(card.metrics)
    assert card.metrics["perplexity"] == pytest.approx(math.exp(card.metrics["loss"]), rel=1e-5)
    code, out, err = run("evaluate", path)
    assert code == 0, out + err
    code, out, err = run("info", path)
    assert code == 0, out + err
    assert "forwards" in out
    code, out, err = run("translate", path, "--text", "to be or", "--attention", "a.png")
    assert (code, err) == (0, "")
    assert (tmp_path / "a.png").stat().st_size > 1000
    one = out
    (tmp_path / "in.txt").write_text("to be or\n\nnot to be\n", encoding="utf-8")
    code, out, err = run("translate", path, "in.txt", "--batch", "1")
    assert (code, out.count("\n")) == (0, 3)
    assert out.split("\n")[:2] == [one.strip(), ""]
    assert run("translate", path, "in.txt")[1] == out
    assert "give either a sentence with --text, or a FILE" in fails("translate", path)
    assert "--attention is for one sentence" in fails("translate", path, "in.txt", "--attention", "b.png")
    assert "does not translate" in fails("translate", "lenet5_mnist", "--text", "a")
    assert "is not exported" in fails("export", path, "--format", "torch_export")


@pytest.mark.slow
def test_bleu_is_measured(run_train, tmp_path):
    pytest.importorskip("sacrebleu")
    code, out = run_train(*SETTINGS)
    assert code == 0, out
    metrics = zoo.load("run/checkpoints/best.ckpt").card.metrics
    assert {"bleu", "bleu_lower", "chrf"} < set(metrics)
    assert 0 <= metrics["bleu"] <= metrics["bleu_lower"] <= 100


def test_without_sacrebleu_a_run_says_so_before_it_trains(run_train, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu", None)
    code, out = run_train(*SETTINGS)
    assert code == 1
    assert "pip install 'reference-zoo[translate]', or leave them out: task.bleu=false" in out


def test_data_errors(toy_data):
    with pytest.raises(ZooError, match="the vocabulary has 280 tokens"):
        ParallelData("tatoeba", ["ko", "en"], 99, most=280, val_size=20, test_size=20).setup()
    data = ParallelData("tatoeba", ["ko", "en"], 280, most=280, val_size=20, test_size=20, longest=2)
    with pytest.raises(ZooError, match=r"data\.longest=2 leaves no training pairs"):
        data.setup()
    with pytest.raises(ZooError, match=r"tatoeba needs both, as 300 or 0\.1"):
        ParallelData("tatoeba", ["ko", "en"], 280, most=280)


def test_a_file_of_a_list_is_trusted_one_by_one():
    """A checkpoint of data=parallel_text names two files, which a user confirms: --trust data.files.0=a.de."""
    config = {"name": "parallel_text", "files": ["a.de", "a.en"], "languages": ["de", "en"]}
    known = {"data.files.0": "new/a.de"}
    assert with_known(config, "data", known) == {**config, "files": ["new/a.de", "a.en"]}
    with pytest.raises(ZooError, match=r"a path, data\.files\.0=a\.de"):
        check_foreign(config, (), "data")
    check_foreign(config, ("data.files.0=a.de", "data.files.1=a.en"), "data")
