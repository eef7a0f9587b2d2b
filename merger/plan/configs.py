"""Where the models' configs disagree on how their weights are meant: one of them is written.

Equal shapes do not tell a rope_theta, an epsilon or a window; a model merged from two that differ
in these is run with the donor's. Keys that only one of two configs states are passed over, as
versions of transformers write different ones.
"""

from collections.abc import Iterator, Mapping
from typing import Any

# About the file, the number format, or what a merge sees to by itself.
_ELSEWHERE = {"_name_or_path", "transformers_version", "use_cache", "torch_dtype", "dtype"}
_ELSEWHERE |= {"num_hidden_layers", "layer_types", "vocab_size", "tie_word_embeddings"}
_SHOWN = 4


def config_notes(configs: Mapping[str, Mapping[str, Any] | None], donor: str) -> list[str]:
    """Return a sentence for each model whose config.json disagrees with the donor's."""
    notes, written = [], configs[donor] or {}
    for model, config in configs.items():
        if told := list(_differences(config or {}, written)):
            more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
            law = f"{model}: made for another config than {donor}'s, which is written"
            notes.append(f"{law} ({', '.join(told[:_SHOWN])}{more})")
    return notes


def _differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[str]:
    for key in (k for k in one if k in two and k not in _ELSEWHERE):
        if isinstance(one[key], Mapping) and isinstance(two[key], Mapping):
            yield from _differences(one[key], two[key])
        elif one[key] != two[key]:
            yield f"{key}: {one[key]!s:.40} against {two[key]!s:.40}"
