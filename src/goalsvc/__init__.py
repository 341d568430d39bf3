"""goalsvc keeps the score and the money of live performances."""
