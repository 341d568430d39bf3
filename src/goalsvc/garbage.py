"""How the cyclic garbage collector is set in the processes that serve; measured in docs/performance.md.

While modules are imported it finds nothing, and what they made is never garbage: looked through again and again, it costs
a tenth of the start and of every webhook.
"""

import gc

#: So many more new containers than freed ones before the young ones are looked through (Python's own: 700).
_YOUNG = 20_000


def pause() -> None:
    """Collects nothing until `resume`; for the start of a process."""
    gc.disable()


def resume() -> None:
    """Collects what is garbage from now on; all that is there by now is left alone for good."""
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 50)
    gc.enable()
