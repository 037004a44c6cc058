"""Barriers and curves between minima, on screen and paper; their captions, rows and tables."""

from dataclasses import replace

import numpy as np
import pytest
from figure_samples import (
    FACTS,
    barrier,
    curve,
    interpolated_surface,
    joint_surface,
    line_profile,
    measured_surface,
    surface,
)

from landscape import figures
from landscape.figures import interactive, palette, paper
from landscape.figures.captions import caption, facts_rows
from landscape.figures.connections import along, cell_lines, heights, lines_of
from landscape.figures.numbers import count, number
from landscape.figures.tables import TABLES, columns_of
from landscape.results import Surface


def trace(figure, name):
    found = [t for t in figure.data if t.name == name]
    assert len(found) == 1, [t.name for t in figure.data]
    return found[0]


def plain(text):
    return " ".join(text.split())


# -- numbers ----------------------------------------------------------------------------------


def test_both_heights_of_a_double_well_between_unequal_minima():
    t = np.linspace(0, 1, 101)
    line = 1.0 + t + 16 * (t * (1 - t)) ** 2  # from 1 to 2, a bump of 1 on the chord at 1/2
    over_mean, over_line = heights(t, line)
    assert over_line == pytest.approx(1.0)
    assert over_mean == pytest.approx(line.max() - 1.5)
    assert over_mean > over_line


def test_a_line_with_a_missing_point_has_no_height():
    assert np.isnan(heights(np.linspace(0, 1, 3), np.array([0.0, np.nan, 0.0]))).all()


@pytest.mark.parametrize("quantity", ["loss", "error", "test_loss", "test_error"])
def test_each_quantity_of_a_barrier_has_its_own_lines_and_heights(quantity):
    result = barrier(3)
    lines = lines_of(result, quantity)
    expected = {
        "loss": result.loss,
        "error": 1 - result.accuracy,
        "test_loss": result.test_loss,
        "test_error": 1 - result.test_accuracy,
    }[quantity]
    np.testing.assert_array_equal(lines.values, expected)
    np.testing.assert_allclose(lines.height, heights(result.t, expected)[0])
    np.testing.assert_allclose(lines.height_over_line, heights(result.t, expected)[1])
    assert (lines.test is None) == quantity.startswith("test")


def test_a_quantity_that_was_not_measured_between_minima_is_refused():
    with pytest.raises(ValueError, match="test loss must be measured"):
        interactive.plot_barrier(barrier(3, test=False), quantity="test_loss")
    with pytest.raises(ValueError, match="did you mean 'error'"):
        paper.draw_curve(curve(), quantity="eror")
    with pytest.raises(ValueError, match="view must be"):
        interactive.plot_curve(curve(), view="3d")
    blind = replace(curve(), accuracy=np.full(21, np.nan))
    with pytest.raises(ValueError, match="error must be measured"):
        interactive.plot_curve(blind, quantity="error")
    assert len(paper.draw_curve(blind).axes) == 2


# -- the matrix -------------------------------------------------------------------------------


def test_below_the_diagonal_both_heights_are_written_above_it_nothing_is_colored():
    result = barrier(3)
    figure = interactive.plot_barrier(result)
    heat = trace(figure, "barriers")
    colored = ~np.isnan(heat.z)
    assert (colored == np.tril(np.ones((3, 3), bool), -1)).all()
    assert heat.z[2, 0] == result.height[2, 0] == pytest.approx(3.2)
    assert heat.customdata[2, 0, 1] == pytest.approx(3.0)
    written = {(a.x, a.y): a.text for a in figure.layout.annotations if a.xref != "x domain"}
    assert written[(0, 2)] == "<b>3.2</b><br>3.0"
    assert written[(1, 1)] == "0.80"  # the minimum's own loss
    assert len(written) == 6
    assert list(figure.layout.xaxis.ticktext) == ["sgd", "sam", "aace"]
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # the first one on top


def test_lines_lie_in_their_cells_on_one_scale_with_high_loss_on_top():
    result = barrier(3, test=False)
    lines = lines_of(result)
    x, y, told = cell_lines(result.t, lines.values, lines.range)
    starts = np.flatnonzero(np.isnan(x)) + 1
    first = slice(0, starts[0] - 1)  # the cell in row 0 and column 1
    assert np.all(np.abs(x[first] - 1) <= 0.5)
    assert np.all(np.abs(y[first] - 0) <= 0.5)
    assert y[first].argmin() == result.loss[0, 1].argmax()
    np.testing.assert_array_equal(told[first, 1], result.loss[0, 1])
    tallest = np.nanmin(y - np.round(y))
    assert tallest == pytest.approx(-0.39)
    drawn = trace(interactive.plot_barrier(result), "loss")
    np.testing.assert_array_equal(drawn.x, x)


def test_the_matrix_on_paper_says_the_same_as_on_the_screen():
    result = barrier(4)
    axes, bar = paper.draw_barrier(result, quantity="error").axes
    words = [(text.get_position()[0], round(text.get_position()[1]), text) for text in axes.texts]
    for i in range(4):
        for j in range(i):
            bold, under = [text for x, y, text in words if (x, y) == (j, i)]
            assert bold.get_text() == number(result.error_height[i, j], 2)
            assert bold.get_fontweight() == "bold"
            assert under.get_text() == number(result.error_height_over_line[i, j], 2)
    assert bar.get_ylabel() == "error barrier"
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    dashes = [line.is_dashed() for line in axes.lines]
    assert dashes == [False, True]


def test_a_diverged_line_leaves_its_cell_without_a_color():
    result = barrier(3)
    loss, height = result.loss.copy(), result.height.copy()
    loss[0, 1, 2] = loss[1, 0, 2] = np.inf
    height[0, 1] = height[1, 0] = np.inf
    broken = replace(result, loss=loss, height=height)
    figure = interactive.plot_barrier(broken)
    assert np.isnan(trace(figure, "barriers").z[1, 0])
    assert trace(figure, "barriers").zmax == result.height[0, 2]
    assert "∞" in next(a.text for a in figure.layout.annotations if (a.x, a.y) == (0, 1))
    assert "Infinity" not in figure.to_json()
    assert paper.draw_barrier(broken).to_bytes("png")


# -- two minima -------------------------------------------------------------------------------


def test_between_two_minima_the_line_is_drawn_with_its_barrier_and_both_definitions():
    result = barrier(2)
    figure = interactive.plot_barrier(result)
    assert np.allclose(trace(figure, "loss").y, result.loss[0, 1])
    assert trace(figure, "test loss").line.dash != "solid"
    stem = trace(figure, "barrier")
    assert stem.x.tolist() == [0.75, 0.75]
    assert stem.y.tolist() == pytest.approx([0.6, result.loss[0, 1].max()])
    told = next(a.text for a in figure.layout.annotations)
    assert "2.10 over the ends' mean, 2.00 over the line" in told
    assert figure.layout.xaxis.ticktext[0] == "0<br>sgd"
    axes = paper.draw_barrier(result).axes[0]
    lines = {line.get_gid(): line for line in axes.lines}
    assert np.allclose(lines["barrier"].get_ydata(), stem.y)
    assert np.allclose(lines["line"].get_ydata(), result.loss[0, 1])
    assert any("2.10 over the ends' mean" in text.get_text() for text in axes.texts)


# -- the curve --------------------------------------------------------------------------------


def test_a_curve_stands_beside_the_straight_line_and_the_test_set_is_dashed():
    result = curve()
    figure = interactive.plot_curve(result)
    expected = {
        "curve": result.loss,
        "line": result.line_loss,
        "curve, test": result.test_loss,
        "line, test": result.line_test_loss,
    }
    for name, values in expected.items():
        drawn = trace(figure, name)
        assert np.allclose(drawn.y, values)
        assert (drawn.line.dash == "solid") == ("test" not in name)
    assert trace(figure, "curve").line.color == palette.run_color(0).light
    assert set(along(curve(test=False))) == {"curve", "line"}
    errors = interactive.plot_curve(result, quantity="error")
    assert np.allclose(trace(errors, "line").y, 1 - result.line_accuracy)


def test_the_curve_on_its_plane_has_circles_at_minima_and_diamonds_at_bends_to_scale():
    result = curve()
    figure = interactive.plot_curve(result, view="plane")
    minima, bends = trace(figure, "minima"), trace(figure, "bends")
    assert (minima.marker.symbol, bends.marker.symbol) == ("circle", "diamond")
    assert np.stack([minima.x, minima.y], 1).tolist() == [[0, 0], [8, 0]]
    assert (bends.x[0], bends.y[0]) == (4, 5)
    assert figure.layout.yaxis.scaleanchor == "x"
    axes = paper.draw_curve(result).axes[-1]
    across, up = np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())
    box = axes.get_window_extent()
    assert across / box.width == pytest.approx(up / box.height)
    assert {line.get_marker() for line in axes.lines} >= {"o", "D"}
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert left < 0 < 8 < right
    assert low < 0 < 5 < high
    tall = paper.draw_curve(replace(result, bend_position=np.array([[4.0, 40.0]]))).axes[-1]
    assert tall.get_ylim()[1] > 40


def test_on_paper_loss_error_and_plane_have_a_panel_each():
    figure = paper.draw_curve(curve())
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "error", "distance beside it"]
    lines = {line.get_gid(): line for line in figure.axes[1].lines}
    assert np.allclose(lines["curve"].get_ydata(), 1 - curve().accuracy)
    assert len(paper.draw_curve(curve(), quantity="test_loss").axes) == 2


@pytest.mark.parametrize("make", [barrier, curve], ids=lambda make: make.__name__)
def test_both_kinds_are_drawn_by_plot_and_draw_and_have_caption_rows_and_tables(make):
    result = make()
    assert figures.plot(result, theme="dark").data
    assert result.figure(venue="neurips").axes
    for shown in (result, replace(result, facts={}, names=())):
        assert caption(shown).endswith(".")
        assert all(label and value for label, value in facts_rows(shown))
        for table in TABLES[result.kind]:
            assert len({len(column) for column in columns_of(shown, table).values()}) == 1


def test_tables_of_a_barrier_hold_every_pair_once():
    result = barrier(3)
    heights_of = columns_of(result)
    pairs = list(zip(heights_of["from"], heights_of["to"], strict=True))
    assert pairs == [("sgd", "sam"), ("sgd", "aace"), ("sam", "aace")]
    assert heights_of["height"].tolist() == [
        result.height[0, 1],
        result.height[0, 2],
        result.height[1, 2],
    ]
    lines = columns_of(result, "lines")
    assert lines["loss"][5:10].tolist() == result.loss[0, 2].tolist()
    assert lines["test_loss"][5:10].tolist() == result.test_loss[0, 2].tolist()


def test_tables_of_a_surface_hold_all_that_was_measured():
    result = measured_surface()
    columns = columns_of(result)
    assert columns["test_loss"].tolist() == result.test_loss.ravel().tolist()
    assert columns["error rate"].tolist() == result.metrics[0].ravel().tolist()
    assert "interpolated" not in columns
    assert columns_of(interpolated_surface())["interpolated"].sum() == 43
    assert columns_of(joint_surface(), "marks")["alpha"].tolist() == [0, 4]
    assert columns_of(joint_surface(), "path")["run"].tolist() == [0] * 5 + [1] * 5
    assert columns_of(line_profile(), "marks")["mark"].tolist() == ["sgd", "sam"]


# -- captions ---------------------------------------------------------------------------------


def told(**facts) -> str:
    return plain(caption(surface(facts=facts)))


def test_planes_are_said_in_words():
    assert "plane of the gradient and the AACE perturbation" in told(plane="gradient and aace")
    assert "plane through a, b and c" in told(plane="minima", through=["a", "b", "c"])
    assert "components of the checkpoints of 2 runs" in told(plane="joint", plane_run_names="ab")
    assert "in weight-space distance" in told(plane="joint", unit="weight distance")
    assert "filter-normalized, orthogonalized, moving only conv1" in told(
        plane="random", normalization="filter", orthogonalized=True, parameters_moved=["conv1"]
    )
    assert "orthogonalized" not in told(plane="random", orthogonalized=False, parameters_moved=[])
    assert "along the line through a and b" in plain(
        caption(replace(line_profile(), facts={"plane": "minima", "through": ["a", "b"]}))
    )


def test_reduced_precision_is_said_with_its_measured_error_and_full_precision_without():
    error = {"points": 16, "rms": 1e-3, "max": 0.02}
    text = told(precision="bfloat16", dtype="float32", precision_error=error)
    said = "bfloat16 (off from float32 by 0.10 % of the loss rms and at most 2.0 %, at 16 points)"
    assert said in text
    assert "its error not measured" in told(precision="mixed", dtype="float32")
    assert told(precision="full", dtype="float32").endswith("float32.")


def test_the_path_and_its_chunk_stand_in_the_inspector_and_not_in_the_caption():
    facts = {"path": "folded", "path_error": 2e-7, "chunk": 512, "threads": 2, "path_note": "why"}
    rows = dict(facts_rows(surface(facts=facts)))
    assert "folded" in rows["Evaluated by"]
    assert "why" in rows["Evaluated by"]
    assert rows["Chunk"] == "512 samples"
    assert "folded" not in told(**facts)
    assert "512" not in told(**facts)


def test_interpolated_points_are_counted_with_what_held_out_ones_say():
    held = {"points": 60, "error": 0.01, "bound": 0.018, "tolerance": 0.02}
    text = plain(caption(replace(interpolated_surface(), facts={"held_out": held})))
    assert "20 of 63 points evaluated, the rest interpolated" in text
    assert "within 1.8 %, by 60 held-out points" in text
    assert "not evaluated" not in text
    bare = plain(caption(replace(interpolated_surface(), facts={})))
    assert "how well is not known" in bare


def test_test_samples_rise_and_interpolated_statistics_are_said():
    assert "500 test samples" in told(test_samples=500)
    assert "interpolated between those of the weights" in told(bn="interpolated")
    risen = replace(surface(), options={"rise": 10.0})
    assert "until the loss is 10 times that at the origin" in caption(risen)
    assert "origin" not in caption(surface())


def test_an_imported_result_says_from_where_and_what_is_wrong_with_it():
    origin = {"file": "old.h5", "format": "tomgoldstein", "warnings": ["rows were mixed."]}
    text = told(imported_from=origin)
    assert text.endswith("Imported from old.h5 (tomgoldstein); rows were mixed.")
    assert ("Beware", "rows were mixed.") in facts_rows(surface(facts={"imported_from": origin}))


def test_a_caption_names_the_quantity_and_warns_of_kinks_only_with_eigenvalues():
    result = measured_surface()
    assert caption(result, "test_loss").startswith("Test loss of ConvNet")
    assert "ReLU" not in caption(result, "test_loss")
    assert "ReLU" in caption(result, "convexity")
    assert "ReLU" not in caption(surface())
    flat = np.ones(result.loss.shape)
    convex = Surface(**{**vars(result), "lambda_min": flat})
    assert "at 54 points λmin is above 0" in caption(convex)
    assert "λmin is above 0" not in caption(result)


def test_a_barrier_says_both_definitions_and_that_nothing_was_aligned():
    facts = FACTS | {"alignment": "none: weights are not permuted to match"}
    text = plain(caption(replace(barrier(2), facts=facts)))
    assert "2.10 over the mean of both ends (Frankle et al. 2020)" in text
    assert "2.00 over the straight line between them (Entezari et al. 2022)" in text
    assert "No permutation alignment." in text
    assert "lower bounds" in text
    assert "Below the diagonal" in caption(barrier(3))
    assert "alignment" not in caption(barrier(2))


def test_captions_say_the_steps_of_the_minima():
    alike = replace(barrier(), facts={**barrier().facts, "steps": [1200, 1200, 1200]})
    assert f" at step {count(1200)}." in caption(alike)
    other = replace(curve(), facts={**curve().facts, "steps": [90, 30]})
    assert " at steps 90, 30 " in caption(other)
