"""The command for speech: transcribe."""

from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli.base import Name, Trust, app, complain, console
from zoo.errors import ZooError
from zoo.terminal import as_json, clean, say


@app.command()
def transcribe(
    name: Name,
    files: Annotated[list[Path] | None, typer.Argument(help="Sound files (WAV, FLAC …), or folders of them.")] = None,
    beam: Annotated[int, typer.Option(min=0, max=1000, help="Width of the beam search; 0 takes the best path.")] = 0,
    order: Annotated[int, typer.Option(min=0, max=6, help="With --beam: words or letters of the n-gram; 0: none.")] = 2,
    lm_weight: Annotated[float, typer.Option(min=0, help="With --beam: weight of the n-gram.")] = 0.5,
    letters: Annotated[
        bool, typer.Option("--letters", help="With --beam: an n-gram of letters, which can write any word.")
    ] = False,
    times: Annotated[bool, typer.Option("--times", help="Show when each word begins and ends.")] = False,
    microphone: Annotated[float | None, typer.Option(help="Record this many seconds from the microphone.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON list, with the times of words.")] = False,
    trust: Trust = None,
) -> None:
    """Write down what is said in sound files, with times of words. Files of any sample rate are read; FLAC and others
    than WAV need pip install 'reference-zoo[audio]'."""
    from zoo.use import transcribe as speech

    if bool(files) == (microphone is not None):
        raise ZooError("give sound files, or --microphone SECONDS")
    if microphone is not None:
        model: Any = speech.speech_model(name, trust or ())
        say(f"speak: {microphone:g} seconds")
        sound = speech.record(microphone, model.preprocess.rate)
        graph = speech.graph_of(model, order, lm_weight, not letters) if beam else None
        results = [{"file": "microphone", **speech.transcribe(model, [sound], beam, graph)[0]}]
        errors: list[str] = []
    else:
        results, errors = speech.transcribe_files(name, files or [], beam, order, lm_weight, not letters, trust or ())
    if json:
        print(as_json(results))
    else:
        for result in results:
            console.print(f"{clean(result['file'])}  {clean(result['text'])}", markup=False)
            for word in result["words"] if times else ():
                console.print(f"  {word['start']:7.2f} {word['end']:7.2f}  {clean(word['word'])}", markup=False)
    complain(errors)
