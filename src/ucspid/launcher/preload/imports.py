"""What is imported in advance for a script: the imports that it begins with."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from types import CodeType


def leading_imports(source: bytes, file: str) -> list[tuple[str, CodeType]]:
    """Return the imports before a script's first other statement: names of modules, and what imports them.

    What comes after that may depend on it: a script may change sys.path first, or look whether a module is
    there. Raises SyntaxError and ValueError.
    """
    import ast  # noqa: PLC0415 - modules are imported without it

    def code(node: ast.stmt) -> CodeType:
        return compile(ast.Module([node], []), file, "exec", dont_inherit=True)

    found: list[tuple[str, CodeType]] = []
    for node in ast.parse(source, file).body:
        if isinstance(node, ast.Import):
            found.append((", ".join(alias.name for alias in node.names), code(node)))
        elif isinstance(node, ast.ImportFrom) and node.module == "__future__":
            continue
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append((node.module, code(node)))
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            break
    return found
