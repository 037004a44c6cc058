"""What is kept of a run of a stated length, and whether it then fits."""

import json
from dataclasses import asdict, replace

import pytest

from landscape.recording import choose_recording
from training.config import settings_group
from training.presets import PRESETS

WRN = {"size": 36_479_194, "tensors": 158, "checkpoint_every": 391}


def choose(asked="auto", **more):
    given = {"size": 1000, "tensors": 4, "total_steps": 100, "checkpoint_every": 10}
    return choose_recording(asked, **given | more)


def kept(recording, steps):
    return [step for step in range(steps) if recording.keeps(step)]


def test_all_vectors_are_kept_where_the_whole_run_fits_and_not_a_byte_below():
    planned = choose().planned_bytes
    assert planned > 100 * (4000 + 4000)  # a vector and a sketch of equal length per step
    fits, tight = choose(budget=planned), choose(budget=planned - 1)
    assert kept(fits, 100) == list(range(100))
    assert kept(tight, 100) == list(range(0, 100, 2))
    assert tight.planned_bytes <= planned - 1


@pytest.mark.parametrize("budget", [20e9, 5e9, 1e12, 20e12])
def test_the_paper_s_run_takes_at_most_its_budget_with_the_smallest_stride_that_does(budget):
    recording = choose_recording("auto", total_steps=78_200, budget=int(budget), **WRN)
    if not recording.every:
        return pytest.fail("no vector was kept") if budget > 1e12 else None
    assert recording.planned_bytes <= budget
    if recording.every > 1:
        denser = choose_recording(f"every:{recording.every - 1}", total_steps=78_200, **WRN)
        assert denser.planned_bytes > budget


def test_what_fits_is_said():
    recording = choose_recording("auto", total_steps=78_200, budget=10**12, **WRN)
    assert "would take 11.4 TB, which does not fit 1 TB; every 12th does" in recording.reason
    assert choose(budget=1000).reason.startswith("no full displacement fits 1 kB")
    assert choose().reason == "all full displacements fit 20 GB; the whole run takes about 870 kB"
    assert choose("every:7", dtype="bfloat16").reason.endswith("are rounded to bfloat16")


def test_a_run_of_unknown_length_keeps_vectors_until_the_budget_is_full():
    recording = choose(total_steps=None, budget=100_000)
    count = len(kept(recording, 100))
    assert 0 < count < 100
    assert kept(recording, 100) == list(range(count))
    assert recording.planned_bytes is None
    assert f"the first {count} steps" in recording.reason


def test_what_is_asked_for_is_done_whatever_the_budget():
    assert kept(choose("full", budget=1), 5) == [0, 1, 2, 3, 4]
    assert kept(choose("every:3", budget=1), 8) == [0, 3, 6]
    assert kept(choose("sketch"), 8) == []
    assert choose(dtype="float16").planned_bytes < choose().planned_bytes
    assert choose(size=100, sketch=4096).sketch == 100


@pytest.mark.parametrize("asked", ["all", "every", "every:0", "every:-2", "every:1.5", ""])
def test_other_policies_are_refused(asked):
    with pytest.raises(ValueError, match="record must be full, sketch, auto or every:K"):
        choose(asked)
    with pytest.raises(ValueError, match="record must be"):
        replace(PRESETS["digits-sam"](), record=asked)


@pytest.mark.parametrize(
    "wrong", [{"dtype": "int8"}, {"budget": 0}, {"sketch": 1}, {"sketch_seed": -1}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"record_\w+ must be"):
        choose(**wrong)


def test_the_decision_is_plain_json_and_how_much_is_recorded_makes_no_other_experiment():
    recording = choose("every:2")
    assert json.loads(json.dumps(recording.to_json())) == asdict(recording)
    config = PRESETS["digits-sam"]()
    assert settings_group(replace(config, record="sketch")) == settings_group(config)
