"""A tiny collection, on which a method is tried in a second."""

from typing import Any

THINGS = ("box", "fox", "ball", "tree", "stone", "river")
COLOURS = ("red", "green", "blue", "small", "large")


def small_collection() -> dict[str, Any]:
    """30 sentences about things of a colour, and a query for each."""
    both = [(colour, thing) for thing in THINGS for colour in COLOURS]
    documents = [
        {"_id": f"d{place}", "title": f"The {colour} {thing}",
         "text": f"Here is a {thing}. It is {colour}, and it lies near the house."}
        for place, (colour, thing) in enumerate(both)
    ]  # fmt: skip
    queries = [
        {"_id": f"q{place}", "text": f"where is the {colour} {thing}?"}
        for place, (colour, thing) in enumerate(both)
    ]
    judged = [(f"q{place}", f"d{place}", 1) for place in range(len(both))]
    return {"documents": documents, "queries": queries, "judgements": judged}
