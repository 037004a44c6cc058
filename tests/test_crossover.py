from dataclasses import replace

import pytest
from direction_samples import frozen as sample
from figure_samples import consistency

from landscape.crossover import crossover, crossover_text

LABELS = ("SAM ρ=0.05", "AACE ρ=0.2", "ASAM ρ=0.5 η=0.01", "VaSSO ρ=0.2 θ=0.9")


def grid():
    """Two runs of one name: a mean cosine tells which cell it is of."""
    return [
        (
            f"run at step {step}",
            [
                sample(0.1 * (row + 1), perturbation=label, mean_cosine=row + column / 10)
                for column, label in enumerate(LABELS)
            ],
        )
        for row, step in enumerate((60, 60))
    ]


def test_every_pair_of_weights_and_perturbation_stands_in_its_cell():
    first, (where, found) = grid()
    online = replace(consistency(), protocol="online", perturbation="SAM ρ=0.05")
    crossed = crossover([first, (where, [*found[:3], online]), ("own", [online])])
    assert crossed["weights"] == ["run at step 60"] * 2
    assert tuple(crossed["perturbations"]) == LABELS
    assert crossed["mean_cosine"] == [[0.0, 0.1, 0.2, 0.3], [1.0, 1.1, 1.2, None]]
    assert crossed["null_high"][0][1] == first[1][1].null_high
    assert crossed["interval_low"][1][2] == found[2].interval_low


def test_one_place_needs_no_table():
    assert crossover(grid()[:1]) is None
    assert crossover([]) is None


@pytest.mark.parametrize("columns", [80, 50])
def test_columns_that_do_not_fit_follow_below(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = crossover_text(crossover(grid()))
    lines = text.splitlines()
    assert max(map(len, lines)) <= max(columns, 64)  # the line that explains it is 64 long
    heads = [line for line in lines if "ρ=" in line]
    assert len(heads) == {80: 2, 50: 4}[columns]
    assert [label for head in heads for label in LABELS if label in head] == list(LABELS)
    (row,) = [i for i, line in enumerate(lines) if line.startswith("run") and "1.000 [" in line]
    result = grid()[1][1][0]
    assert f"1.000 [{result.interval_low:.3f}, {result.interval_high:.3f}]" in lines[row]
    assert f"[{result.null_low:.3f}, {result.null_high:.3f}]" in lines[row + 1]
    assert "not shown" not in text
