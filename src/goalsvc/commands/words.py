"""Words in the number that goes with a figure."""


def counted(number: int, thing: str) -> str:
    """The number with its thing: `1 event`, `2 events`, `3 tries`, `4 days`."""
    if number == 1:
        return f"1 {thing}"
    after_consonant = thing.endswith("y") and thing[-2] not in "aeiou"
    plural = f"{thing[:-1]}ies" if after_consonant else f"{thing}es" if thing.endswith("x") else f"{thing}s"
    return f"{number} {plural}"
