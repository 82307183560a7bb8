"""Recurrent layers: the simple RNN, the GRU and the LSTM, a step at a time from their equations.

Lecture 16.6. Its slide prints the equations of the GRU under the title LSTM: they are in ``GRU`` here, letter for
letter with ``reset="before"``. Below * is element by element, and σ the logistic function.

Each layer has the parameters of torch's nn.RNN, nn.GRU and nn.LSTM (of one layer), by the same names and in the same
order, so weights go from one to the other as they are, and outputs and gradients are equal. ``layer`` makes either.
"""

import inspect
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from zoo.errors import ZooError

State = tuple[Tensor, ...]  # what a layer hands on from step to step, each (B, hidden): (h,), of the LSTM (h, c)


class Recurrence(nn.Module):
    """What the three have in common: the parameters, and the walk along the sequence.

    The inputs' part of all gates and steps is one matrix product, W x + b, before the walk. A step adds the state's.

    Args:
        in_features: of an input x_t.
        hidden: units of the layer.
        layer_norm: normalise W x and W h, each over all gates, before they and the biases are added, and the LSTM's
            c_t before its tanh (Ba et al. 2016, equations 20 to 22).
        recurrent_dropout: probability that a unit of h_{t-1} is zero on its way into the next step, the same units
            in all steps of a sequence (Gal & Ghahramani 2016, equation 7).
    """

    gates: int
    states: int = 1

    def __init__(self, in_features: int, hidden: int, layer_norm: bool = False, recurrent_dropout: float = 0.0):
        super().__init__()
        rows = self.gates * hidden
        self.hidden, self.recurrent_dropout = hidden, recurrent_dropout
        self.weight_ih_l0 = nn.Parameter(torch.empty(rows, in_features))
        self.weight_hh_l0 = nn.Parameter(torch.empty(rows, hidden))
        self.bias_ih_l0 = nn.Parameter(torch.empty(rows))
        self.bias_hh_l0 = nn.Parameter(torch.empty(rows))
        for p in self.parameters():  # as torch's
            nn.init.uniform_(p, -(hidden**-0.5), hidden**-0.5)
        self.trace: list[dict[str, Tensor]] | None = None  # a list here is given every step's gates
        self.norm_x = nn.LayerNorm(rows) if layer_norm else None
        self.norm_h = nn.LayerNorm(rows) if layer_norm else None

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The outputs h_t of all steps, and the state after the last.

        Args:
            x: (B, T, in_features).
            state: before the first step; None is zeros.

        Returns:
            (B, T, hidden), and each tensor of the state, (B, hidden).
        """
        if state is None:
            state = (x.new_zeros(len(x), self.hidden),) * self.states
        from_x = affine(x, self.weight_ih_l0, self.bias_ih_l0, self.norm_x)  # (B, T, gates·H)
        keep = F.dropout(torch.ones_like(state[0]), self.recurrent_dropout, self.training)
        outputs = []
        for x_t in from_x.unbind(1):
            state = self.step(x_t, state, keep)
            outputs.append(state[0])
        return torch.stack(outputs, 1), state

    def from_h(self, h: Tensor, keep: Tensor) -> Tensor:
        """The state's part of all gates, W h + b: (B, H) -> (B, gates·H)."""
        return affine(h * keep if self.recurrent_dropout else h, self.weight_hh_l0, self.bias_hh_l0, self.norm_h)

    def note(self, **gates: Tensor) -> None:
        if self.trace is not None:
            self.trace.append(gates)

    def step(self, x: Tensor, state: State, keep: Tensor) -> State:
        """One step: the inputs' part of the gates (B, gates·H) and the state before, to the state after."""
        raise NotImplementedError


def affine(x: Tensor, weight: Tensor, bias: Tensor, norm: nn.Module | None) -> Tensor:
    """W x + b, or with a norm norm(W x) + b."""
    return F.linear(x, weight, bias) if norm is None else norm(F.linear(x, weight)) + bias


class RNN(Recurrence):
    """h_t = tanh(W_h h_{t-1} + W_x x_t + b), lecture 16.6, where the state is called z (Elman 1990)."""

    gates = 1

    def step(self, x: Tensor, state: State, keep: Tensor) -> State:
        (h,) = state
        h = torch.tanh(x + self.from_h(h, keep))
        self.note(h=h)
        return (h,)


class GRU(Recurrence):
    """The gated recurrent unit (Cho et al. 2014), as the lecture's slide prints it:

    z_t = σ(W_z · [h_{t-1}, x_t])
    r_t = σ(W_r · [h_{t-1}, x_t])
    h̃_t = tanh(W · [r_t * h_{t-1}, x_t])
    h_t = (1 − z_t) * h_{t-1} + z_t * h̃_t

    ``reset="before"`` is that; ``"after"`` is torch's and cuDNN's, r_t * (W_h h_{t-1}), which is one product less.
    Torch calls z what here is 1 − z; as σ(−a) = 1 − σ(a), its rows of the weights are those of the slide with a minus.
    """

    gates = 3  # rows of the parameters: r, z, h̃

    def __init__(
        self,
        in_features: int,
        hidden: int,
        layer_norm: bool = False,
        recurrent_dropout: float = 0.0,
        reset: Literal["before", "after"] = "after",
    ):
        super().__init__(in_features, hidden, layer_norm, recurrent_dropout)
        if layer_norm and reset == "before":
            raise ZooError("layer_norm is for reset=after: before, W h is no single product to normalise")
        self.reset = reset

    def step(self, x: Tensor, state: State, keep: Tensor) -> State:
        (h,) = state
        x_r, x_z, x_c = x.chunk(3, -1)  # (B, H) each
        if self.reset == "after":
            h_r, h_z, h_c = self.from_h(h, keep).chunk(3, -1)
            z, r = torch.sigmoid(-(x_z + h_z)), torch.sigmoid(x_r + h_r)
            candidate = torch.tanh(x_c + r * h_c)
        else:
            dropped = h * keep
            (w_gates, w_c), (b_gates, b_c) = (
                p.split([2 * self.hidden, self.hidden]) for p in (self.weight_hh_l0, self.bias_hh_l0)
            )
            h_r, h_z = F.linear(dropped, w_gates, b_gates).chunk(2, -1)
            z, r = torch.sigmoid(-(x_z + h_z)), torch.sigmoid(x_r + h_r)
            candidate = torch.tanh(x_c + F.linear(r * dropped, w_c, b_c))
        self.note(z=z, r=r)
        return ((1 - z) * h + z * candidate,)


class LSTM(Recurrence):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with forget gates (Gers et al. 2000):

    i_t = σ(W_i · [h_{t-1}, x_t]), f_t = σ(W_f · [h_{t-1}, x_t]), g_t = tanh(W_g · [h_{t-1}, x_t])
    c_t = f_t * c_{t-1} + i_t * g_t: what is kept is added to, not multiplied by a matrix
    o_t = σ(W_o · [h_{t-1}, x_t])
    h_t = o_t * tanh(c_t)

    With ``peephole`` the gates see the cell too: i and f see c_{t-1}, o sees c_t, by a weight a unit (Graves 2013,
    equations 7 to 11).
    """

    gates = 4  # rows of the parameters: i, f, g, o
    states = 2

    def __init__(
        self,
        in_features: int,
        hidden: int,
        layer_norm: bool = False,
        recurrent_dropout: float = 0.0,
        peephole: bool = False,
    ):
        super().__init__(in_features, hidden, layer_norm, recurrent_dropout)
        self.norm_c = nn.LayerNorm(hidden) if layer_norm else nn.Identity()
        self.peephole = nn.Parameter(torch.zeros(3, hidden)) if peephole else None  # i, f, o

    def step(self, x: Tensor, state: State, keep: Tensor) -> State:
        h, c = state
        i, f, g, o = (x + self.from_h(h, keep)).chunk(4, -1)  # (B, H) each
        if self.peephole is not None:
            i, f = i + self.peephole[0] * c, f + self.peephole[1] * c
        i, f = torch.sigmoid(i), torch.sigmoid(f)
        c = f * c + i * torch.tanh(g)
        o = torch.sigmoid(o if self.peephole is None else o + self.peephole[2] * c)
        self.note(i=i, f=f, o=o)
        return o * torch.tanh(self.norm_c(c)), c


Layer = Recurrence | nn.RNNBase
REFERENCE: dict[str, Any] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}
TORCH: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def layer(cell: str, in_features: int, hidden: int, backend: str = "torch", **options: Any) -> Layer:
    """A layer of "rnn", "gru" or "lstm": by torch's kernels, or backend="reference" step by step as above.

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
    """What a layer's gates are over a sequence, in [0, 1]: z and r of the GRU, i, f and o of the LSTM; of the RNN, h.

    Args:
        x: (1, T, in_features).

    Returns:
        By name, (T, hidden) each.
    """
    reference = as_reference(layer)
    reference.trace = []
    try:
        reference(x)
        return {name: torch.cat([step[name] for step in reference.trace]) for name in reference.trace[0]}
    finally:
        reference.trace = None
