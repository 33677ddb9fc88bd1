/** Several files as one ZIP, stored as they are: pictures are compressed already. */

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k += 1) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

function crc32(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) c = TABLE[(c ^ byte) & 0xff] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

/**
 * Packs files (PKWARE's APPNOTE 6.3, without ZIP64: up to 4 GiB in all).
 *
 * @param {{name: string, blob: Blob}[]} files
 * @returns {Promise<Blob>}
 */
export async function zip(files) {
  const [parts, directory] = [[], []];
  let offset = 0;
  for (const { name, blob } of files) {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    const encoded = new TextEncoder().encode(name);
    const common = new DataView(new ArrayBuffer(26)); // what the local and the central header share
    common.setUint16(0, 20, true); // version needed
    common.setUint16(2, 0x0800, true); // names in UTF-8
    common.setUint16(8, 0x21, true); // 1 January 1980
    common.setUint32(10, crc32(bytes), true);
    common.setUint32(14, bytes.length, true);
    common.setUint32(18, bytes.length, true);
    common.setUint16(22, encoded.length, true);
    parts.push("PK\x03\x04", common.buffer, encoded, blob);
    const place = new DataView(new ArrayBuffer(14));
    place.setUint32(10, offset, true);
    directory.push("PK\x01\x02", new Uint8Array([20, 0]), common.buffer, place.buffer, encoded);
    offset += 30 + encoded.length + bytes.length;
  }
  const directoryLength = (await new Blob(directory).arrayBuffer()).byteLength;
  const end = new DataView(new ArrayBuffer(18));
  end.setUint16(4, files.length, true);
  end.setUint16(6, files.length, true);
  end.setUint32(8, directoryLength, true);
  end.setUint32(12, offset, true);
  return new Blob([...parts, ...directory, "PK\x05\x06", end.buffer], { type: "application/zip" });
}

/** The names, with a number where one is there twice. */
export function distinct(names) {
  const seen = new Map();
  return names.map((name) => {
    const times = seen.get(name) ?? 0;
    seen.set(name, times + 1);
    return times ? name.replace(/(\.[^.]*)?$/, ` (${times + 1})$1`) : name;
  });
}
