import json
import math
import subprocess
import sys
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from figure_samples import (
    FACTS,
    barrier,
    consistency,
    curve,
    density,
    joint_surface,
    line_profile,
    profile,
    spectrum,
    steps,
    surface,
    trajectory,
)

from landscape import figures
from landscape.figures import interactive, palette
from landscape.figures.captions import caption, facts_rows
from landscape.figures.contours import cut, levels_of, lines_at, place_labels
from landscape.figures.densities import density_curve
from landscape.figures.fields import field_of, refine, sample, scale_and_limits
from landscape.figures.numbers import count, number, percent, short
from landscape.figures.scales import (
    SignedLog,
    choose_scale,
    color_bar,
    lr_drops,
    nice_ticks,
    one_two_five,
    shared_limits,
    spread,
    thin_out,
)
from landscape.figures.summaries import consecutive_null, null_envelope, off_diagonal, profile_curve
from landscape.results import Surface


def plain(text: str) -> str:
    """The text with ordinary spaces for thin and no-break ones."""
    return " ".join(text.split())


def trace(figure, name):
    found = [t for t in figure.data if t.name == name]
    assert len(found) == 1, [t.name for t in figure.data]
    return found[0]


# -- one place that transposes; states of cells ----------------------------------------------


def test_alpha_runs_along_x_in_every_layer_of_the_contour_map():
    result = surface(holes=False)
    figure = interactive.plot_surface(result)
    measured, field = trace(figure, "measured"), trace(figure, "field")
    assert list(measured.x) == list(result.alpha)
    assert list(measured.y) == list(result.beta)
    assert measured.customdata[1, 7, 0] == result.loss[7, 1]
    row, column = (
        np.argmin(abs(field.y - result.beta[1])),
        np.argmin(abs(field.x - result.alpha[7])),
    )
    assert field.z[row, column] == pytest.approx(math.log10(result.loss[7, 1]), abs=0.05)
    assert figure.layout.xaxis.title.text == "first"
    assert figure.layout.yaxis.title.text == "second"


def test_surface_in_3d_has_rows_along_y_and_hover_data_transposed_for_plotly():
    result = surface()
    drawn = trace(interactive.plot_surface(result, view="3d"), "surface")
    assert drawn.z.shape == (6, 9)
    assert drawn.z[1, 7] == pytest.approx(math.log10(result.loss[7, 1]))
    assert drawn.customdata[7, 1, 0] == result.loss[7, 1]
    assert drawn.customdata[7, 1, 1] == result.accuracy[7, 1]


def test_nothing_is_drawn_inside_a_missing_or_diverged_cell():
    result = surface()
    figure = interactive.plot_surface(result)
    field, half = trace(figure, "field"), 0.5 * np.diff(result.alpha)[0]
    for i, j in ((2, 4), (6, 1)):
        inside_x = abs(field.x - result.alpha[i]) < half
        inside_y = abs(field.y - result.beta[j]) < 0.5 * np.diff(result.beta)[0]
        assert np.isnan(field.z[np.ix_(inside_y, inside_x)]).all()
        assert inside_x.any()
        assert inside_y.any()
    assert np.isfinite(field.z).mean() > 0.9
    assert np.isnan(trace(figure, "measured").z[4, 2])


def test_diverged_cells_are_marked_and_missing_ones_are_left_to_the_hatch():
    figure = interactive.plot_surface(surface())
    mask = trace(figure, "diverged").z
    assert np.argwhere(mask == 1).tolist() == [[4, 2]]
    crosses = trace(figure, "crosses")
    assert (crosses.x[0], crosses.y[0]) == (surface().alpha[2], surface().beta[4])
    assert figure.layout.images[0].layer == "below"
    assert figure.layout.meta["diverged"] == figure.layout.meta["missing"] == 1
    assert figure.layout.meta["evaluated"] == 9 * 6 - 2


def test_three_d_surface_has_holes_where_the_loss_is_not_finite():
    drawn = trace(interactive.plot_surface(surface(), view="3d"), "surface")
    assert np.isnan(drawn.z[4, 2])
    assert np.isnan(drawn.z[1, 6])
    assert np.isnan(drawn.z).sum() == 2


def test_refinement_is_bilinear_and_bounded():
    result = surface(holes=False)
    field = field_of(result, scale="linear")
    plane = Surface(
        **{**vars(result), "loss": np.add.outer(2 * result.alpha, 3 * result.beta) + 9.0}
    )
    x, y, height = refine(field_of(plane, scale="linear"))
    assert np.allclose(height, 2 * x[None, :] + 3 * y[:, None] + 9.0)
    assert max(height.shape) <= 200
    assert refine(field_of(surface(150, 150), scale="linear"))[2].shape == (150, 150)
    assert refine(field, sides=400)[2].shape[1] > height.shape[1]


def test_sampling_a_surface_is_bilinear_and_missing_outside_and_beside_holes():
    result = surface()
    field = field_of(result, scale="linear")
    between = (result.alpha[3] + result.alpha[4]) / 2
    expected = (result.loss[3, 2] + result.loss[4, 2]) / 2
    points = np.array([[between, result.beta[2]], [9.0, 0.0], [result.alpha[2] + 0.01, 0.6]])
    values = sample(field, points)
    assert values[0] == pytest.approx(expected)
    assert np.isnan(values[1:]).all()
    assert sample(field, np.array([[result.alpha[-1], result.beta[-1]]]))[0] == result.loss[-1, -1]


def test_a_loss_of_zero_is_drawn_on_a_log_scale_and_a_negative_one_linearly():
    result = surface(holes=False)
    zero = Surface(**{**vars(result), "loss": result.loss - result.loss.min()})
    field = field_of(zero)
    assert field.scale == "log"
    assert np.isfinite(field.height).all()
    negative = Surface(**{**vars(result), "loss": result.loss - 1.0})
    assert field_of(negative).scale == "linear"
    with pytest.raises(ValueError, match="log scale needs values of at least 0"):
        interactive.plot_surface(negative, scale="log")


def test_accuracy_that_was_not_measured_is_refused():
    result = surface()
    without = Surface(**{**vars(result), "accuracy": np.full((9, 6), np.nan)})
    with pytest.raises(ValueError, match="accuracy must be measured"):
        interactive.plot_surface(without, quantity="accuracy")
    drawn = interactive.plot_surface(result, quantity="accuracy")
    assert trace(drawn, "measured").z[1, 7] == result.accuracy[7, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view": "4d"}, "view must be"),
        ({"theme": "sepia"}, "theme must be"),
        ({"quantity": "error"}, "quantity must be"),
        ({"scale": "sqrt"}, "scale must be"),
        ({"limits": (1.0, 0.1)}, "limits must rise"),
        ({"limits": (0.0, 1.0)}, "limits must rise above 0"),
    ],
)
def test_wrong_options_of_a_surface_say_what_must_hold(options, message):
    with pytest.raises(ValueError, match=message):
        interactive.plot_surface(surface(), **options)


# -- scales -----------------------------------------------------------------------------------


def test_compared_surfaces_share_their_limits():
    low, high = surface(), surface()
    high = Surface(**{**vars(high), "loss": 10 * high.loss})
    scale, limits = scale_and_limits([low, high])
    drawn = [
        trace(interactive.plot_surface(s, scale=scale, limits=limits), "field") for s in (low, high)
    ]
    assert {(t.zmin, t.zmax) for t in drawn} == {(math.log10(limits[0]), math.log10(limits[1]))}
    finite = low.loss[np.isfinite(low.loss)]
    assert limits == (finite.min(), 10 * finite.max())


def test_limits_clip_a_lone_spike_and_say_so():
    loss = surface(21, 21, holes=False).loss.copy()
    loss[0, 0] = 1e6
    low, high = shared_limits([loss], "log")
    assert high == 5.0
    assert low == loss.min()
    spiked = Surface(
        **{**vars(surface(21, 21)), "loss": loss, "evaluated": np.ones((21, 21), bool)}
    )
    meta = interactive.plot_surface(spiked).layout.meta
    assert meta["header"] == "log scale, clipped 0.0528 – 5"
    assert meta["bar"][-1][1] == "≥5"


def test_limits_of_constant_empty_and_wildly_ranging_values_are_usable():
    assert shared_limits([np.full(4, np.nan)], "linear") == (0.0, 1.0)
    low, high = shared_limits([np.full(4, 2.0)], "log")
    assert low < 2 < high
    low, high = shared_limits([np.array([1e-30, 1.0, 2.0])], "log")
    assert low == pytest.approx(2e-6)
    assert choose_scale(None, [np.zeros(3)]) == "linear"


def test_levels_are_one_two_five_and_ticks_are_round():
    assert one_two_five(0.012, 4).tolist() == [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]
    assert nice_ticks(-1, 1).tolist() == [-1, -0.5, 0, 0.5, 1]
    for low, high in ((-4.9, 4.9), (0.013, 0.0131), (-7.2, 0.4), (3, 1000)):
        assert len(nice_ticks(low, high)) >= 3
    assert [label for _, label in color_bar((0.01, 1), "log")] == [
        *("0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"),
    ]


def test_signed_log_inverts_and_is_linear_at_zero():
    scale = SignedLog(0.1)
    values = np.array([-30.0, -0.01, 0.0, 1e-4, 5.0])
    assert np.allclose(scale.inverse(scale.forward(values)), values)
    assert scale.forward(1e-6) / scale.forward(5e-7) == pytest.approx(2, rel=1e-4)
    assert 0.0 in scale.ticks(-1, 30)


def test_labels_are_spread_inside_the_axis_and_keep_their_order():
    places = spread([0.5, 0.51, 0.52, 1.0], 0.2, 0.0, 1.0)
    assert np.all(np.diff(places) >= 0.2 - 1e-12)
    assert min(places) >= 0
    assert max(places) <= 1


def test_a_thinned_curve_keeps_extremes_and_gaps():
    x = np.arange(10_000.0)
    y = np.sin(x / 500)
    y[1234], y[5000], y[7777] = 50.0, -50.0, np.nan
    short_x, short_y = thin_out(x, y)
    assert len(short_x) <= 2000
    assert {1234.0, 5000.0} <= set(short_x)
    assert np.isnan(short_y[short_x == 7777.0]).all()
    assert (np.nanmax(short_y), np.nanmin(short_y)) == (50, -50)


def test_drops_of_the_learning_rate_are_found_and_a_smooth_decay_is_none():
    at = np.arange(100.0)
    assert lr_drops(at, np.where(at < 30, 0.1, np.where(at < 60, 0.02, 0.004))) == [
        (30.0, 0.02),
        (60.0, 0.004),
    ]
    assert lr_drops(at, 0.05 * (1 + np.cos(at / 100 * np.pi))) == []


# -- contours and path ------------------------------------------------------------------------


def test_contour_lines_lie_on_their_level():
    result = surface(41, 31, holes=False)
    field = field_of(result)
    for level, lines in zip([0.2, 1.0], lines_at(field, np.array([0.2, 1.0])), strict=True):
        x, y = np.concatenate(lines).T
        true = 0.05 + x**2 + 2 * y**2 + 0.1 * x
        assert np.allclose(true, level, rtol=0.03)


def test_contour_lines_never_cross_a_cell_with_a_missing_corner():
    result = surface(21, 21, holes=False)
    loss = result.loss.copy()
    loss[12, 10] = np.nan
    field = field_of(Surface(**{**vars(result), "loss": loss}))
    x0, x1 = result.alpha[11], result.alpha[13]
    y0, y1 = result.beta[9], result.beta[11]
    _, labeled = levels_of(field)
    points = np.concatenate([line for level in lines_at(field, labeled) for line in level])
    middle = (points[1:] + points[:-1]) / 2
    inside = (middle[:, 0] > x0) & (middle[:, 0] < x1) & (middle[:, 1] > y0) & (middle[:, 1] < y1)
    step = np.hypot(*(points[1:] - points[:-1]).T)
    assert not inside[step < 0.15].any()


def test_labels_stand_on_their_line_away_from_the_path_and_each_other():
    result = surface(41, 31, holes=False)
    field = field_of(result)
    _, labeled = levels_of(field)
    lines = lines_at(field, labeled)
    placed = place_labels(field, labeled, lines, away_from=[result.path_position])
    assert len(placed) >= 2
    assert len({label.level for label in placed}) == len(placed)
    places = np.array([[label.x, label.y] for label in placed])
    for label, place in zip(placed, places, strict=True):
        own = np.concatenate(lines[list(labeled).index(label.level)])
        assert np.hypot(*(own - place).T).min() < 0.03
        assert np.hypot(*(result.path_position - place).T).min() > 0.05
        assert abs(label.angle) <= 90
    gaps = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    assert gaps[~np.eye(len(gaps), dtype=bool)].min() > 0.1


def test_labels_keep_off_a_path_that_runs_where_they_would_stand():
    result = surface(41, 31, holes=False)
    field = field_of(result)
    _, labeled = levels_of(field)
    lowest = np.array([-0.05, 0.0])
    along = np.array([0.83, 0.55])
    path = np.array([lowest - 0.9 * along, lowest + 1.6 * along])
    placed = place_labels(field, labeled, lines_at(field, labeled), away_from=[path])
    assert placed
    for label in placed:
        away = np.array([label.x, label.y]) - lowest
        assert abs(away @ [-along[1], along[0]]) > 0.05 * 2.5 * np.hypot(*along) - 0.02


def test_a_line_is_cut_around_its_label():
    line = np.stack([np.linspace(0, 1, 11), np.zeros(11)], axis=1)
    label = place_labels(
        field_of(surface(41, 31)), np.array([1.0]), lines_at(field_of(surface(41, 31)), [1.0])
    )[0]
    here = type(label)(x=0.5, y=0.0, angle=0.0, level=1.0, text="1")
    left, right = cut(line, [here], 0.2)
    assert left[-1, 0] <= 0.3
    assert right[0, 0] >= 0.7
    assert cut(line, [], 0.2)[0] is line


def test_the_path_is_dashed_where_the_measured_loss_is_far_above_the_surface():
    figure = interactive.plot_surface(surface(41, 31, holes=False))
    dashed = trace(figure, "path above surface")
    assert dashed.line.dash != "solid"
    position = surface().path_position
    drawn = np.stack([dashed.x, dashed.y], axis=1)
    assert np.allclose(drawn, position[1:5])
    assert trace(figure, "path").line.dash == "solid"


def test_path_points_fade_with_distance_from_the_plane_and_hover_gives_what_was_measured():
    result = surface()
    points = trace(interactive.plot_surface(result, color=1), "points")
    run = palette.run_color(1).light
    assert points.marker.color[0] == run
    assert points.marker.color[3] == "#FFFFFF"
    assert np.allclose(points.customdata[:, 1], result.path_loss)
    assert np.allclose(points.customdata[:, 3], result.path_off_plane)


def test_a_surface_without_a_path_is_drawn_without_one():
    names = {t.name for t in interactive.plot_surface(surface(path=False)).data}
    assert "points" not in names
    with pytest.raises(ValueError, match="must hold a run's checkpoints"):
        interactive.plot_path_loss(surface(path=False))


def test_the_3d_path_runs_at_its_measured_loss():
    result = surface(41, 31, holes=False)
    figure = interactive.plot_surface(result, view="3d")
    path = trace(figure, "path")
    assert np.allclose(path.z, np.log10(result.path_loss), atol=0.06)
    assert len(trace(figure, "stems").x) == 3 * 6 - 1


def test_the_selected_checkpoint_is_ringed():
    ring = [
        t for t in interactive.plot_surface(surface(), selected=41).data if t.name == "selected"
    ]
    assert [(t.x[0], t.y[0]) for t in ring] == [tuple(surface().path_position[2])] * 2


def test_loss_along_the_path_shows_measured_and_surface_below():
    result = surface(41, 31, holes=False)
    figure = interactive.plot_path_loss(result)
    assert np.allclose(trace(figure, "measured loss").y, result.path_loss)
    ratio = trace(figure, "measured loss").y / trace(figure, "surface below").y
    assert np.allclose(ratio, [1, 1, 3, 3, 1, 1], rtol=0.02)
    assert trace(figure, "surface below").line.dash == "2px,3px"
    distance = interactive.plot_path_distance(result)
    assert np.allclose(trace(distance, "out of the plane").y, result.path_off_plane)


# -- curves -----------------------------------------------------------------------------------


def test_a_profile_shows_the_rise_of_the_median_between_lowest_and_highest_repeat():
    figure = interactive.plot_profile(profile())
    middle = trace(figure, "SAM+AACE")
    assert np.allclose(middle.y, 2 * profile().alpha ** 2)
    assert np.allclose(middle.customdata, np.outer(profile().alpha ** 2, [1, 4]))
    assert middle.y[5] == 0


def test_a_diverged_repeat_leaves_a_gap_and_a_cross():
    figure = interactive.plot_profile(profile(diverged=True))
    assert np.isnan(trace(figure, "SAM+AACE").y[0])
    assert trace(figure, "diverged").x.tolist() == [-1.0]
    assert np.isnan(profile_curve(profile(diverged=True)).low[0])


def test_compared_profiles_are_named_at_their_ends():
    items = [("SGD", 2, profile(3)), ("SAM", 0, profile(1))]
    figure = interactive.plot_profile(items)
    texts = " ".join(note.text for note in figure.layout.annotations)
    assert "SGD" in texts
    assert "SAM" in texts
    assert trace(figure, "SGD").line.color == palette.run_color(2).light


def test_training_curves_are_raw_and_show_the_drops():
    columns = steps()
    figure = interactive.plot_steps([("a", 0, columns), ("b", 1, columns)])
    assert np.array_equal(trace(figure, "a").y, columns["loss"])
    assert trace(figure, "lr drops").x[0] == 40
    assert figure.layout.yaxis.type == "log"
    assert interactive.plot_steps(columns, column="accuracy").layout.yaxis.type == "linear"
    with pytest.raises(ValueError, match="must have column 'losss'"):
        interactive.plot_steps(columns, column="losss")


def test_test_evaluations_are_dotted_over_the_training_curve():
    tested = {"step": np.array([0.0, 59.0]), "test_loss": np.array([2.0, 0.4])}
    figure = interactive.plot_steps([("a", 0, steps())], evaluations=[("a", 0, tested)])
    assert trace(figure, "a test").y.tolist() == [2.0, 0.4]


def test_a_sparkline_is_well_formed_and_on_the_shared_scale():
    svg = interactive.sparkline(steps()["loss"], limits=(0.01, 10), progress=0.5, color=1)
    root = ET.fromstring(svg)
    points = root[0].get("points").split()
    x = [float(p.split(",")[0]) for p in points]
    assert max(x) <= 3 + 0.5 * 88 + 0.1
    assert root[0].get("stroke") == palette.run_color(1).light
    assert len(ET.fromstring(interactive.sparkline(np.full(3, np.nan)))) == 0


# -- spectra ----------------------------------------------------------------------------------


def test_the_scree_tells_positive_from_negative_and_shows_residuals():
    drawn = trace(interactive.plot_spectrum(spectrum(), color=1), "SAM+AACE")
    assert drawn.y.tolist() == [20, 10, 6, 4]
    assert drawn.customdata[:, 0].tolist() == [20, 10, -6, 4]
    run, ground = palette.run_color(1).light, palette.LIGHT.surface
    assert list(drawn.marker.color) == [run, run, ground, run]
    assert drawn.error_y.array.tolist() == [1e-3] * 4


def test_a_density_counts_eigenvalues_and_found_ones_leave_it_for_stems():
    whole = density_curve(density())
    area = np.trapezoid(whole.middle, whole.x)
    assert area == pytest.approx(1000, rel=1e-3)
    rest = density_curve(density(), spectrum())
    assert np.trapezoid(rest.middle, rest.x) == pytest.approx(996, rel=1e-3)
    assert rest.stems.tolist() == sorted(spectrum().eigenvalues)
    assert rest.middle[np.argmin(abs(rest.x - 20))] < 1e-6


def test_stems_have_height_one_and_hover_gives_the_eigenvalue():
    figure = interactive.plot_density(density(), spectrum())
    stems = trace(figure, "stems")
    assert stems.y.tolist() == [1.0] * 4
    assert stems.customdata.tolist() == [-6, 4, 10, 20]
    scale = density_curve(density(), spectrum()).signed_log
    assert np.allclose(scale.inverse(stems.x), stems.customdata)
    linear = interactive.plot_density(density(), spectrum(), axis="linear")
    assert trace(linear, "stems").x.tolist() == [-6, 4, 10, 20]
    assert "bulk" in {t.name for t in figure.data}
    assert "bulk" not in {t.name for t in linear.data}


def test_a_density_without_width_is_refused():
    with pytest.raises(ValueError, match="positive width"):
        interactive.plot_density(density(sigma=float("nan")))


def test_eigenvalues_through_training_are_in_order_of_steps_and_hollow_when_not_converged():
    history = [(40, spectrum(8.0, converged=False)), (0, spectrum(4.0)), (80, spectrum(16.0))]
    drawn = trace(interactive.plot_eigenvalues(history), "λ1")
    assert drawn.x.tolist() == [0, 40, 80]
    assert drawn.y.tolist() == [4, 8, 16]
    assert drawn.marker.color[1] == palette.LIGHT.surface
    assert drawn.marker.color[0] != palette.LIGHT.surface
    several = interactive.plot_eigenvalues([("a", 0, history), ("b", 1, history)])
    assert {t.name for t in several.data} == {"a λ1", "b λ1"}


# -- consistency ------------------------------------------------------------------------------


def test_consistency_over_steps_has_interval_and_null_band():
    runs = [
        ("SAM", 0, [consistency(0.1, s) for s in (480, 0, 240)]),
        ("AACE", 1, [consistency(0.6, s) for s in (0, 240, 480)]),
    ]
    figure = interactive.plot_consistency(runs)
    line = trace(figure, "SAM")
    assert line.x.tolist() == [0, 240, 480]
    assert np.allclose(line.error_y.array, 0.02)
    assert np.allclose(line.error_y.arrayminus, 0.04)
    band = trace(figure, "null")
    assert np.nanmin(band.y) == -0.03
    assert np.nanmax(band.y) == 0.05
    assert (np.nanmin(band.x), np.nanmax(band.x)) == (0, figure.layout.xaxis.range[1])
    assert any("null" in note.text for note in figure.layout.annotations)


def test_many_checkpoints_show_the_interval_as_a_band():
    results = [consistency(0.6, s) for s in range(0, 200, 20)]
    figure = interactive.plot_consistency([("AACE", 1, results)])
    band = trace(figure, "AACE interval")
    assert np.nanmax(band.y) == pytest.approx(0.62)
    assert trace(figure, "AACE").error_y.array is None


def test_the_null_band_is_the_widest_of_the_runs_at_every_step():
    x, low, high = null_envelope(
        [
            (np.array([0.0, 10.0]), np.array([-1.0, -1.0]), np.array([1.0, 1.0])),
            (np.array([5.0]), np.array([-2.0]), np.array([0.5])),
        ]
    )
    assert x.tolist() == [0, 5, 10]
    assert low.tolist() == [-1, -2, -1]
    assert high.tolist() == [1, 1, 1]


def test_the_matrix_of_cosines_leaves_its_diagonal_out_of_the_scale():
    result = consistency()
    figure = interactive.plot_cosines(result)
    drawn = trace(figure, "cosines")
    assert np.isnan(np.diagonal(drawn.z)).all()
    assert drawn.z[2, 5] == result.cosines[2, 5]
    largest = off_diagonal(result.cosines)[1]
    assert (drawn.zmin, drawn.zmax) == (-largest, largest)
    assert largest < 1
    assert np.argwhere(trace(figure, "diagonal").z == 1).tolist() == [[i, i] for i in range(12)]


def test_a_single_consistency_is_drawn_as_its_matrix():
    assert trace(figures.plot(consistency()), "cosines").z.shape == (12, 12)


def test_consecutive_cosines_carry_the_null_of_their_mean():
    result = consistency(0.5, protocol="online")
    figure = interactive.plot_consecutive(result)
    band = trace(figure, "null of the mean")
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(20_000, 12))
    means = (signs[:, 1:] * signs[:, :-1]) @ result.consecutive / 11
    assert np.nanmax(band.y) == pytest.approx(np.quantile(means, 0.975), rel=0.05)
    assert np.nanmax(band.y) == consecutive_null(result.consecutive)
    assert trace(figure, "SAM+AACE").y.tolist() == result.consecutive.tolist()


def test_norms_are_each_step_of_a_window_and_the_median_of_checkpoints():
    online = interactive.plot_norms(consistency(protocol="online"))
    assert trace(online, "SAM+AACE").y.tolist() == consistency().norms.tolist()
    frozen = interactive.plot_norms([("AACE", 1, [consistency(step=s) for s in (0, 40)])])
    assert np.allclose(trace(frozen, "AACE").y, 0.15)
    rise = interactive.plot_norms([("AACE", 1, [consistency()])], column="loss_rise")
    assert trace(rise, "AACE").y.tolist() == pytest.approx([0.005])
    with pytest.raises(ValueError, match="column must be one of"):
        interactive.plot_norms(consistency(), column="cosines")


# -- trajectory -------------------------------------------------------------------------------


def test_a_trajectory_is_to_scale_and_colored_by_step():
    figure = interactive.plot_trajectory(trajectory())
    points = trace(figure, "points")
    assert np.allclose(np.stack([points.x, points.y], axis=1), trajectory().position)
    assert points.marker.color.tolist() == trajectory().step.tolist()
    assert figure.layout.yaxis.scaleanchor == "x"
    assert "80" in figure.layout.xaxis.title.text


def test_explained_variance_stands_beside_its_null():
    figure = interactive.plot_explained(trajectory())
    assert trace(figure, "explained").y.tolist() == [0.8, 0.1, 0.05]
    assert trace(figure, "null").y.tolist() == [0.7, 0.12, 0.06]
    assert trace(figure, "null").marker.color == "rgba(0,0,0,0)"


def test_distances_lengths_and_angles_show_what_was_measured():
    result = trajectory()
    distances = interactive.plot_distances(result)
    assert trace(distances, "from the start").y.tolist() == result.distance_start.tolist()
    assert trace(distances, "to the end").y.tolist() == result.distance_end.tolist()
    assert trace(interactive.plot_step_lengths(result), "step length").y.tolist() == [0.8] * 5
    angles = interactive.plot_turning_angles(result)
    assert trace(angles, "turning angle").x.tolist() == [20, 40, 60, 80]
    assert set(trace(angles, "null").y) == {90.0}


# -- themes, words, imports -------------------------------------------------------------------

SCREEN = {
    "surface": lambda **k: interactive.plot_surface(surface(), drops=[(40.0, 0.01)], **k),
    "surface 3d": lambda **k: interactive.plot_surface(surface(), view="3d", **k),
    "profile": lambda **k: interactive.plot_profile(profile(diverged=True), **k),
    "joint": lambda **k: interactive.plot_surface(joint_surface(), bar=True, **k),
    "line": lambda **k: interactive.plot_profile(line_profile(), right="accuracy", **k),
    "barrier": lambda **k: interactive.plot_barrier(barrier(2), **k),
    "curve": lambda **k: interactive.plot_curve(curve(), **k),
    "plane of the curve": lambda **k: interactive.plot_curve(curve(), view="plane", **k),
    "joint paths": lambda **k: interactive.plot_path_loss(joint_surface(), **k),
    "steps": lambda **k: interactive.plot_steps(steps(), selected=20, **k),
    "path loss": lambda **k: interactive.plot_path_loss(surface(), **k),
    "trajectory loss": lambda **k: interactive.plot_path_loss(trajectory(), **k),
    "path distance": lambda **k: interactive.plot_path_distance(trajectory(), **k),
    "spectrum": lambda **k: interactive.plot_spectrum(spectrum(), **k),
    "density": lambda **k: interactive.plot_density(density(), spectrum(), **k),
    "density context": lambda **k: interactive.plot_density(density(), context=density(), **k),
    "eigenvalues": lambda **k: interactive.plot_eigenvalues([(0, spectrum())], **k),
    "consistency": lambda **k: interactive.plot_consistency([consistency()], **k),
    "consecutive": lambda **k: interactive.plot_consecutive(consistency(protocol="online"), **k),
    "norms": lambda **k: interactive.plot_norms([consistency()], **k),
    "trajectory": lambda **k: interactive.plot_trajectory(trajectory(), selected=40, **k),
    "explained": lambda **k: interactive.plot_explained(trajectory(), **k),
    "distances": lambda **k: interactive.plot_distances(trajectory(), **k),
    "lengths": lambda **k: interactive.plot_step_lengths(trajectory(), **k),
    "angles": lambda **k: interactive.plot_turning_angles(trajectory(), **k),
}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", SCREEN)
def test_every_screen_figure_follows_the_theme_and_is_valid_json(name, theme):
    figure = SCREEN[name](theme=theme, color=1)
    text = figure.to_json()
    assert json.loads(text)["data"]
    assert "Infinity" not in text
    assert figure.layout.font.color is None
    assert figure.layout.template.layout.font.color == palette.THEMES[theme].text
    assert not figure.layout.template.layout.showlegend
    for axis in ("xaxis", "yaxis"):
        if figure.layout.scene.camera.eye.x is None:
            assert figure.layout[axis].title.text, name


def test_the_graph_config_keeps_everything_on_the_machine():
    config = interactive.graph_config()
    assert config["showSendToCloud"] is False
    assert config["plotlyServerURL"] == ""
    assert config["displaylogo"] is False
    assert config["displayModeBar"] is False


def _contrast(one: str, other: str) -> float:
    lights = []
    for color in (one, other):
        linear = palette.rgb(color) / 255
        linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
        lights.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_reach_four_and_a_half_to_one_and_lines_three(theme):
    tone = palette.tokens(theme)
    for ground in (tone.page, tone.surface, tone.sunken, tone.raised, tone.accent_soft):
        for ink in (tone.text, tone.muted, tone.faint, tone.accent, tone.warn, tone.err):
            assert _contrast(ink, ground) > 4.5
    for i, run in enumerate(palette.RUNS):
        assert _contrast(run.on(theme), tone.surface) > 3
        if theme == "dark" or i in palette.WORD_RUNS:
            assert _contrast(run.on(theme), tone.surface) > 4.5


def test_maps_have_their_stops_and_tide_is_symmetric_in_meaning():
    assert palette.BASIN.shape == (256, 3)
    assert palette.map_color(0.0) == "#212143"
    assert palette.map_color(1.0) == "#FCEDBC"
    lightness = palette.BASIN @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(lightness) > 0)
    assert palette.gradient_stops()[5] == (0.5, "#44929B")


def test_numbers_are_written_as_the_page_wants_them():
    assert number(-0.0123456) == "−0.0123"
    assert number(31.0) == "31.0"
    assert number(1248.3) == "1\N{THIN SPACE}248"
    assert number(2.13e-6) == "2.13e−6"
    assert plain(number(999.96)) == "1 000"
    assert (number(float("nan")), number(None), number(0.0)) == ("–", "–", "0")
    assert (number(math.inf), number(-math.inf)) == ("∞", "−∞")
    assert (short(0.05), short(20.0), short(1e-6)) == ("0.05", "20", "1e−6")
    written = [plain(text) for text in (count(61706), percent(0.843), percent(-0.1, 0))]
    assert written == ["61 706", "84.3 %", "−10 %"]


WORDS = {
    "method": "SAM+AACE",
    "model": "ConvNet",
    "checkpoint": "step 480",
    "plane": "random directions",
    "normalization": "filter",
    "bn": "recomputed at each point",
    "data": "fashion training set",
    "samples": "2 000",
    "dtype": "float32",
    "seed": "seed 7",
}


@pytest.mark.parametrize("missing", WORDS)
def test_a_caption_says_each_fact_that_is_stored_and_none_that_is_not(missing):
    whole = plain(caption(surface()))
    assert all(word in whole for word in WORDS.values()), whole
    facts = {name: value for name, value in FACTS.items() if name != missing}
    partial = plain(caption(surface(facts=facts)))
    assert WORDS[missing] not in partial
    assert partial.count(";") == whole.count(";") - (missing in ("bn", "dtype", "seed"))
    if missing != "plane":
        kept = [word for name, word in WORDS.items() if name != missing]
        assert all(word.lower() in partial.lower() for word in kept), partial
    assert "None" not in partial
    assert "nan" not in partial


def test_a_caption_counts_what_failed_and_states_variance_with_its_null():
    assert "1 diverged, 1 not evaluated" in caption(surface())
    assert "diverged" not in caption(surface(holes=False))
    text = plain(caption(trajectory()))
    assert "90.0 % of the path's variance" in text
    assert "82 %" in text
    assert "not converged" in caption(spectrum(converged=False))
    assert "−0.0300 to 0.0500" in caption(consistency())


@pytest.mark.parametrize(
    "make", [surface, profile, spectrum, density, consistency, trajectory], ids=lambda m: m.__name__
)
def test_every_result_has_a_caption_and_rows_even_without_facts(make):
    result = make()
    bare = type(result)(**{**vars(result), "facts": {}})
    for shown in (result, bare):
        assert caption(shown).endswith(".")
        rows = facts_rows(shown)
        assert all(label and value for label, value in rows)
    labels = dict(facts_rows(bare))
    assert not {"Model", "Data", "Batch norm", "Seed", "Precision", "Plane"} & set(labels)


def test_every_kind_of_result_has_its_screen_figure():
    for make in (surface, profile, spectrum, density, consistency, trajectory):
        assert figures.plot(make()).data
        assert make().plot(theme="dark").data
    with pytest.raises(ValueError, match="there are figures of"):
        figures.plot("surface")


def test_a_map_that_stands_alone_has_a_color_bar_in_true_units():
    for view, name in (("contour", "field"), ("3d", "surface")):
        drawn = trace(surface().plot(view=view), name)
        assert drawn.showscale
        ticks = [float(text) for text in drawn.colorbar.ticktext]
        assert np.allclose(np.power(10, drawn.colorbar.tickvals), ticks)
    assert trace(consistency().plot(), "cosines").colorbar.title.text == "cosine"
    assert not trace(interactive.plot_surface(surface()), "field").showscale


def test_figures_load_neither_torch_nor_dash_nor_pyplot():
    code = (
        "import sys, landscape.exports, landscape.figures.interactive, landscape.figures.paper\n"
        "print(sorted({'torch', 'dash', 'matplotlib.pyplot', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
