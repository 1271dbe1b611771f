"""What a running deployment tells about itself, as tables or as JSON."""
