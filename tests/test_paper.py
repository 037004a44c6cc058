import hashlib
import re
import subprocess
import sys
import zlib

import matplotlib as mpl
import numpy as np
import pytest
from direction_samples import directions, offset, rise
from figure_samples import (
    barrier,
    consistency,
    curvature,
    curve,
    density,
    joint_surface,
    line_profile,
    measured_surface,
    profile,
    sharpness,
    spectrum,
    stability,
    steps,
    surface,
    trace,
    trajectory,
)
from matplotlib.collections import QuadMesh
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from samples import claim_of, comparison_of

from landscape import figures
from landscape.figures import interactive, palette, paper
from landscape.figures.fields import field_of
from landscape.figures.paper_style import VENUES
from landscape.figures.paper_surface3d import _View
from landscape.results import KINDS, Surface

DRAWN = {
    "profile": lambda **k: paper.draw_profile(profile(diverged=True), color=1, **k),
    "profiles": lambda **k: paper.draw_profile(
        [("SGD", 2, profile()), ("SAM", 0, profile(2))], **k
    ),
    "surface": lambda **k: paper.draw_surface(surface(), color=1, drops=[(40.0, 0.01)], **k),
    "surfaces": lambda **k: paper.draw_surface(
        [("SGD", 2, surface()), ("SAM", 0, surface(7, 7)), ("AACE", 1, surface())], **k
    ),
    "surface3d": lambda **k: paper.draw_surface3d(surface(), drops=[(40.0, 0.01)], **k),
    "joint": lambda **k: paper.draw_surface(joint_surface(), **k),
    "joint3d": lambda **k: paper.draw_surface3d(joint_surface(), **k),
    "convexity": lambda **k: paper.draw_surface(measured_surface(), quantity="convexity", **k),
    "line": lambda **k: paper.draw_profile(line_profile(), right="accuracy", **k),
    "barrier": lambda **k: paper.draw_barrier(barrier(3), **k),
    "barriers": lambda **k: paper.draw_barrier(barrier(8), quantity="error", **k),
    "line of a barrier": lambda **k: paper.draw_barrier(barrier(2), **k),
    "curve": lambda **k: paper.draw_curve(curve(), **k),
    "spectrum": lambda **k: paper.draw_spectrum(spectrum(), **k),
    "density": lambda **k: paper.draw_density(density(), spectrum(), context=density(), **k),
    "eigenvalues": lambda **k: paper.draw_eigenvalues(
        [(0, spectrum(4)), (40, spectrum(8, converged=False))], drops=[(20.0, 0.01)], **k
    ),
    "consistency": lambda **k: paper.draw_consistency(
        [("SAM", 0, [consistency(0.1, s) for s in (0, 240, 480)])], drops=[(240.0, 0.01)], **k
    ),
    "cosines": lambda **k: paper.draw_cosines(consistency(), **k),
    "trajectory": lambda **k: paper.draw_trajectory(trajectory(), drops=[(40.0, 0.01)], **k),
    "steps": lambda **k: paper.draw_steps(steps(), **k),
}


def main_axes(figure):
    return figure.axes[0]


def field_mesh(axes) -> QuadMesh:
    return next(c for c in axes.collections if c.get_gid() == "field")


def test_alpha_runs_along_x_on_paper():
    result = surface(holes=False)
    axes = main_axes(paper.draw_surface(result))
    corners = field_mesh(axes).get_coordinates()
    values = field_mesh(axes).get_array()
    centers = (corners[:-1, :-1] + corners[1:, 1:]) / 2
    place = np.hypot(*(centers - [result.alpha[7], result.beta[1]]).transpose(2, 0, 1))
    nearest = np.unravel_index(place.argmin(), place.shape)
    assert values[nearest] == pytest.approx(np.log10(result.loss[7, 1]), abs=0.05)
    assert axes.get_xlabel() == "first"
    assert axes.get_ylabel() == "second"
    assert axes.get_xlim() == (-1, 1.5)
    assert axes.get_ylim() == (-0.75, 1)


def test_holes_stay_holes_on_paper():
    axes = main_axes(paper.draw_surface(surface()))
    assert np.ma.getmaskarray(field_mesh(axes).get_array()).any()
    hatched = [p for p in axes.patches if isinstance(p, Rectangle) and p.get_hatch()]
    assert len(hatched) == 1
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert crosses[0].get_xydata().tolist() == [[surface().alpha[2], surface().beta[4]]]
    plain = main_axes(paper.draw_surface(surface(holes=False)))
    assert not [p for p in plain.patches if p.get_hatch()]


def test_panels_share_limits_one_color_bar_and_letters():
    louder = Surface(**{**vars(surface()), "loss": 10 * surface().loss})
    figure = paper.draw_surface([("SGD", 2, surface()), ("SAM", 0, louder)])
    *panels, bar = figure.axes
    assert len(panels) == 2
    assert len({field_mesh(axes).get_clim() for axes in panels}) == 1
    assert bar.get_ylabel() == "loss"
    words = [text.get_text() for axes in panels for text in axes.texts]
    assert {"(a)", "(b)", "SGD", "SAM"} <= set(words)
    assert [bool(axes.get_yticklabels()[0].get_text()) for axes in panels] == [True, False]


def test_panels_on_different_planes_keep_their_own_numbers():
    wide = Surface(**{**vars(surface()), "beta": 2 * surface().beta})
    figure = paper.draw_surface([("SGD", 2, surface()), ("SAM", 0, wide)])
    labels = [axes.get_yticklabels()[0].get_text() for axes in figure.axes[:2]]
    assert all(labels)


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_figures_have_the_width_of_the_venue(venue):
    sizes = VENUES[venue]
    one = paper.draw_profile(profile(), venue=venue)
    assert one.get_size_inches()[0] == pytest.approx(sizes.column)
    three = paper.draw_surface(
        [("a", i, surface(5, 5, holes=False)) for i in range(3)], venue=venue
    )
    assert three.get_size_inches()[0] == pytest.approx(sizes.text)
    for axes in three.axes:
        place = axes.get_position()
        assert place.x0 >= 0
        assert place.x1 <= 1
        assert place.y1 <= 1


def test_an_unknown_venue_is_refused():
    with pytest.raises(ValueError, match="venue must be one of"):
        paper.draw_profile(profile(), venue="icmll")


@pytest.mark.parametrize("name", DRAWN)
def test_fonts_are_embedded_as_type_42_and_no_words_are_small(name):
    figure = DRAWN[name]()
    content = figure.to_bytes("pdf")
    assert b"/Type3" not in content
    assert b"/CIDFontType2" in content or b"/TrueType" in content
    shown = [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]
    assert min(text.get_fontsize() for text in shown) >= 6
    families = {text.get_fontproperties().get_family()[0] for text in shown}
    assert families <= {"serif"}


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_is_cut_off_at_the_border(name):
    figure = DRAWN[name]()
    with figure.style():
        figure.canvas.draw()
    width, height = figure.get_size_inches() * figure.dpi
    for text in figure.findobj(Text):
        if text.get_text().strip() and text.get_visible() and text.get_alpha() != 0:
            box = text.get_window_extent()
            inside = box.x0 > -2 and box.y0 > -2 and box.x1 < width + 2 and box.y1 < height + 2
            assert inside or text.get_clip_on() or not _on(text), text


def _on(text: Text) -> bool:
    """Whether a tick label belongs to a tick inside the axis."""
    axes = text.axes
    if axes is None or text not in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        return True
    return text.get_text() != ""


DIGESTED = {
    "surface": ("pdf", "svg", "png", "eps"),
    "density": ("pdf", "svg"),
    "surface3d": ("png",),
}
SECOND = (
    "import sys; sys.path.insert(0, sys.argv[1]); import test_paper; test_paper.print_digests()"
)


def digests() -> list[str]:
    return [
        f"{name} {kind} {hashlib.sha256(DRAWN[name]().to_bytes(kind)).hexdigest()}"
        for name, kinds in DIGESTED.items()
        for kind in kinds
    ]


def print_digests() -> None:
    sys.stdout.write("\n".join(digests()))


def test_bytes_are_equal_in_a_second_process_and_whatever_the_users_settings(request):
    done = subprocess.run(
        [sys.executable, "-c", SECOND, str(request.path.parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    elsewhere = done.stdout.splitlines()
    assert len(elsewhere) == 7
    unlike_ours = {"font.size": 30, "pdf.fonttype": 3, "svg.hashsalt": "x", "savefig.bbox": "tight"}
    unlike_ours |= {"axes.facecolor": "red", "xtick.minor.visible": True}
    with mpl.rc_context(unlike_ours):
        assert digests() == elsewhere


def test_a_figure_saved_twice_has_equal_bytes_and_no_date(tmp_path):
    figure = DRAWN["density"]()
    first = figure.to_bytes("pdf")
    figure.savefig(tmp_path / "again.pdf")
    assert (tmp_path / "again.pdf").read_bytes() == first == figure.to_bytes("pdf")
    assert b"CreationDate" not in first
    assert b"dc:date" not in figure.to_bytes("svg")
    assert b"CreationDate" not in figure.to_bytes("eps")


def test_drawing_leaves_the_users_settings_alone():
    before = dict(mpl.rcParams)
    DRAWN["surfaces"]().to_bytes("png")
    assert dict(mpl.rcParams) == before


def test_the_map_is_a_picture_of_600_dpi_under_vector_words():
    content = paper.draw_surface(surface(holes=False)).to_bytes("pdf")
    widths = [int(w) for w in re.findall(rb"/Width (\d+)", content)]
    side = 3.25 - 0.40 - 0.11 - 0.085 - 0.42
    assert max(widths) == pytest.approx(600 * side, rel=0.03)
    streams = [_inflated(part) for part in re.findall(rb"stream\r?\n(.*?)endstream", content, re.S)]
    assert any(b"Tj" in stream or b"TJ" in stream for stream in streams)


def _inflated(part: bytes) -> bytes:
    try:
        return zlib.decompress(part)
    except zlib.error:
        return b""


def test_consistency_on_paper_has_its_null_band_below_everything():
    axes = main_axes(DRAWN["consistency"]())
    band = next(c for c in axes.collections if c.get_gid() == "null")
    corners = band.get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (-0.03, 0.05)
    assert (corners[:, 0].min(), corners[:, 0].max()) == axes.get_xlim()
    assert all(band.get_zorder() < line.get_zorder() for line in axes.lines)
    assert "null, 95 %" in [text.get_text() for text in axes.texts]


def test_explained_variance_on_paper_stands_beside_its_null():
    _, bars = DRAWN["trajectory"]().axes
    heights = [patch.get_height() for patch in bars.patches]
    assert heights == pytest.approx([0.8, 0.1, 0.05, 0.7, 0.12, 0.06])


def test_the_profile_on_paper_is_the_median_with_a_gap_where_a_repeat_diverged():
    axes = main_axes(DRAWN["profile"]())
    line = max(axes.lines, key=lambda line: len(line.get_xdata()))
    assert np.isnan(line.get_ydata()[0])
    assert np.allclose(line.get_ydata()[1:], 2 * profile().alpha[1:] ** 2)


def test_the_density_on_paper_has_stems_of_height_one():
    axes = main_axes(DRAWN["density"]())
    dots = next(line for line in axes.lines if line.get_marker() == "o")
    assert dots.get_xdata().tolist() == [-6, 4, 10, 20]
    assert dots.get_ydata().tolist() == [1.0] * 4


def test_the_scree_on_paper_leaves_negative_ones_hollow():
    axes = main_axes(DRAWN["spectrum"]())
    marked = [line for line in axes.lines if line.get_marker() not in ("", "None")]
    hollow = [line for line in marked if line.get_markerfacecolor() == "white"]
    assert [line.get_ydata().tolist() for line in hollow] == [[6.0]]


def test_the_matrix_on_paper_is_not_mirrored_and_has_a_grey_diagonal():
    axes = main_axes(DRAWN["cosines"]())
    image = axes.images[0]
    assert image.get_array()[2, 5] == consistency().cosines[2, 5]
    assert np.ma.getmaskarray(image.get_array()).diagonal().all()
    low, high = image.get_clim()
    assert low == -high
    assert mpl.colors.to_hex(axes.get_facecolor()).upper() == palette.LIGHT.diverged
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_in_3d_what_lies_behind_the_surface_is_hidden():
    ridge = surface(31, 31, holes=False)
    y = ridge.beta[None, :]
    loss = 0.1 + 3 * np.exp(-(((y + 0.3) / 0.15) ** 2)) * np.ones((31, 1))
    view = _View(field_of(Surface(**{**vars(ridge), "loss": loss}), scale="linear"))
    before, behind = view.visible(np.array([[0.2, -0.7, 0.2], [0.2, 0.0, 0.15]]))
    assert before
    assert not behind
    top = view.visible(np.array([[0.2, -0.3, 3.2]]))
    assert top[0]


def test_every_kind_of_result_has_its_paper_figure():
    made = [surface, profile, barrier, curve, spectrum, density, consistency, trajectory]
    made += [trace, sharpness, stability, curvature, comparison_of, claim_of, rise, offset]
    made += [directions]
    assert {make().kind for make in made} == set(KINDS)
    for make in made:
        assert isinstance(figures.draw(make()), paper.PaperFigure)
        assert make().figure(venue="neurips").axes


def changed(result, **arrays):
    return type(result)(**{**vars(result), **arrays})


def flat_surface(a: int, b: int, loss: float, *, evaluated: bool = True) -> Surface:
    return Surface(
        alpha=np.linspace(0, 1, a),
        beta=np.linspace(0, 1, b),
        loss=np.full((a, b), loss),
        accuracy=np.full((a, b), np.nan),
        evaluated=np.full((a, b), evaluated),
    )


DEGENERATE = {
    "one point": lambda: flat_surface(1, 1, 0.5),
    "one row": lambda: flat_surface(4, 1, 0.5),
    "all diverged": lambda: flat_surface(3, 4, np.inf),
    "nothing evaluated": lambda: flat_surface(3, 4, np.nan, evaluated=False),
    "loss of zero": lambda: flat_surface(3, 4, 0.0),
    "negative loss": lambda: flat_surface(3, 4, -1.0),
    "nothing between minima": lambda: changed(barrier(), loss=np.full((3, 3, 5), np.nan)),
    "flat between minima": lambda: changed(
        barrier(2), loss=np.ones((2, 2, 5)), height=np.zeros((2, 2))
    ),
    "a curve that diverged": lambda: changed(curve(), loss=np.full(21, np.inf)),
    "minima at one place": lambda: changed(
        curve(), position=np.zeros((21, 2)), bend_position=np.zeros((1, 2))
    ),
    "no curvature": lambda: changed(
        measured_surface(), lambda_max=np.zeros((9, 6)), lambda_min=np.zeros((9, 6))
    ),
    "one repeat": lambda: changed(
        profile(),
        loss=profile().loss[:1],
        accuracy=profile().accuracy[:1],
        evaluated=profile().evaluated[:1],
    ),
    "profile of nothing": lambda: changed(profile(), loss=np.full((3, 11), np.nan)),
    "zero eigenvalue": lambda: changed(spectrum(), eigenvalues=np.zeros(4)),
    "no eigenvalue": lambda: changed(spectrum(), eigenvalues=[], residuals=[]),
    "one node": lambda: changed(density(), nodes=[[2.0]], weights=[[1.0]]),
    "vanished perturbations": lambda: changed(
        consistency(), cosines=np.full((12, 12), np.nan), mean_cosine=np.nan
    ),
    "no motion": lambda: changed(trajectory(), position=np.zeros((6, 2)), step_length=np.zeros(5)),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_results_are_drawn_without_a_warning(name):
    result = DEGENERATE[name]()
    assert figures.plot(result).to_json()
    assert figures.draw(result).to_bytes("png")
    if result.kind == "surface":
        assert figures.plot(result, view="3d").to_json()
        assert paper.draw_surface3d(result).to_bytes("png")
    if name == "no curvature":
        assert interactive.plot_surface(result, quantity="convexity").to_json()
        assert paper.draw_surface(result, quantity="convexity").to_bytes("png")


def test_a_run_that_has_just_begun_is_drawn():
    empty = {name: column[:0] for name, column in steps().items()}
    figure = paper.draw_steps([("new", 0, empty), ("old", 1, steps())])
    assert len(main_axes(figure).lines) >= 2
