"""Recurrent layers written step by step from their equations: the simple RNN, the GRU and the LSTM.

Lecture 16.6. The slide prints the equations of the GRU under the title LSTM; here they are in ``GRU``, exactly as
printed with ``reset="before"``. In the equations * is the element-wise product and σ the logistic function.

The parameters have the same names, shapes and order as those of torch's nn.RNN, nn.GRU and nn.LSTM with one layer. So
weights can be exchanged unchanged, and outputs and gradients are equal. ``zoo.models.backends.layer`` makes a layer of
either implementation.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.arguments import Positive, Probability
from zoo.errors import ZooError

State = tuple[Tensor, ...]  # passed on from step to step: (h,), or (h, c) for the LSTM, each (B, hidden)


class Recurrence(nn.Module):
    """Base class of the three layers: the parameters, and the loop over the steps of a sequence.

    The contribution of the inputs, W x + b, is computed before the loop as one matrix product for all gates and steps.
    Each step then adds the contribution of the state.

    Args:
        in_features: size of an input x_t.
        hidden: number of hidden units.
        layer_norm: normalise W x and W h, each over all gates, before they and the biases are added, and the LSTM's
            c_t before its tanh (Ba et al. 2016, equations 20 to 22).
        recurrent_dropout: probability that a unit of h_{t-1} is set to zero when it enters the next step; the same
            units are dropped in all steps of a sequence (Gal & Ghahramani 2016, equation 7).
    """

    gates: int  # how many blocks of ``hidden`` rows each weight matrix has
    gate_names: tuple[str, ...] = ()  # names of the gates, in the order in which a step calls ``sigma``
    states: int = 1  # number of tensors in the state

    def __init__(
        self, in_features: int, hidden: Positive, layer_norm: bool = False, recurrent_dropout: Probability = 0.0
    ):
        super().__init__()
        rows = self.gates * hidden
        self.hidden, self.recurrent_dropout = hidden, recurrent_dropout
        self.weight_ih_l0 = nn.Parameter(torch.empty(rows, in_features))
        self.weight_hh_l0 = nn.Parameter(torch.empty(rows, hidden))
        self.bias_ih_l0 = nn.Parameter(torch.empty(rows))
        self.bias_hh_l0 = nn.Parameter(torch.empty(rows))
        for p in self.parameters():  # the same initial weights as torch's layers
            nn.init.uniform_(p, -(hidden**-0.5), hidden**-0.5)
        self.scanned = False  # whether to loop with ``scan``
        self.sigma = nn.Sigmoid()  # a module, so that a forward hook can read the gates
        self.norm_x = nn.LayerNorm(rows) if layer_norm else None
        self.norm_h = nn.LayerNorm(rows) if layer_norm else None

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Compute the outputs h_t of all steps, and the state after the last step.

        Args:
            x: (B, T, in_features).
            state: the state before the first step; None means zeros.

        Returns:
            The outputs (B, T, hidden), and the tensors of the state, (B, hidden) each.
        """
        if state is None:
            state = tuple(x.new_zeros(x.shape[0], self.hidden) for _ in range(self.states))
        from_x = affine(x, self.weight_ih_l0, self.bias_ih_l0, self.norm_x)  # (B, T, gates·H)
        keep = F.dropout(torch.ones_like(state[0]), self.recurrent_dropout, self.training)
        if self.scanned:
            return self.scan(from_x, state, keep)
        outputs = []
        for x_t in from_x.unbind(1):
            state = self.step(x_t, state, keep)
            outputs.append(state[0])
        return torch.stack(outputs, 1), state

    def scan(self, from_x: Tensor, state: State, keep: Tensor) -> tuple[Tensor, State]:
        """The same loop as a single operation, which can be exported for any number of steps; it has no gradients."""
        from torch._higher_order_ops.scan import scan

        def step(state: State, x_t: Tensor) -> tuple[State, Tensor]:
            after = tuple(s.clone() for s in self.step(x_t, state, keep))  # scan forbids outputs that share memory
            return after, after[0].clone()

        last, outputs = scan(step, state, from_x.transpose(0, 1), dim=0)
        return outputs.transpose(0, 1), last

    def from_h(self, h: Tensor, keep: Tensor) -> Tensor:
        """The contribution of the state to all gates, W h + b: (B, H) -> (B, gates·H)."""
        return affine(h * keep if self.recurrent_dropout else h, self.weight_hh_l0, self.bias_hh_l0, self.norm_h)

    def step(self, x: Tensor, state: State, keep: Tensor) -> State:
        """One step: from the contribution x of the inputs (B, gates·H) and the old state to the new state."""
        raise NotImplementedError


def affine(x: Tensor, weight: Tensor, bias: Tensor, norm: nn.Module | None) -> Tensor:
    """W x + b, or norm(W x) + b if there is a normalisation layer."""
    return F.linear(x, weight, bias) if norm is None else norm(F.linear(x, weight)) + bias


class RNN(Recurrence):
    """The simple RNN, h_t = tanh(W_h h_{t-1} + W_x x_t + b) (Elman 1990; lecture 16.6, which calls the state z)."""

    gates = 1

    def step(self, x: Tensor, state: State, keep: Tensor) -> State:
        (h,) = state
        return (torch.tanh(x + self.from_h(h, keep)),)


class GRU(Recurrence):
    """The gated recurrent unit (Cho et al. 2014), as the lecture's slide prints it:

    z_t = σ(W_z · [h_{t-1}, x_t])
    r_t = σ(W_r · [h_{t-1}, x_t])
    h̃_t = tanh(W · [r_t * h_{t-1}, x_t])
    h_t = (1 − z_t) * h_{t-1} + z_t * h̃_t

    ``reset="before"`` applies the reset gate before the matrix product, as above. ``reset="after"`` applies it after
    the product, r_t * (W_h h_{t-1}), as torch and cuDNN do; this saves one matrix product per step.

    Torch's z is 1 − z in the notation above. Since σ(−a) = 1 − σ(a), the z rows of torch's weights, which are used
    here too, are the negative of those in the equations above.
    """

    gates = 3  # blocks of rows: r, z, h̃
    gate_names = ("z", "r")

    def __init__(
        self,
        in_features: int,
        hidden: Positive,
        layer_norm: bool = False,
        recurrent_dropout: Probability = 0.0,
        reset: Literal["before", "after"] = "after",
    ):
        super().__init__(in_features, hidden, layer_norm, recurrent_dropout)
        if layer_norm and reset == "before":
            raise ZooError("layer_norm is for reset=after: reset=before has no single product W h to normalise")
        self.reset = reset

    def step(self, x: Tensor, state: State, keep: Tensor) -> State:
        (h,) = state
        x_r, x_z, x_c = x.chunk(3, -1)  # (B, H) each
        if self.reset == "after":
            h_r, h_z, h_c = self.from_h(h, keep).chunk(3, -1)
            z = self.sigma(-(x_z + h_z))
            r = self.sigma(x_r + h_r)
            candidate = torch.tanh(x_c + r * h_c)
        else:
            dropped = h * keep
            (w_gates, w_c), (b_gates, b_c) = (
                p.split([2 * self.hidden, self.hidden]) for p in (self.weight_hh_l0, self.bias_hh_l0)
            )
            h_r, h_z = F.linear(dropped, w_gates, b_gates).chunk(2, -1)
            z = self.sigma(-(x_z + h_z))
            r = self.sigma(x_r + h_r)
            candidate = torch.tanh(x_c + F.linear(r * dropped, w_c, b_c))
        return ((1 - z) * h + z * candidate,)


class LSTM(Recurrence):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with forget gates (Gers et al. 2000):

    i_t = σ(W_i · [h_{t-1}, x_t]), f_t = σ(W_f · [h_{t-1}, x_t]), g_t = tanh(W_g · [h_{t-1}, x_t])
    c_t = f_t * c_{t-1} + i_t * g_t: the cell is gated and added to, never multiplied by a matrix
    o_t = σ(W_o · [h_{t-1}, x_t])
    h_t = o_t * tanh(c_t)

    With ``peephole`` the gates also see the cell, with one weight per unit: i and f see c_{t-1}, o sees c_t (Graves
    2013, equations 7 to 11).
    """

    gates = 4  # blocks of rows: i, f, g, o
    gate_names = ("i", "f", "o")
    states = 2

    def __init__(
        self,
        in_features: int,
        hidden: Positive,
        layer_norm: bool = False,
        recurrent_dropout: Probability = 0.0,
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
        i = self.sigma(i)
        f = self.sigma(f)
        c = f * c + i * torch.tanh(g)
        o = self.sigma(o if self.peephole is None else o + self.peephole[2] * c)
        return o * torch.tanh(self.norm_c(c)), c
