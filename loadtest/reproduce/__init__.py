"""The papers' experiments, run here: a table each, with what the paper has beside it and what differs."""
