"""Makes docs/through_time.md and its plot: how a gradient vanishes or explodes on its way back through a sequence.

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

Lecture 16.6: the gradient of a simple recurrent network vanishes if w < 1 and explodes if w > 1. The LSTM avoids
this because its cell is added to, instead of being multiplied by a matrix. Here untrained layers of {hidden} units
read {steps} steps of noise, which is so small that their tanh is practically linear. The table and the plot show
the norm of the gradient of the sum of the last h with respect to the state k steps before (h, and also c for the
LSTM), divided by the norm for k = 0, as medians over {batch} sequences. W_h is an orthogonal matrix times w for
each gate, so w is its spectral radius.

```
python docs/through_time.py
```

{table}

The RNN's gradient changes by the factor w per step, as the lecture says: 0.9²⁰⁰ = 7·10⁻¹⁰, 1.1²⁰⁰ = 1.9·10⁸.
(Once a growing state saturates the tanh, the gradient shrinks instead.) Gates alone do not solve the problem: with
biases of 0 they are half open at the start, so an LSTM or GRU loses half of its memory in each step, and its
gradient vanishes faster than that of the RNN. The LSTM's forget bias determines how much of the cell is kept in a
step, σ(1) = 0.73 or σ(5) = 0.993. The gradient through W_h is added to this: with a bias of 5, a small W_h
(w = 0.1) leaves the gradient after 200 steps at a few times its first value, and a large one (w = 0.9) makes it
explode. `model.chrono` initialises the gates with many time scales, so that some units forget at once and others
remember for T steps; [the adding problem](adding.md) shows the effect. Training then adapts the gates, and
gradient clipping limits explosions.

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
    # gradients of the sum of the last h, with respect to h and c
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
    lines = [f"| network | {' | '.join(f'{k} back' for k in BACK)} |", "|---|" + "---:|" * len(BACK)]
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
