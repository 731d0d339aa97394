"""vLLM's connector: prefixes of prompts that a Palimpsest server stores are loaded instead of computed.

::

    vllm serve MODEL --kv-transfer-config '{
        "kv_connector": "PalimpsestConnector",
        "kv_connector_module_path": "palimpsest.integrations.vllm",
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {"target": "127.0.0.1:7600", "model": "smollm2-135m"}}'

Made for ``KVConnectorBase_V1`` as of vLLM 0.33. Stored contexts are lossy. vLLM recomputes what is damaged or
missing, so a server that is down costs speed and nothing else. Give the engine's ``prefill_tokens_per_second`` as well:
a load over a link that is slower than the engine is then given up. One worker and full attention: other models are
refused. Requests with adapters or images are left alone.
"""

import logging
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch

from palimpsest.errors import FailedPrecondition, InvalidArgument, PalimpsestError, Reason, Unimplemented
from palimpsest.integrations.contexts import ContextStore, Match, ServerStore
from palimpsest.integrations.layer_transfer import LayerTransfer, Load, Save


class _Missing:
    """Stands in for vLLM's base class, so that this module can be imported and read without it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise FailedPrecondition(
            Reason.SERVICES_MISSING, "vLLM is not installed here: pip install 'palimpsest-lm[vllm]'."
        )


_Base: Any = _Missing
_Metadata: Any = object
try:
    _published: Any = import_module("vllm.distributed.kv_transfer.kv_connector.v1.base")
    _Base, _Metadata = _published.KVConnectorBase_V1, _published.KVConnectorMetadata
except ModuleNotFoundError as missing:
    if missing.name is None or missing.name.partition(".")[0] != "vllm":
        raise

logger = logging.getLogger(__name__)


@dataclass
class PalimpsestMetadata(_Metadata):
    """What the worker has to do in one step."""

    loads: list[Load] = field(default_factory=list)
    saves: list[Save] = field(default_factory=list)


@dataclass
class _Prompt:
    """A prompt that is stored when it is computed."""

    ids: list[int]
    blocks: list[int]


class PalimpsestConnector(_Base):
    """Both sides of the connector; vLLM makes one in the scheduler and one in the worker."""

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any = None) -> None:
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        parallel = vllm_config.parallel_config
        if parallel.tensor_parallel_size * parallel.pipeline_parallel_size > 1:
            raise Unimplemented(
                Reason.KV_LAYER_UNSUPPORTED, "Contexts are stored whole: run the model on one worker."
            )
        if getattr(vllm_config.model_config, "use_mla", False):
            raise Unimplemented(
                Reason.KV_LAYER_UNSUPPORTED, "Latent attention keeps no keys and values to store."
            )
        transfer = vllm_config.kv_transfer_config
        if getattr(transfer, "kv_load_failure_policy", "recompute") != "recompute":
            logger.warning(
                "Requests fail where stored bytes are damaged; set kv_load_failure_policy to recompute."
            )
        self._reads, self._writes = transfer.is_kv_consumer, transfer.is_kv_producer
        self._block_size: int = vllm_config.cache_config.block_size
        self._blocks: int | None = getattr(kv_cache_config, "num_blocks", None)
        self._store = self.open_store(transfer)
        # the scheduler's side
        self._matches: dict[str, Match] = {}
        self._loads: dict[str, Load] = {}
        self._prompts: dict[str, _Prompt] = {}
        self._storable: set[str] = set()
        # the worker's side
        self._transfer = LayerTransfer(self._store, self._block_size, self._blocks)

    def open_store(self, transfer: Any) -> ContextStore:
        """Connect to the server that the configuration names; override to keep contexts elsewhere.

        Raises
        ------
        InvalidArgument
            The configuration names none, or no model.
        """
        from palimpsest.client import Client

        target, model = (transfer.get_from_extra_config(name, "") for name in ("target", "model"))
        if not target or not model:
            raise InvalidArgument(
                Reason.INVALID_REQUEST, "Give target and model in kv_connector_extra_config."
            )
        token = transfer.get_from_extra_config("token", None)
        levels = transfer.get_from_extra_config("levels", [])
        speed = float(transfer.get_from_extra_config("prefill_tokens_per_second", 0.0))
        return ServerStore(Client(target, token=token), model, levels=levels, prefill_tokens_per_second=speed)

    @property
    def requires_kv_delivery(self) -> bool:
        """Whether what is saved has to arrive: no, a context that was not stored is computed the next time."""
        return False

    # The scheduler's side

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int | None, bool]:
        """Return how many tokens beyond those computed can be loaded, in whole blocks; the last is always computed."""
        ids = _ids(request)
        self._matches.pop(request.request_id, None)
        if not self._reads or len(ids) <= self._block_size:
            return 0, False
        try:
            match = self._store.look_up(ids)
        except PalimpsestError as wrong:
            logger.warning("No context was looked up: %s", wrong)
            return 0, False
        if match is None:
            return 0, False
        self._matches[request.request_id] = match
        return max(0, self._usable(match, len(ids)) - num_computed_tokens), False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """Note what is to be loaded, and into which blocks."""
        if _ids(request):  # the step's own record does not mark private requests
            self._storable.add(request.request_id)
        match = self._matches.pop(request.request_id, None)
        if num_external_tokens <= 0 or match is None:
            return
        last = self._usable(match, len(_ids(request)))
        table = tuple(blocks.get_block_ids()[0])
        self._loads[request.request_id] = Load(
            request.request_id, match, last - num_external_tokens, last, table
        )

    def build_connector_meta(self, scheduler_output: Any) -> PalimpsestMetadata:
        """Return the step's loads, and the saves of prompts that it completes."""
        meta = PalimpsestMetadata(loads=list(self._loads.values()))
        held = {load.request_id: load.last for load in meta.loads}
        self._loads.clear()
        if not self._writes:
            return meta
        scheduled = scheduler_output.num_scheduled_tokens
        for new in scheduler_output.scheduled_new_reqs:
            ids = _ids(new)
            whole = len(ids) - len(ids) % self._block_size
            # What was loaded was stored; a prompt that goes on for less than a block adds nothing.
            if new.req_id not in self._storable or whole <= held.get(new.req_id, 0):
                continue
            self._prompts[new.req_id] = _Prompt(ids[:whole], list(new.block_ids[0]))
            self._complete(meta, new.req_id, new.num_computed_tokens + scheduled[new.req_id])
        cached = scheduler_output.scheduled_cached_reqs
        for at, request_id in enumerate(cached.req_ids):
            prompt = self._prompts.get(request_id)
            if prompt is None:
                continue
            added = cached.new_block_ids[at]
            if request_id in cached.resumed_req_ids:
                prompt.blocks = []
            prompt.blocks += added[0] if added is not None else []
            self._complete(meta, request_id, cached.num_computed_tokens[at] + scheduled[request_id])
        return meta

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        """Forget the request; its blocks have been copied and may go at once."""
        for kept in (self._matches, self._loads, self._prompts):
            kept.pop(request.request_id, None)
        self._storable.discard(request.request_id)
        return False, None

    def _usable(self, match: Match, tokens: int) -> int:
        return min(match.tokens, tokens - 1) // self._block_size * self._block_size

    def _complete(self, meta: PalimpsestMetadata, request_id: str, computed: int) -> None:
        prompt = self._prompts[request_id]
        if computed >= len(prompt.ids):
            del self._prompts[request_id]
            meta.saves.append(Save(request_id, tuple(prompt.ids), tuple(prompt.blocks)))

    # The worker's side

    @classmethod
    def requires_piecewise_for_cudagraph(cls, extra_config: dict[str, Any]) -> bool:
        """Return True: layers are waited for and copied between the parts of a graph."""
        return True

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Take note of the paged buffers, in the order of their layers."""
        self._transfer.register(kv_caches)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Begin to load what the step needs; layers are written when they are waited for."""
        if not self._transfer.registered:
            self._transfer.register(_caches(forward_context))
        self._transfer.start(self._meta().loads)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Write a layer's keys and values into its blocks."""
        self._transfer.write(layer_name)

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any
    ) -> None:
        """Copy a layer of the prompts that this step completes, before anything can overwrite it."""
        self._transfer.copy(layer_name, self._meta().saves)

    def wait_for_save(self) -> None:
        """Hand complete copies to the store, which stores them in the background."""
        self._transfer.put(self._meta().saves)

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """Return nothing: no request's blocks are held beyond its steps."""
        return None, None

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Return, once, the blocks whose tokens did not come; vLLM computes from the first of them on."""
        return self._transfer.failed_blocks()

    def shutdown(self) -> None:
        """Finish what is on its way to the store, then close it."""
        self._transfer.close()
        self._store.close()

    def _meta(self) -> PalimpsestMetadata:
        meta = self._get_connector_metadata()
        assert isinstance(meta, PalimpsestMetadata)
        return meta


def _ids(request: Any) -> list[int]:
    """Return a prompt's token ids; none if they alone do not determine its keys and values."""
    if (
        any(getattr(request, name, None) for name in ("mm_features", "lora_request", "cache_salt"))
        or getattr(request, "prompt_embeds", None) is not None
    ):
        return []
    return list(request.prompt_token_ids or [])


def _caches(forward_context: Any) -> dict[str, torch.Tensor]:
    layers = forward_context.no_compile_layers.items()
    return {name: layer.kv_cache for name, layer in layers if getattr(layer, "kv_cache", None) is not None}
