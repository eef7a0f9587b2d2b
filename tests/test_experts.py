"""Names lead to models in a fixed order, the choice is told, and a typo is answered."""

from pathlib import Path

import pytest

from merger import experts
from merger.errors import CheckpointError, SpecError, UnknownNameError
from merger.experts import families, known_aliases, read_family, resolve


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder, with one family `pets` bundled beside the real ones."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "lib" / "pets"
    for name in ("base", "cat"):
        (root / name).mkdir(parents=True)
    (root / "family.yaml").write_text(
        "name: pets\ndescription: d\nbase: base\n"
        "experts: {cat: cat, dog: org/dog, cow: cow}\nlevels: {cat: [1, 2]}\n"
    )
    found = {**families(), "pets": read_family(root / "family.yaml")}
    monkeypatch.setattr(experts, "families", lambda: found)
    return tmp_path


def test_a_folder_wins_over_an_alias(here):
    """A folder of that name is taken before any alias, and the choice says so."""
    (here / "cat").mkdir()
    found = resolve("cat", family="pets")
    assert found.path == Path("cat")
    assert "folder" in found.choice
    assert resolve("pets:cat").path == here / "lib" / "pets" / "cat"


def test_aliases_are_tried_in_order(here):
    """The recipe, then ./experts.yaml, then the family."""
    for name in ("r", "l"):
        (here / name).mkdir()
    assert resolve("cat", family="pets").path.parent.name == "pets"
    (here / "experts.yaml").write_text("cat: ./l\n")
    found = resolve("cat", family="pets")
    assert (found.path, "experts.yaml" in found.choice) == (Path("l"), True)
    assert resolve("cat", family="pets", aliases={"cat": "r"}).path == Path("r")


def test_a_typo_is_answered(here):
    """The nearest alias of all sources is suggested, and all are listed."""
    with pytest.raises(UnknownNameError) as caught:
        resolve("ca", family="pets")
    assert "'cat'" in caught.value.remedy
    assert "maa-7b:ded" in caught.value.remedy
    with pytest.raises(UnknownNameError, match="family named 'pet'"):
        resolve("cat", family="pet")


def test_the_case_of_letters_hides_no_name(here):
    """A name in capitals is answered with the one that was meant."""
    with pytest.raises(UnknownNameError, match=r"Did you mean 'cat'\?"):
        resolve("CAT", family="pets")


def test_a_family_alone_is_no_model(here):
    """The name of a family is answered with its members."""
    with pytest.raises(UnknownNameError, match="is a family") as caught:
        resolve("pets")
    assert "pets:cat" in caught.value.remedy


@pytest.mark.parametrize("name", ["org/name", "org/name@abc", "pets:dog", "maa-7b:ded"])
def test_offline_the_remedy_is_the_download(here, name):
    """Without a network a Hub id says what to run elsewhere."""
    with pytest.raises(CheckpointError, match="cannot be reached") as caught:
        resolve(name)
    assert "hf download" in caught.value.remedy
    assert ("--revision abc" in caught.value.remedy) == name.endswith("@abc")


def test_the_hub_is_asked_for_no_pickle(here, monkeypatch):
    """A snapshot is asked for by id and revision; only readable files are wanted."""
    asked = {}

    def fetch(repo, *, revision, allow_patterns):
        asked.update(repo=repo, revision=revision, patterns=allow_patterns)
        return str(here)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    found = resolve("org/name@v1.0")
    assert (found.path, asked["repo"], asked["revision"]) == (here, "org/name", "v1.0")
    assert not any(
        p.endswith((".bin", ".pt", ".py", "*")) for p in asked["patterns"] if p != "LICENSE*"
    )
    assert "Hub" in found.choice


@pytest.mark.parametrize("name", ["./nope", "/nope/at/all", "a/b/c", "../x/y"])
def test_a_path_that_is_not_there_is_told(here, name):
    """What can only be a path is not looked for on the Hub."""
    with pytest.raises(CheckpointError, match="no folder"):
        resolve(name)


def test_an_alias_to_nowhere_is_told(here):
    """A family member whose folder is missing names the folder."""
    with pytest.raises(CheckpointError, match="which does not exist"):
        resolve("pets:cow")


@pytest.mark.parametrize(
    "text", ["[1]", "cat: [1]", "cat: 3", "a: b: c", "\x00", "cat: !!python/x y"]
)
def test_a_broken_experts_yaml_is_told(here, text):
    """Anything but alias: model is a SpecError that names the file; no tag is obeyed."""
    (here / "experts.yaml").write_text(text)
    with pytest.raises(SpecError, match=r"experts\.yaml"):
        known_aliases()


@pytest.mark.parametrize("text", ["cat: ./c\ndog: 3", "cat: ./c\ndog:", "dog: a\ndog: b"])
def test_a_wrong_alias_is_told_with_its_line(here, text):
    """An alias of nothing, or one that stands twice, is found by its line."""
    (here / "experts.yaml").write_text(text)
    with pytest.raises(SpecError, match="line 2"):
        known_aliases()


@pytest.mark.parametrize(
    "text",
    [
        *("base: b\nexperts: {a: a}\nexpert: 1", "experts: {a: a}", "base: b"),
        *("base: b\nexperts: {a: a}\nlevels: {z: [1]}", "- a", "3", "base: b\nexperts: [a]"),
        *("base: b\nexperts: {a: a}\nlevels: {a: 1}", "base: b\nexperts: {a: a}\nlevels: {a: [x]}"),
    ],
)
def test_a_broken_family_is_told(tmp_path, text):
    """Unknown keys and missing ones are SpecErrors."""
    (tmp_path / "family.yaml").write_text(text)
    with pytest.raises(SpecError, match=r"family\.yaml"):
        read_family(tmp_path / "family.yaml")


def test_the_papers_family_is_bundled():
    """The four models of the paper have names."""
    family = families()["maa-7b"]
    assert family.members == {
        "base": "Qwen/Qwen2.5-7B-Instruct",
        "ded": "zhiyuanhucs/deduction-7b",
        "ind": "zhiyuanhucs/induction-7b",
        "abd": "zhiyuanhucs/abduction-7b",
    }
