"""What calibration learns about a model, and the only thing encoder and decoder share: bases, means, tables."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from palimpsest import json_input
from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.kv.layout import Geometry
from palimpsest.kv.level_tables import ClassicTables, LevelTables
from palimpsest.kv.rotary import Rotary

FORMAT = 1
_LONGEST_HEADER = 1 << 24
COMPONENTS = ("keys", "values")


@dataclass(frozen=True)
class CalibrationProfile:
    """Everything learned from sample caches of one model.

    Parameters
    ----------
    geometry, rotary
        Of the model.
    model
        Fingerprint of the model it was made with.
    group
        Layers coded together: more find more in common, fewer can be used earlier.
    sinks
        Leading tokens of a context that are kept apart, for attention leans on them and they look like no others.
    means
        Keys and values: ``[layers * width]`` float32, keys un-rotated.
    bases
        Keys and values: for each group the inverse transform ``[n, n]`` bfloat16, row by coefficient in order of
        falling variance. The forward transform is its inverse, so that rounding it costs nothing.
    levels
        By name, finest first.
    classic
        The paper's own scheme, if it was calibrated.
    """

    geometry: Geometry
    rotary: Rotary
    model: str
    group: int
    sinks: int
    means: tuple[torch.Tensor, torch.Tensor]
    bases: tuple[list[torch.Tensor], list[torch.Tensor]]
    levels: dict[str, LevelTables]
    classic: ClassicTables | None = None
    _matrices: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict, repr=False, compare=False)

    def _cached(self, kind: int, group: int, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        if (kind, group) not in self._matrices:
            self._matrices[kind, group] = make()
        return self._matrices[kind, group]

    @property
    def groups(self) -> list[tuple[int, int]]:
        """First layer and number of layers of each group."""
        layers = self.geometry.layers
        return [(first, min(self.group, layers - first)) for first in range(0, layers, self.group)]

    def forward(self, component: int, group: int) -> torch.Tensor:
        """Return the forward transform ``[n, n]`` float32 of a group, as only encoders need it."""
        return self._cached(
            component,
            group,
            lambda: torch.linalg.inv(self.bases[component][group].double()).float().contiguous(),
        )

    def inverse(self, component: int, group: int) -> torch.Tensor:
        """Return the inverse transform ``[n, n]`` float32 of a group's keys (0) or values (1)."""
        return self._cached(2 + component, group, lambda: self.bases[component][group].float())

    def mean(self, component: int, group: int) -> torch.Tensor:
        """Return the mean ``[n]`` of a group's keys (0) or values (1)."""
        first, layers = self.groups[group]
        width = self.geometry.width(component)
        return self.means[component][first * width : (first + layers) * width]

    def level(self, name: str) -> LevelTables:
        """Return a level's tables.

        Raises
        ------
        InvalidArgument
            There is no such level.
        """
        if name not in self.levels:
            raise InvalidArgument(
                Reason.KV_LEVEL_UNKNOWN,
                f"No level {name!r}; there are {', '.join(['lossless', *self.levels])}.",
            )
        return self.levels[name]

    def require_classic(self, levels: Sequence[str]) -> ClassicTables:
        """Return the tables of the paper's scheme.

        Raises
        ------
        FailedPrecondition
            They were not calibrated.
        InvalidArgument
            There is no such level.
        """
        if self.classic is None:
            raise FailedPrecondition(
                Reason.KV_PROFILE_MISMATCH,
                "This profile lacks the classic tables; calibrate with classic=True.",
            )
        for name in levels:
            if name not in self.classic.levels:
                raise InvalidArgument(
                    Reason.KV_LEVEL_UNKNOWN, f"No level {name!r}; there are {', '.join(self.classic.levels)}."
                )
        return self.classic

    @cached_property
    def id(self) -> str:
        """Digest of the content, ``sha256:...``: streams name it, and decode with no other."""
        return "sha256:" + hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Serialise: safetensors, with the facts as JSON in its header."""
        tensors: dict[str, torch.Tensor] = {}
        for name, mean, bases in zip(COMPONENTS, self.means, self.bases, strict=True):
            tensors[f"{name}.mean"] = mean
            tensors |= {f"{name}.basis.{at}": basis for at, basis in enumerate(bases)}
        for at, level in enumerate(self.levels.values()):
            for part in ("kept", "classes", "frequencies", "centres"):
                tensors[f"level.{at}.{part}"] = torch.from_numpy(getattr(level, part))
        facts = {
            "format": FORMAT,
            "geometry": vars(self.geometry),
            "rotary": vars(self.rotary),
            "model": self.model,
            "group": self.group,
            "sinks": self.sinks,
            "levels": [[name, level.step] for name, level in self.levels.items()],
        }
        if self.classic:
            for part in ("mean", "anchor_scale", "delta_scale"):
                tensors[f"classic.{part}"] = torch.from_numpy(getattr(self.classic, part))
            for at, (_, classes, frequencies) in enumerate(self.classic.levels.values()):
                tensors[f"classic.{at}.classes"] = torch.from_numpy(classes)
                tensors[f"classic.{at}.frequencies"] = torch.from_numpy(frequencies)
            facts["classic"] = [[name, level[0]] for name, level in self.classic.levels.items()]
        ordered = {name: tensors[name].contiguous() for name in sorted(tensors)}
        return save(ordered, {"palimpsest.kv.profile": json.dumps(facts, sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "CalibrationProfile":
        """Read what ``to_bytes`` wrote.

        Raises
        ------
        InvalidArgument
            KV_PROFILE_INVALID: the bytes are not a profile, or its parts do not fit each other.
        """
        try:
            length = int.from_bytes(data[:8], "little")
            header = json_input.decode(data[8 : 8 + length], max_bytes=_LONGEST_HEADER)
            facts = json_input.decode(
                header["__metadata__"]["palimpsest.kv.profile"], max_bytes=_LONGEST_HEADER
            )
            tensors = load(data)
            profile = cls._build(facts, tensors)
            profile._check()
        except (SafetensorError, ValueError, TypeError, LookupError, ArithmeticError) as wrong:
            raise InvalidArgument(
                Reason.KV_PROFILE_INVALID,
                f"These bytes are not a calibration profile ({wrong}); calibrate again.",
            ) from None
        return profile

    @classmethod
    def _build(cls, facts: dict, tensors: dict[str, torch.Tensor]) -> "CalibrationProfile":
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']}")
        geometry, group = Geometry(**facts["geometry"]), int(facts["group"])
        groups = -(-geometry.layers // group)
        levels = {}
        for at, (name, step) in enumerate(facts["levels"]):
            kept, classes, frequencies, centres = (
                tensors[f"level.{at}.{part}"].numpy()
                for part in ("kept", "classes", "frequencies", "centres")
            )
            levels[name] = LevelTables(step, kept, classes, frequencies, centres)
        classic = None
        if "classic" in facts:
            coded = {}
            for at, (name, scale) in enumerate(facts["classic"]):
                classes, frequencies = (
                    tensors[f"classic.{at}.{part}"].numpy() for part in ("classes", "frequencies")
                )
                coded[name] = (scale, classes, frequencies)
            mean, anchors, deltas = (
                tensors[f"classic.{part}"].numpy() for part in ("mean", "anchor_scale", "delta_scale")
            )
            classic = ClassicTables(mean, anchors, deltas, coded)
        keys, values = ([tensors[f"{name}.basis.{at}"] for at in range(groups)] for name in COMPONENTS)
        return cls(
            geometry,
            Rotary(**facts["rotary"]),
            facts["model"],
            group,
            int(facts["sinks"]),
            (tensors["keys.mean"], tensors["values.mean"]),
            (keys, values),
            levels,
            classic,
        )

    def _check(self) -> None:
        widths = (self.geometry.key_width, self.geometry.value_width)
        for width, mean, bases in zip(widths, self.means, self.bases, strict=True):
            fits = mean.shape == (self.geometry.layers * width,) and all(
                basis.shape == (layers * width,) * 2
                for basis, (_, layers) in zip(bases, self.groups, strict=True)
            )
            if not fits or not all(bool(part.isfinite().all()) for part in (mean, *bases)):
                raise ValueError("a mean or basis of the wrong shape or not finite")
        room = np.array([[layers * width for _, layers in self.groups] for width in widths])
        for level in self.levels.values():
            level.check(room, int(room.max()))  # a model may have fewer layers than a group
        if self.classic:
            self.classic.check(self.geometry.layers, max(widths))

    def require(self, geometry: Geometry, profile_id: str = "") -> None:
        """Check that a cache or a stream belongs to this profile.

        Raises
        ------
        FailedPrecondition
            It has another shape, or was coded with another profile.
        """
        if profile_id and profile_id != self.id:
            raise FailedPrecondition(
                Reason.KV_PROFILE_MISMATCH,
                "The chunk was coded with another calibration profile; fetch that one, or encode again.",
                metadata={"found": profile_id, "expected": self.id},
            )
        if geometry != self.geometry:
            raise FailedPrecondition(
                Reason.KV_PROFILE_MISMATCH,
                f"The profile was made for {self.geometry}, the cache is {geometry}; calibrate for this model.",
            )
