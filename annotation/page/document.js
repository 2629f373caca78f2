// The frame that is looked at: its picture, its labels, and their history.  What is drawn is sent to the server at once.

import * as api from './api.js';
import { Labels } from './labels.js';

const KEPT_FRAMES = 40, KEPT_STEPS = 40;

export class Document {
  // changed(): there is something new to be seen.  failed(text), saving(boolean).
  constructor({ changed, failed, saving }) {
    Object.assign(this, { changed, failed, saving });
    this.index = 0;
    this.labels = null; // until they have come
    this.given = new Set();
    this.frames = new Map(); // promises of pictures
    this.histories = new Map(); // by frame: { undo, redo }, each of { labels, given }
    this.sent = new Map(); // by frame, the version that holds what was sent last
    this.queue = Promise.resolve();
    this.waiting = 0;
    this.drawing = false; // a stroke is being drawn, under which the labels must not change
  }

  open(video) {
    Object.assign(this, { video, frames: new Map(), histories: new Map(), sent: new Map(), drawing: false });
  }

  async go(index) {
    this.index = Math.min(this.video.length - 1, Math.max(0, index));
    this.labels = null;
    await this.load();
  }

  // Loads the mask, and the picture unless it is there.
  async load() {
    const index = this.index;
    try {
      const [bitmap, data] = await Promise.all([this.picture(index), this.queue.then(() => api.mask(index))]);
      if (index !== this.index || this.waiting || this.drawing) return;
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
      for (const old of this.frames.keys()) {
        if (this.frames.size <= KEPT_FRAMES) break;
        this.frames.delete(old);
      }
    }
    return this.frames.get(index);
  }

  // News of a mask; what this page has sent itself it need not hear.
  heard(index, version) {
    if (index === this.index && !this.waiting && !this.drawing && version > (this.sent.get(index) ?? 0)) this.load();
  }

  history() {
    if (!this.histories.has(this.index)) this.histories.set(this.index, { undo: [], redo: [] });
    return this.histories.get(this.index);
  }

  // To be called before a change of the labels; `commit` follows.
  remember() {
    const { undo, redo } = this.history();
    undo.push({ labels: this.labels.copy(), given: this.given.has(this.index) });
    if (undo.length > KEPT_STEPS) undo.shift();
    redo.length = 0;
  }

  commit() { this.#send(true); }

  step(from, to) { // 'undo', 'redo' or the other way round
    const history = this.history();
    const there = history[from].pop();
    if (!there) return;
    history[to].push({ labels: this.labels, given: this.given.has(this.index) });
    this.labels = there.labels;
    this.#send(there.given);
  }

  forget() {
    this.remember();
    this.#send(false);
  }

  #send(given) {
    const index = this.index, data = this.labels.data.slice();
    this.given[given ? 'add' : 'delete'](index);
    this.waiting += 1;
    this.saving(true);
    this.queue = this.queue.then(async () => {
      try {
        const { version } = await (given ? api.give(index, data) : api.forget(index));
        this.sent.set(index, version);
      } catch (error) {
        this.failed(`Not saved: ${error.message}`);
      }
      this.waiting -= 1;
      if (!this.waiting) this.saving(false);
      if (!given && index === this.index && !this.waiting) this.load(); // which waits for this queue
    });
    this.changed();
  }
}
