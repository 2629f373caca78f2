// The time line: what each frame's mask is, a curve of how sure it is, and where one is.

const COLOURS = { o: '#8d6e63', r: '#1e88e5', f: '#43a047' };
const STRIP = 12, MARK = '#ffd54f'; // pixels

export class TimeLine {
  constructor(canvas, seek) {
    this.canvas = canvas;
    this.length = 1; this.current = 0;
    this.results = []; this.sureness = []; this.given = new Set();
    const go = (event) => {
      const { left, width } = canvas.getBoundingClientRect();
      const index = Math.floor(((event.clientX - left) / width) * this.length);
      seek(Math.min(this.length - 1, Math.max(0, index)));
    };
    canvas.addEventListener('pointerdown', (event) => { canvas.setPointerCapture(event.pointerId); go(event); });
    canvas.addEventListener('pointermove', (event) => event.buttons && go(event));
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  // The frame, neither given nor without a result, that is least sure; else null.
  leastSure() {
    let best = null;
    this.sureness.forEach((value, i) => {
      if (value === null || value === undefined || this.given.has(i)) return;
      if (best === null || value < this.sureness[best]) best = i;
    });
    return best;
  }

  draw() {
    const { canvas, length } = this;
    const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    const context = canvas.getContext('2d');
    context.scale(ratio, ratio);
    context.fillStyle = '#14161a';
    context.fillRect(0, 0, width, height);
    const step = width / length, floor = height - STRIP - 2, x = (i) => i * step;
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
    const cursor = Math.max(2, step);
    context.fillStyle = '#ffffff40';
    context.fillRect(x(this.current + 0.5) - cursor / 2, 0, cursor, height);
    context.fillStyle = '#fff';
    context.fillRect(x(this.current + 0.5) - 1, 0, 2, height);
    canvas.setAttribute('aria-valuemax', length - 1);
    canvas.setAttribute('aria-valuenow', this.current);
  }
}
