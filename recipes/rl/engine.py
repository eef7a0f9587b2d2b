"""The one door to TRL: its GRPO trainer, told what the paper means.

REINFORCE++ is TRL's GRPO trainer with another advantage; the rest is configuration. What TRL would
do differently unless told: the KL is k3 without an importance weight; the reference is the frozen
base at every level, named through the config because the trainer reloads it from there; prompts
are strings rendered beforehand, so that a pre-filled `<think>` stays open, encoded without extra
special tokens. On a CPU the answers come from our own decoder, and no time is spent on padding.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging
from trl import GRPOConfig, GRPOTrainer

from evals.batching import run as decode
from evals.generate import Answerer, Request, load_model
from evals.generate import Settings as Sampling
from recipes.packed import products, supported
from recipes.rl.curriculum import Curriculum
from recipes.rl.curve import line, make_row
from recipes.rl.feed import COLUMNS, Feed, open_source
from recipes.rl.folder import Workplace
from recipes.rl.objectives import reinforce_pp_advantage
from recipes.rl.packing import answer_logps, pack
from recipes.rl.settings import Settings

Log = Callable[[str], None]
# Answers that a CPU puts through the model at once, unless told: packed, and padded. What its cache
# holds is faster.
PACKED_ROWS, CPU_ROWS = 64, 16


class Trainer(GRPOTrainer):  # type: ignore[misc]  # TRL has no types
    """TRL's trainer, fed by slots, with the token-weighted advantage and the fast decoder."""

    _seen: Tensor  # the columns of the step's answers, of all processes
    _buffered_inputs: list[dict[str, Any]] | None  # TRL's micro batches

    def __init__(self, feed: Feed, place: Workplace, log: Log, **kwargs: Any) -> None:
        """Take the feed that answers for prompts and rewards; the rest goes to TRL."""
        self.feed, self.place, self.say = feed, place, log
        super().__init__(reward_funcs=[_unasked] * len(COLUMNS), **kwargs)
        self.reward_func_names = list(COLUMNS)
        self.remove_callback(PrinterCallback)

    def run(self, start: Path | None) -> None:
        """Train to the end, from a checkpoint of the trainer's own if there is one."""
        self._since = time.monotonic()
        with _quiet():
            self.train(resume_from_checkpoint=str(start) if start else None)

    @property
    def _packed(self) -> bool:
        """Whether our own forward may stand for the model's: the gradient is not shared then."""
        return self.accelerator.num_processes == 1 and supported(self.model)

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Take the gradient of a micro batch, by fast products where the forward is our own."""
        with products("fast") if self._packed else nullcontext():
            loss: Tensor = super().training_step(*args, **kwargs)
        return loss

    def save(self, folder: Path) -> None:
        """Write the weights, gathered from all processes; of LoRA the adapter beside them."""
        lora = self.feed.settings.lora
        self.save_model(str(folder / "adapter" if lora else folder))
        if lora and self.is_world_process_zero():
            for more in [p for p in (folder / "adapter").iterdir() if "adapter_" not in p.name]:
                more.unlink()
            self.accelerator.unwrap_model(self.model).merge_and_unload().save_pretrained(folder)

    def _save_checkpoint(self, *args: Any) -> None:
        super()._save_checkpoint(*args)
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            self.place.seal(f"checkpoint-{self.state.global_step}")

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write no card with each checkpoint: ours is written at the end."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the step to the curve; the last call of a run, a summary, is not one."""
        super().log(logs, start_time)
        if "rewards/reward/mean" not in logs or not self.is_world_process_zero():
            return
        now = time.monotonic()
        step = self.state.global_step // self.feed.settings.updates
        row = make_row(step, logs, **self._level, seconds=round(now - self._since, 3))
        self._since = now
        self.place.add_row(row)
        self.say(line(row, self.feed.settings.steps))
        if (level := self.feed.curriculum.level) != row["level"]:
            self.say(f"level {row['level']} left, now level {level}")

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        encoded = self.processing_class(text=prompts, add_special_tokens=False)
        return encoded["input_ids"], None, {}

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """Repack the micro batches of a step when its answers have just been made."""
        first = super()._prepare_inputs(generation_batch)
        if self._step % self.args.steps_per_generation:
            return first
        made = self._buffered_inputs or [first]
        self._buffered_inputs = pack(made, self.args.gradient_accumulation_steps)
        return self._buffered_inputs[0]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Answer the slots' prompts and, for REINFORCE++, put its advantage in GRPO's place."""
        self._slots = [row["slot"] for row in inputs]
        out: dict[str, Any] = super()._generate_and_score_completions(self.feed.rows(self._slots))
        if self.feed.settings.algorithm == "reinforce++":
            lengths = self.accelerator.gather(out["completion_mask"].sum(dim=1))
            advantages = reinforce_pp_advantage(self._seen[:, 0], lengths)
            first = self.accelerator.process_index * len(inputs)
            out["advantages"] = advantages[first : first + len(inputs)]
            for _ in range(len(advantages)):  # what GRPO had put into the log of completions
                self._logs["advantages"].pop()
            self._logs["advantages"].extend(advantages.tolist())
        return out

    def _calculate_rewards(self, inputs: Any, prompts: Any, texts: Any, ids: Any) -> Tensor:
        """Score the answers of all processes and tell the curriculum how its level went."""
        rows = [self.feed.measure(i, row["item"]) for i, row in zip(ids, inputs, strict=True)]
        self._seen = self.accelerator.gather(torch.tensor(rows, device=self.accelerator.device))
        curriculum = self.feed.curriculum
        here = self._seen[:, COLUMNS.index("level")] == curriculum.level
        right = self._seen[here, COLUMNS.index("correct")]
        share = right.mean().item() if len(right) else None
        self._level = {"level": curriculum.level, "level_correct": share}
        curriculum.report(share)
        return self._seen

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
        """Answer by our own decoder where it knows the model; a prompt is read once a group."""
        if self.feed.answerer.engine != "fast" or self.args.use_vllm:
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)
        settings, step = self.feed.settings, self.state.global_step
        # Streams are keyed by the place in the whole batch: same answers by one process or many.
        first = self.accelerator.process_index * len(prompt_ids)
        wanted = [
            Request(f"{step}/{slot}", place, tuple(tokens), self._budget(len(tokens)))
            for place, (slot, tokens) in enumerate(zip(self._slots, prompt_ids, strict=True), first)
        ]
        sampling = Sampling(temperature=settings.temperature, seed=settings.seed)
        with torch.no_grad(), products("usual"):
            groups = list(decode(self.feed.answerer, wanted, sampling))
        said = {request.sample: tokens for group in groups for request, tokens, _ in group}
        return [said[request.sample] for request in wanted], None

    def _budget(self, prompt: int) -> int:
        """Return how many tokens an answer may have: what was asked, or what the context leaves."""
        left = self.feed.answerer.context - prompt
        return max(1, min(self.feed.settings.max_new_tokens, left))

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Score answers without padding, a prompt once for several, where the model is known."""
        if not self._packed:
            whole = super()._get_per_token_logps_and_entropies
            return whole(model, input_ids, attention_mask, logits_to_keep, batch_size, **kwargs)
        parts = zip(*(t.split(PACKED_ROWS) for t in (input_ids, attention_mask)), strict=True)
        with products("fast"):
            found = [
                answer_logps(model, ids, mask, logits_to_keep, self.temperature)
                for ids, mask in parts
            ]
        logps, entropies = (torch.cat(one) for one in zip(*found, strict=True))
        return logps, entropies, None


def _unasked(**_: Any) -> list[float]:
    """Stand for a column among the reward functions: the feed scores all columns at once."""
    raise NotImplementedError


def make_trainer(
    model: Path, reference: Path, settings: Settings, place: Workplace, log: Log
) -> Trainer:
    """Load a policy and all that trains it; raises what loading a model or a task can raise."""
    source = open_source(settings)
    if not settings.on_gpu:
        torch.set_num_threads(settings.threads)
    policy, tokenizer = load_model(model, dtype="bfloat16" if settings.on_gpu else "float32")
    # The trainer reloads its reference from the path that stands here, whatever the policy is.
    policy.config._name_or_path = str(reference)
    curriculum = Curriculum(settings.levels or source.levels, settings)
    answerer = Answerer(policy, tokenizer, hands=settings.threads)
    feed = Feed(source, answerer, curriculum, settings)
    slots = settings.steps * settings.prompts_per_step
    adapter = None  # with one, the base itself is the reference
    if rank := settings.lora:
        from peft import LoraConfig

        how: dict[str, Any] = {"target_modules": "all-linear", "lora_dropout": 0.0}
        adapter = LoraConfig(r=rank, lora_alpha=2 * rank, **how)
    with _quiet():
        return Trainer(
            feed,
            place,
            log,
            model=policy,
            processing_class=tokenizer,
            args=arguments(settings, place.trainer, packed=supported(policy) and not rank),
            train_dataset=Dataset.from_dict({"prompt": [""] * slots, "slot": list(range(slots))}),
            peft_config=adapter,
        )


def arguments(settings: Settings, folder: Path, *, packed: bool = False) -> GRPOConfig:
    """Say the settings in TRL's words; `packed`: whether the model's forward is our own."""
    per_update = settings.answers // settings.updates // int(os.environ.get("WORLD_SIZE", "1"))
    most = per_update if settings.on_gpu else PACKED_ROWS if packed else CPU_ROWS
    micro = settings.micro_batch or next(d for d in range(most, 0, -1) if per_update % d == 0)
    return GRPOConfig(
        output_dir=str(folder),
        seed=settings.seed,
        max_steps=settings.steps * settings.updates,
        # A generation batch is a step's answers; it is cut into `updates` updates of `micro` rows.
        generation_batch_size=settings.answers,
        num_generations=settings.group,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=per_update // micro,
        shuffle_dataset=False,
        temperature=settings.temperature,
        top_k=0,
        max_completion_length=settings.max_new_tokens,
        learning_rate=settings.lr,
        lr_scheduler_type="constant",
        weight_decay=0.01,
        beta=settings.beta,
        use_bias_correction_kl=False,
        epsilon=settings.clip,
        entropy_coef=settings.entropy,
        loss_type="dapo",  # the mean over all tokens of an update, whatever the micro batch
        reward_weights=[1.0] + [0.0] * (len(COLUMNS) - 1),
        use_cpu=not settings.on_gpu,
        bf16=settings.on_gpu,
        gradient_checkpointing=settings.on_gpu,
        use_vllm=settings.vllm,
        vllm_max_model_length=settings.max_prompt_tokens + settings.max_new_tokens,
        vllm_gpu_memory_utilization=settings.vllm_memory,
        vllm_tensor_parallel_size=settings.vllm_parallel,
        vllm_enable_sleep_mode=True,
        logging_steps=settings.updates,
        log_completions=True,
        num_completions_to_print=0,
        save_steps=settings.save_every * settings.updates,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the libraries say about their own calls: bars and deprecations at every step."""
    logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
