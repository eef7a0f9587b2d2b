"""Reports: one document, and terminal, markdown, page and figures drawn from it alone."""

import io
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import pytest

from search.ablation import Ablation, Facts, section_names
from search.asked import Wanted
from search.candidate import Candidate
from search.draw import DRAWERS, draw, figures, save_figures, svg, ticks
from search.effects import blind, effects
from search.objective import parse
from search.page import html
from search.report import search_report, write
from search.tables import (
    ORDER,
    WRITERS,
    between,
    brief,
    cell,
    chance,
    markdown,
    points,
    signed,
    tables,
)
from tests import synthetic
from tests.blocks import ROOT
from tests.synthetic import EXPERTS

OWN = "document.title = 'owned'"
EVIL = f'</script><script>{OWN}</script><img src=x onerror="{OWN}">'


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a finished, ablated search and its report."""
    search = synthetic.search(tmp_path_factory.mktemp("run") / "r", trials=13, n=20, confirm=30)
    confirmed = search.go()
    search_report(search, confirmed)
    winner = Candidate.from_mapping(confirmed["frozen"])
    facts = Facts(trials=search.study.trials(), tensors=("layers.0.mlp.w", "layers.1.mlp.w"))
    parts = Ablation(
        search.world, winner, EXPERTS, search.objective, Wanted(quick=True), facts=facts
    )
    made = {n: parts.section(n) for n in section_names(None)}
    made["items"]["items"][0]["texts"]["winner"] = EVIL
    made["items"]["items"][0]["prompt"] = EVIL
    made["items"]["notes"].append(EVIL)
    return search, write(search.run, search.world, search.objective, made)


def test_the_document_is_strict_json(run):
    """report.json holds no NaN, and what it holds is what was returned."""
    search, document = run
    text = (search.run.path / "report.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert found == json.loads(json.dumps(document))
    assert found["schema"] == "merger.report/2"


def test_every_section_has_the_same_shape(run):
    """A section is a title, notes, tables and figures; columns have a kind, figures a drawer."""
    found = run[1]["sections"]
    assert set(found) == set(ORDER) - {"guard"}  # this search had none
    assert found["verdict"]["words"]
    for section in found.values():
        assert section["title"]
        for table in section["tables"]:
            told = {key for row in table["rows"] for key in row if row[key] is not None}
            assert not table["rows"] or {c[0] for c in table["columns"]} <= told
        assert {c[2] for t in section["tables"] for c in t["columns"]} <= set(WRITERS)
        assert {f["kind"] for f in section["figures"]} <= set(DRAWERS)


def test_tables_fit_eighty_columns(run):
    """No table, drawn as the terminal draws it, asks for more than 80 columns."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    wide = Console(file=io.StringIO(), width=400)
    for shown in tables(run[1]):
        grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in shown.columns:
            grid.add_column(name.lstrip(">"), no_wrap=True)
        for row in shown.rows:
            grid.add_row(*row)
        if shown.columns and shown.title not in ("Method", "Best trials on search items"):
            assert wide.measure(grid).maximum <= 80, shown.title


def test_a_narrow_terminal_spares_columns(run):
    """In 60 columns differences keep interval and verdict, and no number is folded."""
    shown = [t for t in tables(run[1], 60) if "verdict" in t.columns]
    assert len(shown) > 5
    for found in shown:
        assert {">Δ", ">95 % paired"} <= set(found.columns)
        assert ">won/lost" not in found.columns
    assert all(">won/lost" in t.columns for t in tables(run[1]) if t.title == "Leave one out")


def test_markdown_is_drawn_from_the_document(run):
    """report.md holds every comparison's difference and interval, and changes with the document."""
    search, document = run
    text = (search.run.path / "report.md").read_text()
    for row in document["sections"]["comparisons"]["tables"][0]["rows"]:
        assert signed(row["difference"]) in text
        assert between(row["ci95"]) in text
    changed = json.loads(json.dumps(document))
    changed["sections"]["scoreboard"]["tables"][0]["rows"][0]["value"] = 0.12345
    assert "12.3" in markdown(changed)


def test_figures_are_files_that_markdown_shows(run):
    """Every picture that report.md names lies in figures/, and is well-formed SVG."""
    search, document = run
    text = (search.run.path / "report.md").read_text()
    drawn = list(figures(document))
    assert len({f["name"] for f in drawn}) == len(drawn) > 8
    for figure in drawn:
        assert f"(figures/{figure['name']}.svg)" in text
        ET.parse(search.run.path / "figures" / f"{figure['name']}.svg")


def test_pictures_are_png_with_matplotlib(run, tmp_path):
    """Each kind of figure is drawn as PNG, too, where matplotlib is installed."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: no PNG to write")
    kinds = {f["kind"]: f for f in figures(run[1])}
    document = {"sections": {"all": {"figures": list(kinds.values())}}}
    save_figures(document, tmp_path / "f")
    for figure in kinds.values():
        assert (tmp_path / "f" / f"{figure['name']}.png").read_bytes().startswith(b"\x89PNG")


def test_texts_cannot_leave_their_place(run):
    """What a model wrote is never markup: neither in the page, nor in a table, nor in a figure."""
    page = html(run[1])
    assert "<script>document.title" not in page
    assert "<img" not in page
    assert page.count("<script") == 2
    figure = {
        "kind": "bars",
        "name": "x",
        "title": EVIL,
        "rows": [{"label": EVIL, "value": 1, "part": 1}],
    }
    root = ET.fromstring(svg(draw(figure), EVIL))
    assert not [e for e in root.iter() if e.tag.endswith(("script", "img"))]
    assert "http" not in page.replace("http-equiv", "").split("<body>")[0]


def browse(page, folder):
    """Return the page's elements after Chromium has run its script, or skip with the reason."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine: the page is not opened in a browser")
    place = folder / "page.html"
    place.write_text(page)
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"]
    profile = f"--user-data-dir={folder / 'profile'}"
    done = subprocess.run([chromium, *words, profile, "--dump-dom", place.as_uri()],
                          capture_output=True, text=True, timeout=300, check=True)  # fmt: skip
    return done.stdout


@pytest.mark.slow
def test_the_page_works_in_a_browser(run, tmp_path):
    """Tables sort both ways, the theme turns, items stand side by side, no foreign script runs."""
    probe = """<script>
    const table = document.querySelector("#leave_one_out table"), log = [];
    const column = () => [...table.tBodies[0].rows].map(r => Number(r.cells[3].dataset.v));
    const head = table.querySelectorAll("th button")[3];
    for (let i = 0; i < 2; i++) { head.click(); log.push(column()); }
    const before = root.dataset.theme;
    document.getElementById("theme").click();
    const told = {up: log[0], down: log[1], turned: before !== root.dataset.theme,
      title: document.title,
      texts: [...document.querySelectorAll(".texts pre")].map(p => p.textContent)};
    const output = document.createElement("output");
    output.textContent = JSON.stringify(told);
    document.body.append(output);
    </script></body>"""
    shown = browse(html(run[1]).replace("</body>", probe), tmp_path)
    text = shown.split("<output>")[1].split("</output>")[0]
    found = json.loads(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert found["up"] == sorted(found["up"]) == found["down"][::-1]
    assert found["turned"]
    assert found["title"] == "r"
    assert found["texts"][0] == EVIL
    assert len(found["texts"]) == 4


def test_a_margin_decides_what_is_equal():
    """No difference is claimed only if the interval lies within the margin."""
    objective = parse("mean", ["t"])
    import numpy as np

    one, other = np.tile([1.0, 0.0], 200), np.tile([1.0, 0.0], 200)
    other[0] = 0.0
    for margin, verdict in ((0.05, "equal"), (0.001, "unclear")):
        (row,) = effects({"x": ({"t": one}, {"t": other})}, objective, margin=margin)
        assert row["verdict"] == verdict
        told = blind([row], margin)
        assert ("nearest to equal is x, within ±0.8" in told) == (verdict == "unclear")


def test_numbers_are_written_as_people_read_them():
    """Points, signs that are no hyphens, p values, no minus zero, a dash for what is not known."""
    assert points(0.6125) == "61.3" or points(0.6125) == "61.2"
    assert (signed(-0.031), signed(0.031), signed(-0.0001)) == ("−3.1", "+3.1", "0.0")
    assert (chance(0.00001), chance(0.0271)) == ("<.001", ".027")
    assert (cell("points", None), cell("won", [3, 1]), cell("share", 0.5)) == ("–", "3/1", "50%")


@pytest.mark.parametrize(
    ("names", "heads"),
    [
        (["ded", "arithmetic"], ["ded", "arithm…"]),
        (["questions_german", "questions_english"], ["…german", "…nglish"]),
        (["x" * 9 + "a" * 9, "x" * 9 + "b" + "a" * 8, "y"], ["1: xxxxxx…", "2: xxxxxx…", "3: y"]),
    ],
)
def test_heads_of_tasks_tell_them_apart(names, heads):
    """Names are cut to what a column holds, their ends where they begin alike."""
    assert brief(names) == heads


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.2, 0.13), (3, 3), (0.001, 0.002)])
def test_ticks_are_round_and_inside(low, high):
    """Ticks lie within the axis, few of them."""
    found = ticks(low, high)
    assert all(low - 1e-9 <= t <= high + 1e-9 for t in found)
    assert 1 <= len(found) <= 6


def test_the_tally_of_trials_is_whole(run):
    """Trials raced out and full are as many as the study holds."""
    search, document = run
    rows = document["sections"]["trials"]["trials"]
    assert sum(r["state"] == "COMPLETE" for r in rows) == search.study.finished() == 13


def test_every_study_counts(tmp_path):
    """Trials of other operators and of a second stage are in the tally, each with its study."""
    search = synthetic.search(tmp_path / "r", trials=12, operators=("ties",), stage2=2)
    found = search_report(search, search.go())["sections"]["trials"]
    assert {r["study"] for r in found["trials"]} == {"merge", "ties", "stage2"}
    done = sum(s.finished() for s in search.studies.values())
    assert found["notes"][0].startswith(f"{done} trials in 3 studies, ")
    assert found["tables"][0]["columns"][0][0] == "study"


def test_the_committed_report_is_whole():
    """The example in docs/ shows pictures that are there, and is small enough to be cloned."""
    folder = ROOT / "docs" / "example"
    shown = re.findall(r"\]\((figures/[^)]*)\)", (folder / "report.md").read_text())
    assert set(shown) == {f"figures/{f.name}" for f in (folder / "figures").iterdir()}
    assert sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) < 300_000
