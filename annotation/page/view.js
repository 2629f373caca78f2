// The frame with its labels on it, zoomed and moved, and guides over them.

const MOST_ZOOM = 40;

export class View {
  constructor(stage) {
    this.stage = stage;
    this.sheet = stage.querySelector('#sheet');
    this.frame = stage.querySelector('#frame');
    this.canvas = stage.querySelector('#labels');
    this.guides = stage.querySelector('#guides');
    this.zoom = 1; this.x = 0; this.y = 0; // of the frame's corner, in pixels of the stage
    this.opacity = 0.5;
    this.colours = new Map(); // of the objects to be seen
    this.fitted = true;
    new ResizeObserver(() => (this.fitted ? this.fit() : this.#place())).observe(stage);
  }

  setSize(width, height) {
    for (const canvas of [this.frame, this.canvas]) Object.assign(canvas, { width, height });
    this.fit();
  }

  fit() {
    const { clientWidth, clientHeight } = this.stage;
    this.zoom = Math.min(clientWidth / this.canvas.width, clientHeight / this.canvas.height);
    this.x = (clientWidth - this.zoom * this.canvas.width) / 2;
    this.y = (clientHeight - this.zoom * this.canvas.height) / 2;
    this.fitted = true;
    this.#place();
  }

  // Zooms by a factor around a point of the window.
  zoomAt(factor, clientX, clientY) {
    const { left, top } = this.stage.getBoundingClientRect();
    const zoom = Math.min(MOST_ZOOM, Math.max(0.05, this.zoom * factor));
    const x = clientX - left, y = clientY - top;
    this.x = x - ((x - this.x) * zoom) / this.zoom;
    this.y = y - ((y - this.y) * zoom) / this.zoom;
    this.zoom = zoom;
    this.fitted = false;
    this.#place();
  }

  move(dx, dy) {
    this.x += dx; this.y += dy;
    this.fitted = false;
    this.#place();
  }

  // The pixel of the frame under a point of the window, perhaps outside.
  pixel(event) {
    const { left, top } = this.stage.getBoundingClientRect();
    return [event.clientX - left - this.x, event.clientY - top - this.y].map((each) => Math.floor(each / this.zoom));
  }

  showFrame(bitmap) { this.frame.getContext('2d').drawImage(bitmap, 0, 0, this.frame.width, this.frame.height); }

  // Objects are tinted; their outline, a pixel wide, is opaque.  Shows the pixels from one corner to the other.
  showLabels({ data, width, height }, [left, top] = [0, 0], [right, bottom] = [width - 1, height - 1]) {
    const picture = new ImageData(right - left + 1, bottom - top + 1);
    const packed = new Uint32Array(picture.data.buffer);
    const inside = new Uint32Array(256), rim = new Uint32Array(256);
    for (const [id, [r, g, b]] of this.colours) {
      const colour = r | (g << 8) | (b << 16);
      inside[id] = (colour | (Math.round(255 * this.opacity) << 24)) >>> 0;
      rim[id] = (colour | (Math.round(255 * Math.min(1, 2 * this.opacity)) << 24)) >>> 0;
    }
    for (let y = top, at = 0; y <= bottom; y++) {
      for (let x = left; x <= right; x++, at++) {
        const i = y * width + x, label = data[i];
        if (label === 0) continue;
        const edge = (x > 0 && data[i - 1] !== label) || (x < width - 1 && data[i + 1] !== label)
          || (y > 0 && data[i - width] !== label) || (y < height - 1 && data[i + width] !== label);
        packed[at] = edge ? rim[label] : inside[label];
      }
    }
    this.canvas.getContext('2d').putImageData(picture, left, top);
  }

  // What is not a label: a polygon or box in the making, scribbles, the mask that a click would find, and the brush.  All in
  // pixels of the frame.
  showGuides({ points, box, scribbles = [], expected, brush, colour }) {
    const canvas = this.guides, ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.stage;
    if (canvas.width !== Math.round(clientWidth * ratio) || canvas.height !== Math.round(clientHeight * ratio)) {
      canvas.width = Math.round(clientWidth * ratio); canvas.height = Math.round(clientHeight * ratio);
    }
    const context = canvas.getContext('2d');
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(ratio * this.zoom, 0, 0, ratio * this.zoom, ratio * this.x, ratio * this.y);
    const outlined = (path) => {
      for (const [style, width] of [['#000', 3], [colour, 1.5]]) {
        context.strokeStyle = style; context.lineWidth = width / this.zoom; context.stroke(path);
      }
    };
    if (expected) context.drawImage(this.#stripes(expected), 0, 0);
    for (const { points: drawn, radius, isObject } of scribbles) {
      context.strokeStyle = isObject ? colour : '#fff';
      context.lineWidth = 2 * radius + 1; context.lineCap = context.lineJoin = 'round'; context.globalAlpha = 0.5;
      const path = new Path2D();
      drawn.forEach(([x, y]) => path.lineTo(x + 0.5, y + 0.5));
      path.lineTo(drawn[0][0] + 0.51, drawn[0][1] + 0.5);
      context.stroke(path); context.globalAlpha = 1;
    }
    if (points?.length) {
      const path = new Path2D();
      points.forEach(([x, y]) => path.lineTo(x + 0.5, y + 0.5));
      const first = points[0], radius = 5 / this.zoom;
      path.moveTo(first[0] + 0.5 + radius, first[1] + 0.5);
      path.arc(first[0] + 0.5, first[1] + 0.5, radius, 0, 7);
      outlined(path);
    }
    if (box) {
      const path = new Path2D();
      path.rect(box[0], box[1], box[2] + 1 - box[0], box[3] + 1 - box[1]);
      outlined(path);
    }
    if (brush) {
      const path = new Path2D();
      path.arc(brush.x + 0.5, brush.y + 0.5, brush.radius + 0.5, 0, 7);
      outlined(path);
    }
  }

  // A mask in white stripes, unlike any label.
  #stripes(mask) {
    const { width, height } = this.canvas, picture = new ImageData(width, height);
    const packed = new Uint32Array(picture.data.buffer), apart = Math.max(4, Math.round(height / 60));
    mask.forEach((inside, i) => {
      if (inside) packed[i] = (i % width + Math.floor(i / width)) % (2 * apart) < apart ? 0x99ffffff : 0x33ffffff;
    });
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext('2d').putImageData(picture, 0, 0);
    return canvas;
  }

  #place() {
    this.sheet.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.zoom})`;
    this.sheet.classList.toggle('near', this.zoom > 2);
    this.onplace?.();
  }
}
