// The plane of a latent space, with the codes of images, samples of the prior, and the point that is dragged.
class Plane {
  // canvas: where it is drawn. moved: called with the change of both coordinates and the event when the point is moved.
  constructor(canvas, moved) {
    this.canvas = canvas;
    this.moved = moved;
    this.content = this.point = this.ellipse = this.ground = null;
    this.dragging = false;
    canvas.addEventListener("pointerdown", event => {
      if (this.content === null || event.button !== 0) return;
      this.dragging = true;
      canvas.setPointerCapture(event.pointerId);
      this.follow(event);
    });
    canvas.addEventListener("pointermove", event => { if (this.dragging) this.follow(event); });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { this.dragging = false; });
    canvas.addEventListener("keydown", event => this.step(event));
    new ResizeObserver(() => this.redraw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    matchMedia(`(resolution: ${devicePixelRatio}dppx)`).addEventListener("change", () => this.redraw());
  }

  // Shows another plane: its points, and those of the prior. names: of the classes, or numbers.
  set(content, count) {
    this.content = content;
    this.count = count;
    const all = content.points.concat(content.prior);
    const ends = [0, 1].map(axis => all.reduce(
      ([low, high], place) => [Math.min(low, place[axis]), Math.max(high, place[axis])], [Infinity, -Infinity]));
    const side = 1.06 * Math.max(...ends.map(([low, high]) => high - low), 1e-3);
    this.low = ends.map(([low, high]) => (low + high - side) / 2);
    this.side = side;
    this.redraw();
  }

  // Returns the coordinates on the plane of a code.
  project(z) {
    const { origin, axes } = this.content;
    return axes.map(axis => axis.reduce((sum, value, unit) => sum + value * (z[unit] - origin[unit]), 0));
  }

  // Shows the point at a code.
  place(z) {
    if (this.content === null || z === null) return;
    this.point = this.project(z);
    this.paint();
  }

  // Sets the posterior of an image, shown with the point: its mean, and the ellipse of one standard deviation around it.
  posterior(mean, deviation) {
    if (this.content === null) return;
    const [a, b] = this.content.axes, variance = deviation.map(value => value * value);
    const sum = (one, two) => one.reduce((total, value, unit) => total + value * two[unit] * variance[unit], 0);
    const [xx, xy, yy] = [sum(a, a), sum(a, b), sum(b, b)];
    const root = Math.sqrt((xx - yy) ** 2 / 4 + xy * xy), middle = (xx + yy) / 2;
    const radii = [Math.sqrt(middle + root), Math.sqrt(Math.max(middle - root, 0))];
    this.ellipse = { centre: this.project(mean), radii, angle: Math.atan2(2 * xy, xx - yy) / 2 };
  }

  // The position of the image whose code is nearest to the point.
  nearest() {
    const distances = this.content.points.map(place => Math.hypot(place[0] - this.point[0], place[1] - this.point[1]));
    return this.content.images[distances.indexOf(Math.min(...distances))];
  }

  follow(event) {
    const box = this.canvas.getBoundingClientRect();
    const inside = value => Math.min(Math.max(value, 0), 1);
    const across = inside((event.clientX - box.left) / box.width), up = inside((box.bottom - event.clientY) / box.height);
    const place = [this.low[0] + across * this.side, this.low[1] + up * this.side];
    this.moved([place[0] - this.point[0], place[1] - this.point[1]]);
  }

  step(event) {
    const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
    const direction = directions[event.key];
    if (direction === undefined || this.content === null) return;
    event.preventDefault();
    const length = this.side * (event.shiftKey ? 0.05 : 0.01);
    this.moved(direction.map(value => value * length));
  }

  // The place on the canvas of coordinates, in pixels of the screen.
  pixel(place) {
    return [(place[0] - this.low[0]) / this.side * this.size, (1 - (place[1] - this.low[1]) / this.side) * this.size];
  }

  // Draws what does not move, once, and then the point.
  redraw() {
    if (this.content === null || this.canvas.clientWidth === 0) return;
    this.size = this.canvas.clientWidth;
    const scale = devicePixelRatio, pixels = Math.round(this.size * scale);
    this.canvas.width = this.canvas.height = pixels;
    this.ground = document.createElement("canvas");
    this.ground.width = this.ground.height = pixels;
    const context = this.ground.getContext("2d");
    context.scale(scale, scale);
    const dot = (place, radius, fill) => {
      context.fillStyle = fill;
      context.beginPath();
      context.arc(...this.pixel(place), radius, 0, 2 * Math.PI);
      context.fill();
    };
    for (const place of this.content.prior) dot(place, 1.5, colour("prior"));
    this.content.points.forEach((place, index) => {
      const label = this.content.labels[index];
      dot(place, 3, label < 0 ? colour("accent") : colourOf(label, this.count));
    });
    this.paint();
  }

  paint() {
    if (this.ground === null || this.point === null) return;
    const context = this.canvas.getContext("2d"), scale = devicePixelRatio;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.ground, 0, 0);
    context.scale(scale, scale);
    if (this.ellipse !== null) {
      const { centre, radii, angle } = this.ellipse, unit = this.size / this.side;
      context.lineWidth = 2;
      context.strokeStyle = colour("mark");
      context.beginPath();
      context.ellipse(...this.pixel(centre), radii[0] * unit, radii[1] * unit, -angle, 0, 2 * Math.PI);
      context.stroke();
    }
    const [x, y] = this.pixel(this.point).map(value => Math.min(Math.max(value, 0), this.size));
    for (const [name, width, radius] of [["rim", 5, 8], ["mark", 2.5, 8]]) {
      context.lineWidth = width;
      context.strokeStyle = colour(name);
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      for (const [a, b] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + a * radius, y + b * radius);
        context.lineTo(x + a * (radius + 5), y + b * (radius + 5));
      }
      context.stroke();
    }
  }
}
