"""``python -m services.runtime.probe URL``: exit status 0 if it answers 200. For health checks where there is no curl.

Loads the standard library only, as it runs every few seconds beside every process.
"""

import sys
from collections.abc import Sequence

from services.runtime.http import get

TIMEOUT_S = 4.0


def main(argv: Sequence[str]) -> int:
    (url,) = argv
    try:
        status, body = get(url, timeout_s=TIMEOUT_S)
    except OSError as error:
        print(f"{url}: {error}")
        return 1
    print(f"{url}: {status} {body[:200].decode(errors='replace').strip() if status != 200 else ''}".rstrip())
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
