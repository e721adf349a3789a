"""Conversations made of exercises: a pure function of a seed, with one fixed split of their arguments.

Whether an argument is held out depends on itself alone, neither on the seed nor on the language, so that no seed of
the training set can show what any seed of the held-out set asks. (What the base has seen is another matter: the
quickstart's pretraining text states sums of its own.)
"""

from hashlib import blake2b
from random import Random

from tsugiki.quickstart.instruct.examples import Argument, Example
from tsugiki.quickstart.instruct.exercises import KINDS, Exercise, Kind

LANGUAGES = ("en", "ja")
HELD_OUT_ONE_IN = 8
"""Of the arguments."""
MORE_TURNS = 0.2
"""Share of conversations with a second exercise of the same kind, and of those with a third."""
BARE = 0.15
"""Share of conversations on numbers whose system message asks for the number alone."""
BARE_SYSTEM = {"en": "Answer with the number only.", "ja": "数字だけで答えてください。"}


def generated(seed: int, count: int, *, held_out: bool = False) -> list[Example]:
    """`count` conversations, no two alike, English and Japanese by turns; a longer list begins with the shorter."""
    examples: list[Example] = []
    seen = set()
    trial = 0
    while len(examples) < count:
        random = Random(f"instruct/{seed}/{held_out}/{trial}")
        kind = KINDS[trial // 2 % len(KINDS)]
        example = _conversation(random, kind, LANGUAGES[len(examples) % 2], held_out)
        if example.messages not in seen:
            seen.add(example.messages)
            examples.append(example)
        trial += 1
    return examples


def is_held_out(argument: Argument) -> bool:
    """Which side of the split an argument is on."""
    digest = blake2b(repr(argument).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_ONE_IN == 0


def _conversation(random: Random, kind: Kind, language: str, held_out: bool) -> Example:
    exercises = [_exercise(random, kind, language, held_out)]
    while len(exercises) < 3 and random.random() < MORE_TURNS:
        exercises.append(_exercise(random, kind, language, held_out))
    messages: list[tuple[str, str]] = []
    bare = bool(exercises[0].number) and random.random() < BARE
    if bare:
        messages.append(("system", BARE_SYSTEM[language]))
    for exercise in exercises:
        messages += [("user", exercise.question), ("assistant", exercise.number if bare else exercise.answer)]
    return Example(language, kind.__name__, tuple(messages), tuple(exercise.argument for exercise in exercises))


def _exercise(random: Random, kind: Kind, language: str, held_out: bool) -> Exercise:
    while True:
        exercise = kind(random, language)
        if is_held_out(exercise.argument) == held_out:
            return exercise
