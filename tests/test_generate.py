"""Laws of generation: two engines agree, and an answer depends on its prompt and weights alone."""

import math
from collections import Counter
from random import Random
from types import SimpleNamespace

import pytest
import torch
from tokenizers.normalizers import Replace

from evals import batching, hfloop
from evals.cache import Memory
from evals.fastloop import Decoder, supported
from evals.generate import Answerer, Request, Settings, check_round_trip, load_model
from evals.sampling import pick, stream
from evals.task import items
from merger.errors import EvalError
from tests.toy_models import CONFIGS, toy_model, toy_task, toy_tokenizer

PROMPTS = [f"abc {i} def " * (1 + i % 7) for i in range(30)]
GREEDY = Settings(max_new_tokens=40)
DRAWN = Settings(max_new_tokens=30, samples=3, temperature=1.0, top_p=0.9, seed=7)


def answerer(kind="llama", engine="fast", **options):
    return Answerer(toy_model(kind), toy_tokenizer(), engine=engine, **options)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("settings", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_fast_engine_equals_generate_token_for_token(kind, settings):
    """In float32 the fast loop and transformers' generate say the same, greedy and sampled."""
    fast = answerer(kind).answer(PROMPTS, settings)
    assert fast == answerer(kind, "hf").answer(PROMPTS, settings)
    assert {c.finish for c in fast} == {"stop", "length"}


@pytest.mark.parametrize("rope", ["linear", "llama3"])
def test_scaled_rotary_tables_are_the_models_own(rope):
    """Position tables that a config scales give the same tokens in both engines."""
    table = {"rope_type": rope, "rope_theta": 10_000.0, "factor": 4.0}
    if rope == "llama3":
        table |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
        table |= {"original_max_position_embeddings": 64}
    model = toy_model(rope_parameters=table)
    both = (Answerer(model, toy_tokenizer(), engine=e) for e in ("fast", "hf"))
    first, second = (a.answer(PROMPTS, GREEDY) for a in both)
    assert first == second


@pytest.mark.parametrize("settings", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("rows", [1, 3, 11])
def test_answers_do_not_depend_on_the_batch(settings, rows):
    """Small batches, another order, or a prompt alone: every answer stays what it was."""
    together = answerer().answer(PROMPTS, settings)
    assert answerer(max_rows=rows).answer(PROMPTS, settings) == together
    backwards = answerer(batch_tokens=2000).answer(PROMPTS[::-1], settings)
    k = settings.samples
    assert [backwards[-k * (i + 1) : len(backwards) - k * i] for i in range(len(PROMPTS))] == [
        together[k * i : k * (i + 1)] for i in range(len(PROMPTS))
    ]


@pytest.mark.parametrize("settings", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_answers_do_not_depend_on_the_threads(settings, monkeypatch):
    """Requests dealt out to several threads are answered as by one."""
    monkeypatch.setattr(batching, "_FEW", 1)
    monkeypatch.setattr(batching, "_SHARE", 1)
    alone, many = (answerer(engine="fast", hands=n).answer(PROMPTS, settings) for n in (1, 3))
    assert alone == many


def test_logits_are_the_same_bits_in_any_batch():
    """The law above has no luck in it: the numbers themselves do not depend on the batch."""
    rng, decoder = Random(0), Decoder(toy_model())
    prompts = [[rng.randrange(3, 90) for _ in range(rng.randint(5, 90))] for _ in range(40)]

    def logits(places):
        cache = decoder.room(len(places), 128, Memory())
        first = decoder.prefill([prompts[i] for i in places], [1] * len(places), cache)
        said = [first.argmax(-1)]
        steps = [first]
        for _ in range(3):
            steps.append(decoder.step(said[-1], cache))
            said.append(steps[-1].argmax(-1))
        return torch.stack(steps)

    every = logits(range(40))
    for some in ([3], [9, 0], list(range(20, 33))):
        assert torch.equal(logits(some), every[:, some])


def test_weights_are_read_anew_at_each_call():
    """A, B, A put into one live model in place give A's answers, B's, and A's again."""
    live = answerer()
    a, b = (toy_model(seed=s).state_dict() for s in (0, 1))
    said = []
    for weights in (a, b, a):
        live.model.load_state_dict(weights)
        said.append(live.answer(PROMPTS, GREEDY))
    assert said[0] == said[2] != said[1]


def test_prompts_are_read_once_for_all_samples(monkeypatch):
    """Three samples of a prompt cost one reading of it."""
    seen, prefill = [], Decoder.prefill
    monkeypatch.setattr(Decoder, "prefill", lambda s, p, *a: seen.extend(p) or prefill(s, p, *a))
    answerer().answer(PROMPTS, DRAWN)
    assert len(seen) == len(PROMPTS)


def test_a_row_that_is_done_does_not_outgrow_the_cache():
    """A row that is done at the end of its room stays there while the others go on, as if alone."""
    model = answerer()
    model.ends = frozenset()
    wanted = [Request("long", 0, (3,) * 60, 4)]
    wanted += [Request(f"short {i}", 0, (4 + i,) * 4, 60) for i in range(19)]

    def said(requests):
        return {r.name: done for group in model.run(requests, GREEDY) for r, done in group}

    assert said(wanted) == {r.name: said([r])[r.name] for r in wanted}


@pytest.mark.parametrize("engine", ["fast", "hf"])
def test_budget_ends_an_answer(engine):
    """An answer cut by its budget says so, and no answer is longer than its budget."""
    for answer in answerer(engine=engine).answer(PROMPTS, Settings(max_new_tokens=5)):
        assert answer.n_tokens == 5 if answer.finish == "length" else answer.n_tokens <= 5
        assert len(answer.text) == answer.n_tokens - (answer.finish == "stop")


@pytest.mark.parametrize("engine", ["fast", "hf"])
def test_the_context_limits_prompt_and_answer(engine):
    """What the prompt leaves of the context is all an answer gets; a longer prompt is an error."""
    model = Answerer(toy_model(context=64), toy_tokenizer(), engine=engine)
    whole = model.answer(["a" * 60], Settings(max_new_tokens=40))[0]
    assert whole.n_tokens <= 4
    with pytest.raises(EvalError, match="has 65 tokens; the model reads 64"):
        model.answer(["a" * 65])


def test_budget_comes_from_option_then_model_then_task():
    """The first of option, generation config and task that states a budget decides."""
    model = answerer()
    assert model.voice.budget(Settings(), 24) == 24
    model.model.generation_config.max_new_tokens = 9
    assert model.voice.budget(Settings(), 24) == 9
    assert model.voice.budget(Settings(max_new_tokens=3), 24) == 3


def test_a_shipped_generation_config_does_not_change_answers():
    """A repetition penalty or a temperature in generation_config.json is set aside and put back."""
    plain, other = answerer(engine="hf"), answerer(engine="hf")
    other.model.generation_config.repetition_penalty = 5.0
    other.model.generation_config.temperature = 0.1
    assert plain.answer(PROMPTS, GREEDY) == other.answer(PROMPTS, GREEDY)
    assert other.model.generation_config.repetition_penalty == 5.0


def test_unknown_blocks_use_the_reference_engine():
    """A GPT-2 is answered by generate, and the fast engine refuses it by name."""
    model = Answerer(toy_model("gpt2"), toy_tokenizer())
    assert model.engine == "hf"
    assert len(model.answer(["ab", "c"], Settings(max_new_tokens=4))) == 2
    with pytest.raises(EvalError, match="GPT2LMHeadModel"):
        Answerer(model.model, model.tokenizer, engine="fast")


def test_changed_layers_are_not_taken_for_known_ones():
    """A layer that is no plain product (an adapter, say) or that slides is left to generate."""
    model = toy_model()
    assert supported(model)
    model.model.layers[0].mlp.up_proj = type("Adapter", (torch.nn.Linear,), {})(32, 64, bias=False)
    assert not supported(model)
    assert not supported(toy_model("qwen2", use_sliding_window=True, max_window_layers=0))


@pytest.mark.parametrize("top_p", [1.0, 0.6])
def test_tokens_are_drawn_with_their_probabilities(top_p):
    """Drawn frequencies are the softmax cut at top-p, within four standard errors."""
    logits, n = torch.tensor([1.0, 0.0, -1.0, 0.5]), 4000
    rows = logits.expand(n, -1)
    counts = Counter(pick(rows, [stream(0, str(i), 0) for i in range(n)], 0.8, top_p).tolist())
    likely = torch.softmax(logits.double() / 0.8, -1)
    kept = likely if top_p == 1 else likely * torch.tensor([1, 0, 0, 1])  # .50 + .27 reach .6
    for token, p in enumerate((kept / kept.sum()).tolist()):
        assert abs(counts[token] / n - p) <= 4 * math.sqrt(p * (1 - p) / n)


def test_samples_differ_by_sample_and_by_seed():
    """Each (prompt, sample, seed) has a stream of its own."""
    one = answerer().answer(PROMPTS, DRAWN)
    other = answerer().answer(PROMPTS, Settings(**(vars(DRAWN) | {"seed": 8})))
    assert one[0] != one[1]
    assert sum(a == b for a, b in zip(one, other, strict=True)) < len(one) / 3


def test_the_key_names_what_changes_answers():
    """The key moves with the budget, the engine and the tokenizer, and not with an unused seed."""
    model = answerer()
    assert model.voice.key(Settings(seed=1), 24) == model.voice.key(Settings(seed=2), 24)
    assert model.voice.key(Settings(temperature=1, seed=1), 24) != model.voice.key(
        Settings(temperature=1), 24
    )
    assert model.voice.key(Settings(), 24) != model.voice.key(Settings(), 25)
    other = Answerer(model.model, toy_tokenizer("{{ messages[0]['content'] }}"))
    assert model.voice.key(Settings(), 24) != other.voice.key(Settings(), 24)
    assert model.voice.key(Settings(), 24) != answerer(engine="hf").voice.key(Settings(), 24)


def test_prompt_is_the_template_then_the_prefill():
    """The prompt ends with the pre-fill, once, also where a template opens the reasoning itself."""
    task, model = toy_task(), answerer()
    item = items(task, n=1, split="search")[0]
    assert model.prompt(task, item).endswith(f"user: {item.prompt}\nassistant: <think>")
    model.tokenizer.chat_template = "{{ messages[1]['content'] + '<think>\\n' }}"
    assert model.prompt(task, item) == f"{item.prompt}<think>\n"
    model.tokenizer.chat_template = None
    assert model.prompt(task, item).endswith(f"{item.prompt}\n\n<think>")


def test_a_saved_model_answers_as_the_live_one(tmp_path):
    """What was saved and loaded from a folder gives the same answers."""
    live = answerer()
    live.model.save_pretrained(tmp_path)
    live.tokenizer.save_pretrained(tmp_path)
    loaded = Answerer(*load_model(tmp_path))
    assert loaded.answer(PROMPTS, GREEDY) == live.answer(PROMPTS, GREEDY)
    with pytest.raises(EvalError, match="cannot be loaded"):
        load_model(tmp_path / "nowhere")
    for name in ("tokenizer_config.json", "generation_config.json", "config.json"):
        whole = (tmp_path / name).read_text()
        (tmp_path / name).write_text("[]")
        with pytest.raises(EvalError, match="cannot be loaded"):
            load_model(tmp_path)
        (tmp_path / name).write_text(whole)


def test_a_tokenizer_that_loses_spaces_is_refused():
    """The silent replacement of a tokenizer is found at load."""
    tokenizer = toy_tokenizer()
    tokenizer.backend_tokenizer.normalizer = Replace(" ", "")
    with pytest.raises(EvalError, match="turns"):
        check_round_trip(tokenizer, "here")


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1}, {"top_p": 0}, {"samples": 0}, {"samples": 2}, {"max_new_tokens": 0}],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    """Ranges are checked, and greedy samples that would all be the same are not drawn."""
    with pytest.raises(EvalError):
        Settings(**wrong)


def test_a_chat_template_that_fails_is_told():
    """A template is a program of the model's; what it raises is two lines, not a traceback."""
    for template in (
        "{% if %}",
        "{{ messages[0].content.nothing() }}",
        "{{ raise_exception('no') }}",
    ):
        broken = Answerer(toy_model(), toy_tokenizer(template))
        with pytest.raises(EvalError, match="chat template fails on a prompt of"):
            broken.prompt(toy_task(), items(toy_task(), n=1, split="test")[0])


def test_what_continuous_batching_leaves_out_is_answered(monkeypatch):
    """Answers go to their prompts; one that is missing or failed is generated, as samples are."""
    plain = Answerer(toy_model(), toy_tokenizer(), engine="hf")
    paged = Answerer(plain.model, plain.tokenizer, engine="paged")
    prompts = ["1 + 2 =", "3 + 4 =", "5 + 6 ="]
    expected = plain.answer(prompts, Settings(max_new_tokens=6))
    asked = [Request(p, 0, plain.encode(p), 6) for p in prompts]
    full = {
        r.tokens: said for group in hfloop.run(plain, asked, Settings()) for r, said, _ in group
    }

    def generate_batch(inputs, generation_config):
        assert (generation_config.do_sample, generation_config.max_new_tokens) == (False, 6)
        first, second = (tuple(tokens) for tokens in inputs[:2])
        done = [(second, full[second], None), (first, full[first], "out of memory")]
        names = ("prompt_ids", "generated_tokens", "error")
        rows = [SimpleNamespace(**dict(zip(names, row, strict=True))) for row in done]
        return {f"req_{i}": row for i, row in enumerate(rows)}

    monkeypatch.setattr(paged.model, "generate_batch", generate_batch, raising=False)
    assert paged.answer(prompts, Settings(max_new_tokens=6)) == expected
    drawn = Settings(max_new_tokens=6, temperature=1.0)
    assert paged.answer(prompts, drawn) == plain.answer(prompts, drawn)


@pytest.mark.gpu
def test_continuous_batching_says_what_generate_says():
    """On CUDA in float32 the greedy answers are those of the reference."""
    model = toy_model().cuda()
    paged, plain = (Answerer(model, toy_tokenizer(), engine=e) for e in ("auto", "hf"))
    assert paged.engine == "paged"
    prompts = [f"{i} + {i + 1} =" for i in range(9)]
    some = Settings(max_new_tokens=20)
    assert paged.answer(prompts, some) == plain.answer(prompts, some)
