"""HTTP and text: OpenAI's surface in front of workers that know token ids only.

One request, from outside in: ``app`` routes it, ``schemas`` and ``unsupported`` check it, ``chat`` or
``completions`` make an ``Order`` of it with ``text``, ``answer`` delivers that, ``story`` tells the life of
each sequence with ``cluster``, and ``scribe`` turns its tokens into text.

ApiError (errors.py) is the one exception that clients see; everything else is mapped to it or is our bug.
"""
