"""Figures, words and tables of the directions of whole runs."""

from dataclasses import replace

import numpy as np
import pytest
from direction_samples import directions

from landscape import figures
from landscape.figures import interactive, palette, paper
from landscape.figures.captions import caption, facts_rows
from landscape.figures.subjects import drawing_of_result
from landscape.figures.tables import TABLES, columns_of
from landscape.reports import headline, report

RUNS = [("SAM", 0, directions(0.05)), ("SAM+AACE", 1, directions(0.6))]


def trace(figure, name):
    return next(t for t in figure.data if t.name == name)


def named(figure):
    return [a.text for a in figure.layout.annotations]


def test_cosines_of_one_run_are_all_pairs_and_every_lag_over_the_null():
    result = directions()
    figure = interactive.plot_directions(result, drops=[(300.0, 0.01)], color=1)
    pairs = trace(figure, "all pairs")
    np.testing.assert_allclose(pairs.y, result.mean_cosine)
    assert pairs.x.tolist()[:2] == [30, 90]
    np.testing.assert_allclose(pairs.customdata[:, 0], result.interval_low)
    for i, lag in enumerate((1, 10, 100)):
        line = trace(figure, f"lag {lag}" + ["", ", dashed", ", dotted"][i])
        np.testing.assert_allclose(line.y, result.lag_cosine[:, i])
    null = trace(figure, "null")
    assert (max(null.y[:-1]), min(null.y[:-1])) == (0.02, -0.01)
    assert max(null.x[:-1]) == figure.layout.xaxis.range[1] == 800
    assert any("lag 100, dotted" in text for text in named(figure))
    assert any("null" in text for text in named(figure))
    assert any("lr" in text for text in named(figure))


def test_several_runs_share_an_axis_and_show_one_line_each():
    figure = interactive.plot_directions(RUNS)
    assert [t.name for t in figure.data if t.mode == "lines+markers"] == ["SAM+AACE", "SAM"]
    low, high = figure.layout.yaxis.range
    assert low < -0.01
    assert high > 0.66 + 0.03
    lag = interactive.plot_directions(RUNS, lag=10)
    np.testing.assert_allclose(trace(lag, "SAM").y, RUNS[0][2].lag_cosine[:, 1])
    assert "lag 10" in lag.layout.yaxis.title.text
    assert "null" not in [t.name for t in lag.data]
    norms = interactive.plot_directions(RUNS, part="norms")
    np.testing.assert_allclose(trace(norms, "SAM").y, RUNS[0][2].norm)
    band = trace(norms, "SAM 90 %")
    assert (np.nanmin(band.y), np.nanmax(band.y)) == (0.15, 1.8)
    with pytest.raises(ValueError, match="lag must be one of 1, 10, 100"):
        interactive.plot_directions(RUNS, lag=3)
    with pytest.raises(ValueError, match="a matrix shows one run"):
        interactive.plot_directions(RUNS, part="matrix")
    with pytest.raises(ValueError, match="part must be"):
        interactive.plot_directions(RUNS, part="heat")


def test_the_matrix_has_true_steps_a_grey_diagonal_and_a_scale_without_it():
    uneven = np.array([0, 10, 40, 120])
    ends = np.append(uneven[1:], 150)
    result = directions(windows=4, start=uneven, stop=ends)
    figure = figures.plot(result, part="matrix", theme="dark")
    cells = trace(figure, "cosines")
    assert cells.x.tolist() == cells.y.tolist() == [0, 10, 40, 120, 150]
    assert np.isnan(np.diag(cells.z)).all()
    assert cells.zmax == pytest.approx(np.exp(-1 / 6))
    assert list(cells.customdata[0][1]) == ["0 to 9 and 10 to 39", 0.01]
    assert np.isfinite(np.diag(trace(figure, "diagonal").z)).all()
    assert figure.layout.yaxis.range == (150, 0)
    assert cells.colorbar.title.text == "cosine"
    assert figure.layout.xaxis.title.text == "step"


@pytest.mark.parametrize("part", ["cosines", "matrix", "norms"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_part_follows_the_theme_and_marks_the_selected_step(part, theme):
    figure = interactive.plot_directions(directions(), part=part, theme=theme, selected=60.0)
    assert figure.layout.template.layout.font.color == palette.THEMES[theme].text
    assert [shape.x0 for shape in figure.layout.shapes] == [60]
    assert "Infinity" not in figure.to_json()


def test_windows_without_numbers_leave_gaps():
    blank = np.array([np.nan, *np.full(11, 0.5)])
    result = directions(mean_cosine=blank, interval_low=blank, interval_high=blank, norm=blank)
    assert np.isnan(trace(interactive.plot_directions(result), "all pairs").y[0])
    for part in ("cosines", "norms", "matrix"):
        interactive.plot_directions(result, part=part).to_json()
    paper.draw_directions(result).to_bytes("pdf")
    empty = {f"lag_{name}": np.full((12, 3), np.nan) for name in ("cosine", "low", "high", "error")}
    shown = interactive.plot_directions(directions(**empty))
    assert not any("lag" in text for text in named(shown))


def test_on_paper_cosines_stand_over_norms_with_equal_steps():
    figure = paper.draw_directions(RUNS, drops=[(300.0, 0.01)])
    cosines, norms = figure.axes
    assert cosines.get_xlim() == norms.get_xlim() == (0, 800)
    assert cosines.get_ylabel() == "mean cosine, all pairs"
    assert norms.get_xlabel() == "step"
    lines = [line for line in cosines.lines if len(line.get_xdata()) == 12]
    np.testing.assert_allclose(lines[0].get_ydata(), RUNS[0][2].mean_cosine)
    texts = [text.get_text() for text in cosines.texts]
    assert {"SAM", "SAM+AACE", "null, 95 %", "lr 0.01"} <= set(texts)
    one = paper.draw_directions(directions(), panels=("cosines",)).axes[0]
    assert "lag 10, dashed" in [text.get_text() for text in one.texts]
    assert (
        len({str(line._unscaled_dash_pattern) for line in one.lines if line.get_lw() == 0.6}) == 3
    )
    with pytest.raises(ValueError, match="panels must be of"):
        paper.draw_directions(directions(), panels=("matrix",))


def test_the_matrix_on_paper_masks_its_diagonal():
    result = directions()
    drawing = drawing_of_result(result, "rotation")
    axes = getattr(paper, drawing.function)(result).axes
    mesh = next(ax for ax in axes if ax.get_xlabel() == "step").collections[0]
    cells = mesh.get_array()
    assert np.ma.getmaskarray(cells).sum() == 12
    assert cells[2, 5] == result.matrix[2, 5]
    assert mesh.get_coordinates()[0, :, 0].tolist() == [*result.start, 720]
    assert mesh.axes.get_ylim() == (720, 0)


@pytest.mark.parametrize("venue", ["icml", "slides"])
def test_paper_figures_are_equal_bytes_in_every_venue(venue):
    for draw in (paper.draw_directions, paper.draw_rotation):
        made = [draw(directions(), venue=venue).to_bytes("pdf") for _ in range(2)]
        assert made[0] == made[1]


def test_the_caption_says_windows_null_error_and_what_is_missing():
    result = directions()
    facts = result.facts | {"missing_steps": 3, "vanished": 2, "status": "died"}
    text = caption(replace(result, facts=facts))
    for part in (
        "720 perturbations recorded in training of ConvNet (SAM+AACE)",
        "12 windows of an epoch",
        "1, 10 and 100 steps apart",
        "0.4800 ± 0.0010",
        "−1/(n − 1)",
        "3 steps were not recorded; 2 vectors have length 0; it died.",
    ):
        assert part in text
    assert "not recorded" not in caption(result)
    rows = dict(facts_rows(result))
    assert rows["Vectors"] == "720, sketches of 4096 numbers"
    assert rows["First window"] == "mean cosine 0.360 (95 % 0.330 to 0.390)"
    assert "Missing" not in rows
    exact = replace(
        result,
        run_mean_cosine_error=0.0,
        lags=[1],
        **{f"lag_{name}": np.zeros((12, 1)) for name in ("cosine", "low", "high", "error")},
    )
    assert dict(facts_rows(exact))["Whole run"] == "0.480"
    assert dict(facts_rows(exact))["Lags"] == "1 step"


def test_tables_and_headline_hold_the_numbers():
    result = directions()
    sizes = {
        name: len(next(iter(columns_of(result, name).values()))) for name in TABLES["directions"]
    }
    assert sizes == {"windows": 12, "lags": 36, "matrix": 144}
    for name in sizes:
        assert len({len(column) for column in columns_of(result, name).values()}) == 1
    lags = columns_of(result, "lags")
    assert (lags["start"][4], lags["lag"][4]) == (60, 10)
    assert lags["lag_cosine"][4] == result.lag_cosine[1, 1]
    matrix = columns_of(result, "matrix")
    assert (matrix["start_i"][13], matrix["start_j"][13]) == (60, 60)
    assert headline(result)["of the last window"] == result.mean_cosine[-1]
    assert headline(result)["mean cosine of the run"] == 0.48

    class Stored:
        found, path = True, "x.h5"

    Stored.result = result
    assert "directions of a\n  vectors 720, windows 12" in report(Stored, "a")
