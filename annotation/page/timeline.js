// The time line: what each frame's mask is, a curve of how sure it is, where each object is and is lost, and where one is.

const COLOURS = { o: '#8d6e63', r: '#1e88e5', f: '#43a047' };
const STRIP = 12, HEIGHT = 64, TRACKS = 60; // pixels: of the strip, of all but the tracks, and at most of these
const MARK = '#ffd54f', LOST = '#fff';

export class TimeLine {
  constructor(canvas, seek) {
    this.canvas = canvas;
    this.length = 1; this.current = 0;
    this.clear();
    const go = (event) => {
      const { left, width } = canvas.getBoundingClientRect();
      const index = Math.floor(((event.clientX - left) / width) * this.length);
      seek(Math.min(this.length - 1, Math.max(0, index)));
    };
    canvas.addEventListener('pointerdown', (event) => { canvas.setPointerCapture(event.pointerId); go(event); });
    canvas.addEventListener('pointermove', (event) => event.buttons && go(event));
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  clear() {
    Object.assign(this, { results: [], sureness: [], seen: [], gone: [], wasSure: [], given: new Set(), tracks: [] });
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
    const step = width / length, floor = HEIGHT - STRIP - 2, x = (i) => i * step;
    context.fillStyle = '#30353d';
    for (const level of [0.25, 0.5, 0.75]) context.fillRect(0, floor - level * floor, width, 1);
    for (let i = 0; i < length; i++) {
      const colour = COLOURS[this.results[i]];
      if (colour) { context.fillStyle = colour; context.fillRect(x(i), floor + 2, Math.max(1, step), STRIP); }
    }
    context.strokeStyle = '#9fd3ff'; context.lineWidth = 1.5; context.beginPath();
    let drawn = -1, worst = 1, open = false;
    for (let i = 0; i < length; i++) { // a column of several frames shows the worst
      const value = this.given.has(i) ? 1 : this.sureness[i];
      if (value === null || value === undefined) { open = false; continue; }
      const column = Math.floor(x(i + 0.5));
      worst = column === drawn ? Math.min(worst, value) : value;
      drawn = column;
      const y = 2 + (1 - worst) * (floor - 3);
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
