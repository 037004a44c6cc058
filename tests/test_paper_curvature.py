"""Curvature on paper: spectra, densities, traces, sharpness, stability, through training."""

import hashlib
import itertools
import subprocess
import sys
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from figure_samples import (
    curvature,
    deflated_density,
    density,
    ends_spectrum,
    sharpness,
    spectrum,
    stability,
    three,
    trace,
)
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.patches import Circle
from matplotlib.text import Text

from landscape.figures import palette, paper
from landscape.figures.paper_axes import tick_names
from landscape.figures.paper_style import VENUES, PaperFigure
from landscape.results import Density

PANELS = ("eigenvalues", "trace", "alignment", "rayleigh", "multiplier")
LONG = "adaptive worst case over the box of the weights' own magnitudes, with restarts"


def runs_of_curvature():
    return three(lambda scale: curvature(scale=scale, edge=scale > 0.6), (2, 1, 0.5))


def no_layers():
    return replace(trace(), layer_names=(), layer_size=[], layer_trace=[], layer_error=[])


def long_names():
    names = (LONG, *sharpness().names[1:])
    return replace(sharpness(), names=names, settings=(LONG, *sharpness().settings[1:]))


DRAWN = {
    "scree": lambda **k: paper.draw_spectrum(ends_spectrum(), **k),
    "scree with signs": lambda **k: paper.draw_spectrum(
        three(ends_spectrum, (40, 20, 10)), scale="symlog", **k
    ),
    "stems": lambda **k: paper.draw_density(deflated_density(), **k),
    "densities": lambda **k: paper.draw_density(three(deflated_density, (40, 20, 10)), **k),
    "density by decades": lambda **k: paper.draw_density(deflated_density(), scale="log", **k),
    "layers": lambda **k: paper.draw_trace(trace(), **k),
    "layers of runs": lambda **k: paper.draw_trace(
        three(lambda scale: trace(), (1, 1, 1)), per_parameter=True, **k
    ),
    "60 layers": lambda **k: paper.draw_trace(trace(60), **k),
    "probes": lambda **k: paper.draw_trace(no_layers(), **k),
    "sharpness": lambda **k: paper.draw_sharpness(sharpness(), **k),
    "sharpness of runs": lambda **k: paper.draw_sharpness(three(sharpness, (2, 1, 0.5)), **k),
    "long sharpness": lambda **k: paper.draw_sharpness(long_names(), **k),
    "stability": lambda **k: paper.draw_stability(stability(), **k),
    "stability of runs": lambda **k: paper.draw_stability(three(stability, (1.1, 0.9, 1.2)), **k),
    "curvature": lambda **k: paper.draw_curvature(curvature(), drops=[(300.0, 0.01)], **k),
    "curvature of runs": lambda **k: paper.draw_curvature(
        runs_of_curvature(), panels=PANELS, drops=[(300.0, 0.01)], **k
    ),
    "map of layers": lambda **k: paper.draw_layers(curvature(), **k),
}


@pytest.fixture(scope="module")
def drawn() -> dict[str, PaperFigure]:
    return {name: make() for name, make in DRAWN.items()}


def boxes(figure: PaperFigure) -> list[tuple[str, mpl.transforms.Bbox]]:
    """Visible texts with their places; of ticks those inside their axis."""
    with figure.style():
        figure.draw_without_rendering()
        found = []
        for text in figure.findobj(Text):
            shown = text.get_text().strip() and text.get_visible() and text.get_alpha() != 0
            if shown and _is_on_axis(text):
                found.append((text.get_text(), text.get_window_extent()))
    return found


def _is_on_axis(text: Text) -> bool:
    axes = text.axes
    if axes is None:
        return True
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        for tick in axis.get_major_ticks():
            if text in (tick.label1, tick.label2):
                inside = min(limits) <= tick.get_loc() <= max(limits)
                return text is tick.label1 and inside
    return True


@pytest.mark.parametrize("name", DRAWN)
def test_words_are_in_one_font_not_small_and_inside_the_canvas(drawn, name):
    figure = drawn[name]
    width, height = figure.get_size_inches() * figure.dpi
    for words, box in boxes(figure):
        inside = box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1
        assert inside, (words, box)
    shown = [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]
    assert min(text.get_fontsize() for text in shown) >= 6
    assert {text.get_fontproperties().get_family()[0] for text in shown} <= {"serif"}


@pytest.mark.parametrize("name", DRAWN)
def test_no_words_lie_on_others(drawn, name):
    for (one, box), (other, beside) in itertools.combinations(boxes(drawn[name]), 2):
        across = min(box.x1, beside.x1) - max(box.x0, beside.x0)
        up = min(box.y1, beside.y1) - max(box.y0, beside.y0)
        assert across <= 2 or up <= 4, (one, other)  # pixels at 150 dpi: descents may touch


@pytest.mark.parametrize("venue", ["neurips", "slides"])
def test_figures_keep_to_the_width_of_the_venue(venue):
    sizes = VENUES[venue]
    for name in ("scree", "densities", "layers", "curvature", "map of layers"):
        assert DRAWN[name](venue=venue).get_size_inches()[0] == pytest.approx(sizes.column), name
    for name in ("sharpness", "sharpness of runs", "long sharpness"):
        width = DRAWN[name](venue=venue).get_size_inches()[0]
        assert sizes.column - 1e-6 <= width <= sizes.text + 1e-6, name


# -- bytes ------------------------------------------------------------------------------------

DIGESTED = ("stems", "sharpness", "stability", "curvature", "map of layers")
SECOND = (
    "import sys; sys.path.insert(0, sys.argv[1]); import test_paper_curvature as t; t.say_digests()"
)


def digests() -> list[str]:
    return [f"{n} {hashlib.sha256(DRAWN[n]().to_bytes('pdf')).hexdigest()}" for n in DIGESTED]


def say_digests() -> None:
    sys.stdout.write("\n".join(digests()))


def test_bytes_are_equal_in_a_second_process_and_whatever_the_users_settings(request):
    command = [sys.executable, "-c", SECOND, str(request.path.parent)]
    elsewhere = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with mpl.rc_context({"font.size": 30, "pdf.fonttype": 3, "axes.facecolor": "red"}):
        assert digests() == elsewhere.splitlines()


def test_fonts_are_embedded_and_nothing_is_a_picture_but_a_color_bar(drawn):
    for name in DIGESTED:
        content = drawn[name].to_bytes("pdf")
        assert b"/Type3" not in content
        assert (b"/Subtype /Image" in content) == (name == "map of layers")


def collections(axes, gid):
    return [c for c in axes.collections if c.get_gid() == gid]


def lines(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


# -- trace and layers -------------------------------------------------------------------------


def test_bars_are_the_layers_traces_with_their_errors_and_the_whole_stands_above():
    shown = trace()
    axes = paper.draw_trace(shown).axes[0]
    assert [patch.get_width() for patch in axes.patches] == pytest.approx(list(shown.layer_trace))
    (bars,) = [c for c in axes.collections if isinstance(c, LineCollection)]
    halves = [np.ptp(segment[:, 0]) / 2 for segment in bars.get_segments()]
    assert halves == pytest.approx(list(shown.layer_error))
    assert [t.get_text() for t in axes.texts] == ["trace 100.0 ± 2.3 (95 % 95.2 to 104.8)"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_per_parameter_traces_are_divided_by_the_layers_sizes():
    shown = trace()
    axes = paper.draw_trace(shown, per_parameter=True).axes[0]
    wanted = shown.layer_trace / shown.layer_size
    assert [patch.get_width() for patch in axes.patches] == pytest.approx(list(wanted))
    with pytest.raises(ValueError, match="sizes"):
        paper.draw_trace(replace(shown, layer_size=[]), per_parameter=True)
    with pytest.raises(ValueError, match="same layers"):
        paper.draw_trace([("a", 0, shown), ("b", 1, trace(3))])


def test_a_map_of_layers_has_checkpoints_along_x_and_is_signed_where_a_trace_is_negative():
    shown = curvature()
    signed = paper.draw_layers(shown)
    mesh = next(c for c in signed.axes[0].collections if isinstance(c, QuadMesh))
    low, high = mesh.get_clim()
    assert low == -high
    values = np.asarray(mesh.get_array())
    assert values.shape == (6, 9)
    assert (values[2] < 0).all()
    assert (np.delete(values, 2, axis=0) > 0).all()
    positive = replace(shown, layer_trace=np.abs(shown.layer_trace))
    mesh = next(c for c in paper.draw_layers(positive).axes[0].collections)
    assert np.allclose(mesh.get_array(), np.log10(positive.layer_trace).T)
    doubtful = replace(
        shown, layer_error=np.abs(shown.layer_trace) / np.array([1.5, 3, 3, 3, 3, 3])
    )
    (unsure,) = lines(paper.draw_layers(doubtful).axes[0], "unsure")
    assert unsure.get_xydata().tolist() == [[c, 0] for c in range(9)]
    with pytest.raises(ValueError, match="layer by layer"):
        paper.draw_layers(replace(shown, layer_trace=[], layer_error=[]))


# -- sharpness --------------------------------------------------------------------------------


def places(figure) -> dict[str, list[tuple[float, float, str]]]:
    found: dict[str, list[tuple[float, float, str]]] = {}
    for text in figure.axes[0].texts:
        spot = (*text.get_position(), text.get_ha())
        found.setdefault(text.get_text(), []).append(spot)
    return found


def test_numbers_of_the_sharpness_table_are_aligned_at_their_points():
    at = places(paper.draw_sharpness(sharpness()))
    wholes = [at[word][0] for word in ("20", "100", "≥ 0")]
    assert {ha for _, _, ha in wholes} == {"right"}
    assert len({x for x, _, _ in wholes}) == 1
    decimals = [at[word][0] for word in (".1", ".0", ".0312", ".1250")]
    assert {x for x, _, _ in decimals} == {wholes[0][0]}
    assert len(at["≥ 0"]) == 3
    assert at["95.2 to 104.8"][0][1] == at["± 2.3"][0][1] == at["100"][0][1]


def test_the_audit_stands_in_the_table_of_one_run_only_unless_asked_for():
    assert "× 3.70" in places(paper.draw_sharpness(sharpness()))
    assert "× 3.70" not in places(paper.draw_sharpness(three(sharpness, (2, 1, 0.5))))
    assert "× 3.70" in places(paper.draw_sharpness(three(sharpness, (2, 1, 0.5)), audit=True))
    assert "× 3.70" not in places(paper.draw_sharpness(sharpness(), audit=False))


# -- stability --------------------------------------------------------------------------------


def test_multipliers_lie_in_a_plane_with_equal_axes_and_the_unit_circle():
    shown = replace(stability(), residuals=[2e-4] * 5 + [0.1])
    figure = paper.draw_stability(shown)
    axes = figure.axes[0]
    assert axes.get_aspect() == 1.0
    box = axes.get_window_extent()
    assert box.width == pytest.approx(box.height)
    (circle,) = [p for p in axes.patches if isinstance(p, Circle)]
    assert (circle.center, circle.radius) == ((0, 0), 1)
    marked = [line for line in axes.lines if line.get_marker() not in ("None", "")]
    filled, hollow = sorted(marked, key=lambda line: len(line.get_xdata()))[::-1]
    assert hollow.get_xydata().tolist() == [[-0.4, 0.0]]
    assert hollow.get_markerfacecolor() == "white"
    assert [1.04, 0.0] in filled.get_xydata().tolist()
    assert [t.get_text() for t in axes.texts] == [r"$|\mu_1|$ = 1.040"]


def test_the_multiplier_farthest_from_one_is_named_where_it_was_looked_for():
    swinging = replace(stability(), facts={"swing": {"magnitude": 0.4}})
    words = [t.get_text() for t in paper.draw_stability(swinging).axes[0].texts]
    assert words == [r"$|\mu_1|$ = 1.040", r"$|\mu|$ = 0.4000"]


# -- through training -------------------------------------------------------------------------


def test_the_edge_is_drawn_where_it_is_known_up_to_the_drop_and_labeled_on_the_line():
    ended = replace(curvature(), edge_step=[0, 100, 290], edge_level=[38.0, 38.0, np.nan])
    axes = paper.draw_curvature(ended, drops=[(290.0, 0.01)]).axes[0]
    (edge,) = lines(axes, "edge")
    assert edge.get_color() == palette.LIGHT.warn
    assert edge.get_xydata()[[0, -1]].tolist() == [[0.0, 38.0], [290.0, 38.0]]
    label = next(t for t in axes.texts if t.get_text() == "2 (1 + β) / η")
    assert label.get_color() == palette.LIGHT.warn
    none = paper.draw_curvature(curvature(edge=False)).axes[0]
    assert not lines(none, "edge")
    assert "AACE" not in "".join(t.get_text() for t in none.texts)


def test_an_edge_changes_where_it_says_and_has_gaps_where_it_is_unknown():
    known = replace(curvature(), edge_step=[0, 250, 360, 420], edge_level=[38, 380, np.nan, 380])
    edges = lines(paper.draw_curvature(known).axes[0], "edge")
    first, second = (line.get_xydata().tolist() for line in edges)
    assert first == [[0.0, 38.0], [250.0, 38.0], [250.0, 380.0], [360.0, 380.0]]
    assert second[0] == [420.0, 380.0]
    assert second[-1][0] >= 480


def test_equal_edges_of_runs_are_drawn_once_and_different_ones_named():
    same = [("a", 0, curvature()), ("b", 1, curvature(scale=0.5))]
    axes = paper.draw_curvature(same).axes[0]
    assert len(lines(axes, "edge")) == 1
    other = replace(curvature(), edge_level=curvature().edge_level / 2)
    axes = paper.draw_curvature([("a", 0, curvature()), ("b", 1, other)]).axes[0]
    assert len(lines(axes, "edge")) == 2
    words = [t.get_text() for t in axes.texts]
    assert {"2 (1 + β) / η, a", "2 (1 + β) / η, b"} <= set(words)


def test_labels_of_edges_that_lie_close_do_not_lie_on_each_other():
    close = replace(curvature(), edge_level=curvature().edge_level * 0.97)
    figure = paper.draw_curvature([("a", 0, curvature()), ("b", 1, close)])
    one, other = (box for words, box in boxes(figure) if words.startswith("2 (1"))
    assert not one.overlaps(other)


def test_ticks_of_a_narrow_range_are_told_apart_and_long_ones_are_powers():
    narrow = paper.draw_curvature(
        replace(curvature(), multiplier=1 + 1e-4 * np.arange(9)), panels=("multiplier",)
    )
    names = [t.get_text() for t in narrow.axes[0].get_yticklabels()]
    assert len(set(names)) == len(names) >= 3
    assert tick_names(np.array([0.0, -2e6, 3.5e6])) == ["0", "−2e6", "3.5e6"]
    assert tick_names(np.array([0.0, 200.0])) == ["0", "200"]


def test_checkpoints_that_did_not_converge_are_hollow_where_it_matters():
    top, below = paper.draw_curvature(curvature()).axes
    hollow = [line for line in top.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata().tolist() for line in hollow if len(line.get_xdata())] == [[240]]
    assert not [x for x in below.lines if x.get_markerfacecolor() == "white" and len(x.get_xdata())]


def test_panels_share_their_steps_and_those_not_measured_are_left_out_or_refused():
    figure = paper.draw_curvature(curvature(), panels=PANELS)
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    assert len({axes.get_position().x0 for axes in figure.axes}) == 1
    assert [axes.get_xlabel() for axes in figure.axes] == [""] * 4 + ["step"]
    bare = replace(curvature(), trace=[], trace_error=[], multiplier=[])
    assert len(paper.draw_curvature(bare).axes) == 1
    with pytest.raises(ValueError, match="multiplier must be measured"):
        paper.draw_curvature(bare, panels=("eigenvalues", "multiplier"))
    with pytest.raises(ValueError, match="panels must be of"):
        paper.draw_curvature(bare, panels=("loss",))


def test_directions_have_their_null_and_quotients_are_over_the_largest_eigenvalue():
    shown = curvature()
    cosines, quotients = paper.draw_curvature(shown, panels=("alignment", "rayleigh")).axes
    (null,) = collections(cosines, "null")
    assert null.get_paths()[0].vertices[:, 1].max() == pytest.approx(1.96 / np.sqrt(61706))
    ends = sorted(line.get_ydata()[-1] for line in quotients.lines if len(line.get_ydata()) == 9)
    assert ends == pytest.approx([0.1, 0.5, 0.7])


def test_runs_side_by_side_show_the_perturbation_that_each_trained_with():
    named = replace(curvature(), direction_names=("gradient", "SAM ρ=0.05", "AACE ρ=0.2"))
    items = [("plain", 2, replace(named, facts={"method": "SGD"})), ("SAM", 0, named)]
    (axes,) = paper.draw_curvature(items, panels=("alignment",)).axes
    ends = [line.get_ydata()[-1] for line in axes.lines if len(line.get_xdata()) == 9]
    assert ends == pytest.approx([0.9, 0.6])


# -- what is extreme --------------------------------------------------------------------------


def flat(values) -> Density:
    nodes = np.atleast_2d(values)
    return replace(density(), nodes=nodes, weights=np.full(nodes.shape, 1 / nodes.shape[1]))


EXTREME = {
    "one eigenvalue": lambda: paper.draw_spectrum(
        replace(spectrum(), eigenvalues=[-3.0], residuals=[0.1])
    ),
    "all negative": lambda: paper.draw_spectrum(
        replace(spectrum(), eigenvalues=-np.arange(1.0, 5)), scale="symlog"
    ),
    "zero spectrum": lambda: paper.draw_spectrum(
        replace(spectrum(), eigenvalues=np.zeros(4)), scale="symlog"
    ),
    "zero density": lambda: paper.draw_density(flat([0.0, 0.0])),
    "zero density by decades": lambda: paper.draw_density(flat([0.0, 0.0]), scale="log"),
    "negative density": lambda: paper.draw_density(flat([-3.0, -2.0, -1.0]), scale="log"),
    "trace of NaN": lambda: paper.draw_trace(
        replace(
            trace(),
            trace=np.nan,
            interval_low=np.nan,
            layer_trace=np.full(6, np.nan),
            layer_error=[],
        )
    ),
    "probes of NaN": lambda: paper.draw_trace(
        replace(no_layers(), trace=np.nan, samples=[np.nan], interval_low=np.nan)
    ),
    "layers of NaN": lambda: paper.draw_layers(
        replace(curvature(), layer_trace=np.full((9, 6), np.nan))
    ),
    "one checkpoint": lambda: paper.draw_curvature(curvature(checkpoints=1), panels=PANELS),
    "map of one checkpoint": lambda: paper.draw_layers(curvature(checkpoints=1)),
    "one huge negative": lambda: paper.draw_curvature(
        replace(curvature(), lowest=np.full(9, -4e6))
    ),
    "all zero": lambda: paper.draw_curvature(
        replace(curvature(), eigenvalues=np.zeros((9, 5)), lowest=[], edge_step=[], edge_level=[]),
        panels=PANELS,
    ),
    "no multiplier": lambda: paper.draw_stability(
        replace(
            stability(),
            multipliers_real=[np.nan],
            multipliers_imag=[np.nan],
            residuals=[np.nan],
            multiplier=np.nan,
        )
    ),
    "huge multiplier": lambda: paper.draw_stability(stability(1234.5)),
    "no measure known": lambda: paper.draw_sharpness(
        replace(sharpness(), value=np.full(6, np.nan), audit=[], audit_names=())
    ),
}


@pytest.mark.parametrize("name", EXTREME)
def test_extremes_are_drawn_without_a_warning_and_inside_the_canvas(name):
    figure = EXTREME[name]()
    width, height = figure.get_size_inches() * figure.dpi
    for words, box in boxes(figure):
        inside = box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1
        assert inside, (words, box)
