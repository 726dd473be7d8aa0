/* Where the data comes from: compressed in this file, or from the server of a run that goes on. */

async function unpack(id) {
  const binary = atob(byId(id).textContent);
  const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/** A report's file: everything is there from the start. */
class FileSource {
  async begin() {
    const [overview, chunks] = await Promise.all([unpack("overview"), unpack("rows")]);
    return { overview, chunks };
  }
  details(chunk) { return unpack(`details-${chunk}`); }
}

/** A run that goes on: asks its server for what is new. */
class LiveSource {
  constructor() { this.have = { generation: "", metrics: 0, evaluations: 0, chunks: 0 }; }
  async begin() { return this.more(); }
  async more() {
    const answer = await fetch(`update?${new URLSearchParams(this.have)}`, { cache: "no-store" });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const found = await answer.json();
    const again = found.generation !== this.have.generation;
    this.have = { generation: found.generation, ...found.have };
    return { ...found, again };
  }
  async details(chunk) {
    const answer = await fetch(`details/${chunk}?${new URLSearchParams({ generation: this.have.generation })}`);
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    return answer.json();
  }
}

/** All that is known of the run, and the rollouts' details, of which a few steps' are kept unpacked. */
class Run {
  constructor(source) { this.source = source; this.clear(); }
  clear() { this.overview = null; this.rows = []; this.chunks = 0; this.unpacked = new Map(); this.searchable = new Map(); }
  take({ overview, chunks, again }) {
    if (again) this.clear();
    const before = this.overview;
    this.overview = before ? { ...overview, metrics: before.metrics.concat(overview.metrics), evaluations: before.evaluations.concat(overview.evaluations) } : overview;
    for (const { step, rows } of chunks) {
      rows.forEach(([problem, suite, member, outcomes, tokens, text], place) =>
        this.rows.push({ step, chunk: this.chunks, place, problem, suite, member, outcomes: new Set(outcomes), tokens, text }));
      this.chunks++;
    }
  }
  async chunk(number) {
    const found = this.unpacked.get(number) ?? (await this.source.details(number));
    this.unpacked.delete(number);
    this.unpacked.set(number, found);
    if (this.unpacked.size > 8) this.unpacked.delete(this.unpacked.keys().next().value);
    return found;
  }
  async detail(row) { return (await this.chunk(row.chunk))[row.place]; }
  /** Return the text of each rollout of a step that a search looks into. */
  async texts(number) {
    if (!this.searchable.has(number)) {
      const found = await this.source.details(number);
      this.searchable.set(number, found.map((one) => [...one.messages.map((m) => m.content), one.response, one.idea ?? ""].join("\n").toLowerCase()));
    }
    return this.searchable.get(number);
  }
}
