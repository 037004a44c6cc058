"""Models called with named tensors, beside the same net written by hand for one tensor."""

import copy
import itertools
from collections import UserDict
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from landscape import Objective, find_eigenpairs
from landscape.adapters import adapt, own_loss
from landscape.gauss_newton import gauss_newton, gradient_moment
from landscape.operators import hessian

SAMPLES, LENGTH = 11, 6


@dataclass
class Answer:
    logits: torch.Tensor | None
    loss: torch.Tensor | None = None


class Encoder(nn.Module):
    """A tiny transformer with the manners of a library's: keywords in, an object out."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 3)

    def forward(self, input_ids, attention_mask=None, labels=None):
        x = self.embedding(input_ids)
        hidden = None if attention_mask is None else ~attention_mask.bool()
        x = self.norm(x + self.attention(x, x, x, key_padding_mask=hidden)[0])
        logits = self.head(x.mean(1))
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return Answer(logits=logits, loss=loss)


class ByHand(nn.Module):
    """The same net for one tensor of tokens, -1 where there is none."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, tokens):
        return self.encoder(tokens.clamp(min=0), (tokens >= 0).long()).logits


def encoder():
    torch.manual_seed(0)
    return Encoder().double()


def batch():
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(SAMPLES, LENGTH, dtype=torch.int64)
    mask[::3, 4:] = 0
    return {
        "attention_mask": mask,
        "input_ids": torch.randint(9, (SAMPLES, LENGTH), generator=generator) * mask,
        "labels": torch.randint(3, (SAMPLES,), generator=generator),
    }


def by_hand(**options):
    whole = batch()
    tokens = torch.where(whole["attention_mask"] == 1, whole["input_ids"], -1)
    return Objective(ByHand(encoder()), nn.CrossEntropyLoss(), (tokens, whole["labels"]), **options)


def adapted(data, **options):
    return Objective(*place_loss(adapt(encoder(), data)), **options)


def place_loss(pair, loss_fn=functional.cross_entropy):
    return pair[0], loss_fn, pair[1]


def rows(*cuts):
    """The batch cut at some samples."""
    edges = [0, *cuts, SAMPLES]
    return [
        {name: tensor[a:b] for name, tensor in batch().items()}
        for a, b in itertools.pairwise(edges)
    ]


DATA = {
    "one mapping": batch(),
    "a mapping that is no dict": UserDict(batch()),
    "arrays": {name: tensor.numpy() for name, tensor in batch().items()},
    "batches": rows(4, 5),
    "a loader": DataLoader(
        [{name: tensor[i] for name, tensor in batch().items()} for i in range(SAMPLES)],
        batch_size=4,
        shuffle=True,
    ),
}


@pytest.mark.parametrize("data", DATA.values(), ids=DATA.keys())
def test_loss_gradient_and_products_are_those_of_the_net_written_by_hand(data):
    objective, expected = adapted(data), by_hand()
    assert objective() == pytest.approx(expected(), rel=1e-13)
    assert torch.allclose(objective.gradient(), expected.gradient(), rtol=1e-11, atol=1e-14)
    v = torch.randn(expected.layout.size, generator=torch.Generator().manual_seed(2)).double()
    for make in (hessian, gauss_newton, gradient_moment):
        assert torch.allclose(make(objective)(v), make(expected)(v), rtol=1e-9, atol=1e-12)


def test_eigenpairs_are_those_of_the_net_written_by_hand():
    found, expected = (
        find_eigenpairs(objective, k=3, tolerance=1e-8, seed=0)
        for objective in (adapted(batch()), by_hand())
    )
    assert np.allclose(found.eigenvalues, expected.eigenvalues, rtol=1e-9)
    assert np.allclose(np.abs(found.eigenvectors), np.abs(expected.eigenvectors), atol=1e-5)


def test_names_of_parameters_and_class_are_the_models_own_and_it_is_left_as_it_is():
    model = encoder()
    before = copy.deepcopy(model.state_dict())
    net, data = adapt(model, batch())
    objective = Objective(net, functional.cross_entropy, data)
    assert [e.name for e in objective.layout] == [name for name, _ in model.named_parameters()]
    assert objective.facts["model"] == "Encoder"
    assert isinstance(net, Encoder)
    assert type(model) is Encoder
    assert all(p is q for p, q in zip(net.parameters(), model.parameters(), strict=True))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model(batch()["input_ids"]).logits.shape == (SAMPLES, 3)


def test_batches_padded_to_their_own_length_are_taken():
    def cut(part, length):
        return {name: t[:, :length] if t.ndim == 2 else t for name, t in part.items()}

    order = torch.tensor([0, 3, 6, 9, 1, 2, 4, 5, 7, 8, 10])
    sorted_by_length = {name: tensor[order] for name, tensor in batch().items()}
    short = cut({name: tensor[:4] for name, tensor in sorted_by_length.items()}, 4)
    long = {name: tensor[4:] for name, tensor in sorted_by_length.items()}

    class Masked(Encoder):
        def forward(self, input_ids, attention_mask):
            x = self.embedding(input_ids)
            x = x + self.attention(x, x, x, key_padding_mask=attention_mask == 0)[0]
            mean = (x * attention_mask[:, :, None]).sum(1) / attention_mask.sum(1, keepdim=True)
            return {"logits": self.head(mean)}

    torch.manual_seed(3)
    model = Masked().double()
    padded = Objective(*place_loss(adapt(model, batch())))
    own = Objective(*place_loss(adapt(model, [short, long])))
    assert own() == pytest.approx(padded(), rel=1e-13)
    v = torch.ones(padded.layout.size).double()
    assert torch.allclose(hessian(own)(v), hessian(padded)(v), rtol=1e-10, atol=1e-13)


def test_tensors_of_all_types_and_shapes_come_through_to_the_bit():
    class Echo(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, **tensors):
            self.seen = tensors
            return tensors["half"].mean(1, keepdim=True) * self.weight, None

    generator = torch.Generator().manual_seed(4)
    data = {
        "bits": torch.rand(3, 6, generator=generator) > 0.5,
        "byte": torch.randint(256, (3, 3), generator=generator, dtype=torch.uint8),
        "half": torch.randn(3, 2, generator=generator),
        "int": torch.randint(-9, 9, (3,), generator=generator),
        "none": torch.zeros(3, 0, dtype=torch.int64),
        "short": torch.randint(-9, 9, (3, 2, 2), generator=generator, dtype=torch.int16),
        "y": torch.zeros(3, 1),
    }
    net, (packed, targets) = adapt(Echo(), data, targets="y", output=0)
    assert torch.equal(targets, data["y"])
    for samples in (slice(0, 3), slice(1, 2), slice(2, 3)):
        net(packed[samples])
        assert net.seen.keys() == data.keys() - {"y"}
        for name, tensor in net.seen.items():
            assert tensor.dtype == data[name].dtype
            assert torch.equal(tensor, data[name][samples])


def test_numbers_in_floating_point_are_cast_with_the_model():
    class Net(nn.Linear):
        def forward(self, x):
            return {"logits": super().forward(x)}

    torch.manual_seed(6)
    model = Net(2, 3)
    x, labels = torch.rand(5, 2), torch.tensor([0, 1, 2, 0, 1])
    net, data = adapt(model, {"x": x, "labels": labels})
    objective = Objective(net, functional.cross_entropy, data, dtype=torch.float64)
    with torch.no_grad():
        logits = functional.linear(x.double(), model.weight.double(), model.bias.double())
        loss = float(functional.cross_entropy(logits, labels))
    assert objective() == pytest.approx(loss, rel=1e-13)


def test_forms_of_equal_size_are_told_apart():
    class Sum(nn.Linear):
        def forward(self, a, b):
            return (super().forward(a).sum(1, keepdim=True) + b.sum(1, keepdim=True),)

    torch.manual_seed(5)
    model = Sum(1, 1).double()
    first = {"a": torch.ones(2, 3, 1).double(), "b": torch.ones(2, 1).double()}
    second = {"a": torch.ones(2, 2, 1).double(), "b": torch.ones(2, 2).double()}
    data = [part | {"labels": torch.zeros(2, 1, 1).double()} for part in (first, second)]
    net, packed = adapt(model, data, output=0)
    for (inputs, _), part in zip(packed, (first, second), strict=True):
        assert torch.equal(net(inputs), model(**part)[0])


def test_a_model_may_compute_its_own_loss():
    net, data = adapt(encoder(), batch(), output="loss")
    objective = Objective(net, own_loss, data, batch_size=4)
    assert objective() == pytest.approx(by_hand()(), rel=1e-13)
    assert torch.allclose(objective.gradient(), by_hand().gradient(), rtol=1e-10, atol=1e-14)


def test_an_own_loss_under_dropout_is_judged_without_it():
    class Dropping(Encoder):
        def forward(self, input_ids, attention_mask, labels):
            hidden = functional.dropout(self.embedding(input_ids), 0.5, training=self.training)
            return Answer(None, functional.cross_entropy(self.head(hidden.mean(1)), labels))

    model = Dropping().train()
    adapt(model, batch(), output="loss")
    assert model.training


def test_the_order_of_the_names_does_not_matter():
    parts = rows(5)
    turned = [dict(reversed(part.items())) for part in parts]
    _, packed = adapt(encoder(), [parts[0], turned[1]])
    _, expected = adapt(encoder(), parts)
    for (ours, _), (theirs, _) in zip(packed, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_an_own_loss_that_is_no_mean_over_samples_is_refused():
    class Tokens(Encoder):
        def forward(self, input_ids, attention_mask, labels):
            logits = self.head(self.embedding(input_ids))
            expected = torch.where(attention_mask == 1, labels[:, None], -100)
            return Answer(
                logits, functional.cross_entropy(logits.flatten(0, 1), expected.flatten())
            )

    with pytest.raises(ValueError, match="own loss must be the mean over the samples"):
        adapt(Tokens(), batch(), output="loss")


def without(name):
    return {key: tensor for key, tensor in batch().items() if key != name}


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (iter([batch()]), TypeError, "readable more than once, got a list_iterator"),
        (3, TypeError, "a mapping of names to tensors or a re-iterable"),
        ([(torch.ones(2), torch.ones(2))], TypeError, "got a tuple; an Objective takes pairs"),
        (without("labels"), ValueError, "targets 'labels', got attention_mask, input_ids"),
        ({**without("labels"), "label": batch()["labels"]}, ValueError, "did you mean 'label'"),
        ({**batch(), "text": ["a"] * SAMPLES}, TypeError, "got a list under 'text'"),
        ({**batch(), "index": torch.arange(SAMPLES)}, ValueError, "got 'index'; it takes input_"),
        ({**batch(), "input_ids": torch.ones(2, 3)}, ValueError, "one row per sample, got"),
        ({**batch(), "input_ids": torch.tensor(1)}, ValueError, "single number in 'input_ids'"),
    ],
)
def test_data_that_cannot_be_packed_are_refused(data, error, message):
    with pytest.raises(error, match=message):
        adapt(encoder(), data)


def test_answers_without_the_output_and_inputs_not_packed_are_refused():
    for answer, told in (
        (SimpleNamespace(scores=1), "'logits', got a SimpleNamespace with scores"),
        ({"scores": 1}, "got a dict with scores"),
        ((1, 2), "got a tuple with 0, 1"),
    ):

        class Net(nn.Linear):
            def forward(self, x, answer=answer):
                return answer

        net, data = adapt(Net(2, 1), {"x": torch.ones(2, 2), "labels": torch.ones(2)})
        with pytest.raises(ValueError, match=told):
            net(data[0])
    with pytest.raises(ValueError, match="inputs must be packed by adapt"):
        net(torch.ones(2, 2))
    model = encoder()
    model.forward = model.forward
    with pytest.raises(ValueError, match="forward of its class, got another one"):
        adapt(model, batch())


def test_batches_of_other_shapes_than_before_are_refused():
    data = rows(4)
    _, packed = adapt(encoder(), data)
    data[1] = {name: t[:, :5] if t.ndim == 2 else t for name, t in data[1].items()}
    with pytest.raises(ValueError, match=r"same batches whenever they are read.*input_ids \(5,\)"):
        list(packed)
