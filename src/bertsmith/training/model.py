"""The model to train: an encoder with the head that the task needs, in fp32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bertsmith.encoders import Encoder
from bertsmith.errors import EncoderError
from bertsmith.examples import LabelSet
from bertsmith.inference.head import head_layer
from bertsmith.quiet import quiet_transformers
from bertsmith.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_DROPOUTS = (
    # One name per family and place; a config has some of them.
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",  # BERT, RoBERTa, ELECTRA
    "dropout",
    "attention_dropout",
    "seq_classif_dropout",  # DistilBERT
    "embedding_dropout",
    "mlp_dropout",  # ModernBERT
    "pooler_dropout",
    "cls_dropout",  # DeBERTa
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",  # GPT-2
)
_ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")
LONG = 128
"""Tokens from which dropout inside attention costs too much: it forces torch to write out every attention
matrix, which makes a step 1.2 times as slow at 128 tokens, 2.4 times at 256 and 4.6 times at 512."""


@dataclass(frozen=True)
class Parameters:
    """How many parameters a model has, and what its head looks like."""

    total: int
    trainable: int
    head: str


def build(
    task: Task, encoder: Encoder, labels: LabelSet, *, dropout: float | None, max_length: int = 0
) -> PreTrainedModel:
    """Load an encoder and put a fresh head for these labels on it.

    Weights are fp32 whatever the checkpoint holds: fp16 masters would train badly and say nothing.

    Args:
        task: Says which head and which loss.
        encoder: Where the weights lie.
        labels: Their number, names and order become the head's.
        dropout: Dropout everywhere in encoder and head; None keeps the encoder's own, but for the dropout inside
            attention where texts may be long.
        max_length: Tokens that a text may have.

    Raises:
        EncoderError: transformers cannot make a classifier of it.
    """
    import torch
    import transformers

    with quiet_transformers():
        try:
            config = transformers.AutoConfig.from_pretrained(
                str(encoder.folder),
                id2label=labels.id2label(),
                label2id={name: place for place, name in labels.id2label().items()},
                problem_type=task.problem_type,
                local_files_only=True,
            )
            for name in _DROPOUTS:
                if hasattr(config, name) and dropout is not None:
                    setattr(config, name, dropout)
                elif hasattr(config, name) and name in _ATTENTION_DROPOUTS and max_length >= LONG:
                    setattr(config, name, 0.0)
            # Decoders have no padding of their own; their head looks for the last token that is none.
            config.pad_token_id = encoder.pad_id
            model: PreTrainedModel = getattr(transformers, task.model_class).from_pretrained(
                str(encoder.folder), config=config, dtype=torch.float32, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise EncoderError(
                f"{encoder.folder}: transformers cannot load it as a {task.name} model: {reason}",
                tip=f"Any encoder that transformers' {task.model_class} knows can be used.",
            ) from error
    model.config.architectures = [type(model).__name__]
    return model


def count_parameters(model: PreTrainedModel, outputs: int) -> Parameters:
    """Count parameters and describe the head, for people."""
    head = head_layer(model, outputs)
    bias = "" if head.bias is not None else " without bias"
    pooled = _pooled(model)
    return Parameters(
        total=sum(each.numel() for each in model.parameters()),
        trainable=sum(each.numel() for each in model.parameters() if each.requires_grad),
        head=f"{pooled} → dropout → linear {head.in_features} to {head.out_features}{bias}",
    )


def _pooled(model: PreTrainedModel) -> str:
    """Say what goes into the head."""
    name = type(model).__name__
    if not name.endswith("ForSequenceClassification"):
        return "every token"
    if getattr(model.base_model, "pooler", None) is not None:
        return "pooled [CLS]"
    return "last token" if hasattr(model, "score") else "first token"
