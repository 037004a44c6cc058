"""Any quantity of surfaces and profiles: marks, joint paths, interpolation, on screen and paper."""

from dataclasses import replace

import numpy as np
import pytest
from figure_samples import (
    interpolated_surface,
    joint_surface,
    line_profile,
    measured_surface,
    profile,
    surface,
)

from landscape.figures import interactive, palette, paper
from landscape.figures.fields import field_of
from landscape.figures.paths import marks_of, paths_of, taken
from landscape.figures.quantities import counterpart, quantities_of, values_of


def trace(figure, name):
    found = [t for t in figure.data if t.name == name]
    assert len(found) == 1, [t.name for t in figure.data]
    return found[0]


def words_of(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


MEASURED = ("loss", "test_loss", "accuracy", "test_accuracy", "convexity", "lambda_max")
METRICS = ("error rate", "test error rate")


def test_a_result_names_what_it_was_measured_in_and_nothing_else():
    assert quantities_of(measured_surface()) == (*MEASURED, *METRICS)
    assert quantities_of(surface()) == ("loss", "accuracy")
    blind = replace(surface(), accuracy=np.full(surface().loss.shape, np.nan))
    assert quantities_of(blind) == ("loss",)


@pytest.mark.parametrize("name", [*MEASURED, *METRICS])
def test_every_quantity_is_drawn_with_its_values_at_their_places(name):
    result = measured_surface()
    figure = interactive.plot_surface(result, quantity=name)
    hover = trace(figure, "measured")
    np.testing.assert_array_equal(hover.z, values_of(result, name).T)
    assert figure.layout.meta["quantity"] == name
    solid = interactive.plot_surface(result, quantity=name, view="3d")
    assert np.nanmax(trace(solid, "surface").z) > np.nanmin(trace(solid, "surface").z)
    bar = paper.draw_surface(result, quantity=name).axes[-1]
    assert bar.get_ylabel() == figure.layout.meta["title"]
    assert paper.draw_surface3d(result, quantity=name).axes[0].get_zlabel() == bar.get_ylabel()


def test_metrics_go_by_their_names_and_unknown_ones_are_told():
    result = measured_surface()
    np.testing.assert_array_equal(values_of(result, "test error rate"), result.metrics[1])
    with pytest.raises(ValueError, match="did you mean 'error rate'"):
        interactive.plot_surface(result, quantity="eror rate")
    with pytest.raises(ValueError, match="test loss must be measured"):
        interactive.plot_surface(surface(), quantity="test_loss")


def test_convexity_is_the_ratio_of_the_extreme_eigenvalues_on_a_scale_from_0_to_1():
    result = measured_surface()
    ratio = values_of(result, "convexity")
    i, j = 5, 3
    assert ratio[i, j] == abs(result.lambda_min[i, j] / result.lambda_max[i, j])
    drawn = trace(interactive.plot_surface(result, quantity="convexity"), "field")
    assert (drawn.zmin, drawn.zmax) == (0.0, 1.0)
    assert interactive.plot_surface(result, quantity="convexity").layout.meta["scale"] == "linear"


def test_convexity_is_left_out_where_the_largest_eigenvalue_is_only_noise():
    result = measured_surface()  # at (0, 0) λmax is 0.01 and its residual 0.02
    assert np.argwhere(np.isnan(values_of(result, "convexity"))).tolist() == [[0, 0]]
    figure = interactive.plot_surface(result, quantity="convexity")
    assert np.argwhere(trace(figure, "blank").z == 1).tolist() == [[0, 0]]
    assert (figure.layout.meta["blank"], figure.layout.meta["missing"]) == (1, 0)
    assert figure.layout.meta["diverged"] == 0
    without = replace(result, lambda_residual=np.empty((0, 0)))
    assert np.isfinite(values_of(without, "convexity")).all()


def test_a_saddle_has_ratio_1_and_one_with_more_negative_curvature_is_clipped():
    flat = np.ones(surface(holes=False).loss.shape)
    saddle = replace(surface(holes=False), lambda_max=2 * flat, lambda_min=-2 * flat)
    assert (values_of(saddle, "convexity") == 1).all()
    figure = interactive.plot_surface(replace(saddle, lambda_min=-6 * flat), quantity="convexity")
    assert figure.layout.meta["bar"][-1][1] == "≥1"


def test_the_hover_lists_everything_that_was_measured_at_a_point():
    result = measured_surface()
    hover = trace(interactive.plot_surface(result), "measured")
    lines = hover.hovertemplate.split("<br>")[1:]
    told = {line.split(" %{customdata")[0]: k for k, line in enumerate(lines)}
    assert hover.customdata[3, 5, told["test loss"]] == result.test_loss[5, 3]
    assert hover.customdata[3, 5, told["error rate"]] == result.metrics[0, 5, 3]
    assert "customdata[2]:.1%" in lines[told["accuracy"]]


# -- marks and paths of several runs ----------------------------------------------------------


def test_several_paths_have_colors_of_their_own_and_are_named():
    result = joint_surface()
    figure = interactive.plot_surface(result, color=[2, 0], bar=True)
    points = [t for t in figure.data if t.name == "points"]
    assert [t.marker.line.color for t in points] == [palette.run_color(c).light for c in (2, 0)]
    assert np.allclose(points[1].x, result.path_position[5:, 0])
    legend = next(a.text for a in figure.layout.annotations if a.xref == "x domain")
    assert legend.index("sgd") < legend.index("sam")
    assert palette.run_color(2).light in legend
    plain = interactive.plot_surface(result)
    assert [t.marker.line.color for t in plain.data if t.name == "points"] == [
        palette.run_color(c).light for c in (0, 1)
    ]
    assert not [a for a in plain.layout.annotations if a.xref == "x domain"]


def test_each_of_several_paths_begins_and_ends_at_its_own_checkpoints():
    tracks = paths_of(joint_surface(), field_of(joint_surface()))
    assert [track.label for track in tracks] == ["sgd", "sam"]
    assert [track.step.tolist() for track in tracks] == [[0, 10, 20, 30, 40]] * 2
    assert [track.position[-1].tolist() for track in tracks] == [[0, 0], [4, 0]]
    assert len(paths_of(surface(), field_of(surface()))) == 1


def test_marks_stand_where_they_belong_and_are_named_on_screen_and_paper():
    result = joint_surface()
    for view in ("contour", "3d"):
        marks = trace(interactive.plot_surface(result, view=view), "marks")
        assert (marks.x[0], marks.x[1], marks.y[0], marks.y[1]) == (0, 4, 0, 0)
        assert list(marks.text) == ["sgd", "sam"]
    figure = paper.draw_surface(result)
    places = {note.get_text(): note.xy for note in figure.axes[0].texts if hasattr(note, "xy")}
    assert places == {"sgd": (0, 0), "sam": (4, 0)}
    assert {"sgd", "sam"} <= set(words_of(figure))
    none = interactive.plot_surface(surface())
    assert "marks" not in {t.name for t in none.data}


def test_names_of_marks_keep_away_from_paths_and_contour_labels_from_names():
    result, field = joint_surface(), field_of(joint_surface())
    tracks = paths_of(result, field)
    marks = marks_of(result, field, tracks)
    assert [mark.above for mark in marks] == [False, False]  # the paths come from above
    lines = taken(field, tracks, marks)
    assert any(np.allclose(line[0], [4, 0]) and (line[1:, 1] < 0).all() for line in lines)
    high = replace(result, mark_position=np.array([[0.0, -1.45], [4.0, 2.45]]), path_step=[])
    turned = marks_of(high, field)
    assert [mark.above for mark in turned] == [True, False]  # else they would leave the frame


def test_axes_of_distances_share_a_scale_however_long_the_plane_is():
    stretched = replace(joint_surface(), beta=np.linspace(-0.1, 0.1, 9))
    assert field_of(stretched).equal
    assert interactive.plot_surface(stretched).layout.yaxis.scaleanchor == "x"
    other = replace(stretched, facts={"plane": "given"})
    assert not field_of(other).equal


def test_loss_along_several_paths_has_a_line_of_each_run():
    figure = interactive.plot_path_loss(joint_surface(), color=[3, 1])
    lines = {t.name: t for t in figure.data}
    assert set(lines) == {
        f"{n} {w}" for n in ("sgd", "sam") for w in ("measured loss", "surface below")
    }
    assert lines["sam measured loss"].line.color == palette.run_color(1).light
    assert lines["sam surface below"].line.color == palette.run_color(1).light
    away = interactive.plot_path_distance(joint_surface())
    (far,) = [t for t in away.data if t.name == "sam to the end, in the plane"]
    assert far.y[0] == pytest.approx(np.hypot(2, 2))


# -- interpolated points ----------------------------------------------------------------------


def test_interpolated_points_are_colored_and_dotted_and_are_not_missing():
    result = interpolated_surface()
    figure = interactive.plot_surface(result)
    meta = figure.layout.meta
    assert (meta["evaluated"], meta["interpolated"], meta["missing"]) == (20, 43, 0)
    dots = trace(figure, "interpolated")
    drawn = set(zip(dots.x, dots.y, strict=True))
    off = [(i, j) for i in range(9) for j in range(7) if i % 2 or j % 2]
    assert drawn == {(result.alpha[i], result.beta[j]) for i, j in off}
    hover = trace(figure, "measured")
    assert hover.text[0][1] == "<br>interpolated"
    assert hover.text[0][0] == ""
    axes = paper.draw_surface(result).axes[0]
    assert not [patch for patch in axes.patches if patch.get_hatch()]
    (dotted,) = [line for line in axes.lines if line.get_marker() == "o"]
    assert len(dotted.get_xydata()) == 43


def test_a_quantity_that_was_not_interpolated_is_missing_between_its_points():
    meta = interactive.plot_surface(interpolated_surface(), quantity="accuracy").layout.meta
    assert (meta["evaluated"], meta["interpolated"], meta["missing"]) == (20, 0, 43)


# -- profiles ---------------------------------------------------------------------------------


def test_the_test_set_is_dashed_beside_the_solid_training_set():
    result = line_profile()
    assert counterpart(result, "loss") == "test_loss"
    assert counterpart(profile(), "loss") is None
    figure = interactive.plot_profile(result)
    test = trace(figure, "test")
    assert np.allclose(test.y, result.test_loss[0])
    assert test.line.dash != "solid"
    assert trace(figure, "median").line.dash == "solid"
    lines = {line.get_gid(): line for line in paper.draw_profile(result).axes[0].lines}
    assert np.allclose(lines["test"].get_ydata(), result.test_loss[0])
    assert lines["test"].is_dashed()
    risen = interactive.plot_profile(result, quantity="rise")
    at_0 = int(np.argmin(np.abs(result.alpha)))
    assert np.allclose(trace(risen, "test").y, result.test_loss[0] - result.test_loss[0, at_0])


def test_a_line_between_minima_shows_its_loss_and_names_them():
    result = line_profile()
    figure = interactive.plot_profile(result)
    assert np.allclose(trace(figure, "median").y, result.loss[0])
    named = {a.text: a.x for a in figure.layout.annotations if a.xref != "x domain"}
    assert named == {"sgd": 0.0, "sam": 1.0}
    assert {"sgd", "sam"} <= set(words_of(paper.draw_profile(result)))
    assert trace(interactive.plot_profile(profile()), "SAM+AACE").y[5] == 0  # a rise


def test_accuracy_stands_at_the_right_where_it_is_asked_for():
    result = line_profile()
    figure = interactive.plot_profile(result, right="accuracy")
    beside = trace(figure, "accuracy")
    assert beside.yaxis == "y2"
    assert np.allclose(beside.y, result.accuracy[0])
    assert figure.layout.yaxis2.side == "right"
    assert figure.layout.yaxis2.title.text == "accuracy"
    assert np.allclose(trace(figure, "test_accuracy").y, result.test_accuracy[0])
    axes = paper.draw_profile(result, right="accuracy").axes
    assert axes[1].get_ylabel() == "accuracy"
    assert np.allclose(axes[1].lines[0].get_ydata(), result.accuracy[0])
    with pytest.raises(ValueError, match="needs a single profile"):
        interactive.plot_profile([("a", 0, result), ("b", 1, result)], right="accuracy")
