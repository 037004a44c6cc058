import torch
from dense import conv_batchnorm
from torch import nn

from landscape import Objective
from landscape.chunks import draw_chunks


def test_chunks_share_out_all_samples_in_random_order():
    x = torch.arange(50.0)[:, None]
    model = nn.Linear(1, 1)
    objective = Objective(model, nn.MSELoss(), (x, x), batch_size=8)
    chunks, every = draw_chunks(objective, size=12, most=99, seed=0)
    assert len(chunks) == every == 5
    rows = torch.cat([inputs for inputs, _ in chunks]).flatten()
    assert sorted(rows.tolist()) == x.flatten().tolist()
    assert all(torch.equal(inputs, targets) for inputs, targets in chunks)
    assert float(chunks[0][0].max() - chunks[0][0].min()) > 20
    few, every = draw_chunks(objective, size=12, most=2, seed=0)
    assert torch.equal(few[1][0], chunks[1][0])
    assert every == 5
    other, _ = draw_chunks(objective, size=12, most=1, seed=1)
    assert not torch.equal(other[0][0], chunks[0][0])


def test_chunks_with_batch_statistics_are_the_batches():
    model, loss_fn, data = conv_batchnorm()
    objective = Objective(model, loss_fn, data, bn="batch", batch_size=9)
    chunks, every = draw_chunks(objective, size=5, most=99, seed=0)
    assert every == len(objective.batches) == 4
    for inputs, _ in chunks:
        assert sum(torch.equal(inputs, x) for x, _ in objective.batches) == 1


def test_chunks_of_inputs_of_several_shapes_lie_within_a_batch():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 2)

        def forward(self, x):
            return self.layer(x.sum(1, keepdim=True))

    data = [(torch.randn(7, n), torch.zeros(7, dtype=torch.long)) for n in (2, 3)]
    objective = Objective(Sum(), nn.CrossEntropyLoss(), data)
    chunks, every = draw_chunks(objective, size=4, most=3, seed=0)
    assert every == 4
    assert len(chunks) == 3
    assert {len(targets) for _, targets in chunks} <= {3, 4}
