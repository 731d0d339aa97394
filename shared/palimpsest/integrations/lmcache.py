"""LMCache's serialisation plug-in: chunks of its cache, coded, checked and bound to their keys, a fraction of the size.

::

    from palimpsest.integrations import lmcache
    lmcache.register()

and then, for any storage adapter, ``"serde": {"type": "palimpsest", "level": "balanced", "profile": "/path"}``.

Made for the interfaces of LMCache 0.5 (``lmcache.v1.distributed.serde``); callers that know no keys are served too.
LMCache does not pass the position at which a chunk begins. Un-rotating keys from a wrong position and rotating them
back is exact, and the generic codec takes as few bytes from any position. With a profile the position is estimated from
the keys; a chunk that would still be coded badly is left to the generic codec.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason, ResourceExhausted
from palimpsest.integrations.coding import Coding, most_bytes
from palimpsest.kv import Identity, decode, read_header
from palimpsest.kv.header import damaged

NAME = "palimpsest"


class PalimpsestSerializer:
    """Code what LMCache stores (its ``Serializer``)."""

    def __init__(self, coding: Coding) -> None:
        self._coding = coding

    def serialize(self, src: Any, dst: Any, key: Any = None) -> int:
        """Code every group of ``src`` into ``dst``, one after another; return the bytes written.

        Raises
        ------
        ResourceExhausted
            ``dst`` has less room than ``estimate_serialized_size`` asked for.
        """
        data = b"".join(self._coding.encode(group, identity_of(key)) for group in groups_of(src))
        room = _whole(dst).flatten().view(torch.uint8)
        if len(data) > room.numel():
            raise ResourceExhausted(
                Reason.KV_TOO_LARGE,
                f"The coded chunk takes {len(data)} bytes, the buffer has {room.numel()}.",
                metadata={"needed": len(data), "room": room.numel()},
            )
        room[: len(data)].copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        return len(data)

    def estimate_serialized_size(self, layout_desc: Any) -> int:
        """Return the most bytes that objects of this layout can take."""
        pairs = zip(layout_desc.shapes, layout_desc.dtypes, strict=True)
        return sum(most_bytes(shape, dtype) for shape, dtype in pairs)


class PalimpsestDeserializer:
    """Decode what LMCache loads (its ``Deserializer``)."""

    def __init__(self, coding: Coding) -> None:
        self._coding = coding

    def deserialize(self, src: Any, dst: Any, key: Any = None) -> None:
        """Decode ``src``, which may be longer than what was written, into ``dst``; all of it or nothing.

        Raises
        ------
        DataLoss
            The bytes are not those that were written.
        FailedPrecondition
            They were written under another key or with another profile.
        InvalidArgument
            They hold another shape than ``dst``.
        """
        view, at, decoded = _bytes(src), 0, []
        targets = groups_of(dst)
        for group in targets:
            header = read_header(view[at:])
            if at + header.total > len(view):
                raise damaged("The chunk is cut short; fetch it again.", len(view) - at)
            kv = decode(
                view[at : at + header.total],
                profile=self._coding.profile,
                identity=identity_of(key) if key is not None else None,
                threads=self._coding.threads,
            )
            wanted = self._coding.split(group)
            if wanted.keys.shape != kv.keys.shape:
                raise InvalidArgument(
                    Reason.KV_SHAPE,
                    f"The chunk is {list(kv.keys.shape)}, the buffer for it {list(wanted.keys.shape)}.",
                )
            decoded.append(kv)
            at += header.total
        for group, kv in zip(targets, decoded, strict=True):
            self._coding.fill(group, kv)


def register(name: str = NAME) -> None:
    """Make the plug-in known to LMCache under a name.

    Raises
    ------
    FailedPrecondition
        LMCache is not installed.
    """
    serde = _serde()
    serde.Serializer.register(PalimpsestSerializer)
    serde.Deserializer.register(PalimpsestDeserializer)
    serde.register_serde_factory(name, create)


def create(config: Mapping[str, Any]) -> Any:
    """Build LMCache's asynchronous processor from a ``"serde"`` configuration: ``Coding``'s, and ``max_workers``.

    Raises
    ------
    FailedPrecondition
        LMCache is not installed.
    InvalidArgument
        A setting that there is not.
    """
    settings = {key: value for key, value in config.items() if key not in ("type", "max_workers")}
    unknown = settings.keys() - {"profile", "level", "kv_heads", "rope_theta", "threads"}
    if unknown:
        raise InvalidArgument(
            Reason.INVALID_REQUEST, f"The serde has no setting {', '.join(sorted(unknown))}."
        )
    coding = Coding(**settings)
    return _serde().AsyncSerdeProcessor(
        PalimpsestSerializer(coding),
        PalimpsestDeserializer(coding),
        max_workers=int(config.get("max_workers", 1)),
    )


def identity_of(key: Any) -> Identity:
    """Return what a chunk stored under a key belongs to; none for callers without keys."""
    if key is None:
        return Identity()
    names = (
        "chunk_hash",
        "model_name",
        "kv_rank",
        "worker_id",
        "world_size",
        "object_group_id",
        "cache_salt",
    )
    facts = [_plain(getattr(key, name, None)) for name in names]
    return Identity(prefix="sha256:" + hashlib.sha256(json.dumps(facts).encode()).hexdigest())


def groups_of(obj: Any) -> list[torch.Tensor]:
    """Return the tensors of a memory object: one, or one for each group of layers."""
    shapes = obj.get_shapes() if hasattr(obj, "get_shapes") else ()
    if len(shapes) <= 1:
        return [_whole(obj)]
    groups = [obj.get_tensor(index) for index in range(len(shapes))]
    if any(group is None for group in groups):
        raise InvalidArgument(Reason.KV_SHAPE, "The memory object has been invalidated.")
    return groups


def _whole(obj: Any) -> torch.Tensor:
    if obj.tensor is None:
        raise InvalidArgument(Reason.KV_SHAPE, "The memory object holds no tensor, or has been invalidated.")
    return obj.tensor


def _bytes(obj: Any) -> memoryview:
    # Not .tensor: a buffer narrowed to what was written no longer has its shape.
    if hasattr(obj, "byte_array"):
        return memoryview(obj.byte_array).cast("B")
    return _whole(obj).flatten().view(torch.uint8).cpu().numpy().data


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else None if value is None else str(value)


def _serde() -> Any:
    try:
        from lmcache.v1.distributed import serde  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as missing:
        if missing.name is None or not missing.name.startswith("lmcache"):
            raise
        raise FailedPrecondition(
            Reason.SERVICES_MISSING, "LMCache is not installed here: pip install 'palimpsest-lm[lmcache]'."
        ) from None
    return serde
