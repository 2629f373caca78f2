"""Measurements of what the project does; they report and judge nothing."""
