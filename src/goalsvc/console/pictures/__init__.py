"""Pictures: geometry as a pure function of results. No I/O and no markup; a template draws the shapes."""
