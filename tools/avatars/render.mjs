// Renders a data set of labelled 16x16 faces. README.md says what is in it.
//
//     node render.mjs --out avatars.npz

import { createAvatar } from "@dicebear/core";
import * as style from "@dicebear/pixel-art";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { npy, zip } from "./npz.mjs";
import { rasterise, SIZE } from "./svg.mjs";

const BACKGROUND = "ffffff";
const VISIBLE = 4; // hair pixels that must show, so that the colour of the hair can be seen

const defaults = (option) => style.schema.properties[option].default;
const only = (wanted, option) => defaults(option).filter((name) => wanted.test(name));

// What each value of each attribute lets the art choose from. An attribute's value is drawn uniformly and by itself.
const ATTRIBUTES = {
  hat: {
    none: { hatProbability: [0] },
    worn: { hatProbability: [100] },
  },
  glasses: {
    none: { glassesProbability: [0] },
    worn: { glassesProbability: [100] },
  },
  skin: {
    light: { skinColor: ["ffdbac"] },
    tan: { skinColor: ["e0b687"] },
    brown: { skinColor: ["b68655"] },
    dark: { skinColor: ["8d5524"] },
  },
  hair: {
    black: { hairColor: ["28150a"] },
    brown: { hairColor: ["603a14"] },
    blond: { hairColor: ["cab188"] },
    red: { hairColor: ["bd1700"] },
    blue: { hairColor: ["009bbd"] },
  },
  clothing: {
    blue: { clothingColor: ["5bc0de", "428bca", "03396c"] },
    green: { clothingColor: ["88d8b0", "44c585", "00b159"] },
    red: { clothingColor: ["ff6f69", "d11141", "ae0001"] },
    yellow: { clothingColor: ["ffd969", "ffc425"] },
  },
  mouth: {
    smile: { mouth: only(/happy(0[6-9]|1[01])/, "mouth") },
    straight: { mouth: only(/sad0[4-7]/, "mouth") },
    frown: { mouth: only(/sad0[12389]/, "mouth") },
  },
};

// What no label tells. No hat is coloured like hair, and no mouth like skin. There are no beards, since the art makes
// them the fainter the darker the hair is.
const UNLABELLED = {
  accessories: defaults("accessories"),
  accessoriesColor: defaults("accessoriesColor"),
  accessoriesProbability: [0, 0, 0, 100],
  beardProbability: [0],
  clothing: defaults("clothing"),
  eyes: defaults("eyes"),
  eyesColor: defaults("eyesColor"),
  glasses: defaults("glasses"),
  glassesColor: defaults("glassesColor"),
  hat: defaults("hat"),
  hatColor: ["2663a3", "989789", "3d8a6b", "cc6192", "614f8a"],
  mouthColor: ["e35d6a", "de0f0d"],
};

/** Uniform integers below n, by mulberry32. */
function generator(seed) {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * n);
  };
}

/** The image of one choice of every option, so that the library itself draws nothing at random. */
function render(choice) {
  const options = Object.entries(choice).map(([name, value]) => [name, name.endsWith("Probability") ? value : [value]]);
  return rasterise(createAvatar(style, { ...Object.fromEntries(options), clip: false }).toString(), BACKGROUND);
}

/** The hair styles that show beside a hat (or without one): those whose colour changes enough pixels. */
function visibleHair(choice) {
  return defaults("hair").filter((hair) => {
    const [black, white] = ["000000", "ffffff"].map((hairColor) => render({ ...choice, hair, hairColor }));
    return black.subarray(0, SIZE * SIZE).filter((value, pixel) => value !== white[pixel]).length >= VISIBLE;
  });
}

function draw(below, hairBeside) {
  const pick = (list) => list[below(list.length)];
  const labels = Object.values(ATTRIBUTES).map((values) => below(Object.keys(values).length));
  const chosen = Object.values(ATTRIBUTES).map((values, index) => Object.values(values)[labels[index]]);
  const allowed = Object.entries(Object.assign({}, UNLABELLED, ...chosen));
  const choice = Object.fromEntries(allowed.map(([name, list]) => [name, pick(list)]));
  choice.hair = pick(hairBeside[choice.hatProbability ? choice.hat : "none"]);
  return { labels, image: render(choice) };
}

const { values: options } = parseArgs({
  options: {
    out: { type: "string", default: "avatars.npz" },
    seed: { type: "string", default: "0" },
    train: { type: "string", default: "30000" },
    test: { type: "string", default: "3000" },
  },
});
const [seed, train, test] = ["seed", "train", "test"].map((name) => {
  if (!/^\d{1,9}$/.test(options[name])) throw new Error(`--${name} takes a whole number, not ${options[name]}`);
  return Number(options[name]);
});

const plain = Object.fromEntries(Object.entries(UNLABELLED).map(([name, list]) => [name, list[0]]));
const hairBeside = { none: visibleHair({ ...plain, hatProbability: 0 }) };
for (const hat of UNLABELLED.hat) hairBeside[hat] = visibleHair({ ...plain, hatProbability: 100, hat });

const below = generator(seed);
const faces = new Map(); // from an image's bytes as text, so that no image comes twice
let redrawn = 0;
let contradictions = 0;
while (faces.size < train + test) {
  const face = draw(below, hairBeside);
  const key = Buffer.from(face.image).toString("latin1");
  if (faces.has(key)) {
    redrawn++;
    if (String(faces.get(key).labels) !== String(face.labels)) contradictions++;
  } else {
    faces.set(key, face);
  }
}

const all = [...faces.values()];
const files = {};
for (const [name, part] of [["train", all.slice(0, train)], ["test", all.slice(train)]]) {
  const labels = Buffer.alloc(8 * part.length * Object.keys(ATTRIBUTES).length);
  part.flatMap((face) => face.labels).forEach((label, index) => labels.writeUInt32LE(label, 8 * index)); // as int64
  const pixels = Buffer.concat(part.map((face) => face.image));
  files[`${name}_images.npy`] = npy("|u1", [part.length, 3, SIZE, SIZE], pixels);
  files[`${name}_labels.npy`] = npy("<i8", [part.length, Object.keys(ATTRIBUTES).length], labels);
}
const names = Object.entries(ATTRIBUTES).map(([name, values]) => [name, Object.keys(values)]);
const text = Buffer.from(JSON.stringify(Object.fromEntries(names)));
files["attributes.npy"] = npy("|u1", [text.length], text);

const sha256 = (...buffers) => buffers.reduce((hash, buffer) => hash.update(buffer), createHash("sha256")).digest("hex");
const archive = zip(files);
writeFileSync(options.out, archive);
console.log(`${options.out}: ${train} + ${test} images, ${archive.length} bytes`);
console.log(`${redrawn} equal images drawn again, ${contradictions} of them with other labels`);
console.log(`SHA-256 of the file    ${sha256(archive)}`);
console.log(`SHA-256 of its arrays  ${sha256(...Object.values(files))}`);
