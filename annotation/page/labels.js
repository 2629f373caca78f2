// Drawing on a label map, a byte for each pixel, in integers: what is seen is what is saved.

export class Labels {
  constructor(width, height, data = new Uint8Array(width * height)) {
    Object.assign(this, { width, height, data });
  }

  copy() { return new Labels(this.width, this.height, this.data.slice()); }

  // Whether another map has the same labels.  Loops over all pixels call no function for each, which takes seconds at 4K.
  equals({ data }) {
    for (let i = 0; i < data.length; i++) if (this.data[i] !== data[i]) return false;
    return true;
  }

  // All pixels (x, y) with dx^2 + dy^2 <= radius^2 that `over` (a test of the label there, if any) lets be painted.
  disc(cx, cy, radius, value, over) { this.stroke(cx, cy, cx, cy, radius, value, over); }

  // Discs along the line of Bresenham between two pixels.  Those that reach a row follow each other, so they cover it from the
  // first to the last pixel.
  stroke(x0, y0, x1, y1, radius, value, over) {
    const top = Math.min(y0, y1) - radius, rows = Math.abs(y1 - y0) + 2 * radius + 1;
    const from = new Int32Array(rows).fill(this.width), to = new Int32Array(rows).fill(-1);
    const halves = Int32Array.from({ length: 2 * radius + 1 }, (_, i) => Math.sqrt(radius * radius - (i - radius) * (i - radius)));
    for (const [x, y] of line(x0, y0, x1, y1)) {
      for (let i = 0, row = y - radius - top; i < halves.length; i++, row++) {
        if (x - halves[i] < from[row]) from[row] = x - halves[i];
        if (x + halves[i] > to[row]) to[row] = x + halves[i];
      }
    }
    for (let row = Math.max(0, -top); row < Math.min(rows, this.height - top); row++) this.#span(top + row, from[row], to[row], value, over);
  }

  // The pixels inside a polygon, by the even-odd rule at their centres, and those on its edges.
  polygon(points, value) {
    const top = Math.max(0, Math.min(...points.map(([, y]) => y)));
    const bottom = Math.min(this.height - 1, Math.max(...points.map(([, y]) => y)));
    for (let y = top; y <= bottom; y++) {
      const crossings = [];
      points.forEach(([x0, y0], i) => {
        const [x1, y1] = points[(i + 1) % points.length];
        if ((y0 <= y) !== (y1 <= y)) crossings.push(x0 + ((y - y0) * (x1 - x0)) / (y1 - y0));
      });
      crossings.sort((a, b) => a - b);
      for (let i = 0; i + 1 < crossings.length; i += 2) {
        this.#span(y, Math.ceil(crossings[i]), Math.floor(crossings[i + 1]), value);
      }
    }
    points.forEach(([x0, y0], i) => this.stroke(x0, y0, ...points[(i + 1) % points.length], 0, value));
  }

  // The area of one label around a pixel, connected along the sides of pixels.
  fill(x, y, value) {
    const { data, width, height } = this;
    const waiting = [y * width + x], old = data[waiting[0]];
    if (old === value) return;
    while (waiting.length) { // the run around each, and where runs begin in the rows above and below
      const at = waiting.pop(), start = at - at % width, stop = start + width;
      if (data[at] !== old) continue;
      let from = at, to = at + 1;
      while (from > start && data[from - 1] === old) from--;
      while (to < stop && data[to] === old) to++;
      data.fill(value, from, to);
      for (const step of [-width, width]) {
        if (start + step < 0 || start + step >= width * height) continue;
        for (let i = from + step; i < to + step; i++) if (data[i] === old && (i === from + step || data[i - 1] !== old)) waiting.push(i);
      }
    }
  }

  #span(y, from, to, value, over) {
    const row = y * this.width;
    for (let x = Math.max(0, from); x <= Math.min(this.width - 1, to); x++) {
      if (!over || over(this.data[row + x])) this.data[row + x] = value;
    }
  }
}

function* line(x0, y0, x1, y1) {
  const dx = Math.abs(x1 - x0), dy = -Math.abs(y1 - y0);
  const stepX = x0 < x1 ? 1 : -1, stepY = y0 < y1 ? 1 : -1;
  let error = dx + dy;
  for (;;) {
    yield [x0, y0];
    if (x0 === x1 && y0 === y1) return;
    const twice = 2 * error;
    if (twice >= dy) { error += dy; x0 += stepX; }
    if (twice <= dx) { error += dx; y0 += stepY; }
  }
}

// What marks on and off an object say, and what the masks say, in one number for each pixel, as the server reads it.
export const ON = 4, OFF = 8;
const OWN = 1, ANOTHER = 2;

// Marks that began without a mask make it together: `anew`, what they have made so far does not count.
export function toldByMarks(labels, marks, object, anew) {
  return marks.map((mark, i) => {
    const label = labels.data[i];
    return mark + (label === object ? (anew ? 0 : OWN) : label ? ANOTHER : 0);
  });
}

// A box [x0, y0, x1, y1]: the object is in it and nowhere else, whatever its mask was before.
export function toldByBox({ width, data }, [x0, y0, x1, y1]) {
  return data.map((_, i) => {
    const x = i % width, y = Math.floor(i / width);
    return x >= x0 && x <= x1 && y >= y0 && y <= y1 ? OWN : OFF;
  });
}

// The labels of which at most half lies in what was found, and 0: an object that lies in another one keeps its pixels.
export function mostlyOutside({ data }, found) {
  const all = new Uint32Array(256), inside = new Uint32Array(256);
  for (let i = 0; i < data.length; i++) {
    all[data[i]]++;
    if (found[i]) inside[data[i]]++;
  }
  return new Set([...all.keys()].filter((label) => !label || (all[label] && 2 * inside[label] <= all[label])));
}
