from dataclasses import replace

import numpy as np
import pytest
from direction_samples import offset as offset_sample
from direction_samples import rise as rise_sample

from landscape.analyses import ANALYSES
from landscape.direction_reports import offset_table, rise_table
from landscape.options import OPTIONS
from landscape.reports import headline
from landscape.subjects import subjects_of_run
from training.problems import PROBLEMS

RISE = OPTIONS["rise"](batches=3, batch_size=20, k=2, curvature_samples=80)
OFFSET = OPTIONS["offset"](batches=3, batch_size=20, points=7)


@pytest.fixture
def subject(run):
    problem = PROBLEMS[run.problem["name"]](**run.problem["options"])
    return next(subjects_of_run(run, problem, "30"))


def test_a_rise_answers_for_each_perturbation_on_the_batches_of_consistency(subject):
    found = [stored.result for stored in ANALYSES["rise"](subject, RISE)]
    asked = OPTIONS["consistency"](protocol="frozen", batches=3, batch_size=20)
    known = [stored.result for stored in ANALYSES["consistency"](subject, asked)]
    assert [result.perturbation for result in found] == [r.perturbation for r in known]
    for result, other in zip(found, known, strict=True):
        np.testing.assert_allclose(result.norms, other.norms, rtol=1e-5)
        assert result.facts["data_digest"] == other.facts["data_digest"]
        assert result.options["perturbation"] == result.perturbation
        assert "perturbations" not in result.options
        assert (result.step, result.transfer.shape) == (30, (3, 3))
        assert result.places == ("same batch", "another batch", "test batch")
        assert result.facts["curvature_samples"] == 80
        np.testing.assert_allclose(result.radii, [np.nan, 0.05, 1])
    np.testing.assert_array_equal(found[0].eigenvalues, found[1].eigenvalues)
    assert found[0].eigenvalues[0] > found[0].eigenvalues[1]
    assert not np.allclose(found[0].rayleigh, found[1].rayleigh)


def test_a_rise_without_eigenvectors_takes_no_hessian(subject):
    (stored,) = ANALYSES["rise"](subject, replace(RISE, k=0, perturbations="aace", transfer=0))
    assert stored.result.rayleigh.size == stored.result.transfer.size == 0
    assert "matvecs" not in stored.result.facts


def test_an_offset_scans_training_and_test_data_by_its_own_statistics(subject):
    (stored,) = ANALYSES["offset"](subject, replace(OFFSET, perturbations="aace", high=3.0))
    result = stored.result
    assert result.curves == ("training loss", "test loss", "test loss, temperature scaled")
    np.testing.assert_allclose(result.alpha[[0, -1]], [-1, 3])
    assert (result.facts["bn"], result.facts["checkpoint"], result.step) == ("recomputed", 30, 30)
    training = subject.objective(samples=0, seed=0, bn="recomputed")
    test = subject.test_objective(training, samples=0, seed=0)
    for at, over in enumerate((training, test)):
        assert result.loss[at, result.alpha == 0] == pytest.approx(over(), rel=1e-5)


def test_the_run_itself_is_asked_for_by_its_method(subject):
    (stored,) = ANALYSES["offset"](subject, replace(OFFSET, perturbations="aace"))
    assert stored.result.perturbation == "AACE ρ=0.2"
    with pytest.raises(ValueError, match="perturbations must be"):
        ANALYSES["rise"](subject, replace(RISE, perturbations="wide"))


def test_what_is_printed_of_a_rise_are_means_at_the_radius_used():
    result = rise_sample(n=4, k=2)
    told = headline(result)
    assert told["rise on another batch"] == pytest.approx(result.rise[1, 0].mean())
    assert told["rise on same batch"] == pytest.approx(result.rise[0, 0].mean())
    assert told["to first order on same batch"] == pytest.approx(result.first_order[0, 0].mean())
    assert told["share of ε in the top 2"] == pytest.approx((result.alignment**2).sum(1).mean())
    assert told["share of batches that rise"] == 1
    bare = rise_sample(eigenvalues=np.empty(0))
    assert "λ1" not in headline(bare)


def test_what_is_printed_of_an_offset_has_intervals_by_curve():
    result = offset_sample()
    told = headline(result)
    assert told["minimum of the test loss"] == pytest.approx(1.0)
    assert told["minimum low of the test loss"] == pytest.approx(0.95)
    assert told["gain high of the training loss"] == pytest.approx(result.gain_high[0])


def test_the_table_of_a_rise_has_a_row_for_each_place_and_the_curvature_below():
    result = rise_sample(n=4, k=2, rise=np.arange(36).reshape(3, 3, 4) - 1.0)
    lines = rise_table(result).split("\n")
    assert lines[0].split() == "mean rise, nats at ‖ε‖ 0.15 first order at 0.05 at 1".split()
    assert lines[1].split()[:3] == ["same", "batch", "0.5"]
    assert lines[3].split()[-2:] == ["28.5", "32.5"]
    assert lines[4] == "rises on 2 of 4 batches of its own"
    assert lines[5].endswith("λ1 12")
    assert lines[6].startswith("share in the top 2 eigenvectors: ε 0.")
    assert len(rise_table(rise_sample(eigenvalues=np.empty(0))).split("\n")) == 5


def test_the_table_of_an_offset_tells_intervals_and_ends_that_may_lie_beyond():
    lines = offset_table(replace(offset_sample(), minimum=np.array([0.7, -1.0, 2.0]))).split("\n")
    assert lines[0] == "‖mean ε‖ 1.5, ‖w‖ 30"
    assert lines[2::2] == ["training loss", "test loss", "test loss, temperature scaled"]
    assert lines[3].split() == "0.7 0.65 to 0.75 0.008 0.006 to 0.01".split()
    assert [lines[5].split()[:2], lines[7].split()[:2]] == [["≤", "-1"], ["≥", "2"]]
