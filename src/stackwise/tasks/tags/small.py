"""Small tagged sentences on which a method is tried in a second."""


def small_sentences() -> tuple[list[list[str]], list[list[str]]]:
    """60 sentences with names of two types in them, some of two words, and their tags."""
    drugs = (["Xanax"], ["Abilify"], ["Zoloft"], ["Plan", "Nine"], ["Cipro"])
    places = (["Rome"], ["New", "York"], ["Oslo"])
    forms = (
        "I took {} in {}",
        "{} did not help in {} .",
        "they sell {} near {} now",
        "no {} for us ;",
    )
    sentences, tags = [], []
    for form in forms:
        for drug in drugs:
            for place in places:
                words, marks = [], []
                names = iter((("drug", drug), ("place", place)))
                for word in form.split():
                    if word != "{}":
                        words.append(word)
                        marks.append("O")
                        continue
                    type_, name = next(names)
                    words += name
                    marks += [f"B-{type_}", *[f"I-{type_}"] * (len(name) - 1)]
                sentences.append(words)
                tags.append(marks)
    return sentences, tags
