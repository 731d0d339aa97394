"""Forty texts, few of them like what a model is calibrated on: each is made here, the same on every machine."""

import base64
import json
import random
import string
import sysconfig
import textwrap
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

_LIBRARY = Path(sysconfig.get_paths()["stdlib"])

GERMAN = """
In den alten Zeiten, wo das Wünschen noch geholfen hat, lebte ein König, dessen Töchter waren alle schön, aber
die jüngste war so schön, daß die Sonne selber, die doch so vieles gesehen hat, sich verwunderte, sooft sie ihr
ins Gesicht schien. Nahe bei dem Schlosse des Königs lag ein großer dunkler Wald, und in dem Walde unter einer
alten Linde war ein Brunnen. Wenn nun der Tag sehr heiß war, so ging das Königskind hinaus in den Wald und
setzte sich an den Rand des kühlen Brunnens; und wenn sie Langeweile hatte, so nahm sie eine goldene Kugel, warf
sie in die Höhe und fing sie wieder; und das war ihr liebstes Spielwerk. Nun trug es sich einmal zu, daß die
goldene Kugel der Königstochter nicht in ihr Händchen fiel, das sie in die Höhe gehalten hatte, sondern vorbei
auf die Erde schlug und geradezu ins Wasser hineinrollte. Die Königstochter folgte ihr mit den Augen nach, aber
die Kugel verschwand, und der Brunnen war tief, so tief, daß man keinen Grund sah. Da fing sie an zu weinen und
weinte immer lauter und konnte sich gar nicht trösten. Und wie sie so klagte, rief ihr jemand zu: Was hast du
vor, Königstochter, du schreist ja, daß sich ein Stein erbarmen möchte. Sie sah sich um, woher die Stimme käme,
da erblickte sie einen Frosch, der seinen dicken, häßlichen Kopf aus dem Wasser streckte. Ach, du bist es, alter
Wasserpatscher, sagte sie, ich weine über meine goldene Kugel, die mir in den Brunnen hinabgefallen ist. Sei
still und weine nicht, antwortete der Frosch, ich kann wohl Rat schaffen, aber was gibst du mir, wenn ich dein
Spielwerk wieder heraufhole? Was du haben willst, lieber Frosch, sagte sie, meine Kleider, meine Perlen und
Edelsteine, auch noch die goldene Krone, die ich trage.
"""

SPANISH = """
En un lugar de la Mancha, de cuyo nombre no quiero acordarme, no ha mucho tiempo que vivía un hidalgo de los de
lanza en astillero, adarga antigua, rocín flaco y galgo corredor. Una olla de algo más vaca que carnero,
salpicón las más noches, duelos y quebrantos los sábados, lentejas los viernes, algún palomino de añadidura los
domingos, consumían las tres partes de su hacienda. El resto della concluían sayo de velarte, calzas de velludo
para las fiestas, con sus pantuflos de lo mesmo, y los días de entre semana se honraba con su vellorí de lo más
fino. Tenía en su casa una ama que pasaba de los cuarenta, y una sobrina que no llegaba a los veinte, y un mozo
de campo y plaza, que así ensillaba el rocín como tomaba la podadera. Frisaba la edad de nuestro hidalgo con los
cincuenta años; era de complexión recia, seco de carnes, enjuto de rostro, gran madrugador y amigo de la caza.
Quieren decir que tenía el sobrenombre de Quijada, o Quesada, que en esto hay alguna diferencia en los autores
que deste caso escriben; aunque por conjeturas verosímiles se deja entender que se llamaba Quejana. Pero esto
importa poco a nuestro cuento; basta que en la narración dél no se salga un punto de la verdad. Es, pues, de
saber que este sobredicho hidalgo, los ratos que estaba ocioso, que eran los más del año, se daba a leer libros
de caballerías con tanta afición y gusto, que olvidó casi de todo punto el ejercicio de la caza, y aun la
administración de su hacienda; y llegó a tanto su curiosidad y desatino en esto, que vendió muchas hanegas de
tierra de sembradura para comprar libros de caballerías en que leer.
"""

RUSSIAN = """
Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. Все смешалось в доме
Облонских. Жена узнала, что муж был в связи с бывшею в их доме француженкою-гувернанткой, и объявила мужу, что
не может жить с ним в одном доме. Положение это продолжалось уже третий день и мучительно чувствовалось и самими
супругами, и всеми членами семьи, и домочадцами. Все члены семьи и домочадцы чувствовали, что нет смысла в их
сожительстве и что на каждом постоялом дворе случайно сошедшиеся люди более связаны между собой, чем они, члены
семьи и домочадцы Облонских. Жена не выходила из своих комнат, мужа третий день не было дома. Дети бегали по
всему дому, как потерянные; англичанка поссорилась с экономкой и написала записку приятельнице, прося приискать
ей новое место; повар ушел еще вчера со двора, во время обеда; черная кухарка и кучер просили расчета.
"""

CHINESE = """
晋太元中，武陵人捕鱼为业。缘溪行，忘路之远近。忽逢桃花林，夹岸数百步，中无杂树，芳草鲜美，落英缤纷。
渔人甚异之。复前行，欲穷其林。林尽水源，便得一山，山有小口，仿佛若有光。便舍船，从口入。初极狭，才通
人。复行数十步，豁然开朗。土地平旷，屋舍俨然，有良田美池桑竹之属。阡陌交通，鸡犬相闻。其中往来种作，
男女衣着，悉如外人。黄发垂髫，并怡然自乐。见渔人，乃大惊，问所从来。具答之。便要还家，设酒杀鸡作食。
村中闻有此人，咸来问讯。自云先世避秦时乱，率妻子邑人来此绝境，不复出焉，遂与外人间隔。问今是何世，乃
不知有汉，无论魏晋。此人一一为具言所闻，皆叹惋。余人各复延至其家，皆出酒食。停数日，辞去。此中人语云
：不足为外人道也。既出，得其船，便扶向路，处处志之。及郡下，诣太守，说如此。
"""

Text = tuple[str, str | list[int]]
"""Name, and text or token ids."""


def odd_texts(tokenizer: Any, tokens: int) -> list[tuple[str, list[int]]]:
    """Return forty texts of exactly ``tokens`` tokens; short sources are repeated."""
    found = [*_ordinary(), *_repeated(), *_structured(), *_random(tokenizer, tokens)]
    assert len(found) == 40
    return [(name, _cut(tokenizer, text, tokens)) for name, text in found]


def _cut(tokenizer: Any, text: str | list[int], tokens: int) -> list[int]:
    ids = text if isinstance(text, list) else tokenizer(text, add_special_tokens=False).input_ids
    return (ids * -(-tokens // len(ids)))[:tokens]


def _ordinary() -> list[Text]:
    """Code of this language, prose of four others, prose of this one."""
    code = [(f"code {name}", _source(name)) for name in ("heapq", "mailbox", "turtle", "configparser")]
    manual = "".join(topics[name] for name in sorted(topics)[::-1])
    prose = [
        ("german", GERMAN),
        ("spanish", SPANISH),
        ("russian", RUSSIAN),
        ("chinese", CHINESE),
        ("english", (_LIBRARY / "LICENSE.txt").read_text()),
        ("manual", manual[40_000:52_000]),
    ]
    return [*code, *prose]


def _source(name: str) -> str:
    return (_LIBRARY / f"{name}.py").read_text()[400:9000]


def _repeated() -> list[Text]:
    """One thing over and over."""
    question = "\nWhat is the capital of France, and which river runs through it?\n"
    log = "2024-03-01 12:00:00 INFO worker-3 request handled in 12 ms status=200 path=/v1/items\n"
    lines = [
        ("line breaks", "\n" * 4000),
        ("line breaks and a question", ("\n" * 960) + question),
        ("spaces", " " * 60_000),
        ("tabs", "\t" * 8000),
        ("equals signs", ("=" * 80 + "\n") * 400),
        ("dashes", ("-" * 78 + "\n") * 400),
        ("dots", "." * 60_000),
        ("letter a", "a " * 4000),
        ("zeros", "0 " * 4000),
        ("one line", "The quick brown fox jumps over the lazy dog.\n" * 200),
        ("one log line", log * 200),
        ("lorem", "Lorem ipsum dolor sit amet, consectetur adipiscing elit. " * 200),
        ("haha", "ha" * 4000),
    ]
    return [*lines, ("text, then padding", textwrap.fill(GERMAN, 80)[:900] + "\n" * 3000)]


def _structured() -> list[Text]:
    """Tables, logs, data."""
    rng = random.Random(5)
    logs = "".join(
        f"2024-03-{rng.randint(1, 28):02} {rng.randint(0, 23):02}:{rng.randint(0, 59):02}:07 "
        f"{rng.choice(['INFO', 'WARN', 'ERROR'])} worker-{rng.randint(0, 9)} took {rng.randint(1, 900)} ms\n"
        for _ in range(200)
    )
    rows = [{"id": n, "value": rng.random(), "tags": ["a", "b"], "note": None} for n in range(200)]
    table = "| name | value | unit |\n|---|---|---|\n" + "".join(
        f"| item {n} | {rng.random():.3f} | mm |\n" for n in range(300)
    )
    return [
        ("empty markdown table", "| a | b | c |\n|---|---|---|\n" + "|   |   |   |\n" * 500),
        ("wide empty table", ("|" + "      |" * 12 + "\n") * 200),
        ("markdown table", table),
        ("csv", "".join(f"{n},{rng.random():.4f},{rng.randint(0, 99)}\n" for n in range(400))),
        ("logs", logs),
        ("json", json.dumps(rows, indent=1)),
        ("html", "<div class='row'><span>x</span><br/></div>\n" * 200),
        ("blank form", "Name: ____________________\nDate: ____________________\n\n" * 120),
    ]


def _random(tokenizer: Any, tokens: int) -> list[Text]:
    """What no model expects."""
    rng = random.Random(6)

    def drawn(make: Callable[[], str], count: int) -> str:
        return "".join(make() for _ in range(count))

    vocabulary = len(tokenizer)
    return [
        ("random tokens", [rng.randrange(20, vocabulary) for _ in range(tokens)]),
        ("few random tokens", [rng.choice([300, 1000, 4242, 20_000]) for _ in range(tokens)]),
        ("base64", base64.encodebytes(rng.randbytes(6000)).decode()),
        ("hex", rng.randbytes(4000).hex(" ")),
        ("digits", drawn(lambda: rng.choice(string.digits), 5000)),
        ("letters", drawn(lambda: rng.choice(string.ascii_letters), 6000)),
        ("punctuation", drawn(lambda: rng.choice(string.punctuation), 5000)),
        ("end of text", [tokenizer.eos_token_id] * tokens),
    ]
