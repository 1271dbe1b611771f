"""Prompts that differ from their first token on, unless they are told to share a beginning."""


def prompt(length: int, salt: int = 0) -> list[int]:
    return [(salt * 31 + position * 7 + 1) % 500 for position in range(length)]
