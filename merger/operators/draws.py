"""Random numbers that belong to a place: uniform draws by (seed, expert, tensor, flat index).

A counter-based stream: the draw at an index is a hash of key and index (the SplitMix64 finaliser of
Steele et al. 2014), so it depends on no other draw. Blocks, threads, shards and devices may take
tensors in any order and get the same masks; a generator with a state could not promise that.
"""

from math import prod

from merger.late import Tensor, torch

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def stream_key(seed: int, key: int) -> int:
    """Join the user's seed with the key of one expert and tensor: a signed 64-bit number."""
    mixed = (key & _MASK) ^ ((seed * _GOLDEN + _FIRST) & _MASK)
    for factor in (_FIRST, _SECOND):
        mixed = ((mixed ^ (mixed >> 31)) * factor) & _MASK
    return _signed(mixed ^ (mixed >> 29))


def uniform(shape: tuple[int, ...], key: int, start: int, device: "torch.device") -> Tensor:
    """Return draws in [0, 1), float64, for the entries from flat index `start` on."""
    bits = torch.arange(start, start + prod(shape), dtype=torch.int64, device=device)
    bits.mul_(_signed(_GOLDEN)).add_(key)
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        bits = bits.bitwise_xor_(_shifted(bits, shift)).mul_(_signed(factor))
    bits = bits.bitwise_xor_(_shifted(bits, 31))
    return _shifted(bits, 11).double().mul_(2.0**-53).view(shape)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Shift right filling up with zeros; torch's own shift of signed numbers keeps the sign."""
    return (bits >> by).bitwise_and_((1 << (64 - by)) - 1)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number
