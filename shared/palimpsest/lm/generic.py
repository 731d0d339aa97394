"""The forward pass of any causal LM: transformers' own, one sequence at a time."""

import copy
import inspect
from collections.abc import Sequence

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.lm.anatomy import last_mlp
from palimpsest.lm.forward import Output, SequenceInput


class ModuleCache:
    """The past of one sequence in transformers' own cache, or as tokens to run again where that does not work."""

    def __init__(self, module: PreTrainedModel, recompute: bool, kv_shape: tuple[int, int, int]) -> None:
        self._module = module
        self._kv_shape = kv_shape  # layers, kv_heads, head_dim
        self._state = None if recompute else DynamicCache(config=module.config)
        self._inputs: list[torch.Tensor] = []
        self.length = 0

    @property
    def state(self) -> DynamicCache | None:
        """Transformers' cache; None where every step runs the whole sequence."""
        return self._state

    @property
    def can_crop(self) -> bool:
        """Whether tokens can be taken out: where every layer holds all positions, or every step runs all tokens."""
        return self._state is None or self._holds_all

    @property
    def _holds_all(self) -> bool:
        return self._state is not None and all(type(layer) is DynamicLayer for layer in self._state.layers)

    def accepts(self, keys: torch.Tensor, values: torch.Tensor) -> bool:
        """Whether keys and values can be appended: where the module's cache works, holds all positions, and fits."""
        layers, heads, dim = self._kv_shape
        shape = (layers, heads, keys.shape[2], dim)
        return self._holds_all and tuple(keys.shape) == shape and tuple(values.shape) == shape

    def append(self, inputs: torch.Tensor) -> torch.Tensor:
        """Count new input embeddings [tokens, hidden]; returns what the module has to be given."""
        self.length += inputs.shape[0]
        if self._state is not None:
            return inputs
        self._inputs.append(inputs)
        return torch.cat(self._inputs)

    def branch(self) -> "ModuleCache":
        """A sequence with the same past: a full copy."""
        twin = copy.copy(self)
        twin._state = copy.deepcopy(self._state)
        twin._inputs = list(self._inputs)
        return twin

    def crop(self, length: int) -> None:
        """Forget the tokens from position ``length`` on.

        Raises
        ------
        FailedPrecondition
            The model's state cannot be taken back (a recurrent or sliding-window layer).
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot crop a cache of {self.length} tokens to {length}")
        if self._state is None:
            self._inputs = [torch.cat(self._inputs)[:length]] if length else []
        elif length < self.length:
            try:
                self._state.crop(length - self.length)
            except (NotImplementedError, ValueError, RuntimeError) as error:
                raise _not_possible("taken back") from error
        self.length = length

    def export(self, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Copy keys and values out, each [layers, kv_heads, tokens, head_dim].

        Raises
        ------
        FailedPrecondition
            The model's layers do not all keep keys and values of one shape.
        """
        layers = [] if self._state is None else self._state.layers
        pairs = [(getattr(layer, "keys", None), getattr(layer, "values", None)) for layer in layers]
        keys = [k for k, _ in pairs if isinstance(k, torch.Tensor) and k.shape[2] == self.length]
        values = [v for _, v in pairs if isinstance(v, torch.Tensor) and v.shape[2] == self.length]
        shapes = {t.shape for t in (*keys, *values)}
        if not pairs or len(keys) != len(pairs) or len(values) != len(pairs) or len(shapes) != 1:
            raise _not_possible("exported")
        window = slice(start, self.length if stop is None else stop)
        return torch.cat(keys)[:, :, window].clone(), torch.cat(values)[:, :, window].clone()

    def load(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Append keys and values in the form :meth:`export` gives."""
        if self._state is None:
            raise _not_possible("loaded")
        to = {"device": self._module.device, "dtype": self._module.dtype}
        for layer, (k, v) in enumerate(zip(keys, values, strict=True)):
            self._state.update(k[None].to(**to), v[None].to(**to), layer)
        self.length += keys.shape[2]

    def release(self) -> None:
        """Give the memory back."""
        self._state, self._inputs, self.length = None, [], 0


def _not_possible(what: str) -> FailedPrecondition:
    return FailedPrecondition(
        Reason.MODEL_INVALID, f"This model's cache cannot be {what}; use a model with plain full attention."
    )


class ModuleForward:
    """transformers' forward, with a cache if incremental and whole passes agree (``recompute`` if not)."""

    def __init__(
        self, module: PreTrainedModel, kv_shape: tuple[int, int, int], recompute: bool = False
    ) -> None:
        self.module, self.kv_shape, self.recompute = module, kv_shape, recompute
        self._can_skip_logits = "logits_to_keep" in inspect.signature(module.forward).parameters
        self._listening = False
        self._read: torch.Tensor | None = None

    def new_cache(self) -> ModuleCache:
        """An empty sequence."""
        return ModuleCache(self.module, self.recompute, self.kv_shape)

    @torch.inference_mode()
    def run(
        self, rows: Sequence[SequenceInput], embedded: Sequence[torch.Tensor], hidden: Sequence[int]
    ) -> list[Output]:
        """Run sequences one after another; ``embedded`` holds each one's input embeddings."""
        outputs = []
        if not self._listening and any(row.query_outputs for row in rows):
            self._listen()
        for row, inputs in zip(rows, embedded, strict=True):
            cache = row.cache
            assert isinstance(cache, ModuleCache)
            whole = cache.append(inputs.to(self.module.dtype))
            result = self.module(
                inputs_embeds=whole[None],
                past_key_values=cache.state,
                use_cache=cache.state is not None,
                output_hidden_states=bool(hidden),
                **({"logits_to_keep": max(1, row.outputs)} if self._can_skip_logits else {}),
            )
            logits = result.logits[0, -row.outputs :] if row.outputs else result.logits[0, :0]
            states = {n: result.hidden_states[n][0, -row.count :].float() for n in hidden}
            outputs.append(Output(logits.float(), states, self._keys(row)))
            self._read = None
        return outputs

    def _listen(self) -> None:
        """Keep what the last MLP reads, from now on."""

        def keep(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            self._read = inputs[0]

        last_mlp(self.module).register_forward_pre_hook(keep)
        self._listening = True

    def _keys(self, row: SequenceInput) -> torch.Tensor | None:
        if not row.query_outputs:
            return None
        assert self._read is not None
        # Some flatten the batch away.
        return self._read.flatten(0, -2)[-row.query_outputs :].float().clone()


def whole_inputs(rows: Sequence[SequenceInput], embedded: list[torch.Tensor]) -> list[torch.Tensor]:
    """Join the embeddings that each cache grows by, shared ones included: [tokens, hidden] each."""
    paths: dict[int, torch.Tensor] = {}
    for row, own in zip(rows, embedded, strict=True):
        paths[id(row)] = own if row.after is None else torch.cat([paths[id(row.after)][: row.shared], own])
    return [paths[id(row)] for row in rows]
