"""Why a model can't be had."""


class ModelError(Exception):
    """A model can't be found, fetched, checked or converted; the message is a sentence for the operator."""
