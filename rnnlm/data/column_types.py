"""What Arrow's many types of columns hold, whichever of them a file happens to use."""

import pyarrow as pa


def plain(kind: pa.DataType) -> pa.DataType:
    """The type of the values, where they are stored once each (dictionary encoded)."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_text(kind: pa.DataType) -> bool:
    """Whether it is text, of any size and layout."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether it is a list, of any size and layout."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
