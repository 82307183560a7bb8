"""Write down what is said in sound files, or into a microphone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.contracts import Aligned, ReadsSpeech
from zoo.data.audio import SHORTEST, SUFFIXES
from zoo.errors import ZooError
from zoo.pretrained.loading import load
from zoo.use.beam import align, beam_search
from zoo.use.greedy import greedy
from zoo.use.ngram import Graph

BATCH = 16


@torch.inference_mode()
def transcribe_files(
    source: str | Path,
    paths: Sequence[Path],
    beam: int = 0,
    order: int = 2,
    lm_weight: float = 0.5,
    of_words: bool = True,
    trust: Sequence[str] = (),
) -> tuple[list[dict[str, Any]], list[str]]:
    """Transcribe sound files, and those directly in folders.

    Args:
        source, trust: as in ``zoo.load``.
        paths: sound files and folders.
        beam, order, lm_weight, of_words: as in ``zoo.tasks.ctc.CTC``; the n-gram is that of the training transcripts.

    Returns:
        For each file that could be read, ``file``, ``text``, ``seconds``, and ``words`` with ``word``, ``start`` and
        ``end`` in seconds; and an error message for each that could not.

    Raises:
        ZooError: as ``zoo.load``; the model does not transcribe.
    """
    model = speech_model(source, trust)
    files, errors = sound_files(paths)
    sounds: list[tuple[Path, Tensor]] = []
    for file in files:
        try:
            sounds.append((file, model.preprocess.read(file)))
        except ZooError as error:
            errors.append(str(error))
    graph = graph_of(model, order, lm_weight, of_words) if beam else None
    results: list[dict[str, Any]] = []
    for start in range(0, len(sounds), BATCH):
        part = sounds[start : start + BATCH]
        found = transcribe(model, [sound for _, sound in part], beam, graph)
        results += [{"file": str(file), **said} for (file, _), said in zip(part, found, strict=True)]
    return results, errors


def speech_model(source: str | Path, trust: Sequence[str] = ()) -> Any:
    """A loaded model that transcribes; a ``ZooError`` if it is another kind of model."""
    model: Any = load(source, trust)
    if not isinstance(model.preprocess, ReadsSpeech) or not isinstance(model, Aligned):
        raise ZooError(f"{source} does not transcribe speech; zoo list --task ctc lists the models that do")
    return model


def graph_of(model: Any, order: int, weight: float, of_words: bool) -> Graph:
    """What the beam search may write: n-grams of the model's training transcripts."""
    return Graph(model.preprocess.transcripts, model.preprocess.sentences, order, of_words, weight)


def sound_files(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The given files and, for each folder, the sound files directly in it; an error message for a folder without."""
    files: list[Path] = []
    errors: list[str] = []
    for path in paths:
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not inside:
            errors.append(f"{path}: the folder has no sound files in it ({', '.join(SUFFIXES)})")
        files += inside
    return files, errors


@torch.inference_mode()
def transcribe(model: Any, sounds: Sequence[Tensor], beam: int = 0, graph: Graph | None = None) -> list[dict[str, Any]]:
    """The texts of recordings, int16 (S_i,), with the seconds of their words."""
    lengths = torch.tensor([len(sound) for sound in sounds])
    samples = torch.nn.utils.rnn.pad_sequence([*sounds], batch_first=True)
    x, frames = model.preprocess.features(samples, lengths)
    log_probs, steps = model(x, frames).log_softmax(2), model.steps(frames)
    rows = beam_search(log_probs, steps, beam, graph) if beam else greedy(log_probs, steps)
    results = []
    for row, found, n, length in zip(rows, log_probs, steps.tolist(), lengths.tolist(), strict=True):
        seconds = length / model.preprocess.rate
        words = word_times(found[:n], row, model.preprocess.transcripts, seconds)
        text = model.preprocess.transcripts.decode(row)
        results.append({"text": text, "seconds": round(seconds, 3), "words": words})
    return results


def word_times(log_probs: Tensor, tokens: list[int], transcripts: Any, seconds: float) -> list[dict[str, Any]]:
    """Each word with its start and end in seconds, from the most probable alignment of the tokens.

    CTC need not say a token for as long as it sounds: the times are those of a word's first and last token.

    Args:
        log_probs: (T, K), of one recording.
        tokens: the token numbers of its text.
        transcripts: the model's tokens.
        seconds: the length of the recording.
    """
    if not tokens:
        return []
    places = align(log_probs, torch.tensor(tokens)).tolist()
    first, last = {}, {}
    for step, place in enumerate(places):
        first.setdefault(place, step)
        last[place] = step
    step_seconds = seconds / len(log_probs)
    words: list[dict[str, Any]] = []
    groups: list[list[int]] = [[]]
    for place, token in enumerate(tokens):
        letter = transcripts.vocabulary[token - 1]
        if transcripts.units == "word" or letter == " ":
            groups.append([place] if transcripts.units == "word" else [])
        else:
            groups[-1].append(place)
    for group in filter(None, groups):
        word = transcripts.decode([tokens[place] for place in group])
        start, end = first[group[0]] * step_seconds, (last[group[-1]] + 1) * step_seconds
        words.append({"word": word, "start": round(start, 3), "end": round(end, 3)})
    return words


def record(seconds: float, rate: int) -> Tensor:
    """A recording of the microphone, int16 (S,).

    Raises:
        ZooError: the package sounddevice or a microphone is missing.
    """
    if not SHORTEST <= seconds <= 600:
        raise ZooError(f"--microphone {seconds} is not valid: {SHORTEST} to 600 seconds")
    try:
        import sounddevice
    except (ImportError, OSError):  # OSError: its library PortAudio is missing
        raise ZooError("--microphone needs sounddevice and PortAudio: pip install sounddevice") from None
    try:
        sound = sounddevice.rec(round(seconds * rate), samplerate=rate, channels=1, dtype="int16", blocking=True)
    except Exception as error:  # sounddevice's own kinds
        raise ZooError(
            f"the microphone gives no sound ({' '.join(str(error).split())}); record a file instead"
        ) from None
    return torch.from_numpy(sound[:, 0].copy())
