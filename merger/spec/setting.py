"""A knob's value as a config states it: a number, a gradient over depth, or either by filter.

The first rule whose filter takes the tensor's name wins. A gradient is piecewise linear between its
values, spread evenly over the depth of the stack (or of the slice).
"""

from dataclasses import dataclass

from merger.names import matches

Value = float | int | bool | str


@dataclass(frozen=True)
class Rule:
    """One value, or a gradient of several, for the tensors that a filter takes."""

    values: tuple[Value, ...]
    filter: str | None = None

    def at(self, depth: float) -> Value:
        """Return the value at a depth from 0 to 1."""
        if len(self.values) == 1:
            return self.values[0]
        along = depth * (len(self.values) - 1)
        low = min(int(along), len(self.values) - 2)
        left, right = float(self.values[low]), float(self.values[low + 1])
        share = along - low
        return left * (1 - share) + right * share


@dataclass(frozen=True)
class Setting:
    """All rules of one knob, in the order they are tried."""

    rules: tuple[Rule, ...]

    def at(self, name: str, depth: float) -> Value | None:
        """Return the value for a tensor, or None if no filter takes it."""
        for rule in self.rules:
            if matches(rule.filter, name):
                return rule.at(depth)
        return None
