/** Which video codecs the pages offer, and in what order. */

const ORDER = ["video/h264", "video/vp8"];
const REPAIR = "video/rtx";

interface Codec {
  mimeType: string;
  sdpFmtpLine?: string;
}

function rank(codec: Codec): number {
  const place = ORDER.indexOf(codec.mimeType.toLowerCase());
  if (place !== 0) return place * 10;
  // RFC 6184: packetization mode 1 lets a frame be larger than a packet; mode 0 is the second choice
  return codec.sdpFmtpLine?.includes("packetization-mode=1") ? 0 : 1;
}

/** H.264 (packetization mode 1 first), then VP8, then retransmission; nothing else. */
export function orderVideoCodecs<C extends Codec>(codecs: readonly C[]): C[] {
  const wanted = codecs.filter((codec) => ORDER.includes(codec.mimeType.toLowerCase()));
  const ordered = wanted
    .map((codec, index) => ({ codec, index }))
    .sort((a, b) => rank(a.codec) - rank(b.codec) || a.index - b.index)
    .map(({ codec }) => codec);
  if (ordered.length === 0) return [];
  return [...ordered, ...codecs.filter((codec) => codec.mimeType.toLowerCase() === REPAIR)];
}

/** Address and port of the first candidate of an answer ("203.0.113.5:49000"), or null. */
export function candidateOf(sdp: string): string | null {
  // RFC 8839 5.1: foundation component transport priority address port "typ" ...
  const match = /^a=candidate:\S+ \d+ (\S+) \d+ (\S+) (\d+) typ /im.exec(sdp);
  if (match === null) return null;
  const [, transport = "", address = "", port = ""] = match;
  const host = address.includes(":") ? `[${address}]` : address;
  return `${host}:${port}/${transport.toUpperCase()}`;
}
