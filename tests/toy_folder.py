"""Two toy models saved as folders, once a session, for tests of commands."""

import pytest

from tests.toy_models import toy_model, toy_tokenizer


@pytest.fixture(scope="session")
def toy_folders(tmp_path_factory):
    """Return the folders of two models that differ in their weights alone."""
    folders = [tmp_path_factory.mktemp("models") / name for name in ("one", "two")]
    for seed, folder in enumerate(folders):
        toy_model(seed=seed, context=1024).save_pretrained(folder)
        toy_tokenizer().save_pretrained(folder)
    return folders
