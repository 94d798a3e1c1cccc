"""Texts that match a regular expression from their beginning to their end.

`interegular` makes the expression a deterministic automaton over characters; here it becomes one over the bytes of
UTF-8, since a token may hold a part of a character.
"""

from collections.abc import Mapping
from typing import Any

import interegular
import numpy as np
from interegular.fsm import FSM, anything_else

from rnnlm.decoding.rules.automaton import (
    AutomatonRule,
    ByteAutomaton,
    TokenTable,
    check_possible,
    token_distances,
)
from rnnlm.decoding.rules.token_text import TokenTexts
from rnnlm.errors import ConfigError

LAST = 0x10FFFF
# The second byte is bounded behind these (Unicode, table 3-7): no surrogates, no overlong forms.
SECOND = {0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F), 0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}

Key = tuple[int, bytes | int]  # a state, and the first bytes of a character or the number of bytes yet to come of one


def pattern_rule(pattern: str, texts: TokenTexts, max_tokens: int) -> AutomatonRule:
    """The rule that the text of all tokens matches `pattern`. Raises ConfigError if it is none, or allows nothing."""
    table = TokenTable(byte_automaton(pattern), texts)
    distances = token_distances(table, "decoding.pattern")
    check_possible(int(distances[table.begin]), max_tokens, "decoding.pattern")
    return AutomatonRule(table, distances, max_tokens)


def byte_automaton(pattern: str) -> ByteAutomaton:
    """The automaton of a regular expression over UTF-8."""
    try:
        found = interegular.parse_pattern(pattern).to_fsm()
    except (interegular.InvalidSyntax, interegular.Unsupported) as error:
        reason = " ".join(str(error).split()) or "it is no regular expression"
        raise ConfigError(f"decoding.pattern: {pattern!r} cannot be used: {reason}") from error
    return _Bytes(found).automaton()


class _Bytes:
    """Makes characters bytes."""

    def __init__(self, fsm: FSM) -> None:
        self._fsm = fsm
        self._outgoing: Mapping[Any, Mapping[Any, Any]] = fsm.map
        symbols = {ord(char): symbol for char, symbol in fsm.alphabet.items() if char is not anything_else}
        self._other = fsm.alphabet[anything_else]
        # Runs of characters that lead to the same: the last of each, and its symbol.
        listed = sorted(symbols)
        runs: list[tuple[int, int]] = []
        for point, following in zip(listed, [*listed, LAST + 1][1:], strict=True):
            if not runs and point > 0:
                runs.append((point - 1, self._other))
            runs.append((point, symbols[point]))
            if following > point + 1:
                runs.append((following - 1, self._other))
        runs = runs or [(LAST, self._other)]
        kept = [one for one, after in zip(runs, [*runs[1:], (0, -1)], strict=True) if one[1] != after[1]]
        self._ends = np.array([end for end, _ in kept])
        self._symbols = np.array([symbol for _, symbol in kept])
        self._live = {state for state in fsm.states if fsm.islive(state)}

    def automaton(self) -> ByteAutomaton:
        """All states that can be reached, numbered as they are met."""
        names: dict[Key, int] = {(int(self._fsm.initial), b""): 1}
        if self._fsm.initial not in self._live:
            return ByteAutomaton(np.zeros((2, 256), dtype=np.int32), 1, np.zeros(2, dtype=np.bool_))
        todo, rows = list(names), [np.zeros(256, dtype=np.int32)]
        for key in todo:  # grows on the way
            row = np.zeros(256, dtype=np.int32)
            for byte, target in self._steps(key):
                if target not in names:
                    names[target] = len(names) + 1
                    todo.append(target)
                row[byte] = names[target]
            rows.append(row)
        accepting = [False, *(rest == b"" and state in self._fsm.finals for state, rest in todo)]
        return ByteAutomaton(np.stack(rows), 1, np.array(accepting))

    def _steps(self, key: Key) -> list[tuple[int, Key]]:
        """The bytes that lead on, and where to."""
        state, rest = key
        if isinstance(rest, int):
            target: Key = (state, rest - 1 or b"")
            return [(byte, target) for byte in range(0x80, 0xC0)]
        if not rest:
            possible = [*range(0x80), *range(0xC2, 0xF5)]
        else:
            low, high = SECOND.get(rest[0], (0x80, 0xBF)) if len(rest) == 1 else (0x80, 0xBF)
            possible = list(range(low, high + 1))
        found = ((byte, self._behind(state, rest + bytes([byte]))) for byte in possible)
        return [(byte, target) for byte, target in found if target is not None]

    def _behind(self, state: int, begun: bytes) -> Key | None:
        """The state after the first bytes of a character, or all of it; None where nothing is accepted any more."""
        size = 1 if begun[0] < 0x80 else 2 if begun[0] < 0xE0 else 3 if begun[0] < 0xF0 else 4
        missing = size - len(begun)
        first, last = _characters(begun, size)
        places = slice(np.searchsorted(self._ends, first), np.searchsorted(self._ends, last) + 1)
        outgoing = self._outgoing.get(state, {})
        targets = {outgoing.get(symbol) for symbol in self._symbols[places].tolist()}
        targets = {target if target in self._live else None for target in targets}
        if targets == {None}:
            return None
        bounded = len(begun) == 1 and begun[0] in SECOND
        if len(targets) > 1 or bounded:  # it depends on the bytes to come
            return (state, begun)
        (target,) = targets
        assert target is not None
        return (int(target), missing or b"")


def _characters(begun: bytes, size: int) -> tuple[int, int]:
    """The first and the last code point whose UTF-8, `size` bytes long, begins so."""
    if size == 1:
        return begun[0], begun[0]
    value = begun[0] & (0x7F >> size)
    for byte in begun[1:]:
        value = value << 6 | byte & 0x3F
    shift = 6 * (size - len(begun))
    return value << shift, min(LAST, (value + 1 << shift) - 1)
