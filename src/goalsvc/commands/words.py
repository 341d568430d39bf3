"""Words in the number that goes with a figure."""


def counted(number: int, thing: str) -> str:
    """The number with its thing: `1 event`, `2 events`, `3 tries`."""
    if number == 1:
        return f"1 {thing}"
    return f"{number} {thing[:-1]}ies" if thing.endswith("y") else f"{number} {thing}s"
