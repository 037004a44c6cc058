"""Figures of what perturbations do: true values in the traces, shared axes, words, tables."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from direction_samples import frozen, offset, rise
from figure_samples import surface
from samples import CHECKPOINTS, make_runs

from landscape import figures
from landscape.exports import draw_and_save, redraw
from landscape.figures import interactive, paper
from landscape.figures.captions import caption, facts_rows
from landscape.figures.layer_agreement import agreement_of
from landscape.figures.subjects import drawing_of_runs
from landscape.figures.tables import TABLES, columns_of, csv_of
from landscape.intervals import t_interval
from landscape.runs import Run

STEPS = (0, 240, 480)


def trace(figure, name):
    return next(t for t in figure.data if t.name == name)


def bare(mean: float, step: int, **other):
    """SAM's: not taken apart."""
    empty = {name: np.empty((0, 12)) for name in ("component_norms", "component_cosines")}
    return frozen(
        mean, step, component_names=(), component_mean_cosine=np.empty(0), **empty, **other
    )


def both():
    return [
        ("SAM ρ=0.05", 0, [bare(0.05, step) for step in STEPS]),
        ("AACE ρ=0.2", 1, [frozen(0.6, step) for step in STEPS]),
    ]


def rises():
    return [
        ("SAM ρ=0.05", 0, [rise(step=step) for step in STEPS]),
        ("AACE ρ=0.2", 1, [rise(up=-1.0, step=step) for step in STEPS]),
    ]


def scans():
    return [("SAM ρ=0.05", 0, offset(-1.0)), ("AACE ρ=0.2", 1, offset(0.7))]


# -- lines over checkpoints -------------------------------------------------------------------


def test_a_line_is_the_mean_over_batches_with_its_t_interval_in_order_of_steps():
    results = [frozen(0.6, step, seed=step) for step in (480, 0, 240)]
    line = trace(interactive.plot_shares([("AACE", 1, results)]), "AACE")
    assert list(line.x) == [0, 240, 480]
    by_step = sorted(results, key=lambda r: r.step[0])
    assert np.allclose(line.y, [r.effective_share.mean() for r in by_step])
    ends = np.array([t_interval(r.effective_share) for r in by_step])
    assert np.allclose(np.array(line.y) + line.error_y.array, ends[:, 1])
    assert np.allclose(np.array(line.y) - line.error_y.arrayminus, ends[:, 0])


def test_a_batch_that_is_not_finite_leaves_a_gap_not_a_biased_mean():
    share = np.full(12, 0.5)
    share[3] = np.nan
    results = [frozen(0.6, 0), frozen(0.6, 240, effective_share=share)]
    line = trace(interactive.plot_shares([("AACE", 1, results)]), "AACE")
    assert np.isfinite(line.y[0])
    assert np.isnan(line.y[1])


def test_the_parts_of_a_perturbation_are_named_and_only_it_has_them():
    figure = interactive.plot_components(both())
    names = [t.name for t in figure.data]
    assert names == ["anti-gradient, anti-gradient", "margin, margin"]
    margin = trace(figure, "margin, margin")
    assert np.allclose(margin.y, 0.95)
    assert margin.marker.color != margin.line.color
    alone = interactive.plot_components(both(), part="agreement")
    assert np.allclose(trace(alone, "margin, margin").y, 0.7)


def test_radial_and_gradient_hold_the_measured_cosines():
    radial = interactive.plot_components(both(), part="radial")
    mean = frozen(0.6, 240).radial.mean()
    assert trace(radial, "AACE ρ=0.2").y[1] == pytest.approx(mean)
    gradient = interactive.plot_components(both(), part="gradient")
    full = trace(gradient, "AACE ρ=0.2, all data")
    assert full.y[1] == pytest.approx(frozen(0.6, 240).cosine_full.mean())
    relative = interactive.plot_components(both(), part="relative")
    whole = np.linalg.norm(frozen().layer_weight)
    assert trace(relative, "AACE ρ=0.2").y[1] == pytest.approx(frozen().norms.mean() / whole)
    with pytest.raises(ValueError, match="part must be one of components"):
        interactive.plot_components(both(), part="parts")


def test_rises_at_all_places_stand_on_equal_axes_with_a_line_at_zero():
    drawn = [
        interactive.plot_rise(rises(), place=place)
        for place in ("same batch", "another batch", "test batch")
    ]
    assert len({tuple(figure.layout.yaxis.range) for figure in drawn}) == 1
    assert all(figure.layout.yaxis.zeroline for figure in drawn)
    low, high = drawn[0].layout.yaxis.range
    assert low < 0 < high
    result = rise()
    true = trace(drawn[1], "SAM ρ=0.05, true")
    assert true.y[0] == pytest.approx(result.rise[1, 0].mean())
    first = trace(drawn[1], "SAM ρ=0.05, to first order")
    assert first.y[0] == pytest.approx(result.first_order[1, 0].mean())
    assert first.line.dash != true.line.dash


def test_a_common_radius_is_chosen_by_its_length():
    figure = interactive.plot_rise(rises(), radius=0.05)
    assert trace(figure, "SAM ρ=0.05, true").y[0] == pytest.approx(rise().rise[0, 1].mean())
    with pytest.raises(ValueError, match=r"those measured, 0\.05, 1; got 0\.3"):
        interactive.plot_rise(rises(), radius=0.3)


@pytest.mark.parametrize(
    ("quantity", "own"),
    [
        ("share", np.sum(rise().alignment ** 2, axis=1)),
        ("cosine", rise().alignment[:, 0]),
        ("rayleigh", rise().rayleigh / 12.0),
    ],
)
def test_curvature_along_a_perturbation_stands_beside_its_gradients(quantity, own):
    figure = interactive.plot_rise(rises(), part="curvature", quantity=quantity)
    assert trace(figure, "SAM ρ=0.05, ε").y[0] == pytest.approx(own.mean())
    assert "SAM ρ=0.05, gradient of its batch" in [t.name for t in figure.data]
    single = interactive.plot_rise(rise(), part="curvature", quantity=quantity)
    assert np.allclose(trace(single, "ε").y, own)


def test_one_checkpoint_shows_every_batch_and_their_mean():
    figure = interactive.plot_rise(rise(), radius=1.0)
    assert np.allclose(trace(figure, "test batch").y, rise().rise[2, 2])
    assert np.allclose(trace(figure, "test batch, reference").y, rise().first_order[2, 2])
    means = [t for t in figure.data if t.name == "test batch mean"]
    assert means[0].y[0] == pytest.approx(rise().rise[2, 2].mean())
    assert "‖ε‖ = 1" in figure.layout.annotations[0].text


def test_a_transfer_matrix_is_symmetric_about_zero_and_keeps_rows_and_columns():
    matrix = np.arange(9.0).reshape(3, 3) * 1e-3 - 2e-3
    result = rise(transfer=matrix)
    drawn = trace(interactive.plot_rise(result, part="transfer"), "transfer")
    assert drawn.z[0][2] == matrix[0, 2]
    assert (drawn.zmin, drawn.zmax) == (-6e-3, 6e-3)
    shared = interactive.plot_rise(result, part="transfer", limit=0.1)
    assert trace(shared, "transfer").zmax == 0.1
    assert interactive.transfer_limit(result, rise()) == 6e-3
    with pytest.raises(ValueError, match="one result that has one"):
        interactive.plot_rise(rise(transfer=np.empty((0, 0))), part="transfer")


def test_the_probability_of_the_true_class_is_a_share_of_all_samples():
    found = np.array([0.01, 0.99, 0.99, 0.5])
    bars = trace(interactive.plot_probability(frozen(true_probability=found)), "probabilities")
    assert bars.y[-1] == 0.5
    assert bars.y[0] == 0.25
    assert np.nansum(bars.y) == 1.0


# -- the offset -------------------------------------------------------------------------------


def test_a_minimum_is_marked_on_its_curve_with_its_interval_and_two_places_are_named():
    figure = interactive.plot_offset(offset(0.7), color=1)
    mark = trace(figure, "training, minimum")
    assert mark.x[0] == 0.7
    assert mark.y[0] == pytest.approx(0.01)
    assert mark.error_x.array[0] == pytest.approx(0.05)
    assert {"w", "w + ε"} <= {note.text for note in figure.layout.annotations}
    assert list(trace(figure, "w + ε").x) == [1, 1]
    lines = [trace(figure, name) for name in ("training", "test", "scaled")]
    assert len({line.line.dash for line in lines}) == 3


def test_a_minimum_at_an_end_of_the_line_points_outward():
    figure = interactive.plot_offset(scans())
    assert trace(figure, "SAM, minimum").marker.symbol == "triangle-left"
    assert trace(figure, "AACE, minimum").marker.symbol == "diamond"
    assert "an end of the line" in trace(figure, "SAM, minimum").hovertemplate


def test_perturbations_overlaid_share_axes_and_a_log_scale_only_where_losses_are_far_apart():
    figure = interactive.plot_offset(scans())
    assert [t.name for t in figure.data if t.mode == "lines"][2:] == ["SAM", "AACE"]
    assert figure.layout.yaxis.type == "log"
    close = interactive.plot_offset(scans(), curves=("test loss",))
    assert close.layout.yaxis.type == "linear"
    low, high = close.layout.yaxis.range
    everything = np.stack([offset(m).loss[1] for m in (-1.0, 0.7)])
    assert low < everything.min() < everything.max() < high
    with pytest.raises(ValueError, match="curves must be of training loss"):
        interactive.plot_offset(offset(), curves=("test error",))


# -- layer by layer ---------------------------------------------------------------------------


def layered(names, pieces):
    """A result of vectors given piece by piece, one piece [n, d] for each tensor."""
    empty = {name: np.empty((0, 12)) for name in ("layer_gradient", "layer_radial")}
    products = np.stack([piece @ piece.T for piece in pieces])
    return frozen(layer_names=names, layer_products=products, layer_weight=np.empty(0), **empty)


def test_agreement_layer_by_layer_is_that_of_the_vectors_pieces():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(12, 10)) + np.r_[np.zeros(7), np.ones(3)] * 2
    slices = {"a.weight": slice(0, 4), "a.bias": slice(4, 7), "b.weight": slice(7, 10)}
    pieces = [vectors[:, part] for part in slices.values()]
    result = layered(tuple(slices), pieces)
    found = agreement_of([result], "tensor")
    block = agreement_of([result], "block")
    assert block.names == ("a", "b")
    upper = np.triu_indices(12, 1)

    def mean_cosine(piece):
        unit = piece / np.linalg.norm(piece, axis=1, keepdims=True)
        return (unit @ unit.T)[upper].mean()

    assert found.cosine[0] == pytest.approx([mean_cosine(piece) for piece in pieces])
    joined = [vectors[:, :7], vectors[:, 7:]]
    assert block.cosine[0] == pytest.approx([mean_cosine(piece) for piece in joined])
    lengths = np.array([(piece**2).sum() for piece in joined])
    assert block.share[0] == pytest.approx(lengths / lengths.sum())


def test_the_null_of_a_layer_is_that_of_random_signs():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(12, 30))
    found = agreement_of([layered(("w",), [vectors])])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    signs = rng.choice([-1.0, 1.0], (4000, 12))
    sums = ((signs @ (unit @ unit.T)) * signs).sum(axis=1)
    spread = 1.96 * ((sums - 12) / (12 * 11)).std()
    assert found.null[0, 0] == pytest.approx(spread, rel=0.1)


def test_the_map_of_layers_has_true_cosines_and_the_shares_of_the_selected_checkpoint():
    results = [frozen(0.6, step) for step in STEPS]
    changed = frozen(0.2, 240)
    figure = interactive.plot_tensors([results[0], changed, results[2]], selected=240)
    found = agreement_of([results[0], changed, results[2]])
    cells = trace(figure, "cosines")
    assert np.allclose(cells.z, found.cosine.T)
    assert cells.zmin == -cells.zmax
    assert np.allclose(trace(figure, "shares").x, found.share[1])
    assert figure.layout.shapes[0].x0 == 0.5
    with pytest.raises(ValueError, match="layer by layer"):
        interactive.plot_tensors(frozen(layer_products=np.empty((0, 12, 12)), layer_names=()))


# -- all of them ------------------------------------------------------------------------------

SCREEN = {
    "shares": lambda **k: interactive.plot_shares(both(), **k),
    "probability": lambda **k: interactive.plot_probability(frozen(), **k),
    "components": lambda **k: interactive.plot_components(both(), **k),
    "rise": lambda **k: interactive.plot_rise(rises(), drops=[(240.0, 0.01)], **k),
    "one rise": lambda **k: interactive.plot_rise(rise(), **k),
    "transfer": lambda **k: interactive.plot_rise(rise(), part="transfer", **k),
    "curvature": lambda **k: interactive.plot_rise(rises(), part="curvature", **k),
    "offset": lambda **k: interactive.plot_offset(offset(), **k),
    "tensors": lambda **k: interactive.plot_tensors(both()[1][2], **k),
}
PAPER = {
    "shares": lambda **k: paper.draw_shares(both(), **k),
    "components": lambda **k: paper.draw_components(both(), **k),
    "norms": lambda **k: paper.draw_components(both(), parts=("norms", "relative"), **k),
    "rise": lambda **k: paper.draw_rise(rises(), drops=[(240.0, 0.01)], **k),
    "one rise": lambda **k: paper.draw_rise(rise(), **k),
    "transfer": lambda **k: paper.draw_rise(rises(), part="transfer", **k),
    "curvature": lambda **k: paper.draw_rise(rises(), part="curvature", **k),
    "one curvature": lambda **k: paper.draw_rise(rise(), part="curvature", **k),
    "offset": lambda **k: paper.draw_offset(scans(), **k),
    "tensors": lambda **k: paper.draw_tensors(both(), **k),
}


@pytest.mark.parametrize("name", SCREEN)
def test_every_screen_figure_is_valid_in_the_dark_and_names_its_axes(name):
    figure = SCREEN[name](theme="dark")
    assert "Infinity" not in figure.to_json()
    assert json.loads(figure.to_json())["data"]
    assert figure.layout.xaxis.title.text
    assert figure.layout.yaxis.title.text or name == "tensors"


@pytest.mark.parametrize("name", PAPER)
def test_every_paper_figure_is_drawn_without_a_warning(name):
    figure = PAPER[name]()
    assert figure.to_bytes("png")
    several = len(figure.axes) > 1
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert ("(a)" in words) == (several and name not in ("one rise",))


def test_paper_panels_of_rises_share_their_axis_and_hold_true_means():
    axes = paper.draw_rise(rises()).axes
    assert len({plot.get_ylim() for plot in axes}) == 1
    drawn = [line.get_ydata() for line in axes[2].lines if len(line.get_xdata()) == 3]
    assert any(np.allclose(row, rise().rise[2, 0].mean()) for row in drawn)


def test_a_paper_line_scan_marks_each_minimum():
    training, test = paper.draw_offset(scans()).axes
    marks = [line for line in training.lines if line.get_gid() == "minimum"]
    assert [(m.get_xdata()[0], m.get_marker()) for m in marks] == [(-1.0, "<"), (0.7, "D")]
    assert len([line for line in test.lines if line.get_gid() == "minimum"]) == 4


def test_what_was_not_measured_is_said_not_drawn():
    plain = frozen(effective_share=np.empty(0), true_probability=np.empty(0))
    with pytest.raises(ValueError, match="effective share must be measured"):
        interactive.plot_shares(plain)
    with pytest.raises(ValueError, match="probabilities of the true class"):
        interactive.plot_probability(plain)
    blind = rise(k=0, alignment=np.empty((12, 0)), gradient_alignment=np.empty((12, 0)))
    with pytest.raises(ValueError, match="must be measured, got none"):
        interactive.plot_rise([("SAM", 0, [blind])], part="curvature")
    with pytest.raises(ValueError, match="eigenvectors must be measured"):
        paper.draw_rise(blind, part="curvature")


# -- words and tables -------------------------------------------------------------------------


def test_captions_say_values_batches_batch_norm_and_seed():
    for told in (
        caption(rise()),
        caption(rise(), panels=("transfer",)),
        caption(rise(), panels=("curvature",)),
        caption(frozen(), panels=("shares",)),
        caption(frozen(), panels=("components",)),
        caption(frozen(), panels=("norms",)),
        caption(frozen(), panels=("tensors",)),
    ):
        assert "12 batches" in told
        assert "statistics of each batch" in told
        assert "seed 7" in told
        assert "nan" not in told
    assert f"same batch {rise().rise[0, 0].mean():.5f}" in caption(rise())
    told = caption(offset())
    assert "training loss 0.700 (95 % 0.650 to 0.750)" in told
    assert "recomputed at each point" in told


@pytest.mark.parametrize("make", [rise, offset, frozen], ids=["rise", "offset", "frozen"])
def test_every_result_has_rows_and_rectangular_tables_even_without_facts(make):
    result = make()
    without = type(result)(**{**vars(result), "facts": {}})
    assert caption(without).endswith(".")
    assert all(label and value for label, value in facts_rows(without))
    for table in TABLES[result.kind]:
        columns = columns_of(result, table)
        assert len({len(column) for column in columns.values()}) == 1
        assert csv_of(result, table)
    assert figures.plot(result).data
    assert isinstance(figures.draw(result), paper.PaperFigure)


def test_tables_hold_one_row_per_place_radius_and_batch():
    result = rise()
    columns = columns_of(result)
    assert len(columns["rise"]) == 3 * 3 * 12
    at = 1 * 36 + 2 * 12 + 5
    assert columns["place"][at] == "another batch"
    assert columns["radius"][at] == 1.0
    assert columns["rise"][at] == result.rise[1, 2, 5]
    assert columns["radius"][5] == result.norms[5]
    assert columns["as_trained"][5]
    points = columns_of(offset())
    assert points["test_loss_temperature_scaled"][3] == offset().loss[2, 3]
    layers = columns_of(frozen(), "tensors")
    assert layers["share"].sum() == pytest.approx(1.0)


def test_a_command_draws_each_kind_of_a_run_and_again_from_its_recipe(tmp_path: Path):
    path = make_runs(tmp_path / "runs", ("aace",)) / "aace"
    drawn = drawing_of_runs([Run(path)], "offset")
    assert [(label, color) for label, color, _ in drawn.subject] == [
        ("SAM ρ=0.05", 0),
        ("AACE ρ=0.2", 1),
    ]
    assert {result.step for _, _, result in drawn.subject} == {240}
    over = drawing_of_runs([Run(path)], "transfer")
    assert [r.step for r in over.subject[0][2]] == list(CHECKPOINTS[::2])
    kinds = {"rise": "L(w + ε)", "transfer": "row", "alignment": "eigenvectors", "norms": "Length"}
    for kind, part in kinds.items():
        out = tmp_path / kind
        written = draw_and_save([path, kind], formats="svg", out=out)
        recipe = json.loads(out.with_suffix(".json").read_text())
        assert part in recipe["captions"][0]
        before = written[0].read_bytes()
        redraw(out.with_suffix(".json"), formats="svg")
        assert written[0].read_bytes() == before


# -- displacements on maps --------------------------------------------------------------------


def test_an_arrow_leads_from_w_to_where_a_displacement_leads():
    marks = {"mark_position": [[0.0, 0.0], [1.0, 0.0]], "mark_labels": ("w", "w + ε AACE")}
    shown = replace(surface(path=False), **marks)
    arrows = [a for a in interactive.plot_surface(shown).layout.annotations if a.showarrow]
    assert {(a.ax, a.ay, a.x, a.y) for a in arrows} == {(0, 0, 1.0, 0.0)}
    (axes, *_) = paper.draw_surface(shown).axes
    ends = [(a.xyann, a.xy) for a in axes.texts if getattr(a, "arrowprops", None)]
    assert ends == [((0, 0), (1.0, 0.0))]
    named = replace(shown, mark_labels=("a", "b"))
    assert not any(a.showarrow for a in interactive.plot_surface(named).layout.annotations)
