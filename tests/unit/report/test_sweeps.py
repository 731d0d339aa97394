"""A sweep for readers: its words, scales and paths; and one set of numbers in its page, pictures, JSON and Parquet."""

import json
import math
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.json_input import decode
from palimpsest.report.grafting import columns, pictures, words
from palimpsest.report.grafting.page import Work, sweep_page
from palimpsest.report.grafting.pathways import command_for_both, means_of, paths_of, tokens_of
from palimpsest.report.grafting.scales import Shades, shades_of
from palimpsest.report.grafting.table import Table, read_table
from services.grafting.engine.configurations import LAYER_COMPONENTS
from services.grafting.selecting import GROUPS
from services.grafting.tasks import FORMAT
from tests.unit.report import sweeps

NAMED = ("light", "last", "entity+last", "all")


def table(raw: dict) -> Table:
    return read_table(sweeps.encoded(raw))


class Page(HTMLParser):
    """Tags, and the text of the block that has the figures."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.figures, self._inside = "", False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._inside = ("id", "figures") in attrs

    def handle_data(self, data):
        if self._inside:
            self.figures += data


def plain(value):
    """A number of the contract's JSON."""
    return float(value) if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("token", "seen"),
    [
        (" The", "␣The"),
        ("\n\t", "↵⇥"),
        ("", "∅"),
        ("\u200b", "⟨200B⟩"),
        ("\u202e", "⟨202E⟩"),
        ("é<b>", "é<b>"),
    ],
)
def test_tokens_can_be_seen(token, seen):
    assert words.visible(token) == seen


@pytest.mark.parametrize("has_gate", [True, False])
def test_sets_that_are_groups_are_named_as_such(has_gate):
    for name in ("layer", "attention", "ffn", "norms"):
        assert words.set_label([part for part in GROUPS[name] if has_gate or part != "gate"]) == name
    assert words.set_label(["q", "o"]) == "q, o"
    assert words.set_label([*LAYER_COMPONENTS, "head"]) == "layer, head"
    assert words.set_label(["up", "gate"]) == "up, gate"


@pytest.mark.parametrize(
    "text", ["plain", ' it\'s \\ "$HOME" `x`', "a\nb\t'c'\\n", "\u202eevil\u200b é 😀", sweeps.EVIL]
)
def test_a_word_of_a_command_is_read_as_it_was(text):
    word = words.shell_word(text)
    assert "\u202e" not in word
    assert "\n" not in word
    done = subprocess.run(
        ["bash", "-c", f"printf %s {word}"], env={"LC_ALL": "C.UTF-8"}, capture_output=True, check=True
    )
    assert done.stdout.decode() == text


def test_shades():
    diverging = Shades(-1, 1, diverging=True)
    assert [diverging.of(each) for each in (-2, -0.5, 0.0, 0.25, 1, math.inf)] == [-100, -50, 0, 25, 100, 100]
    ranks = Shades(1, 10_000, logarithmic=True, falling=True)
    assert [ranks.of(each) for each in (1, 10, 100, 10_000)] == [100, 75, 50, 0]
    plain = Shades(-8.0, -2.0)
    assert [plain.of(each) for each in (-math.inf, -8, -5, -2)] == [0, 0, 50, 100]
    for scale in (diverging, ranks, plain):
        assert scale.of(None) is None
        assert scale.of(math.nan) is None
    assert Shades(1, 1, logarithmic=True, falling=True).of(1) == 100


def test_scales_have_the_models_own_values():
    (case,) = table(sweeps.table(cases=1, layers=4)).cases
    values = [r.values["logprob"] for r in (case.base, case.donor, *(c.reading for c in case.cells))]
    assert shades_of(case, "logprob")[:2] == (min(values), max(values))
    assert shades_of(case, "recovery")[:2] == (-1.0, 1.0)


def test_what_is_no_table_is_refused():
    raw = sweeps.table(cases=1, layers=2)
    assert raw["format"] == FORMAT
    for change in ({"format": "palimpsest.grafts/2"}, {"cases": [{}]}, {"base": 3}):
        with pytest.raises(InvalidArgument, match="not the table of a sweep") as refused:
            table(raw | change)
        assert refused.value.reason == Reason.INVALID_REQUEST
    for data in (b"{", b"[]", b"\xff"):
        with pytest.raises(InvalidArgument):
            read_table(data)


def brute_paths(raw: dict, rows: dict[str, str]) -> dict[tuple[str, tuple[str, ...]], float]:
    """The highest recovery by path and set, counted anew."""
    found: dict[tuple[str, tuple[str, ...]], float] = {}
    for cell in raw["cases"][0]["cells"]:
        path, recovery = rows.get(cell["position"]), cell["reading"].get("recovery")
        if path and recovery is not None:
            key = (path, tuple(cell["components"]))
            found[key] = max(found.get(key, -math.inf), plain(recovery))
    return found


def test_paths_of_single_tokens_are_told_by_position():
    raw, last = sweeps.odd(), len(sweeps.TOKENS) - 1
    (case,) = table(raw).cases
    rows = {str(at): "recall" if at == last else "enrichment" for at in range(last + 1)}
    found = {(f.path, f.components): f.cell.reading.values["recovery"] for f in paths_of(case)}
    assert found == brute_paths(raw, rows)
    entity = {str(at): "enrichment" for at in (5, 6)} | {str(last): "recall"}
    found = {(f.path, f.components): f.cell.reading.values["recovery"] for f in paths_of(case, "Ostrava")}
    assert found == brute_paths(raw, entity)
    assert tokens_of(case, "light") == [2]
    assert tokens_of(case, "lighthouse at") == [2, 3, 4]
    with pytest.raises(InvalidArgument) as refused:
        paths_of(case, "Moravia")
    assert refused.value.reason == Reason.SPAN_NOT_FOUND


def test_a_sweep_of_single_tokens_tells_how_to_graft_both_places():
    read = table(sweeps.odd())
    (case,) = read.cases
    found = paths_of(case, "Ostrava")
    command = command_for_both(read, case, found)
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"],
        env={"LC_ALL": "C.UTF-8"},
        capture_output=True,
        check=True,
    )
    words_of_it = done.stdout.decode().split("\0")[:-1]
    assert words_of_it == [
        "palimpsest", "graft", "run", "smollm2-135m", "smollm2-keeper", "--prompt", case.prompt,
        "--target", case.target, "--at", found[0].cell.row, "--at", str(len(case.tokens) - 1),
        "--components", ",".join(found[0].components),
    ]  # fmt: skip


def test_named_selections_are_on_paths_by_name_and_their_synergy_is_counted():
    raw = sweeps.table(rows=NAMED, window=10)
    read = table(raw)
    rows = {"light": "enrichment", "last": "recall", "entity+last": "both"}
    found = paths_of(read.cases[0])
    assert {(f.path, f.components): f.cell.reading.values["recovery"] for f in found} == brute_paths(
        raw, rows
    )
    for both in (f for f in found if f.path == "both"):
        alike = {
            c["position"]: c["reading"]["recovery"]
            for c in raw["cases"][0]["cells"]
            if (c["layers"]["first"], c["layers"]["stop"]) == both.cell.layers
            and tuple(c["components"]) == both.components
        }
        assert both.synergy == pytest.approx(alike["entity+last"] - alike["light"] - alike["last"])
    assert not command_for_both(read, read.cases[0], found)
    for mean in means_of(read):
        each = [
            f.cell.reading.values
            for case in read.cases
            for f in paths_of(case)
            if (f.path, f.components) == (mean.path, mean.components)
        ]
        assert mean.cases == len(each) == 2
        assert mean.recovery == pytest.approx(sum(v["recovery"] for v in each) / 2)
        assert mean.first == sum(v["rank"] == 1 for v in each) / 2


@pytest.mark.parametrize("raw", [sweeps.odd(), sweeps.table(rows=NAMED, window=10)], ids=["odd", "named"])
def test_the_page_holds_the_numbers_of_the_table(raw):
    page = sweep_page(table(raw), work=Work(271, 1000))
    found = json.loads(Page(page).figures)
    assert found["base"]["fingerprint"] == raw["base"]["fingerprint"]
    for case, told in zip(raw["cases"], found["cases"], strict=True):
        for at, cell in enumerate(case["cells"]):
            for measure in words.MEASURES:
                value = cell["reading"].get(measure.name)
                assert told["cells"][measure.name][at] == value
                assert (told["shades"][measure.name][at] is None) == (value is None or value == "NaN")
            assert told["cells"]["row"][at] == cell["position"]
            assert told["cells"]["layers"][at] == [cell["layers"]["first"], cell["layers"]["stop"]]
    for text in (raw["donor"]["fingerprint"], "271 of 1,000 that as many whole passes take: 27.1%"):
        assert text in page


def test_a_page_has_no_markup_but_its_own_and_asks_for_nothing():
    page = sweep_page(table(sweeps.odd()))
    tags = Page(page).tags
    assert tags.count("script") == 2
    assert not {"img", "link", "iframe", "object"} & set(tags)
    assert "default-src 'none'" in page


def test_what_is_not_set_is_not_zero():
    raw = sweeps.odd()
    page = sweep_page(table(raw))
    assert '<td data-c="0" class="unset"></td>' in page
    assert 'data-c="1" style="--v: 0"' in page
    assert page.count('<td class="none"></td>') == 1


def test_pictures_draw_the_numbers_of_the_table(tmp_path):
    raw = sweeps.odd()
    read = table(raw)
    for measure in (words.MEASURES[0], words.MEASURES[1], words.MEASURES[3]):
        plots = pictures.draw(read, 0, measure).axes
        for axes, components in zip(plots, read.cases[0].sets, strict=False):
            drawn = axes.images[0].get_array()
            for cell in raw["cases"][0]["cells"]:
                if tuple(cell["components"]) == components:
                    value = drawn[int(cell["position"]), cell["layers"]["first"]]
                    wanted = cell["reading"].get(measure.name)
                    if wanted is None:
                        assert value is np.ma.masked
                    elif not isinstance(wanted, str):
                        assert value == wanted
    for kind, magic in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        file = tmp_path / "picture"
        pictures.write_picture(file, kind, pictures.draw(read, 0, words.MEASURES[0]))
        assert file.read_bytes().startswith(magic)
    assert "␣light" in file.read_text()


def test_parquet_and_json_are_equal(tmp_path):
    arro3 = pytest.importorskip("arro3.io", reason="no arro3 here; pip install 'palimpsest-lm[parquet]'")
    tables = (sweeps.odd(), sweeps.table(rows=NAMED, window=10), sweeps.previewed(), sweeps.valued())
    for number, raw in enumerate(tables):
        file = tmp_path / f"{number}.parquet"
        columns.write_parquet(file, table(raw))
        read = arro3.read_parquet(file).read_all()
        assert rebuilt(read) == known(raw)


def rebuilt(read) -> dict:
    """A table again, from its columns and the file's metadata."""
    raw = decode(read.schema.metadata_str[columns.ABOUT], max_bytes=1 << 20)
    rows = [
        dict(zip(read.column_names, each, strict=True))
        for each in zip(*(read.column(name).to_pylist() for name in read.column_names), strict=True)
    ]
    for case in raw["cases"]:
        case["cells"] = []
    for row in rows:
        names = (
            "logprob",
            "probability",
            "rank",
            "ties",
            "recovery",
            "kl_base",
            "kl_donor",
            "top",
            "top_probability",
        )
        reading = {name: row[name] for name in (*names, "token_logprobs")}
        told = {"reading": {k: words_of(v) for k, v in reading.items() if v is not None}}
        estimate = {} if row["estimate"] is None else {"estimate": row["estimate"]}
        raw["cases"][row["case"]]["cells"].append(
            {
                "position": row["position"],
                "layers": {"first": row["layer_first"], "stop": row["layer_stop"]},
                "components": row["components"],
                **(told if row["logprob"] is not None else {}),
                **estimate,
            }
        )
    return raw


def words_of(value):
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def known(raw: dict) -> dict:
    """The table without what is not known of its cells."""
    copy = json.loads(json.dumps(raw))
    for case in copy["cases"]:
        for cell in case["cells"]:
            cell.pop("preview", None)
            cell.get("reading", {}).pop("shapley", None)
    return copy


def test_parquet_that_cannot_be_written_is_refused_by_the_extras_name(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "arro3", None)
    with pytest.raises(FailedPrecondition, match=r"palimpsest-lm\[parquet\]"):
        columns.write_parquet(tmp_path / "x", table(sweeps.table(cases=1, layers=2)))
