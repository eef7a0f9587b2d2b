"""Laws of a folder's notes: what was answered is shown without the model, and nothing stale is."""

import os
import time

import pytest

from evals.generate import Answerer
from evals.kept import cache_folder
from evals.resting import Notes
from tests.toy_models import toy_model, toy_tokenizer

HOW = ("cpu", "auto")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder that was written an hour ago, as far as its files can tell."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    monkeypatch.setattr("evals.resting.time_ns", lambda: time.time_ns() + 3600 * 10**9)
    return tmp_path / "model"


def load(folder):
    return Answerer(toy_model(), toy_tokenizer())


def fail(*_):
    pytest.fail("read or loaded")


def wake(folder, fingerprint=lambda _: "f0", load=load, how=HOW):
    return Notes(folder, how).wake(fingerprint, load)


def test_a_second_time_nothing_is_read_or_loaded(folder):
    """Fingerprint and voice are those of the first time; the model comes when it is asked."""
    _, first = wake(folder)
    mark, second = wake(folder, fail)
    assert (mark, second.voice) == ("f0", first.voice)
    assert "model" not in vars(second)
    assert second.answer(["1 + 2 ="]) == first.answer(["1 + 2 ="])
    assert wake(folder, fail, fail)[1].voice == first.voice


def test_a_changed_folder_is_another(folder):
    """Another size, time or file, or another way of loading, and the notes do not count."""
    wake(folder)
    assert wake(folder, lambda _: "f1", how=("cpu", "float32"))[0] == "f1"
    (folder / "config.json").write_text("[]")
    os.utime(folder / "config.json", ns=(0, 0))  # its bytes as many, its time older: it is known
    assert wake(folder, lambda _: "f2")[0] == "f2"
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert wake(folder, lambda _: "f3")[0] == "f3"
    assert wake(folder, fail)[0] == "f3"


def test_what_may_still_change_unseen_is_not_noted(folder, monkeypatch):
    """Neither files written a moment ago, nor an adapter, which follows another folder."""
    (folder / "adapter_config.json").write_text("{}")
    wake(folder)
    (folder / "adapter_config.json").unlink()
    monkeypatch.setattr("evals.resting.time_ns", time.time_ns)
    (folder / "config.json").write_text("{}")
    wake(folder)
    assert not list(cache_folder().rglob("*.json"))
