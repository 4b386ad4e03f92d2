// Exact rasteriser for the only SVG that the pixel-art style makes: filled paths of axis-aligned segments between the
// points of a 16x16 grid. Every pixel lies wholly inside or outside each path, so nothing is anti-aliased. Whatever
// is not of that kind is an error, so that a new version of the art cannot be drawn wrongly in silence.

export const SIZE = 16;
const PIXELS = SIZE * SIZE;
const PAINT = new Set(["d", "fill", "fill-opacity", "fill-rule", "clip-rule"]);

/** Draw an SVG text over a plain background (hexadecimal RGB): bytes in the order [channel, row, column]. */
export function rasterise(svg, background) {
  const canvas = new Float64Array(3 * PIXELS);
  parseColour(background).forEach((value, channel) => canvas.fill(value, channel * PIXELS, (channel + 1) * PIXELS));
  const inherited = [{}];
  for (const [, closing, name, text] of svg.replace(/<metadata.*?<\/metadata>/s, "").matchAll(/<(\/?)(\w+)([^>]*)>/g)) {
    if (closing) {
      inherited.pop();
      continue;
    }
    const attributes = Object.fromEntries([...text.matchAll(/([\w:-]+)="([^"]*)"/g)].map((match) => match.slice(1)));
    if (name === "svg") {
      if (attributes.viewBox !== `0 0 ${SIZE} ${SIZE}`) throw new Error(`cannot draw the view box ${attributes.viewBox}`);
      inherited.push({});
      continue;
    }
    const unknown = Object.keys(attributes).find((key) => !PAINT.has(key));
    if (!["g", "path"].includes(name) || unknown) throw new Error(`cannot draw <${name}> ${unknown ?? ""}`);
    const style = { ...inherited.at(-1), ...attributes };
    if (name === "path") fillPath(canvas, style);
    if (!text.endsWith("/")) inherited.push(style);
  }
  return Uint8Array.from(canvas, Math.round);
}

function parseColour(text) {
  const long = text.replace(/^#/, "").replace(/^(.)(.)(.)$/, "$1$1$2$2$3$3");
  if (!/^[0-9a-f]{6}$/i.test(long)) throw new Error(`cannot read the colour ${text}`);
  return [0, 2, 4].map((start) => parseInt(long.slice(start, start + 2), 16));
}

function fillPath(canvas, style) {
  const colour = parseColour(style.fill);
  const opacity = Number(style["fill-opacity"] ?? 1);
  for (const pixel of insidePixels(style.d, style["fill-rule"] === "evenodd")) {
    for (let channel = 0; channel < 3; channel++) {
      const at = channel * PIXELS + pixel;
      canvas[at] += opacity * (colour[channel] - canvas[at]);
    }
  }
}

const known = new Map();

function insidePixels(path, evenOdd) {
  const key = `${path} ${evenOdd}`;
  if (!known.has(key)) {
    const windings = windingNumbers(path);
    const isInside = (pixel) => (evenOdd ? windings[pixel] % 2 !== 0 : windings[pixel] !== 0);
    known.set(key, [...windings.keys()].filter(isInside));
  }
  return known.get(key);
}

/** How often a path winds around each pixel. Only its vertical segments count: each turns the pixels right of it. */
function windingNumbers(path) {
  if (!/^([MmHhVvZz]|-?\d+|[\s,])*$/.test(path)) throw new Error(`not a path along the pixel grid: ${path}`);
  const windings = new Int32Array(PIXELS);
  let [x, y, startX, startY] = [0, 0, 0, 0];
  const verticalTo = (end) => {
    for (let row = Math.max(0, Math.min(y, end)); row < Math.min(SIZE, Math.max(y, end)); row++)
      for (let column = Math.max(0, x); column < SIZE; column++) windings[row * SIZE + column] += Math.sign(end - y);
    y = end;
  };
  const close = () => {
    if (x !== startX && y !== startY) throw new Error(`a path closes with a slanted segment: ${path}`);
    verticalTo(startY);
    x = startX;
  };
  for (const [, command, text] of path.matchAll(/([a-z])([^a-z]*)/gi)) {
    const numbers = (text.match(/-?\d+/g) ?? []).map(Number);
    if (numbers.length !== { M: 2, H: 1, V: 1, Z: 0 }[command.toUpperCase()]) throw new Error(`cannot read the path ${path}`);
    const relative = command === command.toLowerCase();
    switch (command.toUpperCase()) {
      case "M":
        close();
        [x, y] = relative ? [x + numbers[0], y + numbers[1]] : numbers;
        [startX, startY] = [x, y];
        break;
      case "H":
        x = numbers[0] + (relative ? x : 0);
        break;
      case "V":
        verticalTo(numbers[0] + (relative ? y : 0));
        break;
      default:
        close();
    }
  }
  close();
  return windings;
}
