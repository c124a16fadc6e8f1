"""The model of masked words: an encoder with the head that names a word for each place, loaded and saved whole."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertsmith.encoders import Encoder
from bertsmith.errors import EncoderError
from bertsmith.quiet import quiet_transformers

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

_ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")
_TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "*.model", "special_tokens_map.json", "added_tokens.json")
_FRESH_SCALE = 0.1


@dataclass(frozen=True)
class MaskedModel:
    """An encoder with its masked-word head.

    Attributes:
        model: transformers' model for masked words, fp32.
        fresh_head: True where the encoder came without such a head, so that this one has learned nothing yet.
        kept: Weights of the encoder that this class has no place for (BERT's pooler), by the name under which
            they are saved.
        changed: Settings of the config that are put back when the model is saved.
    """

    model: PreTrainedModel
    fresh_head: bool
    kept: dict[str, torch.Tensor]
    changed: dict[str, Any]

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the head alone; the word embeddings that it shares are the encoder's."""
        own = {id(each) for each in self.model.base_model.parameters()}
        return [each for each in self.model.parameters() if id(each) not in own]


def load(encoder: Encoder) -> MaskedModel:
    """Load an encoder with its masked-word head; where it has none, with a fresh one.

    transformers makes a missing head at random without a word; here it is known. Dropout inside attention is
    switched off: it would force torch to write out every attention matrix.

    Raises:
        EncoderError: transformers has no masked-word model of this kind, or weights are missing or do not fit.
    """
    import torch
    import transformers

    folder = str(encoder.folder)
    with quiet_transformers():
        try:
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
            changed = {name: getattr(config, name) for name in _ATTENTION_DROPOUTS if hasattr(config, name)}
            for name in changed:
                setattr(config, name, 0.0)
            model, told = transformers.AutoModelForMaskedLM.from_pretrained(
                folder, config=config, dtype=torch.float32, local_files_only=True, use_safetensors=True,
                output_loading_info=True,
            )  # fmt: skip
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise EncoderError(
                f"{encoder.name}: transformers cannot load it as a model of masked words: {reason}",
                tip="Take an encoder that AutoModelForMaskedLM knows, such as minilm or bert-base-uncased.",
            ) from error
    return MaskedModel(model, _has_fresh_head(encoder, model, told), _without_place(folder, model), changed)


def prepare_fresh_head(masked: MaskedModel, counts: torch.Tensor) -> None:
    """Let a fresh head begin as a table of word frequencies.

    Its transform is the identity, its output is the word embeddings (as in BERT), small, and its bias is the
    log of each token's frequency.

    Args:
        masked: Changed in place.
        counts: How often each token occurs in the texts, `(vocabulary,)`.
    """
    import torch
    from torch import nn

    inner = {id(module) for module in masked.model.base_model.modules()}
    output = masked.model.get_output_embeddings()
    with torch.no_grad():
        for module in masked.model.modules():
            if id(module) in inner or module is output:
                continue
            if isinstance(module, nn.LayerNorm):
                module.weight.fill_(_FRESH_SCALE)
            elif isinstance(module, nn.Linear) and module.in_features == module.out_features:
                nn.init.eye_(module.weight)
        if output.bias is not None:
            output.bias.copy_(((counts + 0.5) / (counts + 0.5).sum()).log())


def masked_logits(model: PreTrainedModel, inputs: dict[str, torch.Tensor], places: torch.Tensor) -> torch.Tensor:
    """Return the logits at some places only; the head is spared the other 85 % of the tokens.

    Args:
        model: transformers' model for masked words.
        inputs: `input_ids` and `attention_mask`, `(windows, tokens)`.
        places: int64 `(masked,)`, in the flattened `input_ids`.

    Returns:
        `(masked, vocabulary)`.
    """

    def pick(module: Any, given: Any, output: Any) -> Any:
        hidden = output.last_hidden_state
        output["last_hidden_state"] = hidden.reshape(-1, hidden.shape[-1])[places][None]
        return output

    hook = model.base_model.register_forward_hook(pick)
    try:
        logits: torch.Tensor = model(**inputs, return_dict=True).logits[0]
    finally:
        hook.remove()
    return logits


def save(masked: MaskedModel, encoder: Encoder, folder: Path) -> None:
    """Write a standard model folder: the tokenizer as it was, and the weights that the class has no place for."""
    model = masked.model
    for name, value in masked.changed.items():
        setattr(model.config, name, value)
    weights = {**model.state_dict(), **masked.kept}
    with quiet_transformers():
        model.save_pretrained(folder, state_dict=weights)
    if not (encoder.folder / "tokenizer.json").is_file():
        encoder.transformers_tokenizer().save_pretrained(folder)
        return
    for pattern in _TOKENIZER_FILES:
        for file in encoder.folder.glob(pattern):
            shutil.copyfile(file, folder / file.name)


def _has_fresh_head(encoder: Encoder, model: PreTrainedModel, told: dict[str, Any]) -> bool:
    """Say whether the head is new.

    Raises:
        EncoderError: Weights of the encoder itself are missing.
    """
    inner = f"{model.base_model_prefix}."
    missing = sorted(name for name in told["missing_keys"] if name.startswith(inner))
    if missing:
        raise EncoderError(
            f"{encoder.name}: {len(missing)} weights of the encoder are missing, such as {missing[0]}.",
            tip="Copy or fetch the encoder again.",
        )
    return bool(told["missing_keys"])


def _without_place(folder: str, model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Find weights that the plain encoder has and the model of masked words has not."""
    import torch
    import transformers

    with quiet_transformers():
        plain, told = transformers.AutoModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    taken = set(model.base_model.state_dict()) | set(told["missing_keys"])
    return {
        f"{model.base_model_prefix}.{name}": value.clone()
        for name, value in plain.state_dict().items()
        if name not in taken
    }


__all__ = ["MaskedModel", "load", "masked_logits", "prepare_fresh_head", "save"]
