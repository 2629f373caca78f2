"""What people do to one annotated video: objects, given masks, and steps that are taken back."""

import os
import re
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from annotation.history import Change, History, Step, packed
from annotation.saved import GIVEN, WORKING, SavedState, digest_of, thickness
from annotation.state import COLOUR, Given, Object
from util.errors import InputError, shorten
from util.guards import remove_files
from util.label_map import MOST_OBJECTS, colour_map, object_ids, only, write_label_map

LONGEST_NAME = 80
AS_IT_IS = 255  # where a page changes nothing


class Session(SavedState):
    """What people do to an annotation, in its folder."""

    @cached_property
    def history(self) -> History:
        """What each page has done since the session was opened."""
        return History()

    def add_object(self, name: str) -> Object:
        """A new object, with the next number."""
        with self._all_or_nothing():
            added = self._new(self.next_object, name)
            self.save("add", object=added.id)
            return added

    def bring(
        self,
        numbers: Collection[int],
        masks: Mapping[int, tuple[np.ndarray, Collection[int] | None]],
        names: Mapping[int, str] | None = None,
        *,
        by: int = 0,
    ) -> None:
        """New objects, names of these and of others, and given masks by frame; at once.

        A mask is (H, W) uint8, with the objects that it states, or `None` for all.
        Objects that it does not state stay as they were where nothing covers them, and nothing covers locked and hidden
        ones.  Undo takes back the masks, not the objects.
        """
        with self._all_or_nothing():
            for number in sorted(numbers):
                self._new(number, "")
            for number, name in (names or {}).items():
                self._object(number).name = kept_name(name) or usual_name(number)
            beside = ((frame, self._beside(frame, *mask)) for frame, mask in masks.items())
            changes = self._put(beside, "import", objects=sorted(numbers))
        self.history.add(Step(by, changes))

    def change_object(self, number: int, **changes: str | bool | None) -> None:
        """Change `name`, `hidden`, `locked` or `colour`, unless it is `None`; a colour is `#rrggbb`, or empty."""
        with self.lock:
            changed = self._object(number)
            if (colour := changes.get("colour")) and not re.fullmatch(COLOUR, str(colour)):
                raise InputError(f"colour: expected #rrggbb, found {shorten(colour)}")
            changes["name"] = kept_name(str(changes.get("name") or "")) or None
            with self._all_or_nothing():
                for field, value in changes.items():
                    if value is not None:
                        setattr(changed, field, value)
                self.save()

    def remove_object(self, number: int, *, by: int = 0) -> None:
        """Remove an object; `clean` then removes it from the files."""
        with self.lock:
            self.history.add(self._remove(self._object(number), by))

    def draw(self, frame: int, labels: np.ndarray, *, gone: int = 0, by: int = 0) -> None:
        """Give what the page `by` has drawn, (H, W) uint8, `AS_IT_IS` elsewhere: it states the objects that it changes, and
        `gone`, an object that is not in the frame.

        The others stay as they were found.  Where nothing was found yet, or nothing is drawn (it is right as it is), the mask
        states all objects.
        """
        with self.lock:
            before, drawn = self.labels(frame), labels != AS_IT_IS
            labels = np.where(drawn, labels, before)
            if gone:
                labels = np.where(labels == self._object(gone).id, np.uint8(0), labels)
            self._refuse_unknown(labels)
            touched = labels != before
            changed = {*np.unique(labels[touched]).tolist(), *np.unique(before[touched & (labels == 0)]).tolist(), gone} - {0}
            stated: set[int] | None = None
            if gone or (self.has_mask(frame) and drawn.any()):
                if not changed:
                    return  # it came a second time
                stated = changed.union(self.given[frame].stated if frame in self.given else ())
                labels = only(labels, stated)
            self.history.add(Step(by, self._put([(frame, (labels, stated))], "draw", frame=frame)))

    def give(self, frame: int, labels: np.ndarray) -> None:
        """Set (H, W) uint8 as the mask of a frame, which states all objects; results that depend on it become old."""
        with self.lock:
            self._refuse_unknown(labels)
            self._put([(frame, (labels, None))], "draw", frame=frame)

    def restore(self, frame: int, *, by: int = 0) -> None:
        """Give a frame the result that its present one, which is worse, has replaced; it states the objects of that time."""
        with self.lock:
            mask = self.replaced(frame), self._replaced[frame].knew & self._known()
            self.history.add(Step(by, self._put([(frame, mask)], "restore", frame=frame)))

    def forget(self, frame: int, *, by: int = 0) -> None:
        """Remove a given mask."""
        with self.lock:
            if frame in self.given:
                self.history.add(Step(by, self._put([(frame, None)], "forget", frame=frame)))

    def undo(self, by: int, *, again: bool = False) -> Step:
        """Take back the last step of the page `by`, or do one `again` that was taken back; returns the step.

        What others have changed since stays.  A removed object comes back with its given masks; what follows from them is old.
        """
        with self.lock:
            if (step := self.history.last(by, again=again)) is None:
                raise InputError(f"nothing to {'redo' if again else 'undo'}")
            if step.restored is not None:
                there = step.restored.id in self._known()  # else another page has removed it meanwhile
                inverse = self._remove(self._object(step.restored.id), by) if there else Step(by, {})
            else:
                found = (
                    (frame, change.taken_back(self.given.get(frame), self.labels(frame), self._known()))
                    for frame, change in step.changes.items()
                )
                masks = ((frame, mask) for frame, mask in found if mask is not None or frame in self.given)
                changes = self._put(masks, "redo" if again else "undo", restored=step.removed)
                inverse = Step(by, changes, restored=step.removed[1] if step.removed else None)
            self.history.turn(step, inverse, again=again)
            return step

    # inside

    def _new(self, number: int, name: str) -> Object:
        if number > MOST_OBJECTS:
            raise InputError(f"expected at most {MOST_OBJECTS} objects")
        if number < self.next_object:
            raise InputError(f"object {number} was removed; new ones are numbered from {self.next_object} on")
        self.objects.append(Object(number, kept_name(name) or usual_name(number)))
        self.next_object = number + 1
        return self.objects[-1]

    def _beside(
        self, frame: int, labels: np.ndarray, stated: Collection[int] | None
    ) -> tuple[np.ndarray, Collection[int] | None]:
        """A mask that states some objects, as one that also says what the frame's mask said of the others."""
        if stated is None:
            return labels, None
        before = self.labels(frame)
        kept = [each.id for each in self.objects if (each.locked or each.hidden) and each.id not in stated]
        stays = np.isin(before, kept) | ((labels == 0) & ~np.isin(before, [*stated]))
        all_stated = {*stated, *(self.given[frame].stated if frame in self.given else ())}
        labels = np.where(stays, before, labels)
        return only(labels, all_stated), all_stated

    def _object(self, number: int) -> Object:
        for each in self.objects:
            if each.id == number:
                return each
        raise InputError(f"there is no object {number}")

    def _refuse_unknown(self, labels: np.ndarray) -> None:
        if unknown := {*np.unique(labels).tolist()} - {0} - self._known():
            raise InputError(f"expected labels of objects, found {min(unknown)}")

    def _put(
        self,
        masks: Iterable[tuple[int, tuple[np.ndarray, Collection[int] | None] | None]],
        action: str,
        *,
        restored: tuple[int, Object] | None = None,
        **details: Any,
    ) -> dict[int, Change]:
        """Replace or remove the given masks of frames, at once: each (H, W) uint8, with the objects that it states, or all.

        restored: an object that comes back by it, and its place
        """
        self.remember_results()
        before: dict[int, tuple[Given | None, bytes]] = {}
        with self._all_or_nothing():
            if restored is not None:
                self.objects.insert(*restored)
            for frame, mask in masks:
                before[frame] = self.given.get(frame), packed(showed := self.labels(frame))
                if mask is None:
                    taken = self.given.pop(frame)
                    changed = showed != (shows := self.labels(frame))
                    reached = {*taken.stated, *taken.shown, *object_ids(shows)}
                else:
                    labels, stated = mask
                    told = sorted(self._known() if stated is None else stated)
                    write_label_map(self._path(WORKING, frame), labels, colour_map())
                    self.given[frame] = Given(told, object_ids(labels), digest_of(labels))
                    changed = (showed != labels) & ((labels != 0) | np.isin(showed, told))
                    reached = {*object_ids(showed), *object_ids(labels)}.intersection(told)
                    if (taken := before[frame][0]) is not None:  # of the others, the mask says nothing any more
                        reached |= {*taken.stated}.difference(told)
                self._now_old(frame, reached, thickness(changed))
            self._recall_results()
            self.save(action, before, **details)
        for frame in before:
            if frame in self.given:
                os.replace(self._path(WORKING, frame), self._path(GIVEN, frame))
        remove_files(self._path(GIVEN, frame) for frame in before if frame not in self.given)
        return {
            frame: Change(given, self.given.get(frame), showed, packed(self.labels(frame)))
            for frame, (given, showed) in before.items()
        }

    def _remove(self, removed: Object, by: int) -> Step:
        number, place, before = removed.id, self.objects.index(removed), dict(self.given)
        changes: dict[int, Change] = {}
        with self._all_or_nothing():
            del self.objects[place]
            for frame, mask in before.items():
                if number not in (*mask.stated, *mask.shown):
                    continue
                showed = self._read(GIVEN, frame)
                shows = self._without_removed(showed)
                stated, shown = ([i for i in ids if i != number] for ids in (mask.stated, mask.shown))
                if stated:
                    self.given[frame] = Given(stated, shown, digest_of(shows))
                else:
                    del self.given[frame]
                changes[frame] = Change(mask, self.given.get(frame), packed(showed), packed(shows))
            self.revision += 1
            self.forget_results()
            self.unclean = True
            self.save("remove", range(self.length), object=number)
            remove_files(self._path(GIVEN, frame) for frame in before if frame not in self.given)
        return Step(by, changes, removed=(place, removed))


def usual_name(number: int) -> str:
    """The name of an object that nobody has named."""
    return f"object {number}"


def kept_name(text: str) -> str:
    """What a session keeps of a name."""
    return "".join(c for c in text if c.isprintable()).strip()[:LONGEST_NAME]
