// The frame that is looked at: its picture and its labels.  What is drawn is sent to the server at once.

import * as api from './api.js';
import { Labels } from './labels.js';

const KEPT_FRAMES = 40, KEPT_PIXELS = 1e8, AHEAD = 14; // of pictures; at least those that playing asks for
const AS_IT_IS = 255;

export class Document {
  // changed(): there is something new to be seen.  failed(text), saving(text): what has become of what was drawn.
  // locked(): the objects whose pixels stay.
  constructor({ changed, failed, saving, locked }) {
    Object.assign(this, { changed, failed, saving, locked });
    this.index = 0;
    this.labels = null; // until they have come
    this.given = new Set();
    this.frames = new Map(); // promises of pictures
    this.before = null; // the labels before a stroke
    this.sent = new Map(); // by frame, the version that holds what was sent last
    this.queue = Promise.resolve();
    this.waiting = 0;
    this.steps = 0; // sent so far, by which the server knows one that comes again
    this.lost = false; // the server did not answer last
    this.drawing = false;
  }

  get drawing() { return this.inStroke; }

  // While a stroke is being drawn, the labels must not change; what is heard meanwhile comes after it, and what it gives.
  set drawing(value) {
    this.inStroke = value;
    if (!value && this.missed) queueMicrotask(() => { if (this.missed) this.load(); });
  }

  open(video) {
    Object.assign(this, { video, frames: new Map(), sent: new Map(), drawing: false });
  }

  async go(index) {
    this.index = Math.min(this.video.length - 1, Math.max(0, index));
    this.labels = null;
    await this.load();
  }

  // Loads the mask, and the picture unless it is there.  What is asked for meanwhile is loaded next, once.
  load() {
    this.wanted = true;
    this.missed = false;
    this.loading ??= this.#loadAll();
    return this.loading;
  }

  async #loadAll() {
    while (this.wanted) {
      this.wanted = false;
      await this.#load();
    }
    this.loading = null;
  }

  async #load() {
    const index = this.index;
    try {
      const [bitmap, data] = await Promise.all([this.picture(index), this.queue.then(() => api.mask(index))]);
      if (index !== this.index || this.waiting || this.drawing) return;
      if (this.labels?.equals({ data })) return;
      this.bitmap = bitmap;
      this.labels = new Labels(this.video.width, this.video.height, data);
      this.changed();
    } catch (error) {
      this.failed(error.message);
    }
  }

  picture(index) {
    if (!this.frames.has(index)) {
      const coming = api.frame(index, this.video.run);
      coming.catch(() => this.frames.delete(index));
      this.frames.set(index, coming);
      const most = Math.max(AHEAD, Math.min(KEPT_FRAMES, KEPT_PIXELS / (this.video.width * this.video.height)));
      for (const old of this.frames.keys()) {
        if (this.frames.size <= most) break;
        this.frames.delete(old);
      }
    }
    return this.frames.get(index);
  }

  // News of a mask; what this page has sent itself it need not hear.
  heard(index, version) {
    if (index !== this.index || this.waiting || (this.labels && version <= (this.sent.get(index) ?? 0))) return;
    if (this.drawing) this.missed = true;
    else this.load();
  }

  // To be called before a change of the labels; `commit` or `drop` follows.
  remember() { this.before = this.labels.copy(); }

  drop() { this.labels = this.before; this.changed(); }

  commit() { this.#give(this.index, this.before, this.labels); }

  // Says that the mask is right as it is, or that an object is `gone`.
  state(gone = 0) {
    this.remember();
    const { data } = this.labels;
    if (gone) for (let i = 0; i < data.length; i++) if (data[i] === gone) data[i] = 0;
    this.#give(this.index, this.before, this.labels, gone, true);
  }

  // Changes the labels of a frame, which may have been left meanwhile.
  async changeAt(index, action) {
    let labels = index === this.index ? this.labels : null;
    if (!labels) {
      await this.queue;
      labels = new Labels(this.video.width, this.video.height, await api.mask(index));
      if (index === this.index && this.labels) labels = this.labels; // someone has come back
    }
    const before = labels.copy();
    action(labels);
    this.#give(index, before, labels);
    if (index === this.index && !this.labels) this.load();
  }

  forget() {
    const index = this.index;
    this.#send(index, false, (step) => api.forget(index, step));
  }

  // Gives the frame the result that a worse one has replaced.
  restore() {
    const index = this.index;
    this.#send(index, true, (step) => api.restore(index, step));
  }

  // Takes back this page's last step, or does it again: { told, frame }.  Then `go` somewhere.
  async undo(again) {
    if (this.lost) throw new Error('Not saved yet, since there is no connection to the server; undo it later.');
    const labels = this.labels;
    this.labels = null; // nothing is drawn meanwhile
    this.changed();
    try {
      await this.queue;
      return await api.undo(again);
    } catch (error) {
      this.labels ??= labels;
      this.changed();
      throw error;
    }
  }

  // Sends the pixels that are drawn, so that what others have drawn beside them stays.
  #give(index, before, labels, gone = 0, always = false) {
    const locked = this.locked(), { data } = labels, were = before.data, drawn = new Uint8Array(data.length).fill(AS_IT_IS);
    let changes = 0;
    for (let i = 0; i < data.length; i++) {
      if (data[i] === were[i]) continue;
      if (locked.has(were[i])) data[i] = were[i];
      else { drawn[i] = data[i]; changes++; }
    }
    if (!always && !changes) { this.load(); return; }
    this.#send(index, true, (step) => api.give(index, drawn, gone, step));
  }

  // Asks the server for a change of a frame, after which its mask is given or not.
  #send(index, isGiven, request) {
    if (!this.waiting) Object.assign(this, { refused: false, were: new Map() }); // frames that were given when saved last
    if (!this.were.has(index)) this.were.set(index, this.given.has(index));
    this.#setGiven(index, isGiven);
    this.waiting += 1;
    this.steps += 1;
    this.saving('saving…');
    const number = this.steps;
    this.queue = this.queue.then(async () => {
      if (await this.#deliver(index, () => request(number))) this.were.set(index, isGiven);
      else this.refused = true;
      this.waiting -= 1;
      if (!this.waiting && this.refused) {
        this.were.forEach((was, each) => this.#setGiven(each, was));
        this.changed();
      }
      if (!this.waiting) this.saving(this.refused ? 'NOT saved' : 'saved');
      if (!this.waiting) this.load(); // with what others have drawn; the frame may be another by now
    });
    this.changed();
  }

  #setGiven(index, isGiven) { this.given[isGiven ? 'add' : 'delete'](index); }

  // Tries until it is saved, or refused; returns which.
  async #deliver(index, request) {
    for (let tries = 1; ; tries++) {
      try {
        const { version } = await request();
        this.sent.set(index, version);
        this.lost = false;
        if (tries > 1) this.failed('');
        return true;
      } catch (error) {
        this.failed(`Not saved: ${error.message}${error.refused ? '' : ' Trying again; leave this page open.'}`);
        this.lost = !error.refused;
        if (error.refused) return false;
        this.saving('NOT saved');
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    }
  }
}
