import json
import math

import numpy as np
import pytest
import torch
from dense import classes, conv_batchnorm, mlp, quadratic, symmetric
from torch import nn

from landscape import Objective
from landscape.rescalings import NEURONS, NORMS
from landscape.results import arrays_of
from landscape.sharpness import measure_sharpness

QUICK = {"ascent_steps": 4, "pairs": 4, "probes": 4, "m": 16, "seed": 0}
ADAPTIVE = (
    "adaptive worst case, p = 2",
    "adaptive worst case, p = ∞",
    "adaptive average case",
    "Fisher–Rao norm",
)


class Memory:
    """A savepoint that is always due, and keeps what it was given."""

    def __init__(self):
        self.states, self.state = [], None

    def load(self):
        return self.state

    def due(self):
        return True

    def save(self, state):
        self.state = {name: np.array(value) for name, value in state.items()}
        self.states.append(self.state)


def rectifiers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    return Objective(model, nn.CrossEntropyLoss(), classes(33, (4,), 3))


def normed(**options):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    ).double()
    data = classes(40, (1, 6, 6), 3)
    model(data[0])
    return Objective(model.eval(), nn.CrossEntropyLoss(), data, batch_size=20, **options)


def ratios(objective, change):
    found = measure_sharpness(objective, **{**QUICK, "pairs": 16, "probes": 20})
    column = found.audit[:, found.audit_names.index(change)]
    return dict(zip(found.names, column, strict=True))


def interrupting(at):
    """Progress that stops like Ctrl-C at the first report of a row."""

    def progress(done, total, note):
        if note.startswith(at):
            raise KeyboardInterrupt

    return progress


def same(a, b):
    """All but what depends on the memory at hand."""
    return (a.settings, a.facts["audit"]) == (b.settings, b.facts["audit"]) and all(
        np.array_equal(x, y, equal_nan=True)
        for x, y in zip(arrays_of(a).values(), arrays_of(b).values(), strict=True)
    )


def test_the_table_of_a_quadratic_is_what_is_known_of_it():
    matrix = symmetric(6) @ symmetric(6)
    found = measure_sharpness(quadratic(matrix), rho=0.2, seed=0)
    value = dict(zip(found.names, found.value, strict=True))
    largest = np.linalg.eigvalsh(matrix)[-1]
    assert value["λmax"] == pytest.approx(largest)
    assert value["SAM sharpness, n steps"] == pytest.approx(0.2**2 * largest / 2)
    assert value["m-sharpness"] == pytest.approx(0.2**2 * largest / 2)
    assert value["SAM sharpness, 1 step"] == value["adaptive average case"] == 0
    estimates = ["trace", "average case, Gaussian", "average case, sphere"]
    half = np.trace(matrix) / 2
    for name, truth in zip(estimates, [2 * half, 0.005**2 * half, 0.2**2 * half / 6], strict=True):
        row = found.names.index(name)
        assert abs(found.value[row] - truth) < 3 * found.standard_error[row]
        assert found.interval_low[row] < found.value[row] < found.interval_high[row]
    bounds = {name for name, bound in zip(found.names, found.lower_bound, strict=True) if bound}
    assert bounds == {n for n in found.names if "SAM" in n or "worst" in n or n == "m-sharpness"}
    assert found.loss == 0
    assert math.isnan(found.mean_probability)


def test_facts_say_how_it_was_measured():
    objective = rectifiers()
    found = measure_sharpness(objective, **QUICK, rho=0.07)
    assert found.facts["rho"] == 0.07
    assert found.facts["bn"] == "frozen"
    assert found.facts["operator"] == "Hessian of the mean loss"
    assert found.facts["data_digest"] == objective.facts["data_digest"]
    assert "interrupted" not in found.facts
    assert found.facts["audit"]["samples"] == 11
    assert found.loss == objective()
    assert len(found.settings) == len(found.names)
    assert all(found.settings)


def test_only_adaptive_measures_stay_when_neurons_are_rescaled():
    ratio = ratios(rectifiers(), NEURONS)
    for name in ADAPTIVE:
        assert ratio.pop(name) == pytest.approx(1, rel=1e-9)
    assert abs(math.log(ratio["λmax"])) > 0.5
    moved = [abs(math.log(r)) for r in ratio.values() if not math.isnan(r)]
    assert len(moved) >= 5
    assert min(moved) > 0.2


@pytest.mark.parametrize("bn", ["frozen", "batch"])
def test_only_adaptive_measures_stay_when_weights_before_a_norm_are_halved(bn):
    ratio = ratios(normed(bn=bn), NORMS)
    for name in ADAPTIVE:
        assert ratio[name] == pytest.approx(1, rel=1e-9 if bn == "frozen" else 1e-2)
    assert abs(ratio["λmax"] - 1) > 0.02


def test_a_scale_invariant_net_is_as_sharp_as_its_scale_says():
    found = []
    for scale in (1, 3):
        torch.manual_seed(0)
        norm = nn.BatchNorm1d(3, eps=1e-14, affine=False)
        model = nn.Sequential(nn.Linear(4, 3, bias=False), norm).double()
        with torch.no_grad():
            model[0].weight.mul_(scale)
        objective = Objective(model, nn.CrossEntropyLoss(), classes(33, (4,), 3), bn="batch")
        made = measure_sharpness(objective, **QUICK, audit=False)
        found.append(dict(zip(made.names, made.value, strict=True)))
    once, thrice = found
    assert thrice["λmax"] == pytest.approx(once["λmax"] / 9, rel=1e-9)
    assert thrice["trace"] == pytest.approx(once["trace"] / 9, rel=1e-9)
    for name in ADAPTIVE[:-1]:
        assert thrice[name] == pytest.approx(once[name], rel=1e-6)
    assert once["Fisher–Rao norm"] == pytest.approx(0, abs=1e-20)


def test_a_change_that_does_not_apply_leaves_nan_and_the_reason():
    found = measure_sharpness(Objective(*conv_batchnorm()), **QUICK)
    neurons, norms = (found.audit_names.index(name) for name in (NEURONS, NORMS))
    assert np.isnan(found.audit[:, neurons]).all()
    assert not np.isnan(found.audit[:, norms]).all()
    assert found.facts["audit"][NEURONS].startswith("no layer that one other reads")
    nothing = measure_sharpness(Objective(*mlp()), **QUICK)
    assert np.isnan(nothing.audit).all()


def test_without_an_audit_there_is_none():
    found = measure_sharpness(rectifiers(), **QUICK, audit=False)
    assert found.audit_names == ()
    assert found.audit.size == 0
    with_audit = measure_sharpness(rectifiers(), **QUICK)
    np.testing.assert_array_equal(found.value, with_audit.value)


def test_a_measure_that_is_not_told_from_zero_has_no_ratio_unless_it_is_one():
    memory = Memory()
    found = measure_sharpness(rectifiers(), **QUICK, savepoint=memory)
    rows = json.loads(memory.state["sharpness"].tobytes())["rows"]
    unsure = []
    for name, ratio in zip(found.names, found.audit[:, 0], strict=True):
        before, after = rows["before"][name], rows[NEURONS][name]
        expected = after["value"] / before["value"]
        if any(row["low"] <= 0 <= row["high"] for row in (before, after)):
            unsure.append(name)
            expected = expected if abs(expected - 1) < 1e-9 else math.nan
        np.testing.assert_equal(ratio, expected)
    assert {"trace", "adaptive average case"} <= set(unsure)


def test_the_seed_gives_the_table_and_another_another():
    objective = rectifiers()
    first, again = (measure_sharpness(objective, **QUICK) for _ in range(2))
    other = measure_sharpness(objective, **{**QUICK, "seed": 1})
    assert same(first, again)
    trace = first.names.index("trace")
    assert other.value[trace] != first.value[trace]


def test_the_objective_is_left_as_it_was():
    objective = normed()
    theta, loss = objective.theta.clone(), objective()
    measure_sharpness(objective, **QUICK)
    assert torch.equal(objective.theta, theta)
    assert objective() == loss


def test_weights_and_statistics_are_those_the_objective_stands_at():
    objective = normed()
    own = {name: b.clone() for name, b in objective.model.named_buffers()}
    own["1.running_mean"] += 0.5
    moved = objective.at(objective.theta * 1.1, own)
    found = measure_sharpness(moved, **QUICK)
    assert found.loss == moved() != objective()
    model = normed().model
    nn.utils.vector_to_parameters(objective.theta * 1.1, model.parameters())
    model.load_state_dict(own, strict=False)
    fresh = Objective(model, nn.CrossEntropyLoss(), objective.batches)
    same_place = measure_sharpness(fresh, **QUICK)
    np.testing.assert_allclose(found.value, same_place.value, rtol=1e-6)
    np.testing.assert_allclose(found.audit, same_place.audit, rtol=1e-6)


def test_progress_names_the_row_and_its_total_is_known_before():
    told = []
    measure_sharpness(rectifiers(), **QUICK, progress=lambda *said: told.append(said))
    assert len({total for _, total, _ in told}) == 1
    done = [done for done, _, _ in told]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, told[0][1])
    notes = [note for _, _, note in told]
    assert notes[0] == "λmax"
    assert any(note.startswith("SAM sharpness, n steps ≥ 0.0") for note in notes)
    assert any(note.startswith(f"audit, {NEURONS}: trace") for note in notes)


@pytest.mark.parametrize("at", ["trace", "m-sharpness", "audit, before: λmax", f"audit, {NEURONS}"])
def test_ctrl_c_leaves_the_rows_known_and_the_rest_is_measured_later(at):
    objective = rectifiers()
    undisturbed = measure_sharpness(objective, **QUICK)
    memory = Memory()
    cut = measure_sharpness(objective, **QUICK, savepoint=memory, progress=interrupting(at))
    assert cut.facts["interrupted"] is True
    row = cut.names.index(at) if at in cut.names else len(cut.names)
    np.testing.assert_array_equal(cut.value[:row], undisturbed.value[:row])
    assert np.isnan(cut.value[row:]).all()
    assert np.isnan(cut.audit).all()
    told = []
    resumed = measure_sharpness(
        objective, **QUICK, savepoint=memory, progress=lambda *said: told.append(said[2])
    )
    assert told[0].startswith(at)
    assert same(resumed, undisturbed)


def test_ctrl_c_within_a_row_leaves_what_that_row_is_worth():
    objective = rectifiers()
    undisturbed = measure_sharpness(objective, **QUICK)
    memory, told = Memory(), []

    def progress(done, total, note):
        told.append(note)
        if sum(note.startswith("trace") for note in told) == 4:
            raise KeyboardInterrupt

    cut = measure_sharpness(objective, **QUICK, savepoint=memory, progress=progress)
    trace = cut.names.index("trace")
    assert cut.settings[trace] == "2 probes"
    assert np.isfinite(cut.value[: trace + 1]).all()
    assert np.isnan(cut.value[trace + 1 :]).all()
    again = []
    resumed = measure_sharpness(
        objective, **QUICK, savepoint=memory, progress=lambda *said: again.append(said[2])
    )
    assert same(resumed, undisturbed)
    assert sum(note.startswith("trace") for note in again) == 2 + 2  # begun, two probes, ended


def test_any_state_that_was_saved_leads_to_the_same_table():
    objective = rectifiers()
    memory = Memory()
    undisturbed = measure_sharpness(objective, **QUICK, savepoint=memory)
    for state in memory.states[::5]:
        again = Memory()
        again.state = state
        assert same(measure_sharpness(objective, **QUICK, savepoint=again), undisturbed)


def test_a_half_measured_side_of_the_audit_is_measured_anew():
    objective = rectifiers()
    memory = Memory()
    undisturbed = measure_sharpness(objective, **QUICK, savepoint=memory)
    for state in memory.states:
        known = json.loads(state["sharpness"].tobytes())
        if "trace" in known["rows"].get("before", {}):
            break
    known["rows"]["before"]["λmax"] |= {"value": 1e9, "low": 1e9, "high": 1e9}
    tampered = np.frombuffer(json.dumps(known).encode(), np.uint8)
    memory.state = {**state, "sharpness": tampered}
    assert same(measure_sharpness(objective, **QUICK, savepoint=memory), undisturbed)


def test_a_state_of_another_question_is_not_taken_up():
    objective = rectifiers()
    memory = Memory()
    measure_sharpness(objective, **QUICK, savepoint=memory)
    other = measure_sharpness(objective, **QUICK, rho=0.1, savepoint=memory)
    assert same(other, measure_sharpness(objective, **QUICK, rho=0.1))


def test_ctrl_c_before_the_first_row_is_passed_on():
    with pytest.raises(KeyboardInterrupt):
        measure_sharpness(rectifiers(), **QUICK, progress=interrupting("λmax"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rho": 0.0}, "rho must be a number above 0"),
        ({"average_rho": math.nan}, "average_rho must be a number above 0"),
        ({"adaptive_rho": -1.0}, "adaptive_rho must be"),
        ({"adaptive_box": math.inf}, "adaptive_box must be"),
        ({"tolerance": 0.0}, "tolerance must be"),
        ({"ascent_steps": 0}, "ascent_steps must be at least 1"),
        ({"pairs": 1}, "pairs must be at least 2"),
        ({"m": 0}, "m must be at least 1"),
        ({"chunks": 0}, "chunks must be at least 1"),
        ({"probes": 1}, "probes must be at least 2"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        measure_sharpness(rectifiers(), **{**QUICK, **wrong})


def test_statistics_recomputed_everywhere_have_no_sharpness():
    with pytest.raises(ValueError, match="no derivatives"):
        measure_sharpness(normed(bn="recomputed"), **QUICK)
