"""The report of a claim: one HTML page that needs nothing else, a PDF, and the data as CSV."""

import base64
import html
import io
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_pdf import PdfPages

from landscape.evidence import Evidence
from landscape.figures.captions import caption
from landscape.figures.claim_words import (
    SIGNS,
    SPOKEN,
    bound_words,
    chance_words,
    claim_grid,
    effect_words,
    rows_of,
    verdict_counts,
)
from landscape.figures.paper_style import METADATA, PaperFigure, venue_of
from landscape.figures.tables import TABLES, csv_of
from landscape.report_figures import Shown, cross_over, report_figures
from landscape.results import Claim
from landscape.storage import write_whole

_VENUE = "tmlr"
_ENLARGED = 9.0  # rem to the inch, one and a half times the size on paper
_STYLE = """
:root { color-scheme: light dark; --line: #d7dde5; --muted: #55606e; --soft: #f4f6f9;
  --ok: #1b7346; --bad: #a1361b; }
@media (prefers-color-scheme: dark) { :root { --line: #39424e; --muted: #a3adba; --soft: #1c222a;
  --ok: #63c592; --bad: #f0957c; } body { background: #12161b; color: #e7ebf0; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
th, td { text-align: left; padding: 0.3rem 0.6rem; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } .muted { color: var(--muted); } .supports { color: var(--ok); }
.contradicts { color: var(--bad); } .verdict { white-space: nowrap; }
.figures { display: flex; flex-wrap: wrap; gap: 0 2rem; }
figure { margin: 1.5rem 0; } li { margin-bottom: 0.7rem; }
figure img { max-width: 100%; background: #fff; padding: 0.5rem;
  box-sizing: border-box; } figcaption { font-size: 0.85rem; color: var(--muted); }
code { background: var(--soft); padding: 0.1rem 0.3rem; overflow-wrap: anywhere; }
"""


def write_report(claim: Claim, evidence: Evidence, folder: Path) -> list[Path]:
    """Write report.html, report.pdf and the tables of the claim into a folder.

    Args:
        claim: What was judged.
        evidence: What it was judged by, for the figures.
        folder: Made if it is not there; files of an earlier report are replaced.

    Raises:
        OSError: The folder can't be written.
        ValueError: The folder can't be made.
    """
    make_folder(folder)
    shown = report_figures(claim, evidence, venue=_VENUE)
    written = [folder / "report.html", folder / "report.pdf"]
    _write(written[0], _page(claim, evidence, shown).encode())
    _write(written[1], _pdf(claim, shown))
    for table in TABLES["claim"]:
        written.append(folder / f"{table}.csv")
        _write(written[-1], csv_of(claim, table).encode())
    return written


def make_folder(folder: Path) -> None:
    """Make the folder of a report, where it is not there.

    Raises:
        ValueError: It can't be made, or not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK) else "no permission to write"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise ValueError(f"--out must be a folder to write to, got {folder}: {reason}")


def _write(path: Path, content: bytes) -> None:
    with write_whole(path) as temporary:
        temporary.write_bytes(content)


def _page(claim: Claim, evidence: Evidence, shown: Sequence[Shown]) -> str:
    first, *rest = shown
    parts = [
        "<h1>Does AACE keep its direction?</h1>",
        f"<p>{_text(caption(claim))}</p>",
        _figure(first),
        *_verdict_sections(claim),
        "<h2>Every effect</h2>",
        _html_table(*claim_grid(claim)),
        "<h2>Every perturbation on every method's weights</h2>",
        "<p>Mean cosine over pairs of batches at the last checkpoint, weights frozen: mean over "
        "seeds, smallest and largest.</p>",
        _html_table(*cross_over(evidence)),
        "<h2>What it was judged by</h2><p>The first seed of SAM's runs and of AACE's; the effects "
        "above are of all seeds.</p>",
        '<div class="figures">',
        *(_figure(item) for item in rest),
        "</div>",
        *_warnings(claim, evidence),
        *_runs(claim),
    ]
    title = "Claim: consistency of AACE's directions"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _verdict_sections(claim: Claim) -> list[str]:
    sections = []
    for source, head in (("paper", "What the paper says"), ("explanation", "Explanations")):
        told = _text(_capital(verdict_counts(claim, source)))
        sections.append(f"<h2>{head}</h2><p>{told}.</p><ul>")
        for i, name in enumerate(claim.statements):
            if claim.sources[i] == source:
                sections.append(f"<li>{_statement(claim, i, name)}</li>")
        sections.append("</ul>")
    return sections


def _statement(claim: Claim, i: int, name: str) -> str:
    verdict = claim.verdicts[i]
    lines = [
        f'<b>{_text(name)}: <span class="verdict {verdict}">{SIGNS[verdict]} {SPOKEN[verdict]}'
        f"</span></b>. {_text(claim.texts[i])}",
        f'<span class="muted">Effect: {_text(claim.effects[i])}; supported if '
        f"{_text(bound_words(claim, i))}.</span>",
    ]
    for row in rows_of(claim, i):
        mean, ends = effect_words(claim, row)
        told = f"{claim.row_names[row]}: {mean} {claim.units[i]} (95 % {ends}). "
        lines.append(_text(f"{told}What would change it: {claim.changes[row]}."))
    return "<br>".join(lines)


def _figure(item: Shown) -> str:
    data = base64.b64encode(item.figure.to_bytes("svg")).decode()
    width = _ENLARGED * item.figure.get_size_inches()[0]
    how = f"<details><summary>How it was measured</summary>{_text(item.caption)}</details>"
    return (
        f'<figure><img alt="{_text(item.title)}" style="width: {width:.1f}rem" '
        f'src="data:image/svg+xml;base64,{data}"><figcaption><b>{_text(item.title)}</b>'
        f"{how if item.caption else ''}</figcaption></figure>"
    )


def _warnings(claim: Claim, evidence: Evidence) -> list[str]:
    told = []
    if len(claim.seeds) < 3:
        told.append(f"{len(claim.seeds)} seed(s): an interval over so few decides little.")
    told += sorted({f"{key[1]} was not measured: {why}" for key, why in evidence.lacking.items()})
    told.append(chance_words(claim))
    return ["<h2>What to keep in mind</h2><ul>", *(f"<li>{_text(t)}</li>" for t in told), "</ul>"]


def _runs(claim: Claim) -> list[str]:
    names = ", ".join(claim.facts.get("run_names", []))
    command = " ".join(["landscape", *claim.provenance.get("command", [])[1:]])
    return [
        "<h2>Runs and command</h2>",
        f"<p>{_text(names)}</p><p><code>{_text(command)}</code></p>",
        "<p>The tables beside this page: effects.csv, verdicts.csv, values.csv.</p>",
    ]


def _html_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{_text(text)}</th>" for text in heads)
    lines = ["".join(f"<td>{_text(text)}</td>" for text in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _text(text: str) -> str:
    return html.escape(text)


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}" if text else text


def _pdf(claim: Claim, shown: Sequence[Shown]) -> bytes:
    """Verdicts in words on the first pages, then a page for each figure."""
    buffer = io.BytesIO()
    with PdfPages(buffer, metadata=METADATA["pdf"]) as pages:
        for page in _text_pages(claim):
            pages.savefig(page)
        for item in shown:
            pages.savefig(item.figure)
    return buffer.getvalue()


def _text_pages(claim: Claim) -> list[PaperFigure]:
    lines = ["Does AACE keep its direction?", "", *_wrapped(caption(claim)), ""]
    for i, name in enumerate(claim.statements):
        verdict = claim.verdicts[i]
        lines += _wrapped(f"{SIGNS[verdict]} {name}: {SPOKEN[verdict]}. {claim.texts[i]}")
        for row in rows_of(claim, i):
            mean, ends = effect_words(claim, row)
            told = f"{claim.row_names[row]}: {mean} {claim.units[i]} (95 % {ends}), supported if "
            told += f"{bound_words(claim, i)}; would change with {claim.changes[row]}"
            lines += _wrapped(told, "      ")
        lines.append("")
    sizes = venue_of(_VENUE)
    per_page = 58
    return [_text_page(lines[i : i + per_page], sizes) for i in range(0, len(lines), per_page)]


def _text_page(lines: Sequence[str], sizes: Any) -> PaperFigure:
    page = PaperFigure(sizes.text + 1, 10, sizes)
    with page.style():
        page.text(0.06, 0.96, "\n".join(lines), va="top", fontsize=sizes.size, linespacing=1.35)
    return page


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=indent, subsequent_indent=f"{indent}  ")
