"""How Moonpool is deployed: files for container engines, and what generates some of them. Nothing imports it."""
