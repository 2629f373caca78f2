// The frame that is looked at: its picture, its labels, and their history.  What is drawn is sent to the server at once.

import * as api from './api.js';
import { Labels } from './labels.js';

const KEPT_FRAMES = 40, KEPT_STEPS = 40;

export class Document {
  // changed(): there is something new to be seen.  failed(text), saving(text): what has become of what was drawn.
  constructor({ changed, failed, saving }) {
    Object.assign(this, { changed, failed, saving });
    this.index = 0;
    this.labels = null; // until they have come
    this.given = new Set();
    this.frames = new Map(); // promises of pictures
    this.histories = new Map(); // by frame: { undo, redo }, each of { labels, given }
    this.removed = new Set(); // objects that may still be in the histories
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

  history(index = this.index) {
    if (!this.histories.has(index)) this.histories.set(index, { undo: [], redo: [] });
    return this.histories.get(index);
  }

  // To be called before a change of the labels; `commit` follows.
  remember(index = this.index, labels = this.labels) {
    const { undo, redo } = this.history(index);
    undo.push({ labels: labels.copy(), given: this.given.has(index) });
    if (undo.length > KEPT_STEPS) undo.shift();
    redo.length = 0;
  }

  commit() { this.#send(true); }

  // Changes the labels of a frame, which may have been left meanwhile.
  async changeAt(index, action) {
    let labels = index === this.index ? this.labels : null;
    if (!labels) {
      await this.queue;
      labels = new Labels(this.video.width, this.video.height, await api.mask(index));
      if (index === this.index && this.labels) labels = this.labels; // someone has come back
    }
    this.remember(index, labels);
    action(labels);
    this.#send(true, index, labels);
    if (index === this.index && !this.labels) this.load();
  }

  step(from, to) { // 'undo', 'redo' or the other way round
    const history = this.history();
    const there = history[from].pop();
    if (!there) return;
    history[to].push({ labels: this.labels, given: this.given.has(this.index) });
    this.labels = there.labels;
    this.labels.data.forEach((label, i, data) => { if (this.removed.has(label)) data[i] = 0; });
    this.#send(there.given);
  }

  forget() {
    this.remember();
    this.#send(false);
  }

  #send(given, index = this.index, labels = this.labels) {
    const data = labels?.data.slice();
    this.given[given ? 'add' : 'delete'](index);
    this.waiting += 1;
    this.saving('saving…');
    this.queue = this.queue.then(async () => {
      const saved = await this.#deliver(index, given, data);
      this.waiting -= 1;
      if (!this.waiting) this.saving('saved');
      if (!(given && saved) && index === this.index && !this.waiting) this.load(); // which waits for this queue
    });
    this.changed();
  }

  // Tries until it is saved, or refused: then what the server has is shown again.  Returns whether it is saved.
  async #deliver(index, given, data) {
    for (let tries = 1; ; tries++) {
      try {
        const { version } = await (given ? api.give(index, data) : api.forget(index));
        this.sent.set(index, version);
        if (tries > 1) this.failed('');
        return true;
      } catch (error) {
        this.failed(`Not saved: ${error.message}${error.refused ? '' : ' Trying again; leave this page open.'}`);
        if (error.refused) return false;
        this.saving('NOT saved');
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    }
  }
}
