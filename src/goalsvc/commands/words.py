"""Words in the number that goes with a figure."""


def counted(number: int, thing: str) -> str:
    """The number with its thing: `1 event`, `2 events`, `3 tries`."""
    if number == 1:
        return f"1 {thing}"
    plural = f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}es" if thing.endswith("x") else f"{thing}s"
    return f"{number} {plural}"
