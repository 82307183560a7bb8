"""Recurrent layers against their equations and torch's kernels, and what the nets made of them promise."""

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import ZooError
from zoo.models.backends import REFERENCE, TORCH, gates, initialise, layer, run
from zoo.models.cells import GRU, LSTM, RNN
from zoo.models.recurrent import Recurrent

CELLS = ("rnn", "gru", "lstm")


def outcome(one, x, state):
    """Outputs, last state, and gradients of all of it for a loss that every step and the state are in."""
    x = x.clone().requires_grad_()
    output, after = run(one, x, state)
    loss = (output * torch.arange(output.numel()).view_as(output).cos()).sum() + sum(s.square().sum() for s in after)
    gradients = torch.autograd.grad(loss, [x, *(p for _, p in sorted(one.named_parameters()))])
    return [output, *after, *gradients]


def given_state(cell, batch, hidden):
    return tuple(torch.randn(batch, hidden) for _ in range(REFERENCE[cell].states))


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("there", [True, False])
def test_equations_and_kernels_are_equal_with_the_same_weights(cell, with_state, there):
    """Outputs, states and gradients to 1e-5, whichever of the two the weights come from."""
    torch.manual_seed(1)
    ours, theirs = layer(cell, 5, 7, "reference"), layer(cell, 5, 7, "torch")
    assert isinstance(theirs, TORCH[cell])
    source, target = (ours, theirs) if there else (theirs, ours)
    target.load_state_dict(source.state_dict())
    state = given_state(cell, 3, 7) if with_state else None
    x = torch.randn(3, 11, 5)
    for a, b in zip(outcome(ours, x, state), outcome(theirs, x, state), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def of(name, w, rows, hidden):
    """The rows of a gate: its matrices for h and x, and its bias."""
    at = slice(rows.index(name) * hidden, (rows.index(name) + 1) * hidden)
    return w.weight_hh_l0[at], w.weight_ih_l0[at], w.bias_ih_l0[at] + w.bias_hh_l0[at]


def test_gru_is_as_the_slide_prints_it():
    """With reset=before, z_t, r_t, h̃_t and h_t of lecture 16.6, written out with one matrix for [h, x]."""
    torch.manual_seed(2)
    gru = layer("gru", 3, 4, "reference", reset="before")
    x, h = torch.randn(2, 6, 3), torch.randn(2, 4)
    output, (last,) = run(gru, x, (h,))
    (w_r, v_r, b_r), (w_z, v_z, b_z), (w, v, b) = (of(name, gru, "rzh", 4) for name in "rzh")
    W_r, W_z, W = torch.cat([w_r, v_r], 1), -torch.cat([w_z, v_z], 1), torch.cat([w, v], 1)
    for t in range(6):
        hx = torch.cat([h, x[:, t]], 1)
        z = torch.sigmoid(hx @ W_z.T - b_z)
        r = torch.sigmoid(hx @ W_r.T + b_r)
        candidate = torch.tanh(torch.cat([r * h, x[:, t]], 1) @ W.T + b)
        h = (1 - z) * h + z * candidate
        torch.testing.assert_close(output[:, t], h)
    torch.testing.assert_close(last, h)


def test_lstm_with_peepholes_is_graves_equations():
    torch.manual_seed(3)
    lstm = layer("lstm", 3, 4, "reference", peephole=True)
    nn.init.normal_(lstm.peephole)
    x, h, c = torch.randn(2, 6, 3), torch.randn(2, 4), torch.randn(2, 4)
    output, (_, last) = run(lstm, x, (h, c))
    w_ci, w_cf, w_co = lstm.peephole

    def gate(name, h, x):
        w, v, b = of(name, lstm, "ifgo", 4)
        return h @ w.T + x @ v.T + b

    for t in range(6):
        i = torch.sigmoid(gate("i", h, x[:, t]) + w_ci * c)
        f = torch.sigmoid(gate("f", h, x[:, t]) + w_cf * c)
        c = f * c + i * torch.tanh(gate("g", h, x[:, t]))
        o = torch.sigmoid(gate("o", h, x[:, t]) + w_co * c)
        h = o * torch.tanh(c)
        torch.testing.assert_close(output[:, t], h)
    torch.testing.assert_close(last, c)


@pytest.mark.parametrize("cell", CELLS)
def test_layer_norm_makes_the_scale_of_the_weights_no_matter(cell):
    """Ba et al. 2016, table 1: rescaling a weight matrix changes nothing."""
    torch.manual_seed(4)
    one = layer(cell, 5, 32, "reference", layer_norm=True)
    nn.init.normal_(one.bias_ih_l0)
    x, state = torch.randn(3, 9, 5), given_state(cell, 3, 32)
    before, _ = run(one, x, state)
    with torch.no_grad():
        one.weight_ih_l0 *= 3
        one.weight_hh_l0 *= 5
    torch.testing.assert_close(run(one, x, state)[0], before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("cell", "options"), [*((c, {}) for c in CELLS), ("gru", {"reset": "before"})])
def test_recurrent_dropout_takes_the_same_units_in_every_step(cell, options):
    """What W h has for a dropped unit is no matter in any step, and for a kept one counts twice; eval drops none."""
    torch.manual_seed(5)
    one, x = layer(cell, 2, 200, "reference", recurrent_dropout=0.5, **options), torch.randn(1, 6, 2)

    def outputs(change=None):
        torch.manual_seed(6)
        before = one.weight_hh_l0.detach().clone()
        with torch.no_grad():
            if change is not None:
                one.weight_hh_l0[:, change] += 1
            found = run(one, x)[0]
            one.weight_hh_l0.copy_(before)
        return found

    torch.manual_seed(6)
    keep = nn.functional.dropout(torch.ones(1, 200), 0.5)[0]  # what the layer draws first
    assert (keep == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert torch.equal(outputs(keep == 0), outputs())
    assert not torch.allclose(outputs(keep > 0), outputs())
    dropped = outputs()
    one.eval()
    assert not torch.allclose(outputs(), dropped)
    with torch.no_grad():
        one.weight_hh_l0 *= keep
    torch.testing.assert_close(outputs(), dropped)


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize("cell", CELLS)
def test_weight_dropout_is_of_the_matrix(cell, backend):
    """A call has some numbers of W_h zero and the others larger; gradients reach those; eval mode has all."""
    torch.manual_seed(0)
    one, x = layer(cell, 3, 20, backend), torch.randn(2, 5, 3)
    torch.manual_seed(1)
    dropped = nn.functional.dropout(one.weight_hh_l0.detach(), 0.3)
    other = layer(cell, 3, 20, "reference")
    other.load_state_dict(one.state_dict())
    other.weight_hh_l0.data.copy_(dropped)
    torch.manual_seed(1)
    y, _ = run(one, x, None, weight_dropout=0.3)
    torch.testing.assert_close(y, run(other, x)[0])
    y.sum().backward()
    assert torch.equal(one.weight_hh_l0.grad != 0, dropped != 0)
    one.eval()
    assert torch.equal(run(one, x, None, weight_dropout=0.3)[0], run(one, x)[0])


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("variational", [False, True])
def dropped(x, **options):
    """Which numbers are zero in what each layer reads, and in the features; of a net of three layers."""
    torch.manual_seed(0)
    model = Recurrent(0, hidden=300, depth=3, **options)
    read = []
    for level in model.layers:
        level.directions[0].register_forward_pre_hook(lambda _, args: read.append(args[0]))
    features = model(x)
    return [part == 0 for part in (*read, features)]


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_as_zaremba_has_it(variational):
    """On each layer's input, the embeddings too, and on the last's output: L + 1 places; with variational, the same in
    all steps. Inputs of numbers are whole, unless input_dropout says otherwise.
    """
    tokens, numbers = torch.randint(20, (2, 7)), torch.randn(2, 7, 200)
    of_tokens = {"vocab_size": 20, "embedding": 200, "dropout": 0.5, "variational": variational}
    of_numbers = {"in_features": 200, "dropout": 0.5, "variational": variational}
    for x, options, first in (
        (tokens, of_tokens, 0.5),
        (tokens, {**of_tokens, "input_dropout": 0.0}, 0.0),
        (numbers, of_numbers, 0.0),
        (numbers, {**of_numbers, "input_dropout": 0.2}, 0.2),
    ):
        zeros = dropped(x, **options)
        assert [zero.float().mean().item() for zero in zeros] == pytest.approx([first, 0.5, 0.5, 0.5], abs=0.06)
        for zero in zeros:
            assert (zero == zero[:, :1]).all().item() == (variational or not zero.any())


def test_initial_values():
    """Orthogonal matrices a gate, and the forget gate's bias alone is set, whichever the backend."""
    for backend in ("torch", "reference"):
        lstm = layer("lstm", 6, 8, backend)
        initialise(lstm, orthogonal=True, forget_bias=1.0)
        for w in lstm.weight_hh_l0.split(8):
            torch.testing.assert_close(w @ w.T, torch.eye(8), atol=1e-5, rtol=0)
        total = (lstm.bias_ih_l0 + lstm.bias_hh_l0).view(4, 8)
        assert total[1].eq(1).all()
        assert total[[0, 2, 3]].eq(0).all()
    gru = layer("gru", 6, 8)
    before = gru.bias_ih_l0.clone()
    initialise(gru, orthogonal=False, forget_bias=1.0)
    assert torch.equal(gru.bias_ih_l0, before)


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_chrono_initial_values(backend):
    """With a state and inputs of 0, a unit keeps all but 1/(1 + u) of its memory a step, u from 1 to T - 1."""
    for cell, keeps in {"lstm": lambda g: g["f"], "gru": lambda g: 1 - g["z"]}.items():
        one = layer(cell, 3, 500, backend)
        initialise(one, orthogonal=True, forget_bias=None, chrono=100)
        found = gates(one, torch.zeros(1, 1, 3))
        spans = 1 / (1 - keeps(found)[0])
        assert 2 <= spans.min() < 5
        assert 95 < spans.max() <= 100
        assert spans.mean().item() == pytest.approx(51, abs=5)
        if cell == "lstm":
            torch.testing.assert_close(found["i"], 1 - found["f"])
    for wrong in ({"chrono": 2}, {"chrono": 100, "forget_bias": 1.0}):
        with pytest.raises(ZooError, match="3 steps or more, and only one of the two"):
            zoo.create("lstm", num_classes=2, in_features=1, hidden=4, **wrong)


@pytest.mark.parametrize(("cell", "names"), [("rnn", {"h"}), ("gru", {"z", "r"}), ("lstm", {"i", "f", "o"})])
def test_gates_are_those_of_the_layer(cell, names):
    """Of either backend the same; with W = 0 a gate is σ of its bias."""
    torch.manual_seed(6)
    fused = layer(cell, 3, 4)
    ours = layer(cell, 3, 4, "reference")
    ours.load_state_dict(fused.state_dict())
    x = torch.randn(1, 5, 3)
    found = gates(fused, x)
    assert set(found) == names
    for name, values in gates(ours, x).items():
        assert values.shape == (5, 4)
        torch.testing.assert_close(values, found[name])
    assert not ours.sigma._forward_hooks
    for p in ours.parameters():
        nn.init.zeros_(p)
    for values in gates(ours, x).values():
        assert values.eq(0.0 if cell == "rnn" else 0.5).all()


@pytest.mark.parametrize(
    ("cell", "backend", "options", "message"),
    [
        ("gru", "reference", {"peephole": True}, "peephole=True is not for cell=gru"),
        ("lstm", "torch", {"layer_norm": True}, "set backend=reference"),
        ("lstm", "reference", {"reset": "before"}, "not for cell=lstm"),
        ("gru", "reference", {"reset": "before", "layer_norm": True}, "layer_norm is for reset=after"),
        ("elman", "torch", {}, "valid: rnn, gru, lstm"),
        ("lstm", "cudnn", {}, "valid: torch, reference"),
    ],
)
def test_what_a_layer_cannot_do_is_said(cell, backend, options, message):
    with pytest.raises(ZooError, match=message):
        layer(cell, 3, 4, backend, **options)


# --- nets -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_state_is_carried_from_call_to_call(cell):
    """A sequence in two parts gives what it gives whole."""
    torch.manual_seed(0)
    net = Recurrent(11, vocab_size=11, cell=cell, hidden=8, depth=2).eval()
    x = torch.randint(11, (3, 10))
    whole, _ = net.forward_with_state(x)
    first, state = net.forward_with_state(x[:, :4])
    second, _ = net.forward_with_state(x[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)


@pytest.mark.parametrize("cell", CELLS)
def test_a_language_model_sees_no_later_token(cell):
    """By gradients: the logits of step t depend on tokens up to t, and on each of those."""
    torch.manual_seed(0)
    net = Recurrent(5, in_features=3, cell=cell, hidden=8, depth=2)
    x = torch.randn(1, 6, 3, requires_grad=True)
    for t in range(6):
        (gradient,) = torch.autograd.grad(net(x)[0, t].sum(), x)
        reached = gradient[0].abs().sum(1) > 0
        assert reached.tolist() == [s <= t for s in range(6)]


def test_bidirectional_reads_both_ways():
    """Each output depends on all steps; a classifier reads the end of either run."""
    torch.manual_seed(0)
    x = torch.randn(2, 6, 3, requires_grad=True)
    tagger = Recurrent(5, in_features=3, hidden=8, bidirectional=True)
    assert tagger(x).shape == (2, 6, 5)
    (gradient,) = torch.autograd.grad(tagger(x)[:, 2].sum(), x)
    assert (gradient.abs().sum(2) > 0).all()
    classifier = Recurrent(5, in_features=3, hidden=8, bidirectional=True, read="last").eval()
    features, _ = classifier.trunk(x)
    ends = torch.cat([features[:, -1, :8], features[:, 0, 8:]], -1)
    torch.testing.assert_close(classifier(x), classifier.head(ends))


def test_variational_dropout_takes_the_same_units_in_all_steps():
    torch.manual_seed(0)
    options = {"in_features": 3, "hidden": 100, "dropout": 0.5}
    net, x = Recurrent(5, variational=True, **options), torch.randn(4, 7, 3)
    dropped = net.trunk(x)[0] == 0
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert dropped.float().mean().item() == pytest.approx(0.5, abs=0.1)
    dropped = Recurrent(5, **options).trunk(x)[0] == 0
    assert not torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert not (net.eval().trunk(x)[0] == 0).any()


def test_embedding_dropout_takes_tokens_everywhere():
    torch.manual_seed(0)
    net = Recurrent(50, vocab_size=50, hidden=8, embedding_dropout=0.4)
    every = torch.arange(50)[None]
    embedded = net.embed(every)[0]
    gone = (embedded == 0).all(1)
    assert 0 < gone.sum() < 50
    torch.testing.assert_close(embedded[~gone], net.embedding.weight[~gone] / 0.6)
    twice = net.embed(torch.tensor([[3, 4, 3]]))[0]
    assert torch.equal(twice[0], twice[2])
    assert torch.equal(net.eval().embed(every)[0], net.embedding.weight)


def test_tied_head_is_the_embedding():
    """One matrix, one tensor on disk, and both uses in its gradient."""
    net = Recurrent(20, vocab_size=20, hidden=8, tied=True)
    free = Recurrent(20, vocab_size=20, hidden=8)
    count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    assert count(free) - count(net) == 20 * 8
    assert "head.weight" not in net.state_dict()
    net(torch.tensor([[3, 4]])).sum().backward()
    assert (net.embedding.weight.grad.abs().sum(1) > 0).all()  # as rows of the head; as inputs only 3 and 4
    with pytest.raises(ZooError, match="as wide as the last layer"):
        Recurrent(20, vocab_size=20, hidden=8, embedding=4, tied=True)


def test_tokens_or_numbers():
    with pytest.raises(ZooError, match="and not both"):
        Recurrent(5)
    with pytest.raises(ZooError, match="and not both"):
        Recurrent(5, vocab_size=5, in_features=3)


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_parameter_counts(cell, gates):
    """Embedding V·E, gates·(H·(E + H) + 2H) a layer as torch's, head."""
    net = zoo.create(cell, num_classes=65, vocab_size=65, hidden=16, depth=2)
    expected = 65 * 16 + 2 * gates * (16 * 32 + 2 * 16) + 65 * 17
    assert sum(p.numel() for p in net.parameters()) == expected
    assert {RNN, GRU, LSTM} == set(REFERENCE.values())
