"""Recurrent networks for language modelling, sequence classification and sequence tagging.

Lecture 16.6. The network is an embedding (for tokens; numbers are used directly), recurrent layers of
``zoo.models.backends`` and a linear head. With ``read="each"`` it gives one output per step, such as the next token or
a tag; with ``read="last"`` one output for the whole sequence.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo import layers
from zoo.arguments import Positive, Probability
from zoo.errors import ZooError
from zoo.models import backends
from zoo.models.cells import State


class Embedding(nn.Embedding):
    """An embedding with dropout of whole rows in training, the same rows for the whole batch (Gal & Ghahramani 2016,
    section 4.2).

    Args:
        num_embeddings, embedding_dim: as for ``nn.Embedding``.
        dropout: probability that a row is set to zero.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, dropout: Probability = 0.0):
        super().__init__(num_embeddings, embedding_dim)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:  # (B, T) -> (B, T, E)
        weight = self.weight
        if self.training and self.dropout:
            weight = weight * F.dropout(weight.new_ones(len(weight), 1), self.dropout)
        return F.embedding(x, weight)


class Level(nn.Module):
    """A layer of the network, in one or two directions, with dropout on its input.

    The dropout is part of this module, so that freezing the layer also switches its dropout off.

    Args:
        directions: one recurrent layer, or two, of which the second runs from the end of the sequence to the start.
            The modules are named "0" and "1", as in the files of weights.
        drop: the dropout module for the input.
        weight_dropout: see ``zoo.models.backends.run``.
    """

    def __init__(self, directions: Sequence[backends.Layer], drop: nn.Module, weight_dropout: Probability = 0.0):
        super().__init__()
        self.drop, self.weight_dropout = drop, weight_dropout
        for i, layer in enumerate(directions):
            self.add_module(str(i), layer)

    @property
    def directions(self) -> list[backends.Layer]:
        return [layer for name, layer in self.named_children() if name.isdigit()]  # type: ignore[misc]

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """From (B, T, inputs) to (B, T, hidden · directions), and the last state of the forward direction."""
        x = self.drop(x)
        forwards, *backwards = self.directions
        out, last = backends.run(forwards, x, state, self.weight_dropout)
        outs = [out, *(backends.run(back, x.flip(1), None, self.weight_dropout)[0].flip(1) for back in backwards)]
        return (torch.cat(outs, -1) if backwards else out), last


class Tied(nn.Module):
    """A linear head that shares the weight matrix of an embedding: (…, E) -> (…, V)."""

    def __init__(self, embedding: nn.Embedding):
        super().__init__()
        self.borrowed = [embedding]  # in a list, so that torch does not register it a second time
        self.bias = nn.Parameter(torch.zeros(len(embedding.weight)))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.borrowed[0].weight, self.bias)


class Recurrent(nn.Module):
    """Simple RNN, GRU or LSTM layers, and a linear head.

    It has many arguments, because most are the regularisers and initial weights of one paper each, of which a config
    chooses any combination.

    Args:
        num_classes: size of the output (vocabulary, tags or classes); 0 gives the features before the head.
        vocab_size: number of different tokens, for inputs int64 (B, T); None for inputs of numbers, float32
            (B, T, in_features).
        in_features: numbers per step, for inputs of numbers.
        cell: "rnn", "gru" or "lstm".
        hidden: hidden units per layer and direction.
        depth: number of layers.
        read: give an output for "each" step, or for the "last" step only.
        bidirectional: run a second layer from the end to the start at each depth. Not for language models, which would
            then see the tokens that they should predict.
        embedding: size of the token embeddings; None means ``hidden``.
        tied: share the weight matrix between embedding and head (Press & Wolf 2017, Inan et al. 2017).
        dropout: dropout on the input of each layer and on the output of the last one, so in L + 1 places for L layers,
            but never on the connections from step to step (Zaremba et al. 2014, section 3.1).
        input_dropout: dropout on the input of the first layer, in place of ``dropout``. None means ``dropout`` for
            tokens, whose embeddings are the paper's h⁰, and 0 for inputs of numbers, which are data and not learned.
        variational: drop the same units in all steps of a sequence (Gal & Ghahramani 2016).
        embedding_dropout: probability that the embedding of a token is set to zero for a whole batch (the same paper,
            section 4.2).
        weight_dropout: see ``zoo.models.backends.run``.
        recurrent_dropout, layer_norm, peephole, reset: see ``zoo.models.cells``; they need backend="reference".
        orthogonal, forget_bias, chrono: the initial weights; see ``zoo.models.backends.initialise``.
        backend: "torch" for torch's kernels, or "reference" for the equations; both take the same weights.
    """

    def __init__(
        self,
        num_classes: int,
        vocab_size: int | None = None,
        in_features: int | None = None,
        cell: Literal["rnn", "gru", "lstm"] = "lstm",
        hidden: Positive = 256,
        depth: Positive = 1,
        read: Literal["each", "last"] = "each",
        bidirectional: bool = False,
        embedding: Positive | None = None,
        tied: bool = False,
        dropout: Probability = 0.0,
        input_dropout: Probability | None = None,
        variational: bool = False,
        embedding_dropout: Probability = 0.0,
        weight_dropout: Probability = 0.0,
        recurrent_dropout: Probability = 0.0,
        layer_norm: bool = False,
        peephole: bool = False,
        reset: Literal["before", "after"] = "after",
        orthogonal: bool = False,
        forget_bias: float | None = None,
        chrono: int | None = None,
        backend: Literal["torch", "reference"] = "torch",
    ):
        super().__init__()
        if (vocab_size is None) == (in_features is None):
            raise ZooError("give model.vocab_size for tokens, or model.in_features for numbers, and not both")
        self.hidden, self.read, self.bidirectional = hidden, read, bidirectional
        if input_dropout is None:
            input_dropout = dropout if in_features is None else 0.0
        width = in_features or embedding or hidden
        self.embedding = None if vocab_size is None else Embedding(vocab_size, width, embedding_dropout)
        directions = 2 if bidirectional else 1
        options = {
            "recurrent_dropout": recurrent_dropout,
            "layer_norm": layer_norm,
            "peephole": peephole,
            "reset": reset,
        }
        make_dropout = layers.VariationalDropout if variational else nn.Dropout
        self.layers = nn.ModuleList()
        for i in range(depth):
            size = directions * hidden if i else width
            pair = [backends.layer(cell, size, hidden, backend, **options) for _ in range(directions)]
            for one in pair:
                backends.initialise(one, orthogonal, forget_bias, chrono)
            drop = make_dropout(dropout if i else input_dropout)
            self.layers.append(Level(pair, drop, weight_dropout))
        self.dropout = make_dropout(dropout)
        self.head: nn.Module
        if not tied:
            self.head = layers.make_head(directions * hidden, num_classes)
        elif self.embedding is None or vocab_size != num_classes or width != directions * hidden:
            raise ZooError(
                f"tied=true needs as many classes as tokens, and an embedding as wide as the last layer: got "
                f"{num_classes} and {vocab_size}, {width} and {directions * hidden}"
            )
        else:
            self.head = Tied(self.embedding)
            nn.init.normal_(self.embedding.weight, std=width**-0.5)  # so that the first logits are small

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, T, num_classes), or with read="last" (B, num_classes)."""
        return self.forward_with_state(x)[0]

    def forward_with_state(self, x: Tensor, state: list[State] | None = None) -> tuple[Tensor, list[State]]:
        """The logits, and the state after the last step, with which the next call can continue the sequence.

        Args:
            x: int64 (B, T), or float32 (B, T, in_features).
            state: the state that an earlier call returned, for the same B; None means zeros. A bidirectional network
                cannot continue a sequence, so it takes None only.
        """
        features, after = self.trunk(self.embed(x), state)  # (B, T, H)
        if self.read == "last":
            # the backward layer ends at the first step of the sequence
            forwards, *back = features.split(self.hidden, -1)
            features = torch.cat([forwards[:, -1], *(b[:, 0] for b in back)], -1)  # (B, H)
        return self.head(features), after

    def embed(self, x: Tensor) -> Tensor:
        """The input of the first layer: embeddings (B, T, E) of tokens (B, T), or numbers unchanged."""
        return x if self.embedding is None else self.embedding(x)

    def trunk(self, x: Tensor, state: list[State] | None = None) -> tuple[Tensor, list[State]]:
        """From ``embed``'s output to the features of all steps, (B, T, hidden · directions), and the last state."""
        after = []
        for i, level in enumerate(self.layers):
            x, last = level(x, state[i] if state else None)
            after.append(last)
        return self.dropout(x), after
