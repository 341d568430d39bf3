"""The product's words as pure values: no I/O, and any other room may import them."""
