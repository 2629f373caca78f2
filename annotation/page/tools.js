// What the pointer does on the frame: click, box, scribble, brush, eraser, polygon, fill, and moving the picture.

import * as api from './api.js';
import { Labels, mostlyOutside, OFF, ON, toldByBox, toldByMarks } from './labels.js';

const KEYS = { c: 'click', b: 'brush', e: 'eraser', p: 'polygon', g: 'fill', x: 'box', s: 'scribble', d: 'not', h: 'pan' };
const SCRIBBLES = ['scribble', 'not'], MARKS = ['click', ...SCRIBBLES];
const ROWS_PER_CLICK_RADIUS_PIXEL = 96; // as the robot clicks in training (dataset/robot.py)
const LONG = 500; // milliseconds of a press that leaves out, as the right button does
const REST = 150; // milliseconds that the pointer rests before the mask of a click there is shown
const CLOSE = 8; // pixels of the screen from a polygon's first corner

export class Tools {
  constructor({ stage, view, shown, page, tell }) {
    Object.assign(this, { stage, view, shown, page, tell });
    this.size = document.getElementById('size');
    this.pointers = new Map(); // that are down, by id: for two fingers
    this.asking = 0; // masks that the server is looking for
    this.use('click');
    for (const button of document.querySelectorAll('[data-tool]')) button.addEventListener('click', () => this.use(button.dataset.tool));
    this.size.addEventListener('input', () => this.#showSize());
    this.#showSize();
    view.onplace = () => this.guide();
    stage.addEventListener('pointerdown', (event) => this.#down(event));
    stage.addEventListener('pointermove', (event) => this.#move(event));
    for (const kind of ['pointerup', 'pointercancel']) stage.addEventListener(kind, (event) => this.#up(event));
    stage.addEventListener('pointerleave', () => { this.over = null; this.#expect(); this.guide(); });
    stage.addEventListener('contextmenu', (event) => event.preventDefault());
    stage.addEventListener('wheel', (event) => {
      event.preventDefault();
      view.zoomAt(Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
    }, { passive: false });
  }

  use(tool) {
    if (!(MARKS.includes(tool) && MARKS.includes(this.tool))) this.leave();
    this.tool = tool;
    for (const button of document.querySelectorAll('[data-tool]')) button.setAttribute('aria-pressed', button.dataset.tool === tool);
    this.stage.style.cursor = tool === 'pan' ? 'grab' : 'crosshair';
  }

  // Drops what is in the making; a stroke is on the labels already, so it is kept.
  leave() {
    this.finish();
    Object.assign(this, { points: [], box: null, scribbles: [], hints: null, drawing: false });
    this.#expect();
    this.guide();
  }

  // Ends a stroke of the brush or the eraser as if the button were released.
  finish() {
    if (!this.#painting) return;
    this.drawing = false;
    this.shown.commit();
  }

  get drawing() { return this.shown.drawing; }

  // Whether something would be lost that is not on the labels yet.
  get unfinished() { return this.drawing || this.points.length > 0 || this.asking > 0; }

  set drawing(value) { this.shown.drawing = value; }

  get radius() { return Number(this.size.value); }

  key(key) {
    if (KEYS[key]) this.use(KEYS[key]);
    else if (key === '[' || key === ']') { this.size.value = this.radius + (key === ']' ? 1 : -1); this.#showSize(); }
    else if (key === 'Enter' && this.points.length > 2) this.#closePolygon();
    else if (key === 'Backspace' && this.points.length) { this.points.pop(); this.guide(); }
    else if (key === 'Escape') { this.#drop(); this.leave(); }
    else return false;
    return true;
  }

  guide() {
    const round = ['brush', 'eraser', ...SCRIBBLES].includes(this.tool) && this.over;
    const object = this.page.objects.find((each) => each.id === this.page.object);
    this.view.showGuides({
      points: this.over && this.points.length ? [...this.points, this.over] : this.points,
      box: this.box,
      scribbles: this.scribbles,
      expected: this.expected?.found,
      brush: round && { x: this.over[0], y: this.over[1], radius: this.#stroke },
      colour: object ? `rgb(${object.colour})` : '#fff',
    });
  }

  get #painting() { return this.drawing && (this.tool === 'brush' || this.tool === 'eraser'); }

  get #stroke() { return SCRIBBLES.includes(this.tool) ? Math.min(this.radius, 4) : this.radius; }

  #showSize() {
    document.getElementById('size-text').textContent = `${2 * this.radius + 1} px`;
    this.guide();
  }

  #down(event) {
    this.stage.focus({ preventScroll: true });
    this.page.watching = this.page.playing = false;
    this.stage.setPointerCapture(event.pointerId);
    if (event.isPrimary) this.pointers.clear(); // the first one down: the lifting of others was not told
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.by = event.pointerId; // which ends what begins here
    if (this.pointers.size > 1) { this.#drop(); return; } // two fingers move the picture
    if (this.tool === 'pan' || event.button === 1) { this.panning = true; return; }
    if (!this.shown.labels || (event.button && !MARKS.includes(this.tool))) return;
    if (this.page.replaced) {
      this.shown.changed();
      this.tell('That was the mask before. Draw on this one, or keep the old.');
      return;
    }
    if (!this.page.object) { this.tell('Add an object first.', true); return; }
    const [x, y] = this.view.pixel(event), { labels } = this.shown;
    const inside = x >= 0 && y >= 0 && x < labels.width && y < labels.height;
    if (['click', 'fill', 'polygon'].includes(this.tool)) {
      this.pressed = this.tool === 'polygon' || inside ? [x, y] : null; // done on lifting, unless a second finger comes
      this.began = event.timeStamp;
    } else {
      this.drawing = true;
      this.start = this.last = [x, y];
      if (this.tool === 'brush' || this.tool === 'eraser') { this.shown.remember(); this.locked = this.shown.locked(); }
      if (SCRIBBLES.includes(this.tool)) this.#beginScribble(this.tool === 'not' || event.altKey || event.button === 2);
      this.#draw(x, y);
      this.guide();
    }
  }

  #move(event) {
    const before = this.pointers.get(event.pointerId);
    if (before) this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (before && this.pointers.size > 1) {
      if (this.pointers.size === 2) this.#pinch(event.pointerId, before);
      return;
    }
    if (before && this.panning) { this.view.move(event.clientX - before[0], event.clientY - before[1]); return; }
    this.over = this.view.pixel(event);
    const scribbling = this.drawing && SCRIBBLES.includes(this.tool);
    if (scribbling || (event.pointerType === 'mouse' && !event.buttons)) this.#expect(this.over, event.altKey);
    if (this.drawing) for (const each of event.getCoalescedEvents?.() ?? []) this.#draw(...this.view.pixel(each));
    if (this.drawing) this.#draw(...this.over);
    this.guide();
  }

  #up(event) {
    this.pointers.delete(event.pointerId);
    if (event.pointerId !== this.by) return;
    this.panning = false;
    if (this.pressed && event.type === 'pointerup') {
      const long = event.pointerType !== 'mouse' && event.timeStamp - this.began > LONG;
      this.#point(...this.pressed, event.altKey || event.button === 2 || long);
    }
    this.pressed = null;
    if (!this.drawing) return;
    if (event.type === 'pointercancel') { this.#drop(); return; }
    this.finish();
    this.drawing = false;
    if (this.tool === 'box') this.#cutBox();
    if (SCRIBBLES.includes(this.tool)) this.#cutMarks();
  }

  // Escape, a second finger or the system ends a stroke: as if it had not begun.
  #drop() {
    this.pressed = null;
    if (this.#painting) this.shown.drop();
    if (this.drawing) {
      if (SCRIBBLES.includes(this.tool)) this.#unmark();
      this.drawing = false;
      this.shown.load(); // what has come meanwhile
    }
    this.box = null;
    this.#expect();
    this.guide();
  }

  #pinch(id, before) {
    const [moved, other] = [this.pointers.get(id), [...this.pointers].find(([key]) => key !== id)[1]];
    const distance = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
    this.view.move((moved[0] - before[0]) / 2, (moved[1] - before[1]) / 2);
    this.view.zoomAt(distance(moved) / Math.max(1, distance(before)), (moved[0] + other[0]) / 2, (moved[1] + other[1]) / 2);
  }

  #draw(x, y) {
    const { labels } = this.shown, { object } = this.page;
    if (this.tool === 'brush') labels.stroke(...this.last, x, y, this.radius, object, (label) => !this.locked.has(label));
    if (this.tool === 'eraser') labels.stroke(...this.last, x, y, this.radius, 0, (label) => label === object);
    if (SCRIBBLES.includes(this.tool)) {
      const scribble = this.scribbles.at(-1);
      scribble.points.push([x, y]);
      this.#mark(scribble, scribble.points.length - 1);
    }
    if (this.tool === 'box') {
      const [x0, y0] = this.start;
      this.box = [Math.min(x, x0), Math.min(y, y0), Math.max(x, x0), Math.max(y, y0)];
    }
    if (this.#painting) this.#showStroke(labels, this.last, [x, y]);
    this.last = [x, y];
  }

  // Shows what a stroke between two pixels has changed, with outlines beside it.
  #showStroke({ width, height }, one, two) {
    const reach = this.radius + 1, most = [width - 1, height - 1];
    const first = one.map((value, i) => Math.max(0, Math.min(value, two[i]) - reach));
    const last = one.map((value, i) => Math.min(most[i], Math.max(value, two[i]) + reach));
    if (first[0] <= last[0] && first[1] <= last[1]) this.view.showLabels(this.shown.labels, first, last);
  }

  #point(x, y, isOff) {
    if (!this.shown.labels) return;
    if (this.tool === 'click') this.#click(x, y, isOff);
    if (this.tool === 'fill') this.#change((map) => map.fill(x, y, this.page.object));
    if (this.tool !== 'polygon') return;
    const [first] = this.points;
    if (this.points.length > 2 && Math.hypot(x - first[0], y - first[1]) * this.view.zoom <= CLOSE) this.#closePolygon();
    else { this.points.push([x, y]); this.guide(); }
  }

  #change(action) {
    this.shown.remember();
    action(this.shown.labels);
    this.shown.commit();
  }

  #closePolygon() {
    const { points } = this;
    this.leave();
    this.#change((labels) => labels.polygon(points, this.page.object));
  }

  #beginScribble(isBackground, radius = this.#stroke) {
    const { width, height, data } = this.shown.labels;
    if (!this.hints) {
      this.hints = new Labels(width, height);
      this.anew = !data.includes(this.page.object);
    }
    this.scribbles.push({ points: [], radius, isObject: !isBackground });
  }

  // Draws a mark's line from the point before to this one.
  #mark({ points, radius, isObject }, i) {
    this.hints.stroke(...(points[i - 1] ?? points[i]), ...points[i], radius, isObject ? ON : OFF);
  }

  // Takes back the last mark.
  #unmark() {
    this.scribbles.pop();
    this.hints.data.fill(0);
    for (const each of this.scribbles) each.points.forEach((_, i) => this.#mark(each, i));
    if (!this.scribbles.length) this.hints = null;
  }

  get #clickRadius() { return Math.max(2, Math.round(this.shown.labels.height / ROWS_PER_CLICK_RADIUS_PIXEL)); }

  #click(x, y, isOff) {
    this.#beginScribble(isOff, this.#clickRadius);
    this.scribbles.at(-1).points.push([x, y]);
    this.#mark(this.scribbles.at(-1), 0);
    this.#cutMarks();
  }

  // Drops what a click or scribble would have found elsewhere; where the pointer rests, it is asked for and shown.
  #expect(place, isOff) {
    const same = place && this.rest?.isOff === isOff && place.every((each, i) => each === this.rest.place[i]);
    if (same) return;
    clearTimeout(this.timer);
    this.rest = place && { place, isOff };
    if (this.expected) { this.expected = null; this.guide(); }
    if (place) this.timer = setTimeout(() => this.#foresee(), REST);
  }

  async #foresee() {
    const { rest } = this, { labels, index } = this.shown, { object, job } = this.page;
    const clicks = this.tool === 'click', scribbles = this.drawing && SCRIBBLES.includes(this.tool);
    if (!(clicks || scribbles) || this.foreseeing || !rest || !labels || !object || job.running) return;
    const [x, y] = rest.place, hasMask = labels.data.includes(object);
    const hints = this.hints?.copy() ?? new Labels(labels.width, labels.height);
    if (clicks) {
      if (x < 0 || y < 0 || x >= labels.width || y >= labels.height) return;
      hints.disc(x, y, this.#clickRadius, rest.isOff ? OFF : ON);
    }
    if (!hasMask && !hints.data.includes(ON)) return;
    const told = toldByMarks(labels, hints.data, object, this.hints ? this.anew : !hasMask);
    this.foreseeing = true;
    try {
      const found = await api.cut(index, told);
      if (rest === this.rest && index === this.shown.index) { this.expected = { told, found }; this.guide(); }
    } catch { // a click will say why
    } finally {
      this.foreseeing = false;
    }
    if (rest !== this.rest) this.#foresee(); // it is elsewhere by now
  }

  async #cutBox() {
    const { box } = this;
    this.box = null;
    if (box[2] - box[0] < 3 || box[3] - box[1] < 3) { this.guide(); return; }
    await this.#cut(toldByBox(this.shown.labels, box), mostlyOutside);
  }

  async #cutMarks() {
    const { hints, page } = this;
    if (!hints.data.includes(ON) && !this.shown.labels.data.includes(page.object)) {
      this.tell('Mark the object first.');
      return;
    }
    const count = hints.asked = (hints.asked ?? 0) + 1;
    await this.#cut(toldByMarks(this.shown.labels, hints.data, page.object, this.anew), () => new Set([0]), () => hints.asked > count);
  }

  // Asks the server for the object, which takes the place of its mask so far, and of the labels `taken(labels, found)`, but
  // for pixels that were drawn meanwhile.  Once it is `late()`, a later question has asked for all of it.
  async #cut(told, taken, late = () => false) {
    const { undone } = this.page, { index } = this.shown, { object } = this.page, asked = this.shown.labels.copy().data;
    this.tell('Looking for the object…');
    this.asking += 1;
    try {
      const { expected } = this;
      this.#expect();
      const found = expected?.told.every((each, i) => each === told[i]) ? expected.found : await api.cut(index, told);
      while (this.drawing && index === this.shown.index) await new Promise((resolve) => setTimeout(resolve, 50));
      if (late() || undone !== this.page.undone || !this.page.objects.some((each) => each.id === object)) return;
      let changes = 0;
      await this.shown.changeAt(index, (labels) => {
        const free = taken(labels, found);
        labels.data.forEach((label, i, data) => {
          if (label !== asked[i]) return;
          const now = found[i] && free.has(label) ? object : !found[i] && label === object ? 0 : label;
          if (now !== label) { data[i] = now; changes += 1; }
        });
      });
      const where = index === this.shown.index ? '' : `Frame ${index}: `;
      this.tell(where + (changes ? 'Found; correct it with clicks, scribbles, the brush or the eraser.' : 'Nothing has changed there; use the brush or the eraser.'));
    } catch (error) {
      this.tell(error.message, true);
    } finally {
      this.asking -= 1;
    }
    this.guide();
  }
}
