"""A model's tokenizer, from all the files of its directory that say something of it."""
