"""What TensorBoard costs: a run with all that is logged by default against one with the callbacks and logger off.

Both are ``python train.py`` with validation and test, and take turns; one short run before them is not counted. The
whole run is timed, so the pictures that are drawn once (graph, confusion matrix, mistakes, projector) count as well.
"""

import statistics
from typing import Annotated, Any

import typer
from timing import Json, ratio, run, show

CALLBACKS = "learning_rate charts norms graph kernels confusion mistakes projector hparams".split()
OFF = [f"callbacks.{name}=null" for name in CALLBACKS]
NOTHING = [*OFF, "logger=none"]


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each, in turn.")] = 2,
    epochs: Annotated[int, typer.Option(min=2, help="Of each run; the default is that of train.py.")] = 10,
    net: Annotated[str, typer.Option(help="A choice of model=…")] = "lenet5",
    json: Json = None,
) -> None:
    """Runs with TensorBoard against runs without."""
    shared = [f"model={net}", f"trainer.max_epochs={epochs}"]
    run([*shared, "trainer.max_epochs=1", "trainer.limit_train_batches=5"])
    clocks = [(run(shared), run([*shared, *OFF]), run([*shared, *NOTHING])) for _ in range(repeats)]
    rows: list[dict[str, Any]] = []
    for what, place in {"with all (default)": 0, "callbacks off": 1, "callbacks and logger off": 2}.items():
        ours = [clock[place] for clock in clocks]
        nothing = [clock[2] for clock in clocks]
        epoch = [statistics.median(clock.seconds[1:]) for clock in ours]
        bare = [statistics.median(clock.seconds[1:]) for clock in nothing]
        rows.append(
            {
                "run": what,
                "s an epoch": statistics.median(epoch),
                "epochs' ratio": ratio(epoch, bare)["ratio"],
                "s the run": statistics.median(clock.total for clock in ours),
                **ratio([clock.total for clock in ours], [clock.total for clock in nothing]),
                "goal": "a few per cent" if place == 0 else "",
            }
        )
    show(f"TensorBoard, {net}, {epochs} epochs, ratios to a run that logs nothing", rows, json)


if __name__ == "__main__":
    typer.run(main)
