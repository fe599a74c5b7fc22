"""A plug-in of mypy: a learner has its knobs as attributes.

The catalog writes a learner's constructor when it is imported: its own keyword arguments and those
of the functions in `shared_knobs`, each stored under its name. So `self.lr` is right where `lr` is
one of them, and `self.rl` is an error.
"""

from collections.abc import Callable, Iterable

from mypy.nodes import (
    MDEF,
    AssignmentStmt,
    ClassDef,
    FuncDef,
    NameExpr,
    RefExpr,
    SymbolTableNode,
    TupleExpr,
    Var,
)
from mypy.plugin import ClassDefContext, Plugin
from mypy.types import AnyType, TypeOfAny

LEARNER = "stackwise.learning.learner.Learner"


def own_knobs(definition: ClassDef) -> Iterable[str]:
    """The keyword arguments of the constructor that a class has itself."""
    found = definition.info.names.get("__init__")
    if found is not None and isinstance(found.node, FuncDef):
        yield from filter(None, found.node.arg_names[1:])


def shared_knobs(context: ClassDefContext) -> Iterable[str]:
    """The arguments of the functions that a class names in `shared_knobs`."""
    for statement in context.cls.defs.body:
        if not isinstance(statement, AssignmentStmt) or not isinstance(statement.rvalue, TupleExpr):
            continue
        target = statement.lvalues[0]
        if not isinstance(target, NameExpr) or target.name != "shared_knobs":
            continue
        for item in statement.rvalue.items:
            if isinstance(item, RefExpr) and isinstance(item.node, FuncDef):
                yield from filter(None, item.node.arg_names)


def add_knobs(context: ClassDefContext) -> None:
    """Give the class an attribute for each knob that it has not."""
    info = context.cls.info
    if not any(base.fullname == LEARNER for base in info.mro):
        return
    for name in (*own_knobs(context.cls), *shared_knobs(context)):
        if info.get(name) is None:
            knob = Var(name, AnyType(TypeOfAny.explicit))
            knob.info = info
            knob._fullname = f"{info.fullname}.{name}"
            info.names[name] = SymbolTableNode(MDEF, knob, plugin_generated=True)


class Knobs(Plugin):
    """Sees every class that derives from one of this library."""

    def get_base_class_hook(self, fullname: str) -> Callable[[ClassDefContext], None] | None:
        """What is done with a class that has a base of this name."""
        return add_knobs if fullname.startswith("stackwise.") else None


def plugin(version: str) -> type[Plugin]:
    """What mypy asks for."""
    return Knobs
