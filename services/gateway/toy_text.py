"""The toy engine's tokenizer: one token a byte, made in code, so that nothing needs to be fetched.

0..255      bytes
256         end of text
257, 258    start and end of a chat message
259..511    one letter each (U+0100 upwards); never made from text, so every output token shows
"""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

VOCAB_SIZE = 512
END, START_OF_MESSAGE, END_OF_MESSAGE = "<|end|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END, START_OF_MESSAGE, END_OF_MESSAGE)
END_ID = 256

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def toy_tokenizer() -> Tokenizer:
    """Bytes in, bytes out; what is no UTF-8 decodes to U+FFFD."""
    letters = byte_letters()
    vocabulary = {letters[byte]: byte for byte in range(256)}
    first = 256 + len(SPECIAL)
    for token in range(first, VOCAB_SIZE):
        visible = chr(0x100 + token - first)
        vocabulary["".join(letters[byte] for byte in visible.encode())] = token
    vocabulary |= {content: 256 + number for number, content in enumerate(SPECIAL)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(content, special=True, normalized=False) for content in SPECIAL])
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    return tokenizer


def byte_letters() -> list[str]:
    """GPT-2's letter for each byte: printable ones stand for themselves, the rest for U+0100 upwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    letters |= {byte: chr(0x100 + number) for number, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]
