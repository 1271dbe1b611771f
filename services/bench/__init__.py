"""``moonpool bench PART``: run a part's own benchmark and show its rows, always in the same form."""
