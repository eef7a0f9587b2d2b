"""Settings that every test shares: one thread, no network, fixed examples."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings

# Two torch threads on busy cores are some twenty times slower than one.
torch.set_num_threads(1)

settings.register_profile("fast", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("deep", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of golden merges and sample data, or skip with the reason."""
    folder = os.environ.get("MERGER_TEST_DATA")
    if not folder:
        pytest.skip("MERGER_TEST_DATA is not set: no golden merges to compare with")
    return Path(folder)


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """Return the URL of an empty schema on a real PostgreSQL server, or skip with the reason."""
    url = os.environ.get("MERGER_TEST_POSTGRES")
    if not url:
        pytest.skip("MERGER_TEST_POSTGRES is not set: no PostgreSQL server to talk to")
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True, application_name="tests") as db:
        db.execute(f"CREATE SCHEMA {name}")
        yield f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{name}"
        db.execute(f"DROP SCHEMA {name} CASCADE")


def pytest_collection_modifyitems(items):
    """Skip GPU tests where there is no GPU."""
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_sessionfinish(session):
    """Fail a run that skipped anything, where MERGER_NO_SKIP says that all must run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("MERGER_NO_SKIP") and skipped and session.exitstatus == 0:
        reporter.write_line(f"{len(skipped)} skipped, and MERGER_NO_SKIP is set", red=True)
        session.exitstatus = 1
