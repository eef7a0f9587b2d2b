"""Laws of remembered attempts: the same items, sooner, and no trust in what lies on the disk."""

import pytest

from evals.attempts import remembered
from evals.kept import cache_folder, keep, kept
from evals.task import draw_item, get_task, items
from tests.toy_models import toy_task

TASK = get_task("deduction")
POOL = {"split": "search", "levels": (1,)}


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def files():
    return sorted(cache_folder().rglob("*.json"))


def test_items_are_the_same_with_and_without(monkeypatch):
    """A second drawing tries once an item, and gives what the first gave; a longer one goes on."""
    first = items(TASK, n=6, **POOL)
    draws = []
    module = TASK.draw.__globals__
    show = module["canonical"]
    monkeypatch.setitem(module, "canonical", lambda lines: draws.append(1) or show(lines))
    assert items(TASK, n=6, **POOL) == first
    assert len(draws) == 6
    assert items(TASK, n=9, **POOL)[:6] == first
    assert items(TASK, n=9, **POOL)[8] == draw_item(TASK, level=1, split="search", seed=0, index=8)


@pytest.mark.parametrize("text", ["", "{", 'x\n{"1": [9, 9, 9]}', "\x00"])
def test_a_broken_file_is_as_good_as_none(text):
    """What does not carry its own checksum is not read."""
    first = items(TASK, n=3, **POOL)
    (file,) = files()
    file.write_text(text)
    assert items(TASK, n=3, **POOL) == first


def test_a_wrong_number_is_found_out():
    """An attempt that leads into another split is not taken."""
    first = items(TASK, n=3, **POOL)
    (file,) = files()
    name = f"items/{file.stem}"
    keep(name, {"1": [number + 1 for number in kept(name)["1"]]})
    assert [item.split for item in items(TASK, n=3, **POOL)] == ["search"] * 3
    assert [item.id for item in items(TASK, n=3, **POOL)] == [item.id for item in first]


def test_pools_have_files_of_their_own_and_foreign_tasks_none():
    """Split and seed are in the name; a generator that is not of this package is not kept."""
    items(toy_task(), n=3, split="train")
    assert not files()
    items(TASK, n=2, **POOL)
    items(TASK, n=2, seed=1, **POOL)
    assert len(files()) == 2


def test_a_disk_that_takes_nothing_is_no_error(tmp_path, monkeypatch):
    """Without a place to keep them the numbers are forgotten."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with remembered(TASK.draw, "a") as known:
        known["1"] = [3]
    assert len(items(TASK, n=2, **POOL)) == 2
