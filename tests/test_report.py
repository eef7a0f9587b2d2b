"""Reports: one document, drawn within 80 columns, no number of their own."""

import json

import pytest

from search.ablation import SECTIONS, Ablation
from search.candidate import Candidate
from search.format import between, chance, points, signed
from search.report import search_report, write
from search.tables import DRAWERS, markdown, tables
from tests import synthetic
from tests.synthetic import EXPERTS


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a finished, ablated search and its report."""
    search = synthetic.search(tmp_path_factory.mktemp("run") / "r", trials=13, n=20, confirm=30)
    confirmed = search.go()
    search_report(search, confirmed)
    winner = Candidate.from_mapping(confirmed["frozen"])
    parts = Ablation(search.world, winner, EXPERTS, search.objective)
    return search, write(search.run, search, {n: parts.section(n) for n in SECTIONS})


def test_the_document_is_strict_json(run):
    """report.json holds no NaN, and what it holds is what was returned."""
    search, document = run
    text = (search.run.path / "report.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert found == json.loads(json.dumps(document))
    assert found["schema"] == "merger.report/1"


def test_every_section_has_a_drawer(run):
    """Each section of the document is drawn, and each drawer has had its section."""
    assert set(run[1]["sections"]) == set(DRAWERS)


def test_an_ablation_keeps_the_search_sections(run):
    """Adding sections leaves those that were there."""
    assert run[1]["sections"]["verdict"]["words"]


def test_tables_fit_eighty_columns(run):
    """No line of any table, drawn as the terminal draws it, passes 80 columns."""
    import io

    from rich import box
    from rich.console import Console
    from rich.table import Table

    for shown in tables(run[1]):
        grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in shown.columns:
            grid.add_column(name.lstrip(">"), no_wrap=True)
        for row in shown.rows:
            grid.add_row(*row)
        wide = Console(file=io.StringIO(), width=400)
        if shown.columns and shown.title not in ("Method", "Best trials on search items"):
            assert wide.measure(grid).maximum <= 80, shown.title


def test_markdown_is_drawn_from_the_document(run):
    """report.md holds every comparison's difference and interval, and changes with the document."""
    search, document = run
    text = (search.run.path / "report.md").read_text()
    for row in document["sections"]["comparisons"]["rows"]:
        assert signed(row["difference"]) in text
        assert between(row["ci95"]) in text
    changed = json.loads(json.dumps(document))
    changed["sections"]["scoreboard"]["rows"][0]["value"] = 0.12345
    assert "12.3" in markdown(changed)


def test_numbers_are_written_as_people_read_them():
    """Points, signs that are no hyphens, p values, and no minus zero."""
    assert points(0.6125) == "61.3" or points(0.6125) == "61.2"
    assert (signed(-0.031), signed(0.031), signed(-0.0001)) == ("−3.1", "+3.1", "0.0")
    assert (chance(0.00001), chance(0.0271)) == ("<.001", ".027")


def test_the_tally_of_trials_is_whole(run):
    """Trials raced out and full are as many as the study holds."""
    search, document = run
    rows = document["sections"]["trials"]["rows"]
    assert sum(r["state"] == "COMPLETE" for r in rows) == search.study.finished() == 13
