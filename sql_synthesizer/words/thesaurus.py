"""Words that mean the same or nearly so in the names of tables and columns, and what short names stand for."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from sql_synthesizer.words.tokens import stem

_GROUPS: Final = """
people person inhabitant resident citizen population; population populous populated; movie film; actor
star performer; singer artist musician; song track; album record; teacher instructor professor lecturer
faculty; student pupil; course class; school college university; employee worker staff; boss manager
supervisor; client customer buyer; company firm corporation business organization; seller vendor supplier
merchant; product item good article; order purchase; bill invoice; department dept; shop store; car
vehicle automobile auto; doctor physician; medicine drug medication med; plane aircraft airplane; journey
trip; town city; nation country; citizenship nationality; street road; hotel accommodation; price cost fee
charge fare; salary wage pay earnings income; revenue sales turnover; amount total sum; score point mark;
rating rate stars; grade mark; rank ranking position; size area; surface area; height altitude elevation
tall; length long; duration length time runtime millisecond minute; weight heavy; age old; speed fast velocity; capacity
seat; name title; category type kind genre class; type kind sort; sex gender; job occupation profession
position; email mail e-mail; phone telephone mobile; address location; location place site; home
residence; zip postcode postal; language tongue; description detail summary; comment remark note; text
body content; picture image photo; author writer; paper publication article; book title; writer write
author; publisher publish; release issue publication; date day time; year season; start begin open; end
finish close; birth born birthday birthdate; death die dead; founded established foundation established
opening; join registration register signup enrollment; hire employ; departure depart leave source origin;
arrival arrive destination; buy purchase; sell sale; win winner; lose loser; quantity number count amount;
percentage percent share; ratio proportion; member participant; participate attend participation
attendance; attendance audience spectator; competition contest tournament; match game; team club side;
player athlete; coach trainer; stadium venue arena; concert show performance; tv television; series show;
episode show; channel station; language tongue; creature animal pet; cuisine food; meal dish food; flag
mark; identifier id identification code key; code id number; last family sur; first given; surname
lastname; device machine; battle war fight; ship boat vessel; killed casualty death; injured hurt wounded;
house home property; room bedroom chamber; room unit; apartment flat; owner own possess; border neighbor
neighbour neighboring adjacent surround adjoin; parent mother father; birthplace hometown; leader head
chief president; headquarter headquarters base; industry sector; profit gain earning; asset property;
horsepower power; maker manufacturer make producer; model version; color colour; center centre; horse
power; mile distance; neighborhood neighbourhood district area; state province region; region area zone;
continent region; message text; user account person; review comment feedback; status state condition;
budget fund; loan credit; account balance; bank branch; transaction payment; support help assist; document
file; template format; degree qualification; major subject field; semester term; credit point; enrollment
enroll registration; advisor adviser mentor; friend friendship; like favor prefer favorite; visitor guest;
visit stay; museum gallery; driver pilot; race event; circuit track; prize award; nomination nominee;
sponsor support; goal score; vote ballot; election poll; party faction; contract agreement; policy
insurance; claim demand; treatment therapy; disease diagnosis illness condition; patient sick; nurse
caregiver; procedure operation; prescription prescribe
"""

_SHORT: Final = {
    "appt": "appointment", "qty": "quantity", "num": "number", "no": "number", "nbr": "number", "nr": "number",
    "amt": "amount", "dt": "date", "desc": "description", "cnt": "count", "addr": "address", "dob": "birth date",
    "cust": "customer", "emp": "employee", "dept": "department", "dep": "department", "tel": "phone",
    "fname": "first name", "lname": "last name", "yr": "year", "tx": "transaction", "txn": "transaction",
    "avg": "average", "pct": "percent", "perc": "percent", "min": "minimum", "max": "maximum", "tot": "total",
    "msg": "message", "mgr": "manager", "prod": "product", "cat": "category", "ccy": "currency", "std": "standard",
    "rep": "representative", "ref": "reference", "org": "organization", "univ": "university", "stu": "student",
    "prof": "professor", "instr": "instructor", "mins": "minute", "secs": "second", "hrs": "hour",
    "temp": "temperature", "lat": "latitude", "lng": "longitude", "lon": "longitude", "loc": "location",
    "img": "image", "pic": "picture", "pop": "population", "gnp": "gross product", "gdp": "gross product",
    "mpg": "miles per gallon", "ts": "time", "dest": "destination", "src": "source", "acct": "account",
    "doc": "document", "reg": "registration", "ins": "insurance", "diag": "diagnosis", "med": "medication",
    "appr": "approval", "freq": "frequency", "assess": "assessment", "crtd": "created", "cert": "certificate",
    "bd": "board", "sched": "schedule", "pts": "points", "hs": "home score", "lang": "language",
    "govt": "government", "natl": "national", "info": "information", "edu": "education", "uid": "user id",
    "pid": "id", "sid": "id", "cid": "id", "did": "id", "aid": "id", "oid": "id", "kid": "id", "jid": "id",
    "mid": "id", "rid": "id", "bid": "id", "vin": "vehicle number", "fax": "fax", "sex": "sex", "wt": "weight",
    "ht": "height",
}  # fmt: skip

_PARTS: Final = frozenset(
    [
        "name",
        "id",
        "code",
        "date",
        "number",
        "title",
        "first",
        "last",
        "author",
        "paper",
        "phrase",
        "key",
        "user",
        "address",
        "phone",
        "city",
        "state",
        "country",
        "type",
        "price",
        "count",
        "time",
        "year",
        "day",
        "text",
        "data",
        "set",
        "birth",
        "number",
        "score",
        "place",
        "star",
        "end",
        "start",
        "home",
        "town",
        "zip",
        "post",
        "mail",
        "rate",
        "rating",
        "order",
        "item",
        "line",
        "product",
        "customer",
        "employee",
        "department",
        "course",
        "student",
        "teacher",
        "class",
        "school",
        "company",
        "by",
        "of",
        "cited",
        "citing",
        "num",
        "location",
        "street",
        "level",
        "status",
        "owner",
        "song",
        "album",
        "artist",
        "film",
        "actor",
        "movie",
        "team",
        "player",
        "game",
        "event",
        "amount",
        "total",
        "value",
        "quantity",
        "sale",
        "store",
        "shop",
        "area",
        "field",
        "venue",
        "journal",
    ]
)


def expand(part: str) -> list[str]:
    """Return the words that one lower-case part of a name stands for."""
    if part in _SHORT:
        return _SHORT[part].split()
    return _cut(part) or [part]


def pieces(word: str) -> list[str]:
    """Return the known parts of a word that is written together, or the word."""
    return _cut(word) or [word]


@lru_cache(maxsize=5_000)
def _cut(part: str) -> list[str] | None:
    """Cut what was written together ("lastname") where every piece is a known part; None where it is not."""
    if len(part) < 6 or part in _PARTS or part.removesuffix("s") in _PARTS:
        return None
    for size in range(len(part) - 2, 2, -1):
        head, tail = part[:size], part[size:]
        if head in _PARTS and (tail in _PARTS or tail.removesuffix("s") in _PARTS):
            return [head, tail]
        rest = _cut(tail) if head in _PARTS else None
        if rest:
            return [head, *rest]
    return None


def _near() -> dict[str, frozenset[str]]:
    near: dict[str, set[str]] = {}
    for group in _GROUPS.split(";"):
        stems = {stem(word) for word in group.split()}
        for word in stems:
            near.setdefault(word, set()).update(stems - {word})
    return {word: frozenset(others) for word, others in near.items()}


NEAR: Final = _near()
"""By stem: the stems that can stand for it."""
