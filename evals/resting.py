"""A model's folder as what answers, loaded when the first answer is missing.

Which rows of a ledger are a model's follows from the hash of its weights and from its voice. Both
are kept in the user's cache under sizes and times of the folder's files, so that what was answered
before is shown with nothing read, imported or loaded. Files changed a moment ago are not trusted
(their times may not tell the next change), nor are adapters, which follow another folder too.
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import time_ns
from typing import Any

from evals.generate import Answerer, Voice
from evals.kept import keep, kept, name_of

_MOMENT = 2_000_000_000  # nanoseconds


class Resting(Answerer):
    """A model that is asked for its voice so far; it is loaded when more is wanted of it."""

    def __init__(self, voice: Voice, load: Callable[[], Answerer]) -> None:
        self._voice, self._load = voice, load

    @property
    def voice(self) -> Voice:
        """What the voice was when the model was last loaded."""
        return self._voice

    def __getattr__(self, name: str) -> Any:
        """Load the model for what is not there yet."""
        if "model" in self.__dict__:
            raise AttributeError(name)
        self.__dict__ |= vars(self._load())
        return getattr(self, name)


class Notes:
    """What is known of a folder that is as it was when it was loaded in the same way (`how`)."""

    def __init__(self, folder: Path, how: tuple[object, ...]) -> None:
        self.folder, self._name = folder, _name(folder, how)
        self.found: Any = kept(self._name) if self._name else None

    def wake(
        self, fingerprint: Callable[[Path], str], load: Callable[[Path], Answerer]
    ) -> tuple[str, Answerer]:
        """Return fingerprint and what answers, as noted, or made and then noted."""
        if self.found:
            voice = Voice(**self.found["voice"])
            return self.found["fingerprint"], Resting(voice, partial(load, self.folder))
        mark, answerer = fingerprint(self.folder), load(self.folder)
        if self._name:  # of the files as they were before they were read
            keep(self._name, {"fingerprint": mark, "voice": asdict(answerer.voice)})
        return mark, answerer


def _name(folder: Path, how: tuple[object, ...]) -> str | None:
    """Return a name for a folder as it is now; None where that cannot be told for sure."""
    facts = [(str(file), file.stat()) for file in sorted(folder.rglob("*")) if file.is_file()]
    times = [time for _, s in facts for time in (s.st_mtime_ns, s.st_ctime_ns)]
    adapter = (folder / "adapter_config.json").exists()
    if adapter or not times or time_ns() - max(times) < _MOMENT:
        return None
    files = [(file, s.st_size, s.st_ino) for file, s in facts]
    code = [(Path(__file__).parent / f).read_bytes() for f in ("generate.py", "fastloop.py")]
    programs = [version(one) for one in ("torch", "transformers", "tokenizers")]
    return f"models/{name_of(files, times, how, code, programs)}"
