"""Word problems: a small story, its calculation, and an answer in a sentence. See `mathematics.py`."""

from collections.abc import Callable
from random import Random

NAMES = ("Mira", "Tom", "Aiko", "Daniel", "Ruth", "Kenji", "Elena", "Samuel", "Nadia", "Peter", "Yuki", "Clara")
GOODS = (
    ("apple", "apples"),
    ("pencil", "pencils"),
    ("stamp", "stamps"),
    ("candle", "candles"),
    ("notebook", "notebooks"),
)


def shopping(random: Random) -> str:
    """Cost of a purchase and the change."""
    name, (one, many) = random.choice(NAMES), random.choice(GOODS)
    count, price = random.randint(3, 12), random.randint(4, 45)
    cost = count * price
    paid = -(-(cost + 1) // 50) * 50
    return (
        f"{name} buys {count} {many}. Each {one} costs {price} cents, and {name} pays with {paid} cents. "
        "How much comes back?\n"
        f"The {many} cost {count} × {price} = {cost} cents. The change is {paid} - {cost} = {paid - cost} cents.\n"
        f"Answer: {paid - cost} cents."
    )


def journey(random: Random) -> str:
    """Distance, speed and time, any one of them asked for."""
    speed, hours = random.randint(4, 24) * 5, random.randint(2, 9)
    vehicle = random.choice(("train", "bus", "cyclist", "lorry", "ship"))
    way = speed * hours
    kind = random.randint(0, 2)
    if kind == 0:
        return (
            f"A {vehicle} keeps up {speed} kilometres an hour for {hours} hours. How far does it get?\n"
            f"Distance is speed times time: {speed} × {hours} = {way}.\nAnswer: {way} kilometres."
        )
    if kind == 1:
        return (
            f"How long does a {vehicle} need for {way} kilometres at {speed} kilometres an hour?\n"
            f"Time is distance over speed: {way} ÷ {speed} = {hours}.\nAnswer: {hours} hours."
        )
    return (
        f"A {vehicle} covers {way} kilometres in {hours} hours. What is its average speed?\n"
        f"Speed is distance over time: {way} ÷ {hours} = {speed}.\nAnswer: {speed} kilometres an hour."
    )


def sharing(random: Random) -> str:
    """Things shared out with some left over."""
    children, each = random.randint(3, 11), random.randint(4, 25)
    left = random.randint(1, children - 1)
    total = children * each + left
    thing = random.choice(("marbles", "cards", "shells", "sweets", "beads"))
    return (
        f"{total} {thing} are shared equally among {children} children. "
        "How many does each get, and how many are left?\n"
        f"{children} × {each} = {children * each} can be shared, and {total} - {children * each} = {left} remain.\n"
        f"Answer: {each} each, {left} left over."
    )


def ages(random: Random) -> str:
    """An equation from a sentence about two ages."""
    younger, older = random.sample(NAMES, 2)
    x, gap = random.randint(4, 16), random.randint(2, 12)
    total = 2 * x + gap
    return (
        f"{older} is {gap} years older than {younger}. Together they are {total}. How old is each of them?\n"
        f"Let x be the age of {younger}. Then x + x + {gap} = {total}, so 2x = {total} - {gap} = {2 * x} and x = {x}.\n"
        f"{older} is {x} + {gap} = {x + gap}.\nAnswer: {younger} is {x} and {older} is {x + gap}."
    )


def rectangle(random: Random) -> str:
    """Area and fence of a rectangle."""
    width, length = random.randint(3, 25), random.randint(26, 60)
    place = random.choice(("garden", "field", "hall", "courtyard"))
    return (
        f"A rectangular {place} is {length} metres long and {width} metres wide. "
        "Find its area and the length of its border.\n"
        f"Area: {length} × {width} = {length * width} square metres.\n"
        f"Border: 2 × ({length} + {width}) = 2 × {length + width} = {2 * (length + width)} metres."
    )


def average(random: Random) -> str:
    """The mean of some measurements, made to come out whole."""
    count = random.choice((3, 4, 5))
    values = [random.randint(8, 60) for _ in range(count)]
    values[-1] += -sum(values) % count
    what = random.choice(("temperatures", "marks", "catches of a fishing boat", "visitors on some days"))
    shown = " + ".join(map(str, values))
    return (
        f"What is the average of these {what}: {', '.join(map(str, values))}?\n"
        f"The sum is {shown} = {sum(values)}. "
        f"There are {count} values, and {sum(values)} ÷ {count} = {sum(values) // count}.\n"
        f"Answer: {sum(values) // count}."
    )


def recipe(random: Random) -> str:
    """Quantities for another number of people."""
    people, per_head = random.choice((2, 3, 4, 5, 6)), random.randint(3, 16) * 5
    guests = people + random.randint(2, 9)
    what = random.choice(("flour", "rice", "potatoes", "lentils", "sugar"))
    return (
        f"For {people} people a cook takes {people * per_head} grams of {what}. How much is needed for {guests}?\n"
        f"One person needs {people * per_head} ÷ {people} = {per_head} grams, "
        f"so {guests} people need {guests} × {per_head} = "
        f"{guests * per_head} grams.\nAnswer: {guests * per_head} grams."
    )


def filling(random: Random) -> str:
    """Two taps and a tank."""
    first, second, minutes = random.randint(6, 30), random.randint(6, 30), random.randint(5, 24)
    both = first + second
    return (
        f"One tap brings {first} litres a minute, another {second}. How long do they need together to fill a tank of "
        f"{both * minutes} litres?\nTogether they bring {first} + {second} = {both} litres a minute. "
        f"{both * minutes} ÷ {both} = {minutes}.\nAnswer: {minutes} minutes."
    )


def saving(random: Random) -> str:
    """How many weeks until enough is saved."""
    name, weekly, weeks, start = (
        random.choice(NAMES),
        random.randint(3, 20),
        random.randint(4, 20),
        random.randint(5, 60),
    )
    goal = start + weekly * weeks
    thing = random.choice(("a bicycle", "a violin", "a telescope", "a train ticket", "a camera"))
    return (
        f"{name} has {start} coins and saves {weekly} more every week for {thing} that costs {goal}. "
        "How many weeks will it take?\n"
        f"Still missing are {goal} - {start} = {goal - start} coins. {goal - start} ÷ {weekly} = {weeks}.\n"
        f"Answer: {weeks} weeks."
    )


def clock(random: Random) -> str:
    """Minutes into hours and minutes."""
    hours, minutes = random.randint(2, 6), random.randint(5, 55)
    total = hours * 60 + minutes
    return (
        f"A job takes {total} minutes. How many hours and minutes is that?\n"
        f"{hours} × 60 = {hours * 60}, and {total} - {hours * 60} = {minutes}.\n"
        f"Answer: {hours} hours and {minutes} minutes."
    )


def digits(random: Random) -> str:
    """A number from its place values."""
    a, b, c = random.randint(1, 9), random.randint(0, 9), random.randint(0, 9)
    number = 100 * a + 10 * b + c
    return (
        f"Which number has {a} hundreds, {b} tens and {c} ones, and what is the sum of its digits?\n"
        f"100 × {a} + 10 × {b} + {c} = {number}, and {a} + {b} + {c} = {a + b + c}.\n"
        f"Answer: {number}, with digit sum {a + b + c}."
    )


def rows(random: Random) -> str:
    """Seats or plants in rows, some missing."""
    count, each, missing = random.randint(6, 24), random.randint(8, 30), random.randint(2, 40)
    total = count * each
    place, thing = random.choice(
        (("A theatre", "seats"), ("An orchard", "trees"), ("A car park", "places"), ("A vineyard", "vines"))
    )
    return (
        f"{place} has {count} rows of {each} {thing}. If {missing} of the {thing} are taken away, how many remain?\n"
        f"At first there are {count} × {each} = {total}. Then {total} - {missing} = {total - missing}.\n"
        f"Answer: {total - missing} {thing}."
    )


WORD_PROBLEMS: tuple[Callable[[Random], str], ...] = (
    shopping, journey, sharing, ages, rectangle, average, recipe, filling, saving, clock, digits, rows,
)  # fmt: skip
