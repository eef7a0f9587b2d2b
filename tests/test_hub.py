"""Laws of asking whether the Hub is there."""

import pytest
from huggingface_hub import constants

from evals.hub import hub_or_cache


class Network:
    """A session that is or is not connected, and counts how often it was asked."""

    def __init__(self, *, up):
        self.up, self.asked = up, 0

    def head(self, url, timeout):
        assert url == constants.ENDPOINT
        self.asked += 1
        if not self.up:
            raise ConnectionError


@pytest.fixture
def network(request, monkeypatch):
    session = Network(up=request.param)
    monkeypatch.setattr("huggingface_hub.get_session", lambda: session)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return session


@pytest.mark.parametrize("network", [True, False], indirect=True)
def test_an_unreachable_hub_is_left_alone(network):
    """It is asked once; without an answer its libraries read the cache, and only within."""
    with hub_or_cache():
        assert constants.HF_HUB_OFFLINE is not network.up
    assert (network.asked, constants.HF_HUB_OFFLINE) == (1, False)


@pytest.mark.parametrize("network", [False], indirect=True)
def test_nobody_is_asked_without_need(network, monkeypatch):
    """Not for tasks of one's own, nor where the user has said offline."""
    with hub_or_cache(needed=False):
        assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with hub_or_cache():
        assert constants.HF_HUB_OFFLINE
    assert (network.asked, constants.HF_HUB_OFFLINE) == (0, True)
