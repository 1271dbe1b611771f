"""The ``{% generation %}`` block: it marks the assistant's words for training, and renders as it is."""

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser


class Generation(Extension):
    """Accept the tag and drop it."""

    tags = {"generation"}  # noqa: RUF012  # jinja2's own declaration is a plain set

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """The block's body in place of the block."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
