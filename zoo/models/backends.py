"""Recurrent layers of either backend, torch's kernels or ``zoo.models.cells``: make, run, initialise, look inside."""

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from zoo.errors import ZooError
from zoo.models.cells import GRU, LSTM, RNN, Recurrence, State

Layer = Recurrence | nn.RNNBase
REFERENCE: dict[str, Any] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}
TORCH: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def layer(cell: str, in_features: int, hidden: int, backend: str = "torch", **options: Any) -> Layer:
    """A layer of "rnn", "gru" or "lstm": by torch's kernels, or backend="reference" step by step from the equations.

    Args:
        options: of the reference layers: ``layer_norm``, ``recurrent_dropout``, ``reset``, ``peephole``. Those that are
            left at their defaults may be given for any cell and backend.

    Raises:
        ZooError: an unknown cell or backend; an option that the cell or torch's kernel has not.
    """
    if cell not in REFERENCE:
        raise ZooError(f"cell={cell} is unknown; valid: {', '.join(REFERENCE)}")
    if backend not in ("torch", "reference"):
        raise ZooError(f"backend={backend} is unknown; valid: torch, reference")
    kind = REFERENCE[cell]
    known = inspect.signature(kind).parameters
    defaults = {"layer_norm": False, "recurrent_dropout": 0.0, "reset": "after", "peephole": False}
    given = {name: value for name, value in options.items() if value != defaults.get(name)}
    for name, value in given.items():
        if name not in known:
            raise ZooError(
                f"{name}={value} is not for cell={cell}; it has {', '.join(k for k in known if k in defaults)}"
            )
        if backend == "torch":
            raise ZooError(f"{name}={value} is nothing that torch's kernels can do; set backend=reference")
    return (
        TORCH[cell](in_features, hidden, batch_first=True) if backend == "torch" else kind(in_features, hidden, **given)
    )


def run(layer: Layer, x: Tensor, state: State | None = None, weight_dropout: float = 0.0) -> tuple[Tensor, State]:
    """Call a layer of either backend: (B, T, in_features), and a state of (B, hidden) each -> (B, T, hidden), state.

    Args:
        weight_dropout: in training, the probability that a number in W_h is zero, the same in all steps of the call:
            DropConnect, which torch's kernels can have too (Merity et al. 2018, section 2).
    """
    if weight_dropout and layer.training:
        w_h = F.dropout(layer.weight_hh_l0, weight_dropout)  # type: ignore[arg-type]
        if torch.is_autocast_enabled(x.device.type):  # once; of what is no parameter it would anew in every step
            w_h = w_h.to(torch.get_autocast_dtype(x.device.type))
        return functional_call(Run(layer), {"layer.weight_hh_l0": w_h}, (x, state))
    if isinstance(layer, Recurrence):
        return layer(x, state)
    several = isinstance(layer, nn.LSTM)
    before = None if state is None else tuple(s[None].contiguous() for s in state)  # (1, B, H): theirs are of layers
    output, after = layer(x, before if several or before is None else before[0])
    return output, tuple(s[0] for s in (after if several else (after,)))


class Run(nn.Module):
    """``run`` as a module, whose layer's weights can be others for a call."""

    def __init__(self, layer: Layer):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        return run(self.layer, x, state)


def initialise(layer: Any, orthogonal: bool, forget_bias: float | None, chrono: int | None = None) -> None:
    """Fill a layer anew.

    Args:
        orthogonal: W h's matrix of each gate is orthogonal, W x's is Glorot's, and biases are 0, so that a state
            neither grows nor fades at first (Saxe et al. 2014; Le et al. 2015). False leaves
            torch's, uniform to ±1/√hidden.
        forget_bias: of the LSTM's forget gate, so that it remembers at first (Gers et al. 2000, Jozefowicz et al. 2015
            take 1); the GRU's z and the simple RNN have none. Null leaves it.
        chrono: the most steps that something is to be remembered, T. A unit's gates begin so that it keeps what it has
            for u steps, u drawn from [1, T − 1]: the LSTM's f with the bias log u, its i with − log u, and the GRU's
            1 − z with log u (Tallec & Ollivier 2018, equation 16). Null leaves them; the simple RNN has no gates.

    Raises:
        ZooError: both of the last two, or a chrono that is less than 3.
    """
    if chrono is not None and (chrono < 3 or forget_bias is not None):
        raise ZooError(f"chrono={chrono}, forget_bias={forget_bias}: give 3 steps or more, and one of the two alone")
    hidden = layer.weight_hh_l0.shape[1]
    biases: dict[int, Tensor | float] = {}  # by the gate's place in the parameters
    lstm, gru = isinstance(layer, (LSTM, nn.LSTM)), isinstance(layer, (GRU, nn.GRU))
    if lstm and forget_bias is not None:
        biases = {1: forget_bias}
    elif chrono is not None and (lstm or gru):
        kept = torch.empty(hidden).uniform_(1, chrono - 1).log()
        biases = {0: -kept, 1: kept} if lstm else {1: kept}
    with torch.no_grad():
        if orthogonal:
            for w_h, w_x in zip(layer.weight_hh_l0.split(hidden), layer.weight_ih_l0.split(hidden), strict=True):
                nn.init.orthogonal_(w_h)
                nn.init.xavier_uniform_(w_x)
            layer.bias_ih_l0.zero_()
            layer.bias_hh_l0.zero_()
        for gate, value in biases.items():
            layer.bias_ih_l0.view(-1, hidden)[gate] = value
            layer.bias_hh_l0.view(-1, hidden)[gate] = 0


def as_reference(layer: Layer) -> Recurrence:
    """The same layer by the equations, with the same parameters, not copies of them."""
    if isinstance(layer, Recurrence):
        return layer
    cell = next(name for name, kind in TORCH.items() if type(layer) is kind)
    with torch.device("meta"):
        reference = REFERENCE[cell](layer.input_size, layer.hidden_size)
    for name, p in layer.named_parameters():
        setattr(reference, name, p)
    return reference.train(layer.training)


@torch.no_grad()
def gates(layer: Layer, x: Tensor) -> dict[str, Tensor]:
    """The values of a layer's gates along a sequence, read by a forward hook.

    Args:
        x: (1, T, in_features).

    Returns:
        By name, (T, hidden) each: z and r of the GRU, i, f and o of the LSTM, in [0, 1]. The simple RNN has no gates:
        its state h, in [−1, 1].
    """
    reference = as_reference(layer)
    calls: list[Tensor] = []
    hook = reference.sigma.register_forward_hook(lambda _module, _inputs, *value: calls.extend(value))
    try:
        states, _ = reference(x)  # (1, T, hidden)
    finally:
        hook.remove()
    names = reference.gate_names
    return {name: torch.cat(calls[i :: len(names)]) for i, name in enumerate(names)} or {"h": states[0]}
