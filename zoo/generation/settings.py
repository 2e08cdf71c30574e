"""How a model writes: what `generate` is told and, where it is not, what generation_config.json says."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from zoo.errors import GenerationError
from zoo.generation import processors
from zoo.generation.beams import Beams
from zoo.generation.decoding import Processor
from zoo.generation.samplers import Sampler

FILE = "generation_config.json"

_DRAWING = ("temperature", "top_k", "top_p", "min_p")
"""What counts only where the file says `do_sample`."""

_DRAWING_ONLY: dict[str, tuple[Any, ...]] = {
    "epsilon_cutoff": (0, 1),
    "eta_cutoff": (0, 1),
    "top_h": (),
    "typical_p": (1,),
}
_UNKNOWN: dict[str, tuple[Any, ...]] = {
    "constraints": (),
    "diversity_penalty": (0,),
    "dola_layers": (),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "exponential_decay_length_penalty": (),
    "force_words_ids": (),
    "forced_decoder_ids": (),
    "guidance_scale": (1,),
    "max_time": (),
    "num_beam_groups": (1,),
    "penalty_alpha": (0,),
    "remove_invalid_values": (False,),
    "sequence_bias": (),
    "token_healing": (False,),
    "watermarking_config": (),
}
"""What would change texts and is not followed, with the values besides null at which it does nothing."""

_KINDS: dict[Any, str] = {
    int: "whole number",
    int | None: "whole number",
    float: "number",
    float | None: "number",
}
_DEFAULT_NEW_TOKENS = 64


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The fields of generation_config.json that are followed; what neither it nor a call says is as here."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words_ids: Sequence[Sequence[int]] = ()
    min_length: int = 0
    min_new_tokens: int = 0
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | Sequence[int] | None = None
    suppress_tokens: Sequence[int] = ()
    begin_suppress_tokens: Sequence[int] = ()
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    num_return_sequences: int = 1
    renormalize_logits: bool = False
    max_new_tokens: int | None = None
    """How many at most, where a call does not say."""
    max_length: int | None = None
    """The same, what the decoder starts from counted."""
    stop_strings: str | Sequence[str] = ()

    @classmethod
    def of(cls, saved: Mapping[str, Any], **given: Any) -> Self:
        """What a call is given, None for nothing, laid over what the file says.

        Raises:
            GenerationError: The file asks for what is not followed, or two things do not go together.
        """
        given = {name: value for name, value in given.items() if value is not None}
        known = {field.name for field in fields(cls)} & saved.keys()
        found = {name: saved[name] for name in known if saved[name] is not None}
        draws = bool(given["temperature"] if "temperature" in given else saved.get("do_sample"))
        if not saved.get("do_sample"):
            found = {name: value for name, value in found.items() if name not in _DRAWING}
        elif "temperature" not in given:
            found.setdefault("temperature", 1.0)
        # A call says draws or beams: what the file says of the other is no contradiction.
        if "num_beams" not in given and given.get("temperature"):
            found.pop("num_beams", None)
        if "temperature" not in given and given.get("num_beams", 1) != 1:
            found.pop("temperature", None)
            draws = False
        _require_followed(saved, draws)
        return cls(**{**found, **given})

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), _KINDS.get(field.type)
            fits = isinstance(value, int if kind == "whole number" else int | float)
            if kind is not None and value is not None and (not fits or isinstance(value, bool)):
                raise GenerationError(f"`{field.name}` must be a {kind}, got `{value}`")
        for name, least in (("num_beams", 1), ("num_return_sequences", 1), ("no_repeat_ngram_size", 0)):
            if getattr(self, name) < least:
                raise GenerationError(f"`{name}` must be at least {least}, got {getattr(self, name)}")
        if self.early_stopping not in (True, False, "never"):
            raise GenerationError(
                f"`early_stopping` must be true, false or `never`, got `{self.early_stopping}`"
            )
        if self.num_beams > 1 and self.temperature:
            raise GenerationError(
                f"beam search draws nothing, got {self.num_beams} beams and "
                f"a `temperature` of {self.temperature}",
                hint="set `temperature` to 0, or `num_beams` to 1",
            )
        most = None if self.temperature else self.num_beams
        if most is not None and self.num_return_sequences > most:
            raise GenerationError(
                f"`num_return_sequences` must be at most `num_beams`, {most}, where nothing is drawn, "
                f"got {self.num_return_sequences}",
                hint="give more beams, or a temperature",
            )

    @property
    def sampler(self) -> Sampler:
        """What chooses a token."""
        # On the Hub, a top_k of 0 is none.
        return Sampler(
            temperature=self.temperature, top_k=self.top_k or None, top_p=self.top_p, min_p=self.min_p
        )

    @property
    def beams(self) -> Beams | None:
        """How to search for the likeliest text; None: token by token."""
        if self.num_beams == 1:
            return None
        return Beams(
            num_beams=self.num_beams,
            length_penalty=self.length_penalty,
            early_stopping=self.early_stopping,
            num_return_sequences=self.num_return_sequences,
        )

    @property
    def stop(self) -> list[str]:
        """Texts that end a row."""
        return [self.stop_strings] if isinstance(self.stop_strings, str) else list(self.stop_strings)

    def default_new_tokens(self, num_given: int) -> int:
        """How many tokens may be written after so many, where a call does not say."""
        left = (self.max_length or 0) - num_given
        return self.max_new_tokens or (left if left > 0 else _DEFAULT_NEW_TOKENS)

    def processors(
        self, eos_token_ids: Collection[int], max_new_tokens: int, own: Sequence[Processor] = ()
    ) -> list[Processor]:
        """What changes logits, in the order of transformers.

        Args:
            eos_token_ids: What ends a row.
            max_new_tokens: How many may be written.
            own: A call's own, which come after the file's.
        """
        found: list[Processor] = []
        if self.repetition_penalty != 1:
            found.append(processors.RepetitionPenalty(self.repetition_penalty))
        if self.no_repeat_ngram_size:
            found.append(processors.NoRepeatNGram(self.no_repeat_ngram_size))
        if self.bad_words_ids:
            kept = [word for word in self.bad_words_ids if word not in [[token] for token in eos_token_ids]]
            found.append(processors.NoBadWords(kept))
        if self.min_length:
            found.append(processors.MinLength(self.min_length, eos_token_ids, counts_given=True))
        if self.min_new_tokens:
            found.append(processors.MinLength(self.min_new_tokens, eos_token_ids))
        if self.forced_bos_token_id is not None:
            found.append(processors.ForcedStart(self.forced_bos_token_id))
        if self.forced_eos_token_id is not None:
            ends = self.forced_eos_token_id
            found.append(processors.ForcedEnd([ends] if isinstance(ends, int) else ends, max_new_tokens))
        if self.suppress_tokens:
            found.append(processors.Suppress(self.suppress_tokens))
        if self.begin_suppress_tokens:
            first = 0 if self.forced_bos_token_id is None else 1
            found.append(processors.Suppress(self.begin_suppress_tokens, at=first))
        found += own
        if self.renormalize_logits and self.num_beams > 1:
            found.append(processors.renormalize)
        return found


def _require_followed(saved: Mapping[str, Any], draws: bool) -> None:
    """Refuses what a file asks for and would not get."""
    for name, idle in (_UNKNOWN | _DRAWING_ONLY if draws else _UNKNOWN).items():
        value = saved.get(name)
        if value is not None and value not in idle:
            raise GenerationError(
                f"{FILE} asks for `{name}` {value}, which the zoo does not follow",
                hint=f'leave it out: model.generation_config.pop("{name}"), or delete it in the file',
            )
