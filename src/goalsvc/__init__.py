"""goalsvc keeps the score and the money of live performances."""

__version__ = "0.1.0"
