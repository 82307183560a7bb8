"""Make, run, initialise and inspect recurrent layers of two backends: torch's kernels and ``zoo.models.cells``."""

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
    """Make a recurrent layer.

    Args:
        cell: "rnn", "gru" or "lstm".
        in_features: size of the input at each step.
        hidden: number of hidden units.
        backend: "torch" for torch's kernels, or "reference" for the step-by-step layers of ``zoo.models.cells``.
        options: options of the reference layers: ``layer_norm``, ``recurrent_dropout``, ``reset``, ``peephole``. At
            their default values they are accepted for every cell and backend.

    Raises:
        ZooError: an unknown cell or backend, or an option that the cell or backend does not support.
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
            raise ZooError(f"{name}={value} is not possible with torch's kernels; set backend=reference")
    return (
        TORCH[cell](in_features, hidden, batch_first=True) if backend == "torch" else kind(in_features, hidden, **given)
    )


def run(layer: Layer, x: Tensor, state: State | None = None, weight_dropout: float = 0.0) -> tuple[Tensor, State]:
    """Call a layer of either backend.

    Args:
        layer: the layer.
        x: (B, T, in_features).
        state: the state before the first step, tensors (B, hidden); None means zeros.
        weight_dropout: probability that an entry of W_h is set to zero in training, the same entries in all steps of
            the call. This is DropConnect, which also works with torch's kernels (Merity et al. 2018, section 2).

    Returns:
        The outputs (B, T, hidden) and the state after the last step.
    """
    if weight_dropout and layer.training:
        w_h = F.dropout(layer.weight_hh_l0, weight_dropout)  # type: ignore[arg-type]
        if torch.is_autocast_enabled(x.device.type):  # once here: autocast caches only parameters, not w_h
            w_h = w_h.to(torch.get_autocast_dtype(x.device.type))
        return functional_call(Run(layer), {"layer.weight_hh_l0": w_h}, (x, state))
    if isinstance(layer, Recurrence):
        return layer(x, state)
    several = isinstance(layer, nn.LSTM)
    before = None if state is None else tuple(s[None].contiguous() for s in state)  # (1, B, H): torch has a layer axis
    output, after = layer(x, before if several or before is None else before[0])
    return output, tuple(s[0] for s in (after if several else (after,)))


class Run(nn.Module):
    """``run`` as a module, so that ``functional_call`` can replace weights of the layer for one call."""

    def __init__(self, layer: Layer):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        return run(self.layer, x, state)


def initialise(layer: Any, orthogonal: bool, forget_bias: float | None, chrono: int | None = None) -> None:
    """Set the initial weights of a layer.

    Args:
        layer: a layer of either backend.
        orthogonal: use orthogonal matrices W_h, Glorot's initialisation for the matrices W_x (per gate), and zero
            biases, so that the state neither grows nor fades at first (Saxe et al. 2014; Le et al. 2015). False keeps
            torch's initial weights, uniform in ±1/√hidden.
        forget_bias: initial bias of the LSTM's forget gate; a positive one makes it remember at first (Gers et al.
            2000; Jozefowicz et al. 2015 use 1). It has no effect on GRU and simple RNN. None keeps the biases.
        chrono: chrono initialisation, for dependencies of up to T = ``chrono`` steps: each unit initially remembers for
            about u steps, with u drawn uniformly from [1, T − 1]. The bias is log u for the LSTM's f, −log u for its i,
            and log u for the GRU's 1 − z (Tallec & Ollivier 2018, equation 16). It has no effect on the simple RNN,
            which has no gates. None keeps the biases.

    Raises:
        ZooError: both ``forget_bias`` and ``chrono`` are given, or chrono is less than 3.
    """
    if chrono is not None and (chrono < 3 or forget_bias is not None):
        raise ZooError(f"chrono={chrono}, forget_bias={forget_bias}: give 3 steps or more, and only one of the two")
    hidden = layer.weight_hh_l0.shape[1]
    biases: dict[int, Tensor | float] = {}  # keys: index of the gate's block in the parameters
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
    """The same layer with the reference backend; it shares the parameters instead of copying them."""
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
    """Record the values of a layer's gates along a sequence with a forward hook.

    Args:
        layer: a layer of either backend.
        x: one sequence, (1, T, in_features).

    Returns:
        The gate values by name, (T, hidden) each, in [0, 1]: z and r for the GRU, i, f and o for the LSTM. The simple
        RNN has no gates, so its state h in [−1, 1] is returned instead.
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
