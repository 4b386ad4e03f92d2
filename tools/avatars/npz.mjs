// Writes numpy's .npz: a zip file of .npy arrays. All dates are fixed, so that equal arrays make equal files.

import { crc32, deflateRawSync } from "node:zlib";

const JANUARY_1980 = 0x21; // the zip format's first day

/** An .npy file: `descr` is numpy's type, such as "|u1"; `data` holds the elements in C order, little-endian. */
export function npy(descr, shape, data) {
  const tuple = `(${shape.map((length) => `${length},`).join(" ")})`;
  const header = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const preamble = Buffer.from("\x93NUMPY\x01\x00\x00\x00", "latin1");
  const padded = header.padEnd(Math.ceil((preamble.length + header.length + 1) / 64) * 64 - preamble.length - 1) + "\n";
  preamble.writeUInt16LE(padded.length, 8);
  return Buffer.concat([preamble, Buffer.from(padded, "latin1"), data]);
}

/** A zip file of an object {name: Buffer}. */
export function zip(files) {
  const bodies = [];
  const directory = [];
  let offset = 0;
  for (const [name, content] of Object.entries(files)) {
    const packed = deflateRawSync(content, { level: 9 });
    const common = Buffer.alloc(26); // the fields that a file's own header and the directory share
    common.writeUInt16LE(20, 0); // the version of the format that is needed: 2.0
    common.writeUInt16LE(8, 4); // deflated
    common.writeUInt16LE(JANUARY_1980, 8);
    common.writeUInt32LE(crc32(content), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(content.length, 18);
    common.writeUInt16LE(name.length, 22);
    const body = Buffer.concat([Buffer.from("PK\x03\x04"), common, Buffer.from(name), packed]);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(offset, 10);
    directory.push(Buffer.from("PK\x01\x02\x14\x00"), common, rest, Buffer.from(name));
    bodies.push(body);
    offset += body.length;
  }
  const listing = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06");
  end.writeUInt16LE(bodies.length, 8);
  end.writeUInt16LE(bodies.length, 10);
  end.writeUInt32LE(listing.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...bodies, listing, end]);
}
