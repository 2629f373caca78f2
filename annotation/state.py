"""What an annotation consists of, and what follows from what: objects, given masks and results, without files."""

import colorsys
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from util.label_map import MOST_OBJECTS

GOLDEN = (5**0.5 - 1) / 2  # of the circle of hues: it comes back to none
COLOUR = "#[0-9a-f]{6}"
MOST_REMEMBERED = 200  # earlier states of what was given


class Result(IntEnum):
    """How far the result of a frame is; as a letter in `session.json`."""

    MISSING = ord(".")
    OLD = ord("o")  # of other given masks
    ONE_WAY = ord("r")  # of the pass backwards alone
    FINAL = ord("f")


@dataclass
class Object:
    """An object to follow."""

    id: int  # 1 to 254, never used again
    name: str
    hidden: bool = False
    locked: bool = False  # drawing others does not change it, nor does following where it was found before
    colour: str = ""  # as #rrggbb, on the page and in films; else one follows from the id

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Its colour, 0 to 255: bright, and far from those of the ids before it."""
        if self.colour:
            return tuple(bytes.fromhex(self.colour[1:]))  # pyright: ignore[reportReturnType]
        red, green, blue = colorsys.hsv_to_rgb((self.id - 1) * GOLDEN % 1, 0.8, 1.0)
        return round(255 * red), round(255 * green), round(255 * blue)


@dataclass
class Given:
    """A mask that a person drew or mended."""

    stated: list[int]  # the objects that there were then: one that the mask does not show is not in the frame
    shown: list[int]  # the objects in the mask
    digest: str = ""  # of its labels; older records have none


class State:
    """The annotation of a video of `length` frames.  `settings` are JSON values with which results are made from now on."""

    def __init__(self, length: int, settings: Mapping[str, Any] | None = None) -> None:
        self.length, self.settings = length, dict(settings or {})
        self.objects: list[Object] = []
        self.next_object = 1
        self.unclean = False  # files may still show removed objects
        self.given: dict[int, Given] = {}
        self.results = bytearray([Result.MISSING]) * length
        self.sureness: list[float | None] = [None] * length
        self.shows: list[list[int] | None] = [None] * length  # the objects in each result, if known
        self.done: list[dict[str, Any]] = []  # what people did
        self._results_of: dict[str, bytes] = {}  # `results` by what was given, until a new result is stored

    def parts(self, window: range | None = None) -> list[range]:
        """What must be followed, in order: intervals between given frames, and to the ends of the video, that are not final.

        Neighbours are one part.  Empty without a mask that shows something.  With a `window`, only what its frames need:
        from a given frame before it to one behind it, where the directions meet, or to its end if there is none.
        """
        if not any(mask.shown for mask in self.given.values()):
            return []
        given = sorted(self.given)
        result: list[range] = []
        for start, stop in zip([0, *given], [*given, self.length - 1], strict=True):
            if self._is_final(start, stop):
                continue
            if result and result[-1].stop == start + 1:
                start = result.pop().start
            result.append(range(start, stop + 1))
        if window is None:
            return result
        first, last = window[0], window[-1]
        found = []
        for part in (part for part in result if part[0] <= last and first <= part[-1]):
            inside = [frame for frame in given if frame in part]
            start = max((frame for frame in inside if frame <= first), default=max(first, part[0]))
            stop = min((frame for frame in inside if frame >= last), default=min(last, part[-1]))
            if not self._is_final(start, stop):
                found.append(range(start, stop + 1))
        return found

    def what_lacks(self) -> str:
        """Which frames an export shows as they should not stay; empty if none."""
        others = [self.results[frame] for frame in range(self.length) if frame not in self.given]
        counts = {
            "have no mask": others.count(Result.MISSING),
            "are old or followed in one direction only": others.count(Result.OLD) + others.count(Result.ONE_WAY),
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)

    def remember_results(self) -> None:
        """Call it before given masks change: `recall_results` may find that they are as they were."""
        self._results_of[self._what_is_given()] = bytes(self.results)
        if len(self._results_of) > MOST_REMEMBERED:
            del self._results_of[next(iter(self._results_of))]

    def forget_results(self) -> None:
        """Call it when a result is stored: what was remembered is no longer so."""
        self._results_of.clear()

    def outdate(self, frame: int, ids: set[int]) -> range:
        """What follows from the mask of a frame is old, on each side as far as a given frame that states all these objects.

        Returns the frames whose result may have changed.
        """
        ends = [i for i, mask in self.given.items() if ids.issubset(mask.stated)]
        first = max((end + 1 for end in ends if end < frame), default=0)
        stop = min((end for end in ends if end > frame), default=self.length)
        for i in range(first, stop):
            if self.results[i] != Result.MISSING:
                self.results[i] = Result.OLD
        return range(first, stop)

    def recall_results(self) -> bool:
        """Call it after `outdate`: if what is given now was given before, and nothing was followed since, all results are as
        they were then.  Returns whether that is so.
        """
        before = self._results_of.get(self._what_is_given())
        self.results[:] = self.results if before is None else before
        return before is not None

    def as_record(self) -> dict[str, Any]:
        """All of it, as JSON values."""
        return {
            "settings": self.settings,
            "objects": [asdict(each) for each in self.objects],
            "next_object": self.next_object,
            "unclean": self.unclean,
            "given": {str(frame): asdict(mask) for frame, mask in sorted(self.given.items())},
            "results": self.results.decode(),
            "sureness": self.sureness,
            "shows": self.shows,
            "done": self.done,
        }

    def read_record(self, record: Any) -> None:
        """Take all but the settings from `as_record`; raises `KeyError`, `TypeError`, `ValueError` or `AttributeError` if
        anything in it is not as that writes it.
        """
        objects = [Object(**each) for each in record["objects"]]
        given = {int(frame): Given(**mask) for frame, mask in record["given"].items()}
        results, sureness, done = bytearray(record["results"].encode()), list(record["sureness"]), list(record["done"])
        shows = list(record.get("shows", [None] * len(results)))
        next_object, unclean = record["next_object"], record.get("unclean", False)
        if not len(results) == len(sureness) == len(shows) or not set(results) <= set(Result):
            raise ValueError("lists that do not fit")
        if not all(0 <= frame < len(results) for frame in given):
            raise ValueError("masks of frames that the video does not have")
        ids, possible = [each.id for each in objects], range(1, MOST_OBJECTS + 1)
        mentioned = [i for mask in given.values() for i in (*mask.stated, *mask.shown)]
        mentioned += [i for each in shows if each is not None for i in each]
        if len(ids) != len({*ids}) or not all(type(i) is int and i in possible for i in (*ids, *mentioned)):
            raise ValueError("numbers of objects that cannot be")
        if type(next_object) is not int or not max(ids, default=0) < next_object <= MOST_OBJECTS + 1:
            raise ValueError("a next object that cannot be")
        types = [(each.name, str) for each in objects] + [(unclean, bool)]
        types += [(flag, bool) for each in objects for flag in (each.hidden, each.locked)]
        types += [(part, list) for mask in given.values() for part in (mask.stated, mask.shown)]
        types += [(mask.digest, str) for mask in given.values()] + [(each, dict) for each in done]
        if not all(each is None or (type(each) in (int, float) and 0 <= each <= 1) for each in sureness):  # nor NaN
            raise ValueError("a sureness that cannot be")
        if not all(type(value) is kind for value, kind in types):
            raise ValueError("entries of other types")
        if not all(type(each.colour) is str and re.fullmatch(f"({COLOUR})?", each.colour) for each in objects):
            raise ValueError("a colour that cannot be")
        self.objects, self.next_object, self.unclean, self.given = objects, next_object, unclean, given
        self.results, self.sureness, self.shows, self.done = results, sureness, shows, done

    def _is_final(self, start: int, stop: int) -> bool:
        return self.results[start : stop + 1].count(Result.FINAL) == stop + 1 - start

    def _what_is_given(self) -> str:
        return repr(sorted(self.given.items()))
