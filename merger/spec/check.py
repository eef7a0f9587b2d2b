"""What a spec must obey beyond its schema: enough experts, a base where needed, even slices.

The schema (parse.py) knows keys and types, this file what they mean together. Complaints carry the
line of the YAML. What needs the checkpoints themselves is found by the plan.
"""

from merger.lines import Node
from merger.spec.model import MergeSpec, PartSpec


def check_spec(spec: MergeSpec, top: Node) -> None:
    """Raise a SpecError, with its place, for a spec that no checkpoint could make sense of."""
    _check_words(spec, top)
    for i, part in enumerate(spec.parts):
        if "models" in top:
            place = top["models"]
        else:
            place = top["modules"][part.module] if part.module else top["slices"].entries()[i]
        _check_part(spec, part, place)
        _check_sources(spec, part, place)


def _check_words(spec: MergeSpec, top: Node) -> None:
    """Check what tokenizer and chat template are to be: those of a model, or a template's text."""
    source, template = spec.tokenizer_source, spec.chat_template
    if source not in (None, "base", "union", *spec.models):
        law = f"tokenizer_source {source} is none of the models"
        remedy = f"base, union, or one of {', '.join(spec.models)}."
        raise top["tokenizer_source"].error(law, remedy)
    if template and "{" not in template:
        law = f"chat_template {template!r} is no Jinja template"
        remedy = "Give the template's text, or auto to keep the donor's; no templates are built in."
        raise top["chat_template"].error(law, remedy)


def _check_part(spec: MergeSpec, part: PartSpec, place: Node) -> None:
    operator, experts = spec.operator, spec.active(part)
    if operator.base == "required" and not spec.ground(part):
        law = f"{spec.method} starts from a base, and base_model is missing"
        raise place.error(law, "Add `base_model: NAME` (or --base NAME).")
    fewest, most = operator.experts
    if len(experts) < fewest or (most is not None and len(experts) > most):
        asked = f"{fewest}" if fewest == most else f"at least {fewest}"
        asked += " beside the base" if spec.base else ""
        law = f"{spec.method} takes {asked}, and {len(experts)} is given"
        raise place.error(law, "Change the list of models.")
    for name, knob in operator.knobs.items():
        for expert in experts if knob.each else experts[:1]:
            if knob.default is None and not spec.settings(part, expert, name):
                law = f"{expert.model} has no {name}" if knob.each else f"{name} is missing"
                law = f"{law}, which {spec.method} needs"
                raise place.error(law, f"Add `{name}: VALUE` to its parameters.")


def _check_sources(spec: MergeSpec, part: PartSpec, place: Node) -> None:
    # The base may stand in for several experts: an ablation takes them out so.
    models = [s.model for s in part.sources if s.model != spec.ground(part)]
    if twice := next((m for m in models if models.count(m) > 1), None):
        remedy = "Name each model once; layers of one model are stacked by separate slices."
        raise place.error(f"{twice} is named twice", remedy)
    spans = [s.layers for s in part.sources if s.layers]
    if len({last - first for first, last in spans}) > 1:
        told = ", ".join(f"{s.model} {list(s.layers or ())}" for s in part.sources)
        raise place.error(f"the layer ranges differ in length: {told}", "Make them equal.")
