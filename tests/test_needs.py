"""What a recipe takes: bytes by rule from headers, nothing fetched."""

from recipes.needs import Weights, training_needs, weigh
from recipes.rl.settings import STAGE_A, make_settings
from tests import toys


def needs(**options):
    return training_needs(make_settings(STAGE_A, {"task": "ded"} | options))


def test_training_holds_weights_gradients_states_and_reference():
    """On a CPU 4 bytes each of five; in bf16 on a GPU 2 of five, and one more for vLLM's copy."""
    assert needs(device="cpu")[2:] == (20, False)
    assert needs(device="cuda")[2:] == (10, True)
    assert needs(device="cuda", vllm=True).memory == 12
    assert needs(device="cuda", beta=0.0).memory == 8
    assert needs(device="cuda", lora=8) == (2, 0, 2, True)


def test_a_folder_is_weighed_by_its_headers(tmp_path):
    """Parameters are counted once, tied ones too; there is nothing to fetch."""
    folder = toys.save_model(tmp_path / "model")
    sizes = weigh("mine", {"mine": str(folder)}, None)
    assert sizes == weigh(str(folder), {}, None)
    assert 10_000 < sizes.parameters < 100_000
    assert sizes.download == 0


def test_a_hub_model_is_asked_for_its_size(monkeypatch):
    """The Hub's own count is taken; without a network the size is unknown and no error."""
    import huggingface_hub

    class Hub:
        def model_info(self, repo, **_):
            assert repo == "org/model"
            files = [
                type("F", (), {"rfilename": n, "size": 7})() for n in ("a.safetensors", "b.bin")
            ]
            return type(
                "I", (), {"siblings": files, "safetensors": type("S", (), {"total": 3})()}
            )()

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert weigh("org/model", {}, None) == Weights(3, 7)
    monkeypatch.setattr(Hub, "model_info", lambda *_, **__: 1 / 0)
    assert weigh("org/model", {}, None) is None
