"""Row filters as people write them: `language == 'en' and length(text) > 200`.

The language is the part of Python's expressions that makes sense for columns; it is parsed by Python and computed by
Arrow, a whole table at a time. A row whose condition is null (it compares something that is null) does not pass, as in
SQL.
"""

import ast
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rnnlm.errors import ConfigError, DataError

COMPARE: dict[type[ast.cmpop], Callable[..., Any]] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}
ARITHMETIC: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: pc.add,
    ast.Sub: pc.subtract,
    ast.Mult: pc.multiply,
    ast.Div: pc.divide,
}
FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "length": (1, pc.utf8_length),
    "lower": (1, pc.utf8_lower),
    "abs": (1, pc.abs),
    "is_finite": (1, pc.is_finite),
    "startswith": (2, lambda column, prefix: pc.starts_with(column, pattern=prefix)),
    "endswith": (2, lambda column, suffix: pc.ends_with(column, pattern=suffix)),
    "contains": (2, pc.match_substring),
    "matches": (2, pc.match_substring_regex),
}
HELP = f"column names, values, == != < <= > >=, in [..], is None, and, or, not, + - * /, {', '.join(FUNCTIONS)}(..)"


class RowFilter:
    """A parsed filter. `columns` are the names it needs; a name that is no identifier is written `col('a name')`."""

    def __init__(self, text: str) -> None:
        """Raises ConfigError if the text is not a filter."""
        self.text = text
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            raise ConfigError(f"corpus.where: cannot read {text!r}: {error.msg}; it takes {HELP}") from error
        self.columns = sorted({name for node in ast.walk(self._tree) if (name := _column(node)) is not None})

    def check(self, schema: pa.Schema) -> None:
        """Raise ConfigError if the filter does not fit the schema's names and types."""
        missing = [name for name in self.columns if name not in schema.names]
        if missing:
            raise ConfigError(f"corpus.where: there is no column '{missing[0]}' among {', '.join(schema.names)}")
        self.mask(schema.empty_table())

    def mask(self, table: pa.Table) -> pa.ChunkedArray | pa.Array:
        """One boolean a row, never null. Raises ConfigError if the filter does not fit the columns, DataError at bytes
        that are no text."""
        try:
            found = self._value(self._tree, table)
            if isinstance(found, pa.Scalar):
                found = pa.repeat(found, table.num_rows)
            if not pa.types.is_boolean(found.type):
                raise ConfigError(f"corpus.where: {self.text!r} gives {found.type}, a condition is needed")
            return pc.fill_null(found, False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            problem = str(error).splitlines()[0]
            if "Invalid UTF8" in problem:
                raise DataError(
                    f"corpus.where: {self.text!r} meets a text that is not valid UTF-8",
                    todo="write the column again, or leave out lower()",
                ) from error
            raise ConfigError(f"corpus.where: {self.text!r} does not fit the columns: {problem}") from error

    def _value(self, node: ast.expr, table: pa.Table) -> Any:  # noqa: PLR0911 - one return a kind of node
        name = _column(node)
        if name is not None:
            return _plain(table.column(name))
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None):
                return pa.scalar(node.value)
            case ast.UnaryOp(op=ast.Not()):
                return pc.invert(self._value(node.operand, table))
            case ast.UnaryOp(op=ast.USub()):
                return pc.negate(self._value(node.operand, table))
            case ast.BoolOp():
                combine = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
                values = [self._value(value, table) for value in node.values]
                result = values[0]
                for value in values[1:]:
                    result = combine(result, value)
                return result
            case ast.BinOp() if type(node.op) in ARITHMETIC:
                return ARITHMETIC[type(node.op)](self._value(node.left, table), self._value(node.right, table))
            case ast.Compare():
                return self._comparison(node, table)
            case ast.Call(func=ast.Name(id=function)) if function in FUNCTIONS and not node.keywords:
                return self._call(function, node.args, table)
        raise ConfigError(f"corpus.where: cannot use {ast.unparse(node)!r}; it takes {HELP}")

    def _comparison(self, node: ast.Compare, table: pa.Table) -> Any:
        """`a < b < c` is `a < b and b < c`, as in Python."""
        result: Any = None
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(operator, ast.In | ast.NotIn):
                if not isinstance(right, ast.List | ast.Tuple | ast.Set):
                    raise ConfigError(f"corpus.where: {ast.unparse(right)!r} is not a list, as in x in ['a', 'b']")
                given = self._value(left, table)
                values = pa.array([self._value(item, table).as_py() for item in right.elts])
                found = pc.is_in(given, value_set=values.cast(given.type))
                found = pc.invert(found) if isinstance(operator, ast.NotIn) else found
            elif isinstance(operator, ast.Is | ast.IsNot):
                if not (isinstance(right, ast.Constant) and right.value is None):
                    raise ConfigError("corpus.where: `is` is for None; write == for other values")
                check = pc.is_null if isinstance(operator, ast.Is) else pc.is_valid
                found = check(self._value(left, table))
            else:
                found = COMPARE[type(operator)](self._value(left, table), self._value(right, table))
            result = found if result is None else pc.and_kleene(result, found)
            left = right
        return result

    def _call(self, function: str, arguments: Sequence[ast.expr], table: pa.Table) -> Any:
        count, compute = FUNCTIONS[function]
        if len(arguments) != count:
            raise ConfigError(f"corpus.where: {function}() takes {count} argument(s), {len(arguments)} given")
        first = self._value(arguments[0], table)
        rest = [argument.value for argument in arguments[1:] if isinstance(argument, ast.Constant)]
        if len(rest) != count - 1 or not all(isinstance(value, str) for value in rest):
            raise ConfigError(f"corpus.where: the last argument of {function}() must be a string")
        return compute(first, *rest)


def _column(node: ast.AST) -> str | None:
    """The column a node names, or None."""
    match node:
        case ast.Call(func=ast.Name(id="col"), args=[ast.Constant(value=str() as name)], keywords=[]):
            return name
        case ast.Name(id=name) if name not in {*FUNCTIONS, "col"}:
            return name
    return None


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Strings of any layout as plain strings, since few functions know dictionaries and views."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string_view(kind):
        kind = pa.string()
    return column if kind == column.type else column.cast(kind)
