"""Makes docs/through_time.md and its plot: how a gradient fades or grows on its way back through a sequence.

python docs/through_time.py
"""

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from zoo.models.backends import initialise, layer, run

HERE = Path(__file__).parent
STEPS, HIDDEN, BATCH = 200, 64, 32
BACK = (1, 10, 50, 100, 200)
TEXT = """# Gradients through time

Lecture 16.6: the gradient of a simple recurrent network vanishes where w < 1 and explodes where w > 1, and the
LSTM is made so that what it keeps is added to, not multiplied. Here are layers of {hidden} units, before any
training, that read {steps} steps of noise too small to bend their tanh. The table and the plot give the norm of
the gradient of the last h's sum with respect to the state k steps before (h, and the LSTM's c), as a ratio to k
= 0: medians of {batch} sequences. W_h, in each gate, is an orthogonal matrix times w, so that w is its spectral
radius.

```
python docs/through_time.py
```

{table}

The RNN's gradient changes by the factor w a step, as the lecture says: 0.9²⁰⁰ = 7·10⁻¹⁰, 1.1²⁰⁰ = 1.9·10⁸.
(Where a state has grown until tanh flattens, it fades instead.) Gates are no cure by themselves: half open, as
they begin with biases of 0, an LSTM or GRU forgets half of its memory a step, and sooner than the RNN. The
LSTM's forget bias says how much of the cell a step keeps, σ(1) = 0.73 or σ(5) = 0.993; but what goes through
W_h is added to that, so that with a bias of 5 a small W_h (w = 0.1) leaves the gradient of step 200 at a few
times the first's, and a large one (w = 0.9) makes it explode. With gates of many spans, as `model.chrono` begins
them, some units forget at once and others keep for T steps: [what that does](adding.md). Training sets the
gates then, and clipping ends an explosion.

![Gradient norm by steps back](through_time.png)
"""
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "RNN, w = 0.9": ("rnn", {"radius": 0.9}),
    "RNN, w = 1": ("rnn", {"radius": 1.0}),
    "RNN, w = 1.1": ("rnn", {"radius": 1.1}),
    "GRU, w = 0.9": ("gru", {"radius": 0.9}),
    "LSTM, w = 0.9, forget bias 0": ("lstm", {"radius": 0.9, "forget_bias": 0.0}),
    "LSTM, w = 0.9, forget bias 1": ("lstm", {"radius": 0.9, "forget_bias": 1.0}),
    "LSTM, w = 0.9, forget bias 5": ("lstm", {"radius": 0.9, "forget_bias": 5.0}),
    "LSTM, w = 0.1, forget bias 5": ("lstm", {"radius": 0.1, "forget_bias": 5.0}),
}


def norms(cell: str, radius: float = 1.0, forget_bias: float | None = None) -> Tensor:
    """‖∂ Σ last state / ∂ state k steps before‖ / ‖the same at k = 0‖, the median over sequences: (STEPS + 1,)."""
    torch.manual_seed(0)
    net = layer(cell, 1, HIDDEN, "reference").double()
    initialise(net, orthogonal=True, forget_bias=forget_bias)
    with torch.no_grad():
        net.weight_hh_l0.mul_(radius)  # type: ignore[operator]
    x = 1e-12 * torch.randn(BATCH, STEPS, 1, dtype=torch.float64)
    states = [tuple(torch.zeros(BATCH, HIDDEN, dtype=torch.float64, requires_grad=True) for _ in range(net.states))]  # type: ignore[arg-type]
    for t in range(STEPS):
        states.append(run(net, x[:, t : t + 1], states[-1])[1])
    seed = torch.ones(BATCH, HIDDEN, dtype=torch.float64)
    # of h and c together; the loss is the sum of the last h
    gradients = torch.autograd.grad(states[-1][0], [s for state in states for s in state], seed, allow_unused=True)
    per = net.states
    lengths = []
    for t in range(STEPS + 1):
        parts = [g for g in gradients[per * t : per * (t + 1)] if g is not None]
        lengths.append(torch.cat(parts, 1).norm(dim=1))
    back = torch.stack(lengths[::-1])  # (STEPS + 1, BATCH), k = 0 first
    return (back / back[0]).median(1).values


def main() -> None:
    figure = Figure(figsize=(7, 4), dpi=110, layout="tight")
    axes = figure.subplots()
    lines = [f"| net | {' | '.join(f'{k} back' for k in BACK)} |", "|---|" + "---:|" * len(BACK)]
    for name, (cell, options) in NETS.items():
        found = norms(cell, **options)
        axes.semilogy(range(STEPS + 1), found.clamp(min=1e-25).tolist(), label=name, linewidth=1.2)
        lines.append(f"| {name} | {' | '.join(f'{found[k]:.2g}' for k in BACK)} |")
    axes.set(xlabel="steps back", ylabel="gradient norm, ratio", ylim=(1e-16, 1e14))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(HERE / "through_time.png")
    text = TEXT.format(hidden=HIDDEN, steps=STEPS, batch=BATCH, table="\n".join(lines))
    (HERE / "through_time.md").write_text(text, encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
