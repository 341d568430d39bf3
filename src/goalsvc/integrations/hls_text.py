"""The text of HLS playlists: lines, attribute lists, variables. Every function is linear in the length of its text."""

from collections.abc import Iterable, Iterator, Mapping

#: A longer name is not looked for: looking for its end again and again would take quadratic time.
_NAME_CHARACTERS = 128


def lines_of(text: str) -> list[str]:
    """The lines, which end at CR LF, LF or CR and nowhere else (a title may hold U+2028), without the white space around."""
    unified = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return [line.strip(" \t\x00") for line in unified.split("\n")]


def attributes_of(line: str) -> dict[str, str]:
    """The attribute list behind a tag's colon, values without their quotes; what is not one is skipped."""
    found: dict[str, str] = {}
    at = line.find(":") + 1
    while (equals := line.find("=", at)) >= 0:
        name = line[at:equals].rpartition(",")[2].strip()
        at = equals + 1
        if line.startswith('"', at):
            closing = line.find('"', at + 1)
            end = len(line) if closing < 0 else closing
            value = line[at + 1 : end]
            comma = line.find(",", end)
        else:
            comma = line.find(",", at)
            value = line[at : len(line) if comma < 0 else comma].strip()
        if name:
            found[name] = value
        if comma < 0:
            break
        at = comma + 1
    return found


def substitute(lines: Iterable[str], variables: Mapping[str, str], most: int) -> Iterator[str]:
    """The lines with `{$name}` replaced, except in those that define; an unknown variable stays as it is.

    Raises OverflowError when that adds more than `most` characters.
    """
    left = most
    for line in lines:
        if "{$" not in line or line.startswith("#EXT-X-DEFINE:"):
            yield line
            continue
        parts: list[str] = []
        at = 0
        while (begin := line.find("{$", at)) >= 0:
            end = line.find("}", begin, begin + _NAME_CHARACTERS)
            value = variables.get(line[begin + 2 : end]) if end >= 0 else None
            if value is None:
                parts.append(line[at : begin + 2])
                at = begin + 2
                continue
            left -= len(value)
            if left < 0:
                raise OverflowError
            parts += (line[at:begin], value)
            at = end + 1
        parts.append(line[at:])
        yield "".join(parts)


def name_of_encryption(keys: Mapping[str, Mapping[str, str]]) -> str:
    """What to call an encryption that cannot be read."""
    systems = {
        "com.apple.streamingkeydelivery": "FairPlay",
        "urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed": "Widevine",
        "urn:uuid:9a04f079-9840-4286-ab92-e65be0885f95": "PlayReady",
        "com.microsoft.playready": "PlayReady",
    }
    named = [
        f"{attributes.get('METHOD', '')[:20]} ({systems[form.lower()]})"
        if form.lower() in systems
        else attributes.get("METHOD", "")[:20]
        for form, attributes in keys.items()
    ]
    return ", ".join(sorted(set(named))[:3])


def initialisation_vector(text: str | None) -> bytes | None:
    """The 16 bytes of an IV attribute, `0x…`; None when it cannot be read."""
    if text is None or text[:2].lower() != "0x" or len(text) > 34:
        return None
    try:
        return int(text, 16).to_bytes(16)
    except (ValueError, OverflowError):
        return None
