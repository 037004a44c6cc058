"""Screen figures of curvature: what is drawn is what was measured."""

from dataclasses import replace

import numpy as np
import pytest
from curvature_samples import (
    curvature,
    deflated_density,
    ends_spectrum,
    sharpness,
    stability,
    trace,
)

from landscape import figures
from landscape.figures import interactive, palette
from landscape.figures.alignments import direction_colors, random_cosine
from landscape.figures.screen_sharpness import (
    all_measures,
    interval_text,
    ratio_text,
    setting_text,
    value_text,
)
from landscape.quadrature import log_density


def drawn(figure, name):
    found = [t for t in figure.data if t.name == name]
    assert len(found) == 1, [t.name for t in figure.data]
    return found[0]


def texts(figure) -> list[str]:
    return [note.text for note in figure.layout.annotations]


def plain(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("make", [trace, sharpness, stability, curvature])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_kind_has_a_figure_for_the_screen(make, theme):
    assert figures.plot(make(), theme=theme).data


# through training


def test_the_largest_eigenvalue_is_drawn_at_each_step_and_the_others_under_it():
    result = curvature()
    figure = interactive.plot_curvature(result)
    first = drawn(figure, "SAM")
    assert list(first.x) == list(result.step)
    assert list(first.y) == list(result.eigenvalues[:, 0])
    assert list(first.error_y.array) == list(result.residuals[:, 0])
    assert list(drawn(figure, "λ3").y) == list(result.eigenvalues[:, 2])
    assert [t.name for t in figure.data].index("λ2") < [t.name for t in figure.data].index("SAM")


def test_a_checkpoint_that_did_not_converge_is_hollow_and_says_so():
    result = curvature()
    line = drawn(interactive.plot_curvature(result), "SAM")
    ground = palette.tokens("light").surface
    assert [shade == ground for shade in line.marker.color] == list(~result.converged)
    assert ["not converged" in told for told in line.customdata] == list(~result.converged)


def test_the_edge_is_a_staircase_with_its_formula_and_ends_where_none_is_known():
    result = replace(curvature(), edge_step=[0, 70, 200], edge_level=[38.0, 50.0, np.nan])
    figure = interactive.plot_curvature(result)
    edge = drawn(figure, "edge")
    np.testing.assert_array_equal(edge.x, result.edge_step)
    np.testing.assert_array_equal(edge.y, result.edge_level)
    assert edge.line.shape == "hv"
    assert np.isnan(edge.y).any()
    assert "2 (1 + β) / η" in texts(figure)
    without = interactive.plot_curvature(curvature(edge=False))
    assert "edge" not in [t.name for t in without.data]
    assert texts(without) == []


def test_the_edge_fits_on_the_axis_though_it_is_far_above():
    far = replace(curvature(), edge_level=np.full(9, 4000.0))
    low, high = interactive.plot_curvature(far).layout.yaxis.range
    assert low < np.log10(far.eigenvalues.min())
    assert high > np.log10(4000)


def test_several_runs_share_one_axis_and_show_the_largest_of_each():
    items = [("sgd", 0, curvature()), ("sam", 1, curvature(scale=3.0))]
    figure = interactive.plot_curvature(items)
    assert [t.name for t in figure.data] == ["sgd", "sam"]
    low, high = figure.layout.yaxis.range
    values = np.log10([r.eigenvalues[:, 0] for _, _, r in items])
    assert low < values.min() < values.max() < high
    alone = interactive.plot_curvature(items[:1], limits=(1.0, 100.0))
    assert np.ptp(alone.layout.yaxis.range) == pytest.approx(2 * 1.1)


def test_negative_values_are_on_a_linear_axis_with_their_bars():
    result = curvature()
    figure = interactive.plot_curvature(result, quantity="lowest")
    assert figure.layout.yaxis.type == "linear"
    (line,) = figure.data
    assert list(line.error_y.array) == list(result.lowest_residual)


def test_an_error_above_the_value_does_not_reach_below_0_on_a_log_axis():
    wide = replace(curvature(), trace_error=10 * curvature().trace)
    (line,) = interactive.plot_curvature(wide, quantity="trace").data
    assert (np.asarray(line.y) - np.asarray(line.error_y.arrayminus) > 0).all()
    assert list(line.error_y.array) == list(wide.trace_error)


def test_bars_fit_on_the_axis():
    result = curvature()
    figure = interactive.plot_curvature(result, quantity="trace")
    low, high = figure.layout.yaxis.range
    assert high > np.log10((result.trace + result.trace_error).max())
    assert low < np.log10((result.trace - result.trace_error).min())


def test_the_multiplier_has_its_edge_at_1_on_the_axis():
    small = replace(curvature(), multiplier=np.linspace(0.4, 0.5, 9))
    figure = interactive.plot_curvature(small, quantity="multiplier")
    assert set(drawn(figure, "edge").y) == {1.0}
    assert figure.layout.yaxis.range[1] > 1


def test_what_was_not_measured_is_said():
    bare = replace(curvature(), trace=np.empty(0), trace_error=np.empty(0))
    with pytest.raises(ValueError, match="trace must be measured"):
        interactive.plot_curvature(bare, quantity="trace")
    with pytest.raises(ValueError, match="quantity must be one of"):
        interactive.plot_curvature(bare, quantity="flatness")
    with pytest.raises(ValueError, match="got none"):
        interactive.plot_alignment(replace(bare, alignment=np.empty(0), direction_names=()))
    empty = np.empty((0, 0))
    with pytest.raises(ValueError, match="layer by layer"):
        interactive.plot_layers(replace(bare, layer_trace=empty, layer_error=empty))


# alignment


def test_alignment_is_the_cosine_to_the_first_eigenvector_over_the_band_of_random_ones():
    result = curvature()
    figure = interactive.plot_alignment(result)
    for at, name in enumerate(result.direction_names):
        assert list(drawn(figure, name).y) == list(result.alignment[:, at, 0])
    band = drawn(figure, "null")
    assert max(band.y) == pytest.approx(1.96 / np.sqrt(61706))
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(4000, 400))
    cosines = np.abs(vectors[:, 0]) / np.linalg.norm(vectors, axis=1)
    small = replace(result, facts={"parameters": 400})
    assert np.mean(cosines < random_cosine(small)) == pytest.approx(0.95, abs=0.015)


def test_the_share_in_the_top_space_sums_squares_and_the_quotient_stands_beside_the_top():
    result = curvature()
    share = drawn(interactive.plot_alignment(result, quantity="share"), "sam").y
    np.testing.assert_allclose(share, (result.alignment[:, 1] ** 2).sum(axis=1))
    figure = interactive.plot_alignment(result, quantity="rayleigh")
    assert list(drawn(figure, "aace").y) == list(result.rayleigh[:, 2])
    assert list(drawn(figure, "λ1").y) == list(result.eigenvalues[:, 0])


def test_directions_keep_their_color_and_two_of_a_kind_differ():
    assert direction_colors(["gradient", "sam", "aace"]) == [3, 0, 1]
    twice = direction_colors(["gradient", "SAM ρ=0.05", "SAM ρ=0.1"])
    assert twice[1] == 0
    assert len(set(twice)) == 3


# layers


def test_a_layer_map_is_symmetric_and_marks_what_may_be_0():
    errors = np.full((9, 6), 0.01)
    errors[:, 2] = 100.0
    result = replace(curvature(), layer_error=errors)
    figure = interactive.plot_layers(result)
    field = drawn(figure, "layers")
    assert field.zmin == -field.zmax
    assert np.shape(field.z) == (6, 9)
    assert (np.sign(field.z) == np.sign(result.layer_trace.T)).all()
    assert field.customdata[3, 7, 1] == result.layer_trace[7, 3]
    marked = set(zip(*(drawn(figure, "unsure")[axis] for axis in "xy"), strict=True))
    assert marked == {(checkpoint, 2) for checkpoint in range(9)}
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # the first layer on top
    ends = [at for at, _ in figure.layout.meta["bar"]]
    assert min(ends) >= 0
    assert max(ends) <= 1


def test_layers_of_one_checkpoint_are_divided_by_their_size_where_asked():
    result = trace()
    dots = drawn(interactive.plot_layers(result), "layers")
    assert list(dots.x) == list(result.layer_trace)
    means = drawn(interactive.plot_layers(result, per_parameter=True), "layers")
    np.testing.assert_allclose(means.x, result.layer_trace / result.layer_size)
    np.testing.assert_allclose(means.error_x.array, result.layer_error / result.layer_size)


# trace


def test_probes_their_running_mean_and_the_interval_of_all_are_drawn():
    result = trace()
    figure = interactive.plot_trace(result)
    assert list(drawn(figure, "SAM probes").y) == list(result.samples)
    assert drawn(figure, "SAM mean").y[-1] == pytest.approx(result.trace)
    assert drawn(figure, "SAM mean").y[0] == result.samples[0]
    band = np.array([y for y in drawn(figure, "SAM 95 % interval").y if np.isfinite(y)])
    assert (band.min(), band.max()) == (result.interval_low, result.interval_high)


def test_the_trace_through_training_has_its_intervals_from_0():
    late = replace(trace(), trace=150.0, interval_low=140.0, interval_high=165.0)
    figure = interactive.plot_traces([(60, late), (0, trace())])
    (line,) = figure.data
    assert list(line.x) == [0, 60]
    assert line.error_y.array[1] == 15
    assert line.error_y.arrayminus[1] == 10
    assert figure.layout.yaxis.range[0] == 0


# spectra and densities


def test_negative_and_unconverged_eigenvalues_are_marked_in_a_scree():
    result = ends_spectrum()
    figure = interactive.plot_spectrum(result)
    line = drawn(figure, "SAM")
    err = palette.tokens("light").err
    order = np.argsort(-np.abs(result.eigenvalues), kind="stable")
    assert [shade == err for shade in line.marker.line.color] == list(result.eigenvalues[order] < 0)
    loose = drawn(figure, "SAM not converged")
    assert sorted(loose.y) == sorted(np.abs(result.eigenvalues[~result.within]))
    both = interactive.plot_spectrum([("a", 0, result), ("b", 1, result)])
    assert err not in drawn(both, "b").marker.line.color  # a run keeps its color


def test_a_wider_density_keeps_its_area_and_its_nodes():
    density = deflated_density()
    areas = []
    for width in (1.0, 4.0):
        line = drawn(interactive.plot_density(density, axis="linear", width=width), "density")
        x, y = np.asarray(line.x), np.asarray(line.y)
        areas.append(np.sum((y[1:] + y[:-1]) / 2 * np.diff(x)))
    assert areas[1] == pytest.approx(areas[0], rel=1e-3)
    peaks = [
        np.max(drawn(interactive.plot_density(density, axis="linear", width=w), "density").y)
        for w in (1.0, 4.0)
    ]
    assert peaks[1] < 0.5 * peaks[0]


def test_deflated_outliers_stand_as_stems_where_they_were_found():
    figure = interactive.plot_density(deflated_density())
    stems = drawn(figure, "stems")
    assert sorted(stems.customdata) == sorted(deflated_density().outliers)
    assert set(stems.y) == {1.0}


def test_densities_of_runs_are_on_one_axis_with_a_row_of_ticks_each():
    other = deflated_density(400.0, sigma=0.5)
    items = [("sgd", 0, deflated_density()), ("sam", 1, replace(other, nodes=10 * other.nodes))]
    figure = interactive.plot_densities(items, axis="linear")
    low, high = figure.layout.xaxis.range
    for name, _, density in items:
        ticks = drawn(figure, f"{name} found")
        assert sorted(ticks.x) == sorted(density.outliers)
        assert low < min(density.nodes.min(), *ticks.x)
        assert max(ticks.x) < high
    heights = {drawn(figure, f"{name} found").y[0] for name, *_ in items}
    assert len(heights) == 2
    wide = interactive.plot_densities(items, axis="symlog")
    lines = [drawn(wide, name) for name in ("sgd", "sam")]
    first, second = (np.interp(0.3, line.customdata, line.x) for line in lines)
    assert first == pytest.approx(second, rel=1e-3)  # the same λ at the same place
    with pytest.raises(ValueError, match="axis"):
        interactive.plot_densities(items, axis="log")


def test_a_log_spectrum_shows_both_signs_apart_and_counts_what_it_leaves_out():
    found = {"outliers": np.array([20.0, -3.0]), "outlier_residuals": np.full(2, 1e-3)}
    density = replace(deflated_density(), **found)
    figure = interactive.plot_log_density(density)
    logs = log_density(density)
    np.testing.assert_allclose(drawn(figure, "positive").x, 10**logs.decades)
    shown = np.asarray(drawn(figure, "negative").y)
    middle = logs.negative.mean(axis=0)
    np.testing.assert_allclose(shown[middle > 0], middle[middle > 0])
    assert list(drawn(figure, "negative found").x) == [3.0]
    assert list(drawn(figure, "positive found").x) == [20.0]
    assert figure.layout.meta["below"] == pytest.approx(logs.below.mean())
    wider = interactive.plot_log_density(density, width=2.0)
    assert wider.layout.meta["width"] == pytest.approx(2 * logs.width)


# sharpness


def test_lower_bounds_are_said_and_intervals_only_where_one_is_known():
    table = sharpness()
    assert plain(value_text(table, 0)) == "20.1"
    assert plain(value_text(table, 1)) == "100.0 ± 2.3"
    assert plain(value_text(table, 2)) == "≥ 0.0312"
    assert interval_text(table, 0) == "–"
    assert plain(interval_text(table, 1)) == "95.2 to 104.8"
    unknown = replace(table, value=np.full(6, np.nan))
    assert value_text(unknown, 2) == "–"
    assert (plain(ratio_text(2.9)), ratio_text(np.nan)) == ("× 2.90", "–")


def test_dots_stand_at_values_and_marks_of_the_audit_at_values_after_it():
    table = sharpness()
    figure = interactive.plot_sharpness(table)
    dots = drawn(figure, "SAM")
    assert list(dots.x) == list(table.value)
    assert [bool(text) for text in dots.text] == list(table.lower_bound)
    np.testing.assert_allclose(drawn(figure, "neurons × 2").x, table.value * table.audit[:, 0])
    low, high = figure.layout.xaxis.range
    assert high > np.log10((table.value * table.audit[:, 0]).max())
    assert len(texts(figure)) == 6
    assert not any(word in " ".join(texts(figure)) for word in ("best", "score", "flat"))
    assert low < np.log10(table.value.min())


def test_runs_meet_in_the_row_of_a_measure_whatever_their_settings():
    other = replace(sharpness(2.0), settings=("residual 2e−4", *sharpness().settings[1:]))
    items = [("sgd", 0, sharpness()), ("sam", 1, other)]
    assert len(all_measures(items)) == 6
    assert setting_text(items, ("λmax", 0)) == "residual 1e−3 / residual 2e−4"
    figure = interactive.plot_sharpness(items)
    assert list(drawn(figure, "sgd").y) == list(drawn(figure, "sam").y) == list(range(6))
    fewer = replace(
        other,
        names=other.names[1:],
        settings=other.settings[1:],
        **{
            name: getattr(other, name)[1:]
            for name in (
                "value",
                "standard_error",
                "interval_low",
                "interval_high",
                "lower_bound",
                "audit",
            )
        },
    )
    partial = interactive.plot_sharpness([("sgd", 0, sharpness()), ("sam", 1, fewer)])
    assert list(drawn(partial, "sam").y) == [1, 2, 3, 4, 5]


def test_a_negative_measure_is_hollow_at_its_magnitude_and_0_is_left_out():
    values = sharpness().value.copy()
    values[1], values[4] = -100.0, 0.0
    dots = drawn(interactive.plot_sharpness(replace(sharpness(), value=values)), "SAM")
    assert dots.x[1] == 100
    assert dots.marker.color[1] == palette.tokens("light").surface
    assert np.isnan(dots.x[4])


# stability


def test_multipliers_lie_in_the_complex_plane_with_equal_axes_around_the_unit_circle():
    result = stability()
    figure = interactive.plot_stability(result)
    points = drawn(figure, "SAM")
    assert list(points.x) == list(result.multipliers_real)
    assert list(points.y) == list(result.multipliers_imag)
    circle = drawn(figure, "unit circle")
    np.testing.assert_allclose(np.hypot(circle.x, circle.y), 1)
    assert figure.layout.yaxis.scaleanchor == "x"
    assert figure.layout.xaxis.range == figure.layout.yaxis.range
    assert figure.layout.xaxis.range[1] > 1.04
    assert any("1.040" in text for text in texts(figure))


def test_the_multiplier_that_swings_is_named_and_a_loose_one_is_hollow():
    swing = {"real": -0.4, "imag": 0.0}
    residuals = np.array([2e-4, 2e-4, 2e-4, 2e-4, 2e-4, 5e-2])
    result = replace(stability(), residuals=residuals, facts={"swing": swing})
    figure = interactive.plot_stability(result)
    assert any("swing 0.400" in text for text in texts(figure))
    points = next(t for t in figure.data if t.name != "unit circle")
    ground = palette.tokens("light").surface
    assert [shade == ground for shade in points.marker.color] == [False] * 5 + [True]
