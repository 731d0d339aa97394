"""vLLM's connector: prompts whose beginning a Palimpsest server holds are loaded in place of being computed.

::

    vllm serve MODEL --kv-transfer-config '{
        "kv_connector": "PalimpsestConnector",
        "kv_connector_module_path": "palimpsest.integrations.vllm",
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {"target": "127.0.0.1:50051", "model": "smollm2-135m"}}'

Made for ``KVConnectorBase_V1`` as of vLLM 0.33. What is stored is lossy; what is damaged is recomputed by vLLM, and a
server that is away costs speed alone. One worker, full attention, no adapters, no images: other models are refused,
other requests left alone.
"""

import logging
import re
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch

from palimpsest.errors import FailedPrecondition, InvalidArgument, PalimpsestError, Reason, Unimplemented
from palimpsest.integrations.contexts import ContextStore, Match, ServerStore
from palimpsest.integrations.paged import PagedLayer
from palimpsest.kv import KeyValues


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
WAITING = 4
"""Contexts on their way to the store; while so many are, prompts that end are not stored."""


@dataclass(frozen=True)
class Load:
    """Tokens ``first .. last - 1`` of a request are to come from a stored context."""

    request_id: str
    match: Match
    first: int
    last: int
    blocks: tuple[int, ...]


@dataclass(frozen=True)
class Save:
    """The first tokens of a request, all computed after this step, are to be stored."""

    request_id: str
    ids: tuple[int, ...]
    blocks: tuple[int, ...]


@dataclass
class PalimpsestMetadata(_Metadata):
    """What the scheduler's side tells the worker's about one step."""

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
        self._layers: dict[str, PagedLayer] = {}
        self._order: list[str] = []
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="palimpsest-kv")
        self._loading: list[tuple[Load, Future[list[KeyValues]]]] = []
        self._saved: dict[str, list[tuple[torch.Tensor, torch.Tensor] | None]] = {}
        self._putting: set[Future[None]] = set()
        self._failed: set[int] = set()

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
        return ServerStore(Client(target, token=token), model, levels=levels)

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
        """Remember what is to be loaded, and where."""
        if _ids(request):  # the step's own record does not say which requests are private
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
        """Say that layers are waited for and copied between the pieces of a graph."""
        return True

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Take note of the paged buffers, in the order of their layers."""
        self._order = sorted(kv_caches, key=_number)
        self._layers = {
            name: PagedLayer(kv_caches[name], self._block_size, self._blocks) for name in self._order
        }

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Begin to load what the step needs; layers are written when they are waited for."""
        if not self._layers:
            self.register_kv_caches(_caches(forward_context))
        self._loading = [(load, self._threads.submit(self._fetch, load)) for load in self._meta().loads]

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Write a layer's keys and values into its blocks."""
        if layer_name not in self._layers:  # it shares another layer's cache
            return
        at = self._order.index(layer_name)
        for load, coming in self._loading:
            for kv in coming.result():
                first = max(load.first, kv.start)
                part = kv[first - kv.start : min(load.last, kv.start + kv.tokens) - kv.start]
                self._layers[layer_name].scatter(load.blocks, first, part.keys[at], part.values[at])
        if at == len(self._order) - 1:
            self._loading = []

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any
    ) -> None:
        """Copy a layer of the prompts that this step completes, before anything can overwrite it."""
        if layer_name not in self._layers:
            return
        at = self._order.index(layer_name)
        for save in self._meta().saves:
            if not self._room():
                continue
            layers = self._saved.setdefault(save.request_id, [None] * len(self._order))
            keys, values = self._layers[layer_name].gather(save.blocks, 0, len(save.ids))
            layers[at] = keys.cpu(), values.cpu()

    def wait_for_save(self) -> None:
        """Hand complete copies to the store, which takes them in its own time."""
        for save in self._meta().saves:
            layers = self._saved.pop(save.request_id, None)
            if layers is None or any(layer is None for layer in layers):
                continue
            keys, values = zip(*(layer for layer in layers if layer is not None), strict=True)
            kv = KeyValues(torch.stack(keys), torch.stack(values))
            putting = self._threads.submit(self._put, save, kv)
            self._putting.add(putting)
            putting.add_done_callback(self._putting.discard)

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """Return nothing: no request's blocks are held beyond its steps."""
        return None, None

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Return, once, the blocks whose tokens did not come; vLLM computes from the first of them on."""
        wait(coming for _, coming in self._loading)
        failed, self._failed = self._failed, set()
        return failed

    def shutdown(self) -> None:
        """Finish what is on its way to the store, then close it."""
        self._threads.shutdown(wait=True)
        self._store.close()

    def _meta(self) -> PalimpsestMetadata:
        meta = self._get_connector_metadata()
        assert isinstance(meta, PalimpsestMetadata)
        return meta

    def _room(self) -> bool:
        return len(self._putting) < WAITING

    def _fetch(self, load: Load) -> list[KeyValues]:
        """Load what fits; note the blocks of what does not come."""
        pieces: list[KeyValues] = []
        try:
            for kv in self._store.load(load.match):
                if kv.start < load.last and kv.start + kv.tokens > load.first and self._fits(kv):
                    pieces.append(kv)
        except PalimpsestError as wrong:
            logger.warning("A context did not come whole, the rest is recomputed: %s", wrong)
        except Exception:  # a cache must not end the engine
            logger.exception("A context could not be loaded; it is recomputed.")
        covered = {at for kv in pieces for at in range(kv.start, kv.start + kv.tokens)}
        self._failed |= {
            load.blocks[at // self._block_size] for at in range(load.first, load.last) if at not in covered
        }
        return pieces

    def _fits(self, kv: KeyValues) -> bool:
        layer = self._layers[self._order[0]]
        heads, key_dim, value_dim = kv.geometry.kv_heads, kv.geometry.key_dim, kv.geometry.value_dim
        return (kv.geometry.layers, heads, key_dim, value_dim) == (len(self._order), *layer.shape)

    def _put(self, save: Save, kv: KeyValues) -> None:
        try:
            self._store.put(save.ids, kv)
        except PalimpsestError as wrong:
            logger.warning("A context was not stored: %s", wrong)
        except Exception:
            logger.exception("A context could not be stored.")


def _ids(request: Any) -> list[int]:
    """Return a prompt's token ids; none if they alone do not say what its keys and values are."""
    if (
        any(getattr(request, name, None) for name in ("mm_features", "lora_request", "cache_salt"))
        or getattr(request, "prompt_embeds", None) is not None
    ):
        return []
    return list(request.prompt_token_ids or [])


def _caches(forward_context: Any) -> dict[str, torch.Tensor]:
    layers = forward_context.no_compile_layers.items()
    return {name: layer.kv_cache for name, layer in layers if getattr(layer, "kv_cache", None) is not None}


def _number(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]
