"""Found eigenvalues and densities on paper: what each mark stands for."""

from dataclasses import replace

import numpy as np
import pytest
from figure_samples import deflated_density, density, ends_spectrum, three

from landscape.figures import palette, paper


def collections(axes, gid):
    return [c for c in axes.collections if c.get_gid() == gid]


def lines(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def test_pairs_above_the_tolerance_are_crossed_out_and_bars_are_residuals():
    axes = paper.draw_spectrum(ends_spectrum()).axes[0]
    (cross,) = lines(axes, "loose")
    assert cross.get_xydata().tolist() == [[9.0, 0.4], [10.0, pytest.approx(0.08)]]
    bars = np.concatenate([c.get_segments() for c in collections(axes, "residual")])
    top = bars[np.argmax(bars[:, 1, 1])]
    assert top[:, 1].tolist() == [pytest.approx(20 - 4e-3), pytest.approx(20 + 4e-3)]


def test_negative_eigenvalues_are_hollow_and_red_or_of_the_runs_color_beside_others():
    def inks(figure):
        marked = [x for x in figure.axes[0].lines if x.get_markerfacecolor() == "white"]
        return {x.get_markeredgecolor() for x in marked}

    assert inks(paper.draw_spectrum(ends_spectrum())) == {palette.LIGHT.err}
    several = inks(paper.draw_spectrum(three(ends_spectrum, (40, 20, 10))))
    assert several == {palette.run_color(i).light for i in (2, 0, 1)}


def test_a_signed_axis_shows_signs_and_its_zero():
    axes = paper.draw_spectrum(ends_spectrum(), scale="symlog").axes[0]
    low, high = axes.get_ylim()
    assert low < -4 < 20 < high
    assert axes.get_xlabel() == r"rank by $\lambda$"
    assert "0" in [t.get_text() for t in axes.get_yticklabels()]


def stems_of(axes) -> list[float]:
    """λ of the stems, from their marks of height 1."""
    marked = [line for line in axes.lines if line.get_marker() not in ("None", "")]
    return [x for line in marked for x, y in line.get_xydata().tolist() if y == 1.0]


def test_deflated_eigenvalues_are_stems_of_height_one_and_no_part_of_the_curve():
    shown = deflated_density()
    axes = paper.draw_density(shown).axes[0]
    assert stems_of(axes) == pytest.approx([4, 6, 8, 12, 20])
    curve = max(axes.lines, key=lambda line: len(line.get_xdata()))
    x, y = curve.get_xydata().T
    assert np.trapezoid(y, x) == pytest.approx(995, rel=1e-3)
    assert [line.get_xdata() for line in lines(axes, "zero")] == [[0, 0]]


def test_numbers_of_a_density_stand_above_it_and_a_fifth_eigenvalue_is_needed_for_the_ratio():
    def words(figure):
        return " ".join(t.get_text() for t in figure.axes[0].texts)

    whole = words(paper.draw_density(deflated_density()))
    for part in (r"$\lambda_1$ = 20.0", r"$\lambda_1/\lambda_5$ = 5.00", "93.5 ± 4.2", "= 0.05"):
        assert part in whole, whole
    shown = deflated_density()
    few = replace(shown, outliers=shown.outliers[:4], outlier_residuals=np.zeros(4))
    assert r"\lambda_5" not in words(paper.draw_density(few))
    bare = words(paper.draw_density(density()))
    assert r"$\lambda_1$ ≥ 20.0" in bare  # a Ritz value is a lower bound


def test_densities_share_their_axes_and_each_is_whole():
    items = three(deflated_density, (40, 20, 10))
    axes = paper.draw_density(items).axes[0]
    low, high = axes.get_xlim()
    assert low < -0.3
    assert high > 40
    shown = stems_of(axes)
    assert sorted(shown) == pytest.approx(sorted(v for _, _, d in items for v in d.outliers))
    assert [t.get_text() for t in axes.texts if t.get_text() in ("SGD", "SAM", "SAM+AACE")]


def test_by_decades_both_signs_are_drawn_and_what_is_below_is_counted():
    shown = deflated_density()
    axes = paper.draw_density(shown, scale="log").axes[0]
    signs = [line for line in axes.lines if len(line.get_xdata()) > 100]
    assert {line.get_linestyle() for line in signs} == {"-", "--"}
    decades = max((line for line in signs if line.get_linestyle() == "-"), key=lambda x: x.zorder)
    x, y = decades.get_xydata().T
    kept = shown.weights * (shown.nodes > shown.sigma)
    assert np.trapezoid(y, x) == pytest.approx(995 * kept.sum() / 3, rel=0.02)
    dashed = next(line for line in signs if line.get_linestyle() == "--")
    below = shown.weights * (shown.nodes < -shown.sigma)
    assert np.trapezoid(*dashed.get_xydata().T[::-1]) == pytest.approx(
        995 * below.sum() / 3, rel=0.02
    )
    assert any("not drawn" in t.get_text() for t in axes.texts)


@pytest.mark.parametrize(
    ("style", "message"),
    [
        ({"axis": "log"}, "axis must be"),
        ({"scale": "linear"}, "scale must be"),
        ({"scale": "log", "context": density()}, "over"),
        ({"spectrum": [None, None]}, "one for each density"),
    ],
)
def test_a_density_refuses_axes_that_it_does_not_have(style, message):
    with pytest.raises(ValueError, match=message):
        paper.draw_density(deflated_density(), **style)
