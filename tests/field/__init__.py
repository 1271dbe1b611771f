"""Inputs as users bring them, each with the right value and where that value comes from."""
