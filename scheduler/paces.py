"""How fast stores send, receive and read their SSDs: as told, until they have measured it themselves.

Stores report the bytes that came from each other one, and the seconds in which they flowed at the pace of a link that
nobody else used: congestion is booked apart (``links``). From these pairs follow columns of the stores' table:

# a pair's pace         seconds over bytes of what was carried lately
# a store sends at      the best pace of its pairs as the source, where that is not the other end's fault
# a store receives at   the best pace of its pairs as the target, likewise
# a copy from a to b    the slower of what a sends at and b receives at

So one slow host makes its own pairs slow and no others, and a pair that was never seen is what its ends are. Who has
only met slow ones is not known for slow, where those are slow with others, too. A store's own SSD is its pair with
itself. What is not measured for long is forgotten, and as told again: a link that was slow for
a bad minute is avoided, so nobody would ever see that it is not any more.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, exp2, inf

import numpy as np

from scheduler.costs import Costs
from scheduler.predictions import KEPT, Agreement, agreement
from scheduler.table import NOBODY, Floats, Ints, Table
from scheduler.vocabulary import Carried, StoreId

SURE_S = 0.02
"""A pair that has carried for so long is believed: 60 MB at 3 GB/s, and a thread that wakes up late by 0.1 ms is half a
percent of it."""

MEMORY_S = 4.0
"""Of carrying, after which a sample has faded to 1/e: a link that is a tenth busy remembers 40 s."""

HALF_LIFE_S = 30.0
"""All that was measured fades by half in this time, too: a pair that was sure is not after four minutes without bytes
at most."""

MOST_SENDERS = 64
"""To one store that are remembered; of more, those that have carried least are forgotten."""

ALIKE = 1.25
"""Paces that differ by less are the same."""

LOOK_S = 1.0
"""How often what has only faded is looked at."""

PAIR = np.dtype([("source", "i8"), ("target", "i8"), ("size_bytes", "f8"), ("seconds", "f8")])
NO_PAIR = (NOBODY, NOBODY, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Carriage:
    """What one report told of one pair, and what was expected of it. source None: the target's own SSD."""

    source: StoreId | None
    target: StoreId
    size_bytes: int
    predicted_s: float
    measured_s: float


@dataclass(frozen=True, slots=True)
class StorePace:
    """Bytes per second, as believed now."""

    store: StoreId
    sends: float
    receives: float
    reads: float


class Paces:
    """Of the stores of one table, in its columns ``send_byte_s``, ``receive_byte_s`` and ``read_byte_s``.

    told: what holds until something is measured. Paces that reports tell are in the columns from ``look`` on.
    """

    def __init__(self, stores: Table[StoreId], told: Costs) -> None:
        self._stores, self._told = stores, told
        self._pairs: Table[tuple[StoreId, StoreId]] = Table(PAIR, NO_PAIR)
        self._typical_s = told.link_s
        """For a byte, between stores of which nothing is known."""
        self._faded_s = -inf
        self._news = False
        self.kept: deque[Carriage] = deque(maxlen=KEPT)

    def __len__(self) -> int:
        """Pairs that are remembered."""
        return len(self._pairs)

    def came(self, store: StoreId) -> None:
        """It has a row now."""
        self._write(self._stores.row(store), self._typical_s, self._typical_s, self._told.ssd_s)

    def leaves(self, store: StoreId) -> None:
        """It has its row for the last time: what it and others measured of it says nothing of whoever comes next."""
        row, pairs = self._stores.row(store), self._known()
        for gone in np.flatnonzero((pairs["source"] == row) | (pairs["target"] == row)):
            self._forget(int(gone))

    def carried(self, target: StoreId, carried: Iterable[Carried]) -> None:
        """A report of this store, which has a row. Sources that are not known, any more or yet, are passed over."""
        for each in carried:
            source = target if each.source is None else each.source
            if self._stores.row(source) == NOBODY or not (each.size_bytes > 0 and each.seconds > 0.0):
                continue
            predicted_s = each.size_bytes * self._byte_s(source, target)
            self.kept.append(Carriage(each.source, target, each.size_bytes, predicted_s, each.seconds))
            self._add(source, target, each)

    def ends(self, source: StoreId, target: StoreId) -> tuple[float, float]:
        """What a byte from one store to another, both known, takes of the one's link and of the other's."""
        send, receive = (self._stores.rows[column] for column in ("send_byte_s", "receive_byte_s"))
        return float(send[self._stores.row(source)]), float(receive[self._stores.row(target)])

    def _byte_s(self, source: StoreId, target: StoreId) -> float:
        if source == target:
            return float(self._stores.rows["read_byte_s"][self._stores.row(target)])
        return max(self.ends(source, target))

    def look(self, *, now: float) -> None:
        """Bring the columns up to date."""
        if not self._news and now - self._faded_s < LOOK_S:
            return
        self._fade(now)
        pairs = self._known()
        pairs = pairs[pairs["seconds"] >= SURE_S]
        byte_s: Floats = pairs["seconds"] / pairs["size_bytes"]
        source, target = pairs["source"], pairs["target"]
        disks = source == target
        reads = self._best(target[disks], byte_s[disks])
        source, target, byte_s = source[~disks], target[~disks], byte_s[~disks]
        self._typical_s = float(np.median(byte_s)) if len(byte_s) else self._told.link_s
        self._write(
            slice(0, len(self._stores.keys)),
            self._end(source, target, byte_s),
            self._end(target, source, byte_s),
            np.where(np.isinf(reads), self._told.ssd_s, reads),
        )
        self._news = False

    def paces(self) -> tuple[StorePace, ...]:
        """Of every store, by name."""
        rows = self._stores.rows
        known = sorted((store, row) for row, store in enumerate(self._stores.keys) if store is not None)
        return tuple(
            StorePace(store, _rate(row["send_byte_s"]), _rate(row["receive_byte_s"]), _rate(row["read_byte_s"]))
            for store, row in ((store, rows[row]) for store, row in known)
        )

    def agreements(self) -> tuple[Agreement, Agreement]:
        """Of what is kept: links, and SSDs."""
        links = [(each.predicted_s, each.measured_s) for each in self.kept if each.source is not None]
        disks = [(each.predicted_s, each.measured_s) for each in self.kept if each.source is None]
        return agreement(links), agreement(disks)

    def _add(self, source: StoreId, target: StoreId, carried: Carried) -> None:
        part = min(1.0, MEMORY_S / carried.seconds)  # a conductor that was away is told hours at once
        seconds, size_bytes = part * carried.seconds, part * carried.size_bytes
        if self._pairs.row((source, target)) == NOBODY:
            self._make_room(target)
        row = self._pairs.add((source, target))
        rows, kept = self._pairs.rows, exp(-seconds / MEMORY_S)
        rows["source"][row], rows["target"][row] = self._stores.row(source), self._stores.row(target)
        rows["seconds"][row] = kept * rows["seconds"][row] + seconds
        rows["size_bytes"][row] = kept * rows["size_bytes"][row] + size_bytes
        self._news = True

    def _make_room(self, target: StoreId) -> None:
        pairs, row = self._known(), self._stores.row(target)
        senders = np.flatnonzero((pairs["target"] == row) & (pairs["source"] != row))
        if len(senders) >= MOST_SENDERS:
            self._forget(int(senders[np.argmin(pairs["seconds"][senders])]))

    def _forget(self, row: int) -> None:
        pair = self._pairs.keys[row]
        assert pair is not None, "only pairs that are there are forgotten"
        self._pairs.remove(pair)
        self._news = True

    def _fade(self, now: float) -> None:
        if now > self._faded_s > -inf:
            pairs, left = self._known(), exp2((self._faded_s - now) / HALF_LIFE_S)
            pairs["seconds"] *= left
            pairs["size_bytes"] *= left
        self._faded_s = now

    def _known(self) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        """Every row that may have a pair; those that have none any more belong to nobody."""
        return self._pairs.rows[: len(self._pairs.keys)]

    def _end(self, ours: Ints, theirs: Ints, byte_s: Floats) -> Floats:
        """What a byte takes at one end of these pairs, by row of the stores' table.

        No more than in the best of its pairs. Whether that much, only a pair can say whose other end does better with
        somebody else, or has met nobody else; without one it is as most are.
        """
        best = self._best(ours, byte_s)
        first = byte_s <= self._best(theirs, byte_s)[theirs]
        firsts = np.bincount(theirs[first], minlength=len(best))
        others = np.where(
            first & (firsts[theirs] == 1),
            self._best(theirs[~first], byte_s[~first])[theirs],
            self._best(theirs, byte_s)[theirs],
        )
        telling = (byte_s <= ALIKE * best[ours]) & (np.isinf(others) | (ALIKE * others < byte_s))
        known = np.zeros(len(best), dtype=np.bool_)
        known[ours[telling]] = True
        return np.where(known, best, np.minimum(best, self._typical_s))

    def _best(self, rows: Ints, byte_s: Floats) -> Floats:
        """By row of the stores' table; infinite where there is none."""
        best = np.full(len(self._stores.keys), inf)
        np.minimum.at(best, rows, byte_s)
        return best

    def _write(self, at: int | slice, send: float | Floats, receive: float | Floats, read: float | Floats) -> None:
        rows = self._stores.rows
        rows["send_byte_s"][at], rows["receive_byte_s"][at], rows["read_byte_s"][at] = send, receive, read


def _rate(byte_s: float) -> float:
    return 1.0 / float(byte_s) if byte_s else inf
