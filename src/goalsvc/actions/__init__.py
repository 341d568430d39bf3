"""What a caller may ask for: one function each, rules and one write. The API, the console and the command line call these."""
