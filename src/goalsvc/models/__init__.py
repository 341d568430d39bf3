"""The documents. Every change of state is a named method that is one conditional write."""
