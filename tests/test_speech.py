"""Speech: reading recordings, spectrograms, CTC, beam search and n-grams, the embedded digits, and zoo transcribe."""

import itertools
import json
import math
import wave

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import zoo
from zoo.data import audio, speech_sources
from zoo.data.audio import read_audio, resample
from zoo.data.audio_folder import AudioFolder
from zoo.data.recordings import LengthLoader, packed
from zoo.data.spectrum import LogMel, SpeechAugment, mel_filters
from zoo.data.speech import SpeechData
from zoo.data.speech_files import DIGITS
from zoo.data.transcripts import Transcripts
from zoo.errors import ZooError
from zoo.models.conv_lstm import ConvLSTM
from zoo.tasks.ctc import CTC
from zoo.use.beam import align, beam_search
from zoo.use.greedy import greedy
from zoo.use.ngram import Graph, fit_ngram
from zoo.use.transcribe import record, transcribe, transcribe_files, word_times


def sine(rate: int, seconds: float = 0.5, frequency: float = 440.0) -> torch.Tensor:
    return 0.5 * torch.sin(2 * math.pi * frequency * torch.arange(round(rate * seconds)) / rate)


def wav(path, samples, rate=8000, width=2, channels=1):
    """Write a WAV file; samples in [-1, 1], (N,) or (N, channels)."""
    values = (np.asarray(samples, dtype=np.float64) * (2 ** (8 * width - 1) - 1)).round().astype(np.int64)
    raw = (values + 128).astype(np.uint8).tobytes() if width == 1 else b""
    if width > 1:
        raw = values.astype("<i8").reshape(-1, 1).view(np.uint8)[:, :width].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(raw)
    return path


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_of_any_width_and_channels(tmp_path, width, channels):
    x = sine(8000)
    path = wav(tmp_path / "a.wav", x[:, None].expand(-1, channels), width=width, channels=channels)
    found = read_audio(path, 8000).float() / 32768
    assert len(found) == len(x)
    assert (found - x).abs().max() < (0.01 if width == 1 else 1e-4)


def test_resampled_sine_is_that_of_the_new_rate():
    """A tone below both Nyquist frequencies keeps its form; one above the new Nyquist frequency disappears."""
    for old, new in ((8000, 16000), (44100, 16000), (16000, 8000), (9, 10)):
        scale = 1000 if old < 100 else 1
        x = resample(sine(old * scale), old, new)
        want = sine(new * scale)
        assert len(x) == len(want)
        assert (x - want)[200:-200].abs().max() < 5e-3, (old, new)
    assert resample(sine(16000, frequency=7000), 16000, 8000)[200:-200].abs().max() < 0.02


def test_unreadable_recordings_are_told(tmp_path, monkeypatch):
    empty = tmp_path / "empty.wav"
    empty.touch()
    (tmp_path / "text.wav").write_text("no sound " * 50)
    nothing = wav(tmp_path / "nothing.wav", torch.zeros(0))
    short = wav(tmp_path / "short.wav", torch.zeros(100))
    slow = wav(tmp_path / "slow.wav", torch.zeros(1000), rate=100)
    cases = {
        tmp_path / "none.wav": "cannot be read", empty: "is empty", nothing: "no samples", short: "too short",
        slow: "sample rate of 100 Hz",
    }  # fmt: skip
    for path, reason in cases.items():
        with pytest.raises(ZooError, match=reason):
            read_audio(path, 8000)
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(ZooError, match=r"reference-zoo\[audio\]"):
        read_audio(tmp_path / "text.wav", 8000)
    monkeypatch.setattr(audio, "LONGEST", 0.1)
    with pytest.raises(ZooError, match="cut it into parts"):
        read_audio(wav(tmp_path / "long.wav", sine(8000)), 8000)


def test_flac_is_read_exactly(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    x = (sine(16000) * 32767).to(torch.int16)
    soundfile.write(tmp_path / "a.flac", x.numpy(), 16000)
    assert torch.equal(read_audio(tmp_path / "a.flac", 16000), x)
    soundfile.write(tmp_path / "b.wav", x.numpy() / 32768, 16000, subtype="FLOAT")
    assert (read_audio(tmp_path / "b.wav", 16000) - x).abs().max() <= 1
    (tmp_path / "c.flac").write_bytes((tmp_path / "a.flac").read_bytes()[:50])
    with pytest.raises(ZooError, match="no recording that can be read"):
        read_audio(tmp_path / "c.flac", 16000)


# --- spectrograms -----------------------------------------------------------------------------------------------------


def log_mel(**changed) -> LogMel:
    return LogMel(**{"rate": 8000, "mels": 40, "normalise": "band", "units": "letter", "vocabulary": "abc", **changed})


def test_a_tone_is_in_its_mel_band():
    prepared = log_mel(normalise="whole")
    x = prepared((sine(8000, frequency=1000) * 32767).to(torch.int16))
    top = 2595 * math.log10(1 + 4000 / 700)
    assert x.shape == (51, 40)
    assert x.mean(0).argmax() == round(2595 * math.log10(1 + 1000 / 700) / top * 41) - 1


def test_mel_filters_are_triangles_without_gaps():
    filters = mel_filters(40, 512, 8000, torch.device("cpu"))
    assert filters.shape == (40, 257)
    assert (filters.sum(1) > 0).all()
    middle = slice(int(filters[1].argmax()), int(filters[-1].argmax()))
    assert torch.allclose(filters[:, middle].sum(0), torch.ones(1))


@pytest.mark.parametrize("normalise", ["band", "whole"])
def test_features_do_not_depend_on_padding(normalise):
    torch.manual_seed(0)
    prepared = log_mel(normalise=normalise, dynamic=50)
    samples = torch.randint(-9000, 9000, (2, 4000), dtype=torch.int16)
    samples[0, 2500:] = 0
    x, frames = prepared.features(samples, torch.tensor([2500, 4000]))
    alone, _ = prepared.features(samples[:1, :2500], torch.tensor([2500]))
    assert frames.tolist() == [32, 51]
    assert torch.allclose(x[0, :32], alone[0], atol=1e-3)
    assert not x[0, 32:].any()
    assert abs(float(x[1].mean())) < 1e-4
    assert abs(float(x[1].std()) - 1) < 1e-2


def test_masks_hide_what_they_say_and_begin_when_they_should():
    torch.manual_seed(0)
    x = torch.ones(64, 100, 40)
    masked = SpeechAugment(band_masks=1, band_width=8, time_masks=1, time_share=0.1).mask(x, torch.full((64,), 100))
    bands, times = (masked.sum(1) == 0).sum(1), (masked.sum(2) == 0).sum(1)
    assert bands.max() <= 8
    assert times.max() <= 11
    assert 2 < bands.float().mean() < 6
    assert len(set(bands.tolist())) > 3
    with pytest.raises(ZooError, match="speed"):
        SpeechAugment(speed=[3.0])


def test_noise_has_the_power_that_was_asked_for():
    torch.manual_seed(0)
    samples = (sine(8000, 1.0) * 20000).to(torch.int16)[None].repeat(4, 1)
    lengths = torch.tensor([8000, 8000, 8000, 4000])
    samples[3, 4000:] = 0
    noise = SpeechAugment(noise=[20, 20]).noisy(samples, lengths) - samples
    ratio = samples.float().square().sum(1) / noise.square().sum(1)
    assert torch.allclose(10 * ratio.log10(), torch.full((4,), 20.0), atol=0.3)
    assert not noise[3, 4000:].any()


# --- data -------------------------------------------------------------------------------------------------------------


def digits(**changed) -> SpeechData:
    given = {"rate": 8000, "in_features": 40, "units": "word", **changed}
    data = SpeechData("spoken_digits_small", 11, **given)
    data.setup()
    return data


def test_embedded_digits_are_whole_and_balanced():
    parts = speech_sources.load_speech("spoken_digits_small")
    for own in parts.values():
        assert len(own.texts) == 300
        assert {(t, s) for t, s in zip(own.texts, own.speakers, strict=True)} == set(
            itertools.product(DIGITS, ("george", "jackson", "lucas", "nicolas", "theo", "yweweler"))
        )
    # the digest of the whole set's test part, so that its weights are measured on the same recordings
    assert parts["test"].digest() == speech_sources.SPEECH["spoken_digits"].sha256["test"]


def test_differences_give_the_samples_back():
    x = torch.randint(-32768, 32768, (1001,), dtype=torch.int16)
    assert torch.equal(speech_sources.from_differences(speech_sources.as_differences(x)), x)


def test_speakers_are_held_out_as_a_whole():
    data = digits(held_out="theo", val_size=2)
    assert [len(data.splits[part]) for part in ("train", "val", "test")] == [300, 200, 100]
    parts = speech_sources.load_speech("spoken_digits_small")
    of_theo = sum(
        int(n) for own in parts.values() for n, s in zip(own.lengths, own.speakers, strict=True) if s == "theo"
    )
    assert int(data.splits["test"].lengths.sum()) == of_theo
    for changed, reason in ((dict(held_out="anna"), "no speaker"), (dict(val_size=6), "val_size=6"),
                            (dict(rate=16000), "has 8000 Hz")):  # fmt: skip
        with pytest.raises(ZooError, match=reason):
            digits(**changed)
    with pytest.raises(ZooError, match="num_classes=12"):
        SpeechData("spoken_digits_small", 12, 8000, 40, units="word").setup()


def test_loader_takes_each_recording_once_and_resumes():
    sounds = [torch.full((n,), n, dtype=torch.int16) for n in range(10, 47)]
    recordings = packed(sounds, [torch.tensor([n % 5 + 1]) for n in range(10, 47)])
    loader = LengthLoader(recordings, 4, True, seed=3)
    first = [lengths.tolist() for _, lengths, *_ in loader]
    assert first == [list(range(i, min(i + 4, 47))) for i in range(10, 47, 4)]  # the first epoch: from short to long
    second = list(loader)
    assert sorted(n for _, lengths, *_ in second for n in lengths.tolist()) == list(range(10, 47))
    assert [lengths.tolist() for _, lengths, *_ in second] != first
    for samples, lengths, targets, wanted in second:
        inside = torch.arange(samples.shape[1]) < lengths[:, None]
        assert torch.equal(samples, (lengths[:, None] * inside).to(torch.int16))
        assert torch.equal(targets[:, 0], lengths % 5 + 1)
        assert wanted.tolist() == [1] * len(lengths)
    again = LengthLoader(recordings, 4, True, seed=3)
    again.load_state_dict({"epoch": 1, "batch": 5})
    for one, other in zip(again, second[5:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_an4_from_an_archive_and_altered(tmp_path, monkeypatch):
    """The layout of AN4, as WAV in a folder and in an archive; other samples than the published ones are told."""
    import tarfile

    folder = tmp_path / "an4" / "an4-b567d"
    lines = {"train": ("a1-fash-b", "<s> YES </s>", "an4_clstk/fash"), "test": ("a2-fcaw-b", "NO", "an4test/fcaw")}
    for part, (name, said, place) in lines.items():
        (folder / "wav" / place).mkdir(parents=True)
        (folder / "etc").mkdir(exist_ok=True)
        wav(folder / "wav" / place / f"{name}.wav", sine(16000), rate=16000)
        (folder / "etc" / f"an4_{part}.fileids").write_text(f"{place}/{name}\n")
        (folder / "etc" / f"an4_{part}.transcription").write_text(f"{said} ({name})\n")
    with pytest.raises(ZooError, match=r"train part is not an4's \(its sha256 differs\); replace it"):
        speech_sources.load_speech("an4", tmp_path)
    monkeypatch.setattr(speech_sources, "verified", lambda name, parts, where, advice: parts)
    parts = speech_sources.load_speech("an4", tmp_path)
    assert parts["train"].texts + parts["test"].texts == ["YES", "NO"]
    assert parts["train"].speakers + parts["test"].speakers == ["fash", "fcaw"]
    other = tmp_path / "other" / "an4"
    other.mkdir(parents=True)
    with tarfile.open(other / "an4.tar.gz", "w:gz") as tar:
        tar.add(folder, "an4-b567d")
    again = speech_sources.load_speech("an4", tmp_path / "other")
    assert again["test"].digest() == parts["test"].digest()
    prepared = tmp_path / "other" / "prepared" / "an4.safetensors"
    assert speech_sources.load_speech("an4", tmp_path / "other")["test"].digest() == parts["test"].digest()
    prepared.write_bytes(prepared.read_bytes()[:-10])
    with pytest.raises(ZooError, match="truncated or altered"):
        speech_sources.load_speech("an4", tmp_path / "other")


def test_a_set_that_cannot_be_fetched_names_file_address_and_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.remote.download.unreachable", lambda url: "no route")
    with pytest.raises(ZooError, match=r"Put the folders etc and wav .* from https://github.com/cmusphinx/an4/.* into"):
        speech_sources.load_speech("an4", tmp_path)
    # the test of the spoken digits needs no fetching
    assert speech_sources.load_speech("spoken_digits", tmp_path, ("test",)).keys() == {"test"}


@pytest.fixture
def own_folder(tmp_path):
    """Ten recordings: a low tone is "la", a high one "hi"."""
    rows = []
    for i in range(10):
        wav(tmp_path / f"{i}.wav", sine(8000, 0.3 + 0.02 * i, 300 if i % 2 else 1500), rate=8000)
        rows.append(f"{i}.wav\t{'la' if i % 2 else 'hi'}\t{'ann' if i < 5 else 'bo'}")
    (tmp_path / "transcripts.tsv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_own_recordings(own_folder):
    data = AudioFolder(str(own_folder), 5, rate=8000, in_features=40, test_size=0.2, val_size=2)
    data.setup()
    assert [len(data.splits[part]) for part in ("train", "val", "test")] == [6, 2, 2]
    assert data.preprocess.transcripts.vocabulary == ["a", "h", "i", "l"]
    before = data.contents()
    wav(own_folder / "3.wav", sine(8000, 0.4), rate=8000)
    again = AudioFolder(str(own_folder), 5, rate=8000, in_features=40, test_size=0.2, val_size=2)
    again.setup()
    assert again.contents() != before
    by = AudioFolder(str(own_folder), 5, rate=8000, in_features=40, val_by="speaker")
    by.setup()
    assert len(by.splits["test"]) == 5


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("0.wav la", "line 1: a line for each recording"), ("0.wav\t", "line 1"), ("../0.wav\tla", "below the folder"),
        ("10.wav\tla", "is missing"), ("0.wav\tla\n0.wav\thi", "stands in it twice"),
        ("0.wav\tla", "has one recording"), ("0.wav\tla\n1.wav\tla", "names no speaker"),
    ],
)  # fmt: skip
def test_transcript_files_with_mistakes(own_folder, lines, reason):
    (own_folder / "transcripts.tsv").write_text(lines)
    by = "speaker" if "speaker" in reason else "recording"
    with pytest.raises(ZooError, match=reason):
        AudioFolder(str(own_folder), 5, val_by=by).setup()


def test_missing_folder_and_transcripts(tmp_path):
    with pytest.raises(ZooError, match=r"transcripts\.tsv is missing"):
        AudioFolder(str(tmp_path), 5).setup()
    with pytest.raises(ZooError, match="is no folder"):
        AudioFolder(str(tmp_path / "none"), 5).setup()


# --- model and loss ---------------------------------------------------------------------------------------------------


def test_logits_do_not_depend_on_padding():
    torch.manual_seed(0)
    model = ConvLSTM(5, 16, channels=[4, 4], hidden=6, depth=2).eval()
    x = torch.randn(2, 41, 16)
    x[0, 21:] = 0
    frames = torch.tensor([21, 41])
    both = model(x, frames)
    assert model.steps(frames).tolist() == [6, 11]
    assert torch.allclose(both[0, :6], model(x[:1, :21])[0], atol=1e-5)
    assert torch.allclose(both[1], model(x[1:])[0], atol=1e-5)


def test_backward_lstm_is_that_of_torch():
    """With the same weights, torch's own bidirectional LSTM over a packed batch."""
    torch.manual_seed(0)
    level = ConvLSTM(5, 16, hidden=6, depth=1).levels[0]
    width = level.forwards.input_size
    both = torch.nn.LSTM(width, 6, batch_first=True, bidirectional=True)
    for (name, p), q in zip(level.forwards.named_parameters(), level.backwards.parameters(), strict=True):
        getattr(both, name).data, getattr(both, f"{name}_reverse").data = p.data, q.data
    lengths, x = torch.tensor([4, 7]), torch.randn(2, 7, width)
    step = torch.arange(7)
    turn = torch.where(step <= lengths[:, None] - 1, lengths[:, None] - 1 - step, step)[..., None]
    row = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    want, _ = torch.nn.utils.rnn.pad_packed_sequence(both(row)[0], batch_first=True)
    got = level(x, turn)
    assert torch.allclose(got[0, :4], want[0, :4], atol=1e-6)
    assert torch.allclose(got[1], want[1], atol=1e-6)


def test_model_arguments_that_do_not_fit():
    with pytest.raises(ZooError, match="as many numbers"):
        ConvLSTM(5, channels=[8, 8, 8])
    with pytest.raises(ZooError, match="odd"):
        ConvLSTM(5, time_kernel=[4, 5])


def paths_of(log_probs: torch.Tensor) -> dict[tuple[int, ...], float]:
    """The log-probability of every text, by the sum over all paths (Graves et al. 2006, equation 3)."""
    t, k = log_probs.shape
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(k), repeat=t):
        text = tuple(token for token, _ in itertools.groupby(path) if token)
        p = math.exp(sum(float(log_probs[i, token]) for i, token in enumerate(path)))
        found[text] = found.get(text, 0.0) + p
    return {text: math.log(p) for text, p in found.items()}


def test_loss_is_the_sum_over_all_alignments():
    torch.manual_seed(0)
    log_probs = torch.randn(1, 5, 3).log_softmax(2)
    task = CTC(torch.nn.Identity(), 3)
    found = paths_of(log_probs[0])
    for text in ((1,), (1, 2), (1, 1), (2, 1, 2), (1, 1, 2)):
        loss = task.loss(log_probs, torch.tensor([5]), torch.tensor([text]), torch.tensor([len(text)]))
        assert float(loss) == pytest.approx(-found[text], rel=1e-5)
    # five steps are too few for four equal tokens, with blanks between them
    assert float(task.loss(log_probs, torch.tensor([5]), torch.tensor([[1] * 4]), torch.tensor([4]))) == 0


# --- decoding ---------------------------------------------------------------------------------------------------------


def test_greedy_removes_repetitions_then_blanks():
    best = torch.tensor([[1, 1, 0, 1, 2, 2, 0], [0, 2, 2, 1, 1, 1, 1]])
    assert greedy(F.one_hot(best, 3).float(), torch.tensor([7, 4])) == [[1, 1, 2], [2, 1]]


def with_graph(text: tuple[int, ...], graph: Graph) -> float:
    """A graph's score of a text, one token after the other."""
    state, total = torch.tensor(graph.start), 0.0
    for token in text:
        after, score = graph.step(state)
        state, total = after[token], total + float(score[token])
    return total + float(graph.end(state))


@pytest.mark.parametrize("kind", ["none", "letters", "words"])
def test_beam_search_finds_the_most_probable_text(kind):
    """Against the sum over all paths of all texts, with and without n-grams."""
    torch.manual_seed(0)
    transcripts = Transcripts("letter", " ab")
    graph = None
    if kind != "none":
        graph = Graph(transcripts, ["a b", "ab a", "b"], 2, of_words=kind == "words", weight=0.7, insertion=0.3)
    for _ in range(12):
        n = int(torch.randint(1, 6, ()))
        log_probs = (torch.randn(1, 5, 4) * 1.5).log_softmax(2)
        scores = paths_of(log_probs[0, :n])
        if graph:
            scores = {text: p + with_graph(text, graph) for text, p in scores.items()}
        found = tuple(beam_search(log_probs, torch.tensor([n]), 200, graph)[0])
        assert scores[found] == pytest.approx(max(scores.values()), abs=1e-6)


def test_beam_search_of_a_batch_is_that_of_each_row():
    torch.manual_seed(0)
    log_probs, steps = torch.randn(5, 30, 6).mul(2).log_softmax(2), torch.tensor([30, 7, 12, 1, 25])
    alone = [beam_search(row[None, :n], n[None], 8)[0] for row, n in zip(log_probs, steps, strict=True)]
    assert beam_search(log_probs, steps, 8) == alone


def test_a_lexicon_mends_a_spelling():
    transcripts = Transcripts("letter", " EHRT")
    spelled = transcripts.encode("HRE").tolist()
    path = torch.tensor([token for letter in spelled for token in (letter, 0)])
    log_probs = (F.one_hot(path, 6).float() * 4).log_softmax(1)[None]
    steps = torch.tensor([len(path)])
    assert transcripts.decode(greedy(log_probs, steps)[0]) == "HRE"
    graph = Graph(transcripts, ["HERE", "THE"], 1)
    assert transcripts.decode(beam_search(log_probs, steps, 50, graph)[0]) in ("HERE", "THE")


def test_ngram_probabilities():
    """Witten-Bell by hand: after the start, 1 came twice and 2 once, two kinds; in all, 4 tokens of 5 are 1 or 2."""
    ngram = fit_ngram([[1], [1], [2]], 3, 2)
    assert torch.allclose(ngram.scores.exp().sum(1), torch.ones(len(ngram.scores)))
    one = (torch.tensor([3.0, 2.0, 1.0]) + 3 / 3) / (6 + 3)  # of the end, 1 and 2: three kinds, uniform below
    start = (torch.tensor([0.0, 2.0, 1.0]) + 2 * one) / (3 + 2)
    assert torch.allclose(ngram.scores[ngram.start].exp(), start)
    with pytest.raises(ZooError, match="order=7"):
        fit_ngram([[1]], 3, 7)
    with pytest.raises(ZooError, match=r"set task\.order=0"):
        Graph(Transcripts("letter", "ab"), [], 2)


def test_alignment_is_the_best_path_of_a_text():
    torch.manual_seed(0)
    log_probs = torch.randn(6, 3).log_softmax(1)
    for text in ((1, 2), (1, 1), (2, 1, 1)):
        best = max(
            (path for path in itertools.product(range(3), repeat=6)
             if tuple(token for token, _ in itertools.groupby(path) if token) == text),
            key=lambda path: sum(float(log_probs[i, token]) for i, token in enumerate(path)),
        )  # fmt: skip
        places = align(log_probs, torch.tensor(text))
        assert [0 if p < 0 else text[p] for p in places.tolist()] == list(best)
    with pytest.raises(ZooError, match="do not fit into 6 steps"):
        align(log_probs, torch.tensor([1, 1, 1, 1]))


def test_times_of_words():
    transcripts = Transcripts("letter", " ab")
    path = torch.tensor([0, 2, 3, 0, 1, 0, 3, 3, 0, 0])
    log_probs = (F.one_hot(path, 4).float() * 9).log_softmax(1)
    words = word_times(log_probs, transcripts.encode("ab b").tolist(), transcripts, 1.0)
    assert words == [{"word": "ab", "start": 0.1, "end": 0.3}, {"word": "b", "start": 0.6, "end": 0.8}]
    assert word_times(log_probs, [], transcripts, 1.0) == []


# --- a whole run and the command --------------------------------------------------------------------------------------

SMALL = (
    "data=spoken_digits_small", "model=conv_lstm", "model.channels=[8,8]", "model.hidden=24", "model.depth=1",
    "task=ctc", "optimizer=adamw", "optimizer.lr=0.01", "trainer.accelerator=cpu", "callbacks.progress=null",
    "trainer.max_epochs=2", "callbacks.graph=null",
)  # fmt: skip


def test_run_evaluate_info_transcribe_and_refusals(run_train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, output = run_train(*SMALL, "data.val_size=1", "task.beam=4", "hydra.run.dir=run")
    assert code == 0, output
    assert "250 training" in output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"test/wer", "test/cer", "test/wer_beam", "test/loss"} <= metrics.keys()
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    from zoo.pretrained.evaluate import evaluate

    _, measured, off = evaluate(checkpoint)
    assert not off
    assert measured["wer"] == pytest.approx(metrics["test/wer"])
    from zoo.use.export import export
    from zoo.use.predict import predict_files

    with pytest.raises(ZooError, match="try zoo transcribe"):
        predict_files(checkpoint, [])
    with pytest.raises(ZooError, match="not exported yet"):
        export(checkpoint, "torch_export", tmp_path / "x.pt2")
    wav(tmp_path / "a.wav", sine(44100).expand(2, -1).T, rate=44100, channels=2)
    (tmp_path / "b.wav").touch()
    results, errors = transcribe_files(checkpoint, [tmp_path], beam=2)
    assert [result["file"] for result in results] == [str(tmp_path / "a.wav")]
    assert results[0]["seconds"] == 0.5
    assert len(errors) == 1
    model = zoo.load(checkpoint)
    assert model.preprocess.config() == model.card.preprocess
    same, _ = transcribe_files(checkpoint, [tmp_path / "a.wav"])
    assert same[0]["text"] == transcribe(model, [model.preprocess.read(tmp_path / "a.wav")])[0]["text"]
    with pytest.raises(ZooError, match="does not transcribe"):
        transcribe_files("lenet5_mnist", [tmp_path / "a.wav"])


def test_masks_and_wrong_kinds_are_told(run_train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, output = run_train("data=mnist", "model=conv_lstm", "task=ctc", "data.val_size=0")
    assert code == 1
    code, output = run_train("data=spoken_digits_small", "model=conv_lstm", "task=ctc", "data.val_by=nobody")
    assert code == 1
    assert "val_by=nobody" in output


def test_microphone_needs_its_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sounddevice", None)
    with pytest.raises(ZooError, match="pip install sounddevice"):
        record(1.0, 8000)
    with pytest.raises(ZooError, match=r"0\.05 to 600"):
        record(0.0, 8000)


def test_unknown_letters_of_the_test_count_as_errors():
    transcripts = Transcripts("letter", "ab")
    assert transcripts.decode(transcripts.encode("axb").tolist()) == "a\ufffdb"
    assert transcripts.decode([1, 0, 2]) == "ab"
    with pytest.raises(ZooError, match="vocabulary"):
        Transcripts("letter", ["ab"])
    with pytest.raises(ZooError, match="units=syllable"):
        Transcripts("syllable", ["ab"])
