import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from figure_samples import (
    barrier,
    consistency,
    curve,
    density,
    profile,
    sharpness,
    spectrum,
    steps,
    surface,
    trajectory,
)
from samples import CHECKPOINTS, comparison_of, make_runs

from landscape.exports import (
    csv_of,
    draw_and_save,
    read_csv,
    read_recipe,
    record,
    redraw,
    save_figure,
)
from landscape.figures import paper
from landscape.figures.captions import caption
from landscape.figures.subjects import DRAWN, SINGLE, Drawing, drawing_of_result, drawing_of_runs
from landscape.figures.tables import TABLES, columns_of
from landscape.result_files import load_result, save_result
from landscape.results import Curve, Spectrum
from landscape.runs import Run, RunFileError

MAKERS = (
    surface,
    profile,
    barrier,
    curve,
    spectrum,
    density,
    consistency,
    trajectory,
    comparison_of,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = make_runs(tmp_path_factory.mktemp("runs"), ("sgd", "sam", "aace"))
    return [folder / name for name in ("sgd", "sam", "aace")]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_surface_as_csv_has_one_row_per_point_in_true_units():
    rows = rows_of(csv_of(surface()))
    assert len(rows) == 9 * 6
    result = surface()
    row = rows[7 * 6 + 1]
    assert float(row["alpha"]) == result.alpha[7]
    assert float(row["beta"]) == result.beta[1]
    assert float(row["loss"]) == result.loss[7, 1]
    assert [r["loss"] for r in rows].count("inf") == 1
    assert [r["evaluated"] for r in rows].count("False") == 1


def test_the_path_of_a_surface_is_a_table_of_its_own():
    rows = rows_of(csv_of(surface(), "path"))
    assert [int(row["step"]) for row in rows] == [0, 20, 40, 60, 80, 100]
    assert float(rows[3]["off_plane"]) == 0.5
    assert columns_of(surface(path=False), "path")["step"].size == 0


@pytest.mark.parametrize("make", MAKERS, ids=lambda m: m.__name__)
def test_every_table_of_every_result_is_rectangular(make):
    result = make()
    for table in TABLES[result.kind]:
        columns = columns_of(result, table)
        assert len({len(column) for column in columns.values()}) == 1
        assert len(rows_of(csv_of(result, table))) == len(next(iter(columns.values())))
    with pytest.raises(ValueError, match="has the tables"):
        csv_of(result, "no such")


def test_values_between_rows_stand_at_the_later_or_middle_row():
    vectors = columns_of(consistency(), "vectors")
    assert np.isnan(vectors["cosine_previous"][0])
    assert vectors["cosine_previous"][1] == consistency().consecutive[0]
    checkpoints = columns_of(trajectory())
    assert checkpoints["step_length"][1] == 0.8
    assert checkpoints["turning_angle"][1] == 70
    assert np.isnan(checkpoints["turning_angle"][[0, -1]]).all()


def test_columns_survive_csv_with_every_digit(tmp_path):
    columns = {"step": np.arange(3.0), "loss": np.array([1 / 3, np.nan, 1e-300])}
    (tmp_path / "t.csv").write_text(csv_of(columns))
    again = read_csv(tmp_path / "t.csv")
    assert all(np.array_equal(again[k], columns[k], equal_nan=True) for k in columns)


@pytest.mark.parametrize("content", ["", "a,b\n1\n", "a\nx\n"])
def test_what_is_no_table_of_numbers_is_refused(tmp_path, content):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(RunFileError, match="not a table of numbers"):
        read_csv(tmp_path / "t.csv")


def test_a_figure_is_saved_with_its_recipe_and_its_data(tmp_path):
    drawing = Drawing(function="draw_surface", subject=surface(), style={"venue": "icml"})
    recipe, data = record(drawing)
    files = save_figure(
        paper.draw_surface(surface()),
        tmp_path / "new" / "bowl.pdf",
        formats=("pdf", "svg"),
        recipe=recipe,
        data=data,
    )
    assert [path.name for path in files] == ["bowl.pdf", "bowl.svg", "bowl.json", "bowl.h5"]
    assert load_result(files[-1]).digest == surface().digest
    stored = json.loads(files[2].read_text())
    assert stored["function"] == "draw_surface"
    assert stored["subject"] == {"result": "", "digest": surface().digest}
    assert "ConvNet" in stored["captions"][0]
    assert sorted(path.name for path in files[0].parent.iterdir()) == sorted(p.name for p in files)


def test_a_recipe_draws_the_same_bytes_again(tmp_path, runs):
    files = draw_and_save([*runs, "spectrum"], formats="pdf,svg", out=tmp_path / "s", venue="iclr")
    again = redraw(tmp_path / "s.json", out=tmp_path / "again" / "s", formats="pdf,svg")
    assert [path.name for path in files] == [path.name for path in again]
    for one, other in zip(files, again, strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("kind", sorted(DRAWN))
def test_every_kind_of_figure_of_runs_is_drawn_and_redrawn(tmp_path, runs, kind):
    what = [runs[2], kind] if kind in SINGLE else [*runs, kind]
    files = draw_and_save(what, formats=["png"], out=tmp_path / "a")
    again = redraw(tmp_path / "a.json", formats=["png"], out=tmp_path / "b")
    assert files[0].read_bytes() == again[0].read_bytes()


def test_directions_leave_out_runs_that_recorded_none(runs):
    several = drawing_of_runs([Run(path) for path in runs], "directions")
    assert [label for label, _, _ in several.subject] == ["SAM", "SAM+AACE"]
    with pytest.raises(ValueError, match="measure it with `landscape directions"):
        drawing_of_runs([Run(runs[0])], "directions")


def test_the_default_name_says_kind_and_runs(tmp_path, runs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = draw_and_save([runs[0], runs[1], "spectrum"], formats="svg")
    assert files[0].name == "spectrum-sgd-sam.svg"


def test_a_result_file_alone_can_be_drawn(tmp_path):
    surface().save(tmp_path / "mine.h5")
    files = draw_and_save([tmp_path / "mine.h5"], formats="png", out=tmp_path / "flat")
    solid = draw_and_save([tmp_path / "mine.h5", "surface3d"], formats="png", out=tmp_path / "3d")
    assert files[0].read_bytes() != solid[0].read_bytes()
    with pytest.raises(ValueError, match="can't be made of one 'surface'"):
        draw_and_save([tmp_path / "mine.h5", "density"], out=tmp_path / "x")


def test_one_run_shows_a_line_per_perturbation_and_several_each_its_own(runs):
    one = drawing_of_runs([Run(runs[0])], "consistency")
    assert [label for label, _, _ in one.subject] == ["SAM ρ=0.05", "AACE ρ=0.2"]
    steps_shown = [int(result.step[0]) for result in one.subject[0][2]]
    assert steps_shown == list(CHECKPOINTS[::2])
    several = drawing_of_runs([Run(path) for path in runs], "consistency")
    assert [label for label, _, _ in several.subject] == ["SAM", "SAM+AACE"]
    assert {r.protocol for _, _, group in several.subject for r in group} == {"frozen"}
    perturbations = [{r.perturbation for r in group} for _, _, group in several.subject]
    assert perturbations == [{"SAM ρ=0.05"}, {"AACE ρ=0.2"}]
    asked = drawing_of_runs([Run(p) for p in runs], "consistency", wanted={"perturbation": "aace"})
    assert len(asked.subject) == 3


def test_results_are_chosen_by_checkpoint_and_by_what_is_wanted(runs):
    run = Run(runs[1])
    first = drawing_of_runs([run], "spectrum", "first")
    assert first.subject.facts["checkpoint"] == 0
    random = drawing_of_runs([run], "surface", wanted={"plane": "random"})
    assert random.subject.facts["plane"] == "random"
    assert random.style["drops"] == [(160.0, 0.02)]
    density_drawing = drawing_of_runs([run], "density", "first")
    assert density_drawing.style["spectrum"].facts["checkpoint"] == 0
    with pytest.raises(ValueError, match="measure it with `landscape surface"):
        drawing_of_runs([run], "surface", "first")


def test_a_density_takes_no_eigenpairs_of_other_data(runs):
    drawing = drawing_of_runs([Run(runs[1])], "density")
    facts = drawing.subject.facts
    assert drawing.style["spectrum"].facts["data_digest"] == facts["data_digest"]


def test_eigenvectors_are_not_copied_beside_a_figure():
    heavy = Spectrum(**{**vars(spectrum()), "eigenvectors": np.ones((4, 50))})
    _, data = record(Drawing(function="draw_spectrum", subject=heavy))
    assert data[""].eigenvectors is None
    assert data[""].eigenvalues.tolist() == heavy.eigenvalues.tolist()


def test_trained_bends_are_not_copied_beside_a_figure():
    heavy = Curve(**{**vars(curve()), "bends": np.ones((1, 50))})
    _, data = record(drawing_of_result(heavy))
    assert data[""].bends is None


def test_a_recipe_has_the_caption_of_the_quantity_that_is_drawn():
    drawing = drawing_of_result(surface())
    told = replace(drawing, style={**drawing.style, "quantity": "accuracy"})
    assert record(told)[0]["captions"] == [caption(surface(), "accuracy")]
    assert record(drawing)[0]["captions"] == [caption(surface())]
    assert caption(surface(), "accuracy") != caption(surface())


def test_recorded_columns_are_saved_as_csv(tmp_path):
    drawing = Drawing(function="draw_steps", subject=[("a", 0, steps()), ("b", 1, steps(50))])
    recipe, data = record(drawing)
    figure = paper.draw_steps(drawing.subject)
    files = save_figure(figure, tmp_path / "s", formats="png", recipe=recipe, data=data)
    assert [path.name for path in files] == ["s.png", "s.json", "s-1.csv", "s-2.csv"]
    assert redraw(tmp_path / "s.json", formats="png")[0].read_bytes() == figure.to_bytes("png")


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        ([], {}, "expected run folders"),
        (["runs/a"], {}, "expected run folders"),
        (["RUN", "surfce"], {}, "did you mean 'surface'"),
        (["RUN", "surface"], {"formats": "jpg"}, "format must be one of"),
        (["RUN", "surface"], {"formats": []}, "at least one format"),
        (["RUN", "surface"], {"venue": "icmll"}, "venue must be one of"),
        (["RUN", "surface"], {"checkpoint": "7"}, "checkpoint must be"),
        (["RUN", "RUN", "surface3d"], {}, "shows one run"),
        (["/nowhere", "surface"], {}, "expected a run"),
    ],
)
def test_what_can_not_be_drawn_says_why_and_leaves_nothing(tmp_path, runs, what, options, message):
    what = [runs[0] if entry == "RUN" else entry for entry in what]
    with pytest.raises(ValueError, match=message):
        draw_and_save(what, out=tmp_path / "out" / "x", **options)
    assert not (tmp_path / "out").exists()


def test_a_failing_write_leaves_no_half_file(tmp_path):
    class Broken:
        def to_bytes(self, kind: str) -> bytes:
            if kind == "png":
                raise OSError("disk full")
            return b"whole"

    with pytest.raises(OSError, match="disk full"):
        save_figure(Broken(), tmp_path / "f", formats=("pdf", "png"), recipe={})
    assert [path.name for path in tmp_path.iterdir()] == ["f.pdf"]


def test_a_recipe_refuses_data_that_are_not_its_own(tmp_path):
    drawing = Drawing(function="draw_profile", subject=profile())
    recipe, data = record(drawing)
    save_figure(
        paper.draw_profile(profile()), tmp_path / "p", formats="png", recipe=recipe, data=data
    )
    assert read_recipe(tmp_path / "p.json").subject.digest == profile().digest
    (tmp_path / "p.h5").unlink()
    with pytest.raises(RunFileError, match="no such file"):
        redraw(tmp_path / "p.json")
    profile(2.0).save(tmp_path / "p.h5")
    with pytest.raises(RunFileError, match="not those it was drawn from"):
        redraw(tmp_path / "p.json")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"recipe_version": "1.0"}',
        '{"recipe_version": "9.0", "function": "draw_profile", "subject": 1, "style": {}}',
        '{"recipe_version": "1.0", "function": "exit", "subject": 1, "style": {}}',
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(RunFileError, match="recipe"):
        redraw(tmp_path / "r.json")


def test_a_quantity_is_drawn_where_there_is_a_choice(runs, tmp_path):
    loss = draw_and_save([runs[0], "surface"], formats="png", out=tmp_path / "loss")
    drawn = draw_and_save(
        [runs[0], "surface"], formats="png", out=tmp_path / "accuracy", quantity="accuracy"
    )
    assert loss[0].read_bytes() != drawn[0].read_bytes()
    assert read_recipe(drawn[1]).style["quantity"] == "accuracy"
    with pytest.raises(ValueError, match="'spectrum' has no choice of quantity"):
        draw_and_save([runs[0], "spectrum"], out=tmp_path / "x", quantity="accuracy")
    with pytest.raises(ValueError, match=r"one of loss, accuracy, got .acuracy."):
        draw_and_save([runs[0], "surface"], out=tmp_path / "x", quantity="acuracy")
    assert not list(tmp_path.glob("x*"))


def test_tex_is_the_sharpness_table_and_nothing_else(tmp_path):
    file = save_result(sharpness(), tmp_path / "sharpness.h5")
    written = draw_and_save([file], formats="tex", out=tmp_path / "table")
    assert [path.suffix for path in written] == [".tex", ".json", ".h5"]
    latex = written[0].read_text()
    assert latex.startswith(r"\begin{tabular}")
    assert latex.count(r"\\") == 1 + len(sharpness().names) + len(("loss", "mean probability"))
    again = redraw(tmp_path / "table.json", formats="tex", out=tmp_path / "again")
    assert again[0].read_bytes() == written[0].read_bytes()
    other = save_result(spectrum(), tmp_path / "spectrum.h5")
    with pytest.raises(ValueError, match="tex is the format of a table"):
        draw_and_save([other], formats="tex", out=tmp_path / "none")
    assert not list(tmp_path.glob("none*"))
