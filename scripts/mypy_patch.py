"""A mypy plugin that knows methods added by fastcore's `@patch`.

fastcore makes a function a method of the class that its first parameter is annotated with. mypy takes it for a function of the
module, so that every call of the method is an error, and no wrong call of it is found. This plugin moves such a function into the
body of its class once a file is parsed. The class must stand in the same file.

`@patch` gives a method, `@patch(as_prop=True)` a property, `@patch(cls_method=True)` a class method. mypy.ini names the plugin, and
sets `native_parser = False`: mypy's own parser makes the syntax tree only after plugins were asked.
"""

from mypy.nodes import CallExpr, ClassDef, Decorator, Expression, FuncDef, MypyFile, NameExpr, Var
from mypy.plugin import Plugin
from mypy.types import AnyType, CallableType, TypeOfAny, UnboundType

KINDS = {"as_prop": "property", "cls_method": "classmethod"}


def kind_of(decorator: Expression) -> str | None:
    "What `@patch` makes of a function: `method`, `property` or `classmethod`; None for another decorator."
    if isinstance(decorator, NameExpr) and decorator.name == "patch":
        return "method"
    if isinstance(decorator, CallExpr) and kind_of(decorator.callee):
        given = [name for name, value in zip(decorator.arg_names, decorator.args) if isinstance(value, NameExpr) and value.name == "True"]
        return next((KINDS[name] for name in given if name in KINDS), "method")
    return None


def owner(function: FuncDef) -> str:
    "The name of the class that the first parameter is annotated with, empty where there is none."
    kind = function.type
    first = kind.arg_types[0] if isinstance(kind, CallableType) and kind.arg_types else None
    return first.name if isinstance(first, UnboundType) else ""


def move(patched: Decorator, kind: str, target: ClassDef) -> None:
    "Put a patched function into the body of its class."
    function = patched.func
    function.type.arg_types[0] = AnyType(TypeOfAny.unannotated)  # as `self` and `cls` are without annotation
    function.unanalyzed_type.arg_types[0] = AnyType(TypeOfAny.unannotated)
    if kind == "method":
        function.is_decorated = False
        target.defs.body.append(function)
        return
    decorator = NameExpr(kind)
    decorator.set_line(patched)
    method = Decorator(function, [decorator], Var(function.name))
    method.set_line(patched)
    target.defs.body.append(method)


class PatchPlugin(Plugin):
    "Moves patched functions; mypy asks for dependencies once a file is parsed, and before it looks at the definitions."

    def get_additional_deps(self, file: MypyFile) -> list[tuple[int, str, int]]:
        classes = {d.name: d for d in file.defs if isinstance(d, ClassDef)}
        for patched in [d for d in file.defs if isinstance(d, Decorator) and len(d.original_decorators) == 1]:
            kind, target = kind_of(patched.original_decorators[0]), classes.get(owner(patched.func))
            if kind and target:
                move(patched, kind, target)
                file.defs.remove(patched)
        return []


def plugin(version: str) -> type[Plugin]:
    "What mypy calls."
    return PatchPlugin
