"""Messages drawn from the contract: values that each field's limits allow, and values at and past every edge."""

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from palimpsest.api.options.v1 import options_pb2

ODD_TEXTS = [
    "", " ", "a", "\0", "a\nb", "../../etc/passwd", "é\u202e🦊", "\ufeff", "\ud7ff\ue000", "٣", "１２", "²", "-1", "+1",
    "1e999", "NaN", "Infinity", "0x10", "1_0", "9" * 400, "[" * 400, '{"a":' * 80, "%s{0}", "${x}", "'; --", "*",
    "operations/", "operations/٣", "state=", "state=RUNNING", "AND AND", "kind=a AND kind=b", "x" * 70_000, "\u2028",
    "hub:a/b", "hub:a/b@c", "/", "/nowhere", "sha256:" + "0" * 64, "sha256:" + "٣" * 64, "<|im_end|>", "W10=",
]  # fmt: skip
ODD_REALS = [
    0.0, -0.0, 1.0, -1.0, 0.5, 1e308, -1e308, 1.7976931348623157e308, 5e-324, -5e-324, 1e-308, 2.2250738585072014e-308,
    1e-45, 1e-39, 3.5e38, 1e-9, math.inf, -math.inf, math.nan, 2.0**53, 2.0**63, 2.0**64,
]  # fmt: skip
ODD_INTEGERS = [
    0,
    1,
    -1,
    2,
    7,
    63,
    64,
    65,
    255,
    256,
    1000,
    2**15,
    2**16,
    2**24,
    2**31 - 1,
    -(2**31),
    2**32 - 1,
]
ODD_INTEGERS += [2**32, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1]
RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
REALS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)
LONGEST = 70_000
"""Characters; a field that may hold more is not filled, or a message would exceed what gRPC takes."""
MOST_ITEMS = 1100
DEEPEST = 6


@dataclass
class World:
    """What there is on the server, for values that lead past the first check.

    Attributes
    ----------
    names
        Names and ids; a field gets those that its pattern allows.
    texts
        For fields by name, and for those without a pattern under "".
    sizes
        Largest tame value of numbers by field name, so that most work is small.
    blobs
        For fields of bytes by name.
    kept
        Names that no method deletes.
    """

    names: list[str]
    texts: dict[str, list[str]]
    sizes: dict[str, int]
    blobs: dict[str, list[bytes]] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)


class Drawer:
    """Draws messages.

    Parameters
    ----------
    rng
        Decides everything.
    world
        What there is.
    """

    def __init__(self, rng: random.Random, world: World) -> None:
        self._rng, self._world = rng, world
        self._odd = 0.0
        self._method = ""

    def requests(self, method: Any) -> list[Message]:
        """The requests of one call: one, or a few of a stream, whose parts come in the contract's order or do not."""
        self._odd = self._rng.choice([0.0, 0.0, 0.03, 0.1, 0.5])
        self._method = method.name
        if not method.client_streaming:
            return [self.message(method.input_type)]
        count = self._rng.choice([0, 1, 2, 3, 4, 6])
        return [self.message(method.input_type, part=at) for at in range(count)]

    def message(self, kind: Descriptor, depth: int = 0, part: int | None = None) -> Message:
        """One message of a type; of a stream, its ``part``-th."""
        built = message_factory.GetMessageClass(kind)()
        if depth > DEEPEST:
            return built
        chosen = {self._member(oneof.fields, part) for oneof in kind.oneofs if not _synthetic(oneof)}
        for each in kind.fields:
            oneof = each.containing_oneof
            if oneof is not None and not _synthetic(oneof):
                if each.name in chosen:
                    self._fill(built, each, depth)
            elif (_limits(each).required and not self._is_odd()) or self._rng.random() < 0.5:
                self._fill(built, each, depth)
        return built

    def _is_odd(self) -> bool:
        return self._rng.random() < self._odd

    def _member(self, members: Sequence[FieldDescriptor], part: int | None) -> str:
        if self._is_odd():
            return self._rng.choice([*(member.name for member in members), ""])
        if part is None:
            return self._rng.choice([member.name for member in members])
        return members[min(part, len(members) - 1)].name

    def _fill(self, built: Message, each: FieldDescriptor, depth: int) -> None:
        if each.message_type is not None and each.message_type.GetOptions().map_entry:
            key, value = (each.message_type.fields_by_name[name] for name in ("key", "value"))
            for _ in range(self._length(each, 3)):
                if value.message_type is not None:
                    getattr(built, each.name)[self._value(key, each)].CopyFrom(
                        self.message(value.message_type, depth + 1)
                    )
                else:
                    getattr(built, each.name)[self._value(key, each)] = self._value(value, each)
        elif each.is_repeated:
            for _ in range(self._length(each, 4)):
                if each.message_type is not None:
                    getattr(built, each.name).add().CopyFrom(self.message(each.message_type, depth + 1))
                else:
                    getattr(built, each.name).append(self._value(each, each))
        elif each.message_type is not None:
            getattr(built, each.name).CopyFrom(self.message(each.message_type, depth + 1))
        else:
            setattr(built, each.name, self._value(each, each))

    def _length(self, each: FieldDescriptor, usual: int) -> int:
        limits = _limits(each)
        most = min(limits.max_len or 20, MOST_ITEMS)
        if self._is_odd():
            return self._rng.choice([0, limits.min_len, max(0, limits.min_len - 1), most, most + 1])
        return self._rng.randint(int(limits.min_len or limits.required), min(most, usual))

    def _value(self, each: FieldDescriptor, limited: FieldDescriptor) -> Any:
        limits, rng = _limits(limited), self._rng
        match each.cpp_type:
            case FieldDescriptor.CPPTYPE_BOOL:
                return rng.random() < 0.5
            case FieldDescriptor.CPPTYPE_ENUM:
                known = list(each.enum_type.values_by_number)
                return rng.choice([*known, 99, -5, 2**31 - 1]) if self._is_odd() else rng.choice(known)
            case FieldDescriptor.CPPTYPE_STRING if each.type == FieldDescriptor.TYPE_BYTES:
                return self._bytes(each)
            case FieldDescriptor.CPPTYPE_STRING:
                return self._odd_text(limits) if self._is_odd() else self._text(each, limits)
            case kind if kind in REALS:
                return self._real(limits)
            case kind:
                low, high = RANGES[kind]
                return min(max(self._integer(each, limits, low, high), low), high)

    def _real(self, limits: options_pb2.Limits) -> float:
        low = limits.gte if limits.HasField("gte") else -1e6
        high = limits.lte if limits.HasField("lte") else 1e6
        edges = [low, high, math.nextafter(low, high), math.nextafter(high, low)]
        if self._is_odd():
            past = [math.nextafter(low, -math.inf), math.nextafter(high, math.inf)]
            return self._rng.choice([*ODD_REALS, *edges, *past])
        if self._rng.random() < 0.3:
            return self._rng.choice([*edges, *(x for x in ODD_REALS if low <= x <= high)])
        return self._rng.choice([self._rng.uniform(low, high), self._rng.uniform(max(low, 0), min(high, 2))])

    def _integer(self, each: FieldDescriptor, limits: options_pb2.Limits, low: int, high: int) -> int:
        least = math.ceil(limits.gte) if limits.HasField("gte") else low
        most = math.floor(limits.lte) if limits.HasField("lte") else high
        if self._is_odd():
            return self._rng.choice([*ODD_INTEGERS, least, least - 1, most, most + 1])
        usual = self._world.sizes.get(each.name, 300)
        return self._rng.randint(max(least, 0), max(min(most, usual), least, 0))

    def _bytes(self, each: FieldDescriptor) -> bytes:
        rng = self._rng
        if self._is_odd():
            return rng.choice([b"", b"\0", b"\xff\xfe", rng.randbytes(LONGEST), b"[" * 5000, b"PK\x03\x04"])
        if each.name in self._world.blobs and rng.random() < 0.7:
            blob = rng.choice(self._world.blobs[each.name])
            return blob if rng.random() < 0.5 else damaged(blob, rng)
        made = self._world.texts.get(each.name) or self._world.texts[""]
        return rng.choice([rng.choice(made).encode(), rng.randbytes(rng.choice([1, 8, 32, 256, 4096]))])

    def _text(self, each: FieldDescriptor, limits: options_pb2.Limits) -> str:
        if limits.pattern:
            pattern = re.compile(limits.pattern)
            fitting = [name for name in self._world.names if pattern.fullmatch(name)]
            there = [name for name in fitting if name in self._world.kept]
            if self._method.startswith("Delete"):
                fitting = [name for name in fitting if name not in self._world.kept]
            elif there and self._rng.random() < 0.8:
                fitting = there
            return self._rng.choice(fitting or ["a"])
        texts = self._world.texts.get(each.name) or self._world.texts[""]
        text = self._rng.choice(texts)
        return text[: limits.max_len] if limits.max_len else text

    def _odd_text(self, limits: options_pb2.Limits) -> str:
        rng = self._rng
        most = int(min(limits.max_len or limits.item_max_len or 256, LONGEST))
        edges = ["x" * most, "x" * (most + 1), "é" * most, "🦊" * (most + 1)]
        damage: list[Callable[[str], str]] = [
            lambda name: name + "\n",
            lambda name: name.upper(),
            lambda name: re.sub("[0-9]", "３", name),
            lambda name: name[:-1],
            lambda name: name + "\0",
            lambda name: name * 40,
        ]
        near = rng.choice(damage)(rng.choice(self._world.names))
        return rng.choice([rng.choice(ODD_TEXTS), rng.choice(edges), near])


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """A message's bytes with a bit turned, cut, or overwritten."""
    data = bytearray(raw or b"\x00")
    match rng.randrange(4):
        case 0:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 1:
            del data[rng.randrange(len(data)) :]
        case 2:
            data[rng.randrange(len(data)) :] = rng.randbytes(rng.randrange(1, 64))
        case 3:
            data.extend(rng.randbytes(rng.randrange(1, 32)))
    return bytes(data)


def _limits(each: FieldDescriptor) -> options_pb2.Limits:
    extension: Any = options_pb2.limits
    return each.GetOptions().Extensions[extension]


def _synthetic(oneof: Any) -> bool:
    """Whether it stands for one optional field."""
    return len(oneof.fields) == 1 and oneof.name.startswith("_")
