/* The page's data: compressed in this file, or requested from the server of a live run. */

async function unpack(id) {
  const binary = atob(byId(id).textContent);
  const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/** The data of a report file, complete from the start. */
class FileSource {
  async load() {
    const [overview, chunks] = await Promise.all([unpack("overview"), unpack("rows")]);
    return { overview, chunks };
  }
  details(chunk) { return unpack(`details-${chunk}`); }
}

/** The data of a live run: requests new records from the server. */
class LiveSource {
  constructor() { this.have = { generation: "", metrics: 0, evaluations: 0, chunks: 0 }; }
  async load() { return this.update(); }
  async update() {
    const response = await fetch(`update?${new URLSearchParams(this.have)}`, { cache: "no-store" });
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const update = await response.json();
    const restarted = update.generation !== this.have.generation;
    this.have = { generation: update.generation, ...update.have };
    return { ...update, restarted };
  }
  async details(chunk) {
    const response = await fetch(`details/${chunk}?${new URLSearchParams({ generation: this.have.generation })}`);
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    return response.json();
  }
}

/** The run's data. Keeps the unpacked rollout details of the steps used last. */
class Run {
  constructor(source) { this.source = source; this.clear(); }
  clear() { this.overview = null; this.rows = []; this.chunks = 0; this.unpacked = new Map(); this.searchable = new Map(); }
  add({ overview, chunks, restarted }) {
    if (restarted) this.clear();
    const before = this.overview;
    this.overview = before ? { ...overview, metrics: before.metrics.concat(overview.metrics), evaluations: before.evaluations.concat(overview.evaluations) } : overview;
    for (const { step, rows } of chunks) {
      rows.forEach(([problem, suite, member, outcomes, tokens, text], index) =>
        this.rows.push({ step, chunk: this.chunks, index, problem, suite, member, outcomes: new Set(outcomes), tokens, text }));
      this.chunks++;
    }
  }
  async chunk(number) {
    const details = this.unpacked.get(number) ?? (await this.source.details(number));
    this.unpacked.delete(number);
    this.unpacked.set(number, details);
    if (this.unpacked.size > 8) this.unpacked.delete(this.unpacked.keys().next().value);
    return details;
  }
  async detail(row) { return (await this.chunk(row.chunk))[row.index]; }
  /** Return the searchable text of each rollout in a chunk. */
  async texts(number) {
    if (!this.searchable.has(number)) {
      const details = await this.source.details(number);
      this.searchable.set(number, details.map((one) => [...one.messages.map((m) => m.content), one.response, one.idea ?? ""].join("\n").toLowerCase()));
    }
    return this.searchable.get(number);
  }
}
