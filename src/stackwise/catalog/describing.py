"""What `help` shows of a learner: a plain signature, and its knobs as numpydoc's Parameters.

The knobs stand once, in the signature's annotations. There they carry bounds and search ranges,
which no reader wants in a signature; here they become the section that scikit-learn's users know.
"""

import inspect
import textwrap
import typing
from collections.abc import Collection, Mapping

from stackwise.knobs import KnobSpec

WIDTH = 96


def plain_parameters(parameters: Mapping[str, inspect.Parameter]) -> list[inspect.Parameter]:
    """The parameters as a reader wants them: name and default, without the knob's annotation."""
    return [
        one.replace(annotation=one.empty)
        if typing.get_origin(one.annotation) is typing.Annotated
        else one
        for one in parameters.values()
    ]


def with_parameters(
    text: str | None, knobs: Mapping[str, KnobSpec], own: Collection[str] = ()
) -> str:
    """A class's docstring, and its knobs under `Parameters`.

    Args:
        own: the knobs that it does not share with others: they come first, and what is shared
            stands below, under `Other Parameters`. All are one section where none is.
    """
    written = inspect.cleandoc(text or "")
    if not knobs or "\nParameters\n---" in written:
        return written
    first = {name: spec for name, spec in knobs.items() if name in own} or knobs
    rest = {name: spec for name, spec in knobs.items() if name not in first}
    lines = [written, *_section("Parameters", first)]
    if rest:
        lines += _section("Other Parameters", rest)
    return "\n".join(lines) + "\n"


def _section(title: str, knobs: Mapping[str, KnobSpec]) -> list[str]:
    lines = ["", title, "-" * len(title)]
    for name, spec in knobs.items():
        default = "" if spec.required else f", default={spec.default!r}"
        lines.append(f"{name} : {_takes(spec)}{default}")
        help_ = spec.knob.help
        sentence = help_[:1].upper() + help_[1:].rstrip(".") + "."
        lines += textwrap.wrap(sentence, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return lines


def _takes(spec: KnobSpec) -> str:
    """The values in numpydoc's words: `{'constant', 'cosine'}`, `int, at least 1, or None`."""
    words = spec.describe().removesuffix(" or none")
    if spec.choices:
        named = "{" + ", ".join(repr(choice) for choice in spec.choices) + "}"
        words = words.replace(", ".join(str(choice) for choice in spec.choices), named, 1)
    return words + (", or None" if spec.optional else "")
