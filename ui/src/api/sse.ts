// Server-sent events out of text in pieces. Pure: `feed` takes a piece and gives the events that are whole.

export interface ServerEvent {
  name: string;
  data: string;
}

/** Text of one event at most: ten thousand VMs have room in it. */
const TEXT_MAX = 64 << 20;

/** Reads one stream. */
export class EventReader {
  private pieces: string[] = [];
  private length = 0;

  /** The events that end in this piece. Throws if one has no end. */
  feed(piece: string): ServerEvent[] {
    // What was there before has no end of an event in it, except for one that is torn in two.
    const torn = this.pieces.length > 0 && piece.startsWith("\n");
    if (!torn && !piece.includes("\n\n")) {
      this.keep(piece);
      return [];
    }
    const blocks = (this.pieces.join("") + piece).split("\n\n");
    this.pieces = [];
    this.length = 0;
    const rest = blocks.pop() ?? "";
    if (rest) this.keep(rest);
    return blocks.map(parse).filter((event) => event !== null);
  }

  private keep(piece: string): void {
    this.pieces.push(piece);
    this.length += piece.length;
    if (this.length > TEXT_MAX) throw new Error("The daemon's stream is not understood: an event has no end");
  }
}

function parse(block: string): ServerEvent | null {
  let name = "message";
  const data: string[] = [];
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const text = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "event") name = text;
    if (field === "data") data.push(text);
  }
  return data.length > 0 ? { name, data: data.join("\n") } : null; // a comment has none
}
