"""Clips cut from streams as providers make them, judged by their frames and their sound."""
