import dataclasses
import json
import re
import typing

import pytest

from landscape.options import (
    OPTIONS,
    ConsistencyOptions,
    ProfileOptions,
    SpectrumOptions,
    SurfaceOptions,
    TrajectoryOptions,
    asked,
)

EVERY = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


@EVERY
def test_options_have_defaults_and_cannot_be_changed(options):
    made = options()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.samples = 1
    with pytest.raises(TypeError):
        options(1)


@EVERY
def test_every_option_is_described_for_help_and_nothing_else_is(options):
    described = re.findall(r"^\s+(\w+): ", options.__doc__.split("Attributes:")[1], re.MULTILINE)
    assert described == [item.name for item in dataclasses.fields(options)]


@EVERY
def test_options_are_stored_as_json_whole_with_what_was_resolved_in_place(options):
    stored = asked(options(), checkpoint=480)
    assert stored["checkpoint"] == 480
    assert set(stored) == {item.name for item in dataclasses.fields(options)} | {"checkpoint"}
    assert json.loads(json.dumps(stored)) == stored


@EVERY
def test_options_name_no_device_thread_or_path(options):
    names = {item.name for item in dataclasses.fields(options)}
    assert not names & {"device", "threads", "path", "out", "chunk", "again"}


@EVERY
def test_the_defaults_of_options_are_among_what_they_allow(options):
    for name, kind in typing.get_type_hints(options).items():
        if typing.get_origin(kind) is typing.Literal:
            assert getattr(options(), name) in typing.get_args(kind)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (ProfileOptions, {"points": 1}),
        (ProfileOptions, {"repeats": 0}),
        (ProfileOptions, {"samples": -1}),
        (SurfaceOptions, {"points": 0}),
        (SurfaceOptions, {"seed": -1}),
        (SpectrumOptions, {"k": 0}),
        (SpectrumOptions, {"probes": -1}),
        (SpectrumOptions, {"steps": 0}),
        (ConsistencyOptions, {"batches": 1}),
        (ConsistencyOptions, {"window": 1}),
        (ConsistencyOptions, {"burn_in": 0}),
        (TrajectoryOptions, {"samples": -5}),
        (OPTIONS["rise"], {"batches": 1}),
        (OPTIONS["rise"], {"k": -1}),
        (OPTIONS["rise"], {"transfer": -1}),
        (OPTIONS["offset"], {"batches": 0}),
        (OPTIONS["offset"], {"points": 4}),
    ],
)
def test_a_number_below_its_bound_is_refused_by_name_bound_and_value(options, wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"^{name} must be at least -?\d+, got {value}$"):
        options(**wrong)


@pytest.mark.parametrize("radius", [-0.1, float("inf"), float("nan")])
def test_a_matched_radius_is_0_or_a_length(radius):
    with pytest.raises(ValueError, match=f"^radius must be 0 or a number above, got {radius}$"):
        ConsistencyOptions(radius=radius)


def test_the_least_numbers_are_allowed():
    ProfileOptions(points=2, repeats=1, samples=0, seed=0)
    SpectrumOptions(k=1, probes=0, steps=1)
    ConsistencyOptions(batches=2, window=2, batch_size=0)


def test_the_frozen_protocol_draws_from_the_whole_training_set_unless_told():
    assert {OPTIONS[name]().samples for name in ("consistency", "rise", "offset")} == {0}
    assert {OPTIONS[name]().samples for name in ("profile", "surface", "spectrum")} == {2000}


def test_radii_are_numbers_above_zero_by_comma():
    assert OPTIONS["rise"](radii="0.05,1,2.5").lengths() == (0.05, 1.0, 2.5)
    assert OPTIONS["rise"](radii="").lengths() == ()
    for wrong, word in (("0.05,wide", "wide"), ("0,1", "0"), ("1,-2", "-2"), ("inf", "inf")):
        with pytest.raises(ValueError, match=f"radii must be numbers above 0.*got '{word}'"):
            OPTIONS["rise"](radii=wrong)


@pytest.mark.parametrize("wrong", [{"low": 0.2}, {"high": 0.9}, {"high": float("inf")}])
def test_the_line_of_an_offset_holds_both_weights(wrong):
    OPTIONS["offset"](low=0.0, high=1.0)
    with pytest.raises(ValueError, match="low must be 0 or below and high 1 or above"):
        OPTIONS["offset"](**wrong)
