"""What LMCache 0.5.6 publishes of ``lmcache.v1.distributed``, written down: the least that a plug-in meets.

Signatures only, from ``serde/base.py``, ``serde/factory.py``, ``serde/async_processor.py``, ``api.py`` and
``memory_management.py``; the bodies here are ours. The tests run against the package itself where it is installed.
"""

import abc
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate

import torch


@dataclass(frozen=True)
class ObjectKey:
    chunk_hash: bytes
    model_name: str
    kv_rank: int
    object_group_id: int = 0
    cache_salt: str = ""


@dataclass
class MemoryLayoutDesc:
    shapes: list[torch.Size]
    dtypes: list[torch.dtype]


class TensorMemoryObj:
    """A flat buffer and what lies in it; may be physically longer than what it logically holds."""

    def __init__(self, shapes: list[torch.Size], dtypes: list[torch.dtype], padding: int = 0) -> None:
        self.shapes, self.dtypes = shapes, dtypes
        sizes = (shape.numel() * dtype.itemsize for shape, dtype in zip(shapes, dtypes, strict=True))
        self.ends = list(accumulate(sizes, initial=0))
        self.raw_data = torch.zeros(self.ends[-1] + padding, dtype=torch.uint8)
        self.used: int | None = None

    def get_size(self) -> int:
        return self.ends[-1] if self.used is None else self.used

    def set_used_size(self, n: int) -> None:
        self.used = n

    def get_shapes(self) -> list[torch.Size]:
        return self.shapes

    def get_dtypes(self) -> list[torch.dtype]:
        return self.dtypes

    @property
    def tensor(self) -> torch.Tensor | None:
        if self.used is not None:
            return self.raw_data[: self.used]
        return self.raw_data[: self.ends[1]].view(self.dtypes[0]).view(self.shapes[0])

    @property
    def byte_array(self) -> memoryview:
        return memoryview(self.raw_data[: self.get_size()].numpy())

    def get_tensor(self, index: int) -> torch.Tensor | None:
        part = self.raw_data[self.ends[index] : self.ends[index + 1]]
        return part.view(self.dtypes[index]).view(self.shapes[index])


class Serializer(abc.ABC):
    @abc.abstractmethod
    def serialize(self, src: TensorMemoryObj, dst: TensorMemoryObj, key: ObjectKey) -> int: ...

    @abc.abstractmethod
    def estimate_serialized_size(self, layout_desc: MemoryLayoutDesc) -> int: ...


class Deserializer(abc.ABC):
    @abc.abstractmethod
    def deserialize(self, src: TensorMemoryObj, dst: TensorMemoryObj, key: ObjectKey) -> None: ...


class AsyncSerdeProcessor:
    """Runs a serde in threads; results come out once."""

    def __init__(self, serializer: Serializer, deserializer: Deserializer, max_workers: int = 1) -> None:
        self.serializer, self.deserializer = serializer, deserializer
        self.pool = ThreadPoolExecutor(max_workers)
        self.tasks: list[Future[None]] = []

    def estimate_serialized_size(self, layout_desc: MemoryLayoutDesc) -> int:
        return self.serializer.estimate_serialized_size(layout_desc)

    def submit_serialize(self, src_objs: list, dst_objs: list, keys: list) -> int:
        def run() -> None:
            for src, dst, key in zip(src_objs, dst_objs, keys, strict=True):
                dst.set_used_size(self.serializer.serialize(src, dst, key))

        self.tasks.append(self.pool.submit(run))
        return len(self.tasks) - 1

    def submit_deserialize(self, src_objs: list, dst_objs: list, keys: list) -> int:
        def run() -> None:
            for src, dst, key in zip(src_objs, dst_objs, keys, strict=True):
                self.deserializer.deserialize(src, dst, key)

        self.tasks.append(self.pool.submit(run))
        return len(self.tasks) - 1

    def wait(self, task: int) -> bool:
        """Ours: the package has event file descriptors for this."""
        return self.tasks[task].exception() is None

    def close(self) -> None:
        self.pool.shutdown(wait=True)


factories: dict[str, Callable[[dict[str, object]], AsyncSerdeProcessor]] = {}


def register_serde_factory(name: str, factory: Callable[[dict[str, object]], AsyncSerdeProcessor]) -> None:
    if name in factories:
        raise ValueError(f"Serde type already registered: {name!r}")
    factories[name] = factory
