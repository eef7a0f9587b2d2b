"""Fingerprints of merges: kept over processes, by device and code, and never trusted blind."""

import pytest

from merger.errors import SearchError
from search.candidate import Candidate
from search.run import Fingerprints, Options, Run
from search.world import Holder
from tests.synthetic import Merged

ONE, TWO = Candidate.of({"ded": 1.0}), Candidate.of({"ind": 1.0})


@pytest.fixture
def run(tmp_path):
    """Return a fresh run folder."""
    made = Run(tmp_path / "r")
    made.create(Options(experts=("ded", "ind"), base="base"), {})
    return made


def test_what_was_merged_once_is_known_without_merging(run):
    """Two processes add to one file, and a third one merges nothing to know both."""
    first, second = (Holder(Merged(), Fingerprints(run)) for _ in range(2))
    marks = first.fingerprint(ONE), second.fingerprint(TWO)
    later = Holder(Merged(), Fingerprints(run))
    assert (later.fingerprint(ONE), later.fingerprint(TWO)) == marks
    assert later.merged.applied == 0


def test_another_device_is_another_merge(run):
    """Weights made on another device are not taken to be the same."""
    Holder(Merged(), Fingerprints(run)).fingerprint(ONE)
    run.note(options=run.options.to_mapping() | {"device": "cuda"})
    assert ONE.key not in Fingerprints(run)


def test_weights_that_changed_are_refused(run):
    """A merge that now gives other weights ends the run instead of mixing two models' answers."""
    Fingerprints(run)[ONE.key] = "other"
    with pytest.raises(SearchError, match="other before") as found:
        Holder(Merged(), Fingerprints(run)).hold(ONE)
    assert "fingerprints.json" in found.value.remedy


@pytest.mark.parametrize("text", ["[1]", "null", "{"])
def test_a_broken_file_is_refused_with_what_helps(run, text):
    """A file of fingerprints that is no JSON object may be deleted, and the error says so."""
    (run.path / "fingerprints.json").write_text(text)
    with pytest.raises(SearchError, match=r"fingerprints\.json is damaged") as found:
        Fingerprints(run)
    assert "Delete it" in found.value.remedy


def test_a_file_that_lost_its_facts_is_damaged(run):
    """What other commands count on is looked for where the file is read."""
    run.write("confirm.json", {"winner": {}, "frozen": {}})
    with pytest.raises(SearchError, match=r"confirm\.json is damaged: it lacks confirm, verdict"):
        run.read("confirm.json")
