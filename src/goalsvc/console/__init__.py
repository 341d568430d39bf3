"""The console: pages for operators and support staff. It shows and does only what the API offers."""
