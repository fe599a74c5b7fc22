"""Porter's stemmer: English words without their endings, so that "running" and "runs" meet.

An algorithm of 1980 in five steps, each of which takes off, or changes, one ending where what
stands before it is long enough. The measure m of a stem counts changes from vowels to consonants:

    [C] (V C){m} [V]        tr: 0, trouble: 1, private: 2

Words that hold other letters than a to z are left as they are, and so are those of one or two.
"""

import functools
import re

VOWELS = "aeiou"
STEP_2 = (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"),
    ("abli", "able"), ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"),
    ("ization", "ize"), ("ation", "ate"), ("ator", "ate"), ("alism", "al"), ("iveness", "ive"),
    ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"), ("iviti", "ive"), ("biliti", "ble"),
)  # fmt: skip
STEP_3 = (
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""),
    ("ness", ""),
)  # fmt: skip
STEP_4 = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou",
    "ism", "ate", "iti", "ous", "ive", "ize",
)  # fmt: skip


@functools.lru_cache(maxsize=1 << 17)
def stem(word: str) -> str:
    """The stem of a word in lower case."""
    if len(word) <= 2 or not re.fullmatch("[a-z]+", word):
        return word
    word = _plurals(word)
    word = _past(word)
    if word.endswith("y") and _has_vowel(word[:-1]):
        word = word[:-1] + "i"
    word = _replaced(word, STEP_2)
    word = _replaced(word, STEP_3)
    word = _taken_off(word)
    return _tidy(word)


def _is_consonant(word: str, place: int) -> bool:
    letter = word[place]
    if letter in VOWELS:
        return False
    # y is a vowel behind a consonant: in "syzygy" each one is
    return letter != "y" or place == 0 or not _is_consonant(word, place - 1)


def _kinds(stem: str) -> str:
    return "".join("c" if _is_consonant(stem, place) else "v" for place in range(len(stem)))


def _measure(stem: str) -> int:
    """How often consonants follow vowels."""
    return len(re.findall("v+c+", _kinds(stem)))


def _has_vowel(stem: str) -> bool:
    return "v" in _kinds(stem)


def _doubled(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _is_consonant(word, len(word) - 1)


def _short_end(word: str) -> bool:
    """It ends consonant, vowel, consonant, the last not w, x or y: hop, fil."""
    return _kinds(word).endswith("cvc") and word[-1] not in "wxy"


def _plurals(word: str) -> str:
    if word.endswith(("sses", "ies")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past(word: str) -> str:
    """eed, ed and ing."""
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    ending = next((one for one in ("ed", "ing") if word.endswith(one)), None)
    if ending is None or not _has_vowel(word[: -len(ending)]):
        return word
    word = word[: -len(ending)]
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if _doubled(word) and word[-1] not in "lsz":
        return word[:-1]
    return word + "e" if _measure(word) == 1 and _short_end(word) else word


def _replaced(word: str, rules: tuple[tuple[str, str], ...]) -> str:
    """The longest ending that a rule names, changed where m > 0 of what stands before it."""
    fitting = [(old, new) for old, new in rules if word.endswith(old)]
    if not fitting:
        return word
    old, new = max(fitting, key=lambda rule: len(rule[0]))
    kept = word[: -len(old)]
    return kept + new if _measure(kept) > 0 else word


def _taken_off(word: str) -> str:
    """The longest ending of the fourth step, taken off where m > 1 of what stands before it."""
    fitting = [ending for ending in STEP_4 if word.endswith(ending)]
    if not fitting:
        return word
    ending = max(fitting, key=len)
    kept = word[: -len(ending)]
    if _measure(kept) <= 1 or (ending == "ion" and not kept.endswith(("s", "t"))):
        return word
    return kept


def _tidy(word: str) -> str:
    """A last e, and the second l of two."""
    if word.endswith("e"):
        kept = word[:-1]
        if _measure(kept) > 1 or (_measure(kept) == 1 and not _short_end(kept)):
            word = kept
    return word[:-1] if word.endswith("ll") and _measure(word) > 1 else word
