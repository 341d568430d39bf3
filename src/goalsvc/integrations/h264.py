"""H.264 as a byte stream: units, parameter sets, and how an mp4 file holds them (ISO/IEC 14496-10 and -15)."""

from collections.abc import Iterator, Sequence

_SPS, _PPS = 7, 8
#: Parameter sets are kept in the sample description; delimiters, ends and padding say nothing there.
_LEFT_OUT = frozenset({_SPS, _PPS, 9, 10, 11, 12})


def units_of(stream: bytes) -> Iterator[bytes]:
    """The NAL units of an Annex B byte stream, without their start codes."""
    at = stream.find(b"\x00\x00\x01")
    while at >= 0:
        begin = at + 3
        at = stream.find(b"\x00\x00\x01", begin)
        unit = stream[begin : at if at >= 0 else len(stream)].rstrip(b"\x00")
        if unit:
            yield unit


class ConflictingSetsError(Exception):
    """A parameter set has the id of another one with other content."""


class ParameterSets:
    """The parameter sets of a file, each under its id: parts that were encoded apart can be told apart by them."""

    def __init__(self) -> None:
        self._sets: dict[tuple[int, int], bytes] = {}

    def add(self, units: Sequence[bytes]) -> None:
        """Adds those of the units that are parameter sets, all or none; raises ConflictingSetsError."""
        added: dict[tuple[int, int], bytes] = {}
        for unit in units:
            if (kind := unit[0] & 31) in (_SPS, _PPS):
                key = kind, _set_id(unit)
                if self._sets.get(key, unit) != unit or added.get(key, unit) != unit:
                    raise ConflictingSetsError
                added[key] = unit
        self._sets |= added

    def free_id(self, reserved: Sequence[int] = ()) -> int | None:
        """An id that no set has, nor is to have; None when all 32 are taken."""
        taken = {number for _, number in self._sets} | set(reserved)
        return next((number for number in range(31, -1, -1) if number not in taken), None)

    @property
    def units(self) -> list[bytes]:
        """All sets, those of sequences first."""
        return [unit for _, unit in sorted(self._sets.items())]

    def configuration(self) -> bytes:
        """The decoder configuration record (`avcC`) with all sets."""
        sequence = [unit for (kind, _), unit in sorted(self._sets.items()) if kind == _SPS]
        picture = [unit for (kind, _), unit in sorted(self._sets.items()) if kind == _PPS]
        profile = max(unit[1] for unit in sequence)
        level = max(unit[3] for unit in sequence)
        record = bytes([1, profile, 0, level, 0xFF, 0xE0 | len(sequence)])
        record += b"".join(len(unit).to_bytes(2) + unit for unit in sequence)
        record += bytes([len(picture)]) + b"".join(len(unit).to_bytes(2) + unit for unit in picture)
        if profile in (100, 110, 122, 144):
            record += bytes([0xFC | 1, 0xF8, 0xF8, 0])  # 4:2:0, 8 bits
        return record


def sample_of(units: Sequence[bytes]) -> bytes:
    """The units as an mp4 sample holds them: each after its length, without parameter sets."""
    return b"".join(len(unit).to_bytes(4) + unit for unit in units if unit[0] & 31 not in _LEFT_OUT)


def _set_id(unit: bytes) -> int:
    """The id of a sequence parameter set (after profile, constraints and level) or picture parameter set."""
    payload = unit[1:40].replace(b"\x00\x00\x03", b"\x00\x00")
    bits = payload[3:] if unit[0] & 31 == _SPS else payload
    number = int.from_bytes(bits[:8].ljust(8, b"\x80"))
    zeros = 64 - number.bit_length()
    if zeros > 16:
        raise ConflictingSetsError
    return (number >> (63 - 2 * zeros)) - 1
