"""The benchmark: every row of SPEC §11 in one run, side by side with the bare path, on private real parts."""
