"""The recipe's sections `training`, how the weights move and what is done beside it, and `parallel`, how the model is
laid over the processes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tsugiki.recipe_evaluation import EvaluateSection
from tsugiki.recipe_values import (
    EXTENDING,
    FREE,
    Count,
    CountOrZero,
    Listed,
    OneOf,
    Section,
    Share,
    Steps,
    Text,
    TextList,
)
from tsugiki.schedule import SHAPES

ProbeName = Literal[
    "tokenizer", "store_files", "token_ids", "control_ids", "bos_eos", "formats", "file_weights", "tied", "buffers",
    "attention", "bf16_speed", "dropout", "labels", "targets", "gradient_scale", "own_path", "causality", "isolation",
    "accumulation", "clipping", "router_loss", "gradient_paths", "decay_groups", "schedule", "movable_weights",
    "peak_rate", "replay", "epochs", "base_sanity",
]  # fmt: skip
"""The checks of `training.preflight`, in their order."""


ALL_LINEAR = "all-linear"


class FreezeRule(Section):
    """Parameters that are not trained."""

    parameters: list[Text] = Field(
        description="Glob patterns of parameter names, e.g. model.layers.* or *norm*.", min_length=1
    )
    until_step: Count | None = Field(default=None, description="Thaw after this many steps. Default: never.")


class LoraSection(Section):
    """Adapters: small trained matrices beside the layers of a frozen base (needs the extra `lora`)."""

    rank: Count = Field(default=16, description="Rows of A and columns of B: how much an adapter can express.")
    alpha: Annotated[float, Field(gt=0, le=1e6)] = Field(
        default=32.0, description="What B A adds to its layer is multiplied by alpha / rank."
    )
    dropout: Share = Field(default=0.0, description="Share of an adapter's inputs that are set to 0 in training.")
    target_modules: TextList = Field(
        default=[ALL_LINEAR],
        description="Layers that get an adapter. all-linear: all linear ones but the output layer. Others by name:"
        " whole, last parts such as q_proj, or a glob pattern of whole ones.",
    )
    modules_to_save: list[Text] = Field(
        default=[],
        description="Modules that are trained whole, in fp32, named in the same way: e.g. embed_tokens and lm_head.",
    )
    new_rows: bool = Field(
        default=False,
        description="Also train, of input embeddings and output layer, the rows of pieces that the base's own tokenizer"
        " has not (vocabulary, data.chat.add_template_tokens).",
    )

    @property
    def names_layers(self) -> bool:
        """Whether it names any layer, which a model may not have."""
        return self.target_modules != [ALL_LINEAR] or bool(self.modules_to_save)


class PreflightSection(Section):
    """The checks before step 1."""

    skip: list[ProbeName] = Field(
        default=[],
        description="Names of probes to leave out. None by default: each takes seconds and finds what no loss shows.",
        json_schema_extra=FREE,
    )


class TrainingSection(Section):
    """How the weights move. Exactly one of `max_steps`, `max_tokens` and `num_epochs`."""

    max_steps: Steps | None = Field(
        default=None, description="Length of the run in steps.", json_schema_extra=EXTENDING
    )
    max_tokens: Count | None = Field(
        default=None,
        description="Length of the run in tokens, rounded up to whole steps.",
        json_schema_extra=EXTENDING,
    )
    num_epochs: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        default=None,
        description="Length of the run in passes over the chat sources (without any, over all sources that are drawn),"
        " rounded up to whole steps. How many steps that is follows from the prepared data and the weights; the run"
        " records steps.",
        json_schema_extra=EXTENDING,
    )
    global_batch_size: Listed = Field(
        description="Windows a step over all processes; gradient accumulation follows from it."
    )
    micro_batch_size: Listed = Field(
        description="Windows at a time on one process: as many as fit in memory. Changes nothing but rounding, and a"
        " router loss (mixture of experts), which is a mean over each micro-batch.",
        json_schema_extra=FREE,
    )
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(description="Peak learning rate.")
    min_lr: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="Learning rate at the end of the schedule (a rate, not a ratio)."
    )
    lr_scheduler: Annotated[str, OneOf(SHAPES)] = Field(
        default="cosine",
        description="Course from learning_rate to min_lr after the warm-up. "
        + ". ".join(f"{name}: {shape.about}" for name, shape in SHAPES.items())
        + ".",
    )
    warmup_steps: CountOrZero = Field(default=0, description="Steps of linear rise from 0 to learning_rate.")
    decay_steps: Count | None = Field(
        default=None,
        description=f"{' or '.join(name for name, shape in SHAPES.items() if shape.holds)} only: length of the decay at"
        " the end.",
        json_schema_extra=EXTENDING,
    )
    embedding_warmup_steps: CountOrZero = Field(
        default=0,
        description="Train only input embeddings and output layer (all their rows) for so many steps, then everything:"
        " new pieces of a vocabulary settle before the rest moves. The schedule counts from step 1 all the same.",
    )
    embedding_lr_factor: Annotated[float, Field(gt=0)] = Field(
        default=1.0,
        description="Learning rate of input embeddings and output layer: the schedule's times this.",
    )
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="AdamW weight decay on matrices; norms and biases have none."
    )
    decay_embeddings: bool = Field(default=True, description="Whether embeddings and output layer are decayed as well.")
    adam_beta1: Share = Field(default=0.9, description="AdamW: decay of the first moment.")
    adam_beta2: Share = Field(
        default=0.95, description="AdamW: decay of the second moment (0.95 as large models are trained)."
    )
    adam_epsilon: Annotated[float, Field(gt=0, le=1)] = Field(default=1e-8, description="AdamW: added to the root.")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="Gradients are clipped to this global norm, once a step, over all processes."
    )
    loss_normalization: Literal["token", "conversation"] = Field(
        default="token",
        description="What the loss of a step is a mean over. token: every trained token counts the same, so that long"
        " answers count more than short ones. conversation: those of a conversation count 1 together, and so do those"
        " of a window of text beside them.",
    )
    spikes: Literal["record", "skip", "rewind", "stop"] = Field(
        default="record",
        description="What is done about a step whose loss or gradient norm stands far above those before it. record: it"
        " is logged with its samples. skip: no weight moves in it, and the run goes on. rewind: back to a checkpoint"
        " before it, and on without the samples around it, three times at most. stop: the run ends. These two take the"
        " loss alone. A step that is not finite never moves weights; under record and skip three in a row end the run.",
        json_schema_extra=EXTENDING,
    )
    spike_threshold: Annotated[float, Field(gt=0, le=1000)] = Field(
        default=6.0,
        description="How far above what the latest steps of its sources had a spike begins, in robust standard"
        " deviations of the noise of the last 128 steps.",
        json_schema_extra=EXTENDING,
    )
    rewind_before: CountOrZero = Field(
        default=100,
        description="rewind: steps before the spike whose samples are stepped over; a checkpoint from before them must"
        " have been kept.",
        json_schema_extra=EXTENDING,
    )
    rewind_after: CountOrZero = Field(
        default=100,
        description="rewind: steps after the spike whose samples are stepped over, too.",
        json_schema_extra=EXTENDING,
    )
    router_aux_loss_coef: Annotated[float, Field(ge=0)] | None = Field(
        default=None,
        description="Mixture of experts: factor of the load-balancing loss. Default: the model's configuration.",
    )
    precision: Literal["fp32-master", "bf16-stochastic", "pure-bf16", "fp32"] = Field(
        default="fp32-master",
        description="fp32-master: fp32 weights and Adam states, bf16 compute. bf16-stochastic: bf16 weights, "
        "stochastic rounding. pure-bf16: as Swallow trained; small steps are lost. fp32: all in "
        "fp32 (CPUs without bf16 instructions).",
    )
    activation_checkpointing: Literal["none", "blocks", "selective"] = Field(
        default="none",
        description="Recompute activations in the backward pass: whole blocks, or all but the expensive products.",
        json_schema_extra=FREE,
    )
    compile: bool = Field(
        default=False,
        description="torch.compile on each block: faster steps, a slower start. Off until asked for.",
        json_schema_extra=FREE,
    )
    deterministic: bool = Field(
        default=False,
        description="Deterministic kernels on CUDA, so that a resumed run is bitwise equal; slower.",
        json_schema_extra=FREE,
    )
    lora: LoraSection | None = Field(
        default=None,
        description="Freeze the base and train adapters, in fp32 beside a base in the compute format. Default: all"
        " weights are trained.",
    )
    freeze: list[FreezeRule] = Field(default=[], description="Parameters that do not move, for a time or at all.")
    save_steps: Count = Field(description="Steps between checkpoints.", json_schema_extra=FREE)
    save_total_limit: Count = Field(
        default=3,
        description="Newest checkpoints to keep (3: one may be damaged, one may be being written).",
        json_schema_extra=FREE,
    )
    keep_every: Count | None = Field(
        default=None,
        description="Also keep every checkpoint whose step is a multiple of this. Default: none.",
        json_schema_extra=FREE,
    )
    eval_steps: Count | None = Field(
        default=None,
        description="Steps between validations on held-out text, made before the first and after the last step too. "
        "Default: no validation.",
        json_schema_extra=FREE,
    )
    eval_documents: Count = Field(
        default=200,
        description="Held-out documents scored a source at each validation.",
        json_schema_extra=FREE,
    )
    evaluate: EvaluateSection | None = Field(
        default=None, description="Ask the model questions while it trains. Default: no.", json_schema_extra=FREE
    )
    logging_steps: Count = Field(default=1, description="Steps between printed lines.", json_schema_extra=FREE)
    preflight: PreflightSection = Field(default=PreflightSection(), description="Checks that run before step 1.")
    loss_chunk_tokens: Count = Field(
        default=1024,
        description="Tokens whose logits exist at one time; memory is this times the vocabulary.",
        json_schema_extra=FREE,
    )
    stop_after_steps: Count | None = Field(
        default=None,
        description="Save and end this process after that step, the schedule unchanged: to run in instalments.",
        json_schema_extra=FREE,
    )


class ParallelSection(Section):
    """How the model is laid over the processes. Changes speed and memory, not results beyond rounding."""

    shard: Literal["full", "hybrid", "none"] = Field(
        default="full",
        description="full: weights, gradients and Adam states cut over all processes. hybrid: cut within a "
        "group, copied between groups. none: a copy each.",
        json_schema_extra=FREE,
    )
    replicas: Count | None = Field(
        default=None,
        description="hybrid only: number of groups that each hold a whole copy.",
        json_schema_extra=FREE,
    )
    timeout_minutes: Annotated[float, Field(gt=0, le=1440)] = Field(
        default=30.0,
        description="How long a process waits for the others before it gives up.",
        json_schema_extra=FREE,
    )
