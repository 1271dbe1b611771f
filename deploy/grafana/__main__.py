"""``python -m deploy.grafana``: write the dashboards' JSON; with ``--check`` only say which of them are stale."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.grafana import DASHBOARDS
from deploy.grafana.panel import to_json

PLACE = Path(__file__).parent / "provisioning" / "dashboards"


def files() -> dict[Path, str]:
    """What belongs into which file."""
    return {
        PLACE / f"{dashboard.uid.removeprefix('moonpool-')}.json": json.dumps(to_json(dashboard), indent=1) + "\n"
        for dashboard in DASHBOARDS
    }


def main(argv: Sequence[str]) -> int:
    stale = [path for path, text in files().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    stale += sorted(set(PLACE.glob("*.json")) - set(files()))
    if "--check" in argv:
        for path in stale:
            print(f"stale: {path.name}; run make docs", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        if path in files():
            path.write_text(files()[path], encoding="utf-8")
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
