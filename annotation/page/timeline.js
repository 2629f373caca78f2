// The time line: pictures, what each frame's mask is, a curve of how sure it is, where each object is and is lost, and where
// one is.  The wheel zooms: only frames from `from` up to `to` are seen.

const COLOURS = { o: '#8d6e63', r: '#1e88e5', f: '#43a047' };
const FILM = 36, STRIP = 12, HEIGHT = 100; // pixels: of the pictures, of the strip of colours, of all but the tracks
const TRACKS = 60; // pixels of all tracks at most
const FEWEST = 20; // frames that are seen
const PAUSE = 60; // milliseconds without a change until a picture is loaded
const KEPT = 400; // pictures
const MARK = '#ffd54f', LOST = '#fff';

export class TimeLine {
  // picture(index): the promise of a frame's picture.
  constructor(canvas, seek, picture) {
    Object.assign(this, { canvas, picture });
    this.current = 0;
    this.clear(1);
    const place = (event) => {
      const { left, width } = canvas.getBoundingClientRect();
      return this.from + ((event.clientX - left) / width) * (this.to - this.from);
    };
    const frame = (event) => Math.min(this.length - 1, Math.max(0, Math.floor(place(event))));
    const go = (event) => seek(frame(event));
    canvas.addEventListener('pointerdown', (event) => { canvas.setPointerCapture(event.pointerId); go(event); });
    canvas.addEventListener('pointermove', (event) => { if (event.buttons) go(event); else canvas.title = this.#told(frame(event)); });
    canvas.addEventListener('wheel', (event) => {
      event.preventDefault();
      const span = this.to - this.from;
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) this.#see(this.from + ((event.deltaX || event.deltaY) / 400) * span, span);
      else {
        const now = Math.min(this.length, Math.max(FEWEST, span * Math.exp(event.deltaY / 400)));
        this.#see(place(event) - ((place(event) - this.from) / span) * now, now);
      }
      this.draw();
    }, { passive: false });
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  // Begins a video of this many frames.
  clear(length) {
    Object.assign(this, { length, results: [], sureness: [], seen: [], gone: [], wasSure: [], given: new Set(), tracks: [] });
    this.pictures = new Map();
    this.#see(0, length);
  }

  // What the time line says of a frame, in words.
  #told(i) {
    const lost = this.tracks.filter(({ runs }) => runs.some((run) => run.lost && run.from <= i && i <= run.to));
    const sure = this.given.has(i) ? null : this.sureness[i] ?? null;
    return [`frame ${i}`, ...lost.map(({ name }) => `${name} is lost here`), ...(sure === null ? [] : [`sure: ${Math.round(100 * sure)} %`])].join(', ');
  }

  #see(from, span) {
    this.from = Math.max(0, Math.min(this.length - span, from));
    this.to = this.from + Math.min(this.length, span);
  }

  // Moves to the current frame when it has changed.
  #keepInSight() {
    if (this.drawn === this.current) return;
    this.drawn = this.current;
    const span = this.to - this.from;
    if (this.current < this.from || this.current + 1 > this.to) this.#see(this.current + 0.5 - span / 2, span);
  }

  // Draws pictures side by side, each of the frame at its middle, and loads those that are missing.
  #film(context, width) {
    const across = Math.max(1, Math.round(width / (FILM * 16 / 9))), missing = [];
    for (let i = 0; i < across; i++) {
      const index = Math.floor(this.from + ((i + 0.5) / across) * (this.to - this.from)), found = this.pictures.get(index);
      if (!found) { if (found !== null) missing.push(index); continue; }
      const scale = Math.max(width / across / found.width, FILM / found.height); // what is left over is cut off
      const [w, h] = [width / across / scale, FILM / scale];
      context.drawImage(found, (found.width - w) / 2, (found.height - h) / 2, w, h, (i / across) * width, 0, width / across - 1, FILM);
    }
    clearTimeout(this.timer);
    if (missing.length && this.length > 1 && !this.loading) this.timer = setTimeout(() => this.#load(missing[0]), PAUSE);
  }

  // Loads a picture, and those that are missing then.
  async #load(index) {
    const { pictures } = this;
    this.loading = true;
    try {
      const found = await this.picture(index);
      pictures.set(index, await createImageBitmap(found, { resizeHeight: 2 * FILM, resizeQuality: 'medium' }));
      found.close();
      const [oldest] = pictures.keys();
      if (pictures.size > KEPT) { pictures.get(oldest)?.close(); pictures.delete(oldest); }
    } catch (error) {
      if (error.refused) pictures.set(index, null); // else it is asked for again
    }
    this.loading = false;
    this.draw();
  }

  // Finds for each object the runs of frames where it is seen, and where it is lost: it was there, and nobody says that it is gone.
  track(objects) {
    this.tracks = objects.map(({ id, colour, name }) => {
      const runs = [];
      let there = false;
      for (let i = 0; i < this.length; i++) {
        const seen = this.seen[i]?.includes(id), gone = this.gone[i]?.includes(id);
        if (!seen && !gone && (!this.seen[i] || this.results[i] === '.')) continue; // unknown
        there = !gone && (seen || there);
        if (!there) continue;
        const last = runs.at(-1);
        if (last?.to === i - 1 && last.lost === !seen) last.to = i; else runs.push({ from: i, to: i, lost: !seen });
      }
      return { colour, name, runs };
    });
    this.canvas.style.height = `${HEIGHT + Math.ceil(this.#pitch * objects.length)}px`;
  }

  get #pitch() { return Math.min(6, TRACKS / Math.max(1, this.tracks.length)); }

  // The frames that are less sure than before they were followed again.
  get worse() { return Object.keys(this.wasSure).filter((i) => this.wasSure[i] !== null && !this.given.has(Number(i))).map(Number); }

  // The worst frame, and why: where an object is lost for longest; else the least sure without a given mask; else null.
  worst() {
    const runs = this.tracks.flatMap(({ name, runs }) => runs.filter((run) => run.lost).map((run) => ({ name, ...run })));
    if (runs.length) {
      const { name, from, to } = runs.reduce((best, run) => (run.to - run.from > best.to - best.from ? run : best));
      return { index: from, told: `${name} is lost from frame ${from} to ${to}: draw it, or say "No object".` };
    }
    let best = null;
    this.sureness.forEach((value, i) => {
      if (value === null || value === undefined || this.given.has(i)) return;
      if (best === null || value < this.sureness[best]) best = i;
    });
    return best === null ? null : { index: best, told: `Frame ${best} is the least sure.` };
  }

  draw() {
    const { canvas, length } = this;
    const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    const context = canvas.getContext('2d');
    context.scale(ratio, ratio);
    context.fillStyle = '#14161a';
    context.fillRect(0, 0, width, height);
    this.#keepInSight();
    this.#film(context, width);
    const step = width / (this.to - this.from), x = (i) => (i - this.from) * step;
    const floor = HEIGHT - STRIP - 2, curve = floor - FILM, first = Math.floor(this.from), end = Math.ceil(this.to);
    context.fillStyle = '#30353d';
    for (const level of [0.25, 0.5, 0.75]) context.fillRect(0, floor - level * curve, width, 1);
    for (let i = first; i < end; i++) {
      const colour = COLOURS[this.results[i]];
      if (colour) { context.fillStyle = colour; context.fillRect(x(i), floor + 2, Math.max(1, step), STRIP); }
    }
    context.strokeStyle = '#9fd3ff'; context.lineWidth = 1.5; context.beginPath();
    let drawn = -1, worst = 1, open = false;
    for (let i = first; i < end; i++) { // a column of several frames shows the worst
      const value = this.given.has(i) ? 1 : this.sureness[i];
      if (value === null || value === undefined) { open = false; continue; }
      const column = Math.floor(x(i + 0.5));
      worst = column === drawn ? Math.min(worst, value) : value;
      drawn = column;
      const y = FILM + 2 + (1 - worst) * (curve - 3);
      if (open) context.lineTo(x(i + 0.5), y); else context.moveTo(x(i + 0.5), y);
      open = true;
    }
    context.stroke();
    context.fillStyle = MARK;
    for (const i of this.given) {
      const middle = x(i + 0.5), half = Math.max(1.5, Math.min(step / 2, 4));
      context.fillRect(middle - half, floor + 2, 2 * half, STRIP);
      context.beginPath(); context.moveTo(middle - 5, floor - 6); context.lineTo(middle + 5, floor - 6); context.lineTo(middle, floor + 1);
      context.fill();
    }
    this.tracks.forEach(({ colour, runs }, row) => {
      for (const { from, to, lost } of runs) {
        context.fillStyle = lost ? LOST : `rgb(${colour})`;
        context.fillRect(x(from), HEIGHT + 1 + row * this.#pitch, Math.max(1, x(to + 1) - x(from)), lost ? this.#pitch - 1 : this.#pitch / 2);
      }
    });
    const cursor = Math.max(2, step);
    context.fillStyle = '#ffffff40';
    context.fillRect(x(this.current + 0.5) - cursor / 2, 0, cursor, height);
    context.fillStyle = '#fff';
    context.fillRect(x(this.current + 0.5) - 1, 0, 2, height);
    canvas.setAttribute('aria-valuemax', length - 1);
    canvas.setAttribute('aria-valuenow', this.current);
  }
}
