"""What a finished search leaves to be used: the recipe that stands, as configs and as a model.

`winner.yaml` is what stands, which is a simple recipe where the search did not beat it; the frozen
winner then has a file of its own. The same in mergekit's words says whether it is exact or near.
A saved model's card tells on which items its weights were selected.
"""

from pathlib import Path
from typing import Any

from merger.engine import merge_to_folder, opened
from merger.provenance import fill_selection
from merger.spec import load_spec
from search.candidate import Candidate
from search.export import mergekit_config, to_yaml
from search.protocol import Search

CONFIG = "winner.yaml"
MERGEKIT = "winner.mergekit.yaml"


def write_winner(search: Search, confirmed: dict[str, Any]) -> None:
    """Write winner.yaml, winner.mergekit.yaml and, where another stands, frozen.yaml."""
    run, options = search.run, search.options
    models = search.models
    winner, frozen = (Candidate.from_mapping(confirmed[k]) for k in ("winner", "frozen"))
    head = f"{confirmed['verdict']}: {confirmed['words']}"
    marks = f"weights {confirmed['winner']['fingerprint']}"
    config = models.config(winner, options.dtype)
    run.write_text(CONFIG, to_yaml(config, f"merger merge {CONFIG} OUT", head, marks))
    config, near = mergekit_config(winner, models.names, models.base, options.dtype)
    run.write_text(
        MERGEKIT,
        to_yaml(models.worded(config), f"{near} to {CONFIG}", "Put folders for the models."),
    )
    if frozen != winner:
        config = models.config(frozen, options.dtype)
        run.write_text(
            "frozen.yaml", to_yaml(config, "The frozen winner; it did not beat winner.yaml")
        )


def save_model(search: Search, confirmed: dict[str, Any], out: Path) -> list[str]:
    """Merge winner.yaml into a new folder, with what it was selected on in its card."""
    spec = load_spec(str(search.run.path / CONFIG))
    with opened(spec, family=search.options.family) as models:
        notes = merge_to_folder(models, out, device=search.options.device)
    fill_selection(out, selection(search, confirmed))
    return notes


def selection(search: Search, confirmed: dict[str, Any]) -> dict[str, str]:
    """Return what the weights were selected on, for a model card."""
    o = search.options
    tasks = ", ".join(t.name for t in search.world.tasks)
    scored, guards = confirmed["guard"], search.guards.tasks if search.guards else ()
    guarded = [
        f"{t.alias} {100 * scored[confirmed['kept']][t.name]:.1f} "
        f"(base {100 * scored['base'][t.name]:.1f})"
        for t in guards
    ]
    facts = {
        "objective": search.objective.text,
        "tasks": tasks,
        "items": f"{o.n_search} search and {o.n_select} select items a task, seed {o.seed}",
        "confirmed on": f"{o.n_confirm} items a task, seed {o.confirm_seed}, drawn after freezing",
        "verdict": confirmed["words"],
    }
    return facts | ({"guard tasks": ", ".join(guarded)} if guarded else {})
