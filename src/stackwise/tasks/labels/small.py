"""Small labelled texts on which a method is tried in a second."""


def small_texts() -> tuple[list[str], list[str]]:
    """72 sentences of three subjects, and the subject of each."""
    things = {
        "weather": ("rain", "snow", "wind", "sun"),
        "food": ("bread", "soup", "cheese", "fruit"),
        "travel": ("train", "ship", "road", "bridge"),
    }
    forms = (
        "the {} was good today", "we talked about the {}", "no {} for us this week",
        "the {} came late again", "who has seen the {}?", "they like the {} best",
    )  # fmt: skip
    pairs = [
        (form.format(word), subject)
        for form in forms for subject, words in things.items() for word in words
    ]  # fmt: skip
    return [text for text, _ in pairs], [subject for _, subject in pairs]
