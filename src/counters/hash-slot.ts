const slotCount = 16_384;

/** In which of a Redis Cluster's 16384 slots a key is. */
export function hashSlotOf(key: string): number {
  return crc16(Buffer.from(hashTagOf(key))) % slotCount;
}

/** What says in which slot a key is: the text between its first braces, if there is any, else the whole key. */
export function hashTagOf(key: string): string {
  const start = key.indexOf("{") + 1;
  const end = key.indexOf("}", start);
  return start > 0 && end > start ? key.slice(start, end) : key;
}

/** CRC-16/XMODEM, as the Cluster's specification has it. */
function crc16(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
    crc &= 0xffff;
  }
  return crc;
}
