"""The benchmark: every row of docs/specification.md#targets in one run, side by side with the bare path, on real parts."""
