"""The closed class of English that shapes a query: counting, comparing, ordering, grouping, denying, joining."""

from __future__ import annotations

from typing import Final

from sql_synthesizer.words.roles import Op, Role

PHRASES: Final[dict[tuple[str, ...], Op]] = {}
"""By lower-case words."""


def _say(op: Op, phrases: str) -> None:
    for phrase in phrases.split("|"):
        PHRASES[tuple(phrase.split())] = op


_AGE: Final = ("age", "~birth", "~birthday", "~year", "~date", "~founded")
_SIZE: Final = ("size", "area", "population", "capacity", "length", "amount", "total")
_HEIGHT: Final = ("height", "altitude", "elevation", "high")
_PRICE: Final = ("price", "cost", "fee", "fare", "charge", "amount")
_LENGTH: Final = ("length", "duration", "runtime", "time", "minute", "millisecond", "distance", "long")
_TIME: Final = ("date", "year", "time", "start", "day")
_QUALITY: Final = ("rating", "score", "rank", "grade", "points")
_ADJECTIVES: Final = (
    # base, comparative, superlative, hints, whether more of it is a higher value
    ("old", "older", "oldest", _AGE, True), ("young", "younger", "youngest", _AGE, False),
    ("large", "larger", "largest", _SIZE, True), ("big", "bigger", "biggest", _SIZE, True),
    ("small", "smaller", "smallest", _SIZE, False), ("high", "higher", "highest", _HEIGHT, True),
    ("tall", "taller", "tallest", _HEIGHT, True), ("low", "lower", "lowest", _HEIGHT, False),
    ("short", "shorter", "shortest", (*_LENGTH, "height"), False), ("long", "longer", "longest", _LENGTH, True),
    ("cheap", "cheaper", "cheapest", _PRICE, False), ("expensive", "", "", _PRICE, True),
    ("costly", "", "", _PRICE, True), ("heavy", "heavier", "heaviest", ("weight", "mass"), True),
    ("light", "lighter", "lightest", ("weight", "mass"), False),
    ("fast", "faster", "fastest", ("speed", "~time", "~duration", "horsepower", "accelerate"), True),
    ("slow", "slower", "slowest", ("speed", "~time", "~duration"), False), ("recent", "", "", _TIME, True),
    ("late", "later", "latest", _TIME, True), ("new", "newer", "newest", _TIME, True),
    ("early", "earlier", "earliest", _TIME, False), ("good", "better", "best", _QUALITY, True),
    ("bad", "worse", "worst", _QUALITY, False),
    ("rich", "richer", "richest", ("wealth", "income", "salary", "money", "balance"), True),
    ("deep", "deeper", "deepest", ("depth",), True), ("wide", "wider", "widest", ("width",), True),
    ("populous", "", "", ("population", "people"), True), ("populated", "", "", ("population", "people"), True),
    ("great", "greater", "greatest", (), True), ("densely populated", "", "", ("density",), True),
    ("profitable", "", "", ("profit", "revenue", "income"), True),
    ("dense", "denser", "densest", ("density",), True), ("close", "closer", "closest", ("distance",), False),
    ("far", "farther", "farthest", ("distance",), True), ("powerful", "", "", ("horsepower", "power"), True),
    ("paid", "", "", ("salary", "pay", "income", "wage"), True),
    ("highly paid", "", "", ("salary", "pay", "income", "wage"), True), ("highly rated", "", "", _QUALITY, True),
    ("top rated", "", "", _QUALITY, True),
)  # fmt: skip


def _say_adjectives() -> None:
    for base, comparative, superlative, hints, rising in _ADJECTIVES:
        more, less = (f"more {base}", f"less {base}") if not comparative else (comparative, "")
        most = superlative or f"most {base}"
        _say(Op(Role.SUPERLATIVE, base, hints, rising), most)
        if not superlative:
            _say(Op(Role.SUPERLATIVE, base, hints, not rising), f"least {base}")
        _say(Op(Role.COMPARE, ">" if rising else "<", hints), f"{more} than")
        if less:
            _say(Op(Role.COMPARE, "<" if rising else ">", hints), f"{less} than")


_say_adjectives()
for _word in ("rated", "ranked", "scoring"):
    _say(
        Op(Role.SUPERLATIVE, "good", _QUALITY),
        f"highest {_word}|best {_word}|highest-{_word}|best-{_word}|top-{_word}",
    )
    _say(Op(Role.SUPERLATIVE, "good", _QUALITY, descending=False), f"lowest {_word}|worst {_word}|lowest-{_word}")
_say(Op(Role.SUPERLATIVE, "paid", ("salary", "pay", "income", "wage")), "highest paid|best paid|highest-paid|best-paid")
_say(Op(Role.SUPERLATIVE, "paid", ("salary", "pay", "income", "wage"), descending=False), "lowest paid|lowest-paid")
_say(Op(Role.SUPERLATIVE, "price", _PRICE), "highest priced|highest-priced")
_say(Op(Role.SUPERLATIVE, "last", _TIME), "most recent|most recently|last")
_say(Op(Role.SUPERLATIVE, "first", _TIME, descending=False), "first|least recent")
_say(
    Op(Role.SUPERLATIVE, "most"),
    "most|most number of|greatest number of|largest number of|highest number of|maximum number of|"
    "biggest number of|most total|highest total|largest total|greatest amount of|largest amount of|"
    "most amount of|highest count of|maximum amount of",
)
_say(
    Op(Role.SUPERLATIVE, "least", descending=False),
    "least|fewest|fewest number of|least number of|smallest number of|lowest number of|minimum number of|"
    "lowest total|smallest total|least amount of|smallest amount of",
)
_say(
    Op(Role.POPULAR, "most"),
    "most common|most popular|most frequent|most frequently|most often|most commonly|most used|"
    "most commonly used|most frequently used",
)
_say(
    Op(Role.POPULAR, "least", descending=False),
    "least common|least popular|least frequent|rarest|least often|least used",
)
_say(Op(Role.TOP), "top|first")
_say(Op(Role.TOP, descending=False), "bottom")

_say(
    Op(Role.COUNT),
    "how many|number of|the number of|count of|total number of|count the number of|how many total|count|"
    "total count of|no. of|the count of|how often|number of times",
)
_say(Op(Role.AGGREGATE, "avg"), "average|mean|avg|averages|on average|average of|mean of|average value of")
_say(
    Op(Role.AGGREGATE, "sum"),
    "total|sum of|sum|overall|total amount of|combined|total sum of|how much|total value of|altogether|"
    "in total|how much total",
)
_say(Op(Role.AGGREGATE, "max"), "maximum|max|maximal|maximum of|maximum value of")
_say(Op(Role.AGGREGATE, "min"), "minimum|min|minimal|minimum of|minimum value of")
_say(
    Op(Role.RATIO),
    "ratio of|the ratio of|ratio between|proportion of|what proportion of|what fraction of|fraction of|ratio",
)
_say(Op(Role.PERCENT), "percentage of|percent of|what percentage of|what percent of|share of|the percentage of")
_say(Op(Role.TOTAL_OF), "out of")

_MORE: Final = (
    "more than|greater than|larger than|higher than|over|above|exceeding|exceeds|exceed|bigger than|"
    "in excess of|>|is greater than|beyond|no fewer than and more|upwards of"
)
_say(Op(Role.COMPARE, ">"), _MORE)
_say(Op(Role.COMPARE, ">", _TIME), "after|later than|since after|newer than|more recent than|more recently than")
_say(
    Op(Role.COMPARE, ">="),
    "at least|no less than|no fewer than|not less than|minimum of|or more|>=|greater than or equal to|"
    "more than or equal to|equal to or greater than|equal or greater than|at minimum",
)
_say(Op(Role.COMPARE, ">=", _TIME), "since|from or after|starting from|on or after|no earlier than|not before")
_say(Op(Role.COMPARE, "<"), "less than|fewer than|smaller than|lower than|under|below|<|is less than")
_say(Op(Role.COMPARE, "<", _TIME), "before|prior to|earlier than|older date than")
_say(
    Op(Role.COMPARE, "<="),
    "at most|no more than|not more than|up to|<=|less than or equal to|or less|or fewer|"
    "equal to or less than|not exceeding|maximum of|at maximum",
)
_say(Op(Role.COMPARE, "<=", _TIME), "until|on or before|no later than|by the end of|not after")
_say(Op(Role.COMPARE, "="), "exactly|equal to|equals|equal|=|the same as|precisely")
_say(
    Op(Role.COMPARE, "!="),
    "not equal to|other than|!=|<>|different from|not in|outside|outside of|is not|are not|not from|"
    "not the|differ from|different than|was not|were not|not located in",
)
_say(Op(Role.BETWEEN), "between|in the range of|ranging from|in the range|within the range of")
_say(
    Op(Role.NOT),
    "not|n't|no|without|never|don't|doesn't|didn't|haven't|hasn't|isn't|aren't|neither|nor|none of|"
    "cannot|can't|lack|lacks|lacking|wasn't|weren't|have no|has no|with no|did not|do not|does not|"
    "have not|has not|is no|are no",
)
_say(Op(Role.EXCEPT), "except|but not|excluding|except for|apart from|and not|but no")
_say(
    Op(Role.EACH),
    "for each|per|each|for every|every|grouped by|group by|by each|in each|of each|at each|from each|"
    "on each|across|broken down by|for all the different|for each of|to each|within each|with each|"
    "across different|for each unique|for each distinct|for each different|in every|of every|by every|"
    "under each|split by|for different|across all|for the different",
)
_say(
    Op(Role.ORDER),
    "ordered by|sorted by|order by|sort by|in order of|ordered|sorted|ranked by|order them by|"
    "sort them by|order the results by|sort the results by|order the result by|sort the result by|"
    "arranged by|arrange by|ordering by|in the order of|rank by|rank them by|list them by|sort|listed in|"
    "in order|ordered in|sorted in|order results by|sort results by|from",
)
del PHRASES[("from",)]
_say(
    Op(Role.DIRECTION, "desc"),
    "descending|decreasing|desc|descending order|decreasing order|in descending order|"
    "in decreasing order|in descending order of|in decreasing order of|descending order of|"
    "from highest to lowest|from the highest to the lowest|from high to low|highest first|"
    "highest to lowest|from most to least|from largest to smallest|from the largest to the smallest|"
    "largest first|from longest to shortest|from oldest to youngest|from the oldest to the youngest|"
    "from latest to earliest|from newest to oldest|most recent first|latest first|newest first|"
    "from biggest to smallest|from best to worst|in reverse order|reverse order|"
    "in reverse alphabetical order|reverse alphabetical order|in descending alphabetical order|"
    "in reverse lexicographical order|in descending lexicographical order|from the most to the least|"
    "from the longest to the shortest|from the best to the worst|from most expensive to cheapest|"
    "in descending",
)
_say(
    Op(Role.DIRECTION, "asc", descending=False),
    "ascending|increasing|asc|ascending order|increasing order|in ascending order|in increasing order|"
    "in ascending order of|in increasing order of|ascending order of|from lowest to highest|"
    "from the lowest to the highest|from low to high|lowest first|lowest to highest|from least to most|"
    "from smallest to largest|from the smallest to the largest|smallest first|from shortest to longest|"
    "from youngest to oldest|from the youngest to the oldest|from earliest to latest|"
    "from oldest to newest|earliest first|oldest first|chronologically|in chronological order|"
    "from worst to best|in ascending|from the shortest to the longest|chronological order",
)
_say(
    Op(Role.ALPHABETICAL, descending=False),
    "alphabetically|in alphabetical order|alphabetical order|in lexicographical order|lexicographically|"
    "in ascending alphabetical order|lexicographical order|in alphabetic order|in alphabetical order of|"
    "in lexicographical order of|alphabetical order of|in alphabetical order by|lexicographic order|"
    "in lexicographic order|lexicographic order of|in lexicographic order of|"
    "ascending alphabetical order|alphabetically by",
)
_say(
    Op(Role.DISTINCT),
    "distinct|different|unique|all the different|various|distinctive|the different|the distinct|"
    "the unique|unduplicated|without duplicates",
)
_say(Op(Role.AND), "and|,|as well as|along with|together with|&|and also|and then|plus")
_say(Op(Role.OR), "or|either")
_say(Op(Role.BOTH), "both|at the same time|simultaneously")
_say(Op(Role.ALSO), "also")
_say(
    Op(Role.RELATIVE),
    "that|which|who|whose|where|when|whom|having|such that|which has|who has|that have|that has|who have|"
    "which have|whose own|in which|to which|at which|for which|through which|of which|from which|"
    "on which|with which|by which|has|have|had",
)
_say(Op(Role.WITH), "with|containing|including|for whom|possessing")
_say(Op(Role.OF), "of|for|about|belonging to|associated with|corresponding to|in terms of|related to")
_say(
    Op(Role.IN),
    "in|from|at|on|by|to|during|within|into|located in|near|through|among|situated in|based in|under the|"
    "inside|via|throughout|out",
)
_say(
    Op(Role.PATTERN, "prefix"),
    "start with|starts with|starting with|begin with|begins with|beginning with|started with|"
    "that start with the letter|starts with the letter|start with the letter|starting with the letter|"
    "begins with the letter|beginning with the letter|begin with the letter|starts with letter|"
    "prefixed with",
)
_say(
    Op(Role.PATTERN, "suffix"),
    "end with|ends with|ending with|ends in|ending in|end with the letter|ends with the letter|"
    "ending with the letter|end in",
)
_say(
    Op(Role.PATTERN, "contains"),
    "contain|contains|containing the word|containing|include the word|includes the word|"
    "contains the word|contain the word|contain the letter|contains the letter|with the word|"
    "has the word|have the word|that has the substring|have the substring|has the substring|"
    "contains the substring|with the substring|includes the substring|contain the substring|"
    "containing the substring|the substring|substring|include the substring|containing the letter|"
    "contains the phrase|containing the phrase|like|has the letter|includes|include|matching|the letter|"
    "the word|with the letter|have the letter",
)
_say(
    Op(Role.MISSING, "null"),
    "null|missing|unknown|empty|unspecified|blank|not known|not available|not recorded|not specified|undefined",
)
_say(Op(Role.HOW, "", ("age",)), "how old")
_say(Op(Role.HOW, "", _LENGTH), "how long")
_say(Op(Role.HOW, "", _HEIGHT), "how high|how tall")
_say(Op(Role.HOW, "", _SIZE), "how big|how large")
_say(Op(Role.HOW, "", ("distance",)), "how far")
_say(Op(Role.HOW, "", ("weight",)), "how heavy")
_say(Op(Role.HOW, "", _PRICE), "how expensive")
_say(Op(Role.HOW, "", ("speed",)), "how fast")
_say(
    Op(Role.HOW, "", ("date", "year", "time")),
    "when did|when was|when were|when is|when are|on what date|what year|what date",
)
_say(
    Op(Role.HOW, "", ("location", "address", "city", "place", "street", "country", "state")),
    "where is|where are|where was|where were|where do|where does|where did",
)
del PHRASES[("what", "year")], PHRASES[("what", "date")]
_say(
    Op(Role.ASK),
    "what|which|show|list|find|give|return|tell|display|select|get|name the|who is|who are|who was|"
    "who were|what is|what are|please|provide|what's|whats|compute|calculate|present|identify|report|"
    "retrieve|state the|enumerate|print|fetch|what was|what were|show me|give me|tell me|list all|"
    "find all|output|see|want|like to know|count how|can you|return me|find out|determine",
)
_say(Op(Role.SENTENCE), "?|;|.")
_say(Op(Role.THEIR), "their|its|his|her|respective|the corresponding|corresponding")
_say(
    Op(Role.NAMED),
    "named|called|titled|entitled|with name|with the name|with title|with the title|whose name is|"
    "name is|with the name of|known as|by the name of",
)
_say(Op(Role.SAME), "the same|same")

STOP: Final = frozenset(
    [
        "the",
        "a",
        "an",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "being",
        "do",
        "does",
        "did",
        "doing",
        "there",
        "all",
        "any",
        "some",
        "it",
        "this",
        "these",
        "those",
        "we",
        "you",
        "i",
        "me",
        "my",
        "our",
        "us",
        "they",
        "them",
        "he",
        "she",
        "will",
        "would",
        "can",
        "could",
        "should",
        "also",
        "than",
        "then",
        "so",
        "as",
        "such",
        "database",
        "table",
        "record",
        "row",
        "entry",
        "info",
        "information",
        "one",
        "ones",
        "only",
        "just",
        "please",
        "currently",
        "ever",
        "actually",
        "recorded",
        "available",
        "total's",
        "exist",
        "exists",
        "existing",
        "there's",
        "together",
        "value",
        "values",
        "results",
        "result",
        "overall",
        "respectively",
        "per's",
        "much",
        "many",
        "whether",
        "own",
        "other",
        "others",
        "another",
        "more",
        "details",
        "they've",
        "he/she",
        "kind",
        "us'",
    ]
)
"""Words that say nothing that a query could."""

LONGEST: Final = max(len(phrase) for phrase in PHRASES)
